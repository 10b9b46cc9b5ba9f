"""The test over tasks and people, and what a comparison could have shown."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omfa.zoo.benchmark.significance import effects, overall_test

PAIRS = (("pre-trained", "random"), ("fine-tuned", "scratch"))


def table(**tasks):
    rows = [(task, who, value) for task, own in tasks.items() for who, value in own.items()]
    return pd.DataFrame(rows, columns=["task", "person", "effect"])


def test_an_effect_is_the_mean_of_the_pairs_as_a_share_of_what_is_above_chance():
    scores = [("which", "a", row, score, 0.25) for row, score in
              zip(("pre-trained", "random", "fine-tuned", "scratch"), (0.55, 0.4, 0.7, 0.55),
                  strict=True)]  # fmt: skip
    columns = ["task", "person", "row", "score", "chance"]
    found = effects(pd.DataFrame(scores, columns=columns), PAIRS)
    assert found["effect"].tolist() == pytest.approx([0.2])  # (.15 + .15) / 2 / .75


def test_all_signs_of_few_people_are_tried_and_a_persons_effects_are_flipped_together():
    fists = {"p1": 0.3, "p2": 0.1, "p3": -0.05, "p4": 0.2}
    sides = {"p1": 0.1, "p2": -0.1, "p3": 0.05, "p4": 0.15}
    flicker = {"q1": 0.4, "q2": 0.2}
    found = overall_test(table(fists=fists, sides=sides, flicker=flicker))

    def statistic(sign):
        means = [
            np.mean([sign[who] * value for who, value in task.items()])
            for task in (fists, sides, flicker)
        ]
        return np.mean(means)

    people = [*fists, *flicker]
    real = statistic(dict.fromkeys(people, 1))
    every = [
        statistic(dict(zip(people, signs, strict=True)))
        for signs in itertools.product((1, -1), repeat=6)
    ]
    assert found.effect == pytest.approx(real) == pytest.approx((0.1375 + 0.05 + 0.3) / 3)
    assert found.p == pytest.approx(np.mean([abs(one) >= abs(real) - 1e-12 for one in every]))
    assert found.n_people == 6
    assert found.least_p == 2 / 64
    assert found.tasks == pytest.approx({"fists": 0.1375, "sides": 0.05, "flicker": 0.3})


def test_each_task_weighs_the_same_however_many_people_it_has():
    one = overall_test(table(large={f"p{k}": 0.1 for k in range(9)}, small={"q": 0.3}))
    assert one.effect == pytest.approx(0.2)


def test_random_signs_of_many_people_agree_with_scipy():
    values = np.random.default_rng(3).normal(0.05, 0.15, 30)
    found = overall_test(table(one={f"p{k:02d}": v for k, v in enumerate(values)}))
    golden = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=50_000, rng=1
    ).pvalue
    assert found.p == pytest.approx(golden, abs=0.006)
    assert found.least_p == 1e-5


def test_without_an_effect_p_is_below_a_twentieth_in_a_twentieth_of_cases():
    rng = np.random.default_rng(0)
    low = 0
    for _ in range(300):
        both = rng.normal(0, 0.2, (2, 10))  # a person's two effects are alike
        tasks = {name: dict(zip("abcdefghij", own + both[0], strict=True))
                 for name, own in zip(("x", "y"), both, strict=True)}  # fmt: skip
        low += overall_test(table(**tasks)).p <= 0.05
    assert 4 <= low <= 29  # of 15; beyond these once in 3,000 sets of 300
