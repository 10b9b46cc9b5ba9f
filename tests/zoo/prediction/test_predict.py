"""Recordings without labels, answered by a checkpoint that was fine-tuned on simulated ones."""

import json
import shutil
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest

from omfa.models import OMFA
from omfa.pipeline import Preprocessing, ingest, open_store
from omfa.pipeline.recording import DataError
from omfa.zoo import (
    Card,
    InputWarning,
    PredictionSettings,
    Predictor,
    Protocol,
    check_input,
    evaluate,
    fine_tune,
    load_card,
    open_dataset,
    read_decision,
    save_checkpoint,
)
from omfa.zoo.cli.main import main
from omfa.zoo.prediction.outputs import predict_all
from omfa.zoo.prediction.predictor import BAD_SPAN, FEW, GAP, HOLES
from omfa.zoo.prediction.recordings import recordings_in

CHANNELS = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"]
SFREQ, TRIAL = 256.0, 4.0


def simulated(seed, *, channels=CHANNELS, sfreq=SFREQ, trials=6):
    """A recording: strong 10 Hz at the back where it is calm, and little where it is tense."""
    rng = np.random.default_rng(seed)
    n = round(trials * TRIAL * sfreq)
    t = np.arange(n) / sfreq
    # Neighbours must agree, or quality control calls them bad.
    signal = 6 * rng.standard_normal(n) + 6 * rng.standard_normal((len(channels), n))
    calm = (t // TRIAL).astype(int) % 2 == 0
    wave = np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6)) * np.where(calm, 40, 4)
    signal += wave * np.linspace(0.5, 1, len(channels))[:, None]
    raw = mne.io.RawArray(signal * 1e-6, mne.create_info(list(channels), sfreq, "eeg"), verbose=0)
    onsets = np.arange(trials) * TRIAL
    names = ["calm" if i % 2 == 0 else "tense" for i in range(trials)]
    raw.set_annotations(mne.Annotations(onsets, TRIAL, names))
    return raw


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Raw files, a store of them and a checkpoint that learned from it."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for person in range(1, 5):
        simulated(person).save(folder / "raw" / f"S{person:02d}_raw.fif", verbose=0)
    ingest(
        "files",
        folder / "raw",
        folder / "lab.zarr",
        name="lab",
        labels_from="annotations",
        pattern="S{subject}_raw.fif",
        serial=True,
        progress=False,
    )
    dataset = open_dataset(folder / "lab.zarr", window_seconds=2.0, target="event")
    fine_tune(
        dataset,
        folder / "model",
        parameters={"preset": "tiny", "epochs": 12, "lr": 3e-3, "device": "cpu"},
        command="omfa-zoo finetune lab.zarr",
    )
    return folder


@pytest.fixture(scope="module")
def predictor(lab):
    return Predictor.from_checkpoint(lab / "model")


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """A recording of somebody else."""
    path = tmp_path_factory.mktemp("new") / "new_raw.fif"
    simulated(99).save(path, verbose=0)
    return path


class Kept:
    """The checkpoint as a model that ``evaluate`` calls, which learns nothing more."""

    reads_signals = True

    def __init__(self, predictor):
        self.predictor = predictor

    def fit(self, train, validation):
        return self

    def predict(self, windows):
        return self.predict_proba(windows).argmax(axis=1)

    def predict_proba(self, windows):
        X, present = windows.take(np.arange(len(windows)))
        X = np.where(present[..., None], X, np.nan)
        return self.predictor.predict_proba(X, sfreq=windows.sfreq, ch_names=windows.channels)


def test_a_raw_file_gets_the_answers_that_evaluate_gets_of_its_store(lab, predictor):
    dataset = open_dataset(lab / "lab.zarr", window_seconds=2.0, target="event")
    result = evaluate(lambda seed: Kept(predictor), dataset, Protocol("cross-subject", n_folds=2))
    own = result.predictions.query("subject == 'sub-01'").sort_values(
        ["trial", "i_window_in_trial"]
    )
    found = predictor.predict(lab / "raw" / "S01_raw.fif").table
    assert len(found) == len(own) == 12
    # The store rounds to float16.
    assert np.allclose(found[["p_calm", "p_tense"]], own[["p_calm", "p_tense"]], atol=5e-3)
    assert (found["class"] == np.array(["calm", "tense"])[own["y_pred"]]).all()
    stored = predictor.predict_stored(*_stored(lab)).table
    assert np.allclose(stored["p_calm"], own["p_calm"], atol=1e-5)


def _stored(lab):
    store = open_store(lab / "lab.zarr")
    return store[store.recordings.index[0]], store.settings["preprocessing"]


def test_what_learned_from_whitened_signals_whitens_what_it_is_asked(lab, predictor, tmp_path):
    ingest(
        "files",
        lab / "raw",
        tmp_path / "white.zarr",
        name="lab",
        labels_from="annotations",
        pattern="S{subject}_raw.fif",
        preprocessing=Preprocessing(whiten=True),
        serial=True,
        progress=False,
    )
    dataset = open_dataset(tmp_path / "white.zarr", window_seconds=2.0, target="event")
    few = {"preset": "tiny", "epochs": 2, "device": "cpu"}
    with pytest.raises(DataError, match=r"would be called 'my model', .*--name"):
        fine_tune(dataset, tmp_path / "my model", parameters=few)
    fine_tune(dataset, tmp_path / "model", parameters=few, command="omfa-zoo finetune white.zarr")
    assert load_card(tmp_path / "model").input["whiten"] is True
    whitening = Predictor.from_checkpoint(tmp_path / "model")
    whitened = open_store(tmp_path / "white.zarr")
    first = whitened[0], whitened.settings["preprocessing"]
    want = whitening.predict_stored(*first).table["p_calm"]
    # From the file, from a store that is not whitened, and from one that is: alike but for float16.
    from_file = whitening.predict(lab / "raw" / "S01_raw.fif").table["p_calm"]
    from_store = whitening.predict_stored(*_stored(lab)).table["p_calm"]
    assert np.allclose(from_file, want, atol=5e-3)
    assert np.allclose(from_store, want, atol=5e-3)
    with pytest.raises(DataError, match=r"the store is whitened.*without --whiten"):
        predictor.predict_stored(*first)
    with pytest.warns(InputWarning, match="signals are whitened, and those .* not whitened"):
        check_input(load_card(lab / "model"), dataset)


def test_somebody_new_is_answered_rightly(predictor, new):
    table = predictor.predict(new).table
    truth = np.where((table["start"] // TRIAL).astype(int) % 2 == 0, "calm", "tense")
    assert (table["class"] == truth).mean() > 0.9
    assert np.allclose(table[["p_calm", "p_tense"]].sum(axis=1), 1, atol=1e-5)
    assert (table["quality"] == "ok").all()
    assert (table["share_present"] == 1).all()


def test_what_the_model_decides_is_in_its_card_and_its_configuration(lab):
    decision = read_decision(lab / "model")
    assert decision.classes == ("calm", "tense")
    assert decision.decision_unit == "window"
    assert decision.temperature != 1
    assert decision.channels == tuple(sorted(decision.channels, key=decision.channels.index))
    assert (decision.sfreq, decision.window_seconds) == (128.0, 2.0)
    assert (decision.band, decision.transition) == ((0.5, 45.0), 4.0)
    config = json.loads((lab / "model" / "config.json").read_text())
    assert config["decision"] == load_card(lab / "model").decision
    assert OMFA.from_pretrained(lab / "model").n_outputs == 2


def test_channels_are_known_by_name_and_place_and_others_are_masked(predictor):
    raw = simulated(7)
    whole = predictor.predict(raw.copy()).probabilities
    mixed = raw.copy().reorder_channels(CHANNELS[::-1])
    mixed.rename_channels({"C3": "EEG C3-REF"})
    assert np.allclose(predictor.predict(mixed).probabilities, whole, atol=1e-5)
    placed = raw.copy().set_montage("colin27_1005").rename_channels({"O1": "E70"})
    found = predictor.predict(placed)
    assert found.channels["O1"] == "used (E70, by its place)"
    assert any("known by their place" in text for text in found.warnings)
    assert np.allclose(found.probabilities, whole, atol=1e-5)
    few = predictor.predict(raw.copy().pick(CHANNELS[:3]))
    assert (few.table["quality"] == FEW).all()
    assert few.channels["O2"] == "missing"
    assert any("5 of 8 channels are missing" in text for text in few.warnings)


def test_stretches_without_signal_and_marked_ones_are_marked(predictor):
    raw = simulated(8)
    data = raw.get_data()
    data[:, : round(2 * SFREQ)] = np.nan
    data[0, round(4 * SFREQ) : round(5 * SFREQ)] = np.nan
    broken = mne.io.RawArray(data, raw.info, verbose=0)
    broken.set_annotations(mne.Annotations([8.5], [0.5], ["BAD_cough"]))
    predictor = Predictor(
        predictor.model, predictor.card, predictor.decision, PredictionSettings(mask_bad=False)
    )
    found = predictor.predict(broken)
    quality = found.table["quality"].tolist()
    assert (quality[0], quality[2], quality[4]) == (GAP, HOLES, BAD_SPAN)
    assert found.table.loc[0, "class"] == ""
    assert np.isnan(found.probabilities[0]).all()
    assert np.isfinite(found.probabilities[2:]).all()
    assert any("no answer" in text for text in found.warnings)
    assert found.annotations().description[0] == "BAD_no_answer"


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A recording with a dropout of all channels, an artefact's mark, and one without extent."""
    folder = tmp_path_factory.mktemp("broken")
    raw = simulated(60)
    data = raw.get_data()
    data[:, round(11.8 * SFREQ) : round(14.1 * SFREQ)] = np.nan
    raw = mne.io.RawArray(data, raw.info, verbose=0).set_annotations(raw.annotations)
    raw.annotations.append([2.0, 8.5], [0.0, 0.5], ["BAD_blink", "BAD_cough"])
    raw.save(folder / "S01_raw.fif", verbose=0)
    ingest("files", folder, folder / "x.zarr", name="x", serial=True, progress=False)
    return folder


def test_a_dropout_is_a_gap_and_a_mark_is_told_of_a_file_and_of_its_store(predictor, broken):
    store = open_store(broken / "x.zarr")
    stored = store[store.recordings.index[0]]
    assert len(stored.bad_channels) == len(CHANNELS)  # more than a twentieth is missing
    expected = ["ok", BAD_SPAN, "ok", "ok", BAD_SPAN, GAP, GAP, GAP, "ok", "ok", "ok", "ok"]
    for found in (
        predictor.predict(broken / "S01_raw.fif"),
        predictor.predict_stored(stored, store.settings["preprocessing"]),
    ):
        assert found.table["quality"].tolist() == expected
        assert found.answered == 9
        assert set(found.channels.values()) == {"used"}


def test_a_channel_without_any_sample_is_named(predictor):
    raw = simulated(61).apply_function(lambda x: x * np.nan, picks=["O1"])
    found = predictor.predict(raw)
    assert found.channels["O1"] == "bad (missing)"
    assert (found.table["quality"] == "ok").all()
    assert (found.table["share_present"] == 7 / 8).all()


def net(tmp_path, *, placed):
    """Simulated signals of EGI's 128 channels, those near an electrode of the model as its own."""
    montage = mne.channels.make_standard_montage("GSN-HydroCel-128")
    names = [f"E{i}" for i in range(1, 129)]
    raw = simulated(62, channels=names)
    own = simulated(62).get_data()
    data = raw.get_data()
    for row, name in enumerate(EGI.values()):
        data[names.index(name)] = own[row]
    raw = mne.io.RawArray(data, raw.info, verbose=0)
    if placed:
        raw.set_montage(montage, on_missing="ignore")
    raw.save(tmp_path / "egi_raw.fif", verbose=0)
    return tmp_path / "egi_raw.fif"


EGI = dict(zip(CHANNELS, ("E22", "E9", "E24", "E124", "E36", "E104", "E70", "E83"), strict=True))
"""The channel of EGI's net of 128 that stands for each, by EGI's own table of 10-20 names."""


@pytest.mark.parametrize(
    ("placed", "settings"),
    [
        (True, {}),
        (False, {"montage": "GSN-HydroCel-128"}),
        (False, {"aliases": {raw: name for name, raw in EGI.items()}}),
        (
            False,
            {
                "montage": "GSN-HydroCel-128",
                "names_by_position": True,
                "aliases": {raw: name for name, raw in EGI.items()},
            },
        ),
    ],
)
def test_a_net_of_numbers_is_known_by_the_nearest_place_or_by_aliases(
    predictor, tmp_path, placed, settings
):
    path = net(tmp_path, placed=placed)
    asked = Predictor(
        predictor.model, predictor.card, predictor.decision, PredictionSettings(**settings)
    )
    found = asked.predict(path)
    assert (found.table["share_present"] == 1).all()
    if "aliases" in settings:
        assert set(found.channels.values()) == {"used"}
    else:
        assert found.channels == {c: f"used ({EGI[c]}, by its place)" for c in found.channels}
        assert any("Fp1 is E22, " in text for text in found.warnings)


def test_a_net_without_places_is_told_how_to_give_them(predictor, tmp_path):
    with pytest.raises(DataError, match=r"none of its 128 channels.*--alias.*--montage"):
        predictor.predict(net(tmp_path, placed=False))


def test_a_montage_leaves_the_recording_that_is_given_as_it_is(predictor):
    asked = Predictor(
        predictor.model,
        predictor.card,
        predictor.decision,
        PredictionSettings(montage="colin27_1005"),
    )
    raw = simulated(63)
    asked.predict(raw)
    assert raw.get_montage() is None


def test_channels_of_another_type_are_taken_where_they_are_named(predictor):
    raw = simulated(64)
    whole = predictor.predict(raw).probabilities
    types = dict.fromkeys(CHANNELS, "misc")
    typed = raw.copy().set_channel_types(types, on_unit_change="ignore")
    asked = Predictor(
        predictor.model, predictor.card, predictor.decision, PredictionSettings(eeg=("*",))
    )
    assert np.allclose(asked.predict(typed).probabilities, whole, atol=1e-5)


def test_another_rate_and_stride(predictor, lab):
    slow = predictor.predict(simulated(9, sfreq=80.0))
    assert any("sampled at 80 Hz" in text for text in slow.warnings)
    dense = Predictor(
        predictor.model, predictor.card, predictor.decision, PredictionSettings(stride_seconds=0.5)
    ).predict(simulated(9))
    assert np.allclose(np.diff(dense.table["start"]), 0.5)
    assert np.allclose(dense.table["stop"] - dense.table["start"], 2.0)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda raw: raw.rename_channels({c: f"X{i}" for i, c in enumerate(CHANNELS)}), "none of"),
        (lambda raw: raw.crop(0, 1), "a window is 2 s"),
        (lambda raw: raw.apply_function(lambda x: x * 1e6), "look like nanovolts"),
        (lambda raw: raw.apply_function(lambda x: x * 1e-6), "look like volts"),
        (lambda raw: raw.set_channel_types(dict.fromkeys(CHANNELS, "ecg")), "is EEG"),
    ],
)
def test_what_cannot_be_answered_is_refused(predictor, change, found):
    raw = change(simulated(3))
    with pytest.raises(DataError, match=found):
        predictor.predict(raw)


def test_arrays_are_answered_in_any_unit_that_is_named(predictor):
    X = simulated(4).resample(128, verbose=0).get_data()[:, : 128 * 2][None]
    ask = {"sfreq": 128.0, "ch_names": CHANNELS}
    p = predictor.predict_proba(X, unit="V", **ask)
    assert np.allclose(predictor.predict_proba(X * 1e6, **ask), p, atol=1e-5)
    with pytest.raises(DataError, match="look like volts"):
        predictor.predict_proba(X, **ask)
    with pytest.raises(DataError, match="is not known"):
        predictor.predict_proba(X, unit="uv2", **ask)
    with pytest.raises(DataError, match="names of channels"):
        predictor.predict_proba(X[0], **ask)
    with pytest.raises(DataError, match="'F3' and 'f3' are both F3"):
        predictor.predict_proba(X, sfreq=128.0, ch_names=[*CHANNELS[:-1], "f3"], unit="V")
    with pytest.raises(DataError, match="is a channel that the model"):
        predictor.predict_proba(X, sfreq=128.0, ch_names=[f"X{i}" for i in range(8)])


def test_signals_unlike_the_training_are_doubted(predictor):
    louder = simulated(5).apply_function(lambda x: 8 * x)
    said = " ".join(predictor.predict(louder).warnings)
    assert "amplitude in uV RMS" in said
    assert not any("amplitude" in text for text in predictor.predict(simulated(5)).warnings)


def test_a_model_that_is_only_pre_trained_refuses(tmp_path):
    model = OMFA(n_outputs=2, sfreq=128.0, preset="tiny")
    save_checkpoint(tmp_path / "pre", model, Card("pre", "tiny", "pretrained", 1, {}, [], {}))
    with pytest.raises(DataError, match="Fine-tune it first: omfa-zoo finetune"):
        Predictor.from_checkpoint(tmp_path / "pre")


def test_a_card_and_a_configuration_that_disagree_are_refused(lab, tmp_path):
    card = load_card(lab / "model")
    shutil.copytree(lab / "model", tmp_path / "model")
    other = replace(card, decision={**card.decision, "classes": ["tense", "calm"]})
    (tmp_path / "model" / "card.json").write_text(other.to_json())
    with pytest.raises(DataError, match="say different classes"):
        read_decision(tmp_path / "model")
    with pytest.raises(DataError, match="not two or more different names"):
        replace(card, decision={**card.decision, "classes": ["calm", "calm"]})


def test_the_command_writes_tables_annotations_and_pages(lab, new, tmp_path, capsys):
    nothing = tmp_path / "nothing.edf"
    nothing.write_bytes(b"no EEG")
    out = tmp_path / "out"
    command = ["predict", str(lab / "model"), str(nothing), str(new), "--out", str(out)]
    assert main(command) == 1
    assert "FAILED" in capsys.readouterr().err
    table = pd.read_csv(out / "new_raw.csv")
    assert {"start", "stop", "class", "p_calm", "share_present", "quality"} <= set(table)
    raw = mne.io.read_raw(new, verbose=0)
    for name in ("new_raw_annotations.csv", "new_raw-annot.fif"):
        read = mne.read_annotations(out / name)
        assert read.description.tolist() == table["class"].tolist()
        raw.set_annotations(read)
        assert np.allclose(raw.annotations.onset - raw.first_time, table["start"])
    page = (out / "new_raw.html").read_text()
    assert "no result on new people" in page
    assert "were set apart" in page
    assert "data:image/png" in page
    assert "<script" not in page
    assert 'href="./new_raw.csv"' in page
    summary = pd.read_csv(out / "summary.csv")
    assert summary["answered"].tolist() == [0, 12]
    assert main([*command[:2], str(new), "--out", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*command[:2], str(new), "--out", str(out), "--overwrite"]) == 0
    assert (out / "new_raw.html").read_text() == page
    assert main([*command[:2], str(lab / "lab.zarr"), "--out", str(tmp_path / "stored")]) == 0
    assert len(pd.read_csv(tmp_path / "stored" / "summary.csv")) == 4


def test_a_checkpoint_is_named_as_its_folder(lab):
    assert load_card(lab / "model").name == "model"


def test_one_recording_of_a_store_is_told_to_be_one(lab):
    one = min((lab / "lab.zarr").glob("sub-*"))
    with pytest.raises(DataError, match=r"one recording of a store.*Name the whole store"):
        list(recordings_in(one))


def test_recordings_of_one_name_are_told_apart(lab, predictor, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        simulated(70).save(tmp_path / folder / "new_raw.fif", verbose=0)
    mne.export.export_raw(tmp_path / "b" / "new_raw.edf", simulated(71), verbose=0)
    shutil.copytree(lab / "lab.zarr", tmp_path / "a" / "lab.zarr")
    given = [tmp_path / "a" / "new_raw.fif", tmp_path / "b", lab / "lab.zarr"]
    given.append(tmp_path / "a" / "lab.zarr")
    table = predict_all(predictor, given, tmp_path / "out", report=lambda line: None)
    assert (table["error"] == "").all()
    names = table["recording"].tolist()
    assert names[:3] == ["a_new_raw", "b_new_raw_edf", "b_new_raw_fif"]
    assert names[3].endswith("_lab.zarr_sub-01_ses-1_run-1")
    assert len(set(names)) == 3 + 8
    assert all((tmp_path / "out" / f"{name}.csv").exists() for name in names)
    again = predict_all(predictor, [given[0]] * 2, tmp_path / "twice", report=lambda line: None)
    assert again["error"].str.contains("given twice").tolist() == [False, True]


def test_a_summary_keeps_the_names_of_an_earlier_call(predictor, tmp_path):
    for name in ("001", "NA"):
        mne.export.export_raw(tmp_path / f"{name}.edf", simulated(72), verbose=0)
    out = tmp_path / "out"
    for path in (tmp_path, tmp_path / "001.edf"):
        predict_all(predictor, [path], out, overwrite=True, report=lambda line: None)
    found = pd.read_csv(out / "summary.csv", dtype=str, keep_default_na=False)
    assert sorted(found["recording"]) == ["001", "NA"]
    assert found["windows"].tolist() == ["12", "12"]


def test_where_nothing_can_be_written_is_said_before_the_work(lab, new, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    command = ["predict", str(lab / "model"), str(new), "--out", str(tmp_path / "taken")]
    assert main(command) == 2
    assert "nothing can be written there" in capsys.readouterr().err


def test_failures_and_warnings_are_kept_in_the_log(lab, tmp_path, capsys):
    simulated(73).pick(CHANNELS[:3]).save(tmp_path / "few_raw.fif", verbose=0)
    simulated(74).crop(0, 1).save(tmp_path / "short_raw.fif", verbose=0)
    command = ["predict", str(lab / "model"), str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*command, "--quiet", "--log-file", str(tmp_path / "log")]) == 1
    log, said = (tmp_path / "log").read_text(), capsys.readouterr()
    for text in ("5 of 8 channels are missing", "a window is 2 s"):
        assert text in log
        assert text in said.err
    assert said.out.splitlines()[0].startswith("few_raw: 12 of 12 windows answered")
