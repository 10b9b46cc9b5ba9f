"""``omfa-zoo``: the command line of the zoo.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from omfa.pipeline.errors import DataError
from omfa.zoo.cli.checkpoints import add_download, add_list, add_publish, add_show, add_verify
from omfa.zoo.cli.evaluation import add_evaluate, add_report
from omfa.zoo.cli.flags import wrong
from omfa.zoo.cli.paper import add_reproduce
from omfa.zoo.cli.training import add_finetune, add_pretrain

EPILOG = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr dreamer.zarr --preset small --out runs/three
  omfa-zoo evaluate deap.zarr --target 'valence>5' --checkpoint runs/three/checkpoint
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model braindecode:EEGNet
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper

Every command takes --dry-run or ends within seconds. Run the same command again to go on after an
interruption. Exit code: 0 if all is well, 1 if something failed, 2 for wrong use or bad input.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``omfa-zoo`` and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv or ["--help"])
    args.argv = argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is ours
    try:
        return int(args.run(args))
    except BrokenPipeError:  # the reader of a pipe, such as head, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
    except DataError as error:
        print(f"omfa-zoo: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="omfa-zoo",
        description="Pre-train, fine-tune and evaluate models against UCS stores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"omfa {version('omfa')}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    add_pretrain(verbs.add_parser("pretrain", help="stage 1: one encoder from many stores"))
    add_finetune(verbs.add_parser("finetune", help="stage 2: a classifier, to keep"))
    add_evaluate(verbs.add_parser("evaluate", help="train and test models on folds"))
    add_list(verbs.add_parser("list", help="checkpoints that load by name"))
    add_show(verbs.add_parser("show", help="a checkpoint's card"))
    add_download(verbs.add_parser("download", help="get a checkpoint into the cache"))
    add_verify(verbs.add_parser("verify", help="check checkpoints in full"))
    add_publish(verbs.add_parser("publish", help="make a folder for others to download"))
    _demo_parser(verbs.add_parser("demo", help="all of it on the stores of `omfa-ingest demo`"))
    add_report(verbs.add_parser("report", help="results as one HTML file"))
    add_reproduce(verbs.add_parser("reproduce", help="the paper's tables, run again"))
    return parser


def _demo_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Pre-train on the simulated stores that `omfa-ingest demo` made, fine-tune on the smallest "
        "under within-subject and leaky-window, and write the report."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"), metavar="FOLDER")
    add = parser.add_argument
    add("--workers", type=int, default=-1, metavar="N", help="processes (default: one per core)")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    stores = [args.folder / f"{name}-simulated.zarr" for name in ("seed", "deap", "dreamer")]
    if gone := [store for store in stores if not store.exists()]:
        raise wrong(f"there is no {gone[0]}", f"Run omfa-ingest demo {args.folder}")
    # The command in the report, so that whoever reads it can change it.
    command = ["reproduce", "--table", "within", "--stores", *map(str, stores)]
    command += ["--datasets", "dreamer", "--out", str(args.folder / "tables")]
    command += ["--workers", str(args.workers), *DEMO]
    print(shlex.join(["omfa-zoo", *command]), file=sys.stderr)
    return main(command)


DEMO = shlex.split(
    "--folds 3 --pretraining preset=tiny steps=200 batch_size=128 channels_per_window=8 "
    "--parameters epochs=30 patience=8 lr=3e-3 freeze=encoder"
)
