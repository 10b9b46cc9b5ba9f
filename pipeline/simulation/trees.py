"""Writes simulated corpora: the story of ``simulate``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np

from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import bar
from omfa.pipeline.simulation.corpora import CORPORA
from omfa.pipeline.simulation.plan import Plan, Settings
from omfa.pipeline.simulation.signals import (
    BANDS,
    RHYTHMS,
    Effect,
    EffectKind,
    best_accuracy,
)
from omfa.pipeline.simulation.truth import Truth
from omfa.pipeline.words import nearest
from omfa.pipeline.writing import is_draft

WINDOWS = (1, 2, 4, 10)
"""Window lengths, in seconds, for which the truth holds the best possible accuracy."""


def simulate(
    source: str,
    root: str | Path,
    *,
    variant: str | None = None,
    subjects: int | Sequence[int] | None = None,
    sessions: int | Sequence[int] | None = None,
    seconds: int | None = None,
    effect: float = 0.5,
    effect_kind: EffectKind = "power",
    seed: int = 0,
    bad_channels: float = 0.5,
    quirks: Collection[str] = (),
    tones: float = 0.0,
    progress: bool = True,
) -> Truth:
    """Write a simulated corpus in its true file format.

    Parameters
    ----------
    source : str
        One of ``CORPORA``.
    root : path
        The folder to write: new, empty, or an earlier simulated tree of the same source, which is
        replaced.
    variant : str, optional
        The form that the corpus comes in, such as SEED's ``preprocessed`` (.mat) or ``raw``
        (.cnt); by default the first of its ``variants``.
    subjects, sessions : int, or sequence of int, or None
        How many, or which (from 1); by default all that the corpus has. Subjects that have no
        numbers, as DREAMER's, can only be counted.
    seconds : int, optional
        Length of the longest trial, at least 2; the others shrink in proportion, and so do pauses.
        By default trials are as long as in the corpus.
    effect : float
        Shift of a planted rhythm's natural-log power (or of the inverse hyperbolic tangent of a
        pair's coherency or of the depth of bursts) from a middle label to an extreme one; 0 plants
        nothing.
    effect_kind : {"power", "connectivity", "waveform"}
        What a label changes: the power of rhythms; the phase coupling of pairs of them while every
        channel's spectrum stays equal; or whether rhythms come in bursts, while every spectrum and
        cross-spectrum stays equal.
    seed : int
        Seed of the random numbers; the same seed gives the same bytes.
    bad_channels : float
        Bad channels to expect in a recording.
    quirks : collection of str
        Peculiarities of some copies, by the names that the corpus has for them; by default none.
    tones : float
        Amplitude, in microvolts, of a sine that each channel carries at a frequency of its own,
        which each recording's truth holds: a channel or an axis that was exchanged is found by
        its value.
    progress : bool
        Whether to show a bar; there is none where the output is no terminal.

    Returns
    -------
    Truth
        Also written as ``<root>.truth.json``.

    Raises
    ------
    DataError
        If an argument is unknown, or the folder holds anything but an earlier simulated tree of the
        same source.

    Examples
    --------
    >>> from omfa.pipeline import simulate
    >>> truth = simulate("dreamer", "simulated", subjects=1, seconds=4, progress=False)
    >>> truth.files
    ('DREAMER.mat',)
    """
    _known("Simulating a corpus", "source", source, CORPORA)
    corpus = CORPORA[source]
    variant = next(iter(corpus.variants)) if variant is None else variant
    doing = f"Simulating {source} {variant}"
    _known(doing, "variant", variant, corpus.variants)
    _known(doing, "kind of effect", effect_kind, get_args(EffectKind))
    for quirk in quirks:
        _known(doing, "quirk", quirk, corpus.quirks.get(variant, ()))
    if seconds is not None and (seconds < 2 or seconds != int(seconds)):
        raise DataError(doing, f"trials of {seconds} s", "Give whole seconds, 2 or more")
    if min(effect, bad_channels, seed, tones) < 0:
        raise DataError(
            doing, "a negative effect, seed, tone or number of channels", "Give 0 or more"
        )
    settings = Settings(
        source=source,
        variant=variant,
        subjects=_chosen(doing, "subject", subjects, corpus.n_subjects),
        sessions=_chosen(doing, "session", sessions, corpus.n_sessions),
        seconds=None if seconds is None else int(seconds),
        effect=Effect(effect_kind, float(effect)),
        seed=seed,
        bad_channels=bad_channels,
        quirks=frozenset(quirks),
        tones=tones,
    )
    if not corpus.numbered and settings.subjects != tuple(range(1, len(settings.subjects) + 1)):
        raise DataError(
            doing,
            f"subjects {subjects} were asked for, but its file knows them by their place alone",
            "Give how many subjects to write",
        )
    root = Path(root)
    _clear(root, source)
    plan = corpus.variants[variant](settings)
    truth = _truth(settings, plan)
    truth.save(root)  # before the files: it marks a tree as simulated
    shown = None if progress else False
    with bar(
        total=len(plan.trials), what=f"Simulating {source}", unit="trial", shown=shown
    ) as counted:
        for name, write in plan.files.items():
            write(root / name, counted.update)
    return truth


def _known(doing: str, what: str, given: object, choices: Collection[object]) -> None:
    if given not in choices:
        listed = ", ".join(map(str, choices)) or "none"
        near = nearest(str(given), map(str, choices))
        raise DataError(doing, f"unknown {what} {given!r}{near}", f"Choose from: {listed}")


def _chosen(
    doing: str, what: str, given: int | Sequence[int] | None, available: int
) -> tuple[int, ...]:
    every = range(1, available + 1)
    if given is None:
        return tuple(every)
    chosen = range(1, given + 1) if isinstance(given, int) else sorted({int(i) for i in given})
    if not chosen or not set(chosen) <= set(every):
        raise DataError(
            doing,
            f"{what}s {given} were asked for, and the corpus has {available}",
            f"Give a number up to {available}, or which of 1 to {available}",
        )
    return tuple(chosen)


def _clear(root: Path, source: str) -> None:
    """Remove an earlier simulated tree of a source; refuse a folder that holds anything else."""
    if root.exists() and not root.is_dir():
        raise DataError(f"Simulating into {root}", "it is a file", "Give a new folder")
    found = {path for path in root.rglob("*") if not path.is_dir()}
    listed = set()
    if found and Truth.path(root).exists():
        earlier = Truth.load(root)
        if earlier.source != source:
            raise DataError(
                f"Simulating {source} into {root}",
                f"the folder holds a simulated tree of {earlier.source}",
                "Give a new folder, or remove that one and its .truth.json",
            )
        listed = {root / name for name in earlier.files}
    strange = sorted(
        path
        for path in found - listed
        if not any(path.parent == file.parent and is_draft(path, of=file) for file in listed)
    )
    if strange:
        raise DataError(
            f"Simulating into {root}",
            f"the folder holds {len(strange)} files that are not of a simulated tree, "
            f"such as {strange[0].relative_to(root)}",
            "Give a new folder",
        )
    for path in found:
        path.unlink()
    # From the innermost: rmdir takes empty folders only.
    for folder in sorted(root.rglob("*"), reverse=True):
        folder.rmdir()


def _truth(settings: Settings, plan: Plan) -> Truth:
    windows: dict[str, float] = {str(window): window for window in WINDOWS}
    windows["trial"] = float(np.mean([trial["seconds"] for trial in plan.trials]))
    best: dict[str, dict[str, dict[str, float]]] = {}
    for target in plan.targets:
        codes = np.array([trial[f"code_{target}"] for trial in plan.trials])
        classes = np.array([trial[f"class_{target}"] for trial in plan.trials])
        planted = plan.planted.get(target, target)
        for window, length in windows.items():
            accuracy, balanced = best_accuracy(
                codes, classes, target=planted, effect=settings.effect, seconds=length
            )
            best.setdefault(target, {})[window] = {
                "accuracy": round(accuracy, 4),
                "balanced": round(balanced, 4),
            }
    return Truth(
        source=settings.source,
        variant=settings.variant,
        seed=settings.seed,
        effect=settings.effect.size,
        effect_kind=settings.effect.kind,
        quirks=tuple(sorted(settings.quirks)),
        sfreq=plan.sfreq,
        channels=tuple(plan.channels),
        files=tuple(plan.files),
        targets=plan.targets,
        trials=plan.trials,
        recordings=plan.recordings,
        sources=[asdict(rhythm) | {"hz": list(BANDS[rhythm.band])} for rhythm in RHYTHMS],
        best_accuracy=best,
    )
