"""One scale for the labels of different corpora: which of a corpus's labels are one class.

Each corpus has words or ratings of its own. A common target says, per corpus, which of them count
as the same, so that a model trained on some corpora can be tested on another. Stores keep the
labels raw; what is here is applied when windows are opened, and is named and numbered in every
result. docs/labels.md has the tables with their reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.data.rules import Levels, Merged, OneTarget

PREFIX = "common:"

VERSION = 1
"""Of both tables; a change of any row is another version, and results name theirs."""

VALENCE = ("negative", "neutral", "positive")

_WORDS = {
    "negative": ("anger", "anxiety", "disgust", "fear", "sad", "sadness"),
    "neutral": ("neutral",),
    "positive": (
        *("amusement", "calmness", "happiness", "happy"),
        *("inspiration", "joy", "tenderness"),
    ),
}
"""The valence of a word. Surprise has none of its own, and is left out."""

_EMOTIONS = {
    "anger": ("anger",),
    "disgust": ("disgust",),
    "fear": ("fear",),
    "sadness": ("sad", "sadness"),
    "neutral": ("neutral",),
    "happiness": ("happy", "happiness", "joy"),
    "surprise": ("surprise",),
    "amusement": ("amusement",),
    "inspiration": ("inspiration",),
    "tenderness": ("tenderness",),
    "anxiety": ("anxiety",),
    "calmness": ("calmness",),
}
"""The words that name one emotion, in the order of the classes."""

_FACED = (
    *("anger", "disgust", "fear", "sadness", "neutral"),
    *("amusement", "inspiration", "joy", "tenderness"),
)
LABELS: Mapping[str, tuple[str, ...]] = {
    "seed-iv": ("neutral", "sad", "fear", "happy"),
    "seed-v": ("disgust", "fear", "sad", "neutral", "happy"),
    "seed-vii": ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise"),
    "faced": _FACED,
    "thu-ep": _FACED,
    "mahnob-hci": (
        *("neutral", "anger", "disgust", "fear", "joy", "sadness"),
        *("surprise", "amusement", "anxiety"),
    ),
    "eav": ("neutral", "sadness", "anger", "happiness", "calmness"),
}
"""The words of each corpus whose column ``emotion`` holds words."""

_RATED: Mapping[str, OneTarget] = {
    # The middle third of a scale is neutral: 4 to 6 of 1 to 9, and 3 of 1 to 5.
    "deap": Levels("valence", (3.5, 6.5), VALENCE),
    "amigos": Levels("valence", (3.5, 6.5), VALENCE),
    "dreamer": Levels("valence", (2.5, 3.5), VALENCE),
}

_CODED: Mapping[str, OneTarget] = {
    "seed": Merged("emotion", tuple(zip(VALENCE, (("-1",), ("0",), ("1",)), strict=True))),
}


def _classes(groups: Mapping[str, Sequence[str]], words: Sequence[str]) -> Merged:
    """Return the classes that words of a corpus are in; people may lack trials of some words."""
    found = {name: tuple(w for w in words if w in members) for name, members in groups.items()}
    return Merged("emotion", tuple((n, m) for n, m in found.items() if m), some_missing=True)


def _shared(datasets: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the emotions that every one of the datasets has, and their words."""
    return {
        name: members
        for name, members in _EMOTIONS.items()
        if all(set(members) & set(LABELS[dataset]) for dataset in datasets)
    }


COMMON: Mapping[str, tuple[str, ...]] = {
    "valence": (*_CODED, *_RATED, *LABELS),
    "emotion": tuple(LABELS),
}
"""The common targets, and the datasets that each is written for."""


def is_common(target: object) -> bool:
    """Return whether a target is the text of a common one."""
    return isinstance(target, str) and target.strip().startswith(PREFIX)


def versioned(text: str) -> str:
    """Return a common target's text with the number of its version: ``"common:valence@1"``.

    Raises
    ------
    DataError
        If there is no such target, or not in this version.
    """
    name, at, version = text.strip().removeprefix(PREFIX).partition("@")
    doing = f"Reading the target {text!r}"
    if name not in COMMON:
        raise DataError(
            doing,
            f"there is no common target {name!r}{nearest(name, COMMON)}",
            f"Use {' or '.join(PREFIX + known for known in COMMON)}",
        )
    if at and version != str(VERSION):
        raise DataError(
            doing,
            f"this version of omfa has version {VERSION} of it",
            f"Use {PREFIX}{name}@{VERSION}, or the omfa that made the result",
        )
    return f"{PREFIX}{name}@{VERSION}"


def targets_of(text: str, datasets: Sequence[str]) -> dict[str, OneTarget]:
    """Return the target of each dataset that a common target stands for.

    Parameters
    ----------
    text : str
        ``"common:valence"`` (negative, neutral, positive) or ``"common:emotion"`` (the emotions by
        their words, those that every one of the datasets has).
    datasets : sequence of str
        The names of the datasets, as their stores have them.

    Returns
    -------
    dict of str to Merged or Levels
        The rule of each dataset; all have the same classes in the same order.

    Raises
    ------
    DataError
        If there is no such target, or a dataset has no row in it, or too few words in common.
    """
    name = versioned(text).removeprefix(PREFIX).partition("@")[0]
    doing = f"Making the common target {text!r} of {', '.join(datasets)}"
    if unknown := [dataset for dataset in datasets if dataset not in COMMON[name]]:
        other = [known for known in COMMON if set(datasets) <= {*COMMON[known]}]
        raise DataError(
            doing,
            f"it is not written for {', '.join(unknown)}; it is for {', '.join(COMMON[name])}",
            (f"Use {PREFIX}{other[0]}, or give" if other else "Give")
            + " each dataset a target of its own with the same classes: "
            f"--target '{datasets[0]}=COLUMN:a=negative,b=positive' and so on",
        )
    if name == "valence":
        words = {dataset: _classes(_WORDS, LABELS[dataset]) for dataset in LABELS}
        rules = {**_CODED, **_RATED, **words}
        return {dataset: rules[dataset] for dataset in datasets}
    shared = _shared(datasets)
    if len(shared) < 2:
        raise DataError(
            doing,
            "they have fewer than two emotions in common",
            f"Use {PREFIX}valence, or fewer datasets",
        )
    return {dataset: _classes(shared, LABELS[dataset]) for dataset in datasets}
