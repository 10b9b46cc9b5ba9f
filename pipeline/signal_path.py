"""What was done to a signal in all, at its source and at ingest.

A store says what ingest did. What the release had done before decides as well: DEAP's signals begin
at 4 Hz and are average referenced, whatever band and reference a store of them was asked for. A
``SignalPath`` is both together, so that stores can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Band = tuple[float, float]

AS_RECORDED = ("", "unknown", "as recorded", "source")
"""What readers and stores say of a reference that nobody chose."""

LEAST_OF_A_BAND = 0.9
"""Share of a band, in Hz, that counts as all of it: 30-45 Hz does for the models' 30-46."""


@dataclass(frozen=True)
class SignalPath:
    """The path of one recording, from the electrodes to the store.

    Attributes
    ----------
    band : (float, float)
        Hz between which signal is left: the narrower of the source's and the store's; from 0 and to
        half of the rate where neither ends it.
    by_source : (bool, bool)
        Whether the source ends the lower and the upper side, so that ingest could not have.
    transition : float or None
        Hz in which ingest's low-pass falls; None for MNE's.
    notch : tuple of float
        Hz that ingest took out, of those that the band leaves in.
    reference : str
        ``"as recorded"``, ``"average"``, or what the source or ingest says.
    asked_reference : str
        What ingest was asked for.
    interpolate : bool
        Whether bad channels were replaced.
    filter_within : str
        As in ``Preprocessing``.
    whiten : bool
        Whether the recording was whitened over its channels.
    """

    band: Band
    by_source: tuple[bool, bool]
    transition: float | None
    notch: tuple[float, ...]
    reference: str
    asked_reference: str
    interpolate: bool
    filter_within: str
    whiten: bool = False

    @classmethod
    def of(
        cls, preprocessing: Mapping[str, Any], recording: Mapping[str, Any], sfreq: float
    ) -> SignalPath:
        """Read the path of a recording from what a store says.

        Parameters
        ----------
        preprocessing : mapping
            Of the store's settings. What stores of earlier recipes lack has the value that they
            were made by.
        recording : mapping
            The attributes of the recording.
        sfreq : float
            Hz of the stored signal.
        """
        source = recording.get("source") or {}
        had = _edges(source.get("band"))
        had = had[0], min(had[1], float(recording.get("source_sfreq") or math.inf) / 2)
        asked = _edges(preprocessing.get("band"))
        if had[0] >= min(had[1], asked[1], sfreq / 2):  # a header that says nothing of use
            had = 0.0, math.inf
        band = max(had[0], asked[0]), min(had[1], asked[1], sfreq / 2)
        transition = preprocessing.get("transition")
        falls = max(band[1] / 4, 2.0) if transition is None else float(transition)
        reference = _words(preprocessing.get("reference"))
        return cls(
            band=band,
            by_source=(had[0] > 0 and had[0] >= asked[0], had[1] <= min(asked[1], sfreq / 2)),
            transition=transition,
            notch=tuple(f for f in preprocessing.get("notch") or () if f < band[1] + falls),
            reference=_words(source.get("reference")) if reference == "as recorded" else reference,
            asked_reference=reference,
            interpolate=bool(preprocessing.get("interpolate")),
            filter_within=str(preprocessing.get("filter_within") or "segments"),
            whiten=bool(preprocessing.get("whiten")),
        )

    def __str__(self) -> str:
        low, high = self.band
        sides = [f"{edge:g}" for edge in (low, high)]
        if any(self.by_source):
            which = "both ends" if all(self.by_source) else ("begins", "ends")[self.by_source[1]]
            sides[1] += f" Hz ({which} so at the source)"
        else:
            sides[1] += " Hz"
        falls = "as MNE's does" if self.transition is None else f"within {self.transition:g} Hz"
        parts = ["-".join(sides), f"low-pass falls {falls}", f"reference {self.reference}"]
        if self.notch:
            parts.append("notch " + " ".join(f"{f:g}" for f in self.notch))
        if self.interpolate:
            parts.append("bad channels interpolated")
        if self.filter_within != "segments":
            parts.append(f"filtered within {self.filter_within}")
        if self.whiten:
            parts.append("whitened")
        return ", ".join(parts)


def _edges(band: Sequence[float | None] | None) -> Band:
    low, high = band or (None, None)
    return float(low or 0.0), math.inf if high is None else float(high)


def _words(reference: Any) -> str:
    if isinstance(reference, (list, tuple)):
        return " ".join(map(str, reference))
    text = str(reference or "").strip()
    return "as recorded" if text.lower() in AS_RECORDED else text


def differences(paths: Sequence[SignalPath]) -> tuple[list[str], list[str]]:
    """Tell in which properties paths differ.

    Parameters
    ----------
    paths : sequence of SignalPath

    Returns
    -------
    chosen : list of str
        What differs because ingest was asked for different things: the same settings would mend it.
    given : list of str
        What differs because the sources do.
    """
    chosen, given = [], []
    for side, name in enumerate(("lower edge of the band", "upper edge of the band")):
        free = {path.band[side] for path in paths if not path.by_source[side]}
        if len(free) > 1:
            chosen.append(name)
        elif len({path.band[side] for path in paths}) > 1:
            given.append(name)
    if len({path.reference for path in paths}) > 1:
        asked = {path.asked_reference for path in paths}
        (chosen if len(asked) > 1 else given).append("reference")
    for name, words in (
        ("transition", "transition above the band"),
        ("notch", "notch"),
        ("interpolate", "interpolation of bad channels"),
        ("filter_within", "bounds of the filters"),
        ("whiten", "whitening"),
    ):
        if len({getattr(path, name) for path in paths}) > 1:
            chosen.append(words)
    return chosen, given


def lacking(
    band: Sequence[float | None],
    bands: Mapping[str, Sequence[float]],
    *,
    least: float = LEAST_OF_A_BAND,
) -> list[str]:
    """Say which named bands a signal does not hold, or holds in part.

    Parameters
    ----------
    band : (float or None, float or None)
        Hz between which signal is left, None for an open side.
    bands : mapping of str to (float, float)
        Names and edges in Hz.
    least : float
        Share of a named band that counts as all of it.

    Returns
    -------
    list of str
        ``"no delta (1-4 Hz)"``, ``"31-45 Hz of gamma (31-50 Hz)"``; empty if all are whole.
    """
    low, high = _edges(band)
    found = []
    for name, (first, last) in bands.items():
        begin, end = max(low, first), min(high, last)
        if begin >= end:
            found.append(f"no {name} ({first:g}-{last:g} Hz)")
        elif end - begin < least * (last - first):
            found.append(f"{begin:g}-{end:g} Hz of {name} ({first:g}-{last:g} Hz)")
    return found
