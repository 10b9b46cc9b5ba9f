"""Write a file, or a folder of files, whole or not at all.

It is written under a name that nobody else can have, flushed to the disk and renamed: its own name
stands for the old content or the new, also after a power cut. The renaming itself is not flushed: a
power cut right after it may bring the old content back, which is whole too.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_whole(
    path: str | Path, content: bytes | str, *, staging: Path | None = None, replace: bool = True
) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : str or Path
        Its folder is made if it is not there.
    content : bytes or str
        Text is written as UTF-8, with its line ends as they are.
    staging : Path, optional
        The folder to write it in first, on the same disk; by default the file's own.
    replace : bool
        Whether to replace a file that has the name.

    Raises
    ------
    FileExistsError
        If the name is taken and ``replace`` is False.
    OSError
        If it cannot be written. An old file is then as it was.
    """
    with staged(path, staging=staging, replace=replace) as out:
        out.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def staged(
    path: str | Path, *, staging: Path | None = None, replace: bool = True
) -> Iterator[BinaryIO]:
    """Open a file that takes its name when the block ends, and leaves nothing after an error.

    Parameters
    ----------
    path, staging, replace
        As ``write_whole``.

    Yields
    ------
    file
        Open for writing bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, staging)
    try:
        with draft.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        if replace:
            draft.replace(path)
        else:
            os.link(draft, path)  # a rename would replace; a link fails if the name is taken
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def staged_folder(
    path: str | Path, *, staging: Path | None = None, flush: bool = True
) -> Iterator[Path]:
    """Make a folder that takes its name when the block ends, and leaves nothing after an error.

    Parameters
    ----------
    path : str or Path
        Its parent is made if it is not there. A folder of that name is replaced: between two
        renames it is missing, and never a mixture of old and new.
    staging : Path, optional
        The folder to make it in first, on the same disk; by default the parent.
    flush : bool
        Flush each file to the disk before the folder takes its name. Leave it out where damage
        would be noticed and mended, since many small flushes are slow.

    Yields
    ------
    Path
        The folder to put files into.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, staging)
    old: list[Path] = []
    try:
        draft.mkdir()
        yield draft
        if flush:
            _flush(draft)
        while True:
            try:
                draft.rename(path)
                break
            except OSError:
                if not path.is_dir() or not draft.is_dir():
                    raise
            # Taken, perhaps by another process between two turns of this loop.
            with suppress(FileNotFoundError):
                old.append(path.rename(_draft(path, staging)))
    except BaseException:
        if old and not path.exists():
            old.pop().rename(path)
        raise
    finally:
        for folder in (draft, *old):
            shutil.rmtree(folder, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Give a damaged file another name, which nothing reads, and return that name.

    Parameters
    ----------
    path : Path
        It may be gone already: another process may have been faster.
    """
    aside = path.with_name(f"{path.name}.damaged")
    with suppress(FileNotFoundError):
        path.replace(aside)
    return aside


def is_draft(path: Path, of: Path) -> bool:
    """Return whether a file or folder is what a killed process left of another.

    Parameters
    ----------
    path : Path
        In the folder that ``of`` is written in.
    of : Path
        What was to be written.
    """
    return bool(re.fullmatch(rf"\.?{re.escape(of.name)}(\.[0-9a-f]+)?\.part", path.name))


def _draft(path: Path, staging: Path | None) -> Path:
    """Return a name that no other process, thread or machine takes."""
    if staging is not None:
        staging.mkdir(parents=True, exist_ok=True)
    return (staging or path.parent) / f".{path.name}.{uuid.uuid4().hex[:12]}.part"


def _flush(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
