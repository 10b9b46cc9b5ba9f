"""Trials that are filtered by themselves: nothing of the neighbours, all else as before."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from omfa.pipeline import DataError, Key, Recording
from omfa.pipeline.align import align, recipe_for
from omfa.pipeline.preprocess import Preprocessing, preprocess

CHANNELS = ["F3", "Cz", "O1"]
RATES = st.sampled_from([125.0, 128.0, 160.0, 200.0, 250.0, 512.0])


class Source:
    """A reader for ``recipe_for``, which asks it for its name alone."""

    name = "made"

    def discover(self, root):
        return []

    def read(self, key):
        raise AssertionError


def recording_of(spans, n_times, sfreq, seed=0):
    """Make a continuous recording; spans are (onset, length, baseline onset, its length)."""
    rng = np.random.default_rng(seed)
    signal = np.cumsum(rng.standard_normal((len(CHANNELS), n_times)), axis=1)
    trials = pd.DataFrame(spans, columns=["onset", "length", "baseline_onset", "baseline_length"])
    trials = trials.assign(segment=0, stimulus="clip")
    segments = [signal.astype(np.float32)]
    return Recording(Key("1", root="made"), CHANNELS, sfreq, segments, trials)


def stored(recording, how):
    return align(recording, recipe_for(Source(), preprocessing=how))


@example(sfreq=125.0, to=200.0, steps=[(1, 1, 66), (0, 0, 60)], seed=0)
@given(
    sfreq=RATES,
    to=st.none() | RATES,
    steps=st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 60), st.integers(60, 700)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12)
def test_no_sample_outside_a_trial_changes_one_inside(sfreq, to, steps, seed):
    spans, at = [], 0
    for gap, baseline, length in steps:
        spans.append((at + gap + baseline, length, at + gap, baseline))
        at += gap + baseline + length
    recording = recording_of(spans, at + 50, sfreq, seed)
    how = Preprocessing(sfreq=to, filter_within="trials")
    before, free = stored(recording, how), 0
    for i, (onset, length, baseline_onset, _) in enumerate(spans):
        own = np.arange(recording.n_times)
        own = (own >= baseline_onset) & (own < onset + length)
        changed = recording.segments[0].copy()
        rng = np.random.default_rng(seed + i)
        changed[:, ~own] += 50 * rng.standard_normal(changed[:, ~own].shape)
        after = stored(replace(recording, segments=[changed]), how)
        start, n = (int(before.trials[name].iloc[i]) for name in ("onset", "length"))
        end = start + n
        if before.trials["baseline_length"].iloc[i]:  # its end and the onset are rounded apart
            start = int(before.trials["baseline_onset"].iloc[i])
        # A sample that two trials share is of the first, in whose time it lies.
        start, free = max(start, free), end
        assert_array_equal(before.signal[:, start:end], after.signal[:, start:end])


@pytest.mark.parametrize("to", [None, 128.0, 100.0])
def test_a_trial_is_what_it_is_as_a_recording_of_its_own(to):
    sfreq, onset, length = 200.0, 1000, 1600  # onset on the grid of 128 and of 100 Hz
    recording = recording_of([(100, 500, 0, 0), (onset, length, 0, 0)], 4000, sfreq)
    how = Preprocessing(sfreq=to, filter_within="trials")
    whole = stored(recording, how)
    start, n = whole.trials.loc[1, ["onset", "length"]]
    cut = recording.segments[0][:, onset : onset + length]
    assert_allclose(whole.signal[:, start : start + n], preprocess(cut, sfreq, how), atol=1e-3)


@pytest.mark.parametrize("onset", [1000, 1003, 1017])
def test_a_trial_stays_where_it_was_on_the_sampling_grid(onset):
    recording = recording_of([(onset, 4000, 0, 0)], 6000, 200.0)
    apart = stored(recording, Preprocessing(filter_within="trials"))
    whole = stored(recording, Preprocessing())
    start, n = whole.trials.loc[0, ["onset", "length"]]
    # Beyond half a kernel from its ends a trial hears nothing but itself either way.
    inside = slice(start + 430, start + n - 430)
    assert_allclose(apart.signal[:, inside], whole.signal[:, inside], atol=2e-3)
    assert_array_equal(apart.signal[:, : start - 1], whole.signal[:, : start - 1])
    assert np.abs(apart.signal[:, start : start + n] - whole.signal[:, start : start + n]).max() > 1


def test_a_baseline_that_touches_is_filtered_with_its_trial():
    how = Preprocessing(filter_within="trials")
    touching = stored(recording_of([(900, 600, 300, 600)], 2000, 128.0), how)
    one = stored(recording_of([(300, 1200, 0, 0)], 2000, 128.0), how)
    assert_array_equal(touching.signal, one.signal)
    apart = stored(recording_of([(900, 600, 300, 500)], 2000, 128.0), how)
    two = stored(recording_of([(900, 600, 0, 0), (300, 500, 0, 0)], 2000, 128.0), how)
    assert_array_equal(apart.signal, two.signal)


def test_trials_that_overlap_are_refused():
    recording = recording_of([(100, 600, 0, 0), (650, 400, 0, 0)], 2000, 128.0)
    stored(recording, Preprocessing())
    with pytest.raises(DataError, match=r"sample 650 on begins before sample 700.*segments"):
        stored(recording, Preprocessing(filter_within="trials"))


def test_only_segments_and_trials_bound_a_filter():
    with pytest.raises(DataError, match="'segments' or 'trials'"):
        Preprocessing(filter_within="windows")
