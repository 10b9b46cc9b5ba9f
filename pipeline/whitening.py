"""Spatial whitening: recordings of different heads, caps and days brought to one covariance.

Euclidean alignment [1]_: a recording is multiplied by the inverse square root of the mean
covariance of its own windows. All recordings then have the same mean covariance, the identity. No
label is needed, but the whole recording is, so that no part of the result is causal. The square
root is the symmetric one: of all matrices that whiten it changes the signals least, so each
channel stays near its electrode.

References
----------
.. [1] He & Wu. Transfer learning for brain-computer interfaces: a Euclidean space data alignment
   approach. IEEE Trans. Biomed. Eng. 67 (2020) 399-410.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError

UNIT = 10.0
"""Standard deviation of a whitened channel, where EEG has about 10 uV. Our choice: so all that
reads microvolts, such as the models' check of the unit, reads these."""

SECONDS = 4.0
"""Of a window. Each is centred, so that drifts slower than it do not count."""

SHRINK = 1e-3
"""Share of the mean variance that is added to each channel's: an average reference or an
interpolated channel leaves directions without signal, which would be divided by nothing."""

LEAST = 10
"""Samples for each channel that a covariance is measured on, at least."""

_BLOCK = 1 << 16
"""Samples that are multiplied together, so that no second copy of a recording is in memory."""


def whiten(
    pieces: Sequence[npt.NDArray[np.float32]],
    bad: npt.NDArray[np.bool_],
    *,
    sfreq: float,
    where: str,
) -> None:
    """Whiten the channels of a recording that are not bad, in place.

    Parameters
    ----------
    pieces : sequence of ndarray, each of shape (n_chans, n_times)
        All contiguous pieces of the recording, filtered; NaN where a sample is missing. Where a
        channel is missing for a while, the others are whitened as if it were 0.
    bad : ndarray of bool, shape (n_chans,)
        Channels that stay out: they are scaled to the same deviation, each by itself. So are
        those without a sample.
    sfreq : float
        Hz.
    where : str
        For the error.

    Raises
    ------
    DataError
        If the channels have too little signal in common.
    """
    bad = bad | np.array(
        [not any(np.isfinite(p[i]).any() for p in pieces) for i in range(len(bad))]
    )
    good = np.flatnonzero(~bad)
    if len(good):
        matrix = _inverse_root(_covariance(pieces, good, round(SECONDS * sfreq), where))
        for piece in pieces:
            for start in range(0, piece.shape[1], _BLOCK):
                block = piece[:, start : start + _BLOCK]
                rows = block[good]
                missing = np.isnan(rows)
                rows[missing] = 0
                rows = matrix @ rows
                rows[missing] = np.nan
                block[good] = rows
    for i in np.flatnonzero(bad):
        samples = np.concatenate([piece[i] for piece in pieces])
        deviation = float(np.nanstd(samples)) if np.isfinite(samples).any() else 0.0
        if deviation > 0:
            for piece in pieces:
                piece[i] *= UNIT / deviation


def _covariance(
    pieces: Sequence[npt.NDArray[np.float32]], good: npt.NDArray[np.intp], n: int, where: str
) -> npt.NDArray[np.float64]:
    """Average the covariances of windows over what all channels have."""
    total, count = np.zeros((len(good), len(good))), 0
    for piece in pieces:
        # A piece that is shorter than a window is one, and what is left at the end is another.
        for start in range(0, piece.shape[1], n):
            window = piece[good, start : start + n].astype(np.float64)
            window = window[:, np.isfinite(window).all(axis=0)]
            if window.shape[1] < 2:
                continue
            window -= window.mean(axis=1, keepdims=True)
            total += window @ window.T
            count += window.shape[1]
    if count < LEAST * len(good):
        raise DataError(
            f"Whitening {where}",
            f"its {len(good)} good channels have {count} samples in common, and a covariance "
            f"takes {LEAST * len(good)}",
            "Ingest without --whiten, or leave out (--exclude) the channels that lack most",
        )
    return total / count


def _inverse_root(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the symmetric matrix that whitens, for a deviation of ``UNIT``."""
    n = len(covariance)
    level = np.trace(covariance) / n
    if level == 0:  # flat all along
        return np.eye(n, dtype=np.float32)
    values, vectors = np.linalg.eigh(covariance + SHRINK * level * np.eye(n))
    return np.asarray(UNIT * (vectors / np.sqrt(values)) @ vectors.T, np.float32)
