"""A stored recording as MNE, xarray, matplotlib and a notebook have it."""

import numpy as np
import pytest

from omfa.pipeline import DataError, __version__, ingest, open_store, simulate, sys_info
from omfa.pipeline.channels import UCS


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("views")
    simulate("seed", root / "raw", subjects=2, sessions=1, seconds=3, progress=False)
    ingest("seed", root / "raw", root / "seed.zarr", serial=True, progress=False)
    return open_store(root / "seed.zarr")


def test_recordings_are_had_by_place_as_by_name(store):
    names = list(store.recordings.index)
    assert [store[i].recording for i in range(2)] == names
    assert store[-1].recording == names[-1]
    for outside in (2, -3):
        with pytest.raises(DataError, match=r"the store has 2\. Count from 0"):
            store[outside]


def test_events_are_the_trials_in_seconds(store):
    recording = store[0]
    trials, events = recording.trials, recording.events
    np.testing.assert_allclose(events["onset"] * recording.sfreq, trials["onset"])
    np.testing.assert_allclose(events["duration"] * recording.sfreq, trials["length"])
    assert list(events["emotion"]) == list(trials["emotion"])


def test_raw_is_the_signal_in_volts_with_places_trials_and_bad_channels(store):
    recording = store[0]
    raw = recording.to_raw()
    assert raw.ch_names == recording.channels
    assert raw.info["sfreq"] == recording.sfreq
    assert raw.info["bads"] == recording.bad_channels
    np.testing.assert_allclose(1e6 * raw.get_data(), recording.signal(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(raw.annotations.onset, recording.events["onset"], atol=1e-6)
    assert list(raw.annotations.description) == list(recording.events["stimulus"])
    place = raw.get_montage().get_positions()["ch_pos"]["Cz"]
    np.testing.assert_allclose(place, UCS.positions(["Cz"])[0])
    assert "simulated" in raw.info["description"]


@pytest.mark.parametrize("trial", [0, 3, -1])
def test_one_trial_alone(store, trial):
    recording = store[1]
    onset, length = recording.trials[["onset", "length"]].iloc[trial]
    expected = recording.signal(int(onset), int(onset + length))
    raw = recording.to_raw(trial)
    np.testing.assert_allclose(1e6 * raw.get_data(), expected, rtol=1e-6, atol=1e-6)
    assert len(raw.annotations) == 1
    assert raw.annotations.onset[0] == 0
    array = recording.to_xarray(trial)
    np.testing.assert_array_equal(array.to_numpy(), expected)
    assert array.dims == ("channel", "time")
    assert float(array["time"][128]) == pytest.approx(1.0)
    assert float(array.sel(channel="Cz").std()) > 0


def test_a_trial_that_is_not_there_is_told_how_many_there_are(store):
    for view in (store[0].to_raw, store[0].to_xarray, store[0].plot):
        with pytest.raises(DataError, match=r"it has 15\. Count from 0"):
            view(15)


def test_a_picture_has_a_line_for_each_channel_and_says_simulated(store, tmp_path):
    figure = store[0].plot(2, seconds=1)
    (axes,) = figure.axes
    assert len(axes.lines) == 62
    assert axes.lines[0].get_xdata().max() == pytest.approx(1, abs=0.02)
    assert "simulated" in axes.get_title()
    figure.savefig(tmp_path / "a.png")
    with pytest.raises(DataError, match="there is nothing from 99 s"):
        store[0].plot(start=99)


def test_reprs_are_short_and_cells_escape(store):
    assert len(repr(store)) < 200
    assert "2 recordings of 2 subjects" in repr(store)
    assert "62 channels | 128 Hz" in repr(store[0])
    cell = store._repr_html_()
    assert "sub-01_ses-1_run-1" in cell
    assert "Fp1" in store[0]._repr_html_()
    from omfa.pipeline.views import cell as make

    assert "<b>" not in make("<b>", {"<b>": "<b>"})


def test_sys_info_says_what_a_report_of_a_fault_needs(capsys):
    text = sys_info()
    assert text in capsys.readouterr().out
    for name in ("omfa", "python", "numpy", "zarr", "memory"):
        assert f"\n{name}" in f"\n{text}"
    assert f"omfa          {__version__}" in text
