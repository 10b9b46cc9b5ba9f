"""What the readers of corpora share: finding files, tables of people, and telling of faults."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.folder import (
    check_there,
    is_listed,
    is_service,
    left_out,
    once,
    text_of,
)
from omfa.pipeline.recording import Key
from omfa.pipeline.words import nearest, some

_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".gz")


def find(
    root: str | Path,
    folders: Sequence[str],
    pattern: str,
    *,
    corpus: str,
    known: str = r"(?!)",
    inner: str = "",
) -> list[Path]:
    """Find the files of one folder of a corpus.

    Places are the root itself, then each of ``folders``, in any case of letters, in the root, one
    level down, and two, since the corpora unpack to trees of different depth. The first depth with
    a match is taken, unless a later one holds more: a stray copy is no corpus. Matches elsewhere
    and in copies of the folder, links to other matches, and files that look like those of the
    corpus and do not match are named in a warning.

    Parameters
    ----------
    root : path
    folders : sequence of str
        Names that the files' folder may have.
    pattern : str
        Regular expression for a whole file name, in any case.
    corpus : str
        For the error.
    known : str
        Regular expression for other files of the corpus, which look like recordings.
    inner : str
        Regular expression for the names of folders in a place, whose files are the place's too.

    Raises
    ------
    DataError
        If there is no match, there are matches in several folders of one depth, or a folder cannot
        be read.
    """
    root = Path(root)
    doing = f"{corpus} reader: looking in {root}"
    if not root.is_dir():
        raise DataError(doing, "there is no such folder", "Give the folder that holds the corpus")
    try:
        return _find(root, folders, pattern, corpus=corpus, known=known, inner=inner, doing=doing)
    except OSError as error:
        raise DataError(
            doing,
            f"{error.filename} cannot be read ({error.strerror})",
            "Change its permissions, or give another folder",
        ) from error


def _find(
    root: Path,
    folders: Sequence[str],
    pattern: str,
    *,
    corpus: str,
    known: str,
    inner: str,
    doing: str,
) -> list[Path]:
    depths: list[tuple[Path, list[Path]]] = []
    seen: set[str] = set()
    for level in places(root, folders):
        found = {p: names for p in level if (names := _matches(p, pattern, inner))}
        found = {p: names for p, names in found.items() if os.path.realpath(p) not in seen}
        seen |= {os.path.realpath(p) for p in found}
        if len(found) > 1:
            raise DataError(
                doing,
                f"the recordings are in {len(found)} folders, {', '.join(map(str, found))}",
                "Give one of these folders",
            )
        depths += found.items()
    if depths:
        place, taken = max(depths, key=lambda depth: len(depth[1]))  # of equals the first
        real = set(map(os.path.realpath, taken))
        elsewhere = [p for _, d in depths for p in d if os.path.realpath(p) not in real]
        if place != root:
            copied = (_matches(copy, pattern, inner) for copy in copies_of(place, folders))
            elsewhere += [p for d in copied for p in d if os.path.realpath(p) not in real]
        where = f"{corpus} reader: {root}"
        _name_left_out(root, place, taken, elsewhere, f"{pattern}|{known}", where=where)
        return once(taken, where=where)
    inside = some(sorted(path.name for path in root.iterdir()), 5) or "nothing"
    raise DataError(
        doing,
        f"there is no file like those of {corpus} in it or in a folder {' or '.join(folders)}; "
        f"it holds {inside}",
        f"Give the folder that {corpus} was unpacked to or, if it has another name, that of the "
        "recordings themselves; or another source or variant",
    )


def places(root: Path, folders: Sequence[str]) -> Iterator[list[Path]]:
    """List where recordings may be: the root, then the folders of a name, three levels down."""
    names = {name.lower() for name in folders}
    yield [root]
    level = [root]
    for _ in range(3):
        level = [inside for folder in level for inside in _folders_in(folder)]
        yield sorted(folder for folder in level if folder.name.lower() in names)


def _folders_in(folder: Path) -> list[Path]:
    """List a folder's folders, but for programs' own; none if it cannot be read."""
    return [path for path in _listed_in(folder) if not is_service(path.name) and path.is_dir()]


def _listed_in(folder: Path) -> list[Path]:
    """List what is in a folder; nothing if it cannot be read, which may be nobody's concern."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def copies_of(place: Path, folders: Sequence[str]) -> list[Path]:
    """List the copies of the recordings' folder that lie beside it: ``EEG_raw (1)``."""
    begins = tuple(name.lower() for name in folders)
    return [
        folder
        for folder in _folders_in(place.parent)
        if folder.name.lower().startswith(begins) and folder.name.lower() not in begins
    ]


def _matches(place: Path, pattern: str, inner: str) -> list[Path]:
    if not place.is_dir():
        return []
    whole, holder = (re.compile(text, re.IGNORECASE) for text in (pattern, inner))
    folders = [place, *(p for p in place.iterdir() if holder.fullmatch(p.name) and p.is_dir())]
    return sorted(
        p
        for folder in folders
        if folder is place or not is_service(folder.name)
        for p in folder.iterdir()
        if whole.fullmatch(p.name) and is_listed(p)
    )


def _name_left_out(
    root: Path,
    place: Path,
    taken: Sequence[Path],
    elsewhere: Sequence[Path],
    known: str,
    *,
    where: str,
) -> None:
    """Warn of matches in other folders, and of files with the recordings' suffix beside them."""
    whole = re.compile(known, re.IGNORECASE)
    suffixes = {path.suffix.lower() for path in taken}
    odd = [
        path
        for folder in sorted({path.parent for path in taken})
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and is_listed(path) and path.name[0] != "."
        if not whole.fullmatch(path.name)
    ]
    for paths, why in (
        (elsewhere, f"lie outside {place}"),
        (odd, "are not named as recordings of the corpus are"),
    ):
        if paths:
            left_out(where, [path.relative_to(root).as_posix() for path in paths], why)
    packed = (path for folder in {place, *(p.parent for p in taken)} for path in folder.iterdir())
    name_packed(packed, taken, root=root, where=where)


def name_packed(paths: Iterable[Path], taken: Iterable[Path], *, root: Path, where: str) -> None:
    """Warn of archives beside recordings, but for those of the name of a recording."""
    unpacked = {name.lower() for path in taken for name in (path.name, path.stem)}
    packed = [
        path.relative_to(root).as_posix()
        for path in paths
        if path.suffix.lower() in _ARCHIVES and path.stem.lower() not in unpacked
        if path.name[0] != "." and path.is_file()
    ]
    if packed:
        left_out(where, packed, "are archives, which are not unpacked here,")


def beside(path: Path, name: str, *, in_neighbours: bool = True) -> Path | None:
    """Find a file that goes with another: in its folder, the parent, or the parent's folders.

    Parameters
    ----------
    path : Path
    name : str
        In any case of letters; may be below a folder: ``"Ratings/ratings.mat"``.
    in_neighbours : bool
        Whether to look in the parent's other folders, which may be of something else.

    Raises
    ------
    DataError
        If a folder of the name cannot be read.
    """
    folder = path.parent
    neighbours = _folders_in(folder.parent) if in_neighbours else []
    for place in (folder, folder.parent, *neighbours):
        first, *rest = name.split("/")
        found = in_any_case(_listed_in(place), first)
        for part in rest:
            try:
                found = in_any_case((p for f in found for p in f.iterdir()), part)
            except NotADirectoryError:
                found = []
            except OSError as error:
                raise DataError(
                    f"Looking for {name} beside {path}",
                    f"{error.filename} cannot be read ({error.strerror})",
                    "Change its permissions, or take it away",
                ) from error
        if files := [p for p in found if is_listed(p)]:
            return files[0]
    return None


def in_any_case(paths: Iterable[Path], name: str) -> list[Path]:
    """Return the paths of a name in any case of letters, one that has it as it is before others."""
    found = [path for path in paths if path.name.lower() == name.lower()]
    return sorted(found, key=lambda path: (path.name != name, path))


def key(subject: int | str, session: int, files: Sequence[Path | None], root: str | Path) -> Key:
    """Name a recording; numbered subjects get two digits. Files that are None are left out."""
    return Key(
        f"{subject:02d}" if isinstance(subject, int) else subject,
        str(session),
        # not Path.relative_to: a table may be in the root's parent
        files=tuple(Path(os.path.relpath(file, root)).as_posix() for file in files if file),
        root=str(root),
    )


def row_of(path: Path, subject: int, *, column: str, notes: list[str]) -> dict[str, str]:
    """Return a subject's row of a table of people: the cells as text, their names in lower case.

    Parameters
    ----------
    path : Path
        A CSV file.
    subject : int
    column : str
        The column, in lower case, whose digits are the subject's number.
    notes : list of str
        Where to say that the table cannot be used, which is no reason to refuse a recording.

    Returns
    -------
    dict of str to str
        Empty if there is no such row.
    """
    try:
        rows = list(csv.reader(text_of(path).splitlines()))
    except (csv.Error, UnicodeError, OSError) as error:
        notes.append(f"{path}: nothing of the person is known, since it cannot be read ({error}).")
        return {}
    names = [name.strip().lower() for name in (rows[0] if rows else [])]
    if column not in names:
        notes.append(f"{path}: nothing of the person is known, since it has no column {column}.")
    for row in rows[1:]:
        cells = dict(zip(names, map(str.strip, row), strict=False))
        number = re.search(r"\d+", cells.get(column, ""), re.ASCII)
        if number and int(number[0]) == subject:
            return cells
    return {}


def age_and_sex(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of a person from the cells ``age`` and ``gender``."""
    person: dict[str, Any] = {}
    if re.fullmatch(r"\d{1,3}", age := cells.get("age", ""), re.ASCII):
        person["age"] = int(age)
    if (sex := cells.get("gender", "")[:1].upper()) in ("F", "M"):
        person["sex"] = sex
    return person


def check_choice(corpus: str, what: str, given: str, choices: Sequence[str]) -> None:
    """Raise if an option has an unknown value."""
    if given not in choices:
        raise DataError(
            f"{corpus} reader: choosing the {what}",
            f"there is no {what} {given!r}{nearest(given, choices)}",
            f"Choose one of {', '.join(choices)}",
        )


def pick(channels: Sequence[str], wanted: Sequence[str], doing: str) -> list[int]:
    """Return where the wanted channels are among a file's, in any case of letters.

    Raises
    ------
    DataError
        If one is not there, or is there twice.
    """
    upper = [name.upper() for name in channels]
    # Twice first: of a name changed into another, that is what shows the damage.
    for name in sorted(wanted, key=lambda name: -upper.count(name.upper())):
        if (n := upper.count(name.upper())) != 1:
            raise DataError(
                doing,
                f"{n or 'no'} channels are called {name}; it has {', '.join(channels)}",
                "Check that this is a file of the corpus, and download it again",
            )
    return [upper.index(name.upper()) for name in wanted]


def telling(corpus: str, key: Key) -> str:
    """Say which recording is being read, for errors."""
    subject = key.subject.lstrip("0") or "0"
    name = Path(key.files[0]).name
    return f"{corpus} reader: subject {subject} session {key.session} ({name})"


@contextmanager
def opening(doing: str, path: Path) -> Iterator[None]:
    """Turn a file that is not there, or that the system cannot read, into a ``DataError``."""
    try:
        check_there(path, where=doing)
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else ""
        if name and isinstance(error, FileNotFoundError):
            check_there(Path(name), where=doing)
        raise DataError(
            doing,
            f"{Path(name).name or 'a file'} cannot be read ({error.strerror or error})",
            "Check that it is there, and its permissions",
        ) from error
