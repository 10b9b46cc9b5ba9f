"""Intervals and tests over people: against scipy, hand computation and published figures."""

import numpy as np
import pytest
from scipy import stats

from omfa.zoo.protocols.comparisons import (
    detectable_difference,
    holm,
    least_p,
    least_p_in_words,
    mean_interval,
    paired_test,
)

# ---- intervals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 5, 10, 17, 40])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, n: rng.normal(0.65, 0.1, n), 0.65),
        (lambda rng, n: rng.beta(12, 0.8, n), 12 / 12.8),
    ],
    ids=["normal", "near 1"],
)
def test_the_interval_covers_the_mean_as_often_as_it_says(n, draw, mean):
    # A percentile bootstrap covers .73 of these with 3 people and .85 with 10.
    rng = np.random.default_rng(n)
    ends = np.array([mean_interval(draw(rng, n), bounds=(0, 1)) for _ in range(800)])
    low, high = ends.T
    assert 0.92 < np.mean((low < mean) & (mean < high)) < 0.98
    assert low.min() >= 0
    assert high.max() <= 1


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(0.6, 0.1, 9)
    expected = stats.t.interval(0.9, 8, values.mean(), stats.sem(values))
    assert mean_interval(values, level=0.9) == pytest.approx(expected)
    assert mean_interval([*values, np.nan], level=0.9) == pytest.approx(expected)
    # Two people of .8 and .9: mean .85, error .05, t of one degree 12.7062.
    shift = 12.7062 * 0.05 / (0.85 * 0.15)
    odds = 0.85 / 0.15 * np.exp([-shift, shift])
    low, high = mean_interval([0.8, 0.9], bounds=(0, 1))
    assert (low, high) == pytest.approx(odds / (1 + odds), abs=1e-5)
    # Of kappa, which begins at -1, it is the same on its own scale.
    assert mean_interval([0.6, 0.8], bounds=(-1, 1)) == pytest.approx((2 * low - 1, 2 * high - 1))


@pytest.mark.parametrize("values", [[0.5], [0.7, 0.7, 0.7], [np.nan, 0.4], []])
def test_of_one_subject_or_of_subjects_that_agree_there_is_no_interval(values):
    assert np.isnan(mean_interval(values)).all()


def test_the_interval_of_seeds_is_of_the_table_of_people_by_seeds():
    table = np.array([[0.6, 0.7, 0.5], [0.7, 0.9, 0.6], [0.5, 0.7, 0.5], [0.8, 0.8, 0.6]])
    n, k = table.shape
    grand = table.mean()
    people = k * sum((row.mean() - grand) ** 2 for row in table) / (n - 1)
    seeds = n * sum((column.mean() - grand) ** 2 for column in table.T) / (k - 1)
    total = ((table - grand) ** 2).sum()
    error = (total - people * (n - 1) - seeds * (k - 1)) / ((n - 1) * (k - 1))
    variance = (people + seeds - error) / (n * k)
    satterthwaite = people**2 / (n - 1) + seeds**2 / (k - 1) + error**2 / ((n - 1) * (k - 1))
    degrees = (people + seeds - error) ** 2 / satterthwaite
    expected = stats.t.interval(0.95, degrees, grand, np.sqrt(variance))
    assert mean_interval(table) == pytest.approx(expected)


def test_seeds_that_agree_add_nothing_and_seeds_that_differ_are_covered():
    people = np.random.default_rng(1).normal(0.6, 0.1, 8)
    assert mean_interval(np.stack([people] * 3, axis=1)) == pytest.approx(mean_interval(people))
    rng, hits = np.random.default_rng(2), np.zeros(2)
    for _ in range(500):
        table = 0.6 + rng.normal(0, 0.1, (40, 1)) + rng.normal(0, 0.03, (1, 3))
        table += rng.normal(0, 0.05, (40, 3))
        for i, values in enumerate((table, table.mean(axis=1))):
            low, high = mean_interval(values)
            hits[i] += low < 0.6 < high
    assert 0.91 < hits[0] / 500 < 0.98
    assert hits[1] / 500 < 0.88  # of people alone it is too narrow


# ---- the paired test ----------------------------------------------------------------------------


def test_the_paired_test_is_wilcoxons():
    rng = np.random.default_rng(0)
    second = rng.uniform(0.4, 0.9, 20)
    first = second + rng.normal(0.05, 0.02, 20)
    better = paired_test(first, second, "accuracy")
    assert better.n_subjects == 20
    assert better.p == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert better.interval == pytest.approx(
        stats.ttest_rel(first, second).confidence_interval(0.95)
    )
    assert paired_test(second, first, "accuracy").p == pytest.approx(better.p)
    assert paired_test(second, rng.permutation(second), "accuracy").p > 0.05
    same = paired_test(second, second, "accuracy")
    assert (same.p, same.difference, same.effect) == (1, 0, 0)


def test_the_paired_test_of_seeds_covers_those_of_both_sides():
    rng = np.random.default_rng(3)
    people = rng.normal(0.6, 0.1, (12, 1))
    one = people + rng.normal(0.05, 0.02, (12, 1)) + np.array([[-0.04, 0.0, 0.04]])
    other = people + rng.normal(0, 0.02, (12, 1))
    alone = paired_test(one.mean(axis=1), other, "accuracy")
    both = paired_test(one, other, "accuracy")
    assert (both.p, both.effect) == (alone.p, alone.effect)
    assert np.diff(both.interval) > 1.5 * np.diff(alone.interval)
    assert paired_test(other, one, "accuracy").interval == pytest.approx(
        (-both.interval[1], -both.interval[0])
    )


def test_ranks_of_differences_that_are_equal_but_for_rounding_are_shared():
    first = np.array([0.1 + 0.2, 0.7, 0.9, 0.6, 0.8, 0.5, 0.4])
    second = np.array([0.3, 0.6, 0.8, 0.7, 0.6, 0.6, 0.6])
    test = paired_test(first, second, "accuracy")
    # 0, then four of .1 (ranks 2 to 5) and two of .2: two and two, one and one.
    assert test.effect == pytest.approx(0)
    assert test.p == 1


def test_there_is_no_p_of_fewer_than_six_people():
    five = np.arange(1, 6) / 10
    test = paired_test(five, np.zeros(5), "accuracy")
    assert np.isnan([test.p, test.detectable]).all()
    assert test.least_p == 0.0625
    assert test.effect == 1
    assert least_p_in_words(5) == "no p is given: with 5 people it could not be below 0.062"
    assert least_p_in_words(6) == "with 6 people no p can be below 0.031"


@pytest.mark.parametrize("n", [6, 9, 17])
def test_the_least_p_is_that_of_differences_of_one_sign(n):
    differences = np.arange(1, n + 1) / 100
    assert least_p(n) == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert paired_test(differences, np.zeros(n), "accuracy").p == pytest.approx(least_p(n))


def test_the_effect_is_the_rank_biserial_correlation():
    # Ranks 3, 1, 2, 4: 9 for the first and 1 against it, of 10.
    test = paired_test([0.3, 0.0, 0.2, 0.4], [0.0, 0.1, 0.0, 0.0], "accuracy")
    assert test.effect == pytest.approx(0.8)


def test_what_could_have_been_shown():
    # G*Power 3.1's example of two dependent means: dz .5, 34 people, power .8077775.
    assert detectable_difference(1.0, 34, power=0.8077775) == pytest.approx(0.5, abs=1e-5)
    rng = np.random.default_rng(0)
    sd = detectable_difference(0.13, 17)
    found = stats.ttest_1samp(rng.normal(sd, 0.13, (4000, 17)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


# ---- several comparisons ------------------------------------------------------------------------


def test_holms_correction():
    # R: p.adjust(c(.01, .04, .03, .005), "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    corrected = holm([np.nan, 0.01, np.nan, 0.02])
    assert corrected[[1, 3]] == pytest.approx([0.02, 0.02])
    assert np.isnan(corrected[[0, 2]]).all()
    assert len(holm([])) == 0
