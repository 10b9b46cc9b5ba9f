"""The settings of the benchmark. No torch here, so that a command line can show them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.benchmark.tasks import TASKS
from omfa.zoo.data.settings import Channels

Split = Literal["development", "held-out"]


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is run, and how.

    Attributes
    ----------
    split : {"development", "held-out"}
        ``development``: folds over the people on whom choices may be made; nobody held out is
        read. ``held-out``: all of these learn, and those held out are tested, in one fold.
    tasks : tuple of str
        Some of fists, sides, flicker, eyes, arithmetic. By default all.
    checkpoints : tuple of str
        Names or folders of pre-trained checkpoints of one architecture, one for each seed of
        pre-training; the rows of pre-trained OMFA are averages over them.
    networks : bool
        Also train braindecode's EEGNet, EEGConformer, Labram and CBraMod.
    weights : mapping of str to str
        A file of pre-trained weights for a model of braindecode's, MODEL=FILE. Repeatable.
    n_seeds : int
        Fits of each model that is trained by steps; scores are averaged.
    epochs : int
        Of OMFA's fits and heads.
    network_epochs : int
        Of braindecode's models.
    least_steps : int
        Where a task has so few windows that the epochs would be fewer steps of the optimizer, there
        are as many more epochs, of OMFA and of braindecode's models alike.
    n_folds : int
        Folds over people of the split ``development``.
    channels : {"intersection", "union"}
        Rows of a window: those that all recordings of a task have, or all, with a mask, which
        braindecode's models cannot read: to them an absent channel is one of zeros.
    people : int or None
        With ``development``: as many people of each dataset alone, to try something. By default
        all.
    """

    split: Split = "development"
    tasks: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ("omfa-tiny-openeeg",)
    networks: bool = True
    weights: Mapping[str, str] = field(default_factory=dict)
    n_seeds: int = 1
    epochs: int = 8
    network_epochs: int = 4
    # What eight epochs of fists, the largest task, are.
    least_steps: int = 800
    n_folds: int = 5
    # To networks that know no mask, 46 people of EEGMMIDB would have 41 channels of zeros.
    channels: Channels = "intersection"
    people: int | None = None

    def __post_init__(self) -> None:
        doing = "Setting the benchmark up"
        if self.split not in get_args(Split):
            raise DataError(doing, f"split={self.split!r}", f"Use {' or '.join(get_args(Split))}")
        if unknown := [name for name in self.tasks if name not in TASKS]:
            found = f"there is no task {unknown[0]!r}{nearest(unknown[0], TASKS)}"
            raise DataError(doing, found, f"Use {', '.join(TASKS)}")
        if self.people is not None and (self.split == "held-out" or self.people < 3):
            raise DataError(
                doing,
                f"people={self.people} with split={self.split!r}",
                "Use three or more, with the split 'development'",
            )
        if not self.checkpoints:
            raise DataError(doing, "no checkpoint", "Name one: omfa-tiny-openeeg")
        for name in ("n_seeds", "epochs", "network_epochs", "least_steps"):
            if getattr(self, name) < 1:
                raise DataError(doing, f"{name}={getattr(self, name)}", "Use 1 or more")


def quick() -> BenchmarkSettings:
    """Return settings that run everything and teach nothing, for a test of the whole."""
    return BenchmarkSettings(networks=False, epochs=1, network_epochs=1, least_steps=1, n_folds=2)
