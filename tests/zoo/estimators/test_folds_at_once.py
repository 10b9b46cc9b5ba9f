"""Heads of several folds that are fitted as one network: what one of them is, it is by itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from torch.utils._python_dispatch import TorchDispatchMode

from omfa.models import HEADS
from omfa.pipeline import DataError
from omfa.zoo import ArrayDataset, Protocol, Windows, evaluate
from omfa.zoo.estimators import network
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.omfa_networks import omfa
from omfa.zoo.estimators.stacked import Stack
from omfa.zoo.evaluation import folds

FROZEN = {"preset": "tiny", "freeze": "encoder", "epochs": 3, "device": "cpu", "batch_size": 16}
COHERENCY = ("freeze", "coherency")
NO_DROPS = {"drop_prob": 0.0, "channel_drop_prob": 0.0, "edge_drop_prob": 0.0}
# Of six people: the first fold tests two of them, and learns from fewer windows than the others.
PROTOCOL = Protocol("cross-subject", n_folds=5)


@pytest.fixture(scope="module")
def data(make_table):
    metadata = make_table(subjects=6, sessions=1, trials=4, windows=3)
    X = np.random.default_rng(0).standard_normal((len(metadata), 4, 128))
    X += 2 * np.sin(np.arange(128) / 2) * metadata["target"].to_numpy()[:, None, None]
    there = np.random.default_rng(1).random(X.shape[:2]) > 0.1
    there[:, 0] = True
    names = ["Fz", "C3", "C4", "Oz"]
    return ArrayDataset(20 * X, metadata, sfreq=128.0, channels=names, present=there)


def settings(**more):
    """The coherency has no encoder to freeze."""
    return {k: v for k, v in {**FROZEN, **more}.items() if (k, more.get("head")) != COHERENCY}


def probabilities(data, protocol=PROTOCOL, **parameters):
    result = evaluate("omfa", data, protocol, parameters=settings(**parameters))
    return result.predictions.filter(like="p_").to_numpy()


@pytest.mark.parametrize("head", HEADS)
def test_without_chance_each_fold_is_what_it_is_alone(head, data):
    alone = probabilities(data, head=head, **NO_DROPS)
    assert np.ptp(alone[:, 0]) > 0.01
    for n in (2, 16):
        together = probabilities(data, head=head, folds_at_once=n, **NO_DROPS)
        np.testing.assert_allclose(together, alone, atol=1e-4)


def test_centred_features_are_each_folds_own(data):
    by_person = replace(PROTOCOL, centred="subject")
    alone = probabilities(data, by_person, **NO_DROPS)
    together = probabilities(data, by_person, folds_at_once=5, **NO_DROPS)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert not np.allclose(alone, probabilities(data, **NO_DROPS), atol=1e-2)


def test_a_run_that_goes_on_draws_as_one_that_was_not_interrupted(data, tmp_path, monkeypatch):
    parameters = {**FROZEN, "folds_at_once": 2}
    whole = evaluate("omfa", data, PROTOCOL, parameters=parameters)
    real, seen = Network.predict_proba, []

    def failing(self, windows):
        seen.append(len(windows))
        if len(seen) in (2, 5):
            raise OSError("the disk is full")
        return real(self, windows)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "predict_proba", failing)
        with pytest.raises(DataError, match="2 of 5 folds failed"):
            evaluate("omfa", data, PROTOCOL, parameters=parameters, out=tmp_path)
    # The first fold is by itself, and of each pair of others one is kept: it is fitted again all
    # the same, since what its neighbour draws depends on it.
    assert sorted(path.stem for path in tmp_path.glob("*.folds/*.npz")) == ["0", "2", "3"]
    again = evaluate("omfa", data, PROTOCOL, parameters=parameters, out=tmp_path, n_jobs=2)
    assert again.predictions.equals(whole.predictions)


def test_threads_of_a_worker_draw_as_one_process(data):
    alone = probabilities(data, folds_at_once=2)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        result = evaluate(
            "omfa", data, PROTOCOL, parameters=settings(folds_at_once=2), scheduler=client
        )
    np.testing.assert_array_equal(result.predictions.filter(like="p_").to_numpy(), alone)


def test_centred_folds_at_once_are_as_few_as_their_features_allow(data, monkeypatch):
    monkeypatch.setattr(folds, "CENTRED_AT_ONCE", 130)  # windows: two folds of 60, not four
    fitted = []
    real = Network.fit_at_once

    def fit_at_once(self, models, sides):
        fitted.append(len(models))
        return real(self, models, sides)

    monkeypatch.setattr(Network, "fit_at_once", fit_at_once)
    for centred, groups in ((None, [4]), ("subject", [2, 2])):
        probabilities(data, replace(PROTOCOL, centred=centred), folds_at_once=4)
        assert fitted == groups
        fitted.clear()


def sides(data, n):
    """``n`` sides of equally many windows, and a model for each."""
    rows = np.arange(len(data.metadata))
    y = data.metadata["target"].to_numpy()
    made = [
        tuple(
            Windows(data, part, classes=("0", "1"), y=y[part])
            for part in (rows[i : i + 36], rows[i + 36 : i + 48])
        )
        for i in range(0, 6 * n, 6)
    ]
    return made, [omfa(seed=i, **FROZEN, folds_at_once=n) for i in range(n)]


def test_a_fold_that_fails_leaves_the_others_alone(data):
    both, models = sides(data, 3)
    real = models[0].features

    class Broken(type(real)):
        def __call__(self, X, present, sfreq):
            made = super().__call__(X, present, sfreq)
            made[np.abs(X).max((1, 2)) > 1e4, :, 1] = np.inf
            return made

    for model in models:
        model.features.__class__ = Broken
    X = data.X.copy()
    X[0] = 1e5 * np.sign(X[0])  # window 0 is on the first side alone
    loud = ArrayDataset(X, data.metadata, sfreq=128.0, channels=data.channels)
    for pair in both:
        for side in pair:
            side.dataset = loud
    failed = models[0].fit_at_once(models, both)
    assert [error is None for error in failed] == [False, True, True]
    assert "the loss is" in str(failed[0])
    assert all(torch.isfinite(p).all() for p in models[1].network_.parameters())


def test_too_many_for_the_device_are_an_error_that_says_what_to_do(data, monkeypatch):
    def full(self, *inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stack, "__call__", full)
    both, models = sides(data, 4)
    with pytest.raises(DataError, match=r"4 folds at once: .*no room.*folds_at_once to 2"):
        models[0].fit_at_once(models, both)


def test_where_an_epoch_is_chosen_or_an_encoder_learns_folds_are_fitted_one_by_one():
    assert omfa(**FROZEN).at_once == 1  # on a CPU by default
    assert omfa(**FROZEN, folds_at_once=8).at_once == 8
    assert omfa(**FROZEN, folds_at_once=8, patience=3).at_once == 1
    assert omfa(**FROZEN, folds_at_once=8, refit=False).at_once == 1
    assert omfa(preset="tiny", folds_at_once=8).at_once == 1
    for wrong in (0, 2.5, "4"):
        with pytest.raises(DataError, match=f"folds_at_once={wrong!r}"):
            omfa(**FROZEN, folds_at_once=wrong)
    for name in ("folds_at_once", "compile"):
        with pytest.raises(DataError, match=f"head=logistic: {name} given"):
            omfa(preset="tiny", head="logistic", **{name: 2})


def test_one_of_several_fits_is_planned_by_the_size_of_its_group(data):
    """The time of a step is replaced: what is planned from it is not."""
    (pair, *_), (model, *_) = sides(data, 1)
    model = omfa(**FROZEN, folds_at_once=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "_timed", lambda work, times=3: 1.0)
        alone = model.expected_seconds(pair[0], [(16, 0, 0)])
        assert alone == FROZEN["epochs"]
        # Four are one group; of five one is left over, which takes a group's time; unequal ones
        # are fitted one by one.
        assert model.expected_seconds(pair[0], [(16, 0, 0)] * 4) == pytest.approx(alone)
        assert model.expected_seconds(pair[0], [(16, 0, 0)] * 5) == pytest.approx(2 * alone)
        uneven = [(16, 0, 0), (15, 0, 0), (14, 0, 0)]
        assert model.expected_seconds(pair[0], uneven) == pytest.approx(3 * alone)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [1, 5])
def test_compiled_steps_are_those_of_eager_ones(n, data):
    torch.compiler.reset()
    how = {"head": "mean", "connectivity": False, **NO_DROPS}  # which takes seconds to compile
    alone = probabilities(data, **how)
    compiled = probabilities(data, compile=True, folds_at_once=n, **how)
    np.testing.assert_allclose(compiled, alone, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_sixteen_networks_start_few_more_kernels_than_one(head, data):
    """Which is why they are stacked. On ``meta``, as on a GPU, no graph is computed in slices."""
    (pair,), _ = sides(data, 1)
    counts = {}
    for n in (1, 16):
        models = [omfa(seed=i, **settings(head=head)) for i in range(n)]
        networks = [model.build(pair[0]).to("meta") for model in models]
        stack = Stack(networks)
        known = pair[0].at(np.arange(8)).features(models[0].features)
        x = torch.from_numpy(known).float().to("meta")
        there = torch.ones(n, *x.shape[:2], dtype=torch.bool, device="meta")
        with Kernels() as counted:
            out = networks[0](x, there[0]) if n == 1 else stack(x.expand(n, *x.shape), there)
            out.square().mean().backward()
        counts[n] = counted.n
    assert counts[16] < 2.5 * counts[1]


class Kernels(TorchDispatchMode):
    """Counts operations that are a kernel or more."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))
