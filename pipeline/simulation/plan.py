"""What the simulated corpora have in common: settings, and plans of files to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.signals import (
    Effect,
    Mixture,
    Piece,
    blink_times,
    blinks,
    draw_mixture,
    rng,
)
from omfa.pipeline.writing import write_whole

Signal = npt.NDArray[np.floating]

Tick = Callable[[], object]
"""Called once per trial written."""

Write = Callable[[Path, Tick], None]
"""Writes one file."""

HIGH = {"valence": "1 where the rating is above {}", "arousal": "1 where the rating is above {}"}


def words(text: str) -> tuple[str, ...]:
    """Return a text's words."""
    return tuple(text.split())


@dataclass(frozen=True)
class Settings:
    """The arguments of ``simulate``, checked, and what is drawn by them."""

    source: str
    variant: str
    subjects: tuple[int, ...]
    sessions: tuple[int, ...]
    seconds: int | None
    effect: Effect
    seed: int
    bad_channels: float
    quirks: frozenset[str]
    tones: float = 0.0

    def lengths(self, seconds: Sequence[int]) -> list[int]:
        """Return trial lengths in seconds, shortened in proportion if that was asked."""
        if self.seconds is None:
            return list(seconds)
        return [max(2, round(s * self.seconds / max(seconds))) for s in seconds]

    def mixture(self, channels: Sequence[str], subject: int, session: int = 1) -> Mixture:
        """Draw a recording's sources and electrodes."""
        return draw_mixture(
            channels,
            seed=self.seed,
            source=self.source,
            subject=subject,
            session=session,
            bad_channels=self.bad_channels,
            tones=self.tones,
        )

    def piece(
        self,
        seconds: float,
        subject: int,
        session: int,
        trial: int,
        part: str,
        codes: Mapping[str, float],
    ) -> Piece:
        """Return a stretch of signal; the parts of one trial share its signature."""
        place = (self.seed, self.source, subject, session)
        return Piece(
            seconds=seconds,
            purpose=(*place, part, trial),
            signature=(*place, "signature", trial),
            codes=codes,
        )

    def rng(self, *purpose: int | str) -> np.random.Generator:
        """Return the random numbers of one purpose in this corpus."""
        return rng(self.seed, self.source, *purpose)


@dataclass
class Plan:
    """The files of a tree, not yet written, and what will be in them: see ``Truth``."""

    sfreq: float
    channels: Sequence[str]
    files: dict[str, Write] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    recordings: list[dict[str, Any]] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    planted: dict[str, str] = field(default_factory=dict)
    """By which of the planted effects a target shows, where that is not its own name."""


@dataclass(frozen=True)
class Corpus:
    """What can be simulated of a corpus.

    Attributes
    ----------
    variants : mapping of str to callable
        What plans the files of each form that the corpus comes in; the first is the default.
    n_subjects, n_sessions : int
    quirks : mapping of str to sequence of str
        Per variant the peculiarities of some copies that are planted when asked.
    numbered : bool
        Whether subjects have numbers of their own, and not only a place in a file.
    """

    variants: Mapping[str, Callable[[Settings], Plan]]
    n_subjects: int
    n_sessions: int = 1
    quirks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbered: bool = True


def recording_truth(
    file: str,
    subject: int,
    session: int,
    mixture: Mixture,
    pieces: Mapping[int, Piece],
    *,
    blinking: bool = True,
) -> dict[str, Any]:
    """Return the truth of one recording; ``pieces`` holds each trial's."""
    return {
        "subject": subject,
        "session": session,
        "file": file,
        "bad": dict(mixture.bad),
        "blinks": [
            [trial, float(time)]
            for trial, piece in pieces.items()
            for time in (blink_times(piece) if blinking else ())
        ],
        "missing": [],
        "sites": np.round(mixture.sites, 4).tolist(),
        "tones": mixture.tones,
    }


def quantized(signal: Signal, step: float) -> npt.NDArray[np.float64]:
    """Round to an amplifier's digits, as recorded microvolts are."""
    return np.round(signal / np.float32(step)).astype(np.float64) * step


def eye_channels(piece: Piece, n_times: int, sfreq: float) -> npt.NDArray[np.float32]:
    """Return the vertical and the horizontal EOG, shape (2, n_times), in microvolts."""
    draw = rng(*piece.purpose, "eyes")
    noise = 3 * draw.standard_normal((2, n_times), dtype=np.float32)
    glances = draw.normal(0, 40, int(n_times / sfreq) + 1).astype(np.float32)
    noise[0] += 250 * blinks(blink_times(piece), n_times=n_times, sfreq=sfreq)
    noise[1] += np.repeat(glances, int(sfreq))[:n_times]
    return noise


def text_file(text: str) -> Write:
    """Return the writer of a text file."""

    def write(path: Path, tick: Tick) -> None:
        write_whole(path, text.encode("ascii"))

    return write
