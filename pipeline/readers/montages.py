"""Where electrodes are, from a montage that the user names: one of MNE's, or a file's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.folder import text_of
from omfa.pipeline.words import nearest, some

if TYPE_CHECKING:
    import mne

_COLUMNS = ("name", "x", "y", "z")


def montage_file(montage: str | None, root: Path) -> Path | None:
    """Return the file that a montage is, below a folder or anywhere; None if it is a name."""
    if montage is None:
        return None
    path = root / montage
    return path if path.is_file() else None


def place_by_montage(raw: mne.io.BaseRaw, montage: str, *, root: Path, where: str) -> None:
    """Give a recording's channels the positions that a montage has for their names.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    montage : str
        The name of one of MNE's montages, such as ``"GSN-HydroCel-128"``, or a file: a table with
        columns name, x, y, z, axes to the right ear and the nose (``.tsv``), or a format that MNE
        reads.
    root : Path
        The folder that a relative path is below.
    where : str
        The reader and the recording, for the error.

    Raises
    ------
    DataError
        If there is no such montage, it cannot be read, or it has none of the channels.
    """
    import mne

    path = montage_file(montage, root)
    known = mne.channels.get_builtin_montages()
    if path is None and montage not in known:
        raise DataError(
            where,
            f"there is no montage {montage!r}, neither a file nor one of MNE's"
            + nearest(montage, known),
            "Give a file's path, or a name that mne.channels.get_builtin_montages() lists",
        )
    try:
        if path is None:
            made = mne.channels.make_standard_montage(montage)
        elif path.suffix.lower() == ".tsv":
            made = _from_table(path)
        else:
            made = mne.channels.read_custom_montage(path)
    except MemoryError:
        raise
    except Exception as error:  # MNE's parsers raise whatever they meet
        raise DataError(
            where,
            f"the montage {montage} cannot be read ({error!r:.200})",
            "Give a table with the columns name, x, y and z, or a format that MNE reads",
        ) from error
    own = {name.upper() for name in raw.ch_names}
    if not own & {name.upper() for name in made.ch_names}:
        raise DataError(
            where,
            f"none of its channels ({some(raw.ch_names)}) is in the montage {montage} "
            f"({some(made.ch_names)})",
            "Give the montage of this cap",
        )
    raw.set_montage(made, match_case=False, on_missing="ignore", verbose="error")


def _from_table(path: Path) -> mne.channels.DigMontage:
    import mne

    table = pd.read_csv(io.StringIO(text_of(path)), sep="\t", dtype=str, keep_default_na=False)
    table = table.rename(columns=lambda name: name.strip().lower())
    if lacking := [name for name in _COLUMNS if name not in table]:
        raise ValueError(f"it has no column {', '.join(lacking)}")
    xyz = table[["x", "y", "z"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    places = {
        name.strip(): place
        for name, place in zip(table["name"], xyz, strict=True)
        if np.isfinite(place).all()
    }
    return mne.channels.make_dig_montage(places, coord_frame="head")
