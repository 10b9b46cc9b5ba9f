"""The checkpoints that have names, and how their files get here.

``checkpoints.toml`` holds for each its card, where its files are, and their digests. Whatever the
source, a file has its name in the cache only once its digest is right; a broken download goes on
where it stopped, from another source too, since the digest says that it is the same file.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from omfa.pipeline.recording import DataError
from omfa.zoo.checkpoints.cards import FILES, Card

PACKAGE = Path(__file__).parents[1]
"""The zoo's folder, which holds ``checkpoints.toml`` and ``weights``."""

REGISTRY = "checkpoints.toml"

TIMEOUT = 30.0
"""Seconds that a server may be silent."""

TRIES = 4
"""Of one source, as long as each brings some bytes more."""

HEADER = "# Made by `omfa-zoo publish`: checkpoints, their sources and digests.\n\n"


@dataclass(frozen=True)
class Entry:
    """A checkpoint that has a name.

    Attributes
    ----------
    card : Card
    sources : tuple of str
        In order: ``"package"``, ``https://FOLDER``, ``hf://OWNER/REPO@REVISION``, ``file://FOLDER``.
    files : dict
        For each file its SHA-256 and its size in bytes.
    """

    card: Card
    sources: tuple[str, ...]
    files: Mapping[str, tuple[str, int]]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files.values())

    @property
    def folders(self) -> list[Path]:
        """Where its files may be on this machine: in the package, in the cache."""
        known = "".join(self.files[file][0] for file in FILES)
        version = hashlib.sha256(known.encode()).hexdigest()[:12]
        inside = [PACKAGE / "weights" / self.card.name] if "package" in self.sources else []
        return [*inside, home() / "checkpoints" / self.card.name / version]


def home() -> Path:
    """Return where omfa keeps what it downloads: ``OMFA_HOME``, or the user's cache folder."""
    import pooch

    given = os.environ.get("OMFA_HOME")
    return Path(given).expanduser() if given else Path(pooch.os_cache("omfa"))


def entries() -> dict[str, Entry]:
    """Read the checkpoints that have names: the package's, and those of ``OMFA_HOME``.

    Raises
    ------
    DataError
        If a registry is damaged, or two have the same name.
    """
    found = read_registry(PACKAGE / REGISTRY)
    own = home() / REGISTRY
    for name, entry in read_registry(own).items():
        if name in found:
            raise DataError(f"Reading {own}", f"omfa has a checkpoint {name!r}", "Rename yours")
        found[name] = entry
    return found


def find(name: str) -> Entry:
    """Return the checkpoint of a name.

    Raises
    ------
    DataError
        If there is none; the names that there are are told.
    """
    known = entries()
    if name not in known:
        names = ", ".join(known) or "none yet"
        raise DataError(
            f"Looking for the checkpoint {name}",
            "there is neither a folder nor a checkpoint of that name",
            f"Give a folder, or one of these names: {names}",
        )
    return known[name]


def read_registry(path: Path) -> dict[str, Entry]:
    """Read a registry; none is an empty one."""
    doing = f"Reading {path}"
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(doing, str(error), "Correct it, or install omfa again") from error
    found = {}
    for name, entry in sorted(told.items()):
        try:
            card = Card.from_dict(_from_toml(entry["card"]))
            files = {f: (entry["files"][f]["sha256"], entry["files"][f]["size"]) for f in FILES}
            sources = tuple(map(check_source, entry["sources"]))
        except (KeyError, TypeError, AttributeError) as error:
            found_ = f"{name} has no {error}" if isinstance(error, KeyError) else f"{name}: {error}"
            raise DataError(doing, found_, "Make it again with omfa-zoo publish") from error
        hashes = all(re.fullmatch("[0-9a-f]{64}", str(sha256)) for sha256, _ in files.values())
        sizes = all(type(size) is int and size > 0 for _, size in files.values())
        if card.name != name or not hashes or not sizes:
            what = "is not its card's name" if card.name != name else "has a wrong digest or size"
            raise DataError(doing, f"{name} {what}", "Make it again with omfa-zoo publish")
        found[name] = Entry(card, sources, files)
    return found


def registry_text(found: Mapping[str, Entry]) -> str:
    """Write a registry: the same entries give the same text."""
    import tomli_w

    return HEADER + tomli_w.dumps(
        {
            name: {
                "sources": list(entry.sources),
                "files": {
                    file: {"sha256": sha256, "size": size}
                    for file, (sha256, size) in entry.files.items()
                },
                "card": _to_toml(asdict(entry.card)),
            }
            for name, entry in sorted(found.items())
        }
    )


def check_source(source: str) -> str:
    """Return a source; refuse one of no known kind."""
    if source == "package" or source.startswith(("https://", "http://", "file://")):
        return source
    if re.fullmatch(r"hf://[\w.-]+/[\w.-]+@[\w./-]+", source):
        return source
    raise DataError(
        f"Reading the source {source!r} of a checkpoint",
        "it is of no known kind",
        "Write package, https://FOLDER, hf://OWNER/REPO@REVISION or file://FOLDER",
    )


def _to_toml(value: Any) -> Any:
    """TOML has no null; NaN, which cards cannot hold, stands for it."""
    if isinstance(value, dict):
        return {key: _to_toml(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_to_toml(entry) for entry in value]
    return math.nan if value is None else value


def _from_toml(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_toml(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_from_toml(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def described(content: bytes) -> tuple[str, int]:
    """Return a file's SHA-256 and size."""
    return hashlib.sha256(content).hexdigest(), len(content)


def local_files(entry: Entry, *, problems: list[str] | None = None) -> dict[str, bytes] | None:
    """Read a checkpoint's files from this machine, if they are here and right.

    Parameters
    ----------
    entry : Entry
    problems : list, optional
        Is told what is wrong with files that are here.
    """
    for folder in entry.folders:
        files = {}
        for file in FILES:
            try:
                files[file] = (folder / file).read_bytes()
            except OSError:
                break
            if described(files[file]) != entry.files[file]:
                if problems is not None:
                    problems.append(f"{folder / file} is not the published file")
                break
        else:
            return files
    return None


def download(name: str, *, progress: bool = False) -> Path:
    """Bring a checkpoint to this machine, unless it is here.

    Parameters
    ----------
    name : str
        Of ``list_checkpoints()``.
    progress : bool
        Show a bar for each file on standard error.

    Returns
    -------
    Path
        Its folder, for ``load`` and ``OMFA.from_pretrained``.

    Raises
    ------
    DataError
        If no source has it, with what each answered.
    """
    entry = find(name)
    for folder in entry.folders:
        if all(_right(folder / file, entry.files[file]) for file in FILES):
            return folder
    folder = entry.folders[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Downloading the checkpoint {name}",
            f"its cache cannot be written ({error})",
            "Set OMFA_HOME to a folder of yours",
        ) from error
    with _alone(folder / ".lock", name, progress):
        failed: set[str] = set()
        for file in FILES:
            _bring(entry, file, folder / file, progress, failed)
    return folder


@contextmanager
def _alone(lock: Path, name: str, progress: bool) -> Iterator[None]:
    """Let others wait, and then find the files; the lock goes when its process ends."""
    from filelock import FileLock, Timeout

    one = FileLock(lock)
    try:
        one.acquire(timeout=1)
    except Timeout:
        if progress:
            print(f"Waiting for another process that downloads {name}", file=sys.stderr)
        one.acquire()
    try:
        yield
    finally:
        one.release()


def _right(path: Path, expected: tuple[str, int]) -> bool:
    try:
        return path.stat().st_size == expected[1] and described(path.read_bytes()) == expected
    except OSError:
        return False


def _bring(entry: Entry, file: str, path: Path, progress: bool, failed: set[str]) -> None:
    """Get one file from the first source that has it whole; those that failed before come last."""
    expected = entry.files[file]
    if _right(path, expected):
        return
    path.unlink(missing_ok=True)  # whatever it is, it has no right to the name
    part = path.with_name(f"{file}.part")
    answers = []
    ways = _ways(entry, file, expected[1], progress)
    for source, get in sorted(ways, key=lambda way: way[0] in failed):
        answer = _get(get, part, expected)
        if answer is None:
            part.replace(path)
            return
        failed.add(source)
        answers.append(f"{source}: {answer}")
    raise DataError(
        f"Downloading {file} of the checkpoint {entry.card.name}",
        "; ".join(answers) or "it has no source to download from, and the package lacks it",
        "Check the network, set OMFA_ZOO_MIRROR to a server or folder that has it, or set "
        "OMFA_HOME to a cache that was filled elsewhere with omfa-zoo download",
    )


def _get(get: Callable[[Path], None], part: Path, expected: tuple[str, int]) -> str | None:
    """Fill the partial file, going on as long as bytes come; return what went wrong."""
    answer = ""
    for _ in range(TRIES):
        before = part.stat().st_size if part.exists() else 0
        if before < expected[1]:
            try:
                get(part)
            except Exception as error:  # of requests, the hub, the disk: the next source may do
                answer = _plain(error)
        size = part.stat().st_size if part.exists() else 0
        if size >= expected[1]:
            if _right(part, expected):
                return None
            part.unlink()
            answer = "the file there is not the published one (wrong digest)"
            if not before:
                return answer
            # Begun from another source, or before: this one may be right from its start.
        elif size <= before:
            return answer or f"the file there is cut off after {size} of {expected[1]} bytes"
    return answer


def _plain(error: Exception) -> str:
    """Say in a few words why a download failed; without addresses, which may hold passwords."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _ways(
    entry: Entry, file: str, size: int, progress: bool
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Go through the sources, a mirror first: what to call each, and how to get the file."""
    mirror = os.environ.get("OMFA_ZOO_MIRROR")
    places = [f"{mirror.rstrip('/')}/{entry.card.name}"] if mirror else []
    for place in [*places, *(source for source in entry.sources if source != "package")]:
        kind = urlsplit(place).scheme
        if kind == "hf":
            yield place, _Hub(place, file)
        elif kind in ("http", "https"):
            yield _without_password(place), _Web(f"{place.rstrip('/')}/{file}", size, progress)
        else:
            folder = url2pathname(urlsplit(place).path) if kind == "file" else place
            yield place, _Copy(Path(folder).expanduser() / file)


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True)
class _Copy:
    path: Path

    def __call__(self, part: Path) -> None:
        shutil.copyfile(self.path, part)


@dataclass(frozen=True)
class _Hub:
    """A repository of Hugging Face, by its own library: its cache, tokens and HF_ENDPOINT."""

    place: str
    file: str

    def __call__(self, part: Path) -> None:
        from huggingface_hub import hf_hub_download

        repo, _, revision = self.place.removeprefix("hf://").partition("@")
        shutil.copyfile(hf_hub_download(repo, self.file, revision=revision), part)


@dataclass(frozen=True)
class _Web:
    """A web server, by pooch; what is there of the file is not asked for again."""

    url: str
    size: int
    progress: bool

    def __call__(self, part: Path) -> None:
        from pooch import HTTPDownloader

        with part.open("ab") as file:
            start = file.tell()
            headers = {"Accept-Encoding": "identity"}  # else a range is of the packed bytes
            if start:
                headers["Range"] = f"bytes={start}-"

            def begin(response: Any, *_: Any, **__: Any) -> None:
                told = response.headers.get("Content-Range", "")
                if response.status_code == 206 and told.startswith(f"bytes {start}-"):
                    return
                if response.status_code in (200, 206):  # all of it, or something else
                    file.seek(0)
                    file.truncate()
                if response.status_code == 206:
                    raise OSError("the server sends another part than was asked for")

            downloader = HTTPDownloader(
                progressbar=self.progress,
                chunk_size=1 << 16,
                timeout=TIMEOUT,
                headers=headers,
                hooks={"response": begin},
            )
            downloader(self.url, _AtMost(file, self.size), None)


class _AtMost:
    """A file that takes no more bytes than it is to have."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def write(self, content: bytes) -> None:
        if self.file.tell() + len(content) > self.size:
            self.file.seek(0)
            self.file.truncate()
            raise OSError("the file there is larger than the published one")
        self.file.write(content)

    def flush(self) -> None:
        self.file.flush()
