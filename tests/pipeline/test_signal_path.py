"""The path of a signal: source and ingest together, and what differs between two."""

from dataclasses import asdict

import pytest

from omfa.pipeline.preprocess import Preprocessing
from omfa.pipeline.signal_path import SignalPath, differences, lacking

FIVE = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 14), "beta": (14, 31), "gamma": (31, 50)}


def path(source=None, sfreq=128.0, source_sfreq=256.0, **settings):
    recording = {"source": source or {}, "source_sfreq": source_sfreq}
    return SignalPath.of(asdict(Preprocessing(**settings)), recording, sfreq)


DEAP = {"band": [4.0, 45.0], "reference": "average"}


@pytest.mark.parametrize(
    ("found", "band", "by_source"),
    [
        (path(), (0.5, 45), (False, False)),
        (path(DEAP), (4, 45), (True, True)),
        (path(DEAP, band=(8, 30)), (8, 30), (False, False)),
        (path({"band": [0.0, 75.0]}), (0.5, 45), (False, False)),
        (path({"band": [0.0, 75.0]}, band=None), (0, 64), (False, False)),
        (path({"band": [0.1, None]}, band=None), (0.1, 64), (True, False)),
        (path({"band": None}, source_sfreq=100.0, band=(0.5, None)), (0.5, 50), (False, True)),
        (path({"band": [70.0, 10.0]}), (0.5, 45), (False, False)),  # nothing that can be
    ],
)
def test_the_band_is_the_narrower_of_the_sources_and_the_stores(found, band, by_source):
    assert (found.band, found.by_source) == (band, by_source)


def test_a_store_of_an_earlier_recipe_fell_as_mnes_filters_do():
    old = SignalPath.of({"band": [0.5, 45.0], "reference": "source"}, {}, 128.0)
    assert old == path(transition=None, source_sfreq=128.0)
    assert differences([old, path()]) == (["transition above the band"], [])


@pytest.mark.parametrize(
    ("one", "other", "chosen", "given"),
    [
        (path(), path(), [], []),
        (path(), path({"band": [0.1, 100.0], "reference": "unknown"}), [], []),
        (path(), path(band=(4, 45)), ["lower edge of the band"], []),
        (path(), path(band=(0.5, 40)), ["upper edge of the band"], []),
        (path(), path(DEAP), [], ["lower edge of the band", "reference"]),
        # Asked for what the source has anyway: no other settings would have mended it.
        (path(), path(DEAP, band=(4, 45)), [], ["lower edge of the band", "reference"]),
        (path(band=(4, 45), reference="average"), path(DEAP), [], []),
        (path(), path(reference="average"), ["reference"], []),
        (path(), path({"reference": "Cz"}), [], ["reference"]),
        (path(reference="Cz"), path(reference=("O1", "O2")), ["reference"], []),
        (path(), path(notch=(30,)), ["notch"], []),
        (path(), path(notch=(50,)), [], []),  # nothing is left there that it could take
        (path(transition=None), path(transition=None, notch=(50,)), ["notch"], []),
        (path(), path(interpolate=True), ["interpolation of bad channels"], []),
        (path(), path(filter_within="trials"), ["bounds of the filters"], []),
    ],
)
def test_what_ingest_chose_is_told_from_what_the_sources_gave(one, other, chosen, given):
    assert differences([one, other]) == (chosen, given)
    assert differences([other, one, one]) == (chosen, given)


def test_a_path_is_told_in_words():
    assert str(path()) == "0.5-45 Hz, low-pass falls within 4 Hz, reference as recorded"
    text = str(path(DEAP, transition=None, interpolate=True, filter_within="trials"))
    assert text.startswith("4-45 Hz (both ends so at the source), low-pass falls as MNE's does")
    assert text.endswith("reference average, bad channels interpolated, filtered within trials")
    assert "begins so at the source" in str(path({"band": [1.0, 100.0]}))
    assert "notch 30" in str(path(notch=(30, 50)))


def test_bands_that_a_signal_lacks_are_named():
    assert lacking((0.5, 50), FIVE) == []
    assert lacking((None, None), FIVE) == []
    assert lacking((4, 45), FIVE) == ["no delta (1-4 Hz)", "31-45 Hz of gamma (31-50 Hz)"]
    assert lacking((4, 45), FIVE, least=0.5) == ["no delta (1-4 Hz)"]
    assert lacking((5, 30), {"theta": (4, 8), "gamma": (30, 46)}) == [
        "5-8 Hz of theta (4-8 Hz)",
        "no gamma (30-46 Hz)",
    ]
