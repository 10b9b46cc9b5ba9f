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
from omfa.pipeline.writing import write_whole

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
"""The templates that every report can extend and import from."""


def write(
    out: Path, template: str, values: Mapping[str, Any], *, folders: Sequence[Path] = ()
) -> None:
    """Render a page and write it, whole or not at all.

    Parameters
    ----------
    out : Path
        The file; it replaces an earlier one.
    template : str
        The name of a template, which extends ``page.html``.
    values : mapping of str to object
        What the template shows. A template that asks for anything else is an error.
    folders : sequence of Path, optional
        Where templates are looked for before ``TEMPLATES``.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    document = _environment(tuple(folders)).get_template(template).render(values)
    try:
        write_whole(out, document)
    except OSError as error:
        raise _unwritable(out, error) from error


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
    """Raise before the work, and not after it, if the file cannot be written."""
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


def _unwritable(out: Path, error: OSError) -> DataError:
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
