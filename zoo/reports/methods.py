"""A paragraph about results for the methods of a paper, with what it cites.

It is made of the configurations that results carry, so that what is reported is what was run.
"""

from __future__ import annotations

from collections.abc import Sequence

from omfa.pipeline.report_methods import CITATIONS, OMFA, Citations, Methods
from omfa.pipeline.report_page import plural
from omfa.zoo.evaluation.results import Result, by_subject
from omfa.zoo.protocols.comparisons import LEAST_SUBJECTS
from omfa.zoo.reports.tables import Entry

_WILCOXON = (
    "Wilcoxon, F. (1945). Individual comparisons by ranking methods. Biometrics Bulletin, 1, 80-83."
)
_HOLM = (
    "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian "
    "Journal of Statistics, 6, 65-70."
)
_KERBY = (
    "Kerby, D. S. (2014). The simple difference formula: an approach to teaching nonparametric "
    "correlation. Comprehensive Psychology, 3, 11.IT.3.1."
)


def methods(entries: Sequence[Entry], metric: str) -> Methods:
    """Describe evaluations as the methods of a paper do.

    Parameters
    ----------
    entries : sequence of Entry
    metric : str
        What is compared, in words.
    """
    cited = Citations()
    first = entries[0].first
    version = first.config["versions"]["omfa"]
    sentences = [f"Models were evaluated with omfa {version} {cited.mark(OMFA)}."]
    by_data = {entry.first.data: entry.first for entry in reversed(entries)}
    sentences += [_of_data(result, cited) for result in reversed(by_data.values())]
    labels = dict.fromkeys(entry.first.label for entry in entries)
    sentences.append(f"Training and test sides were made by {_listed(list(labels))}.")
    if any(entry.first.leaky for entry in entries):
        sentences.append(
            "Scores under leaky-window are given for comparison with earlier work alone: windows "
            "of one trial are on both sides, and they say nothing about new trials."
        )
    kinds = dict.fromkeys(
        f"{e.name} {_pretrained(e.first)}" for e in entries if e.first.config["pretraining"]["seen"]
    )
    if kinds:
        sentences.append(f"Pre-training: {'; '.join(kinds)}.")
    sentences.append(
        f"Scores are the mean over subjects of {metric}, with 95 % intervals of Student's t on the "
        "scale of log odds."
    )
    sentences += _of_tests(entries, cited)
    return Methods(" ".join(sentences), cited.works)


def _of_data(result: Result, cited: Citations) -> str:
    data = result.config["dataset"]
    works = [CITATIONS[name] for name in data["datasets"] if name in CITATIONS]
    known = "".join(f" {cited.mark(work)}" for work in works)
    windows = f", cut into {result.windows}" if result.windows else ""
    return (
        f"The data were {result.data}{known}: {plural(len(result.subjects), 'subject')}, "
        f"{plural(data['windows'], 'window')} of {plural(len(data['channels']), 'channel')}"
        f"{windows}, with the classes {', '.join(result.classes)} by {result.config['rule']}."
    )


def _pretrained(result: Result) -> str:
    on = sorted({name.split("/")[0] for name in result.config["pretraining"]["seen"]})
    return (
        f"started from weights that had seen {_listed(on)} ({result.config['pretraining']['kind']})"
    )


def _of_tests(entries: Sequence[Entry], cited: Citations) -> list[str]:
    if len({entry.place for entry in entries}) == len(entries):
        return []  # nothing stands beside anything else
    people = min(len(by_subject(entry.results)) for entry in entries)
    effect = f"effect sizes are rank-biserial correlations {cited.mark(_KERBY)}"
    if people < LEAST_SUBJECTS:
        return [
            f"Differences are paired over subjects; {effect}. With fewer than {LEAST_SUBJECTS} "
            "subjects no test was made."
        ]
    return [
        "Differences are paired over subjects and tested by Wilcoxon's signed-rank test "
        f"{cited.mark(_WILCOXON)}, corrected by Holm's method over the comparisons of a table "
        f"{cited.mark(_HOLM)}; {effect}."
    ]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
