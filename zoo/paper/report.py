"""The report of the paper's tables, and the command that makes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from omfa.pipeline import report_html as html
from omfa.pipeline.report_html import check_writable
from omfa.pipeline.writing import write_whole
from omfa.zoo.paper.grid import Cell, Grid
from omfa.zoo.paper.tables import PAPER, Claim
from omfa.zoo.reports.page import SIMULATED_TAG, attention, curves, history, write_report
from omfa.zoo.reports.tables import Entry

TITLES = {
    "within": "Within subjects",
    "transfer": "Transfer to an unseen corpus",
    "ablation": "Ablation",
}


def write_tables_report(
    grid: Grid, cells: Sequence[Cell], out: str | Path, *, command: str = "", note: str = ""
) -> Path:
    """Write the report on the paper's tables.

    Parameters
    ----------
    grid : Grid
        What was run; its folder has the logs of pre-training and, below ``attention/``, what the
        graph of a model of each corpus listens to.
    cells : sequence of Cell
    out : path
    command : str
        The command line that gives it again.
    note : str
        What a reader must know of this run.

    Returns
    -------
    Path
    """
    from omfa.zoo.paper.report import entries as of_cells

    entries = of_cells(cells)
    return write_report(
        entries,
        out,
        title="The paper's tables",
        metric="accuracy",  # what the paper states
        titles=TITLES,
        opening=_about_the_paper(grid, cells, note),
        closing={
            "pretraining": ("Pre-training", _pretrainings(grid)),
            "attention": ("What the graph listens to", _listening(grid)),
            "again": ("How it was made", _how_made(grid, entries, command)),
        },
    )


def _about_the_paper(grid: Grid, cells: Sequence[Cell], note: str) -> str:
    failed = "".join(
        f"<li>{escape(c.row.table)}, {escape(c.row.dataset)}, {escape(c.row.name)}, "
        f"{escape(c.protocol.label)}: {escape(c.error)}</li>"
        for c in cells
        if c.error
    )
    missing = "".join(f"<li>{escape(line)}</li>" for line in grid.missing)
    return (
        (f'<p class="simulated"><strong>{escape(note)}</strong></p>' if note else "")
        + (f'<div class="failed"><b>Failed</b><ul>{failed}</ul></div>' if failed else "")
        + (f"<p>Left out:</p><ul>{missing}</ul>" if missing else "")
        + "<p>The paper's figures are those of the abstract of arXiv 2511.08444, <em>One Model for "
        "All</em>; it does not state its folds, the rating or the rule that made classes of DEAP "
        "and DREAMER, or its settings: these are this project's choice. Figures as high on these "
        "corpora are otherwise known from windows of one trial on both sides, which is what "
        "leaky-window does. Pre-training on a corpus that is then tested is "
        "<em>transductive</em>, as it is in the paper.</p>"
    )


def _pretrainings(grid: Grid) -> str:
    from omfa.zoo.checkpoints.folder import load_card
    from omfa.zoo.pretraining.run import learning_curve

    runs, rows = {}, []
    for stage1 in grid.stage1s:
        folder = grid.folder(stage1)
        if not (folder / "checkpoint" / "card.json").exists():
            continue
        card, curve = load_card(folder / "checkpoint"), learning_curve(folder)
        saw, name = card.saw, str(stage1)
        runs["simulated " * card.simulated + name] = curve
        rows.append(
            [
                escape(name) + (f" {SIMULATED_TAG}" if card.simulated else ""),
                escape("; ".join(f"{s['dataset']} {len(s['subjects'])}" for s in saw)),
                f"{sum(s['hours'] for s in saw):.2f}",
                f"{grid.settings(stage1).steps:,}",
                f"{curve['loss'].dropna().iloc[-1]:.3f}",
            ]
        )
    if not rows:
        return ""
    head = ["encoder", "saw (subjects)", "hours", "steps", "last loss"]
    return curves(runs) + html.table(head, rows, numbers=head[2:])


def _listening(grid: Grid) -> str:
    body = ""
    for name, (stage1, folder) in grid.attended.items():
        if (folder / "attention.csv").exists():
            data = "simulated " * grid.dataset(name).simulated + name
            body += f"<h3>{escape(data)}, pre-trained: {escape(str(stage1))}</h3>"
            body += '<div class="panels">'
            body += attention(data, pd.read_csv(folder / "attention.csv"))
            if (folder / "history.csv").exists():
                epochs = pd.read_csv(folder / "history.csv")
                body += history(f"fine-tuning on all of {data}", epochs)
            body += "</div>"
    if not body:
        return ""
    return (
        "<p>A model fine-tuned on all of a corpus, tested nowhere: the attention that each channel "
        "receives in the last layer of the graph, mean over heads and windows. 1 is an even "
        "share. That a channel is listened to does not show that it carries emotion.</p>" + body
    )


def _how_made(grid: Grid, entries: Sequence[Entry], command: str) -> str:
    stores = [
        [escape(name), f"<code>{escape(str(store))}</code>", escape(grid.targets[name]),
         f"<code>{escape(grid.digests[name][:16])}</code>"]
        for name, store in grid.stores.items()
    ]  # fmt: skip
    versions = entries[0].first.config["versions"] if entries else {}
    return (
        (f"<p>The same again:</p><pre>{escape(command)}</pre>" if command else "")
        + html.table(["dataset", "store", "target", "digest"], stores)
        + html.table(["package", "version"], [[escape(k), escape(v)] for k, v in versions.items()])
        + html.details("Settings", html.as_json(_plain(grid.how)))
    )


def _plain(settings: Any) -> Any:
    return json.loads(json.dumps(asdict(settings), default=str))


def entries(cells: Sequence[Cell]) -> list[Entry]:
    """Return the cells that were run, as reports and tables take them."""
    from omfa.zoo.reports.tables import Entry

    found = []
    for cell in cells:
        if cell.results:
            claim = cell.row.claim or Claim()
            told = claim.accuracy, claim.difference, claim.words
            found.append(Entry(cell.row.table, cell.row.name, cell.results, *told))
    return found


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return ``summary_table`` of the cells, with what the paper says and what failed.

    Parameters
    ----------
    cells : sequence of Cell

    Returns
    -------
    pandas.DataFrame
        A row per cell and metric; for a cell that failed one row with its ``error``.
    """
    from omfa.zoo.reports.tables import summary_table

    table = summary_table(entries(cells))
    claims = [PAPER.get(place) for place in zip(table.table, table.row, table.dataset, strict=True)]
    failed = [
        {
            "table": cell.row.table,
            "dataset": cell.row.dataset,
            "protocol": cell.protocol.label,
            "leaky": cell.protocol.leaky,
            "row": cell.row.name,
            "model": cell.row.model,
            "error": cell.error,
        }
        for cell in cells
        if cell.error
    ]
    table = table.assign(
        paper_says=["" if claim is None else str(claim) for claim in claims],
        paper_source=["" if claim is None else claim.source for claim in claims],
    )
    return pd.concat([table, pd.DataFrame(failed)], ignore_index=True) if failed else table


def reproduce(grid: Grid, *, command: str = "", note: str = "") -> tuple[Path, list[Cell]]:
    """Run a grid and write what came out.

    Parameters
    ----------
    grid : Grid
    command : str
        The command line that gives it again; goes into the report and ``run.json``.
    note : str
        What a reader must know of this run; goes to the top of the report.

    Returns
    -------
    report : Path
        ``report.html`` in the grid's folder. Beside it are ``subjects.csv``, a row for every cell,
        seed, subject and metric; ``summary.csv`` (see ``summarise``); and ``run.json``.
    cells : list of Cell
    """
    from omfa.zoo.reports.tables import scores_table

    report = grid.out / "report.html"
    check_writable(report)
    cells = grid.run()
    about = {
        "command": command,
        "note": note,
        "stores": {name: [grid.stores[name], digest] for name, digest in grid.digests.items()},
        "left out": grid.missing,
        "how": asdict(grid.how),
        "omfa": version("omfa"),
    }
    write_whole(grid.out / "run.json", json.dumps(about, indent=1))
    write_whole(grid.out / "subjects.csv", scores_table(entries(cells)).to_csv(index=False))
    write_whole(grid.out / "summary.csv", summarise(cells).to_csv(index=False))
    return write_tables_report(grid, cells, report, command=command, note=note), cells
