"""What a result is measured by.

All four scores come from a confusion matrix, so they are defined in one place and agree. Subjects,
not windows, are the sample: windows of one person are not independent, and an interval over them
would be many times too narrow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "kappa")

TRIAL_METRICS = tuple(f"trial_{metric}" for metric in METRICS)
"""The same of one decision per trial."""

BOUNDS = {
    name: (-1.0, 1.0) if name.endswith("kappa") else (0.0, 1.0)
    for name in (*METRICS, *TRIAL_METRICS)
}
"""The least and the greatest that a metric can be."""


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
