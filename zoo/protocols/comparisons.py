"""What a score, and a difference between scores, says of people who were not measured.

Intervals, the paired test and its effect size, Holm's correction, and what a comparison could have
shown. The sample is always of people (see ``metrics``), and of seeds where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_interval(
    values: npt.ArrayLike,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return the interval of a mean over people, and over pre-training seeds where there are some.

    Student's t; of what is bounded on the scale of log odds, where the interval cannot leave the
    bounds. Among the usual intervals it covers best with 3 to 40 people (docs/log.md).

    With K seeds of pre-training, people and seeds are both random and crossed: the variance of the
    mean is that of the people's means, plus that of the seeds' main effect over K, with
    Satterthwaite's (1946) degrees of freedom. So the interval is of new people and new seeds.

    Parameters
    ----------
    values : array-like of float, shape (n_subjects,) or (n_subjects, n_seeds)
        A score per subject, or one per subject and pre-training seed; NaN is left out.
    level : float
        Coverage.
    bounds : tuple of float, optional
        The least and the greatest that a value can be; ``BOUNDS`` has those of the metrics.

    Returns
    -------
    low, high : float
        NaN where there are fewer than two subjects, or all agree: then nothing tells how others
        would differ.

    Examples
    --------
    >>> from omfa.zoo import mean_interval
    >>> low, high = mean_interval([0.61, 0.55, 0.72, 0.66], bounds=(0, 1))
    >>> round(low, 2), round(high, 2)
    (0.51, 0.74)
    """
    known = _by_seed(values)
    return _interval(_known_mean(known), [known], level, bounds)


def _by_seed(values: npt.ArrayLike) -> Floats:
    """Return (n_subjects, n_seeds)."""
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array


def _known_mean(values: Floats) -> Floats:
    """Average (n_subjects, n_seeds) over the seeds that are known; NaN where none is."""
    n = np.isfinite(values).sum(axis=1)
    return np.where(n > 0, np.nansum(values, axis=1) / np.maximum(n, 1), np.nan)


def _interval(
    of_people: Floats,
    sides: Sequence[Floats],
    level: float,
    bounds: tuple[float, float] | None,
) -> tuple[float, float]:
    """Return the interval of the mean of ``of_people``, which was made of the ``sides``.

    Each side has a column for each seed; what seeds of a side share is an error of their own.
    """
    from scipy.special import expit, logit, stdtrit  # a third of a second, which loading need not

    of_people = of_people[np.isfinite(of_people)]
    n = len(of_people)
    if n < 2 or not np.ptp(of_people.round(_DIGITS)):
        return np.nan, np.nan
    mean = float(of_people.mean())
    variance = float(of_people.var(ddof=1)) / n
    below = variance**2 / (n - 1)
    for side in sides:
        more, own = _of_seeds(side)
        variance, below = variance + more, below + own
    half = float(stdtrit(variance**2 / below, (1 + level) / 2) * np.sqrt(variance))
    if bounds is None:
        return mean - half, mean + half
    low, width = bounds[0], bounds[1] - bounds[0]
    share = (mean - low) / width
    # The derivative of the log odds of a share s is 1 / (s (1 - s)).
    reach = half / width / (share * (1 - share))
    ends = expit(logit(share) + np.array([-reach, reach]))
    return float(low + width * ends[0]), float(low + width * ends[1])


_DIGITS = 12
"""Scores are equal to so many digits where they would be equal without rounding."""


def _of_seeds(side: Floats) -> tuple[float, float]:
    """Return the variance that seeds add to a mean, and its share of Satterthwaite's denominator.

    From the mean squares of the table of people by seeds; nothing where the seeds' is no greater
    than the residual's.
    """
    side = side[np.isfinite(side).all(axis=1)]
    n, k = side.shape
    if k < 2 or n < 2:
        return 0.0, 0.0
    seeds = side.mean(axis=0)
    residual = side - side.mean(axis=1, keepdims=True) - seeds + side.mean()
    of_residual = (residual**2).sum() / ((n - 1) * (k - 1)) / (n * k)
    of_seeds = n * seeds.var(ddof=1) / (n * k)
    if of_seeds <= of_residual:
        return 0.0, 0.0
    below = of_seeds**2 / (k - 1) + of_residual**2 / ((n - 1) * (k - 1))
    return float(of_seeds - of_residual), float(below)


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
        95 % interval of the difference, by ``mean_interval``.
    p : float
        Two-sided Wilcoxon signed-rank test; subjects without a difference are ranked and their
        ranks shared between the signs. It is over people, whatever the seeds. NaN with fewer than
        ``LEAST_SUBJECTS``.
    least_p : float
        The least p that so many subjects can give: that of differences all of one sign.
    effect : float
        Matched-pairs rank-biserial correlation (Kerby 2014): the share of the ranks that favours
        the first less the share that favours the second, -1 to 1.
    detectable : float
        The true difference that so many subjects would have shown, at p < .05 and before any
        correction, in 80 % of such studies, given the spread of the differences that was found.

    Examples
    --------
    >>> from omfa.zoo import Protocol, compare, evaluate, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> protocol = Protocol("within-subject", n_folds=3)
    >>> power = evaluate("relative-band-power+logistic", data, protocol)
    >>> found = compare(power, evaluate("majority", data, protocol))
    >>> found.metric, found.n_subjects
    ('balanced_accuracy', 2)
    """

    metric: str
    n_subjects: int
    difference: float
    interval: tuple[float, float]
    p: float
    least_p: float
    effect: float
    detectable: float


def paired_test(first: npt.ArrayLike, second: npt.ArrayLike, metric: str) -> Comparison:
    """Compare two models over the same subjects.

    Parameters
    ----------
    first, second : array-like of float, shape (n_subjects,) or (n_subjects, n_seeds)
        A score per subject, in the same order; of several pre-training seeds a column each, as many
        on each side as there are. The interval is of both, see ``mean_interval``.
    metric : str
        What is compared; goes into the answer.

    Returns
    -------
    Comparison
    """
    sides = [_by_seed(first), _by_seed(second)]
    difference = _known_mean(sides[0]) - _known_mean(sides[1])
    # Differences that are equal but for the last bits would have ranks of their own.
    known = difference[np.isfinite(difference)].round(_DIGITS)
    n = len(known)
    return Comparison(
        metric,
        n,
        float(known.mean()) if n else np.nan,
        _interval(difference, sides, 0.95, None),
        _signed_rank(known),
        least_p(n),
        _rank_biserial(known),
        detectable_difference(float(known.std(ddof=1)), n) if n > 1 else np.nan,
    )


LEAST_SUBJECTS = 6
"""With fewer no signed-rank test can have p < .05, so none is given."""


def least_p(n_subjects: int) -> float:
    """Return the least two-sided p of a signed-rank test of so many subjects."""
    return float(2.0 ** (1 - n_subjects)) if n_subjects else np.nan


def least_p_in_words(n_subjects: int) -> str:
    """Say what p so many subjects can give, or why there is none."""
    if n_subjects < LEAST_SUBJECTS:
        return (
            f"no p is given: with {n_subjects} people it could not be below "
            f"{least_p(n_subjects):.2g}"
        )
    return f"with {n_subjects} people no p can be below {least_p(n_subjects):.2g}"


def _signed_rank(difference: Floats) -> float:
    if len(difference) < LEAST_SUBJECTS:
        return np.nan
    if not difference.any():
        return 1.0
    from scipy.stats import wilcoxon  # costs a second that loading a result need not take

    return float(wilcoxon(difference, zero_method="zsplit").pvalue)


def _rank_biserial(difference: Floats) -> float:
    if not len(difference):
        return np.nan
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(difference))
    return float(np.sum(np.sign(difference) * ranks) / ranks.sum())


def detectable_difference(sd: float, n_subjects: int, *, power: float = 0.8) -> float:
    """Return the difference that a paired t-test at .05 would find with a given power.

    Wilcoxon's test needs about 5 % more people for normal differences (Hodges and Lehmann 1956).

    Parameters
    ----------
    sd : float
        Standard deviation of the paired differences.
    n_subjects : int
    power : float

    Returns
    -------
    float
        NaN with fewer than ``LEAST_SUBJECTS``.
    """
    if n_subjects < LEAST_SUBJECTS:
        return np.nan
    from scipy.optimize import brentq
    from scipy.special import nctdtr, stdtrit

    degrees = n_subjects - 1
    critical = stdtrit(degrees, 0.975)

    def short(shift: float) -> float:
        """Power of a noncentral t, less the power that is asked for."""
        # The other tail is below 1e-4 where the power is above .3.
        return float(1 - nctdtr(degrees, shift, critical) - power)

    # In standard errors: 6 people have 80 % at 3.5, and many 2.8.
    return float(brentq(short, 0.0, 10.0)) * sd / float(np.sqrt(n_subjects))


def holm(p: npt.ArrayLike) -> Floats:
    """Correct the p of a family of comparisons by Holm's (1979) step-down procedure.

    Parameters
    ----------
    p : array-like of float, shape (n_comparisons,)
        NaN where there was no test, which does not count and stays.

    Returns
    -------
    ndarray of float, shape (n_comparisons,)

    Examples
    --------
    >>> from omfa.zoo import holm
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN comes last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return corrected
