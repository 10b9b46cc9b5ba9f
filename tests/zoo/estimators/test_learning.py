"""A learned thing is tested by learning: simulated corpora whose best achievable score is known.

The full figures are those of ``tests/benchmarks/bench_learning.py``, in ``docs/results.md``; here
there is one subject and what it takes to tell a model that learns from one that does not.
"""

import pytest

from omfa.pipeline import ingest, simulate
from omfa.zoo import Protocol, evaluate, open_dataset

TRIALS = Protocol("within-subject", n_folds=5)
FROZEN = {
    "preset": "tiny",
    "freeze": "encoder",
    "patience": None,
    "refit": True,
    "epochs": 25,
    "device": "cpu",
}


def deap(folder, **planted):
    """One subject of simulated DEAP, and the best balanced accuracy that its windows allow."""
    truth = simulate("deap", folder / "raw", subjects=1, seconds=20, progress=False, **planted)
    ingest("deap", folder / "raw", folder / "deap.zarr", serial=True, progress=False)
    # An effect as large as here looks like noise to quality control, and no channel is bad.
    how = {"cache": "memory", "mask_bad": False}
    data = open_dataset(folder / "deap.zarr", 4.0, target="valence>5", **how)
    return data, truth.best_accuracy["valence"]["4"]["balanced"]


def score(data, **options):
    result = evaluate("omfa", data, TRIALS, parameters={**FROZEN, **options})
    return result.summary()["mean"]["balanced_accuracy"]


@pytest.mark.slow
def test_an_effect_in_power_is_learned_to_most_of_what_can_be(tmp_path):
    data, best = deap(tmp_path, effect=3.0)
    assert score(data) > 0.8 * best


@pytest.mark.slow
def test_an_effect_in_coupling_is_heard_by_the_graph_alone(tmp_path):
    data, best = deap(tmp_path, effect=3.0, effect_kind="connectivity")
    graph, mean = score(data), score(data, head="mean", connectivity=False)
    assert graph > 0.7 * best
    assert mean < 0.65


@pytest.mark.slow
def test_where_there_is_no_effect_all_is_chance(tmp_path):
    data, best = deap(tmp_path, effect=0.0)
    assert best == 0.5
    assert 0.3 < score(data) < 0.7
