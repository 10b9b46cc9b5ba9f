"""What the quality report shows of labels: their values over trials, and the classes they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline import report_figures as figures
from omfa.pipeline.catalogue import USUAL_TARGETS
from omfa.pipeline.report_survey import Survey

MOST_BARS = 12
"""Different numbers of a label, beyond which its chart is a histogram; bars of any label."""

N_BINS = 20

RATINGS = (0.0, 10.0)
"""Histograms of labels within these values share one range: those of one scale can be compared."""

MOST_SUBJECTS = 40
"""Rows of the picture of classes by subject."""


@dataclass(frozen=True)
class Label:
    """The values of a label over trials.

    Attributes
    ----------
    name : str
    n_trials, n_missing : int
        With and without a value.
    bars : list of (str, float, int)
        Value, length in percent of the longest, and how many trials have it.
    others, n_others : int
        How many values have no bar, and how many trials.
    histogram : (list of int, list of float) or None
        Counts and edges of ``N_BINS`` equal bins, of a label of many numbers.
    mean, spread : float
        Of the numbers in a histogram.
    """

    name: str
    n_trials: int
    n_missing: int
    bars: Sequence[tuple[str, float, int]] = ()
    others: int = 0
    n_others: int = 0
    histogram: tuple[list[int], list[float]] | None = None
    mean: float = 0.0
    spread: float = 0.0


def labels(survey: Survey) -> list[Label]:
    """Count the values of every label; many different numbers make a histogram."""
    values = {name: list(own.values()) for name, own in survey.labels.items()}
    numbers = {name: found for name, own in values.items() if (found := _numbers(own)) is not None}
    many = {name: found for name, found in numbers.items() if len(np.unique(found)) > MOST_BARS}
    ratings = [
        found for found in many.values() if RATINGS[0] <= found.min() <= found.max() <= RATINGS[1]
    ]
    shared = (
        (np.floor(min(f.min() for f in ratings)), np.ceil(max(f.max() for f in ratings)))
        if ratings
        else None
    )
    return [_label(name, own, numbers.get(name), shared) for name, own in values.items()]


def _numbers(pieces: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    """Return the numbers among a label's values; None where it is text."""
    if any(piece.dtype.kind not in "iuf" for piece in pieces):
        return None
    values = np.concatenate(pieces)
    return values[np.isfinite(values)]


def _label(
    name: str,
    pieces: Sequence[npt.NDArray[Any]],
    present: npt.NDArray[Any] | None,
    shared: tuple[float, float] | None,
) -> Label:
    if present is None:
        return _bars(name, [str(value) for piece in pieces for value in piece], 0, numeric=False)
    missing = sum(map(len, pieces)) - len(present)
    if len(np.unique(present)) <= MOST_BARS:
        return _bars(name, present.tolist(), missing, numeric=True)
    fits = shared is not None and shared[0] <= present.min() <= present.max() <= shared[1]
    counts, edges = np.histogram(present, bins=N_BINS, range=shared if fits else None)
    return Label(
        name,
        len(present),
        missing,
        histogram=(counts.tolist(), edges.tolist()),
        mean=float(present.mean()),
        spread=float(present.std()),
    )


def _bars(name: str, values: list[Any], missing: int, *, numeric: bool) -> Label:
    """Make a bar per value: numbers in order, texts with the most frequent first."""
    counts = Counter(values)
    ordered = sorted(counts, key=None if numeric else lambda value: (-counts[value], value))
    most = max(counts.values(), default=1)
    rest = ordered[MOST_BARS:]
    return Label(
        name,
        len(values),
        missing,
        bars=[(one(v), 100 * counts[v] / most, counts[v]) for v in ordered[:MOST_BARS]],
        others=len(rest),
        n_others=sum(counts[value] for value in rest),
    )


def one(value: Any) -> str:
    """Return a value of a label, without digits that mean nothing."""
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


# ------------------------------------------------------------------------------- classes


@dataclass(frozen=True)
class Balance:
    """How many trials each class has under the dataset's usual target.

    Attributes
    ----------
    target : str
        As ``--target`` takes it.
    classes : list of str
    counts : list of int
        Trials of each class, of all subjects together.
    picture : bytes
        The classes by subject.
    n_left : int
        How many subjects the picture has no room for.
    one_class : list of str
        Subjects whose trials are all of one class.
    """

    target: str
    classes: list[str]
    counts: list[int]
    picture: bytes
    n_left: int
    one_class: list[str]

    @property
    def majority(self) -> float:
        """The share of the largest class: what a model scores that has learned nothing."""
        return max(self.counts) / sum(self.counts)


def class_balance(survey: Survey) -> Balance | None:
    """Count classes by the dataset's usual target; None where it has none, or no such label."""
    target = USUAL_TARGETS.get(survey.store.name, "")
    column, threshold = usual_rule(survey.store.name)
    by_subject: dict[str, Counter[str]] = {}
    for recording, values in survey.labels.get(column, {}).items():
        subject = str(survey.table.loc[recording, "subject"])
        known = filter(None, classes_of(values, threshold))
        by_subject.setdefault(subject, Counter()).update(known)
    total = sum(by_subject.values(), Counter())
    if not total:
        return None
    classes = ordered_classes(total, threshold)
    shown = dict(list(by_subject.items())[:MOST_SUBJECTS])
    return Balance(
        target=target,
        classes=classes,
        counts=[total[name] for name in classes],
        picture=figures.classes(
            {name: [own[c] for c in classes] for name, own in shown.items()}, classes
        ),
        n_left=len(by_subject) - len(shown),
        one_class=[name for name, own in by_subject.items() if len(own) == 1],
    )


def usual_rule(dataset: str) -> tuple[str, float | None]:
    """Return the label of a dataset's usual target and what is above which it is high.

    The label is empty where the dataset has no such target, and the threshold None where each
    value is a class.
    """
    column, above, threshold = USUAL_TARGETS.get(dataset, "").partition(">")
    return column, float(threshold) if above else None


def classes_of(values: npt.NDArray[Any], threshold: float | None) -> list[str]:
    """Return the class of each trial; empty where it has no value."""
    if threshold is None:
        return [name if (name := one(value)) not in ("nan", "n/a") else "" for value in values]
    if values.dtype.kind not in "iuf":
        return [""] * len(values)
    return [
        ("high" if value > threshold else "low") if np.isfinite(value) else "" for value in values
    ]


def ordered_classes(names: Iterable[str], threshold: float | None) -> list[str]:
    """Return classes in order: low before high, as a rating grows; others by their value."""
    return ["low", "high"] if threshold is not None else sorted(names, key=_numeric_first)


def _numeric_first(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def valence_by_arousal(survey: Survey) -> bytes:
    """Draw the trials by their two ratings; nothing where they have not both."""
    both: Mapping[str, Mapping[str, npt.NDArray[Any]]] = {
        name: survey.labels.get(name, {}) for name in ("valence", "arousal")
    }
    pieces = [
        np.stack([both["valence"][name], both["arousal"][name]])
        for name in both["valence"]
        if name in both["arousal"]
    ]
    if not pieces or any(piece.dtype.kind not in "iuf" for piece in pieces):
        return b""
    points = np.concatenate(pieces, axis=1).astype(float)
    points = points[:, np.isfinite(points).all(axis=0)]
    return figures.ratings(*points) if points.shape[1] else b""
