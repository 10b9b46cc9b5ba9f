"""Where answers go: a line of the terminal, JSON lines, another stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from omfa.pipeline.progress import LOG
from omfa.pipeline.words import some
from omfa.zoo.live.decoder import Answer

BAR = 20
"""Letters of a bar of probability 1."""


class Output(Protocol):
    """Takes answers, and what happens between them."""

    def answer(self, answer: Answer, latency: float) -> None:
        """Take an answer, and the seconds from its newest sample's timestamp to it."""

    def event(self, what: str, **facts: Any) -> None:
        """Take what happened to the stream, in words."""

    def close(self) -> None:
        """End."""


class Terminal:
    """A line that changes, or, where the output is no terminal, a line for each answer."""

    def __init__(self, to: TextIO | None = None) -> None:
        self._to = sys.stdout if to is None else to
        self._moves = self._to.isatty()
        self._start: float | None = None
        self._width = 0

    def answer(self, answer: Answer, latency: float) -> None:
        """Show the most probable class, its bar, and the others."""
        if self._start is None:
            self._start = answer.time
        label = answer.label
        if label is None:
            text = "no answer: samples are missing in every channel"
        else:
            filled = round(BAR * answer.probabilities[label])
            others = ", ".join(
                f"{name} {p:.2f}" for name, p in answer.probabilities.items() if name != label
            )
            bar = "#" * filled + "." * (BAR - filled)
            text = f"{label} {bar} {answer.probabilities[label]:.2f} | {others}"
        text += f" | {answer.n_present} of {answer.n_chans} channels"
        self._print(f"{answer.time - self._start:8.1f} s  {text}")

    def _print(self, line: str) -> None:
        if self._moves:
            self._to.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._to.write(line + "\n")
        self._to.flush()

    def event(self, what: str, **facts: Any) -> None:
        """Say it on standard error, below the line."""
        LOG.warning("\n" * self._moves + f"omfa-zoo: {what}")

    def close(self) -> None:
        """Leave the line."""
        if self._moves and self._width:
            self._to.write("\n")


class JsonLines:
    """A file with an object for each answer and each event."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def answer(self, answer: Answer, latency: float) -> None:
        """Write ``time``, ``class``, ``p``, ``present``, ``absent``, ``latency_ms``."""
        self._write(
            {
                "time": answer.time,
                "class": answer.label,
                "p": answer.probabilities,
                "present": answer.n_present / answer.n_chans,
                "absent": list(answer.absent),
                "latency_ms": round(1e3 * latency, 1),
            }
        )

    def event(self, what: str, **facts: Any) -> None:
        """Write ``event`` and its facts, and say it on standard error."""
        LOG.warning(f"omfa-zoo: {what}")
        self._write({"event": what, **facts})

    def _write(self, line: dict[str, Any]) -> None:
        # At once, so that whoever follows the file is not behind.
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Outlet:
    """An LSL stream with a channel for each class, at the time of the newest sample.

    Parameters
    ----------
    name : str
    classes : sequence of str
    stride_seconds : float
        From one answer to the next.
    """

    def __init__(self, name: str, classes: Sequence[str], stride_seconds: float) -> None:
        from mne_lsl.lsl import StreamInfo, StreamOutlet

        # No rate: where the stream has a gap there is no answer.
        info = StreamInfo(name, "Probabilities", len(classes), 0.0, "float32", f"omfa-{name}")
        info.set_channel_names(list(classes))
        info.set_channel_types("probability")
        info.set_channel_units("none")
        self._outlet = StreamOutlet(info, 1)

    def answer(self, answer: Answer, latency: float) -> None:
        """Send the probabilities, if there are any."""
        import numpy as np

        if answer.probabilities:
            self._outlet.push_sample(
                np.array([*answer.probabilities.values()], np.float32), timestamp=answer.time
            )

    def event(self, what: str, **facts: Any) -> None:
        """Send nothing."""

    def close(self) -> None:
        """Close the stream: whoever listens sees it end."""
        del self._outlet


def describe_absent(missing: Sequence[str], unused: Sequence[str]) -> list[str]:
    """Say which channels of the model the stream lacks, and which of its own are not read."""
    found = []
    if missing:
        found.append(f"the stream lacks {some(missing, 8)}: masked")
    if unused:
        found.append(f"no electrodes of the channel schema, not read: {some(unused, 8)}")
    return found
