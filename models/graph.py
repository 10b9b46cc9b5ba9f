"""Electrodes as a graph: where each one is, how far apart they are, and features of both.

A channel is identified by its place on the head, not by an index: an electrode outside any
vocabulary works as long as it has a position, and a model trained on one montage runs on another.
Positions are taken from ``chs_info`` (MNE's head frame, metres), else looked up by name in MNE's
10-05 montage, else unknown (NaN), which every function below accepts.

Places become sines and cosines of several wavelengths, as positions do in transformers (Vaswani et
al. 2017, arXiv 1706.03762); distances become Gaussian bumps, as in SchNet (Schuett et al. 2017,
arXiv 1706.08566), or the weights of a Gaussian graph.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Older 10-20 names, and the two channels of SEED's cap that no MNE montage has: they sit below and
# behind PO7/PO8, and take the places that MNE's own colin27_postfixed gives to PO9 and PO10.
# A test compares this spelling with that of the pipeline's schema, which must not be imported here.
ALIASES = {"t3": "t7", "t4": "t8", "t5": "p7", "t6": "p8", "cb1": "po9", "cb2": "po10"}

# What recorders add to a name: "EEG Fp1-Ref", "Fc5.", "EEG F3-LE".
_PREFIX = re.compile(r"^EEG[\s_:-]+", re.IGNORECASE)
_SUFFIX = re.compile(r"[\s_-]+(?:REF|LE|AVG?|AR|CAR)$", re.IGNORECASE)

# BioSemi's ABC caps number electrodes A1-A32, B1-B32 ...: their A1 is no ear.
_ABC = re.compile(r"^[a-h]([3-9]|[12]\d|3[0-2])$")

# Waves of 0.4, 0.2, 0.1 and 0.05 m: a head is 0.2 m across, 10-20 neighbours 0.03 to 0.06.
LONGEST_WAVE, N_WAVES = 0.4, 4
N_POSITION = 2 * 3 * N_WAVES + 1
BUMP, N_BUMPS = 0.03, 8  # distance bumps at 0, 3, ... 21 cm, as wide as they are apart, in metres
N_DISTANCE = N_BUMPS + 1
UNKNOWN_DISTANCE = 0.1  # metres, between two electrodes of which one has no position
# Metres, the reach of the distance graph: of what docs/log.md compares, the best neighbours to
# take a channel against.
NEIGHBOURHOOD = 0.05


@cache
def montage_positions() -> dict[str, np.ndarray]:
    """Return the place of every 10-05 name, in lower case: (3,), metres in MNE's head frame.

    And of O9 and O10, which 10-05 lacks.
    """
    import mne

    def montage(new: str, old: str) -> Any:
        try:
            return mne.channels.make_standard_montage(new)
        except ValueError:  # before MNE 1.13 it had the older name
            return mne.channels.make_standard_montage(old)

    # The last counts: O9 and O10 alone are taken from the smaller one.
    montages = montage("colin27_1020", "standard_1020"), montage("colin27_1005", "standard_1005")
    return {
        ch["ch_name"].lower(): ch["loc"][:3].copy()
        for one in montages
        for ch in _placed(one)["chs"]
    }


def _placed(montage: Any) -> Any:
    """Return an ``mne.Info`` of a montage's channels, at their places in the head frame."""
    import mne

    info = mne.create_info(montage.ch_names, 100.0, "eeg")
    with warnings.catch_warnings():  # the montage holds T3 and T7 at one place, and MNE says so
        warnings.simplefilter("ignore", RuntimeWarning)
        info.set_montage(montage)
    return info


def bare_name(name: str) -> str:
    """Return an electrode's name in lower case, without what recorders add to it.

    Parameters
    ----------
    name : str
        As a file has it: ``"EEG Fp1-REF"``.
    """
    bare = _SUFFIX.sub("", _PREFIX.sub("", name.strip())).strip(" .").lower()
    return ALIASES.get(bare, bare)


def _known(position: np.ndarray) -> bool:
    """Return whether a position is one: MNE writes NaN or the origin where there is none."""
    return bool(np.isfinite(position).all() and position.any())


def electrode_positions(chs_info: Sequence[dict[str, Any]]) -> np.ndarray:
    """Find where electrodes are.

    Parameters
    ----------
    chs_info : sequence of dict
        As ``mne.Info["chs"]``: ``loc`` (its first three values, metres, head frame) is used where
        it holds a place, else ``ch_name`` is looked up in MNE's 10-05 montage, whatever its case
        and what recorders add to it (``bare_name``). Beside names such as A3 or B7, of BioSemi's
        ABC caps, none is looked up: their A1 is no ear.

    Returns
    -------
    ndarray
        (n_chans, 3), metres in MNE's head frame; NaN where neither gives a place.
    """
    positions = np.full((len(chs_info), 3), np.nan)
    names = [bare_name(str(ch.get("ch_name", ""))) for ch in chs_info]
    numbered = any(_ABC.match(name) and name not in montage_positions() for name in names)
    for row, ch, name in zip(positions, chs_info, names, strict=True):
        loc = ch.get("loc")
        place = np.full(3, np.nan) if loc is None else np.asarray(loc, float)[:3]
        if not _known(place) and not numbered:
            place = montage_positions().get(name, np.full(3, np.nan))
        row[:] = place
    return positions


def position_features(
    positions: Tensor, longest: float = LONGEST_WAVE, n_waves: int = N_WAVES
) -> Tensor:
    """Turn places into sines and cosines along the three axes.

    Parameters
    ----------
    positions : Tensor
        (..., 3), metres, NaN where unknown.
    longest : float
        The longest wave, in metres.
    n_waves : int
        Number of waves, each half as long as the one before.

    Returns
    -------
    Tensor
        (..., 6 * n_waves + 1): sine and cosine of every coordinate at every wavelength, zero for an
        unknown place; last a 1 for an unknown place, else 0, from which a linear layer learns a
        vector for "unknown".
    """
    known = torch.isfinite(positions).all(-1, keepdim=True)
    place = torch.nan_to_num(positions)
    octave = torch.arange(n_waves, dtype=place.dtype, device=place.device)
    angle = (place[..., None] * (2 * math.pi / longest) * 2**octave).flatten(-2)
    features = torch.cat((angle.sin(), angle.cos()), -1) * known.to(place.dtype)
    return torch.cat((features, (~known).to(place.dtype)), -1)


def pair_distances(positions: Tensor, unknown: float = UNKNOWN_DISTANCE) -> tuple[Tensor, Tensor]:
    """Measure the distance between all pairs of electrodes.

    Parameters
    ----------
    positions : Tensor
        (..., n, 3), metres, NaN where unknown.
    unknown : float
        What stands for an unknown distance, in metres.

    Returns
    -------
    distance : Tensor
        (..., n, n), metres; 0 on the diagonal, also for unknown places.
    known : Tensor
        (..., n, n) bool, False where one of the two places is unknown.
    """
    place = torch.nan_to_num(positions)
    square = ((place[..., :, None, :] - place[..., None, :, :]) ** 2).sum(-1)
    finite = torch.isfinite(positions).all(-1)
    same = torch.eye(positions.shape[-2], dtype=torch.bool, device=positions.device)
    known = (finite[..., :, None] & finite[..., None, :]) | same
    return torch.where(known, square.sqrt(), torch.full_like(square, unknown)), known


def distance_features(positions: Tensor, bump: float = BUMP, n_bumps: int = N_BUMPS) -> Tensor:
    """Turn the distance of every pair into Gaussian bumps.

    Parameters
    ----------
    positions : Tensor
        (..., n, 3), metres, NaN where unknown.
    bump : float
        Width of the bumps, and the step between their centres, in metres.
    n_bumps : int
        Number of bumps; the first is centred at 0.

    Returns
    -------
    Tensor
        (..., n, n, n_bumps + 1): the bumps, zero for unknown pairs; last a 1 for these, else 0.
    """
    distance, known = pair_distances(positions)
    rank = torch.arange(n_bumps, dtype=distance.dtype, device=distance.device)
    bumps = torch.exp(-0.5 * (distance[..., None] / bump - rank) ** 2)
    bumps = bumps * known[..., None].to(distance.dtype)
    return torch.cat((bumps, (~known)[..., None].to(distance.dtype)), -1)


def distance_graph(positions: Tensor, reach: float = NEIGHBOURHOOD) -> Tensor:
    r"""Weigh every pair by its distance, :math:`A_{ij} = \exp(-d_{ij}^2 / 2\lambda^2)`.

    Parameters
    ----------
    positions : Tensor
        (..., n, 3), metres, NaN where unknown.
    reach : float
        :math:`\lambda`, metres.

    Returns
    -------
    Tensor
        (..., n, n), between 0 and 1, and 1 on the diagonal.
    """
    distance, _ = pair_distances(positions)
    return torch.exp(-0.5 * (distance / reach) ** 2)
