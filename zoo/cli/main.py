"""``omfa-zoo``: the command line of the zoo.

Nothing heavy is imported before a command needs it, and a command's flags are made when that
command is asked for, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from omfa.pipeline.console import Parser, add_output_flags, run_command
from omfa.pipeline.errors import DataWarning
from omfa.pipeline.progress import LOG
from omfa.pipeline.words import nearest
from omfa.zoo.cli.benchmark import add_benchmark
from omfa.zoo.cli.checkpoints import (
    add_download,
    add_export,
    add_list,
    add_publish,
    add_show,
    add_verify,
)
from omfa.zoo.cli.evaluation import add_evaluate, add_report
from omfa.zoo.cli.flags import describe, wrong
from omfa.zoo.cli.live import add_live
from omfa.zoo.cli.paper import add_reproduce
from omfa.zoo.cli.prediction import add_predict
from omfa.zoo.cli.training import add_finetune, add_pretrain

EPILOG = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr --preset small --out runs/two
  omfa-zoo evaluate dreamer.zarr --checkpoint runs/two/checkpoint
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model braindecode:EEGNet
  omfa-zoo predict models/valence new.edf --out answers
  omfa-zoo benchmark --eegmmidb EEGMMIDB/ --ssvep SSVEP/ --out bench
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper

What trains takes --dry-run, which says what would be done and how long it takes. After an
interruption the same command goes on: pretrain from its last checkpoint, evaluate, benchmark and
reproduce with the folds that are left; finetune starts again. Exit code: 0 if all is well, 1 if
something failed, 2 for wrong use or bad input.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``omfa-zoo`` and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parse(argv or ["--help"])
    # Cards and reports repeat the command that they were made with.
    args.argv = argv

    def command() -> int:
        with _warnings_in_a_line():
            _check_out(getattr(args, "out", None))
            return int(args.run(args))

    again = "again to go on" if argv and argv[0] in GOES_ON else "to start again"
    return run_command("omfa-zoo", command, interrupted=f"Run the same command {again}.", told=args)


def _check_out(out: Path | None) -> None:
    """Refuse to write into a store, whose next ingest would not know what that is."""
    for folder in () if out is None else (out.absolute(), *out.absolute().parents):
        if (folder / "zarr.json").is_file():
            raise wrong(
                f"--out {out} lies inside the store {folder}", "Name a folder beside the store"
            )


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Show omfa's own warnings as a line each, once, without the place in its code."""
    said: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning
        warnings.simplefilter("default", DataWarning)

        def shown(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, DataWarning):
                # A dataset is opened for each of many cells, and is as it was.
                if str(message) not in said:
                    LOG.warning(f"omfa-zoo: {message}")
                said.add(str(message))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = shown
        yield


def parser_for(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line; only the command that it names has its flags."""
    parser = Parser(
        prog="omfa-zoo",
        description="Pre-train, fine-tune, evaluate and use models of EEG.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"omfa {version('omfa')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (add_flags, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == argv[0]:
            add_flags(command)
            add_output_flags(command)
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        parser.error(
            f"there is no command {argv[0]!r}{nearest(argv[0], COMMANDS)}; "
            f"there are {', '.join(COMMANDS)}"
        )
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line of at least one word; wrong use ends the process with code 2."""
    return parser_for(argv).parse_args(argv)


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo demo``."""
    describe(
        parser,
        _demo,
        "Pre-train on the simulated stores that `omfa-ingest demo` made, fine-tune on the\n"
        "smallest under within-subject and leaky-window, and write the report.",
        "It runs `omfa-zoo reproduce` with small settings, and prints that command.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"), metavar="FOLDER")
    add = parser.add_argument
    add("--workers", type=int, default=-1, metavar="N", help="processes (default: one per core)")


def _demo(args: argparse.Namespace) -> int:
    stores = [args.folder / f"{name}-simulated.zarr" for name in ("seed", "deap", "dreamer")]
    if gone := [store for store in stores if not store.exists()]:
        raise wrong(f"there is no {gone[0]}", f"Run omfa-ingest demo {args.folder}")
    # The report shows the command, so that whoever reads it can change it.
    command = ["reproduce", "--table", "within", "--stores", *map(str, stores)]
    command += ["--datasets", "dreamer", "--out", str(args.folder / "tables")]
    command += ["--truth", str(args.folder / "dreamer-simulated")]
    command += ["--workers", str(args.workers), *DEMO]
    LOG.info(shlex.join(["omfa-zoo", *command]))
    return main(command)


DEMO = shlex.split(
    "--folds 3 --preset tiny --steps 200 --pretrain-batch-size 128 --channels-per-window 8 "
    "--epochs 30 --lr 3e-3 --freeze encoder"
)
"""Settings with which the demo takes minutes on two cores, and still learns something."""

GOES_ON = ("evaluate", "benchmark", "reproduce", "demo", "download")
"""Commands that keep what they finish, and read it when they are run again."""

COMMANDS = {
    "pretrain": (add_pretrain, "stage 1: one encoder from many stores"),
    "finetune": (add_finetune, "stage 2: a classifier, to keep"),
    "evaluate": (add_evaluate, "train and test models on folds"),
    "predict": (add_predict, "what a fine-tuned checkpoint says of new recordings"),
    "live": (add_live, "answers on an amplifier's stream while it records"),
    "list": (add_list, "checkpoints that load by name"),
    "show": (add_show, "a checkpoint's card"),
    "download": (add_download, "get a checkpoint into the cache"),
    "verify": (add_verify, "check checkpoints in full"),
    "publish": (add_publish, "make a folder for others to download"),
    "export": (add_export, "a fine-tuned model as one file for other runtimes"),
    "demo": (add_demo, "all of it on the stores of `omfa-ingest demo`"),
    "report": (add_report, "results as one HTML file"),
    "benchmark": (add_benchmark, "pre-training against its controls, on tasks that measure states"),
    "reproduce": (add_reproduce, "the paper's tables, run again"),
}
