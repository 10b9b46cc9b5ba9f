"""How labels and ratings become classes: rules with a name, as text and as objects.

A rule is part of a result and is stored with it as text. ``targets`` applies rules to trials.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest

Rule = Literal[">=", ">", "drop-middle"]

_NUMBER = r"[-+.\deE]+"
_RULE = re.compile(rf"^\s*(?P<column>[^<>=|]+?)\s*(?P<sign>>=|>)\s*(?P<value>{_NUMBER})\s*$")
_WORD = r"[^<>=|:,]*[^<>=|:,\s][^<>=|:,]*"
_CLASS = rf"{_WORD}(?:\|{_WORD})*(?:={_WORD})?"
_CLASSES = re.compile(rf"^\s*(?P<column>{_WORD}?)\s*:(?P<classes>{_CLASS}(?:,{_CLASS})*)$")
_LEVELS = re.compile(
    rf"^\s*(?P<column>[^<>=|:]+?)\s*(?P<edges>(?:<=\s*{_NUMBER}\s*)+)=(?P<names>{_WORD}(?:,{_WORD})+)$"
)
_MIDDLE = re.compile(
    rf"^\s*(?P<column>[^<>=|]+?)\s*<\s*(?P<low>{_NUMBER})\s*\|\s*>\s*(?P<high>{_NUMBER})\s*$"
)


@dataclass(frozen=True)
class Rating:
    """Two classes, low and high, from a rating.

    Parameters
    ----------
    column : str
        The rating's column: ``"valence"``.
    rule : {">=", ">", "drop-middle"}
        ``">="`` and ``">"``: high where the rating compares so with ``threshold``, else low.
        ``"drop-middle"``: high above ``threshold + margin``, low below ``threshold - margin``;
        ratings between, the edges included, are left out.
    threshold : float
        The middle, on the scale of the store: 5 for DEAP, 3 for DREAMER.
    margin : float, default=0
        Half the width of the band that ``"drop-middle"`` leaves out; 0 leaves out ties alone.

    Raises
    ------
    DataError
        If there is no such rule, or the margin is negative or given with another rule than
        ``"drop-middle"``.

    Examples
    --------
    >>> from omfa.zoo import Rating, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target=Rating("valence", ">=", 3))
    >>> data.rule, data.classes
    ('valence >= 3', ('low', 'high'))
    """

    column: str
    rule: Rule
    threshold: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise DataError(
                f"Making classes of {self.column!r}",
                f"there is no rule {self.rule!r}{nearest(self.rule, get_args(Rule))}",
                f"Use one of {', '.join(map(repr, get_args(Rule)))}",
            )
        if self.margin < 0 or (self.margin and self.rule != "drop-middle"):
            raise DataError(
                f"Making classes of {self.column!r} by {self.rule!r}",
                f"margin={self.margin}",
                "Give a margin of 0 or more, and only with the rule 'drop-middle'",
            )

    @classmethod
    def between(cls, column: str, low: float, high: float) -> Rating:
        """Make the rule that leaves out ratings from ``low`` to ``high``, both included."""
        one, other = _decimal(low), _decimal(high)
        return cls(column, "drop-middle", float((one + other) / 2), float((other - one) / 2))

    @property
    def edges(self) -> tuple[float, float]:
        """The lowest and the highest rating that is left out, as they are written in decimals.

        In binary 4.85 - 0.75 is a little more than 4.1, and a rating on the edge would stay.
        """
        middle, margin = _decimal(self.threshold), _decimal(self.margin)
        return float(middle - margin), float(middle + margin)

    def __str__(self) -> str:
        if self.rule != "drop-middle":
            return f"{self.column} {self.rule} {self.threshold:g}"
        low, high = self.edges
        return f"{self.column} > {high:g} against < {low:g}, the rest dropped"


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


@dataclass(frozen=True)
class Merged:
    """Classes from values of a label: several values as one class, the others left out.

    Parameters
    ----------
    column : str
        The label's column: ``"event"``.
    groups : tuple of (str, tuple of str)
        The classes in their order, each its name and the values that are in it.
    some_missing : bool
        Whether values may be named that no trial has, as long as each class has one.

    Raises
    ------
    DataError
        If there are fewer than two classes, or a name or a value is there twice.

    Examples
    --------
    >>> from omfa.zoo import open_dataset
    >>> data = open_dataset("lab.zarr", 2.0, target="event:calm=at rest,tense=at work")
    >>> data.classes
    ('at rest', 'at work')
    """

    column: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    some_missing: bool = False

    def __post_init__(self) -> None:
        names = [name for name, _ in self.groups]
        values = [value for _, members in self.groups for value in members]
        found = [f"{name!r} names two classes" for name in names if names.count(name) > 1]
        found += [f"{value!r} is in two classes" for value in values if values.count(value) > 1]
        found += ["there is one class"] if len(names) < 2 else []
        if found:
            raise DataError(
                f"Making classes of {self.column!r} by {merged_text(self)!r}",
                found[0],
                "Name each class and each value once: 'event:left|right=fist,rest'",
            )

    def __str__(self) -> str:
        parts = [name if (name,) == v else f"{name} ({', '.join(v)})" for name, v in self.groups]
        return f"{self.column} {' against '.join(parts)}, the rest dropped"


@dataclass(frozen=True)
class Levels:
    """Classes from a rating cut at some of its values.

    Parameters
    ----------
    column : str
        The rating's column: ``"valence"``.
    edges : tuple of float
        The highest rating of each class but the last, ascending.
    names : tuple of str
        The classes, the lowest first: one more than edges.

    Raises
    ------
    DataError
        If the edges do not ascend, or names are not one more, or one is there twice.

    Examples
    --------
    >>> from omfa.zoo import open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence<=2.5<=3.5=low,middle,high")
    >>> type(data.target).__name__, data.classes
    ('Target', ('low', 'middle', 'high'))
    """

    column: str
    edges: tuple[float, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        found = [] if len(set(self.names)) == len(self.names) else ["two classes have one name"]
        if list(self.edges) != sorted(set(self.edges)):
            found.append(f"the edges {', '.join(map(repr, self.edges))} do not ascend")
        if len(self.names) != len(self.edges) + 1:
            found.append(f"there are {len(self.edges)} edges and {len(self.names)} classes")
        if found:
            raise DataError(
                f"Making classes of {self.column!r} by {levels_text(self)!r}",
                found[0],
                "Give ascending edges and one class more: 'valence<=3.5<=6.5=low,middle,high'",
            )

    def __str__(self) -> str:
        edges = [f"up to {edge:g}" for edge in self.edges] + [f"above {self.edges[-1]:g}"]
        parts = [f"{name} ({edge})" for name, edge in zip(self.names, edges, strict=True)]
        return f"{self.column} {' against '.join(parts)}"


OneTarget = str | Rating | Merged | Levels
"""A column of labels, or a rule on one, as text (``"valence>5"``, ``"event:left,right"``,
``"valence<=3.5<=6.5=low,middle,high"``), as ``Rating``, ``Merged`` or ``Levels``; or the text of a
common target (``"common:valence"``; see ``omfa.zoo.data.common``)."""


def _no_rule(text: str) -> DataError:
    return DataError(
        f"Reading the target {text!r}",
        "it is neither a column nor a rule",
        "Write it as 'valence', 'valence>5', 'valence>=5', 'valence<4.5|>5.5', "
        "'valence<=3.5<=6.5=low,middle,high', 'event:left|right=fist,rest' or 'common:valence'",
    )


def parse_rule(text: str) -> OneTarget:
    """Read the text of a target.

    Parameters
    ----------
    text : str
        A column; a rule on a rating: ``"valence>5"`` (ties are low), ``"valence>=5"`` (ties are
        high), ``"valence<4.5|>5.5"`` (ratings between, edges included, are left out); or classes
        of some of a column's values, in their order: ``"event:left,right"``,
        ``"event:left|right=fist,rest"`` (left and right are one class, called fist; values that
        are not named are left out); or a rating cut at its values:
        ``"valence<=3.5<=6.5=negative,neutral,positive"``.

    Returns
    -------
    str, Rating, Merged or Levels
        The column, or the rule.

    Raises
    ------
    DataError
        If the text has a sign of comparison or a colon but is no rule.
    """
    if match := _CLASSES.match(text):
        return Merged(match["column"], tuple(map(_group, match["classes"].split(","))))
    if not set("<>=|:") & set(text):
        return text.strip()
    try:
        if match := _RULE.match(text):
            return Rating(match["column"], match["sign"], float(match["value"]))  # type: ignore[arg-type]
        if match := _LEVELS.match(text):
            edges = tuple(float(edge) for edge in match["edges"].split("<=")[1:])
            return Levels(match["column"], edges, tuple(map(str.strip, match["names"].split(","))))
        if match := _MIDDLE.match(text):
            low, high = float(match["low"]), float(match["high"])
            if low <= high:
                return Rating.between(match["column"], low, high)
    except DataError:
        raise
    except ValueError as error:  # of float
        raise _no_rule(text) from error
    raise _no_rule(text)


def _group(text: str) -> tuple[str, tuple[str, ...]]:
    """Read ``"left|right=fist"`` or ``"rest"``: a class and its values."""
    values, _, name = text.partition("=")
    members = tuple(value.strip() for value in values.split("|"))
    return name.strip() or "|".join(members), members


def merged_text(merged: Merged) -> str:
    """Return the text that ``parse_rule`` reads as these classes."""
    classes = []
    for name, members in merged.groups:
        values = "|".join(members)
        classes.append(values if values == name else f"{values}={name}")
    return f"{merged.column}:{','.join(classes)}"


def levels_text(levels: Levels) -> str:
    """Return the text that ``parse_rule`` reads as these classes."""
    edges = "".join(f"<={edge!r}" for edge in levels.edges)
    return f"{levels.column}{edges}={','.join(levels.names)}"


def rule_text(rating: Rating) -> str:
    """Return the text that ``parse_rule`` reads as this rule."""
    if rating.rule != "drop-middle":  # by repr: all digits, so that the same number is read
        return f"{rating.column}{rating.rule}{rating.threshold!r}"
    low, high = rating.edges
    return f"{rating.column}<{low!r}|>{high!r}"
