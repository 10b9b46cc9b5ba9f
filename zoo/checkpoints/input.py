"""Comparison of signals with the input that a checkpoint was trained on.

A wrong unit, a missing band or unknown channels still give numbers that look like results. So a
difference that the model can bridge raises a warning, and any other is refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.words import some

if TYPE_CHECKING:
    from torch import nn

    from omfa.pipeline.signal_path import SignalPath
    from omfa.zoo.checkpoints.cards import Card
    from omfa.zoo.protocols.windows import Dataset

UNITS = {"V": 1e6, "mV": 1e3, "uV": 1.0, "µV": 1.0, "μV": 1.0, "nV": 1e-3}
"""Microvolts per unit; micro is written as u, as the micro sign and as the Greek letter."""

LEAST_BAND = 0.5
"""Share of the card's band, in octaves, that signals must have. The half is our choice.

In octaves, because each rhythm of EEG spans about one; in Hz gamma alone would decide.
"""

LOWEST = 0.1
HIGHEST = 1000.0
"""Edges in Hz that stand for the open ends of a band; a number of octaves needs both."""

Band = Sequence[float | None]


class InputWarning(DataWarning):
    """Signals differ from those of a checkpoint's training, but the model can read them.

    Examples
    --------
    >>> import warnings
    >>> from omfa.zoo import InputWarning, load
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     model = load("omfa-tiny-openeeg", n_outputs=2, sfreq=256.0)
    >>> any(issubclass(one.category, InputWarning) for one in said)
    True
    """


def check_signal(
    card: Card,
    *,
    sfreq: float | None = None,
    chs_info: Sequence[dict[str, Any]] | None = None,
    unit: str | None = None,
    band: Band | None = None,
) -> None:
    """Compare signals with the input that a card describes; what is None is not compared.

    Parameters
    ----------
    card : Card
        The checkpoint's card.
    sfreq : float, optional
        Sampling rate in Hz.
    chs_info : sequence of dict, optional
        Channels as OMFA takes them: ``ch_name``, and ``loc`` (m) where it is known.
    unit : str, optional
        One of ``UNITS``.
    band : (float or None, float or None), optional
        Edges in Hz that the signals were filtered to, None for an open one.

    Raises
    ------
    DataError
        If the model cannot read such signals.

    Warns
    -----
    InputWarning
        If they differ and the model can read them.
    """
    _warn(
        card,
        [
            *_about_rate(card, sfreq),
            *_about_channels(card, chs_info),
            *_about_unit(card, unit),
            *_about_band(card, band),
        ],
    )


def _warn(card: Card, found: Sequence[str]) -> None:
    if found:
        # 4: the line that called `load`, or the one that called `check_input`'s caller.
        warnings.warn(f"Checkpoint {card.name}: {'; '.join(found)}.", InputWarning, stacklevel=4)


def check_input(card: Card, dataset: Dataset) -> None:
    """Compare a dataset with the input that a card describes.

    Parameters
    ----------
    card : Card
        The checkpoint's card.
    dataset : Dataset
        A ``StoreDataset``, or any other dataset, whose band is compared if its ``paths`` say it.
        The band is what the source and the store leave together.

    Raises
    ------
    DataError
        If the model cannot read it.

    Warns
    -----
    InputWarning
        If it differs and the model can read it.

    Examples
    --------
    >>> from omfa.zoo import check_input, load_card, open_dataset
    >>> check_input(load_card("omfa-tiny-openeeg"), open_dataset("dreamer.zarr", 2.0))
    """
    from omfa.pipeline.channels import UCS
    from omfa.zoo.protocols.windows import as_dataset

    if str(card.ucs_version) != UCS.version:
        raise _refused(
            card,
            f"it names channels by version {card.ucs_version} of the channel schema, this omfa by "
            f"version {UCS.version}",
            "Use the omfa that made it, or another checkpoint",
        )
    dataset = as_dataset(dataset)
    chs_info = dataset.chs_info or [{"ch_name": name} for name in dataset.channels]
    bands = sorted({path.band for path in dataset.paths})
    transitions = {path.transition for path in dataset.paths}
    _warn(
        card,
        [
            *_about_rate(card, dataset.sfreq),
            *_about_channels(card, chs_info),
            *(text for band in bands for text in _about_band(card, band)),
            *(text for transition in transitions for text in _about_transition(card, transition)),
            *_about_whitening(card, {path.whiten for path in dataset.paths}),
        ],
    )


def input_path(paths: Sequence[SignalPath]) -> dict[str, Any]:
    """Return what a card says of the way of its signals: the band that all hold, and its fall.

    Parameters
    ----------
    paths : sequence of SignalPath
        Of a dataset; at least one.

    Returns
    -------
    dict
        ``band``, two edges in Hz; ``transition`` in Hz and ``notch``, a list of Hz, if all have
        the same; ``whiten``, true where all are whitened; where they differ, ``bands`` and
        ``transitions``, all of them.
    """
    band = [max(path.band[0] for path in paths), min(path.band[1] for path in paths)]
    found: dict[str, Any] = {"band": [band[0] or None, band[1]]}
    falls = {path.transition for path in paths}
    bands = sorted({path.band for path in paths})
    if len(bands) > 1:
        found["bands"] = [[low or None, high] for low, high in bands]
    if len(falls) > 1:
        found["transitions"] = sorted(falls, key=lambda hz: (hz is not None, hz or 0.0))
    elif None not in falls:
        found["transition"] = falls.pop()
    notches = {path.notch for path in paths} - {()}
    if len(notches) == 1 and all(path.notch for path in paths):
        found["notch"] = list(notches.pop())
    if paths and all(path.whiten for path in paths):
        found["whiten"] = True
    return found


def scale_input(model: nn.Module, card: Card, unit: str | None) -> None:
    """Make a model multiply its input by the factor from ``unit`` to the unit that it expects.

    Parameters
    ----------
    model : nn.Module
        Gets a forward hook, which is not saved with its weights.
    card : Card
        Its ``input`` has the expected unit and the ``scale`` used in training.
    unit : str or None
        Unit of the signals to come, one of ``UNITS``; None for the card's.
    """
    factor = float(card.input.get("scale") or 1.0)
    if unit is not None:
        factor *= UNITS[unit] / UNITS[card.input.get("unit") or "uV"]
    if factor != 1.0:
        model.register_forward_pre_hook(partial(_scaled, factor), with_kwargs=True)


def _scaled(
    factor: float, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inputs:
        return (inputs[0] * factor, *inputs[1:]), named
    return inputs, {**named, "x": named["x"] * factor}


# ------------------------------------------------------------------------- one property at a time


def _refused(card: Card, found: str, action: str) -> DataError:
    return DataError(f"Using the checkpoint {card.name}", found, action)


def _about_rate(card: Card, sfreq: float | None) -> list[str]:
    expected = card.input.get("sfreq")
    if sfreq is None:
        return []
    if not sfreq > 0:
        raise _refused(card, f"sfreq is {sfreq!r}", "Give the sampling rate in Hz")
    # isclose: a rate that was computed from a ratio may miss by its last digit.
    if expected is None or math.isclose(sfreq, expected):
        return []
    settings = card.recipe.get("settings", {})
    if isinstance(settings, dict) and settings.get("resampling") == "off":
        raise _refused(
            card,
            f"signals are sampled at {sfreq:g} Hz, and it reads {expected:g} Hz without resampling",
            f"Resample them to {expected:g} Hz, or use a checkpoint with resampling",
        )
    text = f"signals of {sfreq:g} Hz are resampled by the model, which learned from {expected:g} Hz"
    edges = card.input.get("band") or [None, None]
    if edges[1] is not None and edges[1] > sfreq / 2:
        text += f", and hold nothing of its band above {sfreq / 2:g} Hz"
    return [text]


def _about_channels(card: Card, chs_info: Sequence[dict[str, Any]] | None) -> list[str]:
    import numpy as np

    from omfa.models.graph import electrode_positions
    from omfa.pipeline.channels import UCS

    if chs_info is None:
        return []
    names = [str(ch.get("ch_name")) for ch in chs_info]
    if not names:
        raise _refused(card, "the signals have no channel", "Give at least one")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _refused(card, f"channels come twice ({some(twice, 4)})", "Name each once")
    known = np.isfinite(electrode_positions(chs_info)).all(axis=1)
    lost = [name for name, here in zip(names, known, strict=True) if not here]
    found = []
    if lost:
        found.append(
            f"the place of {some(lost, 4)} is not known: only the signal distinguishes them"
        )

    def canonical(name: str) -> str:
        return UCS.name(name) if name in UCS else name

    learned = set(map(canonical, card.input.get("channels") or []))
    new = [name for name in names if name not in lost and canonical(name) not in learned]
    if learned and new:
        found.append(f"it did not learn from the channels {some(new, 4)}")
    return found


def _about_unit(card: Card, unit: str | None) -> list[str]:
    expected = card.input.get("unit") or "uV"
    for one in (unit, expected):
        if one is not None and one not in UNITS:
            raise _refused(card, f"the unit {one!r} is not known", f"Use one of {', '.join(UNITS)}")
    if unit is None or UNITS[unit] == UNITS[expected]:
        return []
    factor = UNITS[unit] / UNITS[expected]
    return [
        f"signals in {unit} are multiplied by {factor:g} before the model, which reads {expected} "
        "(not saved with it)"
    ]


def _about_band(card: Card, band: Band | None) -> list[str]:
    expected = card.input.get("band")
    if band is None or expected is None:
        return []
    if len(band) != 2 or (None not in band and not band[0] < band[1]):  # type: ignore[operator]
        raise _refused(card, f"band is {band!r}", "Give its two edges in Hz, None for an open one")
    learned = card.input.get("bands") or [expected]
    has = _octaves(band)
    if has in map(_octaves, learned):
        return []
    from omfa.models.front_end import BANDS
    from omfa.pipeline.signal_path import lacking

    def is_held(needs: tuple[float, float]) -> bool:
        common = max(0.0, min(has[1], needs[1]) - max(has[0], needs[0]))
        return common >= LEAST_BAND * (needs[1] - needs[0])

    each = " and from ".join(map(_edges, learned))
    text = f"signals are of {_edges(band)}, and it learned from {each}"
    if not any(map(is_held, map(_octaves, learned))):
        raise _refused(card, text, f"Filter to {_edges(expected)}, from unfiltered recordings")
    # What some of its signals lacked, it learned to do without.
    known = [lack for one in learned for lack in lacking(one, BANDS)]
    if lost := [each for each in lacking(band, BANDS) if each not in known]:
        text += f", so that of its band powers they hold {', '.join(lost)}"
    return [text]


def _about_transition(card: Card, transition: float | None) -> list[str]:
    falls = card.input.get("transitions") or [card.input.get("transition")]
    if transition in falls or (card.input.get("band") or [None, None])[1] is None:
        return []
    has, *learned = (
        "as MNE's does, within a quarter of the edge" if hz is None else f"within {hz:g} Hz"
        for hz in (transition, *falls)
    )
    fell = " or ".join(learned)
    return [f"above the band signals fall {has}, and those that it learned from fell {fell}"]


def _about_whitening(card: Card, whitened: set[bool]) -> list[str]:
    learned = bool(card.input.get("whiten"))
    # An encoder of single channels tells as much of whitened signals as one that learned from them
    # (docs/log.md, "Whitening each recording").
    if whitened <= {learned} or (card.stage == "pretrained" and not learned):
        return []
    is_, was = ("not whitened", "whitened") if learned else ("whitened", "not whitened")
    return [f"signals are {is_}, and those that it learned from were {was} (--whiten of ingest)"]


def _octaves(band: Band) -> tuple[float, float]:
    low, high = band
    return math.log2(low or LOWEST), math.log2(high or HIGHEST)


def _edges(band: Band) -> str:
    low, high = ("..." if edge is None else f"{edge:g}" for edge in band)
    return f"{low} to {high} Hz"
