"""Features smoothed over the windows of a trial.

The state that a trial brings about changes more slowly than what one window shows of it. The
authors of SEED therefore smooth features along a trial before they classify, by a moving average or
by a linear dynamical system (Shi, Lu 2010, EMBC 6587-6590; Duan, Zhu, Lu 2013, NER 81-84). Either
uses the windows that come after one, so a class is known when the trial is over: the names of
models that do it say ``non-causal``.

Smoothing stays within one trial and one side of a fold. It is applied to features that were
computed once, and each feature is smoothed by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import solveh_banded
from scipy.ndimage import uniform_filter1d

from omfa.zoo.estimators.settings import Smooth
from omfa.zoo.protocols.protocol import TRIAL, codes

AVERAGED = 5
"""Windows of the moving average: two before, the window itself, two after; our choice."""

STATE_NOISE, FIRST_STATE = 1e-4, 1e-2
"""Variance of a step of the state, and of the first state, as shares of the variance of a window's
own noise. Shi and Lu fit them; SEED's smoothing goes round in code with these, which are TorchEEG's
defaults (``after_hook_linear_dynamical_system``) as well."""


def smoothed(
    values: npt.NDArray[np.floating], metadata: pd.DataFrame, how: Smooth
) -> npt.NDArray[np.float64]:
    """Smooth features over the windows of each trial, in the order of time.

    Parameters
    ----------
    values : ndarray of float, shape (n_windows, n_features)
        Finite; in any order.
    metadata : pandas.DataFrame
        A row per window, as ``Dataset`` has it.
    how : {"average", "lds"}
        The mean of up to ``AVERAGED`` windows around each; at the ends of a trial those there are.
        Or the expected states, given all windows of the trial, of the system z_t = z_(t-1) + v_t,
        x_t = z_t + w_t, which begins about the trial's mean.

    Returns
    -------
    ndarray of float64, shape (n_windows, n_features)
    """
    smooth = {"average": _average, "lds": _states}[how]
    trial = codes(metadata, TRIAL)
    order = np.lexsort((metadata["i_start_in_trial"].to_numpy(), trial))
    ends = np.flatnonzero(np.diff(trial[order])) + 1
    out = np.empty(values.shape)
    for rows in np.split(order, ends):
        out[rows] = smooth(values[rows].astype(np.float64))
    return out


def _average(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    def total(of: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        summed: npt.NDArray[np.float64] = uniform_filter1d(of, AVERAGED, axis=0, mode="constant")
        return summed

    return total(x) / total(np.ones((len(x), 1)))


def _states(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what Kalman's filter and the smoother of Rauch, Tung and Striebel would.

    States and noise are Gaussian, so the expected states are the most likely ones. These minimise
    sum (x_t - z_t)^2 + sum (z_t - z_(t-1))^2 / STATE_NOISE + (z_1 - mean)^2 / FIRST_STATE: a system
    of equations with three diagonals.
    """
    if len(x) == 1:  # scipy asks for two; the state is the window, about which it begins
        return x
    diagonals = np.zeros((2, len(x)))  # above the main one, and the main one
    diagonals[0, 1:] = -1 / STATE_NOISE
    diagonals[1] = 1 - diagonals[0]
    diagonals[1, :-1] -= diagonals[0, 1:]
    diagonals[1, 0] += 1 / FIRST_STATE
    right = x.copy()
    right[:1] += x.mean(axis=0) / FIRST_STATE
    states: npt.NDArray[np.float64] = solveh_banded(diagonals, right)
    return states
