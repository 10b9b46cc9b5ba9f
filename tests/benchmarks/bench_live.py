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

import numpy as np
import torch

from omfa.models import OMFA
from omfa.pipeline.channels import UCS
from omfa.zoo.checkpoints.decision import Decision
from omfa.zoo.live.decoder import Decoder

EPOC = "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4".split()
CAP = (
    "Fp1 Fpz Fp2 AF3 AF4 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 T7 C5 C3 "
    "C1 Cz C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO5 PO3 "
    "POz PO4 PO6 PO8 PO9 O1 Oz O2 PO10"
).split()
CASES = ((EPOC, 128.0), (CAP, 1000.0))  # DREAMER's amplifier; SEED's
PACKET = 1 / 32
"""Seconds."""


def decoder(preset: str, channels: list[str], sfreq: float, stride: float) -> Decoder:
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


def times(preset: str, channels: list[str], sfreq: float, stride: float, n: int):
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
