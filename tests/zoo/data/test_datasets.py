"""Stores as datasets: windows, targets, channels, tiers, batches."""

import json
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from copy import deepcopy

import mne
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from omfa.pipeline import DataError, ingest, open_store
from omfa.pipeline.preprocess import Preprocessing
from omfa.zoo import TrialsLeftOut, open_dataset
from omfa.zoo.data.rules import Rating, parse_rule, rule_text
from omfa.zoo.data.streamed import Streamed
from omfa.zoo.data.tiers import choose
from omfa.zoo.pretraining.module import Settings, open_reads

TIERS = ("memory", "memmap", "stream")
RATINGS = {"valence": [4.5, 5.0, 7.25], "emotion": [1, 0, -1]}


@pytest.fixture(scope="module")
def store(lay_store, tmp_path_factory):
    return lay_store(tmp_path_factory.mktemp("store") / "a.zarr")


@pytest.fixture(scope="module")
def rated(lay_store, tmp_path_factory):
    return lay_store(tmp_path_factory.mktemp("rated") / "r.zarr", labels=RATINGS)


@pytest.fixture
def opened(tmp_path):
    """Open with a cache folder of the test's own."""

    def open_(stores, *args, **options):
        return open_dataset(stores, *args, cache_dir=tmp_path / "cache", **options)

    return open_


def stored(dataset, store, i):
    """The stored samples that window i is of."""
    row = dataset.metadata.iloc[i]
    recording = open_store(store)[f"{row['subject']}_{row['session']}_{row['run']}"]
    return recording.signal(row["i_start_in_trial"], row["i_stop_in_trial"])


# -------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("cache", TIERS)
@pytest.mark.parametrize("stride", [0.5, 1.0, 0.3, 0.7])
def test_windows_are_slices_of_the_stored_signal(store, opened, cache, stride):
    data = opened(store, 1.0, stride, target="emotion", cache=cache)
    assert data.tier.name == cache
    X, present, y = data.take(np.arange(len(data)))
    assert X.dtype == np.float32
    assert X.shape == (len(data), 6, 100)
    assert present.dtype == bool
    assert present.all()
    for i in range(len(data)):
        assert np.array_equal(X[i], stored(data, store, i).astype(np.float32))
    assert np.array_equal(y, data.metadata["target"])


@pytest.mark.parametrize("cache", TIERS)
def test_an_item_is_braindecodes(store, opened, cache):
    data = opened(store, 1.0, target="emotion", cache=cache)
    X, y, place = data[-1]
    assert X.dtype == np.float32
    assert X.shape == (6, 100)
    assert type(y) is int
    assert [type(n) for n in place] == [int, int, int]
    last = data.metadata.iloc[-1]
    names = ["i_window_in_trial", "i_start_in_trial", "i_stop_in_trial"]
    assert place == last[names].tolist()
    several = data[[0, 3]]
    assert np.array_equal(several[0][1], data[3][0])
    with pytest.raises(IndexError):
        data[len(data)]


def test_the_table_names_windows_and_trials(rated, opened):
    table = opened(rated, 1.0, 0.5, target="emotion").metadata
    first = ["dataset", "subject", "session", "run", "trial", "stimulus"]
    windows = ["i_window_in_trial", "i_start_in_trial", "i_stop_in_trial", "target"]
    assert list(table) == [*first, *windows, "valence", "emotion"]
    assert list(table.iloc[0][first]) == ["tiny", "sub-01", "ses-1", "run-1", 1, "1"]
    counted = table.groupby(first[:5])["i_window_in_trial"].agg(list)
    assert counted.to_list() == [list(range(n)) for n in (9, 7, 3)] * 2  # 5, 4.3 and 2 s
    assert (table.groupby(first[:5])["valence"].nunique() == 1).all()
    # -1, 0, 1 in sorted order
    assert table.groupby("emotion")["target"].first().to_dict() == {-1: 0, 0: 1, 1: 2}


@given(
    sfreq=st.sampled_from([100.0, 128.0, 128.5, 200.0, 250.0]),
    window=st.floats(0.02, 3.0),
    stride=st.floats(0.02, 3.0),
    spans=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 60)), min_size=1, max_size=4),
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore::omfa.zoo.TrialsLeftOut")
def test_windows_stay_in_their_trials(lay_store, tmp_path_factory, sfreq, window, stride, spans):
    onset, trials = 0, []
    for length, pause in spans:
        trials.append((onset, length))
        onset += length + pause
    folder = lay_store(
        tmp_path_factory.mktemp("p") / "p.zarr",
        subjects=1,
        channels=("Cz", "Pz"),
        sfreq=sfreq,
        trials=trials,
        n_times=onset + 5,
    )
    width, step = round(window * sfreq), round(stride * sfreq)
    expected = [
        (onset + k * step, onset + k * step + width)
        for onset, length in trials
        for k in range((length - width) // step + 1)
        if length >= width
    ]
    if not expected:
        with pytest.raises(DataError, match="the longest trial has"):
            open_dataset(folder, window, stride)
        return
    streamed = open_dataset(folder, window, stride, cache="stream")
    held = open_dataset(folder, window, stride, cache="memory")
    table = held.metadata
    found = table[["i_start_in_trial", "i_stop_in_trial"]].itertuples(index=False, name=None)
    assert list(found) == expected
    signal = next(iter(open_store(folder))).signal()
    X, _, _ = held.take(np.arange(len(held)))
    for x, (start, stop) in zip(X, expected, strict=True):
        assert np.array_equal(x, signal[:, start:stop])
    assert np.array_equal(X, streamed.take(np.arange(len(held)))[0])


def test_a_window_of_less_than_a_sample_and_one_longer_than_every_trial(store):
    with pytest.raises(DataError, match="window is shorter than a sample at 100 Hz"):
        open_dataset(store, 0.001)
    with pytest.raises(DataError, match="stride is shorter than a sample"):
        open_dataset(store, 1, 0.001)
    with pytest.raises(DataError, match=r"longest trial has 5 s\. Ask for a shorter window"):
        open_dataset(store, 6)


def test_trials_without_a_window_are_counted_and_said(store, rated):
    with pytest.warns(TrialsLeftOut, match="2 of 6 trials left out: 2 shorter than a window of"):
        data = open_dataset(store, 4.0)
    assert (data.left_out.n_trials, data.left_out.too_short, data.left_out.longest) == (6, 2, 2.0)
    assert "2 of 6 trials left out: 2 shorter than a window of 4 s (the longest has 2 s)" in str(
        data
    )
    by_rule = open_dataset(rated, 1.0, target="valence<5|>5")  # as was asked for: no warning
    assert str(by_rule.left_out) == "2 of 6 trials left out: 2 by the target's rule"
    assert not str(open_dataset(store, 1.0).left_out)
    assert "left out" not in str(open_dataset(store, 1.0))
    assert open_dataset(store, 1.0, cut_from="recordings").left_out.too_short == 0


# -------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("rule", "classes"),
    [
        ("valence>5", [0, 0, 1]),
        ("valence>=5", [0, 1, 1]),
        (" valence >= 5.0 ", [0, 1, 1]),
        ("valence<4.75|>5.5", [0, None, 1]),
        ("valence<5|>5", [0, None, 1]),
        (Rating("valence", ">=", 5), [0, 1, 1]),
        ("emotion", [2, 1, 0]),
    ],
)
def test_targets_are_classes_by_a_named_rule(rated, rule, classes):
    data = open_dataset(rated, 1.0, target=rule, cache="stream")
    table = data.metadata.groupby(["subject", "trial"])["target"].agg(["first", "nunique"])
    kept = {i + 1: y for i, y in enumerate(classes) if y is not None}
    assert table.loc["sub-01", "first"].to_dict() == kept
    assert (table["nunique"] == 1).all()
    assert data.n_outputs == len(set(kept.values())) == len(data.classes)
    again = open_dataset(**json.loads(json.dumps(data.recipe)))
    assert np.array_equal(again.y, data.y)
    assert again.target.rule == data.target.rule


def test_numbers_and_no_target(rated):
    numbers = open_dataset(rated, 1.0, target="valence", cache="stream")
    assert numbers.classes == ()
    assert numbers.n_outputs == 1
    assert numbers.y.dtype == np.float32
    assert numbers[0][1] == 4.5
    nothing = open_dataset(rated, 1.0, cache="stream")
    assert set(nothing.y.tolist()) == {-1}


@given(
    source=st.sampled_from([100.0, 125.0, 160.0, 200.0, 250.0, 256.0, 500.0, 512.0]),
    to=st.sampled_from([100.0, 125.0, 128.0, 200.0]),
    ms=st.integers(100, 2000),
    gaps=st.lists(st.integers(0, 700), min_size=1, max_size=4),
    by=st.sampled_from(["table", "annotations"]),
)
@example(source=125.0, to=128.0, ms=500, gaps=[0, 0, 0, 0], by="table")  # half a sample too long
@example(source=125.0, to=128.0, ms=500, gaps=[0, 0, 0, 0], by="annotations")
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("error::omfa.zoo.TrialsLeftOut")
def test_a_trial_as_long_as_the_window_gives_one_from_any_file(
    tmp_path_factory, source, to, ms, gaps, by
):
    folder = tmp_path_factory.mktemp("raw")
    seconds, gaps = ms / 1000, np.array(gaps) / 1000
    onset = np.round(np.cumsum(gaps + seconds) - seconds, 3)
    n_times = int(np.ceil((onset[-1] + seconds) * source - 1e-6))  # it ends with the last trial
    signal = np.random.default_rng(0).normal(0, 2e-5, (2, n_times))
    raw = mne.io.RawArray(signal, mne.create_info(["Fp1", "Cz"], source, "eeg"), verbose="error")
    options = {"labels_from": by}
    if by == "table":
        rows = "".join(f"a_raw.fif,{at},{seconds},x\n" for at in onset)
        (folder / "trials.csv").write_text(f"file,onset,duration,stimulus\n{rows}")
        options = {"labels_from": "trials.csv"}
    else:
        raw.set_annotations(mne.Annotations(onset, seconds, "x"))
    raw.save(folder / "a_raw.fif", verbose="error")
    preprocessing = Preprocessing(sfreq=to, band=None)
    store = folder / "a.zarr"
    assert ingest(
        "files", folder, store, name="made", serial=True, preprocessing=preprocessing, **options
    ).complete
    data = open_dataset(store, seconds)
    assert data.trials["length"].tolist() == [int(seconds * to + 0.5 + 1e-6)] * len(onset)
    # Within a sample; FIF keeps times in 32 bits.
    assert (np.abs(data.trials["onset"] / to - onset) < 1.01 / to).all()
    assert len(data) == len(onset)


@given(low=st.floats(-9, 9), width=st.floats(0, 9), sign=st.sampled_from([">", ">="]))
def test_a_rules_text_gives_the_rule_again(low, width, sign):
    rating = Rating("valence", sign, low)
    assert parse_rule(rule_text(rating)) == rating
    middle = parse_rule(rule_text(Rating("valence", "drop-middle", low, width)))
    assert middle.threshold == pytest.approx(low, abs=1e-9)
    assert middle.margin == pytest.approx(width, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["valence=>5", "valence>", ">5", "valence<6|>5", "valence<5", "a|b"]
)
def test_what_is_no_rule(rated, text):
    with pytest.raises(DataError, match="neither a column nor a rule"):
        open_dataset(rated, 1.0, target=text)


def test_labels_that_are_missing(lay_store, rated, tmp_path):
    with pytest.raises(
        DataError, match="tiny has no such label; it has stimulus, valence, emotion"
    ):
        open_dataset(rated, 1.0, target="arousal>5")
    gaps = lay_store(tmp_path / "g.zarr", labels={"valence": [1.0, np.nan, 9.0]})
    with pytest.warns(
        TrialsLeftOut,
        match=r"2 trials have no 'valence' and are left out \(tiny/sub-01, tiny/sub-02",
    ):
        data = open_dataset(gaps, 1.0, target="valence>5", cache="stream")
    assert sorted(data.metadata["trial"].unique()) == [1, 3]
    assert set(data.y) == {0, 1}
    assert data.left_out.by_rule == 2
    none = lay_store(tmp_path / "n.zarr", labels={"valence": [np.nan] * 3, "mood": ["", "", ""]})
    for column in ("valence", "mood"):
        with pytest.raises(DataError, match="tiny has no such label"):
            open_dataset(none, 1.0, target=column)
    with pytest.raises(DataError, match="all windows that are left are in one class"):
        open_dataset(rated, 1.0, target="valence>9")


def test_a_rule_for_each_dataset(lay_store, rated, tmp_path):
    other = lay_store(tmp_path / "o.zarr", source="five", labels={"score": [1, 3, 5]}, seed=1)
    rules = {"tiny": "valence>5", "five": "score>3"}
    data = open_dataset([rated, other], 1.0, target=rules, cache="stream")
    table = data.metadata.groupby(["dataset", "trial"])["target"].first()
    assert table["tiny"].tolist() == table["five"].tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="no target is given for five"):
        open_dataset([rated, other], 1.0, target={"tiny": "valence>5"})
    with pytest.raises(DataError, match="different classes"):
        open_dataset([rated, other], 1.0, target=rules | {"five": "score"})
    with pytest.raises(DataError, match="five has no such label"):
        open_dataset([rated, other], 1.0, target="valence>5")


# ------------------------------------------------------------------------------- channels


@pytest.fixture
def two(lay_store, tmp_path):
    """Two corpora: six electrodes, and four, of which three are among the six."""
    a = lay_store(tmp_path / "a.zarr", source="one", subjects=1)
    b = lay_store(tmp_path / "b.zarr", source="two", channels=("F3", "FC1", "Cz", "O2"), seed=1)
    return a, b


@pytest.mark.parametrize("cache", TIERS)
def test_union_masks_what_is_absent(two, opened, cache):
    data = opened(two, 1.0, target="emotion", cache=cache)
    assert data.channels == ["Fp1", "F3", "FC1", "Cz", "T8", "O1", "O2"]
    X, present, _ = data.take(np.arange(len(data)))
    second = (data.metadata["dataset"] == "two").to_numpy()
    assert present[~second].tolist()[0] == [c != "FC1" for c in data.channels]
    assert present[second].tolist()[0] == [c in ("F3", "FC1", "Cz", "O2") for c in data.channels]
    assert (X[~present] == 0).all()
    i = int(np.flatnonzero(second)[0])
    assert np.array_equal(X[i][present[i]], stored(data, two[1], i).astype(np.float32))
    for ch, place in zip(data.chs_info, data.ucs.positions(data.channels), strict=True):
        assert np.array_equal(ch["loc"][:3], place)


def test_intersection(two):
    data = open_dataset(two, 1.0, channels="intersection", cache="memory")
    assert data.channels == ["F3", "Cz", "O2"]
    X, present, _ = data.take([0, len(data) - 1])
    assert present.all()
    assert np.array_equal(X[0], stored(data, two[0], 0)[[1, 2, 5]].astype(np.float32))


def test_native_channels_come_in_batches_of_one_montage(two):
    data = open_dataset(two, 1.0, channels="native", cache="memory")
    with pytest.raises(DataError, match="2 different montages"):
        data.channels  # noqa: B018
    for batch in data.loader(7, shuffle=True):
        assert len(np.unique(batch.ucs_ids.numpy(), axis=0)) == 1
        padding = batch.ucs_ids < 0
        assert not batch.present[padding].any()
        assert (batch.X[padding] == 0).all()
    assert data.select(data.metadata["dataset"] == "two").channels == ["F3", "FC1", "Cz", "O2"]


@pytest.mark.parametrize("cache", TIERS)
def test_a_channel_with_a_missing_sample_is_absent_in_that_window(
    lay_store, tmp_path, opened, cache
):
    folder = lay_store(tmp_path / "n.zarr", subjects=1, missing=[(2, 140)], dtype="float32")
    data = opened(folder, 1.0, cache=cache)
    X, present, _ = data.take(np.arange(len(data)))
    assert np.argwhere(~present).tolist() == [[1, 2]]  # samples 130 to 229
    assert np.isfinite(X).all()


def test_bad_channels_count_as_absent_in_both_stages_unless_asked(lay_store, tmp_path):
    store = lay_store(tmp_path / "b.zarr", bad=("T8",))
    stage1 = open_reads([str(store)], Settings(window_seconds=1, lag_seconds=(1, 2)))
    for data, absent in (
        (open_dataset(store, 1.0), ["T8"]),
        (stage1, ["T8"]),
        (open_dataset(store, 1.0, mask_bad=False), []),
    ):
        _, present, _ = data.take([0])
        assert [c for c, p in zip(data.channels, present[0], strict=True) if not p] == absent


def test_stores_that_do_not_go_together(lay_store, two, tmp_path):
    fast = lay_store(tmp_path / "f.zarr", source="fast", sfreq=200.0, n_times=1300, seed=3)
    with pytest.raises(DataError, match=r"different rates \(.*100 Hz; .*200 Hz\)"):
        open_dataset([two[0], fast], 1.0)
    copy = tmp_path / "copy.zarr"
    shutil.copytree(two[0], copy)
    with pytest.raises(DataError, match="both hold sub-01_ses-1_run-1 of one"):
        open_dataset([two[0], copy], 1.0)
    # a name that a reader gives to any data: these may be other people of the same ids
    unnamed = [lay_store(tmp_path / f"{i}.zarr", source="files", n_times=1300) for i in range(2)]
    with pytest.raises(DataError, match=r"both are called 'files'.*another --name"):
        open_dataset(unnamed, 1.0)
    old = tmp_path / "old.zarr"
    shutil.copytree(two[0], old)
    root = old / "zarr.json"
    root.write_text(root.read_text().replace('"ucs_version": "1"', '"ucs_version": "0"'))
    with pytest.raises(DataError, match="channel schema version 0"):
        open_dataset(old, 1.0)
    apart = lay_store(tmp_path / "x.zarr", source="apart", channels=("POz", "Oz"))
    with pytest.raises(DataError, match="no channel is in all recordings"):
        open_dataset([two[0], apart], 1.0, channels="intersection")
    with pytest.raises(DataError, match="no store was given"):
        open_dataset([], 1.0)
    with pytest.raises(DataError, match="there is no omfa store"):
        open_dataset(tmp_path / "nowhere", 1.0)
    with pytest.raises(DataError, match="cache='disk'"):
        open_dataset(two[0], 1.0, cache="disk")
    with pytest.raises(DataError, match="channels='all'"):
        open_dataset(two[0], 1.0, channels="all")


def test_one_corpus_under_two_names_is_refused(lay_store, tmp_path):
    one, other, again, apart = (
        lay_store(tmp_path / f"{name}.zarr", source=name, seed=seed, files=files)
        for name, seed, files in (("a", 1, "f"), ("b", 1, None), ("c", 2, "f"), ("d", 3, "g"))
    )
    same_signals = r"'a' and 'b' are one corpus under two names: 2 recordings .* a/sub-01_ses-1_run"
    with pytest.raises(DataError, match=same_signals):
        open_dataset([one, apart, other], 1.0)
    # Another recipe gives other signals of the same files.
    with pytest.raises(DataError, match="'a' and 'c' are one corpus under two names: 2 recordings"):
        open_dataset([again, one][::-1], 1.0, cut_from="recordings")
    assert len(open_dataset([one, apart], 1.0)) == 2 * len(open_dataset(apart, 1.0))
    twice = lay_store(tmp_path / "t.zarr", repeated=True)
    found = "it holds one recording under two names.*sub-01_ses-1_run-1 and tiny/sub-02"
    with pytest.raises(DataError, match=found):
        open_dataset(twice, 1.0)


def test_native_rates_come_in_batches_of_one_rate(lay_store, two, tmp_path):
    fast = lay_store(tmp_path / "f.zarr", source="fast", sfreq=200.0, n_times=1300, seed=3)
    data = open_dataset([two[0], fast], 1.0, rates="native", cache="memory")
    lengths = {batch.sfreq: batch.X.shape[2] for batch in data.loader(8, shuffle=True)}
    assert lengths == {100.0: 100, 200.0: 200}
    with pytest.raises(DataError, match="sampled at 100 and 200 Hz"):
        data.take([0, len(data) - 1])
    with pytest.raises(DataError, match="2 different rates"):
        data.sfreq  # noqa: B018


# ---------------------------------------------------------------------------------- tiers


def test_auto_takes_memory_while_it_fits(store, tmp_path, monkeypatch):
    assert open_dataset(store, 1.0).tier.name == "memory"
    assert choose(1 << 60, "cpu", tmp_path) == "stream"
    monkeypatch.setattr("omfa.zoo.data.tiers.MEMORY_SHARE", 0.0)
    assert choose(1000, "cpu", tmp_path / "not" / "there") == "memmap"


def test_the_memory_tier_keeps_half_precision_and_overlap_takes_nothing(store):
    sizes = []
    for stride in (1.0, 0.5):
        tier = open_dataset(store, 1.0, stride, cache="memory").tier
        assert [bank.dtype for bank in tier.banks] == [torch.float16]
        sizes.append(sum(bank.numel() for bank in tier.banks))
    assert sizes == [2 * 6 * 1100, 2 * 6 * 1100]  # 5, 4 and 2 s of two recordings


@pytest.mark.parametrize("trials", [((0, 300), (30, 300), (400, 200)), ((0, 300), (0, 200))])
def test_trials_may_overlap(lay_store, tmp_path, opened, trials):
    folder = lay_store(tmp_path / "o.zarr", trials=trials, subjects=1)
    every = [opened(folder, 1.0, 0.5, cache=cache) for cache in TIERS]
    index = np.random.default_rng(0).permutation(len(every[0]))
    for data in every:
        for x, i in zip(data.take(index)[0], index, strict=True):
            assert np.array_equal(x, stored(data, folder, i).astype(np.float32))


def test_the_mapped_file_is_made_once_and_again_when_the_store_changes(
    lay_store, tmp_path, opened, monkeypatch
):
    folder = lay_store(tmp_path / "s.zarr")
    first = opened(folder, 1.0, cache="memmap").take([0])[0]
    (made,) = (tmp_path / "cache").glob("*/*/float16.npy")

    def refuse(*_):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("omfa.zoo.data.sources.Source.read", refuse)
        again = opened(folder, 2.0, 0.5, channels="intersection", cache="memmap")
        assert np.array_equal(again.take([0])[0][:, :, :100], first)
    shutil.rmtree(folder)
    lay_store(folder, seed=9)
    changed = opened(folder, 1.0, cache="memmap")
    assert np.array_equal(changed.take([0])[0][0], stored(changed, folder, 0).astype(np.float32))
    assert not made.exists()
    assert len(list((tmp_path / "cache").glob("*/*"))) == 1


def test_a_mapped_file_cut_short_is_made_again(store, tmp_path, opened):
    whole = opened(store, 1.0, cache="memmap").take([5])[0]
    (file,) = (tmp_path / "cache").glob("*/*/float16.npy")
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(opened(store, 1.0, cache="memmap").take([5])[0], whole)


def test_a_cache_that_was_killed_half_way_leaves_nothing(store, tmp_path, opened, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("omfa.zoo.data.sources.Source.read", stop)
        with pytest.raises(KeyboardInterrupt):
            opened(store, 1.0, cache="memmap")
    assert list((tmp_path / "cache").glob("*/*")) == []
    home = next((tmp_path / "cache").iterdir())
    (home / ".building-999999999-killed").mkdir()
    opened(store, 1.0, cache="memmap")
    assert [path.name[0] for path in home.iterdir()] != ["."]
    assert not list(home.glob(".building*"))


def test_no_room_for_the_cache(store, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="use cache='stream'"):
        open_dataset(store, 1.0, cache="memmap", cache_dir=tmp_path / "file")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_recordings_of_two_types(lay_store, tmp_path, opened, dtype):
    a = lay_store(tmp_path / "a.zarr", source="half", subjects=1)
    b = lay_store(tmp_path / "b.zarr", source="full", subjects=1, dtype=dtype, seed=1)
    every = [opened([a, b], 1.0, cache=cache) for cache in TIERS]
    index = np.random.default_rng(0).permutation(len(every[0]))
    for data in every:
        X = data.take(index)[0]
        for x, i in zip(X, index, strict=True):
            home = a if data.metadata["dataset"].iloc[i] == "half" else b
            assert np.array_equal(x, stored(data, home, i).astype(np.float32))


@pytest.mark.parametrize("cache", TIERS)
def test_pickle_and_copy(store, opened, cache):
    data = opened(store, 1.0, target="emotion", cache=cache)
    X = data.take([4, 1])[0]
    for twin in (pickle.loads(pickle.dumps(data)), deepcopy(data), data.select([1, 4])):
        index = [4, 1] if len(twin) == len(data) else [1, 0]
        assert np.array_equal(twin.take(index)[0], X)
    if cache != "memory":
        assert len(pickle.dumps(data.tier)) < 10_000


def test_the_streamed_tier_decodes_each_piece_once_and_keeps_few(lay_store, tmp_path, monkeypatch):
    folder = lay_store(tmp_path / "s.zarr", subjects=12)
    monkeypatch.setattr("omfa.zoo.data.streamed.PIECE_BYTES", 3000)
    data = open_dataset(folder, 0.5, 0.02, target="emotion", cache="stream", buffer_bytes=60_000)
    tier = data.tier
    assert isinstance(tier, Streamed)
    assert len(tier.source) > 2 * tier.n_kept > 6
    reads = []
    read = type(tier.sources[0]).read
    monkeypatch.setattr("omfa.zoo.data.sources.Source.read", lambda *a: reads.append(a) or read(*a))
    seen = []
    for batch in data.loader(16, shuffle=True, ahead=0):
        seen += batch.windows.tolist()
        assert len(tier.kept) <= tier.n_kept
    assert sorted(seen) == list(range(len(data)))
    assert len(reads) == len(tier.source)
    # Mixed: a batch draws from many subjects, and two epochs differ.
    subjects = data.metadata["subject"].to_numpy()[seen]
    assert np.mean([len(set(subjects[i : i + 16])) for i in range(0, 96, 16)]) >= 3
    assert seen != [i for b in data.loader(16, shuffle=True, seed=1) for i in b.windows.tolist()]


def test_the_streamed_tiers_memory_does_not_grow_with_the_store(lay_store, tmp_path, monkeypatch):
    monkeypatch.setattr("omfa.zoo.data.streamed.PIECE_BYTES", 200_000)
    peaks = []
    for subjects in (4, 16):
        folder = lay_store(
            tmp_path / f"{subjects}.zarr",
            subjects=subjects,
            trials=[(0, 40_000)],
            n_times=40_000,
            labels={"valence": [1.0]},
        )
        data = open_dataset(folder, 1.0, cache="stream", buffer_bytes=600_000)
        tracemalloc.start()
        for _ in data.loader(32, shuffle=True):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    decoded = 16 * 40_000 * 6 * 2
    assert peaks[1] < 0.5 * decoded
    assert peaks[1] < 1.3 * peaks[0]


# -------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("cache", TIERS)
@pytest.mark.parametrize("ahead", [0, 2])
def test_batches_hold_every_window_once(two, opened, cache, ahead):
    data = opened(two, 0.5, target="emotion", cache=cache)
    loader = data.loader(8, shuffle=True, by="dataset", ahead=ahead, seed=3)
    assert len(loader) == len(list(data.loader(8, by="dataset")))
    epochs = [list(loader), list(loader)]
    orders = [[i for batch in epoch for i in batch.windows.tolist()] for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(data)))
    assert orders[0] != orders[1]
    for batch in epochs[0]:
        assert data.metadata["dataset"].iloc[batch.windows.numpy()].nunique() == 1
        X, present, y = data.take(batch.windows)
        assert np.array_equal(batch.X, X)
        assert np.array_equal(batch.present, present)
        assert np.array_equal(batch.y, y)
        assert batch.ucs_ids[0].tolist() == data.ucs_ids.tolist()
    again = data.loader(8, shuffle=True, by="dataset", ahead=ahead, seed=3)
    again.epoch = 1
    assert [b.windows.tolist() for b in again] == [b.windows.tolist() for b in epochs[1]]


@pytest.mark.parametrize("cache", TIERS)
@pytest.mark.parametrize("layout", [0.5, 0.26])  # in tiles and, the stride being odd, in rows
def test_some_channels_of_each_window(two, opened, cache, layout):
    data = opened(two, 0.5, layout, target="emotion", cache=cache)
    loader = data.loader(8, shuffle=True, channels_per_window=4)
    epochs = [list(loader), list(loader)]
    drawn = set()
    for batch in epochs[0]:
        X, present, y = data.take(batch.windows)
        columns = np.searchsorted(data.ucs_ids, batch.ucs_ids.numpy())
        drawn.update(map(tuple, np.sort(columns)))
        assert np.array_equal(batch.X, np.take_along_axis(X, columns[..., None], 1))
        assert np.array_equal(batch.present, np.take_along_axis(present, columns, 1))
        assert np.array_equal(batch.y, y)
        assert batch.present.all()  # each recording has four channels or more
    assert len(drawn) > 5
    assert any((a.ucs_ids != b.ucs_ids).any() for a, b in zip(*epochs, strict=True))
    rest = data.loader(8, shuffle=True, channels_per_window=4, skip=2)
    for again, batch in zip(rest, epochs[0][2:], strict=True):
        assert np.array_equal(again.X, batch.X)
    many = next(iter(data.loader(8, channels_per_window=6)))
    assert many.present.sum(1).tolist() == data.take(np.arange(8))[1].sum(1).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("cache", TIERS)
def test_batches_are_their_own_memory_in_any_mode(lay_store, tmp_path, opened, cache, dtype):
    data = opened(lay_store(tmp_path / "s.zarr", dtype=dtype), 1.0, cache=cache)
    want = data.take(np.arange(6))[0].copy()
    with torch.inference_mode():
        first = data.batch(np.arange(3)).X
    second = data.batch(np.arange(3, 6)).X
    second.mul_(2)
    assert np.array_equal(first, want[:3])
    assert np.array_equal(second, 2 * want[3:])


def test_shards_share_the_batches_evenly(store, opened):
    data = opened(store, 0.2, cache="memory")
    loaders = [data.loader(8, shuffle=True, drop_last=True, shard=(i, 3)) for i in range(3)]
    taken = [[b.windows.tolist() for b in loader] for loader in loaders]
    assert {len(batches) for batches in taken} == {len(loaders[0])}
    flat = [i for batches in taken for batch in batches for i in batch]
    assert len(flat) == len(set(flat)) == 8 * 3 * len(loaders[0])


def test_an_unknown_column_to_keep_apart_and_a_loader_left_early(store, opened):
    data = opened(store, 0.2, cache="stream")
    with pytest.raises(DataError, match="no column 'corpus' to keep apart"):
        len(data.loader(8, by="corpus"))
    for _ in data.loader(2, shuffle=True, ahead=3):
        break


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_own_loader(store, opened, workers):
    data = opened(store, 1.0, target="emotion", cache="memmap")
    loader = torch.utils.data.DataLoader(data, batch_size=5, num_workers=workers)
    seen = [(X, y) for X, y, _ in loader]
    assert np.array_equal(torch.cat([X for X, _ in seen]), data.take(np.arange(len(data)))[0])
    assert torch.cat([y for _, y in seen]).dtype == torch.int64


def test_the_package_is_imported_lazily():
    code = "import sys, omfa.zoo; print({'torch', 'mne', 'zarr', 'moabb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_all_windows_as_arrays_with_whose_they_are(lay_store, tmp_path):
    labels = {"valence": [1.0, 5.0, 9.0]}
    path = lay_store(tmp_path / "a.zarr", labels=labels, subjects=3)
    data = open_dataset(path, 1.0, target="valence<4|>6", cache="stream")
    X, y, groups = data.to_numpy()
    keep = data.metadata["target"].to_numpy() >= 0
    assert X.shape == (keep.sum(), len(data.channels), 100)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, data.take(np.flatnonzero(keep))[0])
    np.testing.assert_array_equal(y, data.y[keep])
    assert sorted(set(groups)) == [f"tiny/sub-0{i}" for i in (1, 2, 3)]
    cell = data._repr_html_()
    assert "sub-03" in cell
    assert "low" in cell
    nothing = data.select(np.zeros(len(data), bool))
    with pytest.raises(DataError, match="there are none"):
        nothing.to_numpy()
