"""A paragraph about a store for the methods of a paper, with what it cites.

It is made of the store's own settings, so that what is reported is what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from omfa.pipeline.quality import QualityRules
from omfa.pipeline.report_page import plural, span
from omfa.pipeline.report_survey import Survey

_WELCH = (
    "Welch, P. (1967). The use of fast Fourier transform for the estimation of power spectra. "
    "IEEE Transactions on Audio and Electroacoustics, 15, 70-73."
)
_PREP = (
    "Bigdely-Shamlo, N., et al. (2015). The PREP pipeline: standardized preprocessing for "
    "large-scale EEG analysis. Frontiers in Neuroinformatics, 9, 16."
)
_SPLINES = (
    "Perrin, F., et al. (1989). Spherical splines for scalp potential and current density mapping. "
    "Electroencephalography and Clinical Neurophysiology, 72, 184-187."
)
_WHITENING = (
    "He, H., & Wu, D. (2020). Transfer learning for brain-computer interfaces: a Euclidean space "
    "data alignment approach. IEEE Transactions on Biomedical Engineering, 67, 399-410."
)
OMFA = (
    "Li, X., Li, Y., & Zhang, Y. (2025). One Model for All: Universal Pre-training for EEG based "
    "Emotion Recognition across Heterogeneous Datasets and Paradigms. arXiv:2511.08444."
)
"""The paper whose method omfa implements."""
_ZARR = "Zarr developers. Zarr core specification, version 3."

CITATIONS: Mapping[str, str] = {
    "seed": "Zheng, W.-L., & Lu, B.-L. (2015). Investigating critical frequency bands and channels "
    "for EEG-based emotion recognition with deep neural networks. IEEE Transactions on Autonomous "
    "Mental Development, 7, 162-175.",
    "deap": "Koelstra, S., et al. (2012). DEAP: a database for emotion analysis using "
    "physiological signals. IEEE Transactions on Affective Computing, 3, 18-31.",
    "dreamer": "Katsigiannis, S., & Ramzan, N. (2018). DREAMER: a database for emotion recognition "
    "through EEG and ECG signals from wireless low-cost off-the-shelf devices. IEEE Journal of "
    "Biomedical and Health Informatics, 22, 98-107.",
    "mahnob-hci": "Soleymani, M., et al. (2012). A multimodal database for affect recognition and "
    "implicit tagging. IEEE Transactions on Affective Computing, 3, 42-55.",
    "amigos": "Miranda-Correa, J. A., et al. (2021). AMIGOS: a dataset for affect, personality and "
    "mood research on individuals and groups. IEEE Transactions on Affective Computing, 12, "
    "479-493.",
}
"""The papers that describe corpora, by the name of their stores."""


@dataclass(frozen=True)
class Methods:
    """Text for a paper.

    Attributes
    ----------
    text : str
    references : list of str
        In the order of their numbers in the text.
    """

    text: str
    references: list[str]


class Citations:
    """Works in the order in which a text first cites them.

    Attributes
    ----------
    works : list of str
    """

    def __init__(self) -> None:
        self.works: list[str] = []

    def mark(self, work: str) -> str:
        """Return the mark of a work in the text, such as ``[1]``."""
        if work not in self.works:
            self.works.append(work)
        return f"[{self.works.index(work) + 1}]"


def methods(survey: Survey) -> Methods:
    """Describe a store as the methods of a paper do."""
    cited = Citations()
    cite = cited.mark
    sentences = [*_data(survey, cite), *_signal(survey, cite), *_quality(survey, cite)]
    sentences += list(_stored(survey, cite))
    return Methods(" ".join(sentences), cited.works)


def _data(survey: Survey, cite: Callable[[str], str]) -> Iterator[str]:
    table, name = survey.table, survey.store.name
    work = CITATIONS.get(name)
    if survey.simulated:
        yield f"Signals were simulated in the format of {name}; no person was recorded."
    else:
        yield f"We used {name}{' ' + cite(work) if work else ''}."
    yield (
        f"The data are {plural(len(table), 'recording')} of "
        f"{plural(table['subject'].nunique(), 'subject')} with "
        f"{plural(int(table['n_trials'].sum()), 'trial')} and "
        f"{plural(len(survey.store.channels), 'channel')}."
    )
    if failures := survey.store.failures:
        were = "was" if len(failures) == 1 else "were"
        yield f"{plural(len(failures), 'recording')} could not be read and {were} left out."


def _signal(survey: Survey, cite: Callable[[str], str]) -> Iterator[str]:
    settings = survey.store.settings.get("preprocessing", {})
    version = survey.store.settings.get("software", {}).get("omfa", "")
    yield (
        f"They were read with omfa {version} and aligned to its channel schema, version "
        f"{survey.store.settings['ucs_version']}, which names the electrodes of all datasets "
        f"alike {cite(OMFA)}."
    )
    low, high = settings.get("band") or (None, None)
    filters = []
    if low:
        filters.append(f"high-pass filtered at {low:g} Hz")
    if high:
        filters.append(f"low-pass filtered at {high:g} Hz")
    if notches := settings.get("notch"):
        filters.append(f"notch filtered at {', '.join(f'{hz:g}' for hz in notches)} Hz")
    reference = settings.get("reference", "source")
    filters.append(
        "left at the reference of the source"
        if reference == "source"
        else f"referenced to {reference if isinstance(reference, str) else ', '.join(reference)}"
    )
    if settings.get("whiten"):
        filters.append(
            f"whitened over the channels of each recording, without labels {cite(_WHITENING)}"
        )
    if settings.get("sfreq"):
        filters.append(f"resampled to {settings['sfreq']:g} Hz")
    else:
        filters.append(f"kept at {span(survey.table['sfreq'], ' Hz')}")
    yield f"Signals were {', '.join(filters)}."


def _quality(survey: Survey, cite: Callable[[str], str]) -> Iterator[str]:
    table, rules = survey.table, QualityRules()
    bad, n = int(table["n_bad"].sum()), int(table["n_chans"].sum())
    yield (
        "Before filtering, a channel counted as bad if more than "
        f"{rules.flat:.0%} of its 0.1 s blocks were flat, more than {rules.clipped:.1%} of its "
        f"samples clipped or {rules.missing:.0%} missing, its log variance at 1-40 Hz lay beyond "
        f"a robust z of {rules.variance_z:g} {cite(_PREP)}, its correlation with the nearest "
        f"electrodes was below {rules.neighbour_correlation:g}, or, by averaged spectra "
        f"{cite(_WELCH)}, mains noise or power above 30 Hz stood out (ratios of "
        f"{rules.line_ratio:g} and {rules.high_frequency_ratio:g}, and "
        f"{rules.line_excess:g} and {rules.high_frequency_excess:g} times the median channel's)."
    )
    treated = (
        f"interpolated by spherical splines {cite(_SPLINES)}"
        if survey.store.settings.get("preprocessing", {}).get("interpolate")
        else "marked and not repaired"
    )
    yield (
        f"{bad:,} of {plural(n, 'channel')} ({bad / n:.1%}) were bad; they were {treated}."
        if bad
        else f"None of {plural(n, 'channel')} was bad."
    )


def _stored(survey: Survey, cite: Callable[[str], str]) -> Iterator[str]:
    types = ", ".join(sorted(survey.dtypes))
    if types:
        yield (
            f"The signals are stored as {types} in microvolts (round-trip error at most "
            f"{survey.round_trip:.2g} µV RMS) in Zarr {cite(_ZARR)}."
        )
