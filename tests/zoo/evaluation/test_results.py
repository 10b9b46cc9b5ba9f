"""What is computed of predictions: scores per trial, seeds, inflation, tables. Results by hand."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from omfa.models import OMFA
from omfa.pipeline import DataError
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.checkpoints.folder import save_checkpoint
from omfa.zoo.evaluation.provenance import describe_checkpoint
from omfa.zoo.evaluation.results import (
    Result,
    by_subject,
    compare,
    compare_table,
    inflation,
    seeds_in_words,
)
from omfa.zoo.protocols.comparisons import holm
from omfa.zoo.protocols.metrics import BOUNDS, METRICS, TRIAL_METRICS
from omfa.zoo.protocols.protocol import Protocol
from omfa.zoo.reports.tables import read_entries, scores_table, summary_table

CLIPS = (2, 4, 4, 12)
"""Windows of each trial: one clip is six times as long as another."""


def made(
    wrong,
    *,
    subjects=8,
    protocol="within-subject",
    estimator="one",
    seed=0,
    weights=None,
    recipe="r",
):
    """A result whose windows are wrong with the chance ``wrong``, of all or of each subject."""
    rng = np.random.default_rng([seed, *bytes(weights or "", "ascii")])
    rows = [
        ("d", f"sub-{s:02}", "ses-1", "run-1", str(t), w, protocol, t % 2)
        for s in range(subjects)
        for t, n in enumerate(CLIPS)
        for w in range(n)
    ]
    names = ["dataset", "subject", "session", "run", "trial", "i_window_in_trial", "fold", "y_true"]
    table = pd.DataFrame(rows, columns=names)
    chance = np.repeat(np.broadcast_to(wrong, subjects), sum(CLIPS))
    flip = rng.random(len(table)) < chance
    table["y_pred"] = np.where(flip, 1 - table["y_true"], table["y_true"])
    table["y_majority"] = 0
    checkpoint = weights and {"name": f"c-{weights}", "weights": weights, "recipe": recipe}
    config = {
        "format": 1,
        "protocol": asdict(Protocol(protocol)),
        "estimator": estimator,
        "parameters": {"checkpoint": f"runs/{weights}"} if weights else {},
        "checkpoint": checkpoint,
        "seed": seed,
        "rule": "by hand",
        "classes": ["a", "b"],
        "pretraining": {"kind": "inductive" if weights else "none", "seen": []},
        "dataset": {"datasets": ["d"], "fingerprint": "f", "recipe": None, "windows": len(table)},
        "versions": {"omfa": "0", "code": "0"},
    }
    folds = table[names[:5]].drop_duplicates().assign(fold="fold", side="test")
    return Result(config, folds, table)


# ---- one decision per trial ---------------------------------------------------------------------


def predicted(*trials, truth=(0, 1)):
    """A result of one subject with the given windows in each trial, listed backwards."""
    result = made(0, subjects=1)
    rows = [
        ("d", "sub-00", "ses-1", "run-1", str(t), w, "fold", truth[t], y, 0)
        for t, own in enumerate(trials)
        for w, y in enumerate(own)
    ]
    table = pd.DataFrame(rows[::-1], columns=result.predictions.columns)
    return replace(result, predictions=table)


@pytest.mark.parametrize(
    ("windows", "decided"),
    [([1, 0, 1], 1), ([0, 1, 1, 0], 0), ([1, 0, 0, 1], 1), ([1], 1), ([0, 1] * 5 + [1], 1)],
)
def test_a_trial_is_decided_by_most_of_its_windows_and_else_by_the_earliest(windows, decided):
    trials = predicted(windows, [1, 1]).trials
    assert trials["y_pred"].tolist() == [decided, 1]
    assert trials["n_windows"].tolist() == [len(windows), 2]
    assert trials["y_true"].tolist() == [0, 1]


def test_a_long_clip_weighs_no_more_than_a_short_one():
    row = predicted([0] * 12, [0, 0], [1, 1], truth=(0, 1, 1)).subjects.iloc[0]
    assert (row["n_windows"], row["n_trials"]) == (16, 3)
    assert row["accuracy"] == pytest.approx(14 / 16)
    assert row["trial_accuracy"] == pytest.approx(2 / 3)
    assert row["trial_balanced_accuracy"] == pytest.approx(3 / 4)
    assert row["majority_trial_accuracy"] == pytest.approx(1 / 3)


def test_every_table_has_scores_per_trial_beside_those_per_window():
    result = made(0.2)
    mean = result.subjects["trial_balanced_accuracy"].mean()
    assert mean > result.subjects["balanced_accuracy"].mean()
    assert set(BOUNDS) == {*METRICS, *TRIAL_METRICS}
    assert result.summary().loc["balanced_accuracy", "per_trial"] == mean
    assert compare_table([result])["per_trial"].tolist() == [mean]
    assert f"per trial {mean:.3f}" in repr(result)


def test_a_trial_of_two_classes_counts_for_each():
    result = predicted([0, 0, 1], [1, 1])
    result.predictions.loc[result.predictions["y_pred"] == 1, "y_true"] = 1
    assert result.trials["y_true"].tolist() == [0, 1, 1]
    assert result.subjects["trial_accuracy"].tolist() == [1]


# ---- probabilities ------------------------------------------------------------------------------


def likely(result):
    """The result with probabilities: .9 for what is predicted, so that a tenth may be wrong."""
    y = result.predictions["y_pred"].to_numpy()
    table = result.predictions.assign(p_a=np.where(y == 0, 0.9, 0.1), p_b=np.where(y, 0.9, 0.1))
    return replace(result, predictions=table)


def test_probabilities_are_scored_by_subject_and_trial_and_travel_with_the_file(tmp_path):
    result = likely(predicted([0] * 9 + [1], [1, 1]))
    found = result.calibration()
    wrong, right = -np.log(0.1), -np.log(0.9)
    assert found.loc["log_loss", "mean"] == pytest.approx((11 * right + wrong) / 12)
    assert found.loc["brier", "pooled"] == pytest.approx((11 * 0.02 + 2 * 0.81) / 12)
    assert found.loc["calibration_error", "pooled"] == pytest.approx(abs(0.9 - 11 / 12))
    assert found.loc["auc", "per_trial"] == 1
    assert result.trials["p_a"].tolist() == pytest.approx([0.82, 0.1])
    # The decision is not the mean's: models without probabilities are decided by votes too.
    assert likely(predicted([0, 0, 1], [1])).trials["y_pred"].tolist() == [0, 1]
    read = Result.load(result.save(tmp_path / "r.zip"))
    assert (read.probabilities == result.probabilities).all()
    pd.testing.assert_frame_equal(read.calibration(), found)
    assert read.folds_digest == predicted([0] * 9 + [1], [1, 1]).folds_digest


def test_a_result_without_probabilities_has_no_scores_of_them():
    result = made(0.2)
    assert result.probabilities is None
    assert result.calibration().empty
    assert "log_loss" not in result.subjects


# ---- seeds --------------------------------------------------------------------------------------


def test_checkpoints_of_one_recipe_are_one_model_whose_interval_covers_their_seeds():
    spread = np.linspace(0.2, 0.4, 8)
    a, b, c = (
        made(spread + shift, weights=w) for w, shift in (("a", -0.15), ("b", 0), ("c", 0.15))
    )
    a2 = made(spread - 0.15, weights="a", seed=1)
    assert seeds_in_words([a, a2, b, c]) == "3 pre-training seeds, 2 fine-tuning seeds"
    assert seeds_in_words([a, a2]) == "one pre-training seed, 2 fine-tuning seeds"
    assert seeds_in_words([made(0.2), made(0.2, seed=1)]) == "2 seeds"
    # Each pre-training counts alike, however many fits there are from it.
    expected = (by_subject([a, a2]) + by_subject([b]) + by_subject([c])) / 3
    pd.testing.assert_frame_equal(by_subject([a, a2, b, c]), expected)
    one, three = (compare_table([rows]).iloc[0] for rows in (b, [a, a2, b, c]))
    assert (three["n_pretraining_seeds"], three["n_seeds"]) == (3, 2)
    assert three["high"] - three["low"] > 2 * (one["high"] - one["low"])


def test_a_checkpoint_is_described_by_its_seed_and_by_what_its_seeds_share(tmp_path):
    model = OMFA(n_outputs=2, sfreq=128.0, preset="tiny")
    saw = [{"dataset": "elsewhere", "subjects": ["sub-01"], "hours": 1.0}]

    def described(name, steps, seed):
        recipe = {
            "command": f"omfa-zoo pretrain --seed {seed} --name {name}",
            "settings": {"steps": steps, "seed": seed},
            "hold_out": [],
            "seed": seed,
        }
        card = Card(name, "tiny", "pretrained", 1, {"sfreq": 128.0}, saw, recipe)
        return describe_checkpoint(str(save_checkpoint(tmp_path / name, model, card)))

    one, seed, longer = described("one", 10, 0), described("two", 10, 1), described("three", 20, 0)
    assert (one["pretraining_seed"], seed["pretraining_seed"]) == (0, 1)
    assert one["recipe"] == seed["recipe"] != longer["recipe"]


def test_other_recipes_are_not_averaged():
    with pytest.raises(DataError, match="more than the seed of their pre-training"):
        compare_table([[made(0.2, weights="a"), made(0.2, weights="b", recipe="other")]])


def test_files_of_one_recipe_are_one_row_of_a_report(tmp_path):
    results = [made(0.3)]
    results += [made(0.2, weights=w, seed=seed) for w in "abc" for seed in (0, 1)]
    results += [made(0.2, weights="d", recipe="other")]
    for number, result in enumerate(results):
        result.save(tmp_path / f"{number}.zip")
    entries = read_entries([tmp_path])
    assert sorted(len(entry.results) for entry in entries) == [1, 1, 6]
    assert "one from c-a c-b c-c" in {entry.name for entry in entries}
    table = summary_table(entries, ["accuracy"]).set_index("row")
    row = table.loc["one from c-a c-b c-c"]
    assert row["seeds"] == "3 pre-training seeds, 2 fine-tuning seeds"
    assert table.loc["one from c-d", "seeds"] == "one pre-training seed, one fine-tuning seed"
    assert scores_table(entries)["per_trial"].notna().all()


# ---- comparisons --------------------------------------------------------------------------------


def test_p_is_corrected_over_the_comparisons_of_a_table():
    spread = np.linspace(0, 0.1, 8)
    first, *others = (
        made(wrong + spread, seed=k, estimator=str(k))
        for k, wrong in enumerate((0.1, 0.3, 0.2, 0.15))
    )
    table = compare_table([first, *others, made(0.1, protocol="cross-subject")], first)
    assert table["p"].isna().tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(table["p_holm"], holm(table["p"]))
    assert (table["p_holm"] >= table["p"])[1:4].all()
    test = compare(others[0], first)
    assert table.loc[1, "effect"] == test.effect < -0.9
    assert table.loc[1, "least_p"] == 2**-7
    assert table.loc[1, "detectable"] == test.detectable > 0
    per_trial = compare(others[0], first, "trial_accuracy")
    difference = others[0].subjects["trial_accuracy"] - first.subjects["trial_accuracy"]
    assert per_trial.difference == pytest.approx(difference.mean())


def test_the_inflation_of_a_leaky_run_is_tested_over_subjects():
    honest, leaky = made(0.4), made(0.1, protocol="leaky-window")
    far, other = made(0.3, protocol="cross-subject"), made(0.3, estimator="other")
    test = inflation(leaky, honest)
    gain = leaky.subjects["balanced_accuracy"] - honest.subjects["balanced_accuracy"]
    assert test.difference == pytest.approx(gain.mean())
    assert (test.n_subjects, test.p) == (8, pytest.approx(2**-7))
    table = compare_table([far, leaky, other, honest])
    # Of two honest twins the one that differs least: within the same people.
    assert table["inflation_over"].tolist() == ["", "within-subject", "", ""]
    assert table.loc[1, "inflation_difference"] == test.difference
    assert table["protocol"][1].startswith("leaky-window (LEAKY")
    assert "inflation_over" not in compare_table([honest, other])
    for twin in (other, leaky, made(0.4, weights="a")):
        with pytest.raises(DataError, match="not a leaky run and the same model"):
            inflation(leaky, twin)
    fewer = inflation(leaky, replace(honest, predictions=honest.predictions.iloc[sum(CLIPS) :]))
    assert fewer.n_subjects == 7
