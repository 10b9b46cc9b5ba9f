"""What a command prints reaches its reader, or the command says in words why it does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from omfa.pipeline.errors import DataError


@contextmanager
def printing() -> Iterator[None]:
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
