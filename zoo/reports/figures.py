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
from matplotlib.lines import Line2D

from omfa.pipeline.report_figures import AFTER, BAD, BEFORE, INK, MARK, PALE, png, style

Float64 = npt.NDArray[np.float64]

WIDTH = 5.4
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


@dataclass(frozen=True)
class Dots:
    """A row of dots: a model under one protocol.

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


@dataclass(frozen=True)
class Side:
    """The rows of one protocol.

    Attributes
    ----------
    label : str
        The protocol.
    leaky : bool
    rows : sequence of Dots
    """

    label: str
    leaky: bool
    rows: Sequence[Dots]


_ROW, _HEADING, _GAP = 1.0, 0.95, 0.25
"""Heights of a row of dots, of a model's name above its rows, and of the space between models."""

_INCHES = 0.19
"""Of a height of 1."""


def scores(
    sides: Sequence[Side],
    title: str,
    metric: str,
    *,
    chance: float | None = None,
    ceiling: float | None = None,
) -> bytes:
    """Draw all models on one axis: a dot per subject, the mean with its interval, a row a protocol.

    What leaks stands below the name of the same model as what holds, in red on red ground, so that
    the two can be read off the same axis.

    Parameters
    ----------
    sides : sequence of Side
        The protocols. Models are listed in the order in which the sides name them.
    title, metric : str
        The data, and what the axis is called.
    chance : float, optional
        0 to 1: what guessing scores; a dotted line.
    ceiling : float, optional
        0 to 1: the best that the data allow; a dashed line.
    """
    names = list(dict.fromkeys(row.name for side in sides for row in side.rows))
    colours = _side_colours(sides)
    every = [row for side in sides for row in side.rows]
    lines = [value for value in (chance, ceiling) if value is not None]
    lowest = min([min(row.scores.min(initial=1.0), row.majority) for row in every] + lines)
    height = len(names) * (_HEADING + _GAP) + len(every) * _ROW
    with style():
        figure = Figure(figsize=(6.4, 1.5 + _INCHES * height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(_wrapped(title), loc="left", parse_math=False)
        if chance is not None:
            axes.axvline(100 * chance, color=INK, lw=1, ls=":", zorder=1, label="chance")
        if ceiling is not None:
            axes.axvline(
                100 * ceiling, color=MARK, lw=1.2, ls="--", zorder=1, label="the simulation's best"
            )
        # A generator of its own: the same results give the same bytes.
        rng = np.random.default_rng(0)
        top = 0.0
        for name in names:
            heading = axes.annotate(
                _lines(name, 70, 1)[0],
                (0, top + 0.5 * _HEADING),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                parse_math=False,
                bbox={"fc": "white", "ec": "none", "pad": 0.5},
            )
            # A long name must not narrow the axes.
            heading.set_in_layout(False)
            top += _HEADING
            for side, colour in zip(sides, colours, strict=True):
                for row in (row for row in side.rows if row.name == name):
                    if side.leaky:
                        axes.axhspan(top, top + _ROW, color=LEAKY_GROUND, lw=0, zorder=0)
                    _row_of_dots(axes, row, top + 0.5 * _ROW, colour, rng, leaky=side.leaky)
                    top += _ROW
            top += _GAP
            axes.axhline(top - 0.5 * _GAP, color=PALE, lw=0.8, zorder=0)
        axes.set(
            ylim=(top, -0.1),
            # A little beyond the ends, so that the outermost dots are whole.
            xlim=(max(-3.0, 100 * lowest - 6), 102),
            xlabel=f"{metric} (%)",
            yticks=[],
        )
        axes.spines["left"].set_visible(False)
        _legend(figure, axes, sides, colours, starred=any(row.paper is not None for row in every))
        return png(figure, colours=64)


def _side_colours(sides: Sequence[Side]) -> list[str]:
    """Give what leaks the colour of what is wrong, and every other protocol one of its own."""
    own = iter([AFTER, *_LINES[2:6]] * len(sides))
    return [BAD if side.leaky else next(own) for side in sides]


def _row_of_dots(
    axes: Any, row: Dots, y: float, colour: str, rng: np.random.Generator, *, leaky: bool
) -> None:
    scatter = rng.uniform(-0.2, 0.2, len(row.scores)) * (len(row.scores) > 1)
    axes.plot(100 * row.scores, y + scatter, "o", ms=3.6, color=BEFORE, alpha=0.75, mew=0, zorder=2)
    axes.plot(100 * row.majority, y, "|", ms=10, mew=1.6, color=INK, zorder=3)
    if np.isfinite(row.interval).all():
        low, high = row.interval
        axes.plot([100 * low, 100 * high], [y, y], color=colour, lw=2, zorder=4)
    face = "white" if leaky else colour
    axes.plot(100 * row.scores.mean(), y, "D", ms=5.5, mfc=face, mec=colour, mew=1.3, zorder=5)
    if row.paper is not None:
        axes.plot(
            100 * row.paper, y, "*", ms=10, mfc="none", mec=MARK, mew=1.2, zorder=6, clip_on=False
        )


def _of_legend(side: Side) -> str:
    """Return a protocol's name, short enough for a legend of two columns."""
    name, _, details = side.label.partition(" (")
    return plain(f"{name} (LEAKY)" if side.leaky else f"{name} ({details}" if details else name)[
        :52
    ]


def _legend(
    figure: Figure, axes: Any, sides: Sequence[Side], colours: Sequence[str], *, starred: bool
) -> None:
    handles = [
        Line2D([], [], color=colour, lw=2, marker="D", ms=5, label=_of_legend(side),
               mfc="white" if side.leaky else colour)
        for side, colour in zip(sides, colours, strict=True)
    ]  # fmt: skip
    none: dict[str, Any] = {"ls": "none"}
    handles += [
        Line2D([], [], marker="o", color=BEFORE, ms=4, label="a subject", **none),
        Line2D([], [], marker="|", color=INK, ms=9, mew=1.6, label="majority class", **none),
    ]
    if starred:
        star: dict[str, Any] = {"mfc": "none", "mec": MARK, "ms": 9}
        handles.append(Line2D([], [], marker="*", label="the paper", **none, **star))
    handles += axes.get_legend_handles_labels()[0]
    legend = figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=7.5)
    for text, side in zip(legend.get_texts(), sides, strict=False):
        text.set_parse_math(False)
        if side.leaky:
            text.set_color(BAD)


@dataclass(frozen=True)
class Paired:
    """Two models, or one under two protocols, over the same people.

    Attributes
    ----------
    title : sequence of str
        What the two are, in lines.
    names : (str, str)
        Of the left and the right column.
    scores : ndarray, shape (n_subjects, 2)
        0 to 1, in the order of ``names``.
    interval : (float, float)
        Of the mean difference, the right less the left; NaN where there is none.
    words : sequence of str
        The difference, its interval and its test, in lines.
    chance : float or None
        0 to 1.
    leaky : (bool, bool)
        Which of the two leak.
    """

    title: Sequence[str]
    names: tuple[str, str]
    scores: Float64
    interval: tuple[float, float]
    words: Sequence[str]
    chance: float | None
    leaky: tuple[bool, bool]


def paired(shown: Sequence[Paired], title: str, metric: str) -> bytes:
    """Draw a line for each person between two scores, and the mean difference with its interval.

    The difference stands to the right of the scores and on their axis: where the left mean goes on
    as a thin line it is nothing.

    Parameters
    ----------
    shown : sequence of Paired
        A panel each, all on one axis.
    title, metric : str
        The data, and what the axis is called.
    """
    columns = min(3, len(shown))
    height = -(-len(shown) // columns)
    known = [100 * value for one in shown for value in (one.scores.min(), one.scores.max())]
    known += [100 * one.chance for one in shown if one.chance is not None]
    room = max(4.0, 0.15 * (max(known) - min(known)))
    # Of few people an interval may be wider than all scores, which it must not press together.
    limits = min(known) - room, max(known) + room
    with style():
        figure = Figure(
            figsize=(max(3.6, 0.5 + 2.5 * columns), 0.5 + 2.9 * height), layout="constrained"
        )
        figure.suptitle(_wrapped(title, 34 * columns), fontsize=9.5, parse_math=False)
        grid = figure.subplots(height, columns, squeeze=False, sharey=True).ravel()
        for axes, one in zip(grid, shown, strict=False):
            _lines_of_people(axes, one, limits)
        for k, axes in enumerate(grid):
            if k >= len(shown):
                axes.axis("off")
            elif k % columns == 0:
                axes.set_ylabel(f"{metric} (%)")
        grid[0].set_ylim(limits)
        return png(figure, colours=64)


def _lines_of_people(axes: Any, one: Paired, limits: tuple[float, float]) -> None:
    left, right = 100 * one.scores.T
    if all(one.leaky):
        axes.set_facecolor(LEAKY_GROUND)
    elif any(one.leaky):
        axes.axvspan(one.leaky.index(True) - 0.4, one.leaky.index(True) + 0.4, fc=LEAKY_GROUND)
    if one.chance is not None:
        axes.axhline(100 * one.chance, color=INK, lw=1, ls=":", zorder=1)
    axes.plot([0, 1], [left, right], color=BEFORE, lw=0.8, alpha=0.6, zorder=2)
    for x, values in ((0, left), (1, right)):
        axes.plot([x] * len(values), values, "o", ms=3.6, color=BEFORE, mew=0, zorder=3)
        colour = BAD if one.leaky[x] else AFTER
        face = "white" if one.leaky[x] else colour
        axes.plot(x, values.mean(), "D", ms=6, mfc=face, mec=colour, mew=1.3, zorder=5)
    axes.plot([0, 2.3], [left.mean()] * 2, color=INK, lw=0.6, zorder=1)
    if np.isfinite(one.interval).all():
        low, high = left.mean() + 100 * np.array(one.interval)
        axes.plot([2, 2], [low, high], color=INK, lw=2, zorder=4)
        # An end that lies beyond the axis is an arrow.
        if low < limits[0]:
            axes.plot(2, limits[0], "v", color=INK, ms=7, clip_on=False, zorder=4)
        if high > limits[1]:
            axes.plot(2, limits[1], "^", color=INK, ms=7, clip_on=False, zorder=4)
    axes.plot(2, right.mean(), "D", ms=6, color=INK, zorder=5)
    labels = ["\n".join(_lines(name, 13)) for name in one.names]
    axes.set_xticks([0, 1, 2], [*labels, "difference"], fontsize=7)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    for label, leaky in zip(axes.get_xticklabels(), one.leaky, strict=False):
        label.set_color(BAD if leaky else INK)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.45, 2.4)
    heading = "\n".join([part for line in one.title for part in _lines(line, 40, 2)] + [*one.words])
    colour = BAD if all(one.leaky) else INK
    axes.set_title(heading, fontsize=7.5, loc="left", color=colour, parse_math=False)


def confusions(
    matrices: Sequence[tuple[str, npt.NDArray[np.integer]]],
    classes: Sequence[str],
    title: str,
    *,
    leaky: bool,
) -> bytes:
    """Draw confusion matrices, in percent of each true class, with how many windows there are.

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
            figsize=(max(3.6, 0.6 + 1.9 * columns), 0.7 + 2.2 * height), layout="constrained"
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
            labels = [plain(name)[:10] for name in classes]
            axes.set_xticks(range(n), labels)
            axes.set_yticks(range(n), labels if k % columns == 0 else [""] * n)
            axes.tick_params(length=0)
            heading = "\n".join([*_lines(name), f"n = {int(counts.sum()):,}"])
            axes.set_title(heading, fontsize=7.5, parse_math=False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        for axes in grid.ravel()[len(matrices) :]:
            axes.axis("off")
        figure.supylabel("true (a row is 100 %)", fontsize=8)
        figure.supxlabel("predicted", fontsize=8)
        return png(figure, colours=64)


def pretraining_curves(runs: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw the loss and the contrastive accuracy, the share of positives nearest to their anchor.

    Single batches are pale; the line is their running mean. Dashed is what a run would score whose
    embeddings do not tell one candidate from another.

    Parameters
    ----------
    runs : mapping of str to DataFrame
        By name, ``learning_curve`` of each.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 4.2 + 0.17 * len(runs)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        handles = []
        for look, (name, curve) in zip(LOOKS(), runs.items(), strict=False):
            loss, found = curve["loss"].dropna(), 100 * curve["accuracy"].dropna()
            handles += _smooth(above, loss, look, label=plain(name))
            _smooth(below, found, look)
            if "chance_loss" in curve and len(chance := curve["chance_loss"].dropna()):
                above.plot(chance.index, chance, color=INK, lw=0.8, ls="--")
                # Cross-entropy of an even choice is the log of the number of candidates.
                below.plot(chance.index, 100 * np.exp(-chance), color=INK, lw=0.8, ls="--")
        above.set(ylabel="contrastive loss")
        below.set(ylabel="contrastive accuracy (%)", xlabel="step", ylim=(0, None))
        figure.legend(handles=handles, loc="outside lower left", fontsize=7.5)
        return png(figure, colours=64)


def _smooth(axes: Any, values: pd.Series[Any], look: Mapping[str, Any], **line: Any) -> list[Any]:
    """Draw single values pale, and their running mean over a tenth of them."""
    # A line of one point cannot be seen.
    marker = "." if len(values) < 3 else None
    axes.plot(values.index, values, **look, lw=0.7, alpha=0.35)
    mean = values.rolling(max(1, len(values) // 10), center=True, min_periods=1).mean()
    drawn: list[Any] = axes.plot(values.index, mean, **look, lw=1.5, marker=marker, **line)
    return drawn


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
