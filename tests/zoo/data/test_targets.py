"""Rules with a middle band: what is on an edge is left out, whatever binary makes of decimals."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from omfa.zoo.data.rules import Rating, parse_rule, rule_text
from omfa.zoo.data.targets import make_labels

RULES = [(low, high) for low in range(10, 46) for high in range(55, 91)]
"""Edges in tenths: one below and one above the middle of the scale from 1 to 9."""


def test_every_rule_with_one_decimal_leaves_out_what_is_on_its_edges():
    assert len(RULES) == 1296
    ratings = pd.DataFrame({"dataset": "d", "subject": "s"}, index=range(5))
    for low, high in RULES:
        # Whole tenths, each divided by ten: the nearest float64 to the decimal, as in a file.
        ratings["r"] = np.array([low - 1, low, low + 1, high, high + 1]) / 10
        codes = make_labels(ratings, f"r<{low / 10}|>{high / 10}").codes
        assert codes.tolist() == [0, -1, -1, -1, 1], (low, high)


@pytest.mark.parametrize(("low", "high"), [(10, 90), (41, 56), (49, 51), (5, 5), (23, 87)])
def test_a_rule_keeps_the_edges_that_it_was_given(low, high):
    rating = parse_rule(f"valence<{low / 10}|>{high / 10}")
    assert rating.edges == (low / 10, high / 10)
    assert parse_rule(rule_text(rating)) == rating
    assert Fraction(str(rating.threshold)) == Fraction(low + high, 20)
    assert rating == Rating.between("valence", low / 10, high / 10)


def test_a_threshold_is_compared_in_the_ratings_own_precision():
    ratings = pd.DataFrame({"dataset": "d", "subject": "s", "r": np.float32([4.1, 4.2, 4.0])})
    assert make_labels(ratings, "r>=4.1").codes.tolist() == [1, 1, 0]
    assert make_labels(ratings, "r>4.1").codes.tolist() == [0, 1, 0]
    assert make_labels(ratings, "r<4.1|>4.1").codes.tolist() == [-1, 1, 0]
