import pytest

from omfa.pipeline.words import duration, nearest, size, some


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.1 s"), (0.44, "0.4 s"), (12.3, "12 s"), (89, "89 s"), (96, "1.6 min"), (7200, "2.0 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes():
    assert [size(n) for n in (0, 12_345_678, 1.25e9)] == ["0.0 MB", "12.3 MB", "1.25 GB"]


def test_long_lists_end_in_a_number():
    assert some("abc") == "a, b, c"
    assert some(range(7)) == "0, 1, 2 and 4 more"
    assert some("abc", most=1) == "a and 2 more"
    assert some([]) == ""


def test_near_names_are_named():
    assert nearest("valance", ["valence", "arousal"]) == " (nearest: valence)"
    assert nearest("t03", ["T3", "T5"], {"T3": "T7", "T5": "P7"}) == " (nearest: T7)"
    assert nearest("x", ["valence"]) == ""
