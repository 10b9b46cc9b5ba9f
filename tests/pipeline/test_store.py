"""The store: what is written is what is read, whatever reads it, and damage has a name."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from omfa.pipeline import DataError, Preprocessing, ingest, open_store

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def store(tree, reader, tmp_path):
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    return tmp_path / "s.zarr"


def test_listing_tells_who_and_how_much(store):
    opened = open_store(store)
    assert len(opened) == 3
    table = opened.recordings
    assert list(table.index) == [f"sub-0{i}_ses-1_run-1" for i in range(3)]
    assert set(table["sfreq"]) == {128.0}
    assert set(table["n_times"]) == {int(3999 * 0.64) + 1}
    assert opened.nbytes > 0


def test_plain_zarr_and_xarray_read_the_same_signal(store):
    ours = open_store(store)["sub-01_ses-1_run-1"]
    plain = zarr.open_group(str(store), mode="r")["sub-01_ses-1_run-1/signal"][:]
    labelled = xr.open_zarr(store, group="sub-01_ses-1_run-1", consolidated=False)
    np.testing.assert_array_equal(ours.signal(), plain)
    np.testing.assert_array_equal(labelled["signal"].values, plain)
    assert labelled["signal"].dims == ("channel", "time")
    assert labelled["signal"].attrs["units"] == "uV"
    assert list(labelled["channel"].values) == ours.channels
    assert float(labelled["time"][128]) == 1.0
    assert labelled["valence"].dims == ("trial",)


def test_recordings_of_other_montages_align_by_channel(tmp_path, reader, tiny_file):
    root = tmp_path / "raw"
    root.mkdir()
    tiny_file(root / "00.npz", seed=0, channels=("FP1", "Cz", "O1"))
    tiny_file(root / "01.npz", seed=1, channels=("O1", "T3", "fp1"))
    ingest(reader, root, tmp_path / "s.zarr", serial=True)
    a, b = (xr.open_zarr(tmp_path / "s.zarr" / f"sub-0{i}_ses-1_run-1")["signal"] for i in (0, 1))
    a, b = xr.align(a, b, join="outer")
    assert set(a.channel.values) == {"Fp1", "T7", "Cz", "O1"}
    assert np.isnan(a.sel(channel="T7")).all()
    assert not np.isnan(b.sel(channel="T7")).any()
    store = open_store(tmp_path / "s.zarr")
    assert store.channels == ["Fp1", "T7", "Cz", "O1"]  # UCS order
    assert store.common_channels == ["Fp1", "O1"]


def test_trials_and_labels_come_back_raw(store):
    trials = open_store(store)["sub-00_ses-1_run-1"].trials
    assert list(trials["stimulus"]) == ["clip 1", "clip 2"]
    assert list(trials["valence"]) == [1.5, 9.0]
    assert list(trials["emotion"]) == [-1, 1]
    assert list(trials["onset"]) == [32, 1280]
    assert list(trials["baseline_length"]) == [32, 0]


@pytest.mark.parametrize("scale", [0.1, 20.0, 300.0, 5000.0])
def test_storing_costs_less_than_a_tenth_of_a_microvolt(scale, tmp_path, reader, tiny_file):
    root = tmp_path / "raw"
    root.mkdir()
    tiny_file(root / "00.npz", seed=0, scale=scale)
    with_halves, exact = tmp_path / "auto.zarr", tmp_path / "exact.zarr"
    ingest(reader, root, with_halves, serial=True)
    ingest(reader, root, exact, serial=True, dtype="float32")
    a, b = (open_store(s)["sub-00_ses-1_run-1"] for s in (with_halves, exact))
    error = np.sqrt(np.mean((a.signal().astype(float) - b.signal()) ** 2, axis=1))
    assert error.max() < 0.1
    assert a.attrs["dtype"] == ("float16" if scale < 1000 else "float32")
    assert a.attrs["round_trip_rms_uV"] == pytest.approx(error.max(), abs=1e-5)


def test_missing_samples_stay_missing(tmp_path, reader, tiny_file):
    root = tmp_path / "raw"
    root.mkdir()
    tiny_file(root / "00.npz", seed=0, sfreq=128.0)
    with np.load(root / "00.npz") as file:
        content = dict(file)
    content["signal"][3, 100:164] = np.nan
    np.savez(root / "00.npz", **content)
    ingest(reader, root, tmp_path / "s.zarr", serial=True)
    signal = open_store(tmp_path / "s.zarr")["sub-00_ses-1_run-1"].signal()
    assert np.isnan(signal[3, 100:164]).all()
    assert np.isnan(signal).sum() == 64


# ------------------------------------------------------------------------------------- damage


def _files(store):
    recording = store / "sub-01_ses-1_run-1"
    return sorted(p.relative_to(store) for p in recording.rglob("*") if p.is_file())


def test_any_flipped_byte_is_found_and_a_rerun_repairs_just_that(store, tree, reader, bytes_of):
    whole = bytes_of(store)
    rng = np.random.default_rng(0)
    for name in _files(store):
        content = bytearray(whole[name.as_posix()])
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (store / name).write_bytes(content)
        damaged = [d.recording for _, d in open_store(store).verify() if d]
        assert damaged == ["sub-01_ses-1_run-1"], name
        summary = ingest(reader, tree, store, serial=True)
        assert [o.recording for o in summary.having("stored")] == ["sub-01_ses-1_run-1"]
        assert summary.having("stored")[0].reason == "damaged"
        assert bytes_of(store) == whole


def test_a_lost_file_and_a_lost_recording_are_named(store, tree, reader, bytes_of):
    whole = bytes_of(store)
    (store / "sub-01_ses-1_run-1/signal/c/0/0").unlink()
    shutil.rmtree(store / "sub-02_ses-1_run-1")
    found = {d.recording: d.found for _, d in open_store(store).verify() if d}
    assert found["sub-01_ses-1_run-1"] == "signal/c/0/0 is missing"
    assert found["sub-02_ses-1_run-1"] == "zarr.json is missing"
    ingest(reader, tree, store, serial=True)
    assert bytes_of(store) == whole


def test_a_file_too_many_is_no_damage_to_the_others(store):
    (store / "notes.txt").write_text("mine")
    assert not any(d for _, d in open_store(store).verify())


# ------------------------------------------------------------------------------------- opening


def test_what_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no omfa store\. Make one"):
        open_store(tmp_path / "nothing")
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    with pytest.raises(DataError, match="omfa did not write"):
        open_store(tmp_path / "other.zarr")


@pytest.mark.parametrize(
    ("field", "message"),
    [("format", "format 99, this omfa reads 1"), ("ucs_version", "schema version 99")],
)
def test_another_format_or_schema_is_named_and_not_read(store, tree, reader, field, message):
    root = store / "zarr.json"
    document = json.loads(root.read_text())
    document["attributes"]["omfa"][field] = 99
    root.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        open_store(store)
    with pytest.raises(DataError, match=message):
        ingest(reader, tree, store, serial=True)
    assert ingest(reader, tree, store, serial=True, rewrite=True).complete
    assert len(open_store(store)) == 3


def test_the_list_in_the_root_is_only_a_cache(store):
    shutil.copytree(store / "sub-00_ses-1_run-1", store / "sub-07_ses-1_run-1")
    shutil.rmtree(store / "sub-02_ses-1_run-1")
    assert list(open_store(store).recordings.index) == [
        f"sub-{i}_ses-1_run-1" for i in ("00", "01", "07")
    ]


def test_recordings_of_other_settings_are_left_out_loudly(store, tree, reader, tmp_path):
    other = tmp_path / "other.zarr"
    ingest(reader, tree, other, serial=True, preprocessing=Preprocessing(band=(4.0, 45.0)))
    shutil.copytree(other / "sub-00_ses-1_run-1", store / "sub-09_ses-1_run-1")
    with pytest.warns(UserWarning, match="1 recordings were made with settings"):
        opened = open_store(store)
    assert "sub-09_ses-1_run-1" not in opened


def test_an_unknown_recording_is_an_error(store):
    with pytest.raises(DataError, match="no such recording among its 3"):
        open_store(store)["sub-99_ses-1_run-1"]


def test_a_label_with_the_name_of_a_field_is_renamed(tree, reader, tmp_path, monkeypatch):
    read = type(reader).read

    def labelled(self, key):
        recording = read(self, key)
        names = [*fields, "label_bad", "..", "a/b", "größe", *odd]
        recording.trials = recording.trials.assign(**{name: i for i, name in enumerate(names)})
        return recording

    fields = ["signal", "trial", "time", "channel", "bad", "frequency", "quality_flat", "zarr.json"]
    odd = ["a_b", "a\\b", "valence/", "trial_onset/x", "../up", "ü" * 300]
    monkeypatch.setattr(type(reader), "read", labelled)
    assert ingest(reader, tree, tmp_path / "s.zarr", serial=True).complete
    recording = next(iter(open_store(tmp_path / "s.zarr")))
    names = [*(f"label_{name}" for name in fields), "label_bad", "label_..", "label_a_b", "größe"]
    names += ["a_b", "label_label_a_b", "valence_", "trial_onset_x", ".._up", recording.labels[-1]]
    names[4] = "label_label_bad"  # the source has a label_bad of its own
    assert recording.labels[-len(names) :] == names
    assert re.fullmatch("ü{50}_[0-9a-f]{8}", names[-1])
    for i, name in enumerate(names):
        assert (recording.trials[name] == i).all()
    assert recording.signal().ndim == 2
    assert recording.array("bad").dtype == bool


def test_walking_the_hierarchy_with_zarr_warns_of_nothing(store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [name for name, _ in zarr.open_group(str(store), mode="r").members()]
    assert len(names) == 3


def test_every_field_is_documented(store):
    text = (DOCS / "store.md").read_text()
    recording = open_store(store)["sub-00_ses-1_run-1"]
    labels = set(recording.labels)
    fields = set(recording.group.array_keys()) - labels | set(recording.attrs)
    fields |= set(open_store(store).settings)
    undocumented = [f for f in fields if not re.search(rf"`{re.escape(f)}`", text)]
    assert not undocumented
