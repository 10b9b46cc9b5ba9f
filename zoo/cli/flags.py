"""Flags that several commands take, made from the dataclasses that hold the settings.

A setting has one name everywhere. Where both stages have one of a name, such as ``batch_size``, the
plain flag is stage 2's and stage 1's carries the prefix ``pretrain-``; ``pretrain`` accepts both
spellings. ``--parameters`` and ``--pretraining``, which took all settings as KEY=VALUE, go on
working, since the cards of published checkpoints name such commands.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from omfa.pipeline import flags
from omfa.pipeline.catalogue import USUAL_TARGETS
from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG
from omfa.pipeline.words import nearest
from omfa.zoo.data.settings import WindowSettings
from omfa.zoo.estimators.settings import OMFA_MODELS, OmfaSettings, Training
from omfa.zoo.pretraining.settings import Settings, with_changes

if TYPE_CHECKING:
    from omfa.pipeline import Truth
    from omfa.zoo.data.dataset import StoreDataset

QUICK_NOTE = "A quick run, which shows that all of it runs: its numbers mean nothing."
"""What a report says of a run with ``--quick``."""

TARGETS_HELP = "usual targets: " + ", ".join(
    f"{name} {target!r}" for name, target in USUAL_TARGETS.items()
)

STORES: dict[str, Any] = {"metavar": "STORE", "help": "made by omfa-ingest"}

TRUTH: dict[str, Any] = {
    "metavar": "RAW",
    "help": "simulated trees whose truth is known: the best accuracy that they allow is drawn",
}


def truths_of(args: argparse.Namespace) -> list[Truth]:
    """Read what was planted in the simulated trees that are named by ``--truth``."""
    from omfa.pipeline import Truth

    return [Truth.load(raw) for raw in args.truth]


def describe(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    description: str,
    epilog: str,
    usage: str = "",
) -> None:
    """Give a command its function and the texts of its help, whose line ends stay as they are.

    With dozens of flags argparse's own usage would fill a screen above every error; ``usage`` is
    what stands in its place.
    """
    if usage:
        parser.usage = f"{parser.prog} {usage}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = description, epilog
    parser.set_defaults(run=run)


class _Hidden:
    """A parser or group whose new flags the help does not show."""

    def __init__(self, group: flags.Adder) -> None:
        self.group = group

    def add_argument(self, flag: str, **how: Any) -> None:
        with suppress(argparse.ArgumentError):  # the flag is there already, and is shown
            self.group.add_argument(flag, **(how | {"help": argparse.SUPPRESS}))


# ---------------------------------------------------------------------------------- stage 1


def add_stage1_flags(
    group: flags.Adder,
    *,
    names: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
) -> None:
    """Add the settings of stage 1; where a flag is taken already, with the prefix ``pretrain-``.

    Each is also accepted with the prefix, whether it is shown so or not.
    """
    how: dict[str, Any] = {
        "metavars": {
            "lag_seconds": ("LEAST", "MOST"),
            "augmentations": "NAME=CHANCE",
            "window_seconds": "S",
        },
        "repeatable": ("augmentations",),
        "leave_out": leave_out,
    }
    own = {"augmentations": "augmentation", **(names or {})}
    flags.add_flags(group, Settings, names=own, prefix="pretrain", **how)
    hidden = _Hidden(group)
    prefixed = {name: f"pretrain-{own.get(name, name)}" for name in Settings.__dataclass_fields__}
    flags.add_flags(hidden, Settings, names=prefixed, **how)
    # Commands that were written down with the short name go on working.
    flags.add_flags(hidden, Settings, only=("lag_seconds",), names={"lag_seconds": "lag"})


def stage1_of(
    args: argparse.Namespace, base: Settings | None = None, pretraining: Sequence[str] = ()
) -> Settings:
    """Return the settings of stage 1 that a command line gave.

    Parameters
    ----------
    args : Namespace
    base : Settings, optional
        What holds where nothing was given; by default the defaults.
    pretraining : sequence of str
        What ``--pretraining`` gave, KEY=VALUE.
    """
    given = {name: flags.literal(value) for name, value in pairs(pretraining).items()}
    return with_changes(flags.settings(args, Settings, base), given)


# ---------------------------------------------------------------------------------- stage 2


def add_stage2_flags(
    parser: argparse.ArgumentParser, *, leave_out: Collection[str] = (), stage: str = ""
) -> None:
    """Add the settings of OMFA and of the training of any network."""
    flags.add_flags(
        parser.add_argument_group(f"{stage}the model omfa"),
        OmfaSettings,
        leave_out=leave_out,
    )
    flags.add_flags(parser.add_argument_group(f"{stage}training of networks"), Training)


def add_parameters_flag(parser: argparse.ArgumentParser, help: str = argparse.SUPPRESS) -> None:
    """Add ``--parameters``, by default without showing it, since each setting has a flag."""
    parser.add_argument(
        "--parameters", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=help
    )


def parameters_of(
    args: argparse.Namespace, models: Sequence[str] = ("omfa",)
) -> dict[str, dict[str, Any]]:
    """Return what a command line gave each model: by flags, and over these by ``--parameters``.

    The settings of ``OmfaSettings`` go to omfa and its controls, ``smooth`` among them to the
    baselines that take it as well, and those of ``Training`` to braindecode's models as well.

    Raises
    ------
    DataError
        If none of the models takes what was given.
    """
    from omfa.zoo.estimators.names import causal_name, takes_smoothing

    omfa = [model for model in models if causal_name(model) in OMFA_MODELS]
    networks = [model for model in models if model.startswith(("omfa", "braindecode:"))]
    smoothable = [model for model in models if takes_smoothing(model)]
    found: dict[str, dict[str, Any]] = {model: {} for model in models}
    for kind, takers in ((OmfaSettings, omfa), (Training, networks)):
        for name, value in flags.given(args, kind).items():
            of = smoothable if name == "smooth" else takers
            if not of:
                flag = name.replace("_", "-")
                raise wrong(f"--{flag} for {', '.join(models)}", "Add --model omfa, which takes it")
            for model in of:
                found[model][name] = value
    for key, value in _entries(args.parameters):
        model, _, name = key.rpartition(".")
        of = [model] if model else smoothable if name == "smooth" else networks
        if not of or not set(of) <= set(found):
            able = [name for name in models if name in networks or name in smoothable]
            raise wrong(
                f"the parameter {key}{nearest(model, models)}",
                f"Models that take one: {', '.join(able) or 'none of them; add --model omfa'}",
            )
        for one in of:
            found[one][name] = value
    return found


def parameters_of_one(args: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return what ``--parameters`` gave one model alone, as MODEL.KEY=VALUE."""
    named = ((*key.rpartition("."), value) for key, value in _entries(args.parameters))
    return {name: value for of, _, name, value in named if of == model}


def _entries(given: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Read KEY=VALUE, MODEL.KEY=VALUE and JSON."""
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                yield from json.loads(text).items()
            except ValueError as error:
                raise wrong(f"--parameters {text!r} ({error})", "Write JSON") from error
        else:
            for key, value in pairs([text]).items():
                yield key, flags.literal(value)


# ---------------------------------------------------------------------------------- windows


def add_window_flags(parser: argparse.ArgumentParser) -> None:
    """Add how windows are cut from stores, and what is decoded."""
    flags.add_flags(
        parser.add_argument_group("windows and labels", TARGETS_HELP),
        WindowSettings,
        metavars={"window_seconds": "S", "stride_seconds": "S"},
    )


def open_stores(args: argparse.Namespace) -> StoreDataset:
    """Open the stores with their targets, and say which targets were taken by default."""
    from omfa.pipeline.store import open_store
    from omfa.zoo.data.opening import open_dataset

    if not args.stores:
        raise wrong("no store", "Name at least one that omfa-ingest made")
    settings = flags.settings(args, WindowSettings)
    target: str | dict[str, str] | None = settings.target
    names = sorted({open_store(store).name for store in args.stores})
    if settings.target is None:
        if unknown := [name for name in names if name not in USUAL_TARGETS]:
            raise wrong(
                f"no --target, and there is no usual one for {', '.join(unknown)}",
                "Name a column of labels or a rule on a rating",
            )
        target = {name: USUAL_TARGETS[name] for name in names}
        chosen = ", ".join(f"{name} {target[name]}" for name in names)
        LOG.info(f"Target, as none was given: {chosen}")
    else:
        # A target may hold commas itself: only those before a dataset's name part two targets.
        parts = re.split(rf",(?=(?:{'|'.join(map(re.escape, names))})=)", settings.target)
        if all(part.partition("=")[0] in names for part in parts):
            target = pairs(parts)
    return open_dataset(args.stores, **(asdict(settings) | {"target": target}))


# ---------------------------------------------------------------------------------- words


def wrong(found: str, action: str) -> DataError:
    """Return the error for a command line that cannot be followed."""
    return DataError("Reading the command line", found, action)


def pairs(given: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    found = dict(text.partition("=")[::2] for text in given)
    if empty := [name for name, value in found.items() if not value]:
        raise wrong(f"{empty[0]!r}", "Write it as NAME=VALUE")
    return found
