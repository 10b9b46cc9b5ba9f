"""``omfa-zoo benchmark``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from omfa.pipeline import flags
from omfa.pipeline.progress import LOG
from omfa.zoo.benchmark.settings import BenchmarkSettings, quick
from omfa.zoo.benchmark.tasks import RECORDINGS, SOURCES, TASKS
from omfa.zoo.cli.flags import QUICK_NOTE, describe

_TASKS = "\n".join(
    f"  {task.name:11} {task.title}, --{RECORDINGS[task.recordings].source}"
    f"{'' if task.counts else ' (one recording for each class: not in the test over tasks)'}"
    for task in TASKS.values()
)

BENCHMARK = f"""\
tasks (--tasks):
{_TASKS}

examples:
  omfa-zoo benchmark --eegmmidb EEGMMIDB/ --ssvep SSVEP/ --out bench --dry-run
  omfa-zoo benchmark --eegmmidb EEGMMIDB/ --ssvep SSVEP/ --eegmat EEGMAT/ --out bench --workers 2
  omfa-zoo benchmark --stores fists.zarr ssvep.zarr --out bench --no-networks --people 6
  omfa-zoo benchmark --stores fists.zarr ssvep.zarr --out last --split held-out \\
      --checkpoints runs/seed0 runs/seed1 runs/seed2

Folders are of the public files as they are distributed; what is missing is named, with where to
get it. Choices are made with --split development; --split held-out is for the last word, once.
`omfa-zoo pretrain --hold-out benchmark` leaves the same people out. DIR gets report.html,
summary.csv, subjects.csv, tables.md and benchmark.json. Run the same command again to go on after
an interruption; what is finished is read.
"""


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo benchmark``."""
    describe(
        parser,
        _benchmark,
        "Test pre-trained OMFA, its matched controls and others on tasks that measure states.",
        BENCHMARK,
        usage="--out DIR [--DATASET FOLDER] [options]",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of stores and results")
    for source in SOURCES.values():
        add(
            f"--{source.name}",
            type=Path,
            metavar="FOLDER",
            help=f"{source.title}: {source.files}",
        )
    add("--stores", nargs="+", default=[], metavar="STORE", help="made already, in place of these")
    add("--quick", action="store_true", help="few epochs and folds: does all of it run?")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--dry-run", action="store_true", help="show fits and measured time; train nothing")
    flags.add_flags(
        parser.add_argument_group("what is run"),
        BenchmarkSettings,
        names={"n_seeds": "seeds", "n_folds": "folds"},
        repeatable=("weights",),
        metavars={
            "tasks": "NAME",
            "checkpoints": "NAME",
            "weights": "MODEL=FILE",
            **dict.fromkeys(("n_seeds", "epochs", "network_epochs", "n_folds", "people"), "N"),
        },
    )


def _benchmark(args: argparse.Namespace) -> int:
    from omfa.zoo.benchmark.report import benchmark, last_word
    from omfa.zoo.benchmark.run import Benchmark

    given = {name: getattr(args, name) for name in SOURCES}
    run = Benchmark(
        args.out,
        {name: folder for name, folder in given.items() if folder is not None},
        args.stores,
        flags.settings(args, BenchmarkSettings, quick() if args.quick else None),
        workers=args.workers,
        say=LOG.info,
    )
    if args.dry_run:
        print(run.plan())
        return 0
    report, cells = benchmark(
        run,
        command=shlex.join(["omfa-zoo", *args.argv]),
        note=QUICK_NOTE if args.quick else "",
        progress=True,
    )
    failed = [cell for cell in cells if cell.error]
    for cell in failed:
        LOG.error(f"{cell.row.name} on {cell.task.name}: {cell.error}")
    for reason in run.missing:
        print(f"Left out: {reason}")
    print(last_word(cells)[1])
    print(f"{len(cells) - len(failed)} of {len(cells)} cells. Report: {report}")
    return 1 if failed else 0
