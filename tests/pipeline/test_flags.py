"""Flags from dataclasses and functions: what is given comes back, what is not is the default's."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from omfa.pipeline.flags import add_flags, documented, given, literal, settings


@dataclass(frozen=True)
class Inner:
    """Chances.

    Attributes
    ----------
    noise : float
        Of noise.
    steps : int or None
    on : bool
    """

    noise: float = 0.5
    steps: int | None = 3
    on: bool = True


@dataclass(frozen=True)
class Outer:
    """Settings.

    Attributes
    ----------
    rate, other_rate : float
        Hz, 50 % of it.
    n_folds : int or None
        None leaves one out.
    band : (float or None, float or None) or None
    kind : {"a", "b"}
    names : tuple of str
    reference : "source" or tuple of str
    pairs : mapping
    inner : Inner
        The chances.
    thing : Any
    """

    rate: float = 128.0
    other_rate: float = 0.0
    n_folds: int | None = 5
    band: tuple[float | None, float | None] | None = (0.5, 45.0)
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    reference: Literal["source"] | tuple[str, ...] = "source"
    pairs: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    slow: bool = False
    fast: bool = True
    thing: Any = None


def call(what: str, *, subjects: Iterable[str | int] | None = None, limit: str = "auto", **rest):
    """Do it.

    Parameters
    ----------
    what : str
    subjects : iterable, optional
        Only these.
    limit : str
        Of memory, such as "4GB".
    """


def parse(text, of=Outer, **how):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, of, **how)
    return parser.parse_args(text.split())


def test_nothing_given_is_nothing_parsed():
    args = parse("")
    assert vars(args) == {}
    assert given(args, Outer) == {}
    assert settings(args, Outer) == Outer()


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("--rate 100", {"rate": 100.0}),
        ("--n-folds none", {"n_folds": None}),
        ("--n-folds 3", {"n_folds": 3}),
        ("--band 1 none", {"band": (1.0, None)}),
        ("--kind b", {"kind": "b"}),
        ("--names x y --names z", {"names": ("x", "y", "z")}),
        ("--reference source", {"reference": "source"}),
        ("--reference M1 M2", {"reference": ("M1", "M2")}),
        ("--reference M1", {"reference": ("M1",)}),
        ("--pairs n=2 t=text f=0.5", {"pairs": {"n": 2, "t": "text", "f": 0.5}}),
        ("--slow --no-fast", {"slow": True, "fast": False}),
    ],
)
def test_what_is_given_comes_back_in_the_fields_type(text, changes):
    assert given(parse(text), Outer) == changes
    assert settings(parse(text), Outer) == Outer(**changes)


def test_a_dataclass_in_a_dataclass_takes_pairs_and_keeps_what_is_not_given():
    args = parse("--inner noise=0.1 on=false --inner steps=none")
    assert settings(args, Outer).inner == Inner(noise=0.1, steps=None, on=False)
    base = Outer(rate=1.0, inner=Inner(steps=7))
    assert settings(parse("--inner noise=1"), Outer, base) == Outer(
        rate=1.0, inner=Inner(noise=1.0, steps=7)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--rate fast", "invalid number value: 'fast'"),
        ("--n-folds 2.5", "invalid whole number value"),
        ("--band 1", "expected 2 arguments"),
        ("--kind c", "invalid choice"),
        ("--pairs x", "'x' is not of the form A=B"),
        ("--inner nois=1", r"there is no 'nois' \(nearest: noise\); there are noise, steps, on"),
        ("--inner noise=x", "'noise=x' has no number"),
        ("--inner on=maybe", "'on=maybe' has no true or false"),
    ],
)
def test_what_is_wrong_is_refused_in_words(text, message):
    with pytest.raises(argparse.ArgumentError, match=message):
        parse(text)


def test_arguments_of_a_function():
    args = parse("--subjects 1 02", call, only=("subjects", "limit"))
    assert given(args, call) == {"subjects": ("1", "02")}


def test_help_comes_from_the_docstring_and_the_defaults():
    parser = argparse.ArgumentParser()
    add_flags(parser, Outer, metavars={"rate": "HZ"}, names={"n_folds": "folds"})
    text = " ".join(parser.format_help().split())
    assert "--rate HZ Hz, 50 % of it. (default: 128)" in text
    assert "--other-rate N Hz, 50 % of it. (default: 0)" in text
    assert "--folds N none leaves one out. (default: 5)" in text
    assert "--band N N (default: 0.5 45)" in text
    assert "The chances. (default: noise=0.5 steps=3 on=true)" in text
    assert "thing" not in text


def test_repeatable_flags_take_one_value_each():
    parser = argparse.ArgumentParser()
    parser.add_argument("stores", nargs="*")
    add_flags(parser, Outer, repeatable=("names",))
    args = parser.parse_args(["--names", "a", "--names", "b", "store"])
    assert (args.stores, given(args, Outer)) == (["store"], {"names": ("a", "b")})


def test_a_name_that_is_taken_has_the_prefix_before_it():
    parser = argparse.ArgumentParser()
    add_flags(parser, call, only=("limit",))
    clashing = dataclass(frozen=True)(
        type(
            "Reader", (), {"__annotations__": {"limit": str, "help": str}, "limit": "", "help": ""}
        )
    )
    with pytest.raises(argparse.ArgumentError, match="conflicting"):
        add_flags(argparse.ArgumentParser(), clashing)
    add_flags(parser, clashing, prefix="csv")
    args = parser.parse_args(["--limit", "4GB", "--csv-limit", "9", "--csv-help", "me"])
    assert given(args, call) == {"limit": "4GB"}
    assert given(args, clashing) == {"limit": "9", "help": "me"}


def test_values_are_read_as_json():
    texts = ["1", "0.5", "true", "None", "[1,2]", "text"]
    assert list(map(literal, texts)) == [1, 0.5, True, None, [1, 2], "text"]


def test_docstrings_with_odd_lines():
    text = """Do.

    Parameters
    ----------
    a, b : int
        One : two,
        three.
    c : str

    Raises
    ------
    ValueError
        Never.
    """
    assert documented(text) == {"a": "One : two, three.", "b": "One : two, three."}
