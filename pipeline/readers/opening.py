"""Open a recording with MNE, and say in our words what MNE refuses.

Files that MNE would read short, joined or unscaled without a word are refused before.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.folder import check_there
from omfa.pipeline.readers.whole import (
    BRAINVISION_PARTS,
    PREVIOUS,
    brainvision_markers,
    brainvision_parts,
    check_brainvision,
    check_edf,
    check_fif,
    fif_parts,
    fif_references,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import mne


def open_raw(
    path: Path, *, where: str, encoding: str | None = None, notes: list[str] | None = None
) -> mne.io.BaseRaw:
    """Open a recording with MNE without reading its signal.

    Parameters
    ----------
    path : Path
        The file; of a BrainVision recording, the ``.vhdr``.
    where : str
        The reader and the recording, for the error.
    encoding : str or None
        Of the texts in an EDF or BDF. None: UTF-8, as its standard has it, or else Latin-1.
    notes : list of str or None
        Where to say that the texts were in another encoding.

    Raises
    ------
    DataError
        If MNE cannot read it, or would read it short, or would join pieces that are apart.
    """
    import mne  # here and below: MNE takes a second to import, and other readers do without it

    check_there(path, where=where)
    if not path.stat().st_size:
        raise DataError(
            where,
            f"{path.name} is empty (0 bytes)",
            "Get the file again, or leave it out of the folder",
        )
    kind = suffix(path)
    with mne_errors(where):
        if kind in _HEADERS:
            check_brainvision(path, where=where)
        if kind == ".fif":
            for part in (path, *companions(path)):
                check_fif(part, where=where)
            _check_first(path, where=where)
        if kind not in EDF_SUFFIXES:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                raw = (
                    _open_brainvision(path)
                    if kind in _HEADERS
                    else mne.io.read_raw(path, verbose="warning")
                )
            _check_place(raw, path, where=where)
            beyond = [str(w.message) for w in said if _BEYOND.match(str(w.message))]
            if notes is not None and kind not in _ASKED:  # `annotation_events` names the others
                notes += [f"{where}: MNE says of its annotations: {text}" for text in beyond]
            return raw
        check_edf(path, where=where)
        options = {"encoding": encoding} if encoding else {}
        try:
            return mne.io.read_raw(path, verbose="error", **options)
        except Exception as error:
            if encoding or "invalid byte" not in str(error):
                raise
        raw = mne.io.read_raw(path, verbose="error", encoding="latin1")
        if notes is not None:
            notes.append(
                f"{where}: its texts are not in UTF-8 and were read as Latin-1. Give another "
                "--encoding if they look wrong."
            )
        return raw


_HEADERS = (".vhdr", ".ahdr")


@contextmanager
def lower_case(path: Path) -> Iterator[Path]:
    """Give a file under a name whose suffix is in lower case, which MNE asks of some."""
    if path.suffix == suffix(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, path.stem + suffix(path))
        link.symlink_to(path.absolute())
        yield link


def _open_brainvision(path: Path) -> mne.io.BaseRaw:
    """Open a BrainVision recording, its files in whatever case their names are.

    MNE knows headers and markers by suffixes in lower case, and files by the very names that the
    header has. Others are read by a copy of the header that names links; the signal, which is read
    later, is then looked for where it is.
    """
    import mne

    text = path.read_bytes().decode("latin-1")
    markers = brainvision_markers(path)
    files = {kind: path.parent / name for kind, name in brainvision_parts(path).items()}
    if markers is not None:
        files["MarkerFile"] = markers
    named = {
        path.parent / name.replace("$b", path.stem)
        for _, _, name in BRAINVISION_PARTS.findall(text)
    }
    lower = all(one.suffix == suffix(one) for one in (path, markers or path))
    if lower and named == set(files.values()):
        return mne.io.read_raw(path, verbose="warning")

    def link(line: re.Match[str]) -> str:
        file = files[line[1]]
        Path(folder, line[1] + suffix(file)).symlink_to(file.absolute())
        return f"{line[1]}{line[2]}{line[1]}{suffix(file)}"

    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder, path.stem + suffix(path))
        header.write_bytes(BRAINVISION_PARTS.sub(link, text).encode("latin-1"))
        raw = mne.io.read_raw(header, verbose="warning")
    raw.filenames = [files["DataFile"]]
    return raw


# The formats of whose files MNE can be asked for all annotations, also those beyond the ends.
_ASKED = (*_HEADERS, ".set", ".gdf", ".fif", ".cnt")

_BEYOND = re.compile(r"(?:Omitted|Limited) \d+ annotation")


def _check_first(path: Path, *, where: str) -> None:
    """Raise if a FIF file is a later part of a recording, from which MNE would read on."""
    try:
        earlier = fif_references(path).get(PREVIOUS)
    except ValueError:  # `check_fif` says what is damaged
        return
    if earlier is not None:
        raise DataError(
            where,
            f"it is a later part of a recording that begins in {earlier}",
            "Put all parts beside one another under the names that MNE gave them",
        )


def _check_place(raw: mne.io.BaseRaw, path: Path, *, where: str) -> None:
    """Raise if a header leads MNE to a file that is not beside it."""
    here = {path.absolute().parent, path.resolve().parent}
    for file in filter(None, raw.filenames):
        if Path(file).absolute().parent not in here:
            raise DataError(
                where,
                f"it names {file}, which is not in its folder, as the file of its signal",
                f"Put that file beside {path.name} under the name that {path.name} has for it",
            )


EDF_SUFFIXES = (".edf", ".bdf")

# What MNE says, and what is so and what helps; anything else may well be damage.
_EXPLAINED = (
    (
        r"number of trials|read_epochs_eeglab",
        "it was cut into epochs, and what was between them is gone",
        "Export it as a continuous recording, or leave it out by --pattern",
    ),
    (
        r"event sample index is negative",
        "it has an event before its first sample",
        "Correct the event in EEGLAB, or remove it, and save the file again",
    ),
    (
        r"No raw data in",
        "it holds no continuous recording, but epochs, an average or another result",
        "Export it as a continuous recording, or leave it out by --pattern",
    ),
    (
        r"invalid byte|codec can't decode|unknown encoding",
        "its texts are in another encoding",
        "Give it by --encoding, such as latin1, cp1252 or gbk",
    ),
)


@contextmanager
def mne_errors(where: str) -> Iterator[None]:
    """Turn whatever MNE raises on a file that it cannot read into a ``DataError``."""
    try:
        yield
    # A want of memory is no fault of the file, and has advice of its own.
    except (DataError, MemoryError):
        raise
    except Exception as error:  # MNE's readers raise whatever their parsing meets
        text = " ".join(str(error).split())[:300]
        for pattern, found, action in _EXPLAINED:
            if re.search(pattern, text):
                raise DataError(where, found, action) from error
        if not text:  # an assertion of a reader that met something else than its format
            raise DataError(
                where,
                f"it is no recording in a format that MNE reads ({type(error).__name__})",
                "Leave it out, or convert it to EDF, BrainVision or FIF",
            ) from error
        raise DataError(
            where,
            f"MNE cannot read it ({type(error).__name__}: {text})",
            "Get the file again, or leave it out of the folder",
        ) from error


def suffix(path: Path) -> str:
    """Return a file's suffix in lower case, which has the same meaning."""
    return path.suffix.lower()


def companions(path: Path) -> list[Path]:
    """List the other files of a recording, those that exist.

    A BrainVision header names its signal and its markers, in its own folder; an EEGLAB ``.set`` may
    keep its signal in an ``.fdt``; a large ``.fif`` names the file in which it goes on.
    """
    kind = suffix(path)
    if not path.is_file():  # a link to nothing
        found = []
    elif kind in _HEADERS:
        names = brainvision_parts(path).values()
        found = [path.parent / name for name in names if Path(name).name == name]
    elif kind == ".set":
        found = [path.with_suffix(".fdt" if path.suffix.islower() else ".FDT")]
    elif kind == ".fif":
        found = fif_parts(path)
    else:
        found = []
    return [other for other in found if other.is_file()]
