"""Stores of caps that do not nest and of several rates, joined: channels beyond SEED's 62.

SEED's 62 with CB1 and CB2, THU-EP's 32 with A1 and A2, and a cap that holds F9, F10, FT9, FT10,
TP9, TP10, AF7, AF8 and PO9, PO10 beside CB1 and CB2. All signals are simulated.
"""

from dataclasses import replace

import mne
import numpy as np
import pytest
import torch

from omfa.models import OMFA
from omfa.models.graph import electrode_positions
from omfa.pipeline import UCS, DataError, Preprocessing, ingest, open_store, simulate
from omfa.pipeline.simulation.signals import Effect, Piece, draw_mixture, record
from omfa.zoo import Pretraining, Protocol, evaluate, load_card, open_dataset
from omfa.zoo.cli.main import main
from omfa.zoo.data.trials import TrialsLeftOut
from omfa.zoo.pretraining.run import pretrain_encoder
from omfa.zoo.pretraining.settings import Settings

WIDE = UCS.in_order(
    ["Fp1", "Fp2", "Fz", "Cz", "Pz", "Oz", "T7", "T8", "F9", "F10", "FT9", "FT10", "TP9", "TP10",
     "AF7", "AF8", "PO9", "PO10", "CB1", "CB2"]
)  # fmt: skip
TARGET = {
    "seed": "emotion:-1=negative,1=positive",
    "thu-ep": "emotion:anger|disgust|fear|sadness=negative,"
    "amusement|inspiration|joy|tenderness=positive",
    "wide": "mood:neg=negative,pos=positive",
}
QUICK = Settings(
    preset="tiny", window_seconds=1, lag_seconds=(0, 0), steps=4, batch_size=16,
    channels_per_window=4,
)  # fmt: skip
SMALL = {"preset": "tiny", "epochs": 1, "patience": None, "device": "cpu"}


def write_wide(root):
    """Write recordings of the wide cap, of people at 250 and at 1000 Hz."""
    root.mkdir()
    for subject, sfreq in ((1, 250), (2, 1000), (3, 1000)):
        mixture = draw_mixture(WIDE, seed=0, source="wide", subject=subject)
        for mood, code in (("neg", -1.0), ("pos", 1.0)):
            purpose = (0, "wide", subject, mood)
            piece = Piece(seconds=8, purpose=purpose, signature=purpose, codes={"valence": code})
            (signal,) = record(mixture, [piece], sfreq=sfreq, band=(0.0, 100.0),
                               effect=Effect("power", 1.0), line_uv=0.0)  # fmt: skip
            info = mne.create_info(WIDE, sfreq, "eeg")
            raw = mne.io.RawArray(1e-6 * signal.astype(float), info, verbose="error")
            raw.save(root / f"s{subject}_{mood}_raw.fif", verbose="error")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    simulate("seed", folder / "seed", subjects=2, sessions=1, seconds=5, progress=False)
    simulate("thu-ep", folder / "thu-ep", subjects=2, seconds=5, progress=False)
    write_wide(folder / "wide")
    return folder


def stores_of(trees, folder, **options):
    made = {}
    for name in ("seed", "thu-ep", "wide"):
        source, extra = name, {}
        if name == "wide":
            source, extra = "files", {"name": "wide", "pattern": "s{subject}_{mood}_raw.fif"}
        summary = ingest(source, trees / name, folder / f"{name}.zarr", serial=True,
                         progress=False, **extra, **options)  # fmt: skip
        assert summary.complete, summary.having("failed")
        made[name] = folder / f"{name}.zarr"
    return made


@pytest.fixture(scope="module")
def stores(trees):
    return stores_of(trees, trees)


@pytest.fixture(scope="module")
def native(trees, tmp_path_factory):
    """The same at the rates they were recorded at."""
    folder = tmp_path_factory.mktemp("native")
    return stores_of(trees, folder, preprocessing=Preprocessing(sfreq=None))


def opened(stores):
    return [open_store(path) for path in stores.values()]


def test_the_union_holds_every_electrode_and_the_intersection_what_all_have(stores):
    union, common = UCS.union(opened(stores)), UCS.intersection(opened(stores))
    assert union[:62] == list(UCS.names[:62])
    beyond = {"AF7", "AF8", "F9", "F10", "FT9", "FT10", "TP9", "TP10", "PO9", "PO10", "A1", "A2"}
    assert set(union[62:]) == beyond
    assert common == ["Fp1", "Fp2", "Fz", "T7", "Cz", "T8", "Pz", "Oz"]


def test_rows_of_the_union_are_the_channels_of_the_store_and_no_others(stores):
    data = open_dataset(list(stores.values()), 2.0, channels="union", target=TARGET)
    names = list(data.channels)
    assert names == UCS.union(opened(stores))
    for name, store in zip(stores, opened(stores), strict=True):
        rows = np.flatnonzero((data.metadata["dataset"] == name).to_numpy())[:1]
        X, present, _ = data.take(rows)
        row = data.metadata.iloc[rows[0]]
        key = f"{row['subject']}_{row['session']}_{row['run']}"
        recording = store[key]
        held = [names[i] for i in np.flatnonzero(present[0])]
        assert held == [n for n in recording.channels if n not in recording.bad_channels]
        start = int(recording.trials["onset"].iloc[int(row["trial"]) - 1])
        signal = recording.signal(start, start + X.shape[2])
        for channel in ("CB1", "PO9", "A1", "F9", "TP10", "Cz"):
            at = names.index(channel)
            if channel in held:
                own = list(recording.channels).index(channel)
                np.testing.assert_allclose(X[0, at], signal[own], atol=0.05)
            else:
                assert not X[0, at].any()


def test_positions_tell_the_channels_apart_except_the_stand_ins():
    names = [*UCS.names[:62], "A1", "A2", *WIDE]
    names = list(dict.fromkeys(names))
    places = UCS.positions(names)
    np.testing.assert_allclose(
        electrode_positions([{"ch_name": name} for name in names]), places, atol=2e-5
    )
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, 1)
    same = {frozenset((names[i], names[j])) for i, j in np.argwhere(apart < 0.005)}
    assert same == {frozenset(("CB1", "PO9")), frozenset(("CB2", "PO10"))}


@pytest.mark.parametrize("head", ["gat", "gcn", "mean"])
def test_a_model_of_the_union_holds_all_and_needs_no_absent_one(stores, head):
    data = open_dataset(list(stores.values()), 2.0, channels="union", target=TARGET)
    infos = [{"ch_name": name, "loc": UCS.positions([name])[0]} for name in data.channels]
    torch.manual_seed(0)
    model = OMFA(n_outputs=2, sfreq=128.0, chs_info=infos, preset="tiny", head=head).eval()
    X, present, _ = data.take(np.arange(0, len(data), len(data) // 6))
    with torch.no_grad():
        plain = model(torch.as_tensor(X), mask=torch.as_tensor(present))
        X[~present] = 1e4
        filled = model(torch.as_tensor(X), mask=torch.as_tensor(present))
    assert torch.isfinite(plain).all()
    torch.testing.assert_close(plain, filled)


def test_a_corpus_of_pieces_too_short_is_not_left_out_in_silence(stores, tmp_path):
    paths = list(stores.values())
    longer = replace(QUICK, lag_seconds=(4, 5))
    with pytest.warns(TrialsLeftOut, match=r"4 of 10 recordings have no piece of .* seed/sub-01_"):
        pretrain_encoder(paths, tmp_path / "run", longer)


def test_stores_of_several_rates_are_refused_or_kept_apart(native):
    paths = list(native.values())
    with pytest.raises(DataError, match=r"seed\.zarr 200 Hz.*wide\.zarr 250 and 1000 Hz"):
        open_dataset(paths, 2.0, target=TARGET)
    data = open_dataset(paths, 2.0, channels="native", rates="native", target=TARGET)
    seen = set()
    for batch in data.loader(batch_size=8, shuffle=True, seed=0):
        assert batch.X.shape[2] == 2 * batch.sfreq
        seen.add((batch.sfreq, int((batch.ucs_ids[0] >= 0).sum())))
    assert seen == {(200.0, 62), (250.0, 32), (250.0, 20), (1000.0, 20)}


def test_one_encoder_is_pretrained_on_all_rates_and_caps(native, tmp_path):
    folder = pretrain_encoder(list(native.values()), tmp_path / "run", QUICK)
    card = load_card(folder)
    assert [saw["dataset"] for saw in card.saw] == ["seed", "thu-ep", "wide"]
    assert {"A1", "F9", "TP10", "FT9", "PO9", "CB1", "AF7"} <= set(card.input["channels"])
    assert card.simulated


@pytest.mark.parametrize("channels", ["union", "intersection"])
def test_what_was_pretrained_on_two_corpora_transfers_to_the_third(stores, tmp_path, channels):
    paths = list(stores.values())
    seen = "native" if channels == "union" else channels
    folder = pretrain_encoder(paths, tmp_path / "run", QUICK, channels=seen, hold_out=["wide/*"])
    assert {saw["dataset"] for saw in load_card(folder).saw} == {"seed", "thu-ep"}
    data = open_dataset(paths, 2.0, channels=channels, target=TARGET)
    wide = data.select((data.metadata["dataset"] == "wide").to_numpy())
    assert len(wide.channels) == len(data.channels) == (74 if channels == "union" else 8)
    result = evaluate(
        "omfa",
        wide,
        Protocol("cross-subject", n_folds=3),
        pretraining=Pretraining("dataset held out", str(folder)),
        parameters=SMALL,
    )
    assert len(result.subjects) == 3
    assert np.isfinite(result.subjects["accuracy"]).all()


def test_the_commands_do_it_too(stores, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(path) for path in stores.values()]
    small = "--preset tiny --steps 4 --batch-size 16 --channels-per-window 4 --window-seconds 1"
    assert main(["pretrain", *paths, "--out", "run", *small.split()]) == 0
    targets = ",".join(f"{name}={rule}" for name, rule in TARGET.items())
    run = ["evaluate", *paths, "--target", targets, "--window-seconds", "2", "--out", "results"]
    assert main([*run, "--protocol", "cross-dataset", "--model", "majority"]) == 0
    assert "cross-dataset" in capsys.readouterr().out
