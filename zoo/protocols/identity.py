"""Which recordings are one and the same, whatever they are called.

A name proves little: one corpus can be ingested under two names, and two corpora under one. Two
digests of a recording are compared beside its name. That of the stored signal is equal wherever the
same samples were stored. That of the file which the signal was read from is equal under any recipe,
rate, name and table of events. Either is enough.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

DIGITS = 16
"""Hexadecimal digits that are kept of a SHA-256: 64 bits, enough that no two of 10 million
recordings meet by chance (p < 1e-5)."""

UNKNOWN = "-"
"""Stands for a digest that is not known."""

_TABLES = (".csv", ".tsv", ".json", ".txt", ".xls", ".xlsx")
"""What lies beside a signal and may be changed without it, or belong to many recordings."""


@dataclass(frozen=True)
class Recorded:
    """A recording's names and digests.

    Attributes
    ----------
    dataset, recording : str
        Such as ``"deap"`` and ``"sub-01_ses-1_run-1"``.
    signal : str
        First digits of the SHA-256 of the stored samples; ``"-"`` if not known.
    source : str
        First digits of the SHA-256 of the file that the signal was read from; ``"-"`` if not known.
    """

    dataset: str
    recording: str
    signal: str = UNKNOWN
    source: str = UNKNOWN

    @property
    def subject(self) -> str:
        """As metadata have it: ``"sub-01"``."""
        return self.recording.split("_")[0]

    @property
    def person(self) -> str:
        """``"dataset/subject"``."""
        return f"{self.dataset}/{self.subject}"

    @property
    def name(self) -> str:
        """``"dataset/recording"``."""
        return f"{self.dataset}/{self.recording}"

    @property
    def known(self) -> bool:
        """Whether there is a digest."""
        return not self.signal == self.source == UNKNOWN

    def __str__(self) -> str:
        """Return the name and the digests: ``"deap/sub-01_ses-1_run-1 SIGNAL SOURCE"``."""
        return f"{self.dataset}/{self.line()}"

    def line(self) -> str:
        """Return the recording as a card has it: name, digest of the signal, digest of the file."""
        return f"{self.recording} {self.signal} {self.source}"

    @classmethod
    def of_line(cls, dataset: str, line: str) -> Recorded:
        """Read what ``line`` returned."""
        return cls(dataset, *line.split())

    @classmethod
    def of_text(cls, text: str) -> Recorded:
        """Read what ``str`` returned; of a name alone, the digests are not known."""
        dataset, _, line = text.partition("/")
        return cls(dataset, *line.split())


def bare(subject: object) -> str:
    """Return a subject's id without BIDS's prefix, which cards may leave out."""
    return str(subject).removeprefix("sub-")


def source_digest(files: Iterable[Mapping[str, Any]]) -> str:
    """Return the digest of the file that a recording's signal is in.

    It is the largest that is no table: formats in several files have a small header.

    Parameters
    ----------
    files : iterable of mapping
        ``name``, ``size`` and ``sha256`` of each file, as the store keeps them.
    """
    listed = [dict(file) for file in files]
    signals = [f for f in listed if PurePath(str(f["name"])).suffix.lower() not in _TABLES]
    if not (among := signals or listed):
        return UNKNOWN
    return str(max(among, key=lambda file: int(file["size"]))["sha256"])[:DIGITS]


def same(one: Sequence[Recorded], other: Sequence[Recorded]) -> list[tuple[Recorded, Recorded]]:
    """Pair the recordings of one list with those of another that are the same by a digest.

    Parameters
    ----------
    one, other : sequence of Recorded

    Returns
    -------
    list of (Recorded, Recorded)
        In the order of ``one``. Where a file holds many recordings, as DREAMER's does, they are
        the same only if they have one name too.
    """
    many = {
        source
        for side in (one, other)
        for source, n in Counter(s for s, _ in {(r.source, r.recording) for r in side}).items()
        if n > 1
    }

    def keys(recorded: Recorded) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        if recorded.signal != UNKNOWN:
            found.append(("signal", recorded.signal))
        if recorded.source != UNKNOWN:
            within = (recorded.recording,) if recorded.source in many else ()
            found.append(("source", recorded.source, *within))
        return found

    known = defaultdict(list)
    for recorded in other:
        for key in keys(recorded):
            known[key].append(recorded)
    return [
        (recorded, twin)
        for recorded in one
        # A dictionary keeps the order, and each twin once.
        for twin in dict.fromkeys(twin for key in keys(recorded) for twin in known[key])
    ]


def doubles(recorded: Sequence[Recorded]) -> list[tuple[Recorded, Recorded]]:
    """Return the pairs within one list that are the same recording under two names."""
    place = {one.name: i for i, one in enumerate(recorded)}
    return [
        (one, other)
        for one, other in same(recorded, recorded)
        if place[one.name] < place[other.name]
    ]
