"""Stores that went different ways: refused where ingest chose so, named where their sources did."""

import itertools
import json

import pytest

from omfa.pipeline import DataError
from omfa.zoo import SignalPathWarning, evaluate, open_dataset

DEAP = {"band": [4.0, 45.0], "reference": "average"}


@pytest.fixture(scope="module")
def lay(lay_store, tmp_path_factory):
    """Lay a store of one subject with settings and a history of its own."""
    folder = tmp_path_factory.mktemp("paths")
    seeds = itertools.count()  # other signals in each: one corpus under two names is refused

    def lay_(name, **options):
        path = folder / f"{name}.zarr"
        if not path.exists():
            lay_store(path, source=name, subjects=1, seed=next(seeds), **options)
        return path

    return lay_


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"band": [4.0, 45.0]}, "lower edge of the band"),
        ({"reference": "average"}, "reference"),
        ({"notch": [30.0]}, "notch"),
        ({"transition": 4.0}, "transition above the band"),
    ],
)
def test_stores_of_other_settings_are_joined_only_when_asked_to(lay, settings, found):
    plain, other = lay("plain"), lay(f"other-{'-'.join(settings)}", preprocessing=settings)
    with pytest.raises(DataError, match=rf"differ in {found} \(.*plain.zarr: .*--allow-mixed"):
        open_dataset([plain, other], 1.0)
    with pytest.warns(SignalPathWarning, match=rf"differ in {found} \(.*plain.zarr: .*{other}: "):
        data = open_dataset([plain, other], 1.0, allow_mixed=True)
    assert len(data.paths) == 2
    with pytest.warns(SignalPathWarning):  # as a result opens it again
        again = open_dataset(**json.loads(json.dumps(data.recipe)))
    assert again.paths == data.paths


def test_what_the_sources_did_is_named_and_not_refused(lay):
    plain, deap = lay("plain"), lay("deap", history=DEAP)
    with pytest.warns(SignalPathWarning, match=r"lower edge of the band and reference.*at the so"):
        data = open_dataset([plain, deap], 1.0)
    assert {path.band for path in data.paths} == {(0.5, 45.0), (4.0, 45.0)}


def test_stores_of_one_way_are_joined_without_a_word(lay):
    asked = lay("asked", preprocessing={"band": [4.0, 45.0], "reference": "average"})
    data = open_dataset([lay("deap", history=DEAP), asked], 1.0)
    assert [path.band for path in data.paths] == [(4.0, 45.0)] * len(data.paths)


def test_a_baseline_says_which_of_its_bands_signals_lack(lay_store, tmp_path):
    path = lay_store(tmp_path / "deap.zarr", source="deap", subjects=4, history=DEAP)
    data = open_dataset(path, 1.0, target="emotion")
    with pytest.warns(UserWarning, match=r"4 to 45 Hz hold no delta \(1-4 Hz\), 31-45 Hz of gamma"):
        evaluate("relative-band-power+logistic", data, "leave-one-subject-out")
    whole = open_dataset(
        lay_store(tmp_path / "w.zarr", source="w", subjects=4), 1.0, target="emotion"
    )
    evaluate("relative-band-power+logistic", whole, "leave-one-subject-out")
