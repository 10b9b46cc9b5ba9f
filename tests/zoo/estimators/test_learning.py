"""A learned thing is tested by learning: simulated corpora whose best achievable score is known.

The full figures are those of ``tests/benchmarks/bench_learning.py``, in ``docs/results.md``; here
there is one subject and what it takes to tell a model that learns from one that does not.
"""

import pytest

from omfa.pipeline import ingest, simulate
from omfa.zoo import Protocol, evaluate, open_dataset
from omfa.zoo.pretraining.run import pretrain_encoder
from omfa.zoo.pretraining.settings import Settings
from omfa.zoo.protocols.windows import Dataset

TRIALS = Protocol("within-subject", n_folds=5)
FROZEN = {
    "preset": "tiny",
    "freeze": "encoder",
    "patience": None,
    "refit": True,
    "epochs": 25,
    "device": "cpu",
}


def deap(folder, seconds=20, **planted):
    """One subject of simulated DEAP, and the best balanced accuracy that its windows allow."""
    truth = simulate("deap", folder / "raw", subjects=1, seconds=seconds, progress=False, **planted)
    ingest("deap", folder / "raw", folder / "deap.zarr", serial=True, progress=False)
    data = open_dataset(folder / "deap.zarr", 4.0, target="valence>5", cache="memory")
    return data, truth.best_accuracy["valence"]["4"]["balanced"]


def score(data, **options):
    parameters = {**FROZEN, **options}
    seen = "checkpoint" in options  # of the same signals, without labels
    result = evaluate("omfa", data, TRIALS, parameters=parameters, transductive=seen)
    return result.summary()["mean"]["balanced_accuracy"]


@pytest.mark.slow
def test_an_effect_in_power_is_learned_to_most_of_what_can_be(tmp_path):
    data, best = deap(tmp_path, effect=3.0)
    assert score(data) > 0.8 * best


@pytest.mark.slow
def test_an_effect_in_coupling_is_heard_by_the_graph_alone(tmp_path):
    data, best = deap(tmp_path, effect=3.0, effect_kind="connectivity")
    graph, mean = score(data), score(data, head="mean")
    assert graph > 0.7 * best
    assert mean < 0.65


class Above(Dataset):
    """A dataset at some of its channels."""

    def __init__(self, data, names):
        self.data, self.rows = data, [list(data.channels).index(name) for name in names]

    metadata = property(lambda self: self.data.metadata)
    sfreq = property(lambda self: self.data.sfreq)
    classes = property(lambda self: self.data.classes)
    simulated = property(lambda self: True)
    recorded = property(lambda self: self.data.recorded)
    channels = property(lambda self: [self.data.channels[row] for row in self.rows])
    chs_info = property(lambda self: [self.data.chs_info[row] for row in self.rows])

    def take(self, indices, /):
        x, present, y = self.data.take(indices)
        return x[:, self.rows], present[:, self.rows], y


@pytest.mark.slow
def test_an_effect_in_the_waveform_is_learned_where_band_power_is_at_chance(tmp_path):
    """At the electrodes above its sources: to find them among 32 takes more trials."""
    data, best = deap(tmp_path, seconds=60, effect=3.0, effect_kind="waveform")
    data = Above(data, ["T7", "T8", "F3", "F4"])
    settings = Settings("tiny", steps=300, batch_size=128)
    checkpoint = pretrain_encoder(tmp_path / "deap.zarr", tmp_path / "run", settings)
    start = {"checkpoint": str(checkpoint), "preset": None, "freeze": "none"}
    start |= {"encoder_lr_scale": 1.0, "lr": 2e-3, "epochs": 12}
    start |= {"connectivity": False, "channel_drop_prob": 0.0}
    powers = evaluate("relative-band-power+logistic", data, TRIALS).summary()["mean"]
    assert score(data, **start) > 0.7 * best
    assert powers["balanced_accuracy"] < 0.58


@pytest.mark.slow
def test_where_there_is_no_effect_all_is_chance(tmp_path):
    data, best = deap(tmp_path, effect=0.0)
    assert best == 0.5
    assert 0.3 < score(data) < 0.7
