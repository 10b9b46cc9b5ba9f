"""Targets that make one class of several values of a label."""

import json

import numpy as np
import pytest

from omfa.pipeline import DataError
from omfa.zoo import Merged, open_dataset
from omfa.zoo.cli.flags import open_stores
from omfa.zoo.cli.main import parse
from omfa.zoo.data.rules import merged_text, parse_rule


@pytest.fixture(scope="module")
def fists(lay_store, tmp_path_factory):
    """A store whose three trials are left, rest and right."""
    labels = {"event": ["left", "rest", "right"], "code": [1, 2, 3]}
    return lay_store(tmp_path_factory.mktemp("m") / "a.zarr", source="fists", labels=labels)


@pytest.mark.parametrize(
    ("target", "names", "classes"),
    [
        ("event:left|right=fist,rest", ("fist", "rest"), [0, 1, 0]),
        ("event:rest,left|right=fist", ("rest", "fist"), [1, 0, 1]),
        (" event : right , left", ("right", "left"), [1, None, 0]),
        ("event:rest=still,left|right", ("still", "left|right"), [1, 0, 1]),
        ("code:1=one,3=three", ("one", "three"), [0, None, 1]),
        (Merged("event", (("a", ("left",)), ("b", ("rest",)))), ("a", "b"), [0, 1, None]),
    ],
)  # fmt: skip
def test_values_become_classes_in_the_order_given(fists, target, names, classes):
    data = open_dataset(fists, 1.0, target=target, cache="stream")
    assert data.classes == names
    found = data.metadata.groupby(["subject", "trial"])["target"].agg(["first", "nunique"])
    kept = {i + 1: y for i, y in enumerate(classes) if y is not None}
    assert found.loc["sub-02", "first"].to_dict() == kept
    assert (found["nunique"] == 1).all()
    assert data.left_out.by_rule == 2 * classes.count(None)
    again = open_dataset(**json.loads(json.dumps(data.recipe)))
    assert np.array_equal(again.y, data.y)


def test_the_text_of_classes_gives_them_again():
    for text in ("event:left|right=fist,rest", "a b:1,2|3", "x:p=q,r"):
        assert merged_text(parse_rule(text)) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("event:left", "there is one class"),
        ("event:left,left", "'left' names two classes"),
        ("event:left|right=a,right=b", "'right' is in two classes"),
        ("event:lef,right", "no window is 'lef'; there are left, rest, right"),
        (
            "evnt:left,right",
            r"fists has no such label \(nearest: event\); it has stimulus, event",
        ),
        ("event:", "neither a column nor a rule"),
        ("event:,left", "neither a column nor a rule"),
        ("event:a=b=c,d", "neither a column nor a rule"),
        (":left,right", "neither a column nor a rule"),
    ],
)
def test_classes_that_cannot_be_made_are_refused(fists, text, found):
    with pytest.raises(DataError, match=found.replace("|", r"\|")):
        open_dataset(fists, 1.0, target=text, cache="stream")


def test_a_command_line_takes_classes_for_each_dataset(fists, lay_store, tmp_path):
    labels = {"side": ["l", "r", "r"]}
    other = lay_store(tmp_path / "b.zarr", source="sides", labels=labels, seed=1)
    targets = "fists=event:left,right,sides=side:l=left,r=right"
    line = ["evaluate", str(fists), str(other), "--target", targets, "--window-seconds", "1"]
    data = open_stores(parse([*line, "--cache", "stream"]))
    assert data.classes == ("left", "right")
    alone = ["evaluate", str(fists), "--target", "event:left|right=fist,rest"]
    data = open_stores(parse([*alone, "--window-seconds", "1", "--cache", "stream"]))
    assert data.classes == ("fist", "rest")
