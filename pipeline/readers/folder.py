"""What lies in a folder: the conventions by which every reader of files lists recordings.

Service folders hold copies and no recordings of their own. A folder or a file that is reached in
two ways is there once, since a signal of two names would be on both sides of a split. A link to
nothing is a recording that is not there: it is listed, so that reading it fails by its name. What
looks like a recording and is none of the source's is named in a ``SourceWarning``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from omfa.pipeline.errors import DataError
from omfa.pipeline.recording import SourceWarning
from omfa.pipeline.words import some

SERVICE = frozenset(
    {"derivatives", "__macosx", "__pycache__", "@eadir", "lost+found", "system volume information"}
    | {"#recycle", "@recycle", "$recycle.bin", "recycler", "#snapshot", "~snapshot"}
)
"""Folders that programs keep beside data, in lower case; so are all that begin with a dot."""

# What other programs leave in a recording's place, by how it begins: what it is, and what to do.
_OTHERS = {
    b"/annex/objects/": (
        "is a placeholder of git-annex: its content was not fetched",
        "Fetch it (`datalad get`)",
    ),
    b"version https://git-lfs": (
        "is a placeholder of git-lfs: its content was not fetched",
        "Fetch it (`git lfs pull`)",
    ),
    b"\x1f\x8b": ("is compressed by gzip", "Unpack it, under the name that it has inside"),
    b"PK\x03\x04": ("is a ZIP archive", "Unpack it"),
    b"<!doctype html": ("is a web page: the download did not succeed", "Download it again"),
    b"<html": ("is a web page: the download did not succeed", "Download it again"),
}


def is_service(name: str) -> bool:
    """Return whether a folder is a program's own: ``.git``, ``@eaDir``, ``derivatives``."""
    return name.startswith(".") or name.lower() in SERVICE


def is_listed(path: Path) -> bool:
    """Return whether a path is of a file, or of one that ought to be there: a link to nothing."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def walk(root: Path) -> Iterator[Path]:
    """List the files below a folder in order of their paths, links to nothing among them.

    Links to folders are followed. Each folder is entered once: under its own path where that is
    below the root, and else under the first link to it.

    Raises
    ------
    DataError
        If a folder cannot be read.
    """
    files: list[Path] = []
    links: list[Path] = []
    entered: set[str] = set()
    top = os.path.realpath(root)

    def enter(folder: Path) -> None:
        real = os.path.realpath(folder)
        above = top.startswith(real.rstrip(os.sep) + os.sep)  # a link that leads out and around
        if real in entered or above:
            return
        entered.add(real)
        for path in sorted(folder.iterdir()):
            if not path.is_dir():
                files.extend([path] if is_listed(path) and path.name[0] != "." else [])
            elif not is_service(path.name):
                links.append(path) if path.is_symlink() else enter(path)

    try:
        enter(root)
        while links:  # after every folder of the root's own
            enter(links.pop(0))
    except OSError as error:
        raise DataError(
            f"Looking for recordings in {root}",
            f"{error.filename} cannot be read ({error.strerror})",
            "Change its permissions, or give another folder",
        ) from error
    yield from sorted(files)


def once(paths: Iterable[Path], *, where: str) -> list[Path]:
    """Return files without those that are links to another of them, and say which were left out."""
    homes: dict[str, Path] = {}
    others: list[str] = []
    ordered = list(paths)
    for path in sorted(ordered, key=lambda path: (path.is_symlink(), path)):
        if (first := homes.setdefault(os.path.realpath(path), path)) != path:
            others.append(f"{path.name} ({path.parent}) is {first}")
    if others:
        left_out(where, others, "are links to files that are read under another name")
    kept = set(homes.values())
    return [path for path in ordered if path in kept]


def left_out(where: str, names: Iterable[object], why: str) -> None:
    """Warn of files that look like recordings and are not taken.

    Parameters
    ----------
    where : str
        The reader and the folder.
    names : iterable
        The files.
    why : str
        What is so of them: ``"do not match the pattern"``.
    """
    listed = sorted(map(str, names))
    warnings.warn(
        SourceWarning(f"{where}: {len(listed)} files {why} and are left out: {some(listed, 5)}"),
        stacklevel=3,
    )


def check_there(path: Path, *, where: str) -> None:
    """Raise if a file is not there, or is what another program left in its place.

    Raises
    ------
    DataError
    """
    if path.is_symlink() and not path.exists():
        target = path.readlink().as_posix()
        annexed = ".git/annex/" in target
        raise DataError(
            where,
            f"{path.name} is a link to nothing ({target})"
            + (": its content was not fetched by git-annex" if annexed else ""),
            f"Fetch it (`datalad get` or `git annex get {path.name}`)" if annexed else
            "Mend the link, or leave the file out of the folder",
        )  # fmt: skip
    if not path.is_file():
        raise DataError(where, f"{path} is not there", "Put it back, or leave its recording out")
    with path.open("rb") as file:
        head = file.read(64)
    for start, (found, action) in _OTHERS.items():
        if head.lower().startswith(start.lower()) and path.suffix.lower() not in (".gz", ".zip"):
            raise DataError(where, f"{path.name} {found}", action)


def text_of(path: Path, notes: list[str] | None = None) -> str:
    """Return the text of a small file: UTF-8, with or without a byte order mark, or UTF-16.

    What is neither is read as Latin-1, which every byte is a letter of.

    Parameters
    ----------
    path : Path
    notes : list of str or None
        Where to say that it was read as Latin-1.
    """
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if notes is not None:
            notes.append(f"{path}: it is not in UTF-8 and was read as Latin-1.")
        return content.decode("latin-1")
