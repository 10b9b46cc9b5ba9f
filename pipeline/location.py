"""Where a store lies: a folder on a disk, or a prefix in an object store.

Both offer the same promise: a set of files appears under its name whole or not at all. On a disk
the files are written to a staging folder and renamed. Object stores cannot rename, so there the
file that makes the set count is written last, and until then a mark that a run writes stands in its
place.

Runs that share a store may not be able to see each other: containers have one host name and process
ids of their own, and threads one process. So what a run may do to another's staging is made
harmless. A staging folder that seems abandoned is renamed before it is emptied: a run that lives
all the same then misses it as a whole, never a part of it, and begins its set again.

A set is not flushed to the disk file by file: dozens of small flushes a recording would cost more
than all the work on it when the disk is busy. After a power cut, checksums find what did not reach
the disk, and a rerun makes it again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from omfa.pipeline.writing import staged_folder, write_whole

STAGING = ".staging"
"""Where half-written recordings lie; nothing in it has its final name."""

# Seconds. Only for runs on other machines, whose processes cannot be seen from here.
_ABANDONED_AFTER = 24 * 3600.0

# Each run that starts may sweep another's staging once; more at one moment is some other fault.
_TRIES = 5

_OWNER = re.compile(r"(.+?)-(\d+)-(\d+)(-[0-9a-f]{8})?(\.[0-9a-f]{8})?")

Content = bytes | memoryview
"""What a file holds."""

_WRITING = "being_written_by"


def being_written(document: Any) -> bool:
    """Return whether the JSON in a set's last file is the mark of a run that has yet to finish."""
    return isinstance(document, dict) and _WRITING in document


class Location(Protocol):
    """A place that holds a store."""

    @property
    def address(self) -> str:
        """What Zarr, xarray and people open."""

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it, sorted; none if it does not exist."""

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return a file's content.

        Parameters
        ----------
        name : str
        most : int, optional
            Bytes that it may have; no more are read.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        OSError
            If it cannot be read, or has more bytes.
        """

    def exists(self, name: str) -> bool:
        """Return whether there is a file of that name."""

    def size(self, name: str) -> int:
        """Return the bytes of a file; raise FileNotFoundError if there is none."""

    def files(self, folder: str) -> list[str]:
        """Return the names of all files below a folder, relative to it, sorted."""

    def write(self, name: str, content: bytes) -> None:
        """Write one file whole or not at all."""

    def create(self, name: str, content: bytes) -> bool:
        """Write one file unless it exists; return whether it was written."""

    def commit(self, folder: str, content: Mapping[str, Content], *, last: str, owner: str) -> None:
        """Make a folder appear with these files, whole or not at all, replacing any other.

        Parameters
        ----------
        folder : str
        content : mapping of str to bytes or memoryview
            Relative file names and what they hold.
        last : str
            The file without which the folder does not count.
        owner : str
            The run that writes, from ``this_run``.
        """

    def sweep(self, owner: str) -> None:
        """Remove the staging of this run and of runs that no longer live."""


def locate(address: str | Path, options: Mapping[str, Any] | None = None) -> Location:
    """Return the location of an address: a local path, or an fsspec URL such as ``s3://b/store``.

    Parameters
    ----------
    address : str or Path
    options : mapping, optional
        What fsspec's file system takes: credentials, an endpoint.
    """
    text = str(address)
    if text.startswith("file://"):
        return Folder(Path(text.removeprefix("file://")))
    if "://" in text:
        return Bucket(text.rstrip("/"), tuple((options or {}).items()))
    return Folder(Path(text).expanduser().absolute())


def this_run() -> str:
    """Name a run of this process so that another run can find out whether it still lives."""
    import psutil  # only runs that write need it

    # With its start: the system gives the ids of processes that ended to others.
    started = int(psutil.Process().create_time())
    return f"{socket.gethostname()}-{os.getpid()}-{started}-{uuid.uuid4().hex[:8]}"


def _abandoned(owner: Path) -> bool:
    import psutil

    try:
        old = time.time() - owner.stat().st_mtime > _ABANDONED_AFTER
    except FileNotFoundError:
        return False  # another run was faster
    named = _OWNER.fullmatch(owner.name)
    if not named or named[1] != socket.gethostname():
        return old
    try:
        return int(psutil.Process(int(named[2])).create_time()) != int(named[3])
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True)
class Folder:
    """A location on a disk."""

    path: Path

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.path)

    def folders(self) -> list[str]:
        """Return the names of the folders in it, staging left out."""
        try:
            with os.scandir(self.path) as entries:
                return sorted(e.name for e in entries if e.is_dir() and e.name != STAGING)
        except FileNotFoundError:
            return []

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return a file's content."""
        path = self.path / name
        if path.exists() and not path.is_file():  # reading a device or a pipe may never end
            raise OSError(errno.EINVAL, "it is no file")
        if most is None:
            return path.read_bytes()
        _check_size(path.stat().st_size, most)
        with path.open("rb") as file:
            content = file.read(most + 1)  # it may have grown
        _check_size(len(content), most)
        return content

    def exists(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        return (self.path / name).is_file()

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return (self.path / name).stat().st_size

    def files(self, folder: str) -> list[str]:
        """Return all files below a folder."""
        base = self.path / folder
        return sorted(p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file())

    def write(self, name: str, content: bytes) -> None:
        """Stage, flush, rename over the old file."""
        self._put(name, content, replace=True)

    def create(self, name: str, content: bytes) -> bool:
        """Link a finished file into place, which fails if the name is taken."""
        try:
            self._put(name, content, replace=False)
        except FileExistsError:
            return False
        return True

    def commit(self, folder: str, content: Mapping[str, Content], *, last: str, owner: str) -> None:
        """Stage and rename."""
        staging = self.path / STAGING / owner

        def commit() -> None:
            with staged_folder(self.path / folder, staging=staging, flush=False) as stage:
                # Never with parents: a stage that was swept must be missed, not made again.
                for parent in sorted({p for n in content for p in PurePosixPath(n).parents}):
                    if parent.name:
                        (stage / parent).mkdir()
                for name, data in content.items():
                    (stage / name).write_bytes(data)

        _unless_swept(commit)

    def sweep(self, owner: str) -> None:
        """Remove staging folders whose runs are over."""
        staging = self.path / STAGING
        if not staging.is_dir():
            return
        for run in list(staging.iterdir()):
            if run.name == owner or _abandoned(run):
                gone = staging / f"{owner}.{uuid.uuid4().hex[:8]}"
                with suppress(OSError):  # another run was faster, or it is another user's
                    run.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
        _remove_empty(staging)

    def _put(self, name: str, content: bytes, *, replace: bool) -> None:
        staging = self.path / STAGING / this_run()
        _unless_swept(
            partial(write_whole, self.path / name, content, staging=staging, replace=replace)
        )
        _remove_empty(staging)
        _remove_empty(staging.parent)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes")


def _unless_swept(write: Callable[[], None]) -> None:
    """Write, and again if another run took this one for dead and swept its staging away."""
    for _ in range(_TRIES):
        try:
            return write()
        except FileNotFoundError:
            pass
    write()


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # another run is staging
        folder.rmdir()


@dataclass(frozen=True)
class Bucket:
    """A location in an object store, through fsspec."""

    address: str
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)  # may hold credentials

    @cached_property
    def _opened(self) -> tuple[Any, PurePosixPath]:
        import fsspec

        fs, path = fsspec.core.url_to_fs(self.address, **dict(self.options))
        return fs, PurePosixPath(path)

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    @property
    def _path(self) -> PurePosixPath:
        return self._opened[1]

    # The connection stays behind: a worker opens its own.
    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def folders(self) -> list[str]:
        """Return the names of the prefixes directly below it, freshly listed."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(str(self._path), detail=True)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(e["name"]).name for e in entries if e["type"] == "directory")

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return an object's content."""
        path = str(self._path / name)
        if most is None:
            return bytes(self._fs.cat_file(path))
        content = bytes(self._fs.cat_file(path, start=0, end=most + 1))
        _check_size(len(content), most)
        return content

    # A listing that was kept may be from before another run wrote.

    def exists(self, name: str) -> bool:
        """Return whether there is an object of that name."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(str(self._path / name)))

    def size(self, name: str) -> int:
        """Return the bytes of an object."""
        self._fs.invalidate_cache()
        return int(self._fs.size(str(self._path / name)))

    def files(self, folder: str) -> list[str]:
        """Return all objects below a prefix."""
        base = self._path / folder
        self._fs.invalidate_cache()
        return sorted(
            str(PurePosixPath(name).relative_to(base)) for name in self._fs.find(str(base))
        )

    def write(self, name: str, content: bytes) -> None:
        """Put one object, which object stores do atomically."""
        self._fs.pipe_file(str(self._path / name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Put one object unless it exists."""
        if self.exists(name):
            return False
        self.write(name, content)
        return True

    def commit(self, folder: str, content: Mapping[str, Content], *, last: str, owner: str) -> None:
        """Put a mark in place of the file ``last``, then the new set, and ``last`` at the end."""
        base = self._path / folder
        self.write(f"{folder}/{last}", json.dumps({_WRITING: owner}).encode())
        for stale in set(self.files(folder)) - content.keys() - {last}:
            self._fs.rm_file(str(base / stale))
        self._fs.pipe({str(base / n): bytes(c) for n, c in content.items() if n != last})
        self.write(f"{folder}/{last}", bytes(content[last]))

    def sweep(self, owner: str) -> None:
        """Do nothing: objects have no staging."""
