"""What a result is measured by.

All four scores come from a confusion matrix, so they are defined in one place and agree. Subjects,
not windows, are the sample: windows of one person are not independent, and an interval over them
would be many times too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "kappa")


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


def bootstrap_interval(
    values: npt.ArrayLike, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return an interval of the mean, by the percentile bootstrap over subjects.

    Parameters
    ----------
    values : array-like of float, shape (n_subjects,)
        One per subject; NaN is left out.
    level : float
        Coverage.
    n_resamples, seed : int
        How often subjects are drawn with replacement, and the generator's seed.

    Returns
    -------
    low, high : float
        NaN where there are fewer than two subjects.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    means = known[rng.integers(len(known), size=(n_resamples, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """A paired comparison over subjects.

    Attributes
    ----------
    metric : str
    n_subjects : int
    difference : float
        Mean over subjects of the first result minus the second.
    interval : tuple of float
        Bootstrap interval of the difference.
    p : float
        Two-sided Wilcoxon signed-rank test; subjects without a difference are ranked and their
        ranks shared between the signs. NaN with fewer than two subjects.
    """

    metric: str
    n_subjects: int
    difference: float
    interval: tuple[float, float]
    p: float


def paired_test(
    first: npt.ArrayLike, second: npt.ArrayLike, metric: str, *, seed: int = 0
) -> Comparison:
    """Compare two models over the same subjects.

    Parameters
    ----------
    first, second : array-like of float, shape (n_subjects,)
        One score per subject, in the same order.
    metric : str
        What is compared; goes into the answer.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Comparison
    """
    from scipy.stats import wilcoxon  # costs a second that loading a result need not take

    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if n < 2:
        p = np.nan
    elif not difference.any():
        p = 1.0
    else:
        p = float(wilcoxon(difference, zero_method="zsplit").pvalue)
    return Comparison(
        metric,
        n,
        float(difference.mean()) if n else np.nan,
        bootstrap_interval(difference, seed=seed),
        p,
    )
