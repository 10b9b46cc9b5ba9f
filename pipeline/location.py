"""Where a store lies: a folder on a disk, or a prefix in an object store.

Both offer the same promise: a set of files appears under its name whole or not at all. On a disk
the files are written to a staging folder and renamed. Object stores cannot rename, so there the
file whose presence makes the set count is written last and removed first.

A set is not flushed to the disk file by file: dozens of small flushes a recording would cost more
than all the work on it when the disk is busy. After a power cut, checksums find what did not reach
the disk, and a rerun makes it again.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from omfa.pipeline.writing import staged_folder, write_whole

STAGING = ".staging"
"""Where half-written recordings lie; nothing in it has its final name."""

# Seconds. Only for runs on other machines, whose processes cannot be seen from here.
_ABANDONED_AFTER = 24 * 3600.0


Content = bytes | memoryview
"""What a file holds."""


class Location(Protocol):
    """A place that holds a store."""

    @property
    def address(self) -> str:
        """What Zarr, xarray and people open."""

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it, sorted; none if it does not exist."""

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """

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
            The run that writes, from ``this_process``.
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


def this_process() -> str:
    """Name this process so that another run can find out whether it still lives."""
    import psutil  # only runs that write need it

    # With its start: the system gives the ids of processes that ended to others.
    return f"{socket.gethostname()}-{os.getpid()}-{int(psutil.Process().create_time())}"


def _abandoned(owner: Path) -> bool:
    import psutil

    # From the right, for host names hold hyphens too.
    host, pid, started = owner.name.rsplit("-", 2)
    if host != socket.gethostname():
        return time.time() - owner.stat().st_mtime > _ABANDONED_AFTER
    try:
        return int(psutil.Process(int(pid)).create_time()) != int(started)
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

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return (self.path / name).read_bytes()

    def files(self, folder: str) -> list[str]:
        """Return all files below a folder."""
        base = self.path / folder
        return sorted(p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file())

    def write(self, name: str, content: bytes) -> None:
        """Stage, flush, rename over the old file."""
        write_whole(self.path / name, content, staging=self.path / STAGING / this_process())

    def create(self, name: str, content: bytes) -> bool:
        """Link a finished file into place, which fails if the name is taken."""
        staging = self.path / STAGING / this_process()
        try:
            write_whole(self.path / name, content, staging=staging, replace=False)
        except FileExistsError:
            return False
        return True

    def commit(self, folder: str, content: Mapping[str, Content], *, last: str, owner: str) -> None:
        """Stage and rename."""
        staging = self.path / STAGING / owner
        with staged_folder(self.path / folder, staging=staging, flush=False) as stage:
            for name, data in content.items():
                file = stage / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)

    def sweep(self, owner: str) -> None:
        """Remove staging folders whose runs are over."""
        staging = self.path / STAGING
        if not staging.is_dir():
            return
        for run in list(staging.iterdir()):
            if run.name == owner or _abandoned(run):
                shutil.rmtree(run, ignore_errors=True)
        with suppress(OSError):  # another run is staging
            staging.rmdir()


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

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        return bytes(self._fs.cat_file(str(self._path / name)))

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
        self._fs.invalidate_cache()
        if self._fs.exists(str(self._path / name)):
            return False
        self.write(name, content)
        return True

    def commit(self, folder: str, content: Mapping[str, Content], *, last: str, owner: str) -> None:
        """Remove the file ``last`` of the old set, put the new set, and its ``last`` at the end."""
        base = self._path / folder
        old = set(self.files(folder))
        if last in old:
            self._fs.rm_file(str(base / last))
        for stale in old - content.keys() - {last}:
            self._fs.rm_file(str(base / stale))
        self._fs.pipe({str(base / n): bytes(c) for n, c in content.items() if n != last})
        self.write(f"{folder}/{last}", bytes(content[last]))

    def sweep(self, owner: str) -> None:
        """Do nothing: objects have no staging."""
