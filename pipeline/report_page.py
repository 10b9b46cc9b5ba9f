"""The frame that all HTML reports share: their templates, a few words for numbers, the file.

Pages are jinja2 templates with every value escaped. ``templates/page.html`` is the document,
``templates/parts.html`` holds the macros for tables and pictures, and each report adds a folder of
its own. Not ``mne.Report``: it embeds scripts, which archives and mail filters refuse, and random
identifiers, so that the same data would give other bytes at every run.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.location import locate
from omfa.pipeline.writing import write_whole

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
"""The templates that every report can extend and import from."""


def write(
    out: Path | str,
    template: str,
    values: Mapping[str, Any],
    *,
    folders: Sequence[Path] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Render a page and write it, whole or not at all.

    Parameters
    ----------
    out : Path or str
        The file; it replaces an earlier one. An address, such as ``s3://b/x.html``, is text.
    template : str
        The name of a template, which extends ``page.html``.
    values : mapping of str to object
        What the template shows. A template that asks for anything else is an error.
    folders : sequence of Path, optional
        Where templates are looked for before ``TEMPLATES``.
    storage_options : mapping, optional
        What fsspec's file system takes for an address.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    document = _environment(tuple(folders)).get_template(template).render(values)
    _put(out, str(out).rpartition("/")[2] if is_address(out) else "", document, storage_options)


def beside(out: Path | str, table: str) -> str:
    """Return the name of the CSV file of a table, in the folder of its report."""
    name = str(out).rpartition("/")[2] if is_address(out) else Path(out).name
    return f"{name.removesuffix('.html')}-{table}.csv"


def write_beside(
    out: Path | str,
    files: Mapping[str, str],
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write files into the folder of a report, each whole or not at all.

    Parameters
    ----------
    out : Path or str
        The report.
    files : mapping of str to str
        Text by name.
    storage_options : mapping, optional
        What fsspec's file system takes for an address.

    Raises
    ------
    DataError
        If one cannot be written.
    """
    for name, text in files.items():
        _put(out, name, text, storage_options)


def _put(out: Path | str, name: str, text: str, options: Mapping[str, Any] | None) -> None:
    """Write one file into the folder of a report; on this machine no name is the report's own."""
    if is_address(out):
        folder = str(out).rpartition("/")[0]
        try:
            locate(folder, options).write(name, text.encode())
        except Exception as error:  # each object store has errors of its own
            raise DataError(
                f"Writing the report {out}",
                f"it cannot be written there ({type(error).__name__}: {error})",
                "Check the address and the credentials, or name a file on this machine by --out",
            ) from error
        return
    try:
        write_whole(Path(out).with_name(name) if name else out, text)
    except OSError as error:
        raise _unwritable(out, error) from error


def is_address(out: Path | str) -> bool:
    """Return whether a report is to be written to an fsspec URL."""
    return isinstance(out, str) and "://" in out


def part(
    template: str, macro: str, values: Mapping[str, Any], *, folders: Sequence[Path] = ()
) -> Markup:
    """Render one macro of a template, for a page that is put together by a caller.

    Parameters
    ----------
    template, macro : str
        The names of the template and of a macro in it.
    values : mapping of str to object
        The macro's arguments.
    folders : sequence of Path, optional
        Where templates are looked for before ``TEMPLATES``.

    Returns
    -------
    Markup
        HTML, which templates do not escape again as they do a plain string.
    """
    module = _environment(tuple(folders)).get_template(template).module
    content: Markup = getattr(module, macro)(**values)
    return content


def check_writable(out: Path) -> None:
    """Raise before the work, and not after it, if the file cannot or should not be written."""
    for folder in out.absolute().parents:
        if (folder / "zarr.json").is_file():
            raise DataError(
                f"Writing the report {out}",
                f"it would lie within the store {folder}",
                "Name a file beside the store",
            )
    if out.is_dir():
        raise DataError(
            f"Writing the report {out}", "it is a folder", "Name a file in it, such as report.html"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    if not os.access(out.parent, os.W_OK):
        raise _unwritable(out, PermissionError(f"no permission to write in {out.parent}"))


def _unwritable(out: Path | str, error: OSError) -> DataError:
    return DataError(
        f"Writing the report {out}",
        error.strerror or str(error),
        "Free space or give yourself permission there, or name another file by --out",
    )


@cache
def _environment(folders: tuple[Path, ...]) -> Environment:
    # Imported here, so that check_writable and the words below cost no start-up time.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        # A name that a template has and the report has not is an error, and no blank.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "plural": plural,
        "as_json": as_json,
        "base64": lambda content: base64.b64encode(content).decode(),
        "width": width,
    }
    return environment


# ------------------------------------------------------------------------------- numbers


def span(values: Iterable[float], unit: str = "") -> str:
    """Return a number, or the least and the most of several."""
    ordered = sorted(values)
    least, most = ordered[0], ordered[-1]
    return f"{least:,g}{unit}" if least == most else f"{least:,g}–{most:,g}{unit}"


def plural(n: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def as_json(value: Any) -> str:
    """Return indented JSON, with letters of any script as they are."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def width(png: bytes) -> int:
    """Return the width at which a picture is shown, in CSS pixels."""
    # Bytes 16 to 20 of a PNG are its width; it is drawn at 144 dots per inch and shown at 96.
    return int.from_bytes(png[16:20], "big") * 2 // 3
