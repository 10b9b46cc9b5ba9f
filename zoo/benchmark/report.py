"""The benchmark's tables: CSV, Markdown for pages, and one HTML file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from omfa.pipeline import report_page as page
from omfa.pipeline.words import some
from omfa.pipeline.writing import write_whole
from omfa.zoo.benchmark.rows import PAIRS
from omfa.zoo.benchmark.run import Benchmark, Cell
from omfa.zoo.benchmark.significance import (
    PAIRED_SD,
    Overall,
    effects,
    overall_test,
)
from omfa.zoo.benchmark.tasks import SOURCES, TASKS, Task
from omfa.zoo.evaluation.results import by_subject
from omfa.zoo.protocols.comparisons import LEAST_SUBJECTS, detectable_difference
from omfa.zoo.reports.page import TEMPLATES, write_report
from omfa.zoo.reports.tables import Entry, summary_table

METRIC = "balanced_accuracy"


def entries(cells: Sequence[Cell]) -> list[Entry]:
    """Return the cells that were run, as reports and tables take them."""
    controls = dict(PAIRS)
    return [
        Entry(cell.task.name, name, cell.results, control=controls.get(name, ""))
        for cell in cells
        if cell.results
        for name in [cell.row.name]
    ]


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row for each cell: what it scored, and what its comparison could have shown.

    Parameters
    ----------
    cells : sequence of Cell

    Returns
    -------
    pandas.DataFrame
        ``summary_table`` of the balanced accuracy, with ``chance``; ``weights``, how many tensors
        of a file of weights the model took; and for a cell that failed a row with its ``error``.
    """
    ran = [cell for cell in cells if cell.results]
    table = summary_table(entries(ran), [METRIC])
    extra = []
    for cell in ran:
        config = cell.results[0].config
        loaded = config.get("weights")
        extra.append(
            {
                "chance": 1 / len(config["classes"]),
                "weights": "{0} of {0} tensors".format(loaded["tensors"]) if loaded else "",
                "counts": cell.task.counts,
            }
        )
    table = table.assign(**pd.DataFrame(extra, index=table.index)) if extra else table
    failed = [
        {"table": c.task.name, "row": c.row.name, "model": c.row.model, "error": c.error}
        for c in cells
        if c.error
    ]
    return pd.concat([table, pd.DataFrame(failed)], ignore_index=True) if failed else table


def last_word(cells: Sequence[Cell]) -> tuple[Overall | None, str]:
    """Make the one test over tasks and people; or say why it cannot be made.

    Returns
    -------
    Overall or None
    str
        The outcome in a sentence, or what is missing.
    """
    needed = {name for name, task in TASKS.items() if task.counts}
    rows = {name for pair in PAIRS for name in pair}
    there = {(cell.task.name, cell.row.name) for cell in cells if cell.results}
    if gone := [f"{t}: {r}" for t in sorted(needed) for r in sorted(rows) if (t, r) not in there]:
        return None, f"The test over tasks and people is not made, for it lacks {some(gone)}."
    table = []
    for cell in cells:
        if cell.task.name in needed and cell.row.name in rows:
            chance = 1 / len(cell.results[0].classes)
            scores = by_subject(cell.results)[METRIC]
            people = scores.index.map("/".join)
            table += [
                (cell.task.name, person, cell.row.name, score, chance)
                for person, score in zip(people, scores, strict=True)
            ]
    columns = ["task", "person", "row", "score", "chance"]
    found = overall_test(effects(pd.DataFrame(table, columns=columns), PAIRS))
    each = ", ".join(f"{name} {value:+.3f}" for name, value in found.tasks.items())
    return found, (
        f"Pre-trained OMFA against its matched controls over all tasks that count: "
        f"{found.effect:+.3f} of the range between chance and 1 ({each}), p = {found.p:.2g}, "
        f"{found.n_people} people, signs flipped by person, two-sided; the least p that they can "
        f"give is {found.least_p:.1g}."
    )


def could_show(cells: Sequence[Cell]) -> list[tuple[str, int, float]]:
    """Return for each task its people, and the least difference that they show beforehand.

    The last is for two models whose difference varies between people by ``PAIRED_SD``.
    """
    people = {c.task.name: len(by_subject(c.results)) for c in cells if c.results}
    return [(name, n, detectable_difference(PAIRED_SD, n)) for name, n in people.items()]


def markdown(cells: Sequence[Cell]) -> str:
    """Return the tables for a page of Markdown, one for each task, with the test over tasks."""
    summary, (_, sentence) = summarise(cells), last_word(cells)
    lines = [sentence, ""]
    for name, rows in summary.groupby("table", sort=False):
        task, ran = TASKS[str(name)], rows[rows["mean"].notna()]
        lines += [f"### {task.title}", ""]
        if len(ran):
            n = int(ran["n_subjects"].iloc[0])
            lines += [_about(task, n, float(ran["chance"].iloc[0])), ""]
        head = (
            "row",
            "balanced accuracy",
            "95 %",
            "vs. first row",
            "p",
            "p, Holm",
            "could show",
            "pre-training",
        )
        lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        lines += [f"| {' | '.join(_cells(row))} |" for _, row in rows.iterrows()] + [""]
    return "\n".join(lines)


def _about(task: Task, n: int, chance: float) -> str:
    few = f" {n} people are too few for a p." if n < LEAST_SUBJECTS else ""
    warned = f" **{task.warning}**" if task.warning else ""
    return f"{n} people tested; chance {chance:.2f}.{few}{warned}"


def _cells(row: pd.Series[Any]) -> list[str]:
    if isinstance(row.get("error"), str):
        return [str(row["row"]), f"failed: {row['error']}", "", "", "", "", "", ""]
    known = np.isfinite(row["difference"])
    saw = f"{row['pretraining']}, on {row['saw']}" if row["saw"] else str(row["pretraining"])
    return [
        str(row["row"]),
        f"{row['mean']:.3f}",
        f"{row['low']:.3f} to {row['high']:.3f}" if np.isfinite(row["low"]) else "",
        f"{row['difference']:+.3f}" if known else "",
        f"{row['p']:.2g}" if np.isfinite(row["p"]) else "",
        f"{row['p_holm']:.2g}" if np.isfinite(row["p_holm"]) else "",
        f"{row['detectable']:.3f}" if known and np.isfinite(row["detectable"]) else "",
        f"{saw}, {row['weights']}" if row["weights"] else saw,
    ]


def benchmark(
    run: Benchmark, *, command: str = "", note: str = "", progress: bool = False
) -> tuple[Path, list[Cell]]:
    """Run the benchmark and write what came out.

    Parameters
    ----------
    run : Benchmark
    command : str
        The command line that gives it again; goes into the report and ``benchmark.json``.
    note : str
        What a reader must know of this run.
    progress : bool
        Show a bar.

    Returns
    -------
    report : Path
        ``report.html`` in the benchmark's folder. Beside it are ``subjects.csv``, a row for every
        cell, seed, person and metric; ``summary.csv`` (see ``summarise``); ``pairs.csv``, each
        pre-trained row and its control; ``calibration.csv``; ``tables.md``; and
        ``benchmark.json``, with the test over tasks and people.
    cells : list of Cell
    """
    report = run.out / "report.html"
    # Before the work, not after.
    page.check_writable(report)
    cells = run.run(progress=progress)
    overall, sentence = last_word(cells)
    about = {
        "command": command,
        "note": note,
        "how": asdict(run.how),
        "left out": run.missing,
        "overall": None if overall is None else asdict(overall),
        "overall in words": sentence,
        "paired sd assumed": PAIRED_SD,
        "could show": {
            name: [n, least if np.isfinite(least) else None] for name, n, least in could_show(cells)
        },
        "omfa": version("omfa"),
    }
    ran = entries(cells)
    write_whole(run.out / "benchmark.json", json.dumps(about, indent=1))
    write_whole(run.out / "tables.md", markdown(cells))
    write_report(
        ran,
        report,
        title=f"The benchmark, {run.how.split} people",
        metric=METRIC,
        titles={name: task.title for name, task in TASKS.items()},
        opening=_part("about", **_about_values(run, cells, note, sentence)),
        closing={
            "sources": ("Data", _part("sources", sources=_sources(run))),
            "again": ("How it was made", _part("how_made", command=command, about=about)),
        },
        tables={"summary": summarise(cells)},
        prefix="",
    )
    return report, cells


def _about_values(
    run: Benchmark, cells: Sequence[Cell], note: str, sentence: str
) -> dict[str, Any]:
    people = [
        (TASKS[name].title, n, f"{least:.2f}" if np.isfinite(least) else "nothing")
        for name, n, least in could_show(cells)
    ]
    ran = dict.fromkeys(cell.task for cell in cells)
    return {
        "note": note,
        "overall": sentence,
        "split": run.how.split,
        "warnings": [(task.title, task.warning) for task in ran if task.warning],
        "failed": [f"{c.task.name}, {c.row.name}: {c.error}" for c in cells if c.error],
        "missing": run.missing,
        "people": people,
        "sd": PAIRED_SD,
        "fewest": LEAST_SUBJECTS,
        "weights": [
            f"{cell.row.name}: {loaded['tensors']} of {loaded['tensors']} tensors"
            for cell in cells
            if cell.results and (loaded := cell.results[0].config.get("weights"))
        ],
    }


def _sources(run: Benchmark) -> list[tuple[str, str, str, str]]:
    used = dict.fromkeys(task.source for task in run.tasks)
    found = [SOURCES[name] for name in used]
    return [(s.title, s.licence, s.citation, s.url) for s in found]


def _part(macro: str, **values: Any) -> Markup:
    folders = [Path(__file__).parent / "templates", TEMPLATES]
    return page.part("benchmark.html", macro, values, folders=folders)
