"""Which interval covers the mean over 3 to 40 people as often as it says?

People are drawn from populations whose mean is known, and each method gives its 95 % interval of
the mean; printed is how often the truth lies in it, and the median width. A sample in which all
people agree gives no interval and counts as one that misses. A second table is of the interval over
people and pre-training seeds.

    python tests/benchmarks/bench_intervals.py
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from omfa.zoo.protocols.comparisons import mean_interval

Floats = npt.NDArray[np.float64]

SIZES = (3, 5, 10, 17, 32, 40)
LEVEL = 0.95
BATCH = 50
"""Samples that are resampled at once, to bound the memory."""


def _shares(
    rng: np.random.Generator, shape: tuple[int, int], trials: int, a: float, b: float
) -> Floats:
    """Draw shares of ``trials`` that are right, of people whose chances differ: they tie."""
    return rng.binomial(trials, rng.beta(a, b, shape)) / trials


POPULATIONS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], Floats], float]] = {
    "normal": (lambda rng, shape: rng.normal(0.65, 0.1, shape), 0.65),
    "skewed": (lambda rng, shape: 0.45 + 0.5 * rng.beta(1, 5, shape), 0.45 + 0.5 / 6),
    "near 1": (lambda rng, shape: rng.beta(12, 0.8, shape), 12 / 12.8),
    "ties": (lambda rng, shape: _shares(rng, shape, 8, 7, 3), 0.7),
    "ties at 1": (lambda rng, shape: _shares(rng, shape, 10, 14, 1), 14 / 15),
}
"""How scores of people are drawn, and their mean."""


def percentile(x: Floats, rng: np.random.Generator, n_resamples: int) -> Floats:
    return _resampled(x, rng, n_resamples, "percentile")


def bca(x: Floats, rng: np.random.Generator, n_resamples: int) -> Floats:
    """Efron (1987)."""
    return _resampled(x, rng, n_resamples, "BCa")


def _resampled(x: Floats, rng: np.random.Generator, n_resamples: int, method: str) -> Floats:
    found = stats.bootstrap(
        (x,), np.mean, axis=1, n_resamples=n_resamples, method=method, rng=rng,
        confidence_level=LEVEL, vectorized=True,
    ).confidence_interval  # fmt: skip
    return np.stack([found.low, found.high], axis=1)


def studentised(x: Floats, rng: np.random.Generator, n_resamples: int) -> Floats:
    """The bootstrap of t; resamples of one person alone have no t and are left out."""
    n = x.shape[1]
    drawn = np.take_along_axis(x[:, None], rng.integers(n, size=(len(x), n_resamples, n)), axis=2)
    mean, error = x.mean(1), x.std(1, ddof=1) / np.sqrt(n)
    errors = drawn.std(2, ddof=1) / np.sqrt(n)
    errors[errors < 1e-12] = np.nan
    t = (drawn.mean(2) - mean[:, None]) / errors
    low, high = np.nanquantile(t, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return np.stack([mean - high * error, mean - low * error], axis=1)


def student(x: Floats, rng: np.random.Generator, n_resamples: int) -> Floats:
    """Student's t, cut at 0 and 1."""
    found = [mean_interval(row, level=LEVEL) for row in x]
    return np.clip(found, 0, 1)


def logit(x: Floats, rng: np.random.Generator, n_resamples: int) -> Floats:
    """Student's t on the scale of log odds, which ends at 0 and 1."""
    return np.array([mean_interval(row, level=LEVEL, bounds=(0, 1)) for row in x])


METHODS = {
    "percentile": percentile,
    "BCa": bca,
    "studentised": studentised,
    "t": student,
    "t of log odds": logit,
}


def coverage(
    n: int, population: str, method: str, samples: int, n_resamples: int
) -> tuple[float, float]:
    """Return how often a method's interval holds the mean, and its median width."""
    draw, mean = POPULATIONS[population]
    rng = np.random.default_rng(n)
    found = []
    for start in range(0, samples, BATCH):
        x = draw(rng, (min(BATCH, samples - start), n))
        agree = np.ptp(x, axis=1) == 0
        own = METHODS[method](x, np.random.default_rng(start), n_resamples)
        own[agree] = np.nan
        found.append(own)
    low, high = np.concatenate(found).T
    return float(np.mean((low <= mean) & (mean <= high))), float(np.nanmedian(high - low))


def over_seeds(n: int, seeds: int, spread: float, samples: int) -> tuple[float, float]:
    """Return the coverage of the interval of both, and of people alone (sd .1, noise .05)."""
    rng = np.random.default_rng([n, seeds])
    hits = np.zeros(2)
    for _ in range(samples):
        scores = 0.65 + rng.normal(0, 0.1, (n, 1)) + rng.normal(0, spread, (1, seeds))
        scores += rng.normal(0, 0.05, (n, seeds))
        for k, (low, high) in enumerate((mean_interval(scores), mean_interval(scores.mean(1)))):
            hits[k] += low <= 0.65 <= high
    return float(hits[0] / samples), float(hits[1] / samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="drawn of each population")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--method", action="append", choices=METHODS)
    args = parser.parse_args()
    warnings.simplefilter("ignore", stats.DegenerateDataWarning)
    warnings.simplefilter("ignore", RuntimeWarning)  # samples that agree, which count as missed
    print(f"coverage of 95 % (median width); {args.samples} samples, {args.resamples} resamples")
    for method in args.method or METHODS:
        print(f"\n{method:>13}" + "".join(f"{name:>16}" for name in POPULATIONS), flush=True)
        for n in SIZES:
            cells = [coverage(n, p, method, args.samples, args.resamples) for p in POPULATIONS]
            print(
                f"{n:13}" + "".join(f"{hit:9.3f} ({wide:.2f})" for hit, wide in cells), flush=True
            )
    print("\npeople and pre-training seeds: both in the interval, people alone")
    for n in (10, 17, 40):
        for seeds in (2, 3, 5):
            for spread in (0.0, 0.01, 0.03):
                both, alone = over_seeds(n, seeds, spread, args.samples)
                print(f"{n:3} people {seeds} seeds of sd {spread}: {both:.3f} {alone:.3f}")


if __name__ == "__main__":
    main()
