"""What the simulators of SEED, SEED-IV, SEED-V and SEED-VII share: the two forms of a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.channels import UCS
from omfa.pipeline.simulation.formats import (
    CNT_STEP,
    MatElement,
    mat_doubles,
    write_cnt,
    write_mat,
)
from omfa.pipeline.simulation.plan import (
    Settings,
    Tick,
    Write,
    eye_channels,
    quantized,
)
from omfa.pipeline.simulation.signals import BASELINE, Mixture, Piece, heartbeat, record, rng

CAP = UCS.names[:62]
"""The rows of the preprocessed arrays."""

RECORDED = (*UCS.names[:32], "M1", *UCS.names[32:41], "M2", *UCS.names[41:62])
"""The electrodes of the raw recordings, before the two channels of the eyes."""

VALENCE = dict.fromkeys(("happy", "surprise"), 1) | {"neutral": 0}
"""The class of valence that is planted for a word; of every other word -1."""


def trial_row(
    subject: int, session: int, trial: int, *, stimulus: int, seconds: int, emotion: str
) -> dict[str, Any]:
    """Return the truth of a trial whose label is a word."""
    valence = VALENCE.get(emotion, -1)
    return {
        "subject": subject,
        "session": session,
        "trial": trial,
        "stimulus": str(stimulus),
        "seconds": seconds,
        "emotion": emotion,
        "code_valence": float(valence),
        "class_valence": valence,
    }


def piece_of(settings: Settings, trial: Mapping[str, Any], code: float) -> Piece:
    """Return the signal of a trial."""
    return settings.piece(
        trial["seconds"],
        trial["subject"],
        trial["session"],
        trial["trial"],
        "trial",
        {"valence": code},
    )


def mat_writer(
    settings: Settings,
    trials: Mapping[str, tuple[Mixture, Piece]],
    *,
    band: tuple[float, float],
    n_last: int = 0,
    compressed: bool = True,
) -> Write:
    """Return the writer of a file of trials at 200 Hz.

    Parameters
    ----------
    settings : Settings
    trials : mapping of str to (Mixture, Piece)
        By the variable's name.
    band : (float, float)
        Hz.
    n_last : int
        Samples after a trial's whole seconds.
    compressed : bool
    """

    def element(name: str, mixture: Mixture, piece: Piece, tick: Tick) -> MatElement:
        def make() -> npt.NDArray[np.float64]:
            (block,) = record(
                mixture,
                [piece],
                sfreq=200.0,
                band=band,
                effect=settings.effect,
                line_uv=1.0,
                n_last=n_last,
            )
            tick()
            return quantized(block, CNT_STEP)

        return mat_doubles((62, round(200 * piece.seconds) + n_last), make, name)

    def write(path: Path, tick: Tick) -> None:
        elements = (element(name, *trial, tick) for name, trial in trials.items())
        write_mat(path, elements, compressed=compressed)

    return write


def gaps_of(settings: Settings, gaps: Sequence[int]) -> list[int]:
    """Return the seconds before each trial and after the last, shortened with the trials."""
    return list(gaps) if settings.seconds is None else [2] * len(gaps)


def bounds_of(lengths: Sequence[int], gaps: Sequence[int]) -> list[tuple[int, int]]:
    """Return when each trial starts and ends, seconds."""
    starts = [sum(gaps[: i + 1]) + sum(lengths[:i]) for i in range(len(lengths))]
    return [(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def cnt_writer(
    settings: Settings,
    mixture: Mixture,
    pieces: Sequence[Piece],
    gaps: Sequence[int],
    *,
    subject: int,
    session: int,
    events: Sequence[tuple[int, int]],
    ecg: bool = False,
    known_length: bool = True,
) -> Write:
    """Return the writer of a session as the amplifier recorded it.

    Parameters
    ----------
    settings : Settings
    mixture : Mixture
        Of ``RECORDED``.
    pieces : sequence of Piece
        The trials.
    gaps : sequence of int
        Seconds before each trial, and after the last.
    subject, session : int
    events : sequence of (sample, code)
    ecg, known_length : bool
        Whether there is an ECG, and whether the header says how many samples there are.
    """
    sfreq = 1000
    names = [*(name.upper() for name in mixture.channels), "VEO", "HEO"]
    names += ["ECG"] if ecg else []
    positions = UCS.positions(mixture.channels)
    plan_of_head = dict.fromkeys(names, (0.0, 0.0))
    plan_of_head |= {
        name: (float(x), float(y)) for name, (x, y, _) in zip(names, positions, strict=False)
    }
    pauses = [
        settings.piece(gap, subject, session, i, "pause", BASELINE)
        for i, gap in enumerate(gaps, start=1)
    ]
    whole = [piece for pair in zip(pauses, pieces, strict=False) for piece in pair]
    whole += pauses[len(pieces) :]

    def blocks(tick: Tick) -> Iterator[npt.NDArray[np.int32]]:
        signal = record(
            mixture,
            whole,
            sfreq=sfreq,
            band=(0.0, 200.0),
            effect=settings.effect,
            line_uv=4.0,
        )
        for i, (piece, eeg) in enumerate(zip(whole, signal, strict=True)):
            other = eye_channels(piece, eeg.shape[1], sfreq)
            if ecg:
                beats = heartbeat(eeg.shape[1], sfreq, draw=rng(*piece.purpose, "heart"))
                other = np.vstack([other, 800 * beats])
            yield np.round(np.vstack([eeg, other]) / CNT_STEP).astype(np.int32)
            if i % 2:
                tick()

    def write(path: Path, tick: Tick) -> None:
        write_cnt(
            path,
            plan_of_head,
            blocks(tick),
            sfreq=sfreq,
            events=events,
            known_length=known_length,
        )

    return write
