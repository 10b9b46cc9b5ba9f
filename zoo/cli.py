"""``omfa-zoo``: the command line of the zoo.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

EPILOG = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr dreamer.zarr --preset small --out runs/three
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model omfa --checkpoint runs/three
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model braindecode:EEGNet

Every command takes --dry-run or ends within seconds. Run the same command again to go on after an
interruption. Exit code: 0 if all is well, 1 if something failed, 2 for wrong use or bad input.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``omfa-zoo`` and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv or ["--help"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is ours
    try:
        return int(args.run(args))
    except BrokenPipeError:  # the reader of a pipe, such as head, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
    except ValueError as error:
        if type(error).__name__ != "DataError":
            raise
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
    _pretrain_parser(verbs.add_parser("pretrain", help="stage 1: one encoder from many stores"))
    return parser


# ------------------------------------------------------------------------------------ pretrain


def _pretrain_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stores", nargs="+", metavar="STORE")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.set_defaults(run=_pretrain)


def _pretrain(args: argparse.Namespace) -> int:
    raise NotImplementedError


if __name__ == "__main__":
    sys.exit(main())
