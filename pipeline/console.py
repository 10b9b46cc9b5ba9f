"""How a command of omfa ends: its exit code, and words in place of a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omfa.pipeline.errors import DataError

_ZOO = (
    *("torch", "braindecode", "lightning", "sklearn", "pyriemann", "joblib", "safetensors"),
    *("tensorboard", "pooch", "filelock", "requests", "tomli_w"),
)
_EXTRAS = {"moabb": "moabb", "mne_bids": "bids", "s3fs": "s3", "gcsfs": "gcs"} | dict.fromkeys(
    _ZOO, "zoo"
)
"""The extra of omfa that brings a package, by the name that it is imported by."""


def run_command(program: str, command: Callable[[], int], *, interrupted: str) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    program : str
        ``"omfa-ingest"`` or ``"omfa-zoo"``; it stands before every error.
    command : callable
        Returns 0 if all is well, 1 if something failed.
    interrupted : str
        What is printed after Ctrl-C, or a batch system's stop: how to go on.

    Returns
    -------
    int
        The command's; 2 for wrong use and bad input, 130 if it was interrupted, 0 if whoever read
        its output, such as ``head``, had enough.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is ours
    try:
        with _printing():
            return command()
    except BrokenPipeError:
        # Python flushes standard output once more when it ends, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"\nInterrupted. {interrupted}", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells have it
    except DataError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        missing = DataError(
            "Importing what this command needs",
            f"the package {package} is not installed",
            f"Run: pip install 'omfa[{_EXTRAS[package]}]'",
        )
        print(f"{program}: {missing}", file=sys.stderr)
        return 2


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
