"""The best score that simulated data allow, which their truth knows, for the pictures of a report.

A score on simulated data says nothing until it stands beside what was planted: 75 % is little where
99 % can be had, and all there is where the best is 76 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omfa.zoo.evaluation.results import Result

if TYPE_CHECKING:
    from omfa.pipeline import Truth

_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced"}
"""What the truth calls the metrics that it knows the best of."""


def ceiling(result: Result, metric: str, truths: Sequence[Truth]) -> float | None:
    """Return what a decoder scores that knows the true sources of every window.

    Parameters
    ----------
    result : Result
    metric : str
        One of ``METRICS``.
    truths : sequence of Truth
        Of simulated trees.

    Returns
    -------
    float or None
        0 to 1; None where the data are not simulated, or no truth is of this corpus, these classes
        and this length of windows.
    """
    data = result.config["dataset"]
    seconds = (data.get("recipe") or {}).get("window_seconds")
    if not data.get("simulated") or metric not in _NAMES or seconds is None:
        return None
    for truth in truths:
        for target, words in truth.targets.items():
            best = truth.best_accuracy.get(target, {})
            scores = next((best[key] for key in best if _seconds(key) == seconds), None)
            mine = data["datasets"] == [truth.source]
            # Of a target that was given for each dataset the rule names the dataset too.
            rule = result.config["rule"].removeprefix(f"{truth.source}: ")
            if mine and scores and _rule(target, words) == rule:
                return scores[_NAMES[metric]]
    return None


def _seconds(window: str) -> float:
    return float(window) if window != "trial" else float("nan")


def _rule(target: str, words: str) -> str:
    """Return what results call the classes of a target of the truth."""
    _, above, threshold = words.partition("where the rating is above ")
    return f"{target} > {threshold}" if above else f"the values of {target!r}"
