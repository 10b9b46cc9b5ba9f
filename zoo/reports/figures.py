"""The pictures of a report on results: each function takes numbers and returns a PNG.

Drawn narrow, so that they can be read on a phone; a report sets them side by side where there is
room. A picture of a leaky protocol says so itself, for pictures are copied out of reports.

They are matplotlib's alone: seaborn's ``stripplot`` scatters by numpy's global random numbers, so
that the same results would give other bytes, and its ``pointplot`` computes an interval where ours
is given; scikit-learn's ``ConfusionMatrixDisplay`` chooses the colour of a number by the matrix's
own range, and a matrix of nearly even shares has white numbers on a pale ground.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from cycler import cycler  # matplotlib depends on it
from matplotlib.figure import Figure

from omfa.pipeline.report_figures import AFTER, BAD, BEFORE, INK, MARK, MUTED, png, style

Float64 = npt.NDArray[np.float64]

WIDTH = 4.7
"""Inches."""

LEAKY_GROUND = "#fdecea"

_LINES = ("#2463a6", "#d55e00", "#0b7a54", "#7d4fa3", "#e69f00", "#56b4e9", "#000000", "#c8372d")
"""Colours of lines, apart for colour-blind eyes too."""

LOOKS = cycler(linestyle=["-", "--", ":"]) * cycler(color=_LINES)
"""Looks of the lines of a picture: every colour before the next dash."""


def plain(text: str) -> str:
    """Return what the font can show."""
    return text.encode("ascii", "replace").decode()


def _lines(text: str, width: int = 26, most: int = 3) -> list[str]:
    """Cut a name into short lines, at blanks and after hyphens and plus signs where there are."""
    wrapped = textwrap.wrap(plain(text).replace("+", "+ "), width)
    lines = [line.replace("+ ", "+") for line in wrapped]
    if len(lines) <= most:
        return lines or [""]
    return [*lines[: most - 1], f"{lines[most - 1][: width - 3]}..."]


def _wrapped(title: str, width: int = 58) -> str:
    lines = (textwrap.wrap(line, width) for line in plain(title).splitlines())
    return "\n".join(part for parts in lines for part in parts)


def _headed(axes: Any, title: str, *, leaky: bool) -> None:
    if leaky:
        axes.set_facecolor(LEAKY_GROUND)
    # A dollar sign in a name begins no formula.
    axes.set_title(_wrapped(title), color=BAD if leaky else INK, loc="left", parse_math=False)


@dataclass(frozen=True)
class Dots:
    """A row of dots.

    Attributes
    ----------
    name : str
    scores : ndarray, shape (n_subjects,)
        0 to 1.
    interval : (float, float)
        Of the mean; NaN where there is none.
    majority : float
    paper : float or None
        0 to 1.
    """

    name: str
    scores: Float64
    interval: tuple[float, float]
    majority: float
    paper: float | None = None


def dots(rows: Sequence[Dots], title: str, metric: str, *, leaky: bool) -> bytes:
    """Draw a dot per subject, the mean with its interval, the majority class, the paper's figure.

    Parameters
    ----------
    rows : sequence of Dots
        From the top.
    title, metric : str
        The protocol, and what the axis is called.
    leaky : bool
        Of the protocol.
    """
    lowest = min(min(row.scores.min(initial=1.0), row.majority) for row in rows)
    with style():
        figure = Figure(figsize=(WIDTH, 1.15 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        _headed(axes, title, leaky=leaky)
        # A generator of its own: the same results give the same bytes.
        rng = np.random.default_rng(0)
        for y, row in enumerate(rows):
            axes.axhline(y, color=MUTED, lw=0.4, zorder=0)
            scatter = rng.uniform(-0.13, 0.13, len(row.scores)) * (len(row.scores) > 1)
            axes.plot(
                100 * row.scores, y + scatter, "o", ms=4, color=BEFORE, alpha=0.75, mew=0, zorder=1
            )
            axes.plot(100 * row.majority, y, "|", ms=13, mew=1.6, color=INK, zorder=2)
            if np.isfinite(row.interval).all():
                low, high = row.interval
                axes.plot([100 * low, 100 * high], [y, y], color=AFTER, lw=2, zorder=3)
            axes.plot(100 * row.scores.mean(), y, "D", ms=5.5, color=AFTER, zorder=4)
            if row.paper is not None:
                axes.plot(
                    100 * row.paper, y, "*", ms=11, mfc="none", mec=MARK, mew=1.2, zorder=5,
                    clip_on=False,
                )  # fmt: skip
            name = axes.annotate(
                _lines(row.name, 60, 1)[0],
                (0, y),
                xycoords=("axes fraction", "data"),
                xytext=(3, 6.5),
                textcoords="offset points",
                fontsize=8,
                va="bottom",
                parse_math=False,
            )
            # A long name must not narrow the axes.
            name.set_in_layout(False)
        axes.set(
            ylim=(len(rows) - 0.45, -0.85),
            # A little beyond the ends, so that the outermost dots are whole.
            xlim=(max(0, 100 * lowest - 6), 101),
            xlabel=f"{metric} (%)",
            yticks=[],
        )
        axes.spines["left"].set_visible(False)
        return png(figure, colours=64)


def confusions(
    matrices: Sequence[tuple[str, npt.NDArray[np.integer]]],
    classes: Sequence[str],
    title: str,
    *,
    leaky: bool,
) -> bytes:
    """Draw confusion matrices, in percent of each true class.

    Parameters
    ----------
    matrices : sequence of (str, ndarray of int, shape (n_outputs, n_outputs))
        Name, and windows by true (row) and predicted class.
    classes : sequence of str
    title : str
        The protocol.
    leaky : bool
    """
    columns = min(3, len(matrices))
    height, n = -(-len(matrices) // columns), len(classes)
    with style():
        figure = Figure(
            figsize=(max(3.2, 0.6 + 1.55 * columns), 0.6 + 1.9 * height), layout="constrained"
        )
        if leaky:
            figure.set_facecolor(LEAKY_GROUND)
        figure.suptitle(
            _wrapped(title, 44), color=BAD if leaky else INK, fontsize=9, parse_math=False
        )
        grid = figure.subplots(height, columns, squeeze=False)
        for k, (name, counts) in enumerate(matrices):
            axes = grid[k // columns, k % columns]
            share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
            for (i, j), value in np.ndenumerate(share):
                # Ink cannot be read on the dark end of Blues.
                colour = "white" if value > 60 else INK
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
            labels = [plain(name)[:8] for name in classes]
            axes.set_xticks(range(n), labels)
            axes.set_yticks(range(n), labels if k % columns == 0 else [""] * n)
            axes.tick_params(length=0)
            axes.set_title("\n".join(_lines(name)), fontsize=7, parse_math=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        for axes in grid.ravel()[len(matrices) :]:
            axes.axis("off")
        figure.supylabel("true", fontsize=8)
        figure.supxlabel("predicted", fontsize=8)
        return png(figure, colours=64)


def pretraining_curves(runs: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw the loss and the contrastive accuracy, the share of positives nearest to their anchor.

    Parameters
    ----------
    runs : mapping of str to DataFrame
        By name, ``learning_curve`` of each.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 4.2 + 0.17 * len(runs)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.set_prop_cycle(LOOKS)
        below.set_prop_cycle(LOOKS)
        handles = []
        for name, curve in runs.items():
            # A line of one point cannot be seen.
            look: dict[str, Any] = {"lw": 1.3, "marker": "." if len(curve) < 3 else None}
            loss, found = curve["loss"].dropna(), 100 * curve["accuracy"].dropna()
            handles += above.plot(loss.index, loss, label=plain(name), **look)
            below.plot(found.index, found, **look)
        above.set(ylabel="contrastive loss")
        below.set(ylabel="contrastive accuracy (%)", xlabel="step", ylim=(0, None))
        figure.legend(handles=handles, loc="outside lower left", fontsize=7.5)
        return png(figure, colours=64)


def fine_tuning_curves(history: pd.DataFrame, title: str) -> bytes:
    """Draw the losses of a fine-tuning, and the epoch that was kept if it was chosen.

    Parameters
    ----------
    history : DataFrame
        Columns ``epoch`` and ``loss``; ``validation_loss`` and ``validation_balanced_accuracy``
        where a validation side was set apart.
    title : str
    """
    look = {"lw": 1.3, "marker": ".", "ms": 4}
    with style():
        judged = "validation_loss" in history
        figure = Figure(figsize=(WIDTH, 4.0 if judged else 2.4), layout="constrained")
        above, *more = figure.subplots(1 + judged, 1, sharex=True, squeeze=False)[:, 0]
        above.plot(history["epoch"], history["loss"], color=BEFORE, label="training", **look)
        above.set_title(_wrapped(title), loc="left", parse_math=False)
        above.set(ylabel="loss")
        if judged:
            loss = history["validation_loss"]
            above.plot(history["epoch"], loss, color=AFTER, label="validation", **look)
            score = 100 * history["validation_balanced_accuracy"]
            more[0].plot(history["epoch"], score, color=AFTER, **look)
            more[0].set(ylabel="validation balanced\naccuracy (%)")
            for axes in (above, *more):
                axes.axvline(history["epoch"].iloc[int(loss.argmin())], color=MARK, lw=1, ls=":")
        last = more[0] if more else above
        last.set(xlabel="epoch")
        last.xaxis.get_major_locator().set_params(integer=True)
        above.legend(fontsize=8)
        return png(figure, colours=64)
