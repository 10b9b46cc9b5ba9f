"""The tables of the quality report as CSV files, which lie beside it and hold all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline import report_page as page
from omfa.pipeline.quality import FIGURES
from omfa.pipeline.report_survey import Survey
from omfa.pipeline.report_times import StoreTimes

RECORDINGS, CHANNELS, MISSING = "recordings", "channels", "missing"
"""The tables: a row for each recording, each channel of each, and each gap of each."""


def names(out: Path | str) -> dict[str, str]:
    """Return the name of each file beside a report."""
    return {table: page.beside(out, table) for table in (RECORDINGS, CHANNELS, MISSING)}


def tables(stores: Sequence[tuple[Survey, StoreTimes]]) -> dict[str, str]:
    """Return the text of each table.

    Parameters
    ----------
    stores : sequence of (Survey, StoreTimes)

    Returns
    -------
    dict of str to str
        ``recordings``: who, how long, how many trials and bad channels, and what is missing; those
        that failed or could not be read have an ``error``. ``channels``: whether each is bad, why,
        and the quality figures of recordings that were read. ``missing``: gaps in seconds of the
        stored signal, of the recordings that were searched for them.
    """
    rows = {
        RECORDINGS: [row for survey, times in stores for row in _recordings(survey, times)],
        CHANNELS: [row for survey, _ in stores for row in _channels(survey)],
        MISSING: [row for survey, times in stores for row in _missing(survey, times)],
    }
    return {
        table: pd.DataFrame(own, columns=_COLUMNS[table]).to_csv(index=False, lineterminator="\n")
        for table, own in rows.items()
    }


_COLUMNS = {
    RECORDINGS: [
        *("dataset", "recording", "subject", "session", "run", "sfreq", "minutes", "n_chans"),
        *("n_bad", "bad_channels", "n_trials", "n_trials_less_than_usual", "n_trials_empty"),
        *("n_trials_without_class", "n_segments", "n_breaks", "missing", "n_gaps"),
        *("longest_gap_seconds", "channels_without_a_sample", "notes", "error"),
    ],
    CHANNELS: ["dataset", "recording", "channel", "bad", "reasons", *FIGURES],
    MISSING: ["dataset", "recording", "start", "stop", "every_channel", "channels"],
}


def _recordings(survey: Survey, times: StoreTimes) -> Iterator[dict[str, Any]]:
    for name, own in survey.table.iterrows():
        row = {
            "dataset": survey.title,
            "recording": name,
            **{key: own[key] for key in ("subject", "session", "run", "sfreq", "n_chans")},
            "minutes": round(own["n_times"] / own["sfreq"] / 60, 4),
            "n_bad": own["n_bad"],
            "bad_channels": " ".join(own["bad_channels"]),
            "n_trials": own["n_trials"],
            "error": survey.unreadable.get(str(name)) or times.unreadable.get(str(name), ""),
        }
        if course := times.courses.get(str(name)):
            row |= {
                "n_trials_less_than_usual": times.fewer(course),
                "n_trials_empty": course.without_samples,
                "n_trials_without_class": course.unlabelled,
                "n_segments": len(course.segments),
                "n_breaks": course.interruptions,
                "missing": round(course.share, 6),
                "channels_without_a_sample": " ".join(course.empty),
                "notes": " ".join(course.notes),
            }
            if course.gaps is not None or not course.share:
                lengths = [gap.stop - gap.start for gap in course.gaps or ()]
                row["n_gaps"] = len(lengths)
                row["longest_gap_seconds"] = round(max(lengths, default=0) / course.sfreq, 4)
        yield row
    for name, why in survey.store.failures.items():
        yield {"dataset": survey.title, "recording": name, "error": why}


def _channels(survey: Survey) -> Iterator[dict[str, Any]]:
    place = {name: row for row, name in enumerate(survey.sampled)}
    column = {name: i for i, name in enumerate(survey.store.channels)}
    for name, own in survey.table.iterrows():
        bad, reasons = set(own["bad_channels"]), survey.reasons.get(str(name), {})
        for channel in own["channels"]:
            row = {
                "dataset": survey.title,
                "recording": name,
                "channel": channel,
                "bad": channel in bad,
                "reasons": reasons.get(channel, ""),
            }
            if name in place:
                values = {
                    k: v[place[str(name)], column[channel]] for k, v in survey.quality.items()
                }
                # Eight digits are all that a float32 of the store has.
                row |= {k: float(f"{v:.8g}") for k, v in values.items() if np.isfinite(v)}
            yield row


def _missing(survey: Survey, times: StoreTimes) -> Iterator[dict[str, Any]]:
    for course in times.courses.values():
        for gap in course.gaps or ():
            yield {
                "dataset": survey.title,
                "recording": course.recording,
                "start": round(gap.start / course.sfreq, 4),
                "stop": round(gap.stop / course.sfreq, 4),
                "every_channel": gap.every,
                "channels": " ".join(gap.channels),
            }
