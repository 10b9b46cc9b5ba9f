"""The reports' HTML: their style, the few elements that they are built of, and the file.

Titles, headings, summaries and values are escaped here; cells, captions and bodies are HTML
already.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.recording import DataError

_CSS = """
:root { color-scheme: light; --ink: #1f2933; --muted: #616e7c; --line: #dde2e8; --blue: #2463a6;
  --red: #b42318; --pale: #f5f7fa; }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.5rem; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
nav { position: sticky; top: 0; z-index: 1; background: #fffffff2; padding: .6rem 2rem;
  border-bottom: 1px solid var(--line); display: flex; gap: 1.4rem; flex-wrap: wrap; }
nav strong { margin-right: .6rem; }
a { color: var(--blue); text-decoration: none; } a:hover { text-decoration: underline; }
main { max-width: 1120px; margin: 0 auto; padding: 1rem 2rem 5rem; }
h1 { font-size: 1.7rem; margin: 1rem 0 .2rem; }
h2 { font-size: 1.4rem; margin: 0 0 .4rem; }
h3 { font-size: 1.02rem; margin: 2.2rem 0 .5rem; }
section { border-top: 2px solid var(--ink); margin-top: 3.2rem; padding-top: 1.1rem; }
p { margin: .4rem 0; max-width: 95ch; } .muted, figcaption, caption { color: var(--muted); }
.simulated { background: #fff4d6; border-left: 4px solid #e0a100; padding: .5rem .9rem;
  margin: .7rem 0; max-width: none; }
.failed, .leaky { background: #fdecea; border-left: 4px solid var(--red); padding: .5rem .9rem;
  margin: .7rem 0; max-width: none; }
h4 { margin: .9rem 0 .2rem; font-size: .95rem; }
.tag { background: #fff4d6; border-radius: 3px; padding: 0 .4em; font-size: .82em;
  white-space: nowrap; }
.tag.red { background: var(--red); color: #fff; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { border-bottom: 1.5px solid var(--muted); font-weight: 600; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; white-space: nowrap; }
.wrap td:first-child { white-space: normal; max-width: 22rem; }
.n { text-align: right; white-space: nowrap; }
tbody tr:hover { background: var(--pale); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: 0 1.6rem;
  margin: .9rem 0; }
dl div { border-top: 1px solid var(--line); padding: .45rem 0 .55rem; }
dt { color: var(--muted); font-size: .84rem; } dd { margin: 0; font-size: 1.02rem; }
dd small { color: var(--muted); display: block; font-size: .8rem; line-height: 1.3; }
figure { margin: .5rem 0 1rem; } figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .87rem; max-width: 95ch; margin-top: .35rem; }
.beside { display: flex; gap: 0 2.5rem; align-items: flex-start; }
.beside figure { flex: 0 1 auto; min-width: 300px; } .beside div { flex: 1 1 auto; }
@media (max-width: 760px) { .beside { display: block; } }
.panels { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: flex-start; }
.labels { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr));
  gap: 1rem 2.2rem; }
.labels h4 { margin: .2rem 0 .3rem; font-size: .92rem; }
.labels h4 span { font-weight: 400; color: var(--muted); }
.bar { display: grid; grid-template-columns: minmax(2.5em, auto) 1fr 4em; gap: .5em;
  align-items: center; font-size: .84rem; line-height: 1.55; font-variant-numeric: tabular-nums; }
.bar i { background: var(--blue); height: .72em; min-width: 1px; }
.bar :first-child { text-align: right; overflow-wrap: anywhere; max-width: 11em; }
svg text { font: 11px system-ui, sans-serif; fill: var(--muted); }
details { border: 1px solid var(--line); border-radius: 4px; margin: .8rem 0;
  padding: .45rem .9rem; }
summary { cursor: pointer; font-weight: 600; }
pre { font-size: .8rem; overflow-x: auto; margin: .5rem 0; white-space: pre-wrap; }
@media (max-width: 600px) { main { padding: .5rem 1rem 3rem; } section { margin-top: 2rem; }
  nav { padding: .5rem 1rem; } }
@media print { nav { display: none; } section { break-before: page; } }
"""


def page(title: str, sections: Mapping[str, str], body: str) -> str:
    """Return the document; ``sections`` are anchors and what the navigation calls them."""
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in sections.items())
    # The policy makes any browser refuse whatever would have to be fetched.
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body>"
        f"<nav><strong>omfa</strong>{links}</nav><main>{body}</main></body></html>\n"
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[str] = ()
) -> str:
    """Return a table of cells that are already HTML; the columns in ``numbers`` align right."""
    kinds = [' class="n"' if name in set(numbers) else "" for name in head]
    top = "".join(f"<th{k}>{escape(name)}</th>" for k, name in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    rows_html = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{rows_html}</table></div>'


def picture(png: bytes, alt: str, caption: str) -> str:
    """Return a picture at the size it was drawn for; the caption is HTML."""
    width = int.from_bytes(png[16:20], "big") * 2 // 3  # drawn at 144 dots per inch, shown at 96
    source = base64.b64encode(png).decode()
    return (
        f'<figure><img width="{width}" alt="{escape(alt)}" src="data:image/png;base64,{source}">'
        + (f"<figcaption>{caption}</figcaption>" if caption else "")
        + "</figure>"
    )


def details(summary: str, body: str) -> str:
    """Return a block that is folded until its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def as_json(value: Any) -> str:
    """Return JSON as it is, indented."""
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


# ------------------------------------------------------------------------------- numbers


def size(n_bytes: float) -> str:
    """Return a size in decimal units."""
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def span(values: Iterable[float], unit: str = "") -> str:
    """Return a number, or the least and the most of several."""
    ordered = sorted(values)
    least, most = ordered[0], ordered[-1]
    return f"{least:,g}{unit}" if least == most else f"{least:,g}–{most:,g}{unit}"


def plural(n: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def one(value: Any) -> str:
    """Return a value of a label, without digits that mean nothing."""
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


# ------------------------------------------------------------------------------- charts


def bars(values: npt.NDArray[Any]) -> str:
    """Return a bar per value: numbers in order, texts with the most frequent first."""
    counts = Counter(values.tolist())
    if values.dtype.kind == "O":
        ordered = sorted(counts, key=lambda value: (-counts[value], value))
    else:
        ordered = sorted(counts)
    most = max(counts.values(), default=1)
    drawn = "".join(
        f'<div class="bar"><span>{escape(one(value))}</span>'
        f'<i style="width:{100 * counts[value] / most:.1f}%"></i>'
        f"<span>{counts[value]:,}</span></div>"
        for value in ordered[:12]
    )
    others = ordered[12:]
    more = f"{len(others):,} other values, {sum(counts[v] for v in others):,} trials"
    return drawn + (f'<p class="muted">{more}</p>' if others else "")


def histogram(values: npt.NDArray[Any]) -> str:
    """Return a histogram of 20 equal bins as an inline drawing."""
    counts, edges = np.histogram(values, bins=20)
    width, height, bar = 300, 90, 15
    drawn = "".join(
        f'<rect x="{i * bar + 0.5}" y="{height * (1 - n / counts.max()):.1f}" width="{bar - 1}" '
        f'height="{height * n / counts.max():.1f}" fill="#2463a6"><title>{edges[i]:.3g} to '
        f"{edges[i + 1]:.3g}: {n:,}</title></rect>"
        for i, n in enumerate(counts)
    )
    ticks = "".join(
        f'<text x="{x}" y="{height + 14}" text-anchor="{anchor}">{value:.4g}</text>'
        for x, anchor, value in (
            (0, "start", edges[0]),
            (width / 2, "middle", edges[10]),
            (width, "end", edges[-1]),
        )
    )
    return (
        f'<svg viewBox="0 0 {width} {height + 20}" width="{width}" role="img">{drawn}'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="#7b8794"/>{ticks}</svg>'
    )


# ------------------------------------------------------------------------------- the file


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


def write(out: Path, document: str) -> None:
    """Write the file, whole or not at all."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        draft.write_text(document, encoding="utf-8", newline="")
        draft.replace(out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        draft.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> DataError:
    return DataError(
        f"Writing the report {out}",
        error.strerror or str(error),
        "Free space or give yourself permission there, or name another file by --out",
    )
