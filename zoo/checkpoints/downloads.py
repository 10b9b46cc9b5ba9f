"""The registry of named checkpoints, and the downloading of their files.

A registry, ``checkpoints.toml``, holds for each checkpoint its card, the sources of its files, and
their digests. Whatever the source, a file gets its name in the cache only once its digest is right.
A broken download is resumed, from another source too, since the digest proves that it is the same
file.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG, bar
from omfa.pipeline.words import nearest
from omfa.pipeline.writing import write_whole
from omfa.zoo.checkpoints.cards import FILES, Card

if TYPE_CHECKING:
    from filelock import AcquireReturnProxy

PACKAGE = Path(__file__).parents[1]
"""The zoo's folder, which holds ``checkpoints.toml`` and ``weights``."""

REGISTRY = "checkpoints.toml"

TIMEOUT = 30.0
"""Seconds for which a server may send nothing before it is given up."""

TRIES = 4
"""Attempts at one source; a source is left earlier if an attempt brings no new bytes."""

CHUNK = 1 << 16
"""Bytes that are written at once; a broken connection loses less than this."""

HEADER = "# Made by `omfa-zoo publish`: checkpoints, their sources and digests.\n\n"


@dataclass(frozen=True)
class Entry:
    """A named checkpoint, as a registry describes it.

    Attributes
    ----------
    card : Card
        The checkpoint's card, which can so be read without its weights.
    sources : tuple of str
        Where its folder is, in the order to try: ``"package"``, ``https://FOLDER``,
        ``hf://OWNER/REPO@REVISION`` or ``file://FOLDER``.
    files : dict
        The SHA-256 and the size in bytes of each file, by its name.
    """

    card: Card
    sources: tuple[str, ...]
    files: Mapping[str, tuple[str, int]]

    @property
    def size(self) -> int:
        """Size of all files together, in bytes."""
        return sum(size for _, size in self.files.values())

    @property
    def folders(self) -> list[Path]:
        """Where its files may be on this machine: in the package, then in the cache.

        The cache has a folder per version, so that a checkpoint published again under its name
        does not overwrite the one that an older registry asks for.
        """
        known = "".join(self.files[file][0] for file in FILES)
        version = hashlib.sha256(known.encode()).hexdigest()[:12]
        inside = [PACKAGE / "weights" / self.card.name] if "package" in self.sources else []
        return [*inside, home() / "checkpoints" / self.card.name / version]


def home() -> Path:
    """Return the folder for downloads: ``OMFA_HOME``, or ``omfa`` in the user's cache folder."""
    import pooch

    given = os.environ.get("OMFA_HOME")
    return Path(given).expanduser() if given else Path(pooch.os_cache("omfa"))


# ------------------------------------------------------------------------------------ the registry


def entries() -> dict[str, Entry]:
    """Read the registry of the package and the user's own, in ``OMFA_HOME``.

    Returns
    -------
    dict
        The checkpoints by name.

    Raises
    ------
    DataError
        If a registry is damaged, or the user's own repeats a name of the package's.
    """
    found = read_registry(PACKAGE / REGISTRY)
    own = home() / REGISTRY
    for name, entry in read_registry(own).items():
        if name in found:
            raise DataError(f"Reading {own}", f"omfa has a checkpoint {name!r}", "Rename yours")
        found[name] = entry
    return found


def find(name: str) -> Entry:
    """Look a checkpoint up by its name.

    Raises
    ------
    DataError
        If no registry has the name; the message lists the names that there are.
    """
    known = entries()
    if name not in known:
        names = ", ".join(known) or "none yet"
        raise DataError(
            f"Looking for the checkpoint {name}",
            f"there is neither a folder nor a checkpoint of that name{nearest(name, known)}",
            f"Give a folder, or one of these names: {names}",
        )
    return known[name]


def read_registry(path: Path) -> dict[str, Entry]:
    """Read a registry; a file that does not exist counts as an empty one.

    Raises
    ------
    DataError
        If the file is not TOML, or an entry lacks a field or has an invalid one.
    """
    doing = f"Reading {path}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(doing, str(error), "Correct it, or install omfa again") from error
    found = {}
    for name, entry in sorted(tables.items()):
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
    """Return the text of a registry; the same entries give the same text."""
    import tomli_w

    return HEADER + tomli_w.dumps(
        {
            name: {
                "sources": list(entry.sources),
                "files": {
                    file: {"sha256": sha256, "size": size}
                    for file, (sha256, size) in entry.files.items()
                },
                "card": _to_toml(entry.card.to_dict()),
            }
            for name, entry in sorted(found.items())
        }
    )


def enter(path: Path, entry: Entry) -> None:
    """Put an entry into a registry, in place of one of the same name.

    Several processes may do so at the same time: each waits for its turn to read and write.

    Parameters
    ----------
    path : Path
        The registry; it is made if there is none.
    entry : Entry
        The checkpoint.

    Raises
    ------
    DataError
        If the registry is damaged, or cannot be written.
    """
    from filelock import FileLock

    try:
        if path.resolve().parent == home().resolve():
            home().mkdir(parents=True, exist_ok=True)
        path.parent.resolve(strict=True)  # the lock would make a folder whose name was mistyped
        # A file of its own: the registry is replaced whenever it is written, and its lock with it.
        with FileLock(path.with_name(f".{path.name}.lock")):
            known = {**read_registry(path), entry.card.name: entry}
            write_whole(path, registry_text(known))
    except OSError as error:
        raise DataError(f"Writing {path}", str(error), "Name another --registry") from error


def check_source(source: str) -> str:
    """Return a source unchanged.

    Raises
    ------
    DataError
        If it is of no known kind.
    """
    # Plain http too: digests come from the registry, so no source has to be trusted.
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
    """Put NaN for None: TOML has no null, and cards hold no NaN."""
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


# ----------------------------------------------------------------------------------- on the machine


def described(content: bytes) -> tuple[str, int]:
    """Return a file's SHA-256 and size in bytes, as a registry holds them."""
    return hashlib.sha256(content).hexdigest(), len(content)


def local_files(entry: Entry, *, problems: list[str] | None = None) -> dict[str, bytes] | None:
    """Read a checkpoint's files from this machine; None unless all are here with their digests.

    Parameters
    ----------
    entry : Entry
        The checkpoint.
    problems : list of str, optional
        A line is appended for each file that is here with another digest.
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
        One of ``list_checkpoints()``.
    progress : bool
        Show a bar for each file on standard error.

    Returns
    -------
    Path
        Its folder, for ``load`` and ``OMFA.from_pretrained``.

    Raises
    ------
    DataError
        If no source has it; the message says how each failed.

    Examples
    --------
    >>> from omfa.zoo import download
    >>> download("omfa-tiny-openeeg").name  # it comes with the package
    'omfa-tiny-openeeg'
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


def _alone(lock: Path, name: str, progress: bool) -> AcquireReturnProxy:
    """Hold a lock, which goes when its process ends; others wait, and then find the files."""
    from filelock import FileLock, Timeout

    one = FileLock(lock)
    try:
        # After a second it says what it waits for; most of the time nobody else is there.
        return one.acquire(timeout=1)
    except Timeout:
        if progress:
            LOG.info("Waiting for another process that downloads %s", name)
        return one.acquire()


def _right(path: Path, expected: tuple[str, int]) -> bool:
    sha256, size = expected
    try:
        with path.open("rb") as file:
            # The size first: a file of another one need not be read.
            same_size = path.stat().st_size == size
            return same_size and hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bring(entry: Entry, file: str, path: Path, progress: bool, failed: set[str]) -> None:
    """Get one file from the first source that has it whole; those that failed before come last."""
    expected = entry.files[file]
    if _right(path, expected):
        return
    path.unlink(missing_ok=True)  # nothing but the published file may have this name
    part = path.with_name(f"{file}.part")
    answers = []
    for place in sorted(_places(entry), key=failed.__contains__):
        fetch = partial(_fetch, place, file, part, expected[1], progress)
        answer = _fill(part, expected, fetch)
        if answer is None:
            part.replace(path)
            return
        failed.add(place)
        answers.append(f"{place}: {answer}")
    raise DataError(
        f"Downloading {file} of the checkpoint {entry.card.name}",
        _without_passwords("; ".join(answers))
        or "it has no source to download from, and the package lacks it",
        "Check the network, set OMFA_ZOO_MIRROR to a server or folder that has it, or set "
        "OMFA_HOME to a cache that was filled elsewhere with omfa-zoo download",
    )


def _fill(part: Path, expected: tuple[str, int], fetch: Callable[[], None]) -> str | None:
    """Fetch from one source until the partial file is right; return why it cannot be, or None."""
    size = expected[1]
    answer = ""
    for _ in range(TRIES):
        begun = _size(part)
        if begun < size:
            try:
                fetch()
            except Exception as error:  # requests, the hub or the disk: the next source may do
                answer = _plain(error)
        if _right(part, expected):
            return None
        now = _size(part)
        if now >= size:
            part.unlink()
            what = "larger than the published one" if now > size else "not the published one"
            answer = f"the file there is {what} (wrong digest)"
            if not begun:
                return answer
            # Its beginning was another source's: this one may have the right file from its start.
        elif now <= begun:
            return answer or f"the file there is cut off after {now} of {size} bytes"
    return answer


def _plain(error: Exception) -> str:
    """Say in a few words why a source failed."""
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


def _without_passwords(text: str) -> str:
    """Leave ``user:password@`` out of every address in a text, however malformed."""
    return re.sub("//[^/]*@", "//", text)


# ------------------------------------------------------------------------------------- the sources


def _places(entry: Entry) -> list[str]:
    """List where a checkpoint's folder may be fetched from, a mirror first."""
    mirror = os.environ.get("OMFA_ZOO_MIRROR")
    mirrors = [f"{mirror.rstrip('/')}/{entry.card.name}"] if mirror else []
    return [*mirrors, *(source for source in entry.sources if source != "package")]


def _fetch(place: str, file: str, part: Path, size: int, progress: bool) -> None:
    """Fetch a file into ``part``: from a web server what is missing, from elsewhere the whole."""
    kind = urlsplit(place).scheme
    if kind in ("http", "https"):
        _fetch_rest(f"{place.rstrip('/')}/{file}", part, size, progress)
        return
    if kind == "hf":
        from huggingface_hub import hf_hub_download

        repo, _, revision = place.removeprefix("hf://").partition("@")
        path = Path(hf_hub_download(repo, file, revision=revision))
    else:
        folder = url2pathname(urlsplit(place).path) if kind == "file" else place
        path = Path(folder).expanduser() / file
    # Before a byte is copied: a mirror's file may be larger than the disk, or have no end.
    if (found := path.stat().st_size) != size:
        raise OSError(f"the file there has {found} bytes, the published one {size}")
    shutil.copyfile(path, part)


# The only transfer that omfa does itself, because no library resumes across runs and sources.
# Measured with pooch 1.9 and huggingface_hub 2.4: `pooch.retrieve` and `hf_hub_download` delete a
# broken download. `huggingface_hub.file_download.http_get` resumes, but drops up to 10 MB at each
# break, asks no server while HF_HUB_OFFLINE is set, and, like pooch, prints passwords of addresses.
def _fetch_rest(url: str, part: Path, size: int, progress: bool) -> None:
    """Append to ``part`` what it lacks of a web server's file, at most a chunk beyond ``size``."""
    import requests

    start = _size(part)
    headers = {"Accept-Encoding": "identity"}  # a range of compressed bytes would not fit
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        # A server may ignore the range and send the whole file.
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        with (
            part.open("ab" if resumed else "wb") as file,
            bar(
                what=part.stem,
                total=size,
                initial=file.tell(),
                unit="B",
                unit_scale=True,
                shown=None if progress else False,
            ) as counted,
        ):
            for chunk in response.iter_content(CHUNK):
                counted.update(file.write(chunk))
                if file.tell() > size:
                    return
