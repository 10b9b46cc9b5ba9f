import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omfa.pipeline import DataError
from omfa.zoo.estimators.baselines import (
    FEATURE_BASELINES,
    FeatureClassifier,
    filled_and_scaled,
    logistic,
)
from omfa.zoo.estimators.smoothing import smoothed
from omfa.zoo.evaluation.results import Result, compare_table
from omfa.zoo.evaluation.run import evaluate, rerun
from omfa.zoo.protocols.protocol import TRIAL, Protocol, codes
from omfa.zoo.protocols.windows import ArrayDataset, Windows

HOWS = ("average", "lds")
TWO_FOLDS = Protocol("cross-subject", n_folds=2)


@pytest.fixture(scope="module")
def weak(make_table):
    """Trials whose class shifts the mean of every channel by far less than windows differ."""
    metadata = make_table(subjects=6, sessions=1, trials=10, windows=12)
    sign = 2.0 * metadata["target"].to_numpy() - 1
    noise = np.random.default_rng(0).normal(size=(len(metadata), 3, 1)).repeat(128, -1)
    X = 0.3 * sign[:, None, None] + noise
    return ArrayDataset(X, metadata, sfreq=128.0, channels=["C1", "C2", "C3"])


def means(X, present, sfreq):
    return X.mean(axis=-1)


def on_means(*, seed=0, smooth=None):
    return FeatureClassifier(means, filled_and_scaled(), logistic(), smooth=smooth)


def kalman(x, step=1e-4, first=1e-2):
    """Filter forward and smooth backward, one number at a time (Rauch, Tung, Striebel 1965)."""
    mean, variance = [], []
    for t, value in enumerate(x):
        before, spread = (x.mean(), first) if t == 0 else (mean[-1], variance[-1] + step)
        gain = spread / (spread + 1)
        mean.append(before + gain * (value - before))
        variance.append((1 - gain) * spread)
    out = list(mean)
    for t in range(len(x) - 2, -1, -1):
        gain = variance[t] / (variance[t] + step)
        out[t] = mean[t] + gain * (out[t + 1] - mean[t])
    return out


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_the_linear_dynamical_system_is_kalmans_filter_and_its_smoother(make_table, n):
    x = np.random.default_rng(n).normal(3, 2, (n, 2)).cumsum(axis=0)
    metadata = make_table(subjects=1, sessions=1, trials=1, windows=n)
    expected = np.stack([kalman(column) for column in x.T], axis=1)
    assert np.allclose(smoothed(x, metadata, "lds"), expected, rtol=1e-9)


def test_the_moving_average_takes_two_windows_on_either_side(make_table):
    metadata = make_table(subjects=1, sessions=1, trials=2, windows=6)
    x = np.array([1.0, 2, 4, 8, 16, 32, 5, 5, 5, 5, 5, 10])[:, None]
    expected = [7 / 3, 15 / 4, 31 / 5, 62 / 5, 60 / 4, 56 / 3, 5, 5, 5, 6, 25 / 4, 20 / 3]
    assert np.allclose(smoothed(x, metadata, "average")[:, 0], expected)


@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_other_trials_and_the_order_of_rows_change_nothing(make_table, how, random):
    metadata = make_table(subjects=2, sessions=2, trials=3, windows=6)
    rng = np.random.default_rng(random.getrandbits(32))
    x = rng.normal(size=(len(metadata), 4))
    whole = smoothed(x, metadata, how)
    trial = codes(metadata, TRIAL)
    own = trial == rng.integers(trial.max() + 1)
    assert np.array_equal(smoothed(x[own], metadata[own], how), whole[own])  # alone
    others = x.copy()
    others[~own] = rng.permutation(others[~own])
    assert np.array_equal(smoothed(others, metadata, how)[own], whole[own])
    order = rng.permutation(len(metadata))
    assert np.array_equal(smoothed(x[order], metadata.iloc[order], how), whole[order])
    moved = x.copy()  # within the trial every window counts, also those to come
    moved[np.flatnonzero(own)[-1]] += 1
    assert (smoothed(moved, metadata, how)[own][-2:] != whole[own][-2:]).all()


@pytest.mark.parametrize("how", HOWS)
def test_what_a_trial_has_throughout_is_kept(make_table, how):
    metadata = make_table(subjects=2, sessions=1, trials=4, windows=9)
    x = np.random.default_rng(1).normal(size=(8, 3))[codes(metadata, TRIAL)]
    assert np.allclose(smoothed(x, metadata, how), x)


def test_smoothing_finds_what_single_windows_hide(weak):
    score = {
        how: evaluate(on_means, weak, TWO_FOLDS, parameters={"smooth": how})
        .summary()
        .loc["accuracy", "mean"]
        for how in (None, *HOWS)
    }
    assert score[None] < 0.75
    assert score[None] + 0.1 < score["average"] < score["lds"]


@pytest.mark.parametrize("how", HOWS)
def test_a_trial_is_classified_alike_alone_and_among_the_tested_ones(weak, how):
    labels = weak.metadata["target"].to_numpy()
    train, validation, test = (
        Windows(weak, rows, classes=("0", "1"), y=labels[rows])
        for rows in np.split(np.arange(len(labels)), [480, 600])
    )
    model = on_means(smooth=how).fit(train, validation)
    whole = model.predict(test)
    for start in range(0, len(test), 12):
        rows = np.arange(start, start + 12)
        assert np.array_equal(model.predict(test.at(rows)), whole[rows])


# ---- the mark -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marked(weak, tmp_path_factory):
    out = tmp_path_factory.mktemp("marked")
    parameters = {"smooth": "lds"}
    return evaluate("differential-entropy+ridge", weak, TWO_FOLDS, parameters=parameters, out=out)


def test_every_name_of_a_smoothed_model_says_non_causal(marked, weak):
    name = "differential-entropy+ridge+non-causal-lds"
    assert marked.estimator == name
    assert name in marked.path.name
    assert name in repr(marked)
    assert compare_table([marked])["model"].tolist() == [name]
    by_name = evaluate(name, weak, TWO_FOLDS)
    assert by_name.config["parameters"] == marked.config["parameters"] == {}
    assert by_name.predictions.equals(Result.load(marked.path).predictions)
    assert rerun(marked.path, weak).predictions.equals(by_name.predictions)
    assert evaluate(name, weak, TWO_FOLDS, parameters={"smooth": "lds"}).estimator == name
    function = FEATURE_BASELINES["differential-entropy+ridge"]
    given = evaluate(function, weak, TWO_FOLDS, parameters={"smooth": "lds"})
    assert given.estimator == name


def test_one_that_does_not_smooth_has_no_mark(weak):
    result = evaluate("differential-entropy+ridge", weak, TWO_FOLDS, parameters={"smooth": None})
    assert result.estimator == "differential-entropy+ridge"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("differential-entropy+ridge", {"smooth": "ldss"}, r"\(nearest: lds\)"),
        ("differential-entropy+ridge+non-causal-lds", {"smooth": "average"}, "the name says 'lds'"),
        ("differential-entropy+ridge+non-causal-kalman", {}, "there is none of that name"),
        ("majority", {"smooth": "lds"}, "unexpected keyword argument 'smooth'"),
    ],
)
def test_smoothing_that_cannot_be_is_refused(weak, name, parameters, message):
    with pytest.raises(DataError, match=message):
        evaluate(name, weak, parameters=parameters)
