"""What every reader promises, tried on a small tree of its source: ``check_reader``.

A check is a generator that yields what is not so. Half of them are what ``ingest`` relies on
(``"must"``): keys and recordings that can be used, on any worker, again and again. The others are
the conventions of readers of folders (``"should"``), by which no recording is taken twice and none
is lost without a word: links, service folders, copies, files that were never fetched.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from omfa.pipeline.errors import DataError
from omfa.pipeline.recording import (
    TRIAL_COLUMNS,
    Key,
    Reader,
    Recording,
    SourceWarning,
    plausible_unit,
)
from omfa.pipeline.words import size

LARGEST = 256 * 2**20
"""Bytes of the tree: it is copied a dozen times, so that a corpus would fill the disk."""

HEAD = 2048
"""Bytes of a recording's first file that ``discover`` may look at: a header, and no signal."""

SERVICE = (
    *(".git/annex", ".snapshot", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", "derivatives"),
    *("__MACOSX", "#snapshot", "~snapshot", "@Recycle", "RECYCLER", "System Volume Information"),
    "__pycache__",
)
"""Folders of other programs, which hold copies and no recordings of their own."""

LEFT = {
    "a placeholder of git-annex": (b"/annex/objects/MD5E-s9--0.edf\n", "was not fetched"),
    "a placeholder of git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "was not fetched",
    ),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "is compressed by gzip"),
    "a ZIP archive": (b"PK\x03\x04" + bytes(99), "is a ZIP archive"),
    "a web page": (b"<!DOCTYPE html><p>Sign in", "is a web page"),
}
"""What other programs leave in a recording's place, and the words that say so."""


@dataclass(frozen=True)
class Finding:
    """What a reader does not keep.

    Parameters
    ----------
    level : {"must", "should"}
        ``"must"``: ingest relies on it. ``"should"``: a convention of the readers of folders.
    check : str
        Which check found it, a name of ``CHECKS``.
    found : str
        What is so.
    action : str
        What to do.
    """

    level: Literal["must", "should"]
    check: str
    found: str
    action: str

    def __str__(self) -> str:
        return f"{self.level} {self.check}: {self.found}. {self.action}."

    __repr__ = __str__


Broken = Iterator[tuple[str, str]]
"""What is found, and what to do, as a check yields them."""


@dataclass
class Case:
    """A reader with a tree to try it on, and a folder for changed copies of the tree."""

    reader: Reader
    root: Path
    scratch: Path
    copies: int = field(default=0, init=False)

    @cached_property
    def keys(self) -> Sequence[Key]:
        """What the reader lists in the tree as it is."""
        return list(self.reader.discover(self.root))

    @cached_property
    def recording(self) -> Recording:
        """The first recording."""
        return self.reader.read(self.keys[0])

    @property
    def own_files(self) -> bool:
        """Whether each recording has a file of its own."""
        return len({key.files[0] for key in self.keys}) == len(self.keys)

    def listed(self, root: Path) -> list[tuple[str, tuple[str, ...]]]:
        """Return names and files of the recordings below a folder."""
        return [(key.recording, tuple(map(str, key.files))) for key in self.reader.discover(root)]

    def folder(self) -> Path:
        """Return a path at which nothing is."""
        self.copies += 1
        return self.scratch / f"{self.copies}" / "raw"

    def copy(self) -> Path:
        """Copy the tree, with what is no recording's."""
        return Path(shutil.copytree(self.root, self.folder(), symlinks=True))


# ------------------------------------------------------------------------------- what ingest needs


def _lists(case: Case) -> Broken:
    keys = case.keys
    if not keys:
        yield (
            "discover() lists nothing",
            "Raise a DataError where a folder does not hold the source",
        )
        return
    if not all(isinstance(key, Key) and key.files for key in keys):
        yield (
            "discover() lists something else than Keys with files",
            "Return Key(subject, files=...)",
        )
        return
    if keys != sorted(keys):
        yield "the keys are not sorted", "Sort them, so that two machines list alike"
    if len({key.recording for key in keys}) < len(keys):
        yield "two recordings have one name", "Tell them apart by session or run"
    if gone := [str(path) for key in keys for path in key.paths if not path.is_file()]:
        yield f"{gone[0]} does not exist", "Give files relative to root"
    if list(case.reader.discover(str(case.root))) != keys:
        yield "root as text, or a second time, gives other keys", "Take Path(root) first"


def _needs_no_signal(case: Case) -> Broken:
    if not case.own_files:
        return  # the one file tells how many recordings it holds
    there = case.folder()
    for key in case.keys:
        for i, (name, path) in enumerate(zip(key.files, key.paths, strict=True)):
            target = there / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes()[: None if i else HEAD])
    found = [key.recording for key in case.reader.discover(there)]
    if found != [key.recording for key in case.keys]:
        yield (
            f"files cut at {HEAD} bytes are listed otherwise",
            "List by names; leave what is in a file to read()",
        )


def _pickles(case: Case) -> Broken:
    reader, keys = pickle.loads(pickle.dumps((case.reader, case.keys)))
    if reader != case.reader or hash(reader) != hash(case.reader):
        yield "a pickled reader is another one", "Make it a frozen dataclass of plain fields"
    if keys != case.keys:
        yield "pickled keys are others", "Give Key plain text"


def _reads_elsewhere(case: Case) -> Broken:
    code = (
        "import pickle, sys; reader, key = pickle.load(sys.stdin.buffer); "
        "print(reader.read(key).n_times, *(m for m in ('torch', 'dask') if m in sys.modules))"
    )
    module = type(case.reader).__module__
    paths = [*filter(None, sys.path)]
    if "." not in module and (file := getattr(sys.modules[module], "__file__", None)):
        paths.append(str(Path(file).parent))  # a module of one file, wherever it was imported from
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((case.reader, case.keys[0])),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        yield f"another process cannot read ({' '.join(last)})", "Put the reader into a module"
        return
    n_times, *heavy = done.stdout.decode().split()
    if int(n_times) != case.recording.n_times:
        yield "another process reads another length", "Keep nothing outside the reader's fields"
    if heavy:
        yield f"reading imports {', '.join(heavy)}", "Import it where it is needed, or not at all"


def _reads_sound(case: Case) -> Broken:
    found = case.recording
    if not isinstance(found, Recording):
        yield f"read() returns {type(found).__name__}", "Return a Recording"
        return
    try:
        found.check()
    except DataError as error:
        yield error.args[1], error.args[2]
    if doubt := plausible_unit(found):
        yield doubt.rstrip("."), "Return microvolts"
    if kinds := {str(segment.dtype) for segment in found.segments} - {"float32"}:
        yield f"segments are {', '.join(sorted(kinds))}", "Return float32"


def _trials(case: Case) -> Broken:
    table = case.recording.trials
    if lacking := [name for name in TRIAL_COLUMNS[:3] if name not in table]:
        yield f"the trial table lacks {', '.join(lacking)}", "Add the columns of TRIAL_COLUMNS"
        return
    if not len(table):
        yield "the first recording has no trial", "Give the whole recording as one"
    if not all(isinstance(name, str) for name in table.get("stimulus", [])):
        yield "a stimulus is no text", "Write it as text, empty where it is not known"
    for name in table:
        texts = [text for text in table[name] if isinstance(text, str)]
        if texts != [text.strip() for text in texts]:
            yield f"{name} has blanks around a text", "Strip them"


def _auxiliary(case: Case) -> Broken:
    found = case.recording
    for group in found.auxiliary:
        if both := set(group.names) & set(found.channels):
            yield f"{sorted(both)} are EEG and auxiliary", "Name each channel once"
        for rest, segment in zip(group.segments, found.segments, strict=True):
            seconds = segment.shape[1] / found.sfreq
            if abs(rest.shape[1] / group.sfreq - seconds) > 1 / found.sfreq:
                yield f"{group.names} do not last as long as the EEG", "Cut both at the same times"


def _reads_again(case: Case) -> Broken:
    first, again = case.recording, case.reader.read(case.keys[0])
    same = all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(first.segments, again.segments, strict=True)
    )
    if not (same and first.trials.equals(again.trials) and first.channels == again.channels):
        yield "a second read differs", "Draw nothing at random, and change no array in place"
    if first.source != again.source:
        yield "a second read has another history", "Leave times and paths out of source"


def _reads_each(case: Case) -> Broken:
    each = getattr(case.reader, "read_each", None)
    if each is None:
        return
    found = dict(each(case.keys))
    if list(found) != list(case.keys):
        yield "read_each() yields other keys, or in another order", "Yield every key, as given"
        return
    for key, one in found.items():
        other = case.reader.read(key)
        if not all(map(_equal, one.segments, other.segments)):
            yield f"read_each() and read() differ in {key.recording}", "Share their code"


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _plain_facts(case: Case) -> Broken:
    try:
        json.dumps([dict(case.recording.participant), dict(case.recording.source)])
    except TypeError as error:
        yield (
            f"participant or source is no JSON ({error})",
            "Convert numbers with int() and float()",
        )
    if not all(isinstance(note, str) for note in case.recording.notes):
        yield "a note is no text", "Write notes as sentences"


def _refuses_other_folders(case: Case) -> Broken:
    for what in ("absent", "empty", "other"):
        root = case.folder()
        if what != "absent":
            root.mkdir(parents=True)
        if what == "other":
            (root / "holiday.txt").write_text("nothing of EEG")
        try:
            case.reader.discover(root)
        except DataError as error:
            doing, found, action = error.args
            if str(root) not in doing + found or not (found and action):
                yield f"the error of an {what} folder does not name it", "Put root into the error"
        else:
            yield f"an {what} folder is no error", "Raise a DataError that names root"


def _a_lost_file(case: Case) -> Broken:
    key = case.keys[0]
    files = ("nowhere/s99.xyz", *key.files[1:])
    lost = Key(key.subject, key.session, key.run, files, str(case.root))
    try:
        case.reader.read(lost)
    except DataError:
        return
    yield "a file that is gone is read", "Raise a DataError"


# ------------------------------------------------------------------------ conventions of folders


def _service_folders(case: Case) -> Broken:
    there = case.copy()
    for name in SERVICE:
        shutil.copytree(case.root, there / name / "copy", symlinks=True)
    if case.listed(there) != case.listed(case.root):
        yield (
            "copies in service folders are listed",
            "List files by omfa.pipeline.readers.folder.walk",
        )


def _links(case: Case) -> Broken:
    there = case.folder()
    there.mkdir(parents=True)
    try:
        for path in case.root.iterdir():
            (there / path.name).symlink_to(path.absolute())
        (there / "loop").symlink_to(there)
        (there / "out").symlink_to(there.parent)
    except OSError:
        return  # a system that lets only administrators make links
    if case.listed(there) != case.listed(case.root):
        yield "links to folders are followed more than once, or not at all", "List files by walk"
        return
    case.reader.read(case.reader.discover(there)[0]).check()


def _not_fetched(case: Case) -> Broken:
    names = [key.recording for key in case.keys]
    for what, (content, words) in {"a link to nothing": (b"", "was not fetched"), **LEFT}.items():
        there = case.copy()
        file = case.reader.discover(there)[0].paths[0]
        file.unlink()
        if content:
            file.write_bytes(content)
        else:
            try:
                file.symlink_to("../.git/annex/objects/x/y/MD5E-s9--0.edf/MD5E-s9--0.edf")
            except OSError:
                continue  # as above
        try:  # where one file holds all recordings, discover() reads it and may say so
            keys = case.reader.discover(there)
            if [key.recording for key in keys] != names:
                yield (
                    f"{what} is not listed as a recording",
                    "List it, and let read() fail by its name",
                )
                continue
            case.reader.read(keys[0])
        except DataError as error:
            if not re.search(rf"{re.escape(file.name)}.*{words}", str(error)):
                yield (
                    f"the error of {what} does not say '{file.name} ... {words}'",
                    "Call omfa.pipeline.readers.folder.check_there first",
                )
        else:
            yield f"{what} is read", "Call omfa.pipeline.readers.folder.check_there first"


def _case_of_a_suffix(case: Case) -> Broken:
    there = case.copy()
    file = case.reader.discover(there)[0].paths[0]
    file.rename(file.with_suffix(file.suffix.upper()))
    keys = case.reader.discover(there)
    if [key.recording for key in keys] != [key.recording for key in case.keys]:
        yield (
            f"a file that ends in {file.suffix.upper()} is not listed",
            "Compare suffixes in lower case",
        )
        return
    found = case.reader.read(keys[0])
    if not all(map(_equal, found.segments, case.recording.segments)):
        yield f"a file that ends in {file.suffix.upper()} is read otherwise", "Look at its content"


def _copies(case: Case) -> Broken:
    there = case.copy()
    file = case.reader.discover(there)[0].paths[0]
    copy = file.with_name(f"{file.stem} (1){file.suffix}")
    shutil.copy(file, copy)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = case.listed(there)
    if found != case.listed(case.root):
        yield f"{copy.name}, a copy, is listed as a recording", "Match the whole name of a file"
    elif not any(
        issubclass(one.category, SourceWarning) and copy.name in str(one.message) for one in said
    ):
        yield (
            f"{copy.name} is left out without a word",
            "Call omfa.pipeline.readers.folder.left_out",
        )


Check = Callable[[Case], Broken]

CHECKS: dict[str, tuple[Literal["must", "should"], Check]] = {
    "lists recordings that are there": ("must", _lists),
    "lists without reading signals": ("must", _needs_no_signal),
    "pickles": ("must", _pickles),
    "reads in another process": ("must", _reads_elsewhere),
    "reads a sound recording": ("must", _reads_sound),
    "has a trial table": ("must", _trials),
    "keeps auxiliary channels beside the EEG": ("must", _auxiliary),
    "reads the same again": ("must", _reads_again),
    "reads each as alone": ("must", _reads_each),
    "gives plain facts": ("must", _plain_facts),
    "refuses other folders": ("must", _refuses_other_folders),
    "names a lost file": ("must", _a_lost_file),
    "passes service folders by": ("should", _service_folders),
    "follows links once": ("should", _links),
    "says what was not fetched": ("should", _not_fetched),
    "takes a suffix in any case": ("should", _case_of_a_suffix),
    "leaves copies out, and says so": ("should", _copies),
}
"""What is checked, by name, in this order."""


def run_check(name: str, case: Case) -> list[Finding]:
    """Run one check; an exception that it does not expect is a finding, too."""
    level, check = CHECKS[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)  # the tree's own
            return [Finding(level, name, found, action) for found, action in check(case)]
    except DataError as error:
        doing, found, action = error.args
        return [Finding(level, name, f"{doing}: {found}", action)]
    except Exception as error:
        kind = type(error).__name__
        return [Finding(level, name, f"{kind}: {error}".rstrip("."), "Let no other error through")]


def check_reader(reader: Reader, root: str | Path) -> list[Finding]:
    """Try a reader on a small tree of its source, and say what it does not keep.

    The tree is copied, and the copies are changed: links, service folders, placeholders of
    files that were not fetched, second names. Nothing is written below ``root``.

    Parameters
    ----------
    reader : Reader
        To be imported by other processes, so from a module and not from a notebook's cell.
    root : str or Path
        A tree of a few short recordings, at most 256 MB. Each check reads some of it.

    Returns
    -------
    list of Finding
        Empty if all is well. ``"must"`` is what ``ingest`` relies on, ``"should"`` a convention of
        readers of folders; each says what was found, and what to do.

    Raises
    ------
    DataError
        If there is no such folder, or it is too large.

    Examples
    --------
    >>> from omfa.pipeline import check_reader
    >>> from omfa.pipeline.readers import get_reader
    >>> check_reader(get_reader("dreamer"), "DREAMER")
    []
    """
    root = Path(root)
    doing = f"Checking the reader {reader.name} on {root}"
    if not root.is_dir():
        raise DataError(
            doing, "it is no folder", "Name the folder that the reader's discover takes"
        )
    nbytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    if nbytes > LARGEST:
        raise DataError(doing, f"it holds {size(nbytes)}", "Take a tree of two or three recordings")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        case = Case(reader, root, Path(scratch))
        first = run_check(next(iter(CHECKS)), case)
        if any(finding.found.startswith("discover()") for finding in first) or not _usable(case):
            return first
        return first + [finding for name in [*CHECKS][1:] for finding in run_check(name, case)]


def _usable(case: Case) -> bool:
    """Return whether there is a key, without which nothing else can be tried."""
    try:
        return bool(case.keys)
    except Exception:
        return False
