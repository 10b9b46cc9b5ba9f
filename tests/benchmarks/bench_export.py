"""How fast an exported model answers: ``python tests/benchmarks/bench_export.py``.

One thread, windows of 4 s at 128 Hz, random weights. Torch and onnxruntime answer turn by turn in
one process, by its CPU time, so that other work on the machine matters little: medians over the
turns, and the median of the quotients within a turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import onnxruntime
import torch
from measuring import heading, scratch, show

from omfa import zoo
from omfa.models import OMFA
from omfa.pipeline.channels import UCS
from omfa.zoo.checkpoints.decision import as_stored
from omfa.zoo.exporting import signals

warnings.filterwarnings("ignore")
# Of DREAMER's headset; the 62 of SEED come first in the schema.
HEADSET = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
CASES = (
    ("tiny", HEADSET, 1),
    ("small", HEADSET, 1),
    ("tiny", UCS.names[:62], 1),
    ("small", UCS.names[:62], 1),
    ("small", HEADSET, 32),
)
SECONDS, SFREQ = 4.0, 128.0


def checkpoint(folder: Path, preset: str, channels: list[str]) -> Path:
    """Write a fine-tuned checkpoint of random weights."""
    signal = {"unit": "uV", "sfreq": SFREQ, "channels": channels, "window_seconds": SECONDS}
    card = zoo.Card(
        name=folder.name,
        preset=preset,
        stage="finetuned",
        ucs_version=int(UCS.version),
        input=signal,
        saw=[],
        recipe={},
        decision=as_stored(["calm", "tense", "neither"], "none: random weights"),
    )
    return zoo.save_checkpoint(folder, OMFA(n_outputs=3, sfreq=SFREQ, preset=preset), card)


def times(answers: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each way to answer, turn by turn, after three unmeasured turns."""
    found: dict[str, list[float]] = {name: [] for name in answers}
    for turn in range(turns + 3):
        for name, answer in answers.items():
            start = time.process_time()
            answer()
            if turn >= 3:
                found[name].append(time.process_time() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--scratch", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the five")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heading(["torch", "onnx", "onnxruntime"])
    rows = []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with scratch(args.scratch) as work, torch.inference_mode():
        for i, (preset, channels, n) in enumerate(CASES[: args.cases]):
            folder = checkpoint(work / f"{i}", preset, list(channels))
            with torch.inference_mode(False):
                made = zoo.export(folder, work / f"{i}.onnx")
            chs_info = zoo.read_decision(folder).chs_info()
            model = zoo.load(folder, chs_info=chs_info, sfreq=SFREQ)
            session = onnxruntime.InferenceSession(
                made.path, options, providers=["CPUExecutionProvider"]
            )
            x, mask = signals(("x", "mask"), (len(channels), round(SECONDS * SFREQ)), n).values()
            inputs = {"x": x.numpy(), "mask": mask.numpy()}
            found = times(
                {
                    "torch": lambda model=model, x=x, mask=mask: model(x, mask=mask),
                    "onnx": lambda session=session, inputs=inputs: session.run(None, inputs),
                },
                args.turns,
            )
            quotients = [a / b for a, b in zip(found["onnx"], found["torch"], strict=True)]
            medians = [1e3 * statistics.median(found[name]) for name in ("torch", "onnx")]
            size = f"{made.path.stat().st_size / 1e6:.1f}"
            ratio, off = statistics.median(quotients), f"{made.difference:.1g}"
            rows.append((preset, len(channels), n, *medians, ratio, size, off))
            print(rows[-1], flush=True)
    header = ("preset", "channels", "windows", "torch, CPU ms", "onnx, CPU ms", "onnx of torch")
    show("An answer", (*header, "MB", "difference"), rows)


if __name__ == "__main__":
    main()
