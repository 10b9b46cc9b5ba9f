"""The reports' pictures: each function takes numbers and returns a PNG.

Figures are drawn on ``Figure`` objects of their own, in matplotlib's default style whatever the
caller's is, and carry no date and no version: the same numbers give the same bytes.

They are matplotlib's alone, because the libraries draw something else: MNE's ``plot_topomap``
interpolates, and a fault of one electrode is no field that its neighbours share; its
``plot_sensors`` colours by group only, writes names across neighbouring electrodes and lays the
outer rows over one another; its plots of spectra and signals need the signal of every recording and
average by the mean; seaborn's ``heatmap`` would save ten lines here for one more dependency.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from PIL import Image  # matplotlib depends on it

from omfa.pipeline.channels import UCS
from omfa.pipeline.quality import MAINS

Float64 = npt.NDArray[np.float64]

INK, MUTED, PALE = "#1f2933", "#7b8794", "#e4e7eb"
BEFORE, AFTER, BAD, MARK = "#8d99a6", "#2463a6", "#c8372d", "#0b7a54"

COLOURS = ("#2463a6", "#d55e00", "#0b7a54", "#7d4fa3", "#b07d00", "#2a8fbd", "#000000", "#c8372d")
"""Of datasets and classes: apart for colour-blind eyes, and dark enough for white numbers."""

REASON_COLOURS = {
    "flat": "#000000",
    "clipped": "#d55e00",
    "missing": "#999999",
    "variance_z": "#c8372d",
    "line_ratio": "#e69f00",
    "high_frequency_ratio": "#56b4e9",
    "neighbour_correlation": "#7d4fa3",
}
"""By reason, apart for colour-blind eyes too."""

_DPI = 144
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "figure.dpi": _DPI,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's own style, and give the caller's back."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def png(figure: Figure, *, colours: int | None = None) -> bytes:
    """Return the figure as a PNG for ``report_page.width``; few colours, a third of the size."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Through Pillow: matplotlib's own PNG names its version, and other versions give other bytes.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if colours:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


# ------------------------------------------------------------------------------- the scalp

_RING = 0.85
"""The circle through Fpz, T7, Oz and T8, in head radii: lower electrodes are drawn outside it."""


def flatten(positions: Float64) -> Float64:
    """Project electrodes onto a plane, seen from above, nose up.

    Azimuthal equidistant about Cz, as 10-20 is usually drawn: the distance from the centre is the
    angle from Cz, seen from the middle of Fpz, T7, Oz and T8.

    Parameters
    ----------
    positions : ndarray, shape (n_chans, 3)
        Head frame, metres.

    Returns
    -------
    ndarray, shape (n_chans, 2)
        In head radii.
    """
    front, left, back, right, top = UCS.positions(["Fpz", "T7", "Oz", "T8", "Cz"])
    centre = (front + left + back + right) / 4
    up = _unit(top - centre)
    forward = _unit((front - back) - (front - back) @ up * up)
    axes = np.stack([np.cross(forward, up), forward, up])
    x, y, z = axes @ (np.asarray(positions, float) - centre).T
    distance = np.arctan2(np.hypot(x, y), z) / (np.pi / 2) * _RING
    azimuth = np.arctan2(y, x)
    return np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth)], axis=1)


def _unit(vector: Float64) -> Float64:
    return vector / np.linalg.norm(vector)


def _head(axes: Any) -> None:
    """Draw a head from above, radius 1, and leave room for electrodes below the ears."""
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), color=MUTED, lw=1, zorder=0)
    axes.plot([-0.1, 0, 0.1], [0.995, 1.1, 0.995], color=MUTED, lw=1, zorder=0)
    for side in (-1, 1):
        ear = np.linspace(-np.pi / 2, np.pi / 2, 30)
        axes.plot(
            side * (0.985 + 0.07 * np.cos(ear)), 0.17 * np.sin(ear), color=MUTED, lw=1, zorder=0
        )
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.15, 1.12), aspect="equal")
    axes.axis("off")


def disc_radius(places: Float64) -> float:
    """Return the radius at which no electrode touches its neighbour."""
    if len(places) < 2:
        return 0.1
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    apart[apart < 1e-3] = np.inf  # CB1 shares a place with PO9
    return float(np.clip(0.48 * apart.min(), 0.02, 0.1))


def _discs(axes: Any, places: Float64, radius: float, **options: Any) -> PatchCollection:
    return axes.add_collection(PatchCollection([Circle(p, radius) for p in places], **options))


def montages(
    datasets: Sequence[tuple[str, Sequence[str], Sequence[str]]], union: Sequence[str]
) -> bytes:
    """Draw which dataset has which channel.

    Parameters
    ----------
    datasets : sequence of (str, sequence of str, sequence of str)
        Title, the channels that some recording holds, and those that all recordings hold.
    union : sequence of str
        The channels of all datasets together.
    """
    columns = min(len(datasets), 5)
    rows = -(-len(datasets) // columns)
    wide = min(2.75, 11 / columns)
    names = np.array(union)
    places = flatten(UCS.positions(union))
    radius = 0.85 * disc_radius(places)
    with style():
        figure = Figure(figsize=(wide * columns, (wide + 0.1) * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, some, every) in zip(grid, datasets, strict=False):
            _head(axes)
            for shown, face, edge in (
                (~np.isin(names, some), "white", "#c3cad2"),
                (np.isin(names, some), "#b9d1ea", AFTER),
                (np.isin(names, every), AFTER, AFTER),
            ):
                _discs(axes, places[shown], radius, facecolor=face, edgecolor=edge, lw=0.7)
            axes.set_title(f"{_ascii(title)}: {len(some)}", parse_math=False)
        for axes in grid[len(datasets) :]:
            axes.axis("off")
        return png(figure, colours=64)


def bad_share(channels: Sequence[str], share: Float64, positions: Float64) -> bytes:
    """Draw each channel by name, coloured by the share of recordings in which it is bad.

    The colours reach from none to all recordings in every store, so that a channel that is bad
    once does not look like one that is bad always.

    Parameters
    ----------
    channels : sequence of str
    share : ndarray, shape (n_chans,)
        0 to 1.
    positions : ndarray, shape (n_chans, 3)
        Head frame, metres.
    """
    label = "recordings in which the channel is bad (%)"
    return named(channels, Discs(label, 100 * share, (0.0, 100.0)), positions)


@dataclass(frozen=True)
class Discs:
    """A value of each channel, to be drawn where its electrode is.

    Attributes
    ----------
    title : str
    values : ndarray, shape (n_chans,)
        NaN where there is no answer.
    scale : (float, float)
        The values of the first and the last colour.
    colours : str
        Of matplotlib's colour maps.
    log : bool
        Whether the colours follow the logarithm.
    """

    title: str
    values: Float64
    scale: tuple[float, float]
    colours: str = "Reds"
    log: bool = False

    @property
    def norm(self) -> Normalize:
        """The scale of the colours."""
        return (LogNorm if self.log else Normalize)(*self.scale)

    @property
    def beyond(self) -> str:
        """Which ends of the scale values pass: an arrow of the colour bar."""
        known = self.values[np.isfinite(self.values)]
        low, high = (known < self.scale[0]).any(), (known > self.scale[1]).any()
        return "both" if low and high else "min" if low else "max" if high else "neither"


def named(channels: Sequence[str], shown: Discs, positions: Float64) -> bytes:
    """Draw one value of each channel, in discs that are large enough for their names.

    Parameters
    ----------
    channels : sequence of str
    shown : Discs
        The title is the name of the colour bar.
    positions : ndarray, shape (n_chans, 3)
        Head frame, metres.
    """
    places = flatten(positions)
    radius = disc_radius(places)
    inches = 4.2 if len(channels) <= 40 else 6.6
    diameter = 2 * radius * 72 * inches / 2.4  # in points
    with style():
        figure = Figure(figsize=(inches + 0.8, inches * 0.95), layout="constrained")
        axes = figure.subplots()
        discs = _coloured(axes, places, radius, shown)
        for (x, y), name, value in zip(places, channels, shown.values, strict=True):
            # Ink cannot be read on a dark ground, nor white on a pale one.
            red, green, blue, _ = discs.cmap(discs.norm(value)) if np.isfinite(value) else (1,) * 4
            colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK
            size = min(8, 1.5 * diameter / len(name))
            axes.text(x, y, name, ha="center", va="center", fontsize=size, color=colour)
        bar = figure.colorbar(discs, ax=axes, shrink=0.6, aspect=22, pad=0.02, extend=shown.beyond)
        bar.set_label(shown.title)
        bar.outline.set_visible(False)
        return png(figure)


def _coloured(axes: Any, places: Float64, radius: float, shown: Discs) -> PatchCollection:
    """Draw the head and its electrodes; those without an answer stay empty."""
    _head(axes)
    unknown = ~np.isfinite(shown.values)
    _discs(axes, places[unknown], radius, facecolor="white", edgecolor="#c3cad2", lw=0.6, ls=":")
    discs = _discs(
        axes, places[~unknown], radius, edgecolor=MUTED, lw=0.5, cmap=shown.colours, norm=shown.norm
    )
    values = shown.values[~unknown]
    # 0 has no logarithm; it is at the pale end like all that is below the scale.
    discs.set_array(np.maximum(values, shown.scale[0] / 10) if shown.log else values)
    return discs


def electrodes(maps: Sequence[Discs], channels: Sequence[str], positions: Float64) -> bytes:
    """Draw heads side by side, a disc for each electrode, with the median and the worst by name.

    Parameters
    ----------
    maps : sequence of Discs
    channels : sequence of str
    positions : ndarray, shape (n_chans, 3)
        Head frame, metres.
    """
    places = flatten(positions)
    radius = disc_radius(places)
    columns = min(len(maps), 4)
    rows = -(-len(maps) // columns)
    with style():
        figure = Figure(figsize=(2.75 * columns, 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, shown in zip(grid, maps, strict=False):
            discs = _coloured(axes, places, radius, shown)
            axes.set_title(f"{shown.title}\n{_median_and_worst(shown, channels)}", fontsize=8)
            bar = figure.colorbar(
                discs, ax=axes, shrink=0.62, aspect=16, pad=0.02, extend=shown.beyond
            )
            bar.outline.set_visible(False)
            if shown.log:
                bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
            else:
                bar.ax.locator_params(nbins=4)
        for axes in grid[len(maps) :]:
            axes.axis("off")
        return png(figure)


def _median_and_worst(shown: Discs, channels: Sequence[str]) -> str:
    """Say in numbers what the colours of a head cannot."""
    low, high = shown.scale
    # A scale that is symmetric about 0 is as bad at both ends, a reversed one at its low end.
    badness = -shown.values if shown.colours.endswith("Reds_r") else shown.values
    badness = np.abs(badness) if low == -high else badness
    worst = int(np.nanargmax(badness))
    usual = brief(float(np.nanmedian(shown.values)))
    return f"median {usual}, {channels[worst]} {brief(float(shown.values[worst]))}"


def brief(value: float) -> str:
    """Return a number in two digits that count, with zeros in place of an exponent."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


# ------------------------------------------------------------------------------- spectra


def _quartiles(rows: Float64) -> Float64:
    """Return lower quartile, median and upper quartile of the positive values of each column."""
    positive = pd.DataFrame(rows).where(np.isfinite(rows) & (rows > 0))
    return positive.quantile([0.25, 0.5, 0.75]).to_numpy()


def _plain(value: float) -> str:
    """Return a tick of a logarithmic axis; of small powers of ten the power."""
    if 0 < value < 1e-2:
        return f"$10^{{{round(np.log10(value))}}}$"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def spectra(
    frequency: Float64,
    before: Float64,
    after: Float64,
    band: tuple[float | None, float | None],
) -> bytes:
    """Draw the spectra before and after preprocessing: median and quartiles over rows.

    Parameters
    ----------
    frequency : ndarray, shape (n_freqs,)
        Hz.
    before, after : ndarray, shape (n_rows, n_freqs)
        uV²/Hz; a row per channel of a recording, NaN above its Nyquist frequency.
    band : tuple of float or None
        The pass band, Hz.
    """
    with style():
        figure = Figure(figsize=(7.4, 3.3), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(
            band[0] or 0,
            band[1] or frequency[-1],
            fc="#dbe6f3",
            ec=AFTER,
            lw=0.5,
            label="pass band",
        )
        medians = []
        for rows, colour, name, lw in (
            (before, BEFORE, "before", 3.5),
            (after, AFTER, "after", 1.4),
        ):
            low, median, high = _quartiles(rows)
            medians.append(median)
            axes.fill_between(frequency, low, high, color=colour, alpha=0.25, lw=0)
            axes.plot(frequency, median, color=colour, lw=lw, label=name)
        for mains in MAINS:
            axes.axvline(mains, color=BAD, lw=0.8, ls=":")
            axes.annotate(
                f"{mains:g} Hz",
                (mains, 1),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=BAD,
            )
        axes.set_yscale("log")
        if np.isfinite(medians[0]).any():
            # The filter takes the stop band down by many decades, which show nothing.
            least, most = np.nanmin(medians[0]), np.nanmax(medians)
            axes.set_ylim(max(min(least, most / 1e3), most / 1e6) / 20, most * 6)
            axes.yaxis.set_major_formatter(lambda value, _: _plain(value))
        axes.set(
            xlim=(frequency[0], frequency[-1]),
            xlabel="frequency (Hz)",
            ylabel="power density (µV²/Hz)",
        )
        axes.legend(ncols=3, loc="lower left", fontsize=8)
        return png(figure, colours=64)


def channel_spectra(
    frequency: Float64, spectra: Float64, channels: Sequence[str], bad: Sequence[str]
) -> bytes:
    """Draw the raw spectrum of each channel of a recording, bad ones in red and by name.

    Parameters
    ----------
    frequency : ndarray, shape (n_freqs,)
        Hz.
    spectra : ndarray, shape (n_chans, n_freqs)
        uV²/Hz.
    channels, bad : sequence of str
    """
    with style():
        figure = Figure(figsize=(7.4, 3.1), layout="constrained")
        axes = figure.subplots()
        good = spectra[~np.isin(channels, bad)]
        seen = good if (good > 0).any() else spectra
        # A flat channel has no power to speak of, and would press the others together.
        least = float(seen[seen > 0].min()) / 10 if (seen > 0).any() else 1e-6
        for row, name in sorted(zip(spectra, channels, strict=True), key=lambda one: one[1] in bad):
            known = np.isfinite(row) & (row > 0)
            if not known.any():
                continue
            red = name in bad
            axes.plot(
                frequency[known], row[known], color=BAD if red else BEFORE, lw=1.4 if red else 0.6
            )
            if red:
                end = frequency[known][-1], max(row[known][-1], least)
                axes.annotate(
                    name, end, xytext=(3, 0), textcoords="offset points",
                    fontsize=7, color=BAD, va="center",
                )  # fmt: skip
        axes.set(
            xlim=(frequency[0], frequency[-1]),
            xlabel="frequency (Hz)",
            ylabel="power density (µV²/Hz)",
            yscale="log",
        )
        axes.set_ylim(bottom=least)
        return png(figure, colours=64)


@dataclass(frozen=True)
class Together:
    """What is compared of a dataset with the others.

    Attributes
    ----------
    title : str
    spectra : ndarray, shape (n_rows, n_freqs)
        As stored, uV²/Hz.
    amplitudes : ndarray, shape (n_rows,)
        RMS of each channel of each recording, uV.
    lengths : ndarray, shape (n_trials,)
        Seconds.
    """

    title: str
    spectra: Float64
    amplitudes: Float64
    lengths: Float64


def together(frequency: Float64, datasets: Sequence[Together]) -> bytes:
    """Draw all datasets on the same axes: stored spectra, amplitudes and lengths of trials.

    Parameters
    ----------
    frequency : ndarray, shape (n_freqs,)
        Hz.
    datasets : sequence of Together
    """
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(datasets))]
    names = [_ascii(shown.title) for shown in datasets]
    with style():
        figure = Figure(
            figsize=(10.6, 3.1 + 0.16 * max(0, len(datasets) - 4)), layout="constrained"
        )
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        most = 0.0
        for shown, colour, name in zip(datasets, colours, names, strict=True):
            low, median, high = _quartiles(shown.spectra)
            left.fill_between(frequency, low, high, color=colour, alpha=0.18, lw=0)
            left.plot(frequency, median, color=colour, lw=1.6, label=name)
            most = max(most, float(np.nanmax(high)))
        # Below that is the stop band of the filters, which shows nothing.
        left.set(yscale="log", ylim=(most / 1e6, most * 2), xlim=(frequency[0], frequency[-1]))
        left.set(xlabel="frequency (Hz)", ylabel="stored power density (µV²/Hz)")
        for axes, unit, values in (
            (middle, "RMS of a channel at 1-40 Hz (µV)", [d.amplitudes for d in datasets]),
            (right, "length of a trial (s)", [d.lengths for d in datasets]),
        ):
            _boxes(axes, values, colours)
            axes.set(xlabel=unit, ylim=(len(datasets) - 0.4, -0.6), yticks=range(len(datasets)))
            axes.set_yticklabels([])
        middle.set_xscale("log")
        for log in (left.yaxis, middle.xaxis):
            log.set_major_formatter(lambda value, _: _plain(value))
        middle.xaxis.set_minor_formatter(NullFormatter())
        figure.legend(
            *left.get_legend_handles_labels(), loc="outside upper left", ncols=4, fontsize=8
        )
        return png(figure, colours=128)


def _boxes(axes: Any, rows: Sequence[Float64], colours: Sequence[str]) -> None:
    """Draw median, quartiles and the range of the middle 90 %."""
    for y, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        known = row[np.isfinite(row) & (row > 0)]
        if not known.size:
            continue
        least, low, median, high, most = np.percentile(known, [5, 25, 50, 75, 95])
        axes.plot([least, most], [y, y], color=colour, lw=1.2)
        axes.plot([low, high], [y, y], color=colour, lw=8, alpha=0.35, solid_capstyle="butt")
        axes.plot([median], [y], "|", color=colour, ms=12, mew=2)
        axes.annotate(
            f"{median:.3g}", (median, y), xytext=(0, 8), textcoords="offset points",
            ha="center", va="bottom", fontsize=7.5, color=colour,
        )  # fmt: skip


# ------------------------------------------------------------------------------- labels


def classes(counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> bytes:
    """Draw how many trials of each class every subject has, a bar each.

    Parameters
    ----------
    counts : mapping of str to sequence of int
        By subject, the trials of each class.
    names : sequence of str
        The classes.
    """
    with style():
        figure = Figure(figsize=(5.6, 0.95 + 0.2 * len(counts)), layout="constrained")
        axes = figure.subplots()
        for y, own in enumerate(counts.values()):
            start = 0
            for i, n in enumerate(own):
                colour = COLOURS[i % len(COLOURS)]
                axes.barh(y, n, left=start, height=0.8, color=colour, alpha=0.8)
                if n:
                    axes.text(
                        start + n / 2, y, f"{n}", ha="center", va="center", fontsize=7,
                        color="white",
                    )  # fmt: skip
                start += n
        axes.set_yticks(range(len(counts)), [_ascii(name) for name in counts], fontsize=7)
        axes.set(ylim=(len(counts) - 0.4, -0.6), xlabel="trials", ylabel="subject")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = [
            Patch(color=COLOURS[i % len(COLOURS)], alpha=0.8, label=_ascii(name))
            for i, name in enumerate(names)
        ]
        legend = figure.legend(handles=handles, loc="outside upper left", ncols=5, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return png(figure, colours=64)


def ratings(valence: Float64, arousal: Float64) -> bytes:
    """Draw trials by their two ratings; equal ones are darker.

    Parameters
    ----------
    valence, arousal : ndarray, shape (n_trials,)
    """
    both = np.concatenate([valence, arousal])
    low, high = np.floor(both.min()), np.ceil(both.max())
    room = 0.04 * (high - low) or 0.5
    with style():
        figure = Figure(figsize=(3.3, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(valence, arousal, "o", ms=4.5, color=AFTER, alpha=0.35, mew=0)
        limits = low - room, high + room
        axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="valence", ylabel="arousal")
        for each in (axes.xaxis, axes.yaxis):
            each.set_major_locator(MaxNLocator(integer=True))
        return png(figure, colours=64)


def _ascii(name: str) -> str:
    """Return what the font can show."""
    return name.encode("ascii", "replace").decode()


# ------------------------------------------------------------------------------- signals


def traces(
    signal: Float64, sfreq: float, channels: Sequence[str], bad: Sequence[str], *, start: float
) -> bytes:
    """Draw a few seconds of a few channels below one another, bad ones in red.

    Parameters
    ----------
    signal : ndarray, shape (n_chans, n_times)
        Microvolts.
    sfreq : float
        Hz.
    channels : sequence of str
    bad : sequence of str
    start : float
        Seconds from the trial's onset to the first sample; negative before it.
    """
    is_bad = np.isin(channels, bad)
    middle = [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0 for row in signal]
    centred = signal - np.array(middle)[:, None]
    spacing = _spacing(centred[~is_bad] if not is_bad.all() else centred)
    # A bad channel may be a hundred times as large as the others and would cover them.
    limited = np.clip(centred, -0.95 * spacing, 0.95 * spacing)
    seconds = start + np.arange(signal.shape[1]) / sfreq
    with style():
        figure = Figure(figsize=(10.4, 0.8 + 0.3 * len(channels)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=MARK, lw=1.3)
        axes.annotate(
            "trial onset",
            (0, 1),
            xycoords=("data", "axes fraction"),
            ha="left",
            va="bottom",
            fontsize=8,
            color=MARK,
        )
        for i, row in enumerate(limited):
            axes.plot(seconds, row - i * spacing, color=BAD if is_bad[i] else INK, lw=0.7)
        axes.set_yticks(-spacing * np.arange(len(channels)), channels)
        for label, red in zip(axes.get_yticklabels(), is_bad, strict=True):
            label.set_color(BAD if red else INK)
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.set(
            xlim=(seconds[0], seconds[-1]),
            ylim=(-spacing * (len(channels) - 0.25), spacing * 0.85),
            xlabel="seconds from trial onset",
        )
        _scale_bar(axes, spacing)
        return png(figure, colours=64)


def _spacing(centred: Float64) -> float:
    """Return a round distance between traces that shows most of the signal."""
    present = [np.abs(row[np.isfinite(row)]) for row in centred]
    # Most of the signal and not its extremes: a blink would push all traces apart.
    spread = [np.percentile(row, 98) for row in present if row.any()]
    wanted = 2.5 * float(np.median(spread)) if spread else 50.0
    steps = np.array([1, 2, 3, 5]) * 10.0 ** np.arange(-3, 6)[:, None]
    return float(steps.ravel()[np.argmin(np.abs(np.log(steps.ravel() / wanted)))])


def _scale_bar(axes: Any, spacing: float) -> None:
    across = axes.get_yaxis_transform()  # x in axes fractions, y in microvolts
    axes.plot([1.008, 1.008], [-spacing, 0], transform=across, clip_on=False, color=INK, lw=1.4)
    axes.text(1.014, -spacing / 2, f"{spacing:g} µV", transform=across, va="center", fontsize=8)


def bad_channels(
    recordings: Sequence[str],
    channels: Sequence[str],
    reasons: Mapping[str, Mapping[str, str]],
    *,
    words: Mapping[str, str],
) -> bytes:
    """Draw recordings by channels, coloured by the first reason that a channel is bad.

    Parameters
    ----------
    recordings, channels : sequence of str
        Rows and columns.
    reasons : mapping
        By recording and channel, the first reason; the empty string where the channel is good.
        A channel that the recording lacks is not there.
    words : mapping of str to str
        What to call each reason.
    """
    names = list(REASON_COLOURS)
    code = {"": 1} | {name: i + 2 for i, name in enumerate(names)}
    grid = np.array(
        [
            [code.get(reasons[r][c], 1) if c in reasons[r] else 0 for c in channels]
            for r in recordings
        ]
    )
    colours = ListedColormap(["white", "#eef1f5", *REASON_COLOURS.values()])
    few = len(recordings) <= 40
    width = np.clip(1.6 + 0.15 * len(channels), 5, 10.4)
    height = 1.15 + (0.19 * len(recordings) if few else min(0.045 * len(recordings), 6.5))
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.pcolormesh(
            grid,
            cmap=colours,
            vmin=-0.5,
            vmax=len(names) + 1.5,
            edgecolors="white",
            linewidth=0.6 if few else 0,
        )
        axes.invert_yaxis()
        axes.set_xticks(np.arange(len(channels)) + 0.5, channels, rotation=90, fontsize=7)
        if few:
            axes.set_yticks(np.arange(len(recordings)) + 0.5, recordings, fontsize=7)
        else:
            # More than 20 names would lie over one another.
            at = range(0, len(recordings), -(-len(recordings) // 20))
            axes.set_yticks(np.array(at) + 0.5, [recordings[i] for i in at], fontsize=7)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        shown = [name for name in names if (grid == code[name]).any()]
        handles = [Patch(color=REASON_COLOURS[name], label=words[name]) for name in shown]
        if handles:
            figure.legend(handles=handles, loc="outside upper left", ncols=4, fontsize=8)
        return png(figure, colours=64)


@dataclass(frozen=True)
class Timeline:
    """A recording along its time, in minutes of the stored signal.

    Attributes
    ----------
    name : str
    minutes : float
    trials : list of (float, float, int or None)
        Start, length and class: its number, -1 where the trial has none, None where no trial has.
    breaks : list of float
        Where the signal breaks off.
    every, some : list of (float, float)
        Start and end of what all channels lack, and of what some do.
    remark : str
        What stands behind the row.
    """

    name: str
    minutes: float
    trials: Sequence[tuple[float, float, int | None]]
    breaks: Sequence[float]
    every: Sequence[tuple[float, float]]
    some: Sequence[tuple[float, float]]
    remark: str = ""


_FINEST = 600
"""Parts of the longest recording below which a gap is drawn wider than it is: it shall be seen."""


def timelines(rows: Sequence[Timeline], classes: Sequence[str]) -> bytes:
    """Draw recordings along their time, a row each: trials, breaks, and what is missing.

    Parameters
    ----------
    rows : sequence of Timeline
    classes : sequence of str
        The names of the trials' classes, which have the colours of ``classes``.
    """
    longest = max(row.minutes for row in rows) or 1.0
    least = longest / _FINEST
    with style():
        figure = Figure(figsize=(10.4, 1.05 + 0.23 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.broken_barh([(0, row.minutes)], (y - 0.16, 0.32), color="#d5dbe1", lw=0)
            for start, length, number in row.trials:
                # A trial that has no class is empty; a fine edge keeps neighbours apart.
                face = _trial_colour(number)
                edge = MUTED if number == -1 else "white"
                axes.broken_barh([(start, length)], (y - 0.3, 0.6), fc=face, ec=edge, lw=0.5)
            # Black, which no class has: of some channels a strip, of all the whole height.
            for spans, bottom in ((row.some, 0.14), (row.every, -0.4)):
                wide = _joined(spans, least)
                axes.broken_barh(wide, (y + bottom, 0.4 - bottom), color="black", lw=0, zorder=3)
            axes.plot(row.breaks, [y - 0.38] * len(row.breaks), "v", color=BAD, ms=5, zorder=4)
            axes.annotate(
                row.remark, (row.minutes, y), xytext=(5, 0), textcoords="offset points",
                fontsize=7, va="center", parse_math=False, annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [_ascii(row.name) for row in rows], fontsize=7)
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, longest), xlabel="minutes, as stored")
        handles = [
            Patch(color=COLOURS[i % len(COLOURS)], alpha=0.8, label=_ascii(name))
            for i, name in enumerate(classes)
        ]
        numbers = {number for row in rows for *_, number in row.trials}
        if None in numbers:
            handles.append(Patch(fc=_trial_colour(None), label="trial"))
        if -1 in numbers:
            handles.append(Patch(fc="white", ec=MUTED, lw=0.5, label="trial without a class"))
        # Where the source cut trials apart, nothing lies between them.
        idle = any(row.minutes - sum(length for _, length, _ in row.trials) > least for row in rows)
        lines = [Line2D([], [], color="#d5dbe1", lw=3, label="between trials")] * idle
        if any(row.every for row in rows):
            handles.append(Patch(fc="black", label="all channels missing"))
        if any(row.some for row in rows):
            lines.append(Line2D([], [], color="black", lw=3, label="some channels missing"))
        if any(row.breaks for row in rows):
            lines.append(Line2D([], [], color=BAD, ls="none", marker="v", ms=5, label="break"))
        legend = figure.legend(
            handles=[*handles, *lines], loc="outside upper left", ncols=6, fontsize=8
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        # Few more colours than elsewhere: red would become the classes' orange.
        return png(figure, colours=160)


def _trial_colour(number: int | None) -> str:
    """Return the colour of a trial, as pale as the bars of ``classes``."""
    if number is None:
        return "#93b4d9"
    return "white" if number < 0 else to_hex(_pale(COLOURS[number % len(COLOURS)]))


def _pale(colour: str) -> tuple[float, float, float]:
    """Return a colour at four fifths over white: an alpha would show what lies below."""
    red, green, blue = (0.8 * part + 0.2 for part in to_rgb(colour))
    return red, green, blue


def _joined(spans: Sequence[tuple[float, float]], least: float) -> list[tuple[float, float]]:
    """Return starts and lengths, none shorter than ``least``; what then meets is one."""
    joined: list[list[float]] = []
    for start, stop in spans:
        stop = max(stop, start + least)
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return [(start, stop - start) for start, stop in joined]
