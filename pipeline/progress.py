"""What omfa says while it works: the log, and bars of long work.

Code says things to ``LOG`` and counts by ``bar``; where that is shown is for whoever runs it to
say, a command by ``--quiet``, ``--verbose`` and ``--log-file`` (``console``), a script by
Python's ``logging``.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from omfa.pipeline.errors import DataError

LOG = logging.getLogger("omfa")
"""omfa's logger. Nothing is shown by it until handlers are set, warnings and errors apart."""

SECONDS = 60.0
"""Between two lines of a log that stand for a bar: a day's work is not ten thousand lines."""


class _Lines(tqdm):
    """A bar that is a line of the log, once a minute and at the end."""

    monitor_interval = 0  # no thread for it
    always = False
    """Whether it stands for bars on a terminal too."""

    def __init__(self, *args: Any, **how: Any) -> None:
        self._told, self._long = how.get("initial", 0), False
        # What tqdm writes beside its lines goes nowhere. miniters: else it would look at the clock
        # only after as many as took a minute before.
        super().__init__(*args, file=io.StringIO(), mininterval=SECONDS, miniters=1, ncols=0, **how)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None and self.n > self._told:
            LOG.info("%s", str(self))  # as it is now
            self._told, self._long = self.n, True

    def close(self) -> None:
        if not self.disable and self.n > self._told:
            # Nobody waited for what took less than a minute, and needs to hear that it is done.
            LOG.log(logging.INFO if self._long else logging.DEBUG, "%s", str(self))
        self._told, self.leave = self.n, False
        super().close()


def bar(
    items: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    what: str | None = None,
    unit: str = "it",
    shown: bool | None = None,
    leave: bool = True,
    initial: int = 0,
    unit_scale: bool = False,
) -> tqdm[Any]:
    """Count work: a bar on a terminal or in a notebook, elsewhere a line of the log a minute.

    Parameters
    ----------
    items : iterable, optional
        What is counted as it is iterated; without it the caller calls ``update``.
    total : int, optional
        How many there are.
    what : str, optional
        What stands before it.
    unit : str
        One of what is counted: ``"rec"``.
    shown : bool, optional
        False shows nothing, not even in the log.
    leave : bool
        Whether it stays when it is done.
    initial : int
        How many are done already.
    unit_scale : bool
        Whether numbers are shown as k, M, ...

    Returns
    -------
    tqdm.tqdm
    """
    how: dict[str, Any] = {
        **{"total": total, "desc": what, "unit": unit, "leave": leave, "initial": initial},
        **{"unit_scale": unit_scale, "disable": shown is False},
    }
    if "ipykernel" in sys.modules:
        from tqdm.auto import tqdm as notebook  # takes a fifth of a second

        return notebook(items, **how)
    if shown is False or (sys.stderr.isatty() and not _Lines.always):
        return tqdm(items, **how)
    return _Lines(items, **how)


class _Console(logging.Handler):
    """Writes to standard error, above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def logged(level: int = logging.INFO, file: Path | None = None) -> Iterator[None]:
    """Show the log on standard error, and keep it in a file.

    Parameters
    ----------
    level : int
        What standard error shows at least; without ``logging.INFO`` there are no bars either.
    file : Path, optional
        Where all of it is kept, with times, behind what is there already.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    if any(isinstance(handler, _Console) for handler in LOG.handlers):
        yield  # a command that another runs, whose flags say what is told
        return
    handlers: list[logging.Handler] = [_Console(level)]
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            kept = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise DataError(
                f"Keeping the log in {file}",
                f"it cannot be written ({error.strerror or error})",
                "Name another file, or leave --log-file out",
            ) from error
        kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(kept)
    before = LOG.level, LOG.propagate, _Lines.always
    LOG.setLevel(logging.DEBUG)
    LOG.propagate, _Lines.always = False, level > logging.INFO
    for handler in handlers:
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()
        LOG.level, LOG.propagate, _Lines.always = before
