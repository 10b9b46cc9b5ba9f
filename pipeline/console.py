"""How a command of omfa ends: its exit code, and words in place of a traceback."""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG, logged
from omfa.pipeline.words import nearest

_ZOO = (
    *("torch", "braindecode", "lightning", "sklearn", "pyriemann", "joblib", "safetensors"),
    *("tensorboard", "pooch", "filelock", "requests", "tomli_w"),
)
_EXTRAS = {
    "moabb": "moabb",
    "mne_bids": "bids",
    "s3fs": "s3",
    "gcsfs": "gcs",
    "mne_lsl": "live",
} | dict.fromkeys(_ZOO, "zoo")
"""The extra of omfa that brings a package, by the name that it is imported by."""

_CLIENTS = ("botocore", "aiobotocore", "gcsfs", "google", "aiohttp")
"""Packages whose errors are an object store's answers, or its silence."""


class Parser(argparse.ArgumentParser):
    """A parser that names, beside a choice or a flag that it does not know, those nearest to it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and end the process where anything is left over.

        A command's own parser knows the flags that may have been meant; the one above it, which
        would refuse what is left, does not.
        """
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            actions = [action for action in self._actions if action.help != argparse.SUPPRESS]
            flags = {flag.lstrip("-"): flag for each in actions for flag in each.option_strings}
            told = (
                text + nearest(text.partition("=")[0].lstrip("-"), flags, flags)
                if text.startswith("--")
                else text
                for text in rest
            )
            self.error(f"unrecognized arguments: {' '.join(told)}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action,
                f"invalid choice: {str(value)!r}{nearest(str(value), known)}; "
                f"choose from {', '.join(known)}",
            )


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how much a command tells, which every command has."""
    group = parser.add_argument_group("what is told")
    level = group.add_mutually_exclusive_group()
    level.add_argument(
        "--quiet", action="store_true", help="results, warnings and errors only; no bars"
    )
    level.add_argument("--verbose", action="store_true", help="each recording and fold too")
    group.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="keep all that is told in it too, with times; bars are a line a minute",
    )


def run_command(
    program: str,
    command: Callable[[], int],
    *,
    interrupted: str,
    told: argparse.Namespace | None = None,
) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    program : str
        ``"omfa-ingest"`` or ``"omfa-zoo"``; it stands before every error.
    command : callable
        Returns 0 if all is well, 1 if something failed.
    interrupted : str
        What is printed after Ctrl-C, or a batch system's stop: how to go on. A command that knows
        better raises a ``KeyboardInterrupt`` that says it.
    told : argparse.Namespace, optional
        What the flags of ``add_output_flags`` were.

    Returns
    -------
    int
        The command's; 2 for wrong use and bad input, 130 if it was interrupted, 0 if whoever read
        its output, such as ``head``, had enough.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is ours
    quiet, verbose, file = (getattr(told, name, None) for name in ("quiet", "verbose", "log_file"))
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    try:
        with _printing(), logged(level, file):
            return _told(program, command, interrupted)
    except KeyboardInterrupt:  # just before the command, or just after it
        print(f"\nInterrupted. {interrupted}", file=sys.stderr)
        return 130
    except DataError as error:  # of standard output, or of the log's file
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if not any(map(_is_unread, (sys.stdout, sys.stderr))):
            raise  # a pipe of its own broke, and the command is not done
        # Python flushes standard output once more when it ends, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _told(program: str, command: Callable[[], int], interrupted: str) -> int:
    """Run a command, and tell what ended it."""
    try:
        return command()
    except KeyboardInterrupt as stop:
        LOG.error("\nInterrupted. %s", str(stop) or interrupted)
        return 130  # 128 + SIGINT, as shells have it
    except DataError as error:
        LOG.error("%s: %s", program, error)
        return 2
    except Exception as error:
        if (explained := _explained(error)) is None:
            LOG.debug("Ended by an error that omfa does not know", exc_info=True)
            raise
        LOG.error("%s: %s", program, explained)
        return 2


def _is_unread(stream: Any) -> bool:
    """Return whether whoever read a stream has gone; True where the system cannot tell."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # no such call, or a stream that is no file
        return not hasattr(select, "poll")
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _explained(error: Exception) -> DataError | None:
    """Return in three parts what a plain install or an object store's client raises; None else."""
    # fsspec raises an ImportError of its own from that of the package.
    missing = error.__cause__ if type(error) is ImportError else error
    package = (getattr(missing, "name", None) or "").partition(".")[0]
    if isinstance(error, ImportError) and package in _EXTRAS:
        return DataError(
            "Importing what this command needs",
            f"the package {package} is not installed",
            f"Run: pip install 'omfa[{_EXTRAS[package]}]'",
        )
    # By module: their classes share no base, and importing them is not for every command.
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        return DataError(
            "Asking the object store",
            str(error).rstrip("."),
            "Check the address, and give its client credentials and an endpoint: for s3 those are "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
        )
    return None


@contextmanager
def _printing() -> Iterator[None]:
    """Run a command whose letters its output may not have, and whose output may be full.

    Letters that the output's encoding lacks are escaped, and what goes to a stream that was closed
    before the start goes nowhere.

    Raises
    ------
    DataError
        If standard output cannot be written.
    BrokenPipeError
        If whoever read it has gone.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - it stays open
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()  # else the interpreter would fail at it, after the last word
    except OSError as error:
        # An error of a file names it; that of a print has no name.
        if error.filename is not None or isinstance(error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise DataError(
            "Printing what was done",
            f"standard output cannot be written ({error.strerror or error})",
            "Send it elsewhere; what the command stored stays",
        ) from error
