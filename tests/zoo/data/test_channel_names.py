"""The store and the models, which import nothing of one another, read channel names alike."""

import numpy as np
import pytest

from omfa.models.graph import electrode_positions
from omfa.pipeline.channels import UCS

SPELLINGS = (
    "{}",
    "EEG {}",
    "eeg {}",
    "EEG {}-REF",
    "EEG {}-LE",
    "EEG-{}",
    "EEG:{}",
    "{}-AVG",
    "{} AR",
    "{}-CAR",
    "{}-Ref",
    "{}..",
    " {} ",
    "EEG {}.",
)


def places(names):
    return electrode_positions([{"ch_name": name} for name in names])


def upper(name):
    return name.upper()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", [str, str.lower, upper])
def test_a_spelling_has_the_place_that_the_schema_gives_its_name(spelling, case):
    names = [case(spelling.format(name)) for name in (*UCS.names, "T3", "T4", "T5", "T6")]
    expected = UCS.positions(UCS.name(name) for name in names)
    np.testing.assert_allclose(places(names), expected, atol=1e-5)  # the schema has 5 digits


@pytest.mark.parametrize("name", ["EEG 001", "Fp1-F3", "E12", "ECG", "EEG", "REF", ""])
def test_what_the_schema_does_not_know_has_no_place(name):
    assert name not in UCS
    assert np.isnan(places([name])).all()


def test_the_ears_have_no_place_beside_names_of_an_abc_cap():
    assert np.isfinite(places(["A1", "A2", "Cz"])).all()
    assert np.isnan(places(["A1", "A2", "A3", "B7"])).all()
