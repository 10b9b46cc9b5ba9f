"""What the readers of corpora share: finding files, tables of people, and telling of faults."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.folder import check_there, is_listed, is_service, left_out, text_of
from omfa.pipeline.recording import Key
from omfa.pipeline.words import nearest, some


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

    Places are the root itself, then each of ``folders`` in the root, one level down, and two, since
    the corpora unpack to trees of different depth. The first depth with a match is taken, unless a
    later one holds more: a stray copy is no corpus. Matches elsewhere, and files that look like
    those of the corpus and do not match, are named in a warning.

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
        If there is no match, or there are matches in several folders of one depth.
    """
    root = Path(root)
    doing = f"{corpus} reader: looking in {root}"
    if not root.is_dir():
        raise DataError(doing, "there is no such folder", "Give the folder that holds the corpus")
    depths: list[tuple[Path, list[Path]]] = []
    seen: set[str] = set()
    for globs in ([""], *([f"{up}{name}" for name in folders] for up in ("", "*/", "*/*/"))):
        places = [root] if globs == [""] else sorted(p for g in globs for p in root.glob(g))
        places = [p for p in places if not any(map(is_service, p.relative_to(root).parts))]
        found = {p: names for p in places if (names := _matches(p, pattern, inner))}
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
        _name_left_out(root, place, taken, elsewhere,
                       f"{pattern}|{known}", where=f"{corpus} reader: {root}")  # fmt: skip
        return taken
    inside = some(sorted(path.name for path in root.iterdir()), 5) or "nothing"
    raise DataError(
        doing,
        f"there is no file like those of {corpus} in it or in a folder {' or '.join(folders)}; "
        f"it holds {inside}",
        f"Give the folder that {corpus} was unpacked to, or another source or variant",
    )


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


def beside(path: Path, name: str) -> Path | None:
    """Find a file that goes with another: in its folder, the parent, or the parent's folders."""
    folder = path.parent
    others = sorted(p for p in folder.parent.glob(f"*/{name}") if not is_service(p.parent.name))
    places = [folder / name, folder.parent / name, *others]
    return next((place for place in places if place.is_file()), None)


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
    except (csv.Error, UnicodeError) as error:
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
        if isinstance(error.filename, str):
            check_there(Path(error.filename), where=doing)
        raise DataError(
            doing,
            f"a file cannot be read ({error.strerror or error})",
            "Check that it is there, and its permissions",
        ) from error
