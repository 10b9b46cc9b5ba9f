"""What probabilities are worth, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as reference

from omfa.zoo.protocols.metrics import (
    PROBABILITY_METRICS,
    TEMPERATURES,
    fit_temperature,
    probability_scores,
    softmax,
)


def drawn(n, n_classes, seed=0, scale=1.5):
    """Logits, and classes that are drawn by their softmax."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((n, n_classes))
    y = (rng.uniform(size=(n, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1)
    return logits, np.minimum(y, n_classes - 1)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_others(n_classes):
    logits, y = drawn(400, n_classes)
    p = softmax(2 * logits)
    found = probability_scores(y, p)
    assert set(found) == set(PROBABILITY_METRICS)
    assert found["log_loss"] == pytest.approx(reference.log_loss(y, p))
    truth = np.eye(n_classes)[y]
    assert found["brier"] == pytest.approx(np.mean(np.sum((p - truth) ** 2, axis=1)))
    if n_classes == 2:
        assert found["auc"] == pytest.approx(reference.roc_auc_score(y, p[:, 1]))
    else:
        assert np.isnan(found["auc"])
    by_hand = 0.0
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            by_hand += inside.mean() * gap
    assert found["calibration_error"] == pytest.approx(by_hand)


def test_one_true_class_has_no_area_and_no_probability_is_infinitely_wrong():
    found = probability_scores(np.zeros(3, int), np.array([[0.0, 1.0], [1, 0], [1, 0]]))
    assert np.isnan(found["auc"])
    assert found["log_loss"] == pytest.approx(-np.log(1e-6) / 3)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_a_temperature_is_found_again_and_changes_no_decision(true):
    logits, y = drawn(20_000, 3)
    found = fit_temperature(true * logits, y)
    assert found == pytest.approx(true, rel=0.05)
    before = probability_scores(y, softmax(true * logits))
    after = probability_scores(y, softmax(true * logits / found))
    assert after["log_loss"] <= before["log_loss"] + 1e-9
    assert after["calibration_error"] < 0.02


def test_a_temperature_has_bounds_and_rare_classes_count_alike():
    logits = np.array([[4.0, -4.0], [-4, 4]])
    assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(TEMPERATURES[0], rel=1e-2)
    assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(TEMPERATURES[1], rel=1e-2)
    more, y = drawn(4_000, 2)
    twice = np.flatnonzero(y == 1).repeat(4)
    rows = np.concatenate([np.arange(len(y)), twice])
    assert fit_temperature(more[rows], y[rows]) == pytest.approx(fit_temperature(more, y), rel=1e-3)
