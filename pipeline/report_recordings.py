"""What the quality report shows of single recordings: those to look at first, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline import report_figures as figures
from omfa.pipeline.quality import FREQUENCIES
from omfa.pipeline.report_quality import MEASURES, reason_in_words
from omfa.pipeline.report_survey import Survey, amplitudes
from omfa.pipeline.report_times import StoreTimes, draw, lacking

MOST_PAGES = 6
"""Recordings with a section of their own; ``omfa-ingest report --recordings`` gives any others."""

MOST_CHANNELS = 24
"""Rows of a recording's table of channels."""


@dataclass(frozen=True)
class RecordingPage:
    """A recording.

    Attributes
    ----------
    name : str
    n_bad, n_chans, n_trials : int
    minutes, amplitude : float
        Its length, and the median RMS of its channels at 1 to 40 Hz in microvolts.
    head : list of str
        Columns of ``rows``.
    rows : list of list of str
        The bad channels with their figures, and why they are bad.
    n_left : int
        How many more are bad.
    spectra, heads, times : bytes
        Pictures: a line for each channel, the quality figures, and the trials and what is missing
        along the recording; empty where there is no answer.
    lacking : str
        What is missing, in words; empty where nothing is.
    """

    name: str
    n_bad: int
    n_chans: int
    n_trials: int
    minutes: float
    amplitude: float
    head: list[str]
    rows: list[list[str]]
    n_left: int
    spectra: bytes
    heads: bytes
    times: bytes
    lacking: str


def recording_pages(survey: Survey, times: StoreTimes) -> list[RecordingPage]:
    """Describe the recordings with the most bad channels, those that were read."""
    table = survey.table[survey.table.index.isin(list(survey.reasons))]
    affected = table[table["n_bad"] > 0].assign(share=table["n_bad"] / table["n_chans"])
    order = affected.sort_values(["share", "recording"], ascending=[False, True])
    # Of few recordings all are shown, as whoever asks for one by name expects.
    chosen = list(order.index[:MOST_PAGES])
    if len(table) == len(survey.table) <= MOST_PAGES:
        chosen += [name for name in table.index if name not in chosen]
    return [_page(survey, times, name) for name in chosen]


def _page(survey: Survey, times: StoreTimes, name: str) -> RecordingPage:
    row: dict[Any, Any] = survey.table.loc[name].to_dict()
    place = survey.sampled.index(name)
    channels = list(row["channels"])
    columns = [survey.store.channels.index(channel) for channel in channels]
    found = {key: survey.quality[key][place, columns] for key in MEASURES}
    bad = list(row["bad_channels"])
    reasons = survey.reasons[name]
    rows = [
        [
            channel,
            *(_number(key, found[key][channels.index(channel)]) for key in MEASURES),
            ", ".join(map(reason_in_words, reasons[channel].split())),
        ]
        for channel in bad[:MOST_CHANNELS]
    ]
    before, after = survey.spectra[name]
    rms = amplitudes(after)
    course = times.courses.get(name)
    known = np.isfinite(before).any() if len(before) else False
    return RecordingPage(
        name=name,
        n_bad=len(bad),
        n_chans=len(channels),
        n_trials=int(row["n_trials"]),
        minutes=float(row["n_times"] / row["sfreq"]) / 60,
        amplitude=float(np.median(rms[np.isfinite(rms)])) if np.isfinite(rms).any() else np.nan,
        head=["channel", *(measure.title for measure in MEASURES.values()), "bad for"],
        rows=rows,
        n_left=max(0, len(bad) - MOST_CHANNELS),
        spectra=figures.channel_spectra(FREQUENCIES, before, channels, bad) if known else b"",
        heads=_heads(survey, channels, found),
        times=draw(times, [course]) if course else b"",
        lacking=lacking(times, course) if course else "",
    )


def _heads(
    survey: Survey, channels: Sequence[str], found: dict[str, npt.NDArray[np.float64]]
) -> bytes:
    """Draw the figures that tell channels apart; shares of nothing are left out."""
    shown = []
    for key, measure in MEASURES.items():
        values = found[key] * (100 if measure.share else 1)
        known = values[np.isfinite(values)]
        if known.size and not (measure.share and not known.any()):
            shown.append(
                figures.Discs(measure.title, values, measure.scale, measure.colours, measure.log)
            )
    positions = survey.store.ucs.positions(list(channels))
    return figures.electrodes(shown, channels, positions) if shown else b""


def _number(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "–"
    shown = figures.brief(float(100 * value if MEASURES[name].share else value))
    return shown.replace("-", "\N{MINUS SIGN}")
