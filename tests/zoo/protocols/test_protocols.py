import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omfa.pipeline import DataError
from omfa.zoo.data.rules import Rating
from omfa.zoo.data.targets import make_labels
from omfa.zoo.protocols.protocol import (
    LEAKY,
    PROTOCOL_PRESETS,
    PROTOCOLS,
    SESSION,
    STIMULUS,
    SUBJECT,
    TRIAL,
    Fold,
    Pretraining,
    Protocol,
    check_fold,
    describe_folds,
    shared,
    shared_samples,
)
from omfa.zoo.protocols.splits import split

WHOLE_TRIALS = tuple(name for name in PROTOCOLS if name != LEAKY)


def folds_of(metadata, protocol):
    return split(metadata, metadata["target"], protocol)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_window_is_tested_and_no_side_is_empty(make_table, name):
    metadata = make_table(datasets=2)
    folds = folds_of(metadata, Protocol(name, n_folds=3, n_stimulus_folds=4))
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(len(metadata)))
    assert all(len(fold.train) and len(fold.validation) for fold in folds)
    assert len({fold.name for fold in folds}) == len(folds)


@pytest.mark.parametrize("name", WHOLE_TRIALS)
def test_no_trial_and_no_sample_is_on_two_sides(make_table, name):
    metadata = make_table(datasets=1 + (name == "cross-dataset"), overlap=48)
    folds = folds_of(metadata, Protocol(name, n_folds=3))
    for fold in folds:
        for left, right in (("train", "test"), ("validation", "test"), ("train", "validation")):
            left, right = fold.side(left), fold.side(right)
            assert shared(metadata, left, right) == []
            assert shared_samples(metadata, left, right) == 0
    counts = describe_folds(metadata, folds, metadata["target"].to_numpy())
    assert (counts[["trial_in_training", "samples_in_training"]] == 0).all(axis=None)


def test_leaky_windows_share_trials_and_samples(make_table):
    metadata = make_table(overlap=48)
    counts = describe_folds(metadata, folds_of(metadata, LEAKY), metadata["target"].to_numpy())
    test = counts[counts["side"] == "test"]
    assert (test["trial_in_training"] > 0.9 * test["windows"]).all()
    assert (test["samples_in_training"] > 0.8 * test["windows"]).all()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("cross-session", SESSION),
        ("cross-subject", SUBJECT),
        ("cross-subject-stimulus", SUBJECT),
        ("cross-subject-stimulus", STIMULUS),
        ("cross-dataset", ("dataset",)),
    ],
)
def test_what_is_tested_is_unseen(make_table, name, columns):
    metadata = make_table(datasets=2)
    for fold in folds_of(metadata, Protocol(name, n_folds=4)):
        assert shared(metadata, fold.train, fold.test, columns) == []
        assert shared(metadata, fold.validation, fold.test, columns) == []


@pytest.mark.parametrize("name", ["cross-subject", "cross-subject-stimulus", "cross-dataset"])
def test_validation_subjects_are_apart(make_table, name):
    metadata = make_table(datasets=2)
    for fold in folds_of(metadata, Protocol(name, n_folds=4)):
        assert shared(metadata, fold.train, fold.validation, SUBJECT) == []


def test_validation_clips_are_apart_where_test_clips_are(make_table):
    metadata = make_table(subjects=5)
    for fold in folds_of(metadata, "cross-subject-stimulus"):
        assert shared(metadata, fold.train, fold.validation, STIMULUS) == []


def test_folds_are_balanced(make_table):
    metadata = make_table(trials=10, classes=2)
    for fold in folds_of(metadata, Protocol("within-subject", n_folds=5)):
        assert (np.bincount(metadata["target"].to_numpy()[fold.test]) == 5).all()


def test_seed_trains_on_the_first_nine_trials(make_table):
    metadata = make_table(trials=15, classes=3)
    metadata = metadata.sample(frac=1, random_state=0).reset_index(drop=True)
    for fold in folds_of(metadata, "seed-9-6"):
        numbers = metadata["trial"].str.removeprefix("trial-").astype(int)
        assert sorted(set(numbers[fold.test])) == [10, 11, 12, 13, 14, 15]
        assert set(numbers[fold.train]) | set(numbers[fold.validation]) == set(range(1, 10))


def numbers(metadata, rows, column="trial"):
    return sorted(set(metadata[column].iloc[rows].str.extract(r"(\d+)$")[0].astype(int)))


def test_thirds_are_blocks_of_every_session_of_a_subject(make_table):
    metadata = make_table(subjects=2, sessions=3, trials=15, classes=5)
    metadata = metadata.sample(frac=1, random_state=0).reset_index(drop=True)
    folds = folds_of(metadata, "seed-v-thirds")
    assert len(folds) == 2 * 3
    blocks = [[*range(1, 6)], [*range(6, 11)], [*range(11, 16)]]
    for i, fold in enumerate(folds):
        assert numbers(metadata, fold.test) == blocks[i % 3]
        assert metadata["session"].iloc[fold.test].nunique() == 3
        assert metadata["session"].iloc[fold.train].nunique() == 3
        assert metadata["subject"].iloc[fold.test].nunique() == 1
        learning = np.concatenate([fold.train, fold.validation])
        assert not set(numbers(metadata, learning)) & set(blocks[i % 3])


def test_sixteen_of_each_session_learn_and_eight_are_tested(make_table):
    metadata = make_table(subjects=1, sessions=2, trials=24, classes=4)
    folds = folds_of(metadata, "seed-iv-16-8")
    assert len(folds) == 2
    for fold in folds:
        assert numbers(metadata, fold.test) == [*range(17, 25)]
    together = Protocol("within-subject", train_trials=16, sessions="together")
    (fold,) = folds_of(metadata, together)
    assert numbers(metadata, fold.test) == [*range(17, 25)]
    assert metadata["session"].iloc[fold.test].nunique() == 2


def test_blocks_of_subjects_have_one_size_and_the_last_the_rest(make_table):
    metadata = make_table(subjects=13, trials=4, classes=2)
    folds = folds_of(metadata, Protocol("cross-subject", n_folds=3, consecutive=True))
    tested = [numbers(metadata, fold.test, "subject") for fold in folds]
    assert [len(one) for one in tested] == [4, 4, 5]
    assert np.concatenate(tested).tolist() == sorted(np.concatenate(tested))


def test_sessions_together_deal_the_trials_of_all(make_table):
    metadata = make_table(subjects=2, sessions=2, trials=4, classes=2)
    folds = folds_of(metadata, Protocol("within-subject", n_folds=4, sessions="together"))
    assert len(folds) == 2 * 4
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(metadata)))


def test_blocks_need_as_many_trials_in_the_shortest_session(make_table):
    metadata = make_table(subjects=1, sessions=2, trials=6, classes=2)
    short = metadata["session"].eq(metadata["session"].iloc[0]) & metadata["trial"].str.contains(
        "[3456]$"
    )
    with pytest.raises(DataError, match="it has 2 trials, expected at least 3 for 3 folds"):
        folds_of(metadata[~short].reset_index(drop=True), "seed-v-thirds")


def test_leave_one_subject_out(make_table):
    metadata = make_table(subjects=6)
    folds = folds_of(metadata, "leave-one-subject-out")
    assert [len(metadata.loc[fold.test, "subject"].unique()) for fold in folds] == [1] * 6


def test_the_split_is_a_function_of_its_seed(make_table):
    metadata = make_table()
    one, same, other = (folds_of(metadata, Protocol("cross-subject", seed=s)) for s in (0, 0, 1))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a.test, b.test) for a, b in zip(one, other, strict=True))


def test_folds_of_a_subject_do_not_depend_on_the_others(make_table):
    metadata = make_table(subjects=5)
    alone = metadata[metadata["subject"] == "sub-03"].reset_index(drop=True)
    names = ["session", "trial"]
    mine = {
        fold.name: metadata.loc[fold.train, names].to_numpy().tolist()
        for fold in folds_of(metadata, "within-subject")
    }
    for fold in folds_of(alone, "within-subject"):
        assert alone.loc[fold.train, names].to_numpy().tolist() == mine[fold.name]


@settings(max_examples=25)
@given(data=st.data(), name=st.sampled_from(WHOLE_TRIALS), seed=st.integers(0, 99))
def test_a_split_holds_or_is_refused(make_table, data, name, seed):
    metadata = make_table(
        datasets=data.draw(st.integers(1, 3)),
        subjects=data.draw(st.integers(1, 6)),
        sessions=data.draw(st.integers(1, 3)),
        trials=data.draw(st.integers(1, 9)),
        windows=data.draw(st.integers(1, 3)),
        classes=data.draw(st.integers(1, 3)),
    )
    rows = np.random.default_rng(seed).permutation(len(metadata))
    metadata = metadata.iloc[rows[: max(1, len(rows) * 9 // 10)]].reset_index(drop=True)
    try:
        folds = folds_of(metadata, Protocol(name, n_folds=3, seed=seed))
    except DataError:
        return
    for fold in folds:
        check_fold(metadata, fold, name)
        y = metadata["target"]
        assert set(y[fold.test]) <= set(y[fold.train])


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE_TRIALS)
def test_windows_of_one_trial_on_both_sides_raise_unless_leaky(make_table, name):
    metadata = make_table(datasets=2)
    leaky = folds_of(metadata, LEAKY)[0]
    check_fold(metadata, leaky, LEAKY)
    with pytest.raises(DataError, match="same trial on both sides"):
        check_fold(metadata, leaky, name)


def test_one_window_on_both_sides_raises_even_if_leaky(make_table):
    metadata = make_table()
    fold = Fold("twice", np.array([0, 1]), np.array([2]), np.array([1, 3]))
    with pytest.raises(DataError, match="1 windows are on both sides"):
        check_fold(metadata, fold, LEAKY)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cross-session", "session"),
        ("cross-subject", "subject"),
        ("cross-subject-stimulus", "subject"),
        ("cross-dataset", "dataset"),
    ],
)
def test_a_split_that_is_not_what_its_name_says_raises(make_table, name, what):
    metadata = make_table(datasets=2)
    if name == "cross-dataset":
        fold = folds_of(metadata, "cross-subject")[0]
    else:
        fold = folds_of(metadata, "within-subject")[0]
    with pytest.raises(DataError, match=f"same {what} on both sides"):
        check_fold(metadata, fold, name)


def test_the_same_clip_raises(make_table):
    metadata = make_table(subjects=5)
    fold = folds_of(metadata, "cross-subject")[0]
    with pytest.raises(DataError, match="same stimulus on both sides"):
        check_fold(metadata, fold, "cross-subject-stimulus")


def test_trials_that_overlap_in_the_recording_raise(make_table):
    metadata = make_table(windows=3)
    later = metadata["trial"].eq("trial-2")
    metadata.loc[later, ["i_start_in_trial", "i_stop_in_trial"]] -= 16
    with pytest.raises(DataError, match="1 windows share samples of a recording"):
        folds_of(metadata, "within-subject")
    folds_of(metadata, "cross-subject")


def in_three_parts(error):
    assert len(error.value.args) == 3
    assert all(error.value.args)
    return str(error.value)


def test_class_with_one_trial(make_table):
    metadata = make_table(trials=8)
    mine = metadata["subject"].eq("sub-01") & metadata["session"].eq("ses-0")
    metadata.loc[mine, "target"] = metadata["trial"].eq("trial-1").astype(int)
    with pytest.raises(DataError, match="class 'joy' has one trial") as error:
        split(metadata, metadata["target"], "within-subject", classes=["fear", "joy"])
    message = in_three_parts(error)
    assert "set0/sub-01/ses-0" in message
    skip = ("set0/sub-01/ses-0",)
    assert repr(skip) in message
    folds = folds_of(metadata, Protocol("within-subject", skip=skip))
    assert not any(mine[fold.test].any() for fold in folds)


def test_all_subjects_with_a_problem_are_named(make_table):
    metadata = make_table(trials=8)
    metadata.loc[metadata["subject"].isin(["sub-01", "sub-02"]), "target"] = 1
    with pytest.raises(DataError, match="in 3 more") as error:
        folds_of(metadata, "within-subject")
    assert "set0/sub-02/ses-1" in in_three_parts(error)


@pytest.mark.parametrize(
    ("change", "protocol", "found"),
    [
        ({"trials": 4}, "within-subject", "4 trials, expected at least 5"),
        ({"trials": 9}, "seed-9-6", "9 trials, expected more than the 9"),
        ({"sessions": 1}, "cross-session", r"single session \(ses-0\)"),
        ({"subjects": 4}, "cross-subject", "4 subjects, expected at least 5"),
        ({"subjects": 2}, "leave-one-subject-out", "2 subjects, expected at least 3"),
        ({"trials": 2, "sessions": 1}, "cross-subject-stimulus", "2 stimuli, expected at least 3"),
        ({}, "cross-dataset", r"one dataset \(set0\)"),
        ({"classes": 1}, "within-subject", "in one class"),
    ],
)
def test_too_little_to_split(make_table, change, protocol, found):
    metadata = make_table(**{"subjects": 5, **change})
    with pytest.raises(DataError, match=found) as error:
        folds_of(metadata, protocol)
    in_three_parts(error)


def test_too_few_to_validate_on_is_told_what_can_help(make_table):
    metadata = make_table(subjects=3)
    with pytest.raises(DataError, match=r"nothing is left for validation.*another number of folds"):
        folds_of(metadata, Protocol("cross-subject", n_folds=2))
    folds_of(metadata, Protocol("cross-subject", n_folds=3))  # which is more, not fewer


def test_unknown_stimulus(make_table):
    metadata = make_table(subjects=5)
    metadata.loc[3, "stimulus"] = ""
    with pytest.raises(DataError, match="1 windows do not say which stimulus"):
        folds_of(metadata, "cross-subject-stimulus")


def test_a_class_that_is_never_trained_on(make_table):
    metadata = make_table(subjects=6)
    metadata["target"] = metadata["subject"].eq("sub-00").astype(int)
    with pytest.raises(DataError, match=r"is tested in fold-. but never trained on"):
        folds_of(metadata, "cross-subject")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"name": "loso"}, "none of that name"),
        ({"name": "within-subject", "n_folds": 1}, "n_folds=1"),
        ({"name": "cross-subject", "validation": 0.0}, "validation=0"),
        ({"name": "cross-subject", "train_trials": 9}, "train_trials=9"),
        ({"name": LEAKY, "n_folds": None}, "n_folds=None"),
        ({"name": "cross-session", "consecutive": True}, "consecutive=True"),
        ({"name": "cross-subject", "sessions": "together"}, "sessions='together'"),
    ],
)
def test_impossible_settings(settings, found):
    with pytest.raises(DataError, match=found):
        Protocol(**settings)


def test_unknown_subjects_cannot_be_skipped(make_table):
    with pytest.raises(DataError, match="no such subject"):
        folds_of(make_table(), Protocol("within-subject", skip=("set0/sub-99",)))


def test_the_leaky_protocol_says_so():
    assert "LEAKY" in str(Protocol(LEAKY))
    assert not any("leaky" in str(Protocol(name)).lower() for name in WHOLE_TRIALS)
    assert not any(protocol.leaky for protocol in PROTOCOL_PRESETS.values())


# ---- labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rating", "codes", "text"),
    [
        (Rating("valence", ">=", 5), [0, 1, 1], "valence >= 5"),
        (Rating("valence", ">", 5), [0, 0, 1], "valence > 5"),
        (Rating("valence", "drop-middle", 5), [0, -1, 1], "valence > 5 against < 5"),
        (Rating("valence", "drop-middle", 5, 3), [-1, -1, -1], None),
    ],
)
def test_ratings_become_classes_by_a_named_rule(rating, codes, text):
    metadata = pd.DataFrame({"valence": [2.0, 5.0, 8.0], "dataset": "set0", "subject": "sub-00"})
    if text is None:
        with pytest.raises(DataError, match="one class"):
            make_labels(metadata, rating)
        return
    labels = make_labels(metadata, rating)
    assert labels.codes.tolist() == codes
    assert labels.classes == ("low", "high")
    assert labels.rule.startswith(text)


def test_dropped_windows_are_on_no_side(make_table):
    metadata = make_table(trials=12)
    labels = make_labels(metadata, Rating("valence", "drop-middle", 5))
    for fold in split(metadata, labels.codes, "within-subject"):
        used = np.concatenate([fold.train, fold.validation, fold.test])
        assert (labels.codes[used] >= 0).all()
        assert len(used) == 12 // 3 * 2 * 5


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2, None], r"1 windows have no label \(set0/sub-00\)"),
        (["joy", "", "fear"], "1 windows have no label"),
        (["joy", "n/a", "fear"], "1 windows have no label"),
        ([1.5, 2.5, 3.5], "ratings between 1.5 and 3.5"),
        ([1, 1, 1], "one class"),
    ],
)
def test_labels_that_cannot_be_used(values, found):
    metadata = pd.DataFrame({"target": values, "dataset": "set0", "subject": "sub-00"})
    with pytest.raises(DataError, match=found) as error:
        make_labels(metadata)
    in_three_parts(error)


def test_classes_that_are_named_leave_out_what_has_no_label():
    values = ["joy", "n/a", "fear", "", None, "joy"]
    metadata = pd.DataFrame({"event": values, "dataset": "d", "subject": "s"})
    labels = make_labels(metadata, "event:joy,fear")
    assert labels.classes == ("joy", "fear")
    assert labels.codes.tolist() == [0, -1, 1, -1, -1, 0]


def test_a_column_that_is_not_there(make_table):
    with pytest.raises(DataError, match=r"no such column; the dataset has .*valence"):
        make_labels(make_table(), "arousal")


def test_classes_keep_their_order():
    metadata = pd.DataFrame({"target": [3, -1, 0], "dataset": "d", "subject": "s"})
    assert make_labels(metadata).classes == ("-1", "0", "3")


# ---- what pre-training saw ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pretraining", "protocol", "found"),
    [
        (Pretraining("inductive", ("set0/sub-01",)), "cross-subject", "saw 1 of the tested"),
        (Pretraining("dataset held out", ("set1/sub-99",)), "within-subject", "saw 6 of"),
        (Pretraining("transductive", ("set1",)), "cross-dataset", "may have been seen"),
    ],
)
def test_a_claim_about_pretraining_that_does_not_hold(make_table, pretraining, protocol, found):
    metadata = make_table(datasets=2, subjects=6)
    folds = folds_of(metadata, protocol)
    with pytest.raises(DataError, match=found):
        pretraining.check(metadata, folds, Protocol(protocol))


def test_claims_that_hold(make_table):
    metadata = make_table(subjects=6)
    folds = folds_of(metadata, "cross-subject")
    for claim in (
        Pretraining(),
        Pretraining("transductive", ("set0",)),
        Pretraining("inductive", ("set0/sub-99",)),
        Pretraining("dataset held out", ("set1",)),
    ):
        claim.check(metadata, folds, Protocol("cross-subject"))


def test_trials_are_named_by_all_of_their_names(make_table):
    assert make_table(datasets=2)[list(TRIAL)].drop_duplicates().shape == (2 * 6 * 2 * 8, 5)


def test_some_are_tested_and_all_others_learn_in_every_fold(make_table):
    metadata = make_table(subjects=9)
    protocol = Protocol("cross-subject", n_folds=2, tested=("set0/sub-0[67]", "set0/sub-08"))
    folds = folds_of(metadata, protocol)
    who = metadata["subject"].to_numpy()
    assert sorted(set(who[np.concatenate([fold.test for fold in folds])])) == [
        "sub-06",
        "sub-07",
        "sub-08",
    ]
    for fold in folds:
        learned = set(who[np.concatenate([fold.train, fold.validation])])
        assert learned == set(who) - set(who[fold.test])


def test_few_learn_in_every_fold_and_more_are_added_to_them(make_table):
    metadata, learned = make_table(subjects=9), {}
    who = metadata["subject"].to_numpy()
    for few in (2, 4, None):
        protocol = Protocol("cross-subject", n_folds=3, train_subjects=few, seed=5)
        learned[few] = []
        for fold in folds_of(metadata, protocol):
            assert set(who[fold.validation]), "nobody is set apart"
            both = set(who[np.concatenate([fold.train, fold.validation])])
            assert not both & set(who[fold.test])
            learned[few].append(both)
    assert [len(both) for both in learned[2] + learned[4] + learned[None]] == 3 * [2] + 3 * [
        4
    ] + 3 * [6]
    assert all(two < four < six for two, four, six in zip(*learned.values(), strict=True))
    assert len(set(map(frozenset, learned[2]))) > 1


def test_few_must_be_two_and_there(make_table):
    with pytest.raises(DataError, match="3 subjects are not tested in fold-0, expected the 5"):
        folds_of(make_table(), Protocol("cross-subject", n_folds=2, train_subjects=5))
    for wrong in ({"name": "within-subject", "train_subjects": 2}, {"train_subjects": 1}):
        with pytest.raises(DataError, match="Use it with 'cross-subject' only; give two"):
            Protocol(**{"name": "cross-subject", **wrong})


@pytest.mark.parametrize(
    ("protocol", "label"),
    [
        (Protocol("cross-subject"), "cross-subject"),
        (PROTOCOL_PRESETS["seed-9-6"], "within-subject, trained on the first 9 trials"),
        (Protocol("cross-subject", train_subjects=4), "cross-subject, trained on 4 subjects"),
        (
            PROTOCOL_PRESETS["seed-v-thirds"],
            "within-subject, folds in order, sessions together",
        ),
    ],
)
def test_a_label_says_who_learns(protocol, label):
    assert protocol.label == label


def test_who_is_tested_must_be_there_and_the_protocol_leave_subjects_out(make_table):
    with pytest.raises(DataError, match="'set0/sub-9' is to be tested and names nobody of 6"):
        folds_of(make_table(), Protocol("cross-subject", tested=("set0/sub-9",)))
    with pytest.raises(DataError, match="Use it with 'cross-subject' only"):
        Protocol("within-subject", tested=("set0/sub-01",))


def test_where_every_person_has_one_trial_of_a_class_no_impossible_advice_is_given(make_table):
    """Neither fewer folds nor leaving everybody out would help."""
    metadata = make_table(sessions=1, trials=2, windows=3)
    with pytest.raises(DataError, match=r"has one trial.*Choose another target") as error:
        split(metadata, metadata["target"], "within-subject")
    assert "n_folds" not in str(error.value)
    assert "skip" not in str(error.value)
