"""What a result is measured by.

Four scores come from a confusion matrix, so they are defined in one place and agree; four more tell
of probabilities, where a model gives them. Subjects, not windows, are the sample: windows of one
person are not independent, and an interval over them would be many times too narrow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "kappa")

TRIAL_METRICS = tuple(f"trial_{metric}" for metric in METRICS)
"""The same of one decision per trial."""

BOUNDS = {
    name: (-1.0, 1.0) if name.endswith("kappa") else (0.0, 1.0)
    for name in (*METRICS, *TRIAL_METRICS)
}
"""The least and the greatest that a metric can be."""

PROBABILITY_METRICS = ("log_loss", "brier", "calibration_error", "auc")
"""Of probabilities; less is better, but for the area under the curve. That is of two classes."""

PROBABILITY_BOUNDS = {"brier": (0.0, 2.0), "calibration_error": (0.0, 1.0), "auc": (0.0, 1.0)}
"""Their least and greatest; the log loss has no greatest."""

N_BINS = 15
"""Bins of the expected calibration error, as Guo et al. (2017) have them."""

LEAST_PROBABILITY = 1e-6
"""What a probability of 0 counts as in the log loss, which would else be infinite: results store
six decimals."""

TEMPERATURES = (0.25, 10.0)
"""Bounds of a temperature, our choice: on a few windows without an error the least loss is at 0."""


def confusion_matrix(
    y_true: npt.NDArray[np.integer], y_pred: npt.NDArray[np.integer], n_outputs: int
) -> npt.NDArray[np.int64]:
    """Count windows by true class (row) and predicted class (column).

    Parameters
    ----------
    y_true, y_pred : ndarray of int, shape (n_windows,)
        Classes 0 to ``n_outputs - 1``.
    n_outputs : int

    Returns
    -------
    ndarray of int, shape (n_outputs, n_outputs)
    """
    pairs = np.asarray(y_true) * n_outputs + np.asarray(y_pred)
    return np.bincount(pairs, minlength=n_outputs**2).reshape(n_outputs, n_outputs)


def scores(confusion: npt.NDArray[np.integer]) -> dict[str, float]:
    """Compute accuracy, balanced accuracy, macro-F1 and Cohen's kappa.

    Balanced accuracy is the mean recall over the classes that occur; macro-F1 is the mean over the
    classes that occur or are predicted. Kappa is NaN where one class is all there is and all that
    is predicted, for then agreement by chance is complete.

    Parameters
    ----------
    confusion : ndarray of int, shape (n_outputs, n_outputs)
        True classes in rows.

    Returns
    -------
    dict of str to float
        By the names in ``METRICS``.
    """
    n = confusion.sum()
    right, true, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs, seen = true > 0, true + predicted > 0
    accuracy = right.sum() / n
    by_chance = (true / n) @ (predicted / n)
    return {
        "balanced_accuracy": float(np.mean(right[occurs] / true[occurs])),
        "accuracy": float(accuracy),
        "macro_f1": float(np.mean(2 * right[seen] / (true + predicted)[seen])),
        "kappa": float((accuracy - by_chance) / (1 - by_chance)) if by_chance < 1 else np.nan,
    }


def vote(
    trial: npt.NDArray[np.integer], y_pred: npt.NDArray[np.integer], n_outputs: int
) -> npt.NDArray[np.int64]:
    """Decide each trial by the majority of its windows.

    Of classes with as many windows it is the one that was predicted first: to take the first in the
    order of classes would favour it.

    Parameters
    ----------
    trial : ndarray of int, shape (n_windows,)
        The number of each window's trial, 0 to n_trials - 1; a trial's windows are in their order.
    y_pred : ndarray of int, shape (n_windows,)
    n_outputs : int

    Returns
    -------
    ndarray of int, shape (n_trials,)
    """
    n = len(trial)
    votes = np.zeros((int(trial.max(initial=-1)) + 1, n_outputs))
    first = np.full(votes.shape, n)
    np.add.at(votes, (trial, y_pred), 1)
    np.minimum.at(first, (trial, y_pred), np.arange(n))
    # The place of the first is a fraction of a vote: it decides between equals alone.
    decided = (votes - first / (n + 1)).argmax(axis=1)
    return decided.astype(np.int64)


def softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the softmax along the last axis, shape (..., n_classes), as float64."""
    out: npt.NDArray[np.float64] = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    return out


def probability_scores(
    y_true: npt.NDArray[np.integer], p: npt.NDArray[np.floating]
) -> dict[str, float]:
    """Compute log loss, Brier score, expected calibration error and area under the ROC curve.

    The Brier score is the squared distance from the true class, summed over classes (Brier 1950):
    0 to 2. The calibration error is the mean distance between confidence and accuracy over
    ``N_BINS`` bins of the confidence of the likeliest class, weighted by the windows in each (Guo
    et al. 2017, ICML); of few windows it is too large, for chance alone leaves a distance in each
    bin. The area is that of two classes by ranks, ties counting half; NaN for more classes or one
    true class.

    Parameters
    ----------
    y_true : ndarray of int, shape (n_windows,)
    p : ndarray of float, shape (n_windows, n_classes)
        Rows of sum 1.

    Returns
    -------
    dict of str to float
        By the names in ``PROBABILITY_METRICS``.
    """
    p, rows = np.asarray(p, np.float64), np.arange(len(y_true))
    truth = np.zeros(p.shape)
    truth[rows, y_true] = 1
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y_true
    # Bins are open below, as there: of two classes .5 is in the one that ends there or holds it.
    which = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    apart = np.abs(np.bincount(which, right - confidence, N_BINS)).sum() / len(y_true)
    positive = y_true == 1
    n, others = int(positive.sum()), int((~positive).sum())
    auc = np.nan
    if p.shape[1] == 2 and n and others:
        ranks = scipy.stats.rankdata(p[:, 1])
        auc = (ranks[positive].sum() - n * (n + 1) / 2) / (n * others)
    return {
        "log_loss": float(-np.log(np.maximum(p[rows, y_true], LEAST_PROBABILITY)).mean()),
        "brier": float(((p - truth) ** 2).sum(axis=1).mean()),
        "calibration_error": float(apart),
        "auc": float(auc),
    }


def fit_temperature(logits: npt.ArrayLike, y_true: npt.NDArray[np.integer]) -> float:
    """Return the temperature by which logits are divided for the least log loss.

    Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural networks, ICML. It changes
    no decision. Classes count alike, as they do in training: the probabilities are those of classes
    that are equally common.

    Parameters
    ----------
    logits : array of float, shape (n_windows, n_classes)
        Of windows that the model did not learn from.
    y_true : ndarray of int, shape (n_windows,)

    Returns
    -------
    float
        Within ``TEMPERATURES``.
    """
    known = np.asarray(logits, np.float64)
    counts = np.bincount(y_true, minlength=known.shape[1])
    weight = 1.0 / counts[y_true]
    rows = np.arange(len(y_true))

    def loss(log_temperature: float) -> float:
        scaled = known / np.exp(log_temperature)
        right = scaled[rows, y_true] - scipy.special.logsumexp(scaled, axis=1)
        return float(-np.average(right, weights=weight))

    found = scipy.optimize.minimize_scalar(
        loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4}
    )
    return round(float(np.exp(found.x)), 4)
