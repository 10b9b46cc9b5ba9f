"""A session: from a stream that is looked for to the last answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omfa.pipeline.errors import DataError
from omfa.zoo.checkpoints.decision import Decision, read_decision
from omfa.zoo.live.clock import Clock
from omfa.zoo.live.decoder import Answer, Decoder, load_model
from omfa.zoo.live.outputs import Output, describe_absent
from omfa.zoo.live.settings import LiveSettings
from omfa.zoo.live.stream import Stream, StreamLost

WAIT = 0.1
"""Seconds that one look for samples waits, so that Ctrl-C and ``seconds`` are heeded."""

SILENT = 1.0
"""Seconds without a sample after which the stream is asked for, and its silence said."""


@dataclass
class Session:
    """What became of a session.

    Attributes
    ----------
    answers : list of Answer
    latencies : list of float
        Seconds from the timestamp of each answer's newest sample to the answer.
    lost : float
        Seconds of samples that were lost while the stream was there.
    interruptions : int
        How often it stopped.
    """

    answers: list[Answer] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    lost: float = 0.0
    interruptions: int = 0

    def __str__(self) -> str:
        told = f"{len(self.answers)} answers"
        if self.latencies:
            p50, p99 = np.percentile(self.latencies, [50, 99]) * 1e3
            told += f", {p50:.0f} ms after their newest sample (99 % within {p99:.0f} ms)"
        if self.lost:
            told += f", {self.lost:.2f} s of samples lost"
        if self.interruptions:
            told += f", the stream stopped {self.interruptions} times"
        return told + "."


def run(
    checkpoint: str | Path,
    stream: str,
    settings: LiveSettings,
    outputs: Sequence[Output],
    *,
    session: Session | None = None,
) -> Session:
    """Answer on a stream until it is over, ``settings.seconds`` have passed, or Ctrl-C.

    Parameters
    ----------
    checkpoint : str or path
        Name or folder of a fine-tuned one.
    stream : str
        Name of the LSL stream.
    settings : LiveSettings
    outputs : sequence of Output
        Each gets every answer and every event. They are not closed.
    session : Session, optional
        Filled as answers come, for whoever interrupts.

    Raises
    ------
    DataError
        If the checkpoint is not fine-tuned, there is no such stream or it does not come back, or
        it holds nothing that the model can read.
    KeyboardInterrupt
        By Ctrl-C.
    """
    decision = read_decision(checkpoint)
    session = Session() if session is None else session
    end, model = np.inf, None
    while True:
        with Stream(
            stream,
            source_id=settings.source_id,
            channel_names=settings.channel_names,
            unit=settings.unit,
            timeout=settings.reconnect_seconds,
        ) as source:
            if model is None:  # after the stream: that there is none is said at once
                model = load_model(checkpoint, decision)
                if settings.seconds is not None:
                    end = time.monotonic() + settings.seconds
            decoder = Decoder(
                model,
                decision,
                channels=source.channels,
                sfreq=source.sfreq,
                stride_seconds=settings.stride_seconds,
            )
            for what in describe_absent(decoder.missing, decoder.unused):
                _tell(outputs, what)
            with suppress(StreamLost):
                _listen(source, decoder, settings, outputs, session, end)
                return session
        session.interruptions += 1
        _tell(outputs, f"the stream {stream} stopped; waiting for it", stopped=stream)


def _tell(outputs: Sequence[Output], what: str, **facts: Any) -> None:
    for output in outputs:
        output.event(what, **facts)


def _listen(
    source: Stream,
    decoder: Decoder,
    settings: LiveSettings,
    outputs: Sequence[Output],
    session: Session,
    end: float,
) -> None:
    """Answer until the end; raises StreamLost where the stream ends first."""
    from mne_lsl.lsl import local_clock

    decision: Decision = decoder.decision
    clock = Clock(source.sfreq, longest=decision.window_seconds + settings.stride_seconds)
    heard, said, slow, drifted, doubted = time.monotonic(), False, False, False, False
    before = session.lost
    while time.monotonic() < end:
        samples, times = source.pull(WAIT)
        now = time.monotonic()
        if not len(times):
            if now - heard > settings.reconnect_seconds:
                source.check()
                raise DataError(
                    f"Reading the stream {source.name}",
                    f"it is there and has sent nothing for {now - heard:.0f} s",
                    "Start the recording at the amplifier",
                )
            if now - heard > SILENT and not said:
                source.check()
                said = True
                _tell(outputs, f"no samples for {SILENT:g} s", silent=SILENT)
            continue
        heard, said = now, False
        lost = clock.lost
        filled = clock.fill(samples, times)
        if clock.lost > lost:
            _tell(outputs, f"{clock.lost - lost:.3f} s of samples lost", lost=clock.lost - lost)
            session.lost = before + clock.lost
        if clock.drifts and not drifted:
            drifted = True
            _tell(
                outputs,
                f"the stream says {source.sfreq:g} Hz, and its timestamps {clock.rate:.2f} Hz: "
                "frequencies are read off by as much",
                rate=clock.rate,
            )
        for answer in decoder.push(*filled):
            latency = local_clock() - answer.time
            session.answers.append(answer)
            session.latencies.append(latency)
            for output in outputs:
                output.answer(answer, latency)
        if decoder.doubt and not doubted:
            doubted = True
            what = f"{decoder.doubt}; say the unit of the samples by --unit"
            _tell(outputs, what, doubt=decoder.doubt)
        if time.monotonic() - now > settings.stride_seconds and not slow:
            slow = True
            _tell(
                outputs,
                "answers take longer than from one to the next: give a longer --stride-seconds",
                slow=True,
            )
