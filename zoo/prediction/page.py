"""The page about one prediction: probabilities over time, channels, doubts, what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from omfa.pipeline import report_page as page
from omfa.pipeline.report_figures import INK, MUTED, png, style
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.prediction.predictor import GAP, OK, Prediction
from omfa.zoo.reports.figures import LOOKS, plain

TEMPLATES = Path(__file__).parent / "templates"

WIDTH, HEIGHT = 9.4, 2.6
"""Inches."""


def write_page(prediction: Prediction, out: Path) -> None:
    """Write the HTML page of a prediction; the same answers give the same bytes.

    Parameters
    ----------
    prediction : Prediction
    out : Path
        The file; it replaces an earlier one. The page says that ``save`` puts every window into the
        CSV file of its name beside it.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    page.check_writable(out)
    decision, table = prediction.decision, prediction.table
    quality = table["quality"].value_counts()
    counts = table.loc[table["quality"] != GAP, "class"].value_counts()
    overall = prediction.overall if prediction.answered else {}
    values: dict[str, Any] = {
        "title": f"{prediction.name}: {' or '.join(decision.classes)}",
        "sections": {
            "answers": "Answers",
            "doubts": "Doubts",
            "channels": "Channels",
            "worth": "What it is worth",
        },
        "checkpoint": prediction.card.name,
        "rule": decision.rule,
        "simulated": prediction.card.simulated,
        "n": len(table),
        "seconds": decision.window_seconds,
        "answered": prediction.answered,
        "picture_png": _over_time(prediction),
        "classes": [
            [name, f"{int(counts.get(name, 0)):,}", f"{overall[name]:.3f}" if overall else ""]
            for name in decision.classes
        ],
        "quality": [[name, f"{n:,}"] for name, n in quality.items() if name != OK],
        "warnings": prediction.warnings,
        "channels": [[name, state] for name, state in prediction.channels.items()],
        "left_out": prediction.left_out,
        "results": _results(prediction.card),
        "validation": _validation(prediction.card),
        "limits": prediction.card.limits,
        "chance": f"{1 / len(decision.classes):.3f}",
        "temperature": f"{decision.temperature:g}",
        "input": decision,
        "file": f"{out.name.removesuffix('.html')}.csv",
    }
    page.write(out, "prediction.html", values, folders=[TEMPLATES])


def _results(card: Card) -> list[list[str]]:
    return [
        [
            *(str(row.get(key, "")) for key in ("model", "dataset", "protocol", "metric")),
            f"{row['score']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row and "high" in row else "",
        ]
        for row in card.results
    ]


def _validation(card: Card) -> str:
    """Say what a network reached in fine-tuning on what it had not learned from."""
    known = card.recipe.get("validation")
    if not isinstance(known, dict) or "validation_balanced_accuracy" not in known:
        return ""
    who = {
        "subjects": f"{len(known.get('subjects', []))} people who were set apart",
        "trials": "trials that were set apart, of the same people",
    }.get(str(known.get("apart")), "a part that was set apart")
    return (
        f"On {who} ({known.get('windows', 0)} windows) a network that had learned from the others "
        f"alone reached a balanced accuracy of {known['validation_balanced_accuracy']:.3f}"
    )


def _over_time(prediction: Prediction) -> bytes:
    """Draw the probability of every class over time; gaps are left open and greyed."""
    table = prediction.table
    with style():
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        middle = (table["start"] + table["stop"]).to_numpy() / 2
        p = prediction.probabilities
        step = np.diff(table["start"].to_numpy())
        # A line must not bridge what was not recorded.
        longest = 1.5 * np.median(step) if len(step) else 0.0
        after = np.flatnonzero(step > longest) + 1
        at = np.insert(middle, after, np.nan)
        drawn = np.insert(p, after, np.nan, axis=0)
        marker = "." if len(table) <= 60 else ""
        axes.set_prop_cycle(LOOKS)
        for k, name in enumerate(prediction.decision.classes):
            axes.plot(at, drawn[:, k], label=plain(name), marker=marker, linewidth=1.2)
        axes.axhline(1 / p.shape[1], color=MUTED, linewidth=0.8, linestyle=":")
        for start, stop in table.loc[table["quality"] != OK, ["start", "stop"]].to_numpy():
            axes.axvspan(start, stop, color=MUTED, alpha=0.15, linewidth=0)
        axes.set(ylim=(-0.02, 1.02), xlabel="seconds", ylabel="probability")
        axes.margins(x=0.01)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, labelcolor=INK)
        return png(figure)
