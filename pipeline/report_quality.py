"""What the quality report shows of channels and of recordings: which are bad, and what for.

The limits are those of ``quality.QualityRules``; nothing is judged anew here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from omfa.pipeline import report_figures as figures
from omfa.pipeline import report_page as page
from omfa.pipeline import report_survey as surveys
from omfa.pipeline.quality import QualityRules
from omfa.pipeline.report_survey import Survey

MOST_ROWS = 20
"""Rows of the table of the worst recordings."""

MOST_NAMES = 20
"""Channels named in a cell of that table."""

LEAST_MAPPED = 4
"""Fewer channels with an answer make no scalp map."""

MAINS_STANDS_OUT = 10.0
"""The mains ratio that the report remarks on; a channel is bad only far above."""

_RULES = QualityRules()


@dataclass(frozen=True)
class Measure:
    """A quality figure as the report shows it.

    ``scale`` reaches from harmless to the limit of the quality rules, so that full red means the
    same in every store. Shares are averaged by the mean, which a rare fault still moves, and all
    others by the median.
    """

    title: str
    meaning: str
    limit: str
    scale: tuple[float, float]
    colours: str = "Reds"
    log: bool = False
    share: bool = False


MEASURES = {
    "flat": Measure(
        "flat (%)",
        "0.1 s blocks without any change",
        f"above {_RULES.flat:.0%}",
        (0, 100 * _RULES.flat),
        share=True,
    ),
    "clipped": Measure(
        "clipped (%)",
        "samples held at the channel's highest or lowest value",
        f"above {_RULES.clipped:.1%}",
        (0, 100 * _RULES.clipped),
        share=True,
    ),
    "missing": Measure(
        "missing (%)",
        "samples that are not finite",
        f"above {_RULES.missing:.0%}",
        (0, 100 * _RULES.missing),
        share=True,
    ),
    "variance_z": Measure(
        "variance (robust z)",
        "log variance at 1–40 Hz against the recording's other channels",
        f"beyond ±{_RULES.variance_z:g}",
        (-_RULES.variance_z, _RULES.variance_z),
        "RdBu_r",
    ),
    "line_ratio": Measure(
        "mains ratio",
        "power at 50 or 60 Hz, whichever stands out more, over that beside it",
        f"above {_RULES.line_ratio:g} and {_RULES.line_excess:g} × the median channel",
        (1, _RULES.line_ratio),
        log=True,
    ),
    "high_frequency_ratio": Measure(
        "high-frequency ratio",
        "power above 30 Hz over that above 1 Hz, mains left out",
        f"above {_RULES.high_frequency_ratio:g} and {_RULES.high_frequency_excess:g} × the median "
        "channel",
        (0, _RULES.high_frequency_ratio),
    ),
    "neighbour_correlation": Measure(
        "neighbour correlation",
        "correlation at 1–40 Hz with the most alike of the 4 nearest electrodes",
        f"below {_RULES.neighbour_correlation:g}",
        (_RULES.neighbour_correlation, 1),
        "Reds_r",
    ),
}


def reason_in_words(reason: str) -> str:
    """Return what the report calls a reason for which a channel is bad."""
    return MEASURES[reason].title.partition(" (")[0] if reason in MEASURES else reason


# ------------------------------------------------------------------------------- channels


@dataclass(frozen=True)
class ChannelQuality:
    """Which channels are bad, and the quality figures over the scalp.

    Attributes
    ----------
    shares : bytes
        The picture of the share of recordings in which each channel is bad.
    often_bad : list of (str, str, str)
        Channel, share and the most frequent reasons.
    maps : bytes
        Scalp maps; empty where no figure has anything to show.
    undrawn : list of str
        The figures without a map, and their values.
    mains_share, mains : float
        Share of the channels of all recordings in which mains noise stands out, and its most
        frequent frequency, Hz.
    """

    shares: bytes
    often_bad: list[tuple[str, str, str]]
    maps: bytes
    undrawn: list[str]
    mains_share: float
    mains: float


def channel_quality(survey: Survey) -> ChannelQuality:
    """Summarise over recordings how good each channel is."""
    channels = survey.store.channels
    positions = survey.store.ucs.positions(channels)
    shares = bad_shares(survey)
    maps, undrawn = _maps(survey)
    mains_share, mains = mains_noise(survey)
    return ChannelQuality(
        shares=figures.bad_share(channels, shares, positions),
        often_bad=_often_bad(survey, shares),
        maps=figures.electrodes(maps, channels, positions) if maps else b"",
        undrawn=undrawn,
        mains_share=mains_share,
        mains=mains,
    )


def bad_shares(survey: Survey) -> npt.NDArray[np.float64]:
    """Return the share of the recordings holding a channel in which it is bad, (n_chans,)."""
    bad = Counter(name for row in survey.table["bad_channels"] for name in row)
    held = Counter(name for row in survey.table["channels"] for name in row)
    return np.array([bad[name] / held[name] for name in survey.store.channels])


def _often_bad(survey: Survey, shares: npt.NDArray[np.float64]) -> list[tuple[str, str, str]]:
    """List the channels that are most often bad."""
    channels = survey.store.channels
    worst = [i for i in np.argsort(-shares, kind="stable")[:10] if shares[i] > 0]
    why: dict[str, Counter[str]] = {channels[i]: Counter() for i in worst}
    for reasons in survey.reasons.values():
        for name in why.keys() & reasons.keys():
            why[name].update(reasons[name].split())
    return [
        (
            channels[i],
            f"{shares[i]:.1%}",
            ", ".join(reason_in_words(reason) for reason, _ in why[channels[i]].most_common(3)),
        )
        for i in worst
    ]


def _maps(survey: Survey) -> tuple[list[figures.Discs], list[str]]:
    """Return the maps to draw, and what to write of the figures that show too little."""
    maps, undrawn = [], []
    for name, measure in MEASURES.items():
        values = _over_recordings(survey.quality[name], measure)
        finite = values[np.isfinite(values)]
        if not finite.size:
            undrawn.append(f"{measure.title}: no answer")
        elif measure.share and finite.max() < 0.02 * measure.scale[1]:
            most = f"at most {finite.max():.1g}" if finite.max() else "0 everywhere"
            undrawn.append(f"{measure.title}: {most}")
        elif finite.size < LEAST_MAPPED:
            undrawn.append(f"{measure.title}: {page.span(float(f'{v:.2g}') for v in finite)}")
        else:
            maps.append(
                figures.Discs(measure.title, values, measure.scale, measure.colours, measure.log)
            )
    return maps, undrawn


def _over_recordings(values: npt.NDArray[np.float64], measure: Measure) -> npt.NDArray[np.float64]:
    """Average each channel over the recordings that have an answer, shape (n_chans,)."""
    average = np.mean if measure.share else np.median
    columns = (column[np.isfinite(column)] for column in values.T)
    found = np.array([float(average(c)) if c.size else np.nan for c in columns])
    return 100 * found if measure.share else found


def mains_noise(survey: Survey) -> tuple[float, float]:
    """Return the share of channels in which mains noise stands out, and its frequency in Hz."""
    frequency, ratio = survey.quality["line_frequency"], survey.quality["line_ratio"]
    standing_out = frequency[np.isfinite(frequency) & (ratio > MAINS_STANDS_OUT)]
    if not standing_out.size:
        return 0.0, 0.0
    share = standing_out.size / max(np.isfinite(ratio).sum(), 1)
    return share, Counter(standing_out.tolist()).most_common(1)[0][0]


# ------------------------------------------------------------------------------- recordings


@dataclass(frozen=True)
class RecordingQuality:
    """Which recordings have bad channels.

    Attributes
    ----------
    n_affected : int
    grid : bytes
        The picture of recordings by channels; empty where no recording is affected.
    worst : list of (str, str, list of (str, str))
        Recording, how many of its channels are bad, and these by their reasons.
    """

    n_affected: int = 0
    grid: bytes = b""
    worst: Sequence[tuple[str, str, list[tuple[str, str]]]] = ()


def recording_quality(survey: Survey) -> RecordingQuality:
    """List the recordings with bad channels, the worst first."""
    affected = survey.table[survey.table["n_bad"] > 0]
    if not len(affected):
        return RecordingQuality()
    # By name among equals, so that the same store gives the same bytes.
    worst = affected.sort_values(["n_bad", "recording"], ascending=[False, True])[:MOST_ROWS]
    first = {
        name: {channel: why.partition(" ")[0] for channel, why in channels.items()}
        for name, channels in survey.reasons.items()
    }
    grid = figures.bad_channels(
        list(first), survey.store.channels, first, words={n: reason_in_words(n) for n in MEASURES}
    )
    rows = [
        (name, f"{len(bad)} of {n_chans}", _by_reason(survey, name, bad))
        for name, bad, n_chans in zip(
            worst.index, worst["bad_channels"], worst["n_chans"], strict=True
        )
    ]
    return RecordingQuality(len(affected), grid, rows)


def _by_reason(survey: Survey, recording: str, bad: Sequence[str]) -> list[tuple[str, str]]:
    """Group bad channels by their reasons."""
    why = survey.reasons.get(recording) or surveys.reasons_of(survey.store[recording])
    groups: dict[str, list[str]] = {}
    for name in bad:
        reason = ", ".join(map(reason_in_words, why.get(name, "").split()))
        groups.setdefault(reason or "no reason given", []).append(name)
    return [(_some(names), reason) for reason, names in groups.items()]


def _some(names: Sequence[str]) -> str:
    """Return names, at most ``MOST_NAMES`` of them."""
    more = len(names) - MOST_NAMES
    return " ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
