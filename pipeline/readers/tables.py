"""Cells of tables and options as text: what is missing, what is a number, what is a name."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

Pairs = Mapping[str, str] | tuple[tuple[str, str], ...]
"""A mapping as a reader's option: given as either, kept as pairs, which hash and pickle."""


def pairs(option: Pairs) -> tuple[tuple[str, str], ...]:
    """Return a mapping as pairs."""
    return tuple(dict(option).items())


MISSING = ("", "n/a", "NA", "NaN", "nan")
"""What a cell of a table holds where a value is missing."""


def plain(text: str) -> str:
    """Return the letters and digits of a name, which is what a key takes."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def numbers(column: pd.Series, *, decimal_comma: bool = False) -> pd.Series:
    """Return a column of text as numbers, if each of its cells is one or says that it is missing.

    Missing numbers are NaN; a column that holds any text stays as it is, without blanks around.

    Parameters
    ----------
    column : Series of str
    decimal_comma : bool
        Whether ``"7,5"`` is a number.
    """
    column = column.str.strip()
    missing = column.isin(MISSING)
    if missing.all():
        return column.astype(object)
    try:
        return pd.to_numeric(_with_points(column.mask(missing), decimal_comma))
    except ValueError:
        return column.astype(object)


def seconds(column: pd.Series) -> pd.Series:
    """Return a column of text as seconds, NaN where a cell says that it is missing.

    Raises
    ------
    ValueError
        If a cell is no number.
    """
    column = column.str.strip()
    return pd.to_numeric(_with_points(column.mask(column.isin(MISSING)), True)).astype(float)


def _with_points(column: pd.Series, decimal_comma: bool) -> pd.Series:
    return (
        column.str.replace(r"^([-+]?\d*),(\d+)$", r"\1.\2", regex=True) if decimal_comma else column
    )
