"""Flags that several commands take, and what they mean."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omfa.pipeline.errors import DataError
from omfa.zoo.data.targets import DEFAULT_TARGETS

if TYPE_CHECKING:
    from omfa.zoo.data.dataset import StoreDataset


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("windows and labels")
    add = data.add_argument
    add(
        "--target",
        metavar="TARGET",
        help="a label's column, or a rule on a rating: 'valence>5', 'valence>=5', "
        "'valence<4.5|>5.5'; or DATASET=TARGET,... (default: "
        + ", ".join(f"{name} {target!r}" for name, target in DEFAULT_TARGETS.items())
        + ")",
    )
    add("--window-seconds", type=float, default=4.0, metavar="S", help="(default: 4)")
    add("--stride-seconds", type=float, metavar="S", help="(default: windows do not overlap)")
    add("--channels", default="union", help="union or intersection (default: union)")
    add("--mask-bad", action="store_true", help="leave out channels that quality control marked")
    add("--cache", default="auto", help="auto, memory, memmap or stream (default: auto)")


def add_parameter_flag(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--parameters",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help=f"of omfa: lr=1e-3 epochs=20 freeze=encoder head=gcn ..., or JSON{more}",
    )


def open_stores(args: argparse.Namespace) -> StoreDataset:
    """Open the stores with their targets, and say which were taken by default."""
    from omfa.pipeline.store import open_store
    from omfa.zoo.data.opening import open_dataset

    if not args.stores:
        raise wrong("no store", "Name at least one that omfa-ingest made")
    target: str | dict[str, str] | None = args.target
    names = sorted({open_store(store).name for store in args.stores})
    if target is None:
        if unknown := [name for name in names if name not in DEFAULT_TARGETS]:
            raise wrong(
                f"no --target, and there is no usual one for {', '.join(unknown)}",
                "Name a column of labels or a rule on a rating",
            )
        target = {name: DEFAULT_TARGETS[name] for name in names}
        told = ", ".join(f"{name} {target[name]}" for name in names)
        print(f"Target, as none was given: {told}", file=sys.stderr)
    elif all(part.partition("=")[0] in names for part in args.target.split(",")):
        target = pairs(args.target.split(","))
    return open_dataset(
        args.stores,
        args.window_seconds,
        args.stride_seconds,
        channels=args.channels,
        target=target,
        cache=args.cache,
        mask_bad=args.mask_bad,
    )


def parameters_of(given: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, object]]:
    """Read KEY=VALUE, MODEL.KEY=VALUE and JSON; baselines have no parameters."""
    found: dict[str, dict[str, object]] = {model: {} for model in models}
    entries: list[tuple[str, object]] = []
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                entries += json.loads(text).items()
            except ValueError as error:
                raise wrong(f"--parameters {text!r} ({error})", "Write JSON") from error
        else:
            entries += [(key, value_of(value)) for key, value in pairs([text]).items()]
    for key, value in entries:
        model, _, name = key.rpartition(".")
        of = [model] if model else [m for m in models if m.startswith(("omfa", "braindecode:"))]
        if not of or not set(of) <= set(found):
            raise wrong(f"the parameter {key}", f"Models that take one: {', '.join(models)}")
        for one in of:
            found[one][name] = value
    return found


def value_of(text: str) -> object:
    """Read a value as JSON where it is some, else as text."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def wrong(found: str, action: str) -> ValueError:
    return DataError("Reading the command line", found, action)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError("Reading the command line", f"{text!r}", "Give a number") from error


def pairs(given: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    found = dict(text.partition("=")[::2] for text in given)
    if wrong := [name for name, value in found.items() if not value]:
        raise DataError("Reading the command line", f"{wrong[0]!r}", "Write it as NAME=VALUE")
    return found
