"""The settings that all rows of the paper's tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omfa.pipeline.errors import DataError
from omfa.zoo.pretraining.settings import Settings
from omfa.zoo.protocols.protocol import LEAKY, Protocol, as_protocol

OF_THE_PAPER = ("within", "transfer", "ablation", "coherency", "resampling")
"""The tables that stand beside the paper's figures."""

TABLES = (*OF_THE_PAPER, "sources")
"""All tables, of which ``omfa.zoo.paper.tables`` has the rows."""


@dataclass(frozen=True)
class GridSettings:
    """What all rows share. The paper's abstract is silent on it; this is the project's choice.

    Attributes
    ----------
    settings : Settings
        Of stage 1; a row may ask for another encoder or resampling.
    window_seconds : float
        Length of a window of stage 2; windows do not overlap.
    protocols : tuple of str
        Protocols to run beside leaky-window; seed=seed-9-6 is for one corpus. Repeatable.
    n_folds : int or None
        Folds of every protocol that has folds; by default the protocol's own number.
    skip : tuple of str
        Subjects to leave out, DATASET/SUBJECT. Repeatable.
    parameters : mapping
        Of stage 2: fields of ``OmfaSettings`` and of ``Training``.
    targets : mapping of str to str
        What is decoded of a corpus, DATASET=TARGET; by default its usual one. Repeatable.
    n_seeds : int
        Models for each fold; scores are averaged.
    datasets : tuple of str
        Corpora to fine-tune on and test; stage 1 reads all stores. By default all that a table has
        rows on.
    """

    settings: Settings = field(default_factory=Settings)
    window_seconds: float = 4.0
    protocols: tuple[str, ...] = ("within-subject",)
    n_folds: int | None = None
    skip: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    n_seeds: int = 1
    datasets: tuple[str, ...] = ()

    def splits(self, corpus: str) -> list[Protocol]:
        """Return the protocols of a corpus, the leaky one first."""
        skip = tuple(name for name in self.skip if name.startswith(f"{corpus}/"))
        found = [Protocol(LEAKY, skip=skip)]
        for name in self.protocols:
            where, _, which = name.rpartition("=")
            protocol = replace(as_protocol(which), skip=skip)
            if protocol.leaky:
                raise DataError(
                    f"Choosing protocols beside {LEAKY}", f"{name!r}", "Name one that holds"
                )
            found += [protocol] if where in ("", corpus) else []
        if self.n_folds is None:
            return found
        # A protocol that leaves one out has no number of folds to change.
        return [replace(one, n_folds=self.n_folds) if one.n_folds else one for one in found]


def quick() -> GridSettings:
    """Return settings that run everything and teach nothing, for a test of the whole."""
    return GridSettings(
        settings=Settings(
            preset="tiny",
            steps=6,
            batch_size=32,
            window_seconds=2.0,
            lag_seconds=(1.0, 2.0),
        ),
        # With these all tables of small corpora take less than two minutes.
        window_seconds=3.0,
        n_folds=2,
        parameters={"epochs": 1, "freeze": "encoder", "batch_size": 64},
    )
