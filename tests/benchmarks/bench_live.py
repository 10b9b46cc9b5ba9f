"""How long after its last sample does an answer come: ``python tests/benchmarks/bench_live.py``.

Packets of an amplifier are pushed into the decoder one by one. What is timed is the packet that
completes a window: from its arrival to the answer, which is filter, reference, change of rate and
the model, on one thread. Answers are a stride apart in signal, and follow at once in the benchmark.
On a machine with other work read the CPU time, which is this process's own; wall time holds what
others took.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch

from omfa.models import OMFA
from omfa.pipeline.channels import UCS
from omfa.pipeline.readers.corpora import dreamer, seed
from omfa.zoo.checkpoints.decision import Decision
from omfa.zoo.live.decoder import Decoder

CASES = ((dreamer.CHANNELS, 128.0), (seed.CHANNELS, 1000.0))
"""The corpora's channels, and the rates of their amplifiers in Hz."""

PACKET = 1 / 32
"""Seconds."""


def decoder(preset: str, channels: Sequence[str], sfreq: float, stride: float) -> Decoder:
    """Return a decoder with a model of random weights, which take as long as others."""
    decision = Decision(
        checkpoint=preset,
        classes=("a", "b", "c"),
        rule="",
        decision_unit="window",
        temperature=1.0,
        channels=tuple(UCS.canonicalize(channels)),
        sfreq=128.0,
        window_seconds=4.0,
        band=(0.5, 45.0),
        transition=4.0,
        reference="average",
    )
    model = OMFA(n_outputs=3, chs_info=decision.chs_info(), n_times=512, sfreq=128.0, preset=preset)
    return Decoder(model.eval(), decision, channels=channels, sfreq=sfreq, stride_seconds=stride)


def times(preset: str, channels: Sequence[str], sfreq: float, stride: float, n: int):
    """Return wall and CPU seconds of n answers, and the CPU seconds per second of signal."""
    made = decoder(preset, channels, sfreq, stride)
    packet = round(PACKET * sfreq)
    rng = np.random.default_rng(0)
    found, signal, spent, at = [], 0.0, 0.0, 0
    while len(found) < n + 3:
        x = rng.normal(0, 20, (len(channels), packet))
        stamps = (at + np.arange(packet)) / sfreq
        wall, cpu = time.perf_counter(), time.process_time()
        answers = made.push(x, stamps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        at += packet
        if answers:
            found.append((wall, cpu))
        else:
            signal, spent = signal + packet / sfreq, spent + cpu
    return np.array(found[3:]), spent / signal  # the first three warm up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"])
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--stride-seconds", type=float, default=0.5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("preset  channels  Hz    wall p50  p99 ms   CPU p50  p99 ms   filtering, share of a core")
    for preset in args.presets:
        for channels, sfreq in CASES:
            found, share = times(preset, channels, sfreq, args.stride_seconds, args.answers)
            wall, cpu = (1e3 * np.percentile(column, [50, 99]) for column in found.T)
            print(
                f"{preset:6}  {len(channels):8}  {sfreq:4.0f}  {wall[0]:8.1f}  {wall[1]:6.1f}  "
                f"{cpu[0]:8.1f}  {cpu[1]:6.1f}   {share:6.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
