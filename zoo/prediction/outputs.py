"""The files of a prediction: a table, MNE's annotations, a page."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG, bar
from omfa.pipeline.writing import write_whole
from omfa.zoo.prediction.page import write_page
from omfa.zoo.prediction.predictor import Prediction, Predictor
from omfa.zoo.prediction.recordings import recordings_in

ENDS = (".csv", ".parquet", "_annotations.csv", "-annot.fif", ".html")
"""What the names of a recording's files end with. Parquet is written where pyarrow is installed."""

SUMMARY = "summary.csv"
"""A row per recording: how many windows, the mean probabilities, or why there are none."""


def save(prediction: Prediction, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a prediction's files into a folder.

    Parameters
    ----------
    prediction : Prediction
    out : Path
        It is made if it is not there.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path

    Raises
    ------
    DataError
        If a file is there already.
    """
    stem = stem_of(prediction.name)
    if not overwrite:
        check_free(out, stem)
    table = prediction.table
    write_whole(out / f"{stem}.csv", table.to_csv(index=False))
    written = [out / f"{stem}.csv"]
    if find_spec("pyarrow") is not None:
        memory = io.BytesIO()
        table.to_parquet(memory, index=False)
        write_whole(out / f"{stem}.parquet", memory.getvalue())
        written.append(out / f"{stem}.parquet")
    annotations = prediction.annotations()
    with tempfile.TemporaryDirectory() as folder:
        for end in ("_annotations.csv", "-annot.fif"):
            # MNE writes by itself and knows a format by the name.
            draft = Path(folder) / f"x{end}"
            annotations.save(draft, verbose="error")
            write_whole(out / f"{stem}{end}", draft.read_bytes())
            written.append(out / f"{stem}{end}")
    write_page(prediction, out / f"{stem}.html")
    return [*written, out / f"{stem}.html"]


def stem_of(name: str) -> str:
    """Return a name that every file system takes."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "recording"


def check_free(out: Path, stem: str) -> None:
    """Raise if a recording has files in a folder already.

    Raises
    ------
    DataError
    """
    if taken := [end for end in ENDS if (out / f"{stem}{end}").exists()]:
        raise DataError(
            f"Writing the answers about {stem} into {out}",
            f"{stem}{taken[0]} is there already",
            "Name another --out, or replace it by --overwrite",
        )


def predict_all(
    predictor: Predictor,
    given: Iterable[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: bool = False,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Answer many recordings; one that cannot be is named in the log, and the others go on.

    Files are named as the recordings. Where several of a call have one name, they are told apart by
    the folders and stores that they are in, and at last by their suffixes.

    Parameters
    ----------
    predictor : Predictor
    given : iterable of str or Path
        Files, folders of them, and stores.
    out : path
        Folder of the files.
    overwrite : bool
        Replace files that are there.
    progress : bool
        Show a bar.
    report : callable
        Called with a line for each recording that is answered; warnings are in the log.

    Returns
    -------
    pandas.DataFrame
        What ``summary.csv`` holds: ``recording``, ``windows``, ``answered``, ``p_<class>`` averaged
        over the windows, ``share_present``, ``warnings``, ``error``.

    Raises
    ------
    DataError
        If the folder cannot be written into.

    Examples
    --------
    >>> from omfa.zoo import Predictor, predict_all
    >>> predictor = Predictor.from_checkpoint("mood")
    >>> table = predict_all(predictor, ["raw/S01_raw.fif"], "answers", report=lambda line: None)
    >>> len(table)
    1
    """
    out, rows, stems = Path(out), list[dict[str, Any]](), set[str]()
    _check_writable(out)
    shown = None if progress else False
    for name, recording in bar(_told_apart(list(_every(given))), unit="recording", shown=shown):
        try:
            if isinstance(recording, DataError):
                raise recording
            stem = stem_of(name)
            if stem.casefold() in stems:
                raise DataError(
                    f"Predicting {name}",
                    "it is given twice, or another recording of this call has the same name",
                    "Give it once, rename one, or answer it into another --out",
                )
            stems.add(stem.casefold())
            if not overwrite:
                check_free(out, stem)  # before the work
            if isinstance(recording, tuple):
                found = predictor.predict_stored(*recording, name=name)
            else:
                found = predictor.predict(recording, name=name)
            save(found, out, overwrite=overwrite)
        except Exception as error:  # whatever one recording does, the others go on
            text = str(error)
            if not isinstance(error, DataError):
                text = f"Predicting {name}: {type(error).__name__}: {text}"
            rows.append({"recording": name, "windows": 0, "answered": 0, "error": text})
            LOG.error("FAILED  %s", text)
            continue
        rows.append(
            {
                "recording": name,
                "windows": len(found.table),
                "answered": found.answered,
                **{f"p_{c}": round(p, 4) for c, p in found.overall.items()},
                "share_present": round(float(found.table["share_present"].mean()), 4),
                "warnings": len(found.warnings),
                "error": "",
            }
        )
        report(_line(found))
        for text in found.warnings:
            LOG.warning("  warning: %s: %s", name, text)
    columns = ["recording", "windows", "answered", *(f"p_{c}" for c in predictor.classes)]
    table = pd.DataFrame(rows, columns=[*columns, "share_present", "warnings", "error"])
    write_whole(out / SUMMARY, _with_earlier(out / SUMMARY, table).to_csv(index=False))
    return table


def _with_earlier(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return a summary with the rows that an earlier call left about other recordings."""
    try:
        # As text, for a recording may be called 001 or NA.
        earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        rest = earlier[~earlier["recording"].isin(table["recording"])]
    except (OSError, ValueError, KeyError):  # none, or no summary of ours
        return table
    return pd.concat([rest, table.astype(object)], ignore_index=True) if len(rest) else table


def _line(found: Prediction) -> str:
    if not found.answered:
        return f"{found.name}: none of {len(found.table)} windows has an answer"
    mean = ", ".join(f"{name} {p:.2f}" for name, p in found.overall.items())
    return (
        f"{found.name}: {found.answered} of {len(found.table)} windows answered, on average {mean}"
    )


def _every(given: Iterable[str | Path]) -> Iterator[tuple[str, Any, Path]]:
    """List all recordings, and where they are; in the place of one that is not comes its error."""
    for path in map(Path, given):
        try:
            for name, recording in list(recordings_in(path)):
                # The name has the folders below one that was given.
                yield name, recording, path.parent if recording == path else path
        except DataError as error:
            yield str(path), error, path


def _told_apart(found: Sequence[tuple[str, Any, Path]]) -> list[tuple[str, Any]]:
    """Give recordings of one name longer ones: by the folders above, then by their suffixes."""
    names = [name for name, _, _ in found]
    above = [where.absolute().parts[1:] for _, _, where in found]

    def twice() -> list[list[int]]:
        groups = dict[str, list[int]]()
        for i, name in enumerate(names):
            groups.setdefault(stem_of(name).casefold(), []).append(i)
        return [group for group in groups.values() if len(group) > 1]

    for group in twice():
        tails = {above[i] for i in group}
        for depth in range(1, max(map(len, tails), default=0) + 1):
            if len({tail[-depth:] for tail in tails}) == len(tails):
                if len(tails) > 1:
                    for i in group:
                        names[i] = "_".join((*above[i][-depth:], names[i]))
                break
    for group in twice():
        for i in group:
            if isinstance(found[i][1], Path):
                names[i] += found[i][1].suffix.replace(".", "_")
    return [(name, recording) for name, (_, recording, _) in zip(names, found, strict=True)]


def _check_writable(out: Path) -> None:
    """Raise before the work if its answers could not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(
            f"Writing answers into {out}",
            f"nothing can be written there ({error.strerror or error})",
            "Name another --out",
        ) from error
