"""What the quality report advises: which recordings to look at first, and what to do about them.

Advice is made of the figures that the report shows anyway; nothing is changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from omfa.pipeline.report_labels import Balance
from omfa.pipeline.report_page import plural
from omfa.pipeline.report_quality import bad_shares, mains_noise
from omfa.pipeline.report_survey import Survey, amplitudes
from omfa.pipeline.report_times import StoreTimes
from omfa.pipeline.words import some

TOO_MANY_BAD = 0.25
"""Share of bad channels above which a recording is worth a look before it is used: with a quarter
gone, many a bad channel has bad neighbours to be interpolated from. Our choice.
"""

OFTEN_BAD = 0.5
"""Share of the recordings from which on a bad channel is the cap's and not a day's."""

MAINS_WIDESPREAD = 0.2
"""Share of channels with mains noise above which the report says what to do."""

MISSING = 0.01
"""Share of the samples from which on a recording that lacks them is named. Our choice."""

AMPLITUDE_FACTOR = 5.0
"""A recording whose median amplitude is more times the dataset's, or less, is odd. Our choice."""


@dataclass(frozen=True)
class Advice:
    """A finding, and what can be done.

    Attributes
    ----------
    found, do : str
    serious : bool
        Whether results would be wrong, and not only poorer.
    """

    found: str
    do: str
    serious: bool = False


def advise(survey: Survey, balance: Balance | None, times: StoreTimes) -> list[Advice]:
    """List what stands out, the most serious first; empty where nothing does."""
    found = [*_not_there(survey), *_recordings(survey), *_amplitudes(survey), *_channels(survey)]
    found += [*_mains(survey), *_times(times), *_trials(survey), *_classes(survey, balance)]
    return sorted(found, key=lambda one: not one.serious)


def _not_there(survey: Survey) -> Iterator[Advice]:
    if failures := list(survey.store.failures):
        yield Advice(
            f"{plural(len(failures), 'recording')} could not be stored: {some(failures)}",
            "Read the reasons above, mend the files, and run the ingest command again: it makes "
            "only what is missing.",
            serious=True,
        )
    if unreadable := list(survey.unreadable):
        yield Advice(
            f"{plural(len(unreadable), 'stored recording')} could not be read: {some(unreadable)}",
            "Run omfa-ingest verify, then the ingest command again.",
            serious=True,
        )


def _recordings(survey: Survey) -> Iterator[Advice]:
    share = survey.table["n_bad"] / survey.table["n_chans"]
    order = share.sort_values(ascending=False, kind="stable")
    worst, some_bad = order[order > TOO_MANY_BAD], order[(order > 0) & (order <= TOO_MANY_BAD)]
    if len(worst):
        each = [f"{name} ({value:.0%} of its channels bad)" for name, value in worst.items()]
        yield Advice(
            f"Look first at {some(each)}",
            "See their signals below. If they are as bad as that, leave these people out of models "
            f"(--skip {survey.store.name}/sub-...): too few good channels are left to interpolate "
            "from.",
            serious=True,
        )
    if len(some_bad):
        each = [f"{name} ({value:.0%})" for name, value in some_bad.items()]
        yield Advice(
            f"{'Then' if len(worst) else 'Look first'} at {some(each)}: some channels are bad",
            _keep_or_repair(survey),
        )


def _keep_or_repair(survey: Survey) -> str:
    if survey.store.settings.get("preprocessing", {}).get("interpolate"):
        return "They are interpolated already; keep the recordings."
    return (
        "Keep them: models count a marked channel as absent. Where a method needs all channels, "
        "ingest with --interpolate."
    )


def _channels(survey: Survey) -> Iterator[Advice]:
    shares = dict(zip(survey.store.channels, bad_shares(survey), strict=True))
    often = [f"{name} ({share:.0%})" for name, share in shares.items() if share >= OFTEN_BAD]
    if often and len(survey.table) > 2:
        yield Advice(
            f"Channels bad in half of the recordings or more: {some(often)}",
            "A broken electrode, or one in a bad place. Do not read anything into these channels; "
            "--exclude leaves them out of a store.",
        )


def _mains(survey: Survey) -> Iterator[Advice]:
    share, frequency = mains_noise(survey)
    if share <= MAINS_WIDESPREAD:
        return
    settings = survey.store.settings.get("preprocessing", {})
    high = (settings.get("band") or (None, None))[1]
    at = f"{frequency:g} Hz"
    if frequency in (settings.get("notch") or ()):
        do = f"Nothing: {at} is notched in the stored signal."
    elif high is not None and high < frequency:
        do = f"Nothing: the stored band ends at {high:g} Hz, below it."
    else:
        do = f"Ingest with --notch {frequency:g}."
    yield Advice(f"Mains noise at {at} stands out in {share:.0%} of the raw channels", do)


def _amplitudes(survey: Survey) -> Iterator[Advice]:
    of = {name: _median(amplitudes(after)) for name, (_, after) in survey.spectra.items()}
    known = {name: value for name, value in of.items() if value > 0}
    if len(known) < 3:
        return
    usual = float(np.median(list(known.values())))
    odd = [
        f"{name} ({value:.3g} µV)"
        for name, value in known.items()
        if not 1 / AMPLITUDE_FACTOR <= value / usual <= AMPLITUDE_FACTOR
    ]
    if odd:
        yield Advice(
            f"Amplitudes unlike the others' (median {usual:.3g} µV): {some(odd)}",
            "See whether these files are in another unit or of another amplifier's gain; the "
            "source's own reader says which.",
            serious=True,
        )


def _median(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else 0.0


def _times(times: StoreTimes) -> Iterator[Advice]:
    lost = times.lost()
    if missing := [one for one in lost if one.share >= MISSING]:
        each = [f"{one.recording} ({one.share:.0%})" for one in missing]
        yield Advice(
            f"Samples are missing in {some(each)}",
            "See the map of time. A channel counts as absent in the windows that lack samples of "
            "it, and a window that lacks all of them says nothing: cut trials there out of the "
            "source, or leave the recording out.",
            serious=any(one.share > TOO_MANY_BAD for one in missing),
        )
    if broken := [f"{one.recording} ({one.interruptions})" for one in lost if one.interruptions]:
        yield Advice(
            f"The signal breaks off in {some(broken)}",
            "See the map of time. No window reaches across a break, and how long it lasted is not "
            "known: an event on both sides of it has become two trials.",
        )
    if empty := [one.recording for one in lost if one.unlabelled]:
        yield Advice(
            f"Trials without {times.label.partition('>')[0]}: {some(empty)}",
            "They are left out where that label is the target. Look whether the source's table of "
            "labels is complete.",
        )


def _trials(survey: Survey) -> Iterator[Advice]:
    counts = survey.table["n_trials"]
    usual = int(counts.mode().iloc[0])
    fewer = [f"{name} ({n})" for name, n in counts.items() if n < usual]
    if fewer and len(fewer) < len(counts) / 2:
        yield Advice(
            f"Fewer than the usual {plural(usual, 'trial')}: {some(fewer)}",
            "Look whether the recording was broken off; folds of these people have fewer windows.",
        )


def _classes(survey: Survey, balance: Balance | None) -> Iterator[Advice]:
    if balance is None:
        return
    if balance.one_class:
        people = some([f"sub-{name}" for name in balance.one_class])
        yield Advice(
            f"One class alone under {balance.target}: {people}",
            "Within these people nothing can be learned; leave them out by --skip, or choose "
            "another --target.",
            serious=True,
        )
    even = 1 / len(balance.classes)
    if len(balance.classes) > 1 and balance.majority > even + 0.1:
        yield Advice(
            f"The largest class under {balance.target} holds {balance.majority:.0%} of the trials",
            "Report balanced accuracy: always naming that class scores as much in accuracy.",
        )
