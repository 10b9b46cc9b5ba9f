"""The report of the paper's tables, and the command that makes it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from omfa.pipeline import Truth
from omfa.pipeline import report_page as page
from omfa.pipeline.writing import write_whole
from omfa.zoo.paper.grid import Cell, Grid
from omfa.zoo.paper.tables import PAPER, Claim, control_of
from omfa.zoo.reports.page import (
    PRETRAINING,
    TEMPLATES,
    attention,
    curves,
    curves_table,
    history,
    write_report,
)
from omfa.zoo.reports.tables import Entry, summary_table

CARD = Path("checkpoint") / "card.json"
"""What the folder of a pre-training that is done has."""

TITLES = {
    "within": "Within subjects",
    "transfer": "Transfer to an unseen corpus",
    "ablation": "Ablation, without coherency",
    "coherency": "Graphs with coherency",
    "resampling": "Resampling",
    "sources": "What each corpus is worth to the others",
}


def write_tables_report(
    grid: Grid,
    cells: Sequence[Cell],
    out: str | Path,
    *,
    command: str = "",
    note: str = "",
    truths: Sequence[Truth] = (),
) -> Path:
    """Write the report on the paper's tables.

    Parameters
    ----------
    grid : Grid
        What was run; its folder has the logs of pre-training and, below ``attention/``, the
        attention that a model of each corpus pays to each channel.
    cells : sequence of Cell
    out : path
    command : str
        The command line that gives it again.
    note : str
        What a reader must know of this run.
    truths : sequence of Truth, optional
        Of simulated corpora, see ``omfa.zoo.reports.page.write_report``.

    Returns
    -------
    Path
    """
    ran = entries(cells)
    runs = _runs(grid)
    tables = {"summary": summarise(cells)}
    return write_report(
        ran,
        out,
        title="The paper's tables",
        metric="accuracy",  # what the paper states
        titles=TITLES,
        opening=_about_the_paper(grid, cells, note),
        closing={
            "pretraining": ("Pre-training", _pretrainings(grid, runs)),
            "attention": ("Attention to each channel", _channel_attention(grid)),
            "again": ("How it was made", _how_made(grid, ran, command)),
        },
        truths=truths,
        tables=tables | ({PRETRAINING: curves_table(runs)} if runs else {}),
        prefix="",
    )


def _about_the_paper(grid: Grid, cells: Sequence[Cell], note: str) -> Markup:
    failed = [
        f"{c.row.table}, {c.row.dataset}, {c.row.name}, {c.protocol.label}: {c.error}"
        for c in cells
        if c.error
    ]
    return _part("about", note=note, failed=failed, missing=grid.missing)


def _runs(grid: Grid) -> dict[str, pd.DataFrame]:
    """Return the learning curve of each pre-training that is done, by its name."""
    from omfa.zoo.pretraining.run import learning_curve

    done = [one for one in grid.stage1s if (grid.folder(one) / CARD).exists()]
    return {str(one): learning_curve(grid.folder(one)) for one in done}


def _pretrainings(grid: Grid, runs: Mapping[str, pd.DataFrame]) -> Markup:
    from omfa.zoo.checkpoints.folder import load_card

    drawn, rows = {}, []
    for stage1 in grid.stage1s:
        name = str(stage1)
        if name not in runs:
            continue
        card, curve = load_card(grid.folder(stage1) / "checkpoint"), runs[name]
        saw = card.saw
        drawn["simulated " * card.simulated + name] = curve
        cells = [
            "; ".join(f"{s['dataset']} {len(s['subjects'])}" for s in saw),
            f"{sum(s['hours'] for s in saw):.2f}",
            f"{grid.settings(stage1).steps:,}",
            f"{curve['loss'].dropna().iloc[-1]:.3f}",
        ]
        rows.append({"name": name, "simulated": card.simulated, "cells": cells})
    content = curves(drawn, f"{PRETRAINING}.csv")
    return _part("pretrainings", curves=content, rows=rows) if rows else Markup()


def _channel_attention(grid: Grid) -> Markup:
    maps = []
    for name, (stage1, folder) in grid.attended.items():
        if (folder / "attention.csv").exists():
            data = "simulated " * grid.dataset(name).simulated + name
            seen = Path(os.path.relpath(folder, grid.out)).as_posix()
            pictures = [
                attention(data, pd.read_csv(folder / "attention.csv"), f"{seen}/attention.csv")
            ]
            if (folder / "history.csv").exists():
                epochs = pd.read_csv(folder / "history.csv")
                title = f"fine-tuning on all of {data}"
                pictures.append(history(title, epochs, f"{seen}/history.csv"))
            maps.append((data, str(stage1), pictures))
    return _part("attention", maps=maps) if maps else Markup()


def _how_made(grid: Grid, entries: Sequence[Entry], command: str) -> Markup:
    stores = [
        (name, str(store), grid.targets[name], grid.digests[name][:16])
        for name, store in grid.stores.items()
    ]
    return _part(
        "how_made",
        command=command,
        stores=stores,
        versions=entries[0].first.config["versions"] if entries else {},
        settings=json.loads(json.dumps(asdict(grid.how), default=str)),
    )


def _part(macro: str, **values: Any) -> Markup:
    folders = [Path(__file__).parent / "templates", TEMPLATES]
    return page.part("paper.html", macro, values, folders=folders)


def entries(cells: Sequence[Cell]) -> list[Entry]:
    """Return the cells that were run, as reports and tables take them."""
    found = []
    for cell in cells:
        if cell.results:
            claim = cell.row.claim or Claim()
            paper = claim.accuracy, claim.difference, claim.words
            control = control_of(cell.row, [one.row for one in cells]) if cell.row.stage1 else None
            found.append(Entry(cell.row.table, cell.row.name, cell.results, *paper, control))
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


def reproduce(
    grid: Grid, *, command: str = "", note: str = "", truths: Sequence[Truth] = ()
) -> tuple[Path, list[Cell]]:
    """Run a grid and write what came out.

    Parameters
    ----------
    grid : Grid
    command : str
        The command line that gives it again; goes into the report and ``run.json``.
    note : str
        What a reader must know of this run; goes to the top of the report.
    truths : sequence of Truth, optional
        Of simulated corpora, see ``omfa.zoo.reports.page.write_report``.

    Returns
    -------
    report : Path
        ``report.html`` in the grid's folder. Beside it are ``subjects.csv``, a row for every cell,
        seed, subject and metric; ``summary.csv`` (see ``summarise``); ``pairs.csv``, pre-trained
        and control, leaky and honest; ``calibration.csv``; ``pretraining.csv``, every logged step;
        and ``run.json``.
    cells : list of Cell
    """
    report = grid.out / "report.html"
    # Before hours of work, not after.
    page.check_writable(report)
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
    made = write_tables_report(grid, cells, report, command=command, note=note, truths=truths)
    return made, cells
