"""The fields of a dataclass, or the arguments of a function, as flags of a command line.

A flag's name, type, choices, default and help are those of the field and of its NumPy docstring, so
that nothing is written twice. What is not given is absent from the parsed namespace, and the
dataclass or function puts in its own default.

jsonargparse and typer were tried. jsonargparse reads the same dataclasses, but takes 0.3 s to
import and asks for ``--band '[1,null]'`` and ``--notch '[50,100]'`` where we have ``--band 1 none``
and ``--notch 50 100``, has no ``A=B`` pairs, and answers a wrong value with a dump of its type
checks. typer wants every default and help text typed into a function's signature and knows no flag
of any number of values.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omfa.pipeline.words import nearest

T = TypeVar("T")

_MAPPINGS = (dict, Mapping)
_SEQUENCES = (tuple, list, Sequence, Collection, Iterable)

Adder = Any
"""An ``ArgumentParser`` or one of its groups."""


def add_flags(
    group: Adder,
    of: Callable[..., Any],
    *,
    only: Sequence[str] = (),
    leave_out: Collection[str] = (),
    names: Mapping[str, str] | None = None,
    metavars: Mapping[str, str | tuple[str, ...]] | None = None,
    repeatable: Collection[str] = (),
    prefix: str = "",
) -> None:
    """Add a flag for each field of a dataclass, or for each argument of a function.

    Parameters
    ----------
    group : ArgumentParser or one of its groups
    of : dataclass or function
        Fields that cannot be given as text (of type ``Any``) get no flag. A field that is itself a
        dataclass gets one flag that takes ``NAME=VALUE`` pairs.
    only : sequence of str
        The fields to add, in this order; by default all.
    leave_out : collection of str
        Fields not to add.
    names : mapping of str to str
        The flag of a field where it is not the field's name: ``{"n_folds": "folds"}``.
    metavars : mapping of str to str or tuple of str
        What the help shows in place of a value: ``{"sfreq": "HZ"}``.
    repeatable : collection of str
        Fields of many values that take one for each time that their flag is given, as in
        ``--skip A --skip B``. The others take all after one flag, ``--notch 50 100``.
    prefix : str
        Where a flag is taken already, this and a hyphen are put before its name.
    """
    options = {option.name: option for option in _options(of)}
    for name in only or options:
        option = options[name]
        kind = _kind(option.hint, option.default)
        if kind is None or name in leave_out:
            continue
        how = dict(kind.how)
        if metavars and name in metavars:
            how["metavar"] = metavars[name]
        elif how.get("metavar") == "":
            how["metavar"] = name.upper()
        if name in repeatable:
            how |= {"action": "append", "nargs": None}
        flag = (names or {}).get(name, name).replace("_", "-")
        how |= {
            "dest": _dest(of, name),
            "default": argparse.SUPPRESS,
            "required": option.default is MISSING,
            "help": _help(option),
        }
        try:
            group.add_argument(f"--{flag}", **how)
        except argparse.ArgumentError:
            if not prefix:
                raise
            group.add_argument(f"--{prefix}-{flag}", **how)


def given(args: argparse.Namespace, of: Callable[..., Any]) -> dict[str, Any]:
    """Return the values that a command line gave, by field; the arguments to call ``of`` with.

    Parameters
    ----------
    args : Namespace
        From a parser that ``add_flags`` added to.
    of : dataclass or function
        As ``add_flags`` had it. Of a field that is a dataclass, the value is a mapping of what was
        given for that.
    """
    values = vars(args)
    found = {}
    for option in _options(of):
        kind = _kind(option.hint, option.default)
        if kind is not None and _dest(of, option.name) in values:
            found[option.name] = kind.finish(values[_dest(of, option.name)])
    return found


def settings(args: argparse.Namespace, of: type[T], base: T | None = None) -> T:
    """Return a dataclass with the values that a command line gave.

    Parameters
    ----------
    args : Namespace
    of : dataclass
        As ``add_flags`` had it.
    base : instance of ``of``, optional
        What it has where nothing was given; by default its defaults.
    """
    base = of() if base is None else base
    changes = {
        name: dataclasses.replace(inner, **value)
        if dataclasses.is_dataclass(inner := getattr(base, name)) and not isinstance(inner, type)
        else value
        for name, value in given(args, of).items()
    }
    return dataclasses.replace(base, **changes)  # type: ignore[type-var]


# ---------------------------------------------------------------------------------- fields


@dataclasses.dataclass(frozen=True)
class _Option:
    name: str
    hint: Any
    default: Any  # MISSING where there is none
    text: str


def _options(of: Callable[..., Any]) -> list[_Option]:
    hints, texts = get_type_hints(of), documented(of.__doc__ or "")
    defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(of):
        for field in dataclasses.fields(of):
            if field.init:
                make = field.default_factory
                defaults[field.name] = field.default if make is MISSING else make()
    else:
        for name, parameter in inspect.signature(of).parameters.items():
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                empty = parameter.default is parameter.empty
                defaults[name] = MISSING if empty else parameter.default
    return [
        _Option(name, hints.get(name, str), default, texts.get(name, ""))
        for name, default in defaults.items()
    ]


def documented(docstring: str) -> dict[str, str]:
    """Return what a NumPy docstring says about each parameter or attribute, in one line each."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        if re.match(r"\w[\w, ]* : ", line):
            names = [name.strip() for name in line.split(" : ")[0].split(",")]
        elif line[:1].strip():  # a heading, or a sentence between the lists
            names = []
        else:
            found |= {name: f"{found.get(name, '')} {line.strip()}".strip() for name in names}
    return {name: text.replace("`", "") for name, text in found.items() if text}


def _dest(of: Callable[..., Any], name: str) -> str:
    """Return where the parsed value lies: not in the way of another group's field of that name."""
    return f"{of.__module__}.{of.__qualname__}.{name}"


def _help(option: _Option) -> str:
    text, default = option.text, option.default
    if default is None or NoneType in get_args(option.hint):
        text = re.sub(r"\bNone\b", "none", text)
    says_nothing = default is None or default is False or default in (MISSING, (), "", {})
    if not says_nothing and "default" not in text:
        text = f"{text} (default: {_shown(default)})".strip()
    # argparse formats help by %.
    return text.replace("%", "%%") or " "


def _shown(default: Any) -> str:
    """Return a default as it is typed."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        default = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    match default:
        case Mapping():
            return " ".join(f"{name}={_shown(value)}" for name, value in default.items())
        case tuple() | list():
            return " ".join(map(_shown, default))
        case bool() | None:
            return str(default).lower()
        case float():
            return f"{default:g}"
        case _:
            return str(default)


# ---------------------------------------------------------------------------------- types


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How argparse takes a value, and what is made of that; a metavar of "" is the field's name."""

    how: Mapping[str, Any]
    finish: Callable[[Any], Any] = lambda value: value


def _kind(hint: Any, default: Any) -> _Kind | None:
    """Return how text becomes a value of a type; None if it cannot."""
    union = get_origin(hint) in (Union, UnionType)
    kinds = [kind for kind in (get_args(hint) if union else (hint,)) if kind is not NoneType]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    others = [kind for kind in kinds if get_origin(kind) is not Literal]
    if words and not others:
        return _Kind({"choices": words})
    kind = others[0]  # of several types the first counts
    if many := _many(kind, words):
        return many
    if kind is Any:
        return None
    if kind is bool:
        off = {"action": "store_true"}
        return _Kind(off if default is False else {"action": argparse.BooleanOptionalAction})
    # "none" is text where the default says no more than that nothing was given.
    none = union and NoneType in get_args(hint) and (kind in (int, float) or default is not None)
    return _Kind({"type": _scalar(kind, none), "metavar": _metavar(kind)})


def _many(kind: Any, words: Sequence[str]) -> _Kind | None:
    """Return how a value of several parts is taken; None for a single one."""
    origin, parts = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _Kind(_pairs(_fields(kind), "NAME=VALUE"), dict)
    if origin in _MAPPINGS:
        return _Kind(_pairs(lambda name: _scalar(parts[1])), dict)
    if origin not in _SEQUENCES:
        return None
    if get_origin(parts[0]) is tuple:
        return _Kind(_pairs(lambda name: str), tuple)
    return _sequence(parts, words, fixed=origin is tuple and parts[-1] is not Ellipsis)


def _sequence(parts: Sequence[Any], words: Sequence[str], *, fixed: bool) -> _Kind:
    kind, none = _without_none(parts[0])
    how: dict[str, Any] = {"type": _scalar(kind, none), "metavar": _metavar(kind)}
    how |= {"nargs": len(parts)} if fixed else {"nargs": "+", "action": "extend"}

    def finish(values: Sequence[Any]) -> Any:
        return values[0] if len(values) == 1 and values[0] in words else tuple(values)

    return _Kind(how, finish)


def _pairs(value: Callable[[str], Callable[[str], Any]], form: str = "A=B") -> dict[str, Any]:
    """Return how pairs are taken; ``value(name)`` returns what reads the value of a name."""

    def pair(text: str) -> tuple[str, Any]:
        left, equals, right = text.partition("=")
        if not (left and equals and right):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {form}")
        read = value(left)
        try:
            return left, read(right)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} has no {read.__name__}") from None

    return {"nargs": "+", "action": "extend", "type": pair, "metavar": form}


def _fields(of: Any) -> Callable[[str], Callable[[str], Any]]:
    """Return a function that finds, by a field's name, the one that reads its value."""
    hints = {option.name: option.hint for option in _options(of)}

    def find(name: str) -> Callable[[str], Any]:
        if name not in hints:
            raise argparse.ArgumentTypeError(
                f"there is no {name!r}{nearest(name, hints)}; there are {', '.join(hints)}"
            )
        kind, none = _without_none(hints[name])
        return _scalar(Any if get_origin(kind) else kind, none)

    return find


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return the first type of a union that is not None, and whether None is in it."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    kinds = get_args(hint)
    return next(kind for kind in kinds if kind is not NoneType), NoneType in kinds


def _metavar(kind: Any) -> str:
    return "N" if kind in (int, float) else ""


def _scalar(kind: Any, none: bool = False) -> Callable[[str], Any]:
    """Return a function that reads a value of a type; ``none`` is None where that is allowed."""

    def read(text: str) -> Any:
        if none and text.lower() == "none":
            return None
        if kind is bool and text.lower() not in ("true", "false"):
            raise ValueError(text)
        if kind is bool:
            return text.lower() == "true"
        if kind is Any:
            return literal(text)
        return kind(text) if kind in (int, float, Path) else text

    names = {int: "whole number", float: "number", bool: "true or false"}
    read.__name__ = names.get(kind, "text")  # argparse says: invalid number value: 'fast'
    return read


def literal(text: str) -> Any:
    """Return the value that a text is in JSON or by Python's True, False and None, or the text."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text
