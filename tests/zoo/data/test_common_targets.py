"""Targets on one scale: labels of several corpora that count as the same."""

import json

import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import DataError
from omfa.zoo import Levels, Merged, open_dataset
from omfa.zoo.data.common import COMMON, LABELS, targets_of
from omfa.zoo.data.rules import levels_text, parse_rule
from omfa.zoo.data.targets import make_labels, make_target


def trials(**datasets):
    """Return a table of trials: per dataset a column and its values, one each."""
    rows = [
        {"dataset": name.replace("_", "-"), "subject": "sub-01", column: value}
        for name, (column, values) in datasets.items()
        for value in values
    ]
    return pd.DataFrame(rows)


def named(target):
    return [target.classes[code] if code >= 0 else None for code in target.values]


def test_valence_means_the_same_on_corpora_with_other_labels():
    table = trials(
        seed=("emotion", [-1, 0, 1]),
        seed_iv=("emotion", ["sad", "fear", "neutral", "happy"]),
        seed_vii=("emotion", ["anger", "neutral", "happy", "surprise"]),
        faced=("emotion", ["disgust", "neutral", "tenderness", "joy"]),
        deap=("valence", [3.5, 3.51, 6.5, 8.1]),
        dreamer=("valence", [1, 2, 3, 4]),
    )
    target = make_target(table, "common:valence", where="these")
    assert target.classes == ("negative", "neutral", "positive")
    no, mid, yes = target.classes
    assert named(target) == [
        *[no, mid, yes, no, no, mid, yes, no, mid, yes, None],
        *[no, mid, yes, yes, no, mid, mid, yes, no, no, mid, yes],
    ]
    assert named(make_labels(table, "common:valence@1")) == named(target)
    assert target.rule.startswith("common:valence@1, seed: emotion")
    assert make_labels(table, "common:valence").rule == target.rule
    assert "seed-vii: emotion" in target.rule


def test_emotions_are_those_that_every_dataset_has():
    words = {
        "seed_iv": ("emotion", ["neutral", "sad", "fear", "happy"]),
        "faced": ("emotion", ["anger", "sadness", "fear", "joy", "amusement", "neutral"]),
    }
    target = make_target(trials(**words), "common:emotion", where="these")
    assert target.classes == ("fear", "sadness", "neutral", "happiness")
    assert named(target)[:4] == ["neutral", "sadness", "fear", "happiness"]
    assert named(target)[4:] == [None, "sadness", "fear", "happiness", None, "neutral"]
    alone = make_target(trials(seed_iv=words["seed_iv"]), "common:emotion", where="these")
    assert set(alone.classes) == {"fear", "sadness", "neutral", "happiness"}


def test_a_person_without_trials_of_a_word_is_no_error():
    target = make_target(
        trials(mahnob_hci=("emotion", ["fear", "neutral", "joy"])), "common:valence", where="one"
    )
    assert named(target) == ["negative", "neutral", "positive"]


@pytest.mark.parametrize("name", sorted(COMMON))
def test_every_row_of_a_common_target_has_the_same_classes(name):
    rules = targets_of(f"common:{name}", COMMON[name])
    classes = {
        rule.names if isinstance(rule, Levels) else tuple(word for word, _ in rule.groups)
        for rule in rules.values()
    }
    assert len(classes) == 1
    for dataset, rule in rules.items():
        if isinstance(rule, Merged) and dataset in LABELS:
            assert {value for _, members in rule.groups for value in members} <= {*LABELS[dataset]}


def test_every_word_of_a_corpus_has_a_valence_or_is_surprise():
    rules = targets_of("common:valence", tuple(LABELS))
    for dataset, rule in rules.items():
        used = {value for _, members in rule.groups for value in members}
        assert set(LABELS[dataset]) - used <= {"surprise"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("common:valance", "there is no common target 'valance' (nearest: valence)"),
        ("common:valence@7", "has version 1 of it"),
        ("common:emotion", "it is not written for deap; it is for seed-iv"),
        ("common:emotion", "Use common:valence, or give each dataset a target of its own"),
    ],
)
def test_a_common_target_that_cannot_be_made_says_why(text, found):
    with pytest.raises(DataError) as error:
        make_target(trials(deap=("valence", [1.0, 9.0])), text, where="one")
    assert found in str(error.value)


def test_a_common_target_is_stored_by_its_version_and_opens_again(lay_store, tmp_path):
    labels = {"emotion": ["sad", "neutral", "happy"]}
    stores = [
        lay_store(tmp_path / f"{name}.zarr", source=name, labels=labels, seed=seed)
        for seed, name in enumerate(("seed-iv", "seed-v"))
    ]
    data = open_dataset(stores, 1.0, target="common:valence", cache="stream")
    assert data.recipe["target"] == "common:valence@1"
    assert data.classes == ("negative", "neutral", "positive")
    again = open_dataset(**json.loads(json.dumps(data.recipe)))
    assert np.array_equal(again.y, data.y)


def test_a_dataset_of_ones_own_joins_by_naming_its_classes(lay_store, tmp_path):
    known = lay_store(
        tmp_path / "a.zarr", source="seed-iv", labels={"emotion": ["sad", "neutral", "happy"]}
    )
    mine = lay_store(
        tmp_path / "b.zarr", source="mine", labels={"felt": ["bad", "so", "good"]}, seed=1
    )
    target = {
        "seed-iv": "common:valence",
        "mine": "felt:bad=negative,so=neutral,good=positive",
    }
    data = open_dataset([known, mine], 1.0, target=target, cache="stream")
    assert data.classes == ("negative", "neutral", "positive")
    assert data.metadata.groupby("dataset")["target"].nunique().eq(3).all()


@pytest.mark.parametrize(
    "text", ["valence<=3.5<=6.5=low,middle,high", "a b<=1=no,yes", "x<=-1<=0<=2.5=a,b,c,d"]
)
def test_the_text_of_levels_gives_them_again(text):
    assert levels_text(parse_rule(text)) == text.replace("<=1=", "<=1.0=").replace(
        "<=-1<=0<=", "<=-1.0<=0.0<="
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("v<=2<=1=a,b,c", "do not ascend"),
        ("v<=1<=2=a,b", "there are 2 edges and 2 classes"),
        ("v<=1=a,a", "two classes have one name"),
        ("v<=1", "neither a column nor a rule"),
    ],
)
def test_levels_that_make_no_classes_say_why(text, found):
    with pytest.raises(DataError, match=found):
        parse_rule(text)
