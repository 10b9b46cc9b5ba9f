"""The signal path: against MNE, and by its properties."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import (
    Preprocessing,
    kernel,
    n_resampled,
    preprocess,
    resample_spans,
)

REAL = Path(__file__).parents[2].parent / "shared" / "real-eeg"
RATES = st.sampled_from([100.0, 125.0, 127.5, 128.0, 160.0, 200.0, 250.0, 256.0, 500.0, 512.0])
SEEDS = st.integers(0, 2**32 - 1)
EMOTIV = UCS.canonicalize(re.findall(r"\w+", "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"))


def eeg(n_chans, n_times, seed=0):
    """Simulate brown noise with a floor of white noise, about 30 uV."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((n_chans, n_times)), axis=1)
    return 0.5 * (walk - walk.mean(axis=1, keepdims=True)) + rng.standard_normal((n_chans, n_times))


def relative(found, expected):
    """Return the RMS error over the RMS expected."""
    return np.sqrt(np.mean((found - expected) ** 2) / np.mean(np.square(expected)))


def by_mne(data, sfreq, to, **resampling):
    """Filter 0.5-45 Hz and resample by MNE in float64, MNE's own design of the default path."""
    raw = mne.io.RawArray(data * 1e-6, mne.create_info(len(data), sfreq, "eeg"), verbose="ERROR")
    # "symmetric" is the mirror image; MNE's own choice of continuation shows at the ends alone.
    raw.filter(0.5, 45.0, h_trans_bandwidth=4.0, pad="symmetric", verbose="ERROR")
    if to != sfreq:
        raw.resample(to, pad="symmetric", verbose="ERROR", **resampling)
    return raw.get_data() * 1e6


# --- against MNE --------------------------------------------------------------------------------


def assert_agrees_with_mne(data, sfreq, to=128.0):
    # MNE stretches time a little unless lengths are a whole number of both periods.
    down = Fraction(to / sfreq).limit_denominator(1000).denominator
    data = data[:, : data.shape[1] // down * down]
    found = preprocess(data, sfreq, Preprocessing(sfreq=to))
    exact = by_mne(data, sfreq, to, npad=down * (4000 // down))
    polyphase = by_mne(data, sfreq, to, method="polyphase")
    n = found.shape[1]
    end = int(4 * to)
    assert n <= polyphase.shape[1] == exact.shape[1] <= n + 1
    for other, inside, at_ends in ((exact, 1e-4, 1e-3), (polyphase, 1e-3, 1e-2)):
        assert relative(found[:, end:-end], other[:, end : n - end]) < inside
        assert relative(found[:, :end], other[:, :end]) < at_ends
        assert relative(found[:, -end:], other[:, n - end : n]) < at_ends


@pytest.mark.parametrize("sfreq", [125.0, 128.0, 160.0, 200.0, 512.0, 1000.0])
def test_simulated_eeg_comes_out_as_from_mne(sfreq):
    assert_agrees_with_mne(eeg(4, int(sfreq * 30) + 3), sfreq)


@pytest.mark.parametrize(
    "name", ["eegmmidb/S001/S001R03.edf", "eegmmidb/S042/S042R07.edf", "eegmat"]
)
def test_real_eeg_comes_out_as_from_mne(name):
    path = REAL / name
    if not path.exists():
        pytest.skip("no real EEG beside the repository")
    if path.is_dir():
        path = sorted(path.rglob("*.edf"))[0]
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    picks = [name for name in raw.ch_names if name in UCS][::6]
    assert_agrees_with_mne(raw.get_data(picks) * 1e6, raw.info["sfreq"])


def test_a_notch_comes_out_as_from_mne():
    data = eeg(3, 128 * 40)
    expected = mne.filter.notch_filter(data, 128.0, [50.0], pad="symmetric", verbose="ERROR")
    found = preprocess(data, 128, Preprocessing(sfreq=None, band=None, notch=(50,)))
    assert relative(found, expected) < 1e-5


def test_interpolation_is_mnes():
    data, bad = eeg(14, 128 * 4), np.isin(EMOTIV, ["F3", "O2"])
    info = mne.create_info(EMOTIV, 128.0, "eeg")
    info.set_montage(
        mne.channels.make_dig_montage(
            dict(zip(EMOTIV, UCS.positions(EMOTIV), strict=True)), coord_frame="head"
        )
    )
    info["bads"] = ["F3", "O2"]
    raw = mne.io.RawArray(data, info, verbose="ERROR").interpolate_bads(verbose="ERROR")
    found = preprocess(
        data,
        128,
        Preprocessing(sfreq=None, band=None, interpolate=True),
        positions=UCS.positions(EMOTIV),
        bad=bad,
    )
    assert relative(found[bad], raw.get_data()[bad]) < 1e-5
    assert_array_equal(found[~bad], data[~bad].astype(np.float32))


# --- the filter ---------------------------------------------------------------------------------


def test_the_kernel_has_the_transition_bands_that_are_documented():
    taps = kernel(Preprocessing(sfreq=128, transition=None, notch=(30,)), 200)
    at, response = signal.freqz(taps, worN=1 << 16, fs=200)
    size = np.abs(response)
    assert_allclose(taps, taps[::-1], atol=1e-15)
    assert size[(at > 0.5) & (at < 29) | (at > 31) & (at < 45)] == pytest.approx(1, abs=0.01)
    assert size[at < 0.01].max() < 10 ** (-50 / 20)
    assert size[(at > 29.93) & (at < 30.07)].max() < 10 ** (-48 / 20)
    assert size[at > 45 + 45 / 4].max() < 10 ** (-49 / 20)


def gain(frequency, sfreq, how):
    """Measure what a path leaves of a tone, away from the ends."""
    at = np.arange(int(20 * sfreq)) / sfreq
    tone = np.exp(2j * np.pi * frequency * at)
    parts = preprocess(np.stack([tone.real, tone.imag]), sfreq, how)
    middle = slice(parts.shape[1] * 2 // 5, parts.shape[1] * 3 // 5)
    return float(np.sqrt(np.mean(np.sum(parts[:, middle] ** 2, axis=0))))


# In dB, of a Hamming-windowed sinc between 45 and 49 Hz (or 45 and 56.25) less one between 0 and
# 0.5 Hz at 200 Hz, summed term by term in float64 by the definition of both, without omfa or SciPy.
GOLDEN = {
    "transition": {0.25: -6.1, 10: 0.0, 45: 0.0, 46: -1.2, 47: -6.0, 48: -18.0, 49: -50.6},
    "mne": {0.25: -6.1, 10: 0.0, 45: 0.0, 47: -0.6, 50: -4.5, 55: -30.1},
}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Preprocessing(), GOLDEN["transition"]),
        (Preprocessing(transition=None), GOLDEN["mne"]),
        (Preprocessing(sfreq=None), GOLDEN["transition"]),
    ],
)
def test_the_default_path_has_the_gains_that_are_documented(how, expected):
    found = {at: 20 * np.log10(gain(at, 200.0, how)) for at in expected}
    assert found == pytest.approx(expected, abs=0.1)


def test_the_default_kernel_is_scipys_of_the_documented_edges():
    sfreq, (low, high) = 250.0, (0.5, 45.0)
    lengths = [int(np.rint(3.3 * sfreq / width)) // 2 * 2 + 1 for width in (0.5, 4.0)]
    wide, narrow = (
        signal.firwin(n, at, window="hamming", fs=sfreq)
        for n, at in zip(lengths, (low / 2, high + 2), strict=True)
    )
    expected = -wide
    half = len(narrow) // 2
    expected[len(wide) // 2 - half : len(wide) // 2 + half + 1] += narrow
    assert_allclose(kernel(Preprocessing(), sfreq), expected, atol=1e-12)


@given(sfreq=RATES.filter(lambda sfreq: sfreq > 100), to=st.sampled_from([128.0, 200.0, None]))
@settings(max_examples=12)
def test_the_default_path_takes_the_mains_out(sfreq, to):
    for mains in (50.0, 60.0):
        assert gain(mains, sfreq, Preprocessing(sfreq=to)) < 10 ** (-55 / 20)
    assert gain(50.0, sfreq, Preprocessing(sfreq=to, transition=None)) > 0.5


@given(sfreq=RATES, to=RATES, frequency=st.floats(1, 44), phase=st.floats(0, 6.3))
@settings(max_examples=40)
def test_a_tone_within_the_band_keeps_amplitude_and_phase(sfreq, to, frequency, phase):
    tone = np.sin(2 * np.pi * frequency * np.arange(int(12 * sfreq)) / sfreq + phase)
    found = preprocess(tone[None], sfreq, Preprocessing(sfreq=to))[0]
    at = np.arange(len(found)) / to
    inside = (at > 4) & (at < 8)
    expected = np.sin(2 * np.pi * frequency * at + phase)
    assert_allclose(found[inside], expected[inside], atol=0.01)


@given(
    sfreq=st.sampled_from([160.0, 200.0, 250.0, 512.0, 1000.0]),
    band=st.sampled_from([(0.5, 45.0), (0.5, None), None]),
    where=st.floats(0.01, 0.99),
)
@settings(max_examples=30)
def test_a_tone_above_the_new_nyquist_frequency_vanishes(sfreq, band, where):
    frequency = 64 + where * (sfreq / 2 - 64)
    tone = np.sin(2 * np.pi * frequency * np.arange(int(12 * sfreq)) / sfreq)
    found = preprocess(tone[None], sfreq, Preprocessing(sfreq=128, band=band))[0]
    assert np.abs(found[4 * 128 : 8 * 128]).max() < 1e-3  # 60 dB


@given(sfreq=RATES, to=st.none() | RATES, seed=SEEDS, factor=st.floats(-100, 100))
@settings(max_examples=30)
def test_it_is_linear(sfreq, to, seed, factor):
    a, b = eeg(2, 700, seed), eeg(2, 700, seed ^ 1)
    how = Preprocessing(sfreq=to, reference="average")
    parts = preprocess(a, sfreq, how) + factor * preprocess(b, sfreq, how)
    whole = preprocess(a + factor * b, sfreq, how)
    assert_allclose(whole, parts, atol=1e-5 * np.abs(parts).max() + 1e-5 * abs(factor))


@given(sfreq=RATES, n=st.integers(1, 3000), seed=SEEDS)
@settings(max_examples=30)
def test_it_has_no_direction_in_time(sfreq, n, seed):
    data = eeg(2, n, seed)
    how = Preprocessing(sfreq=None, notch=(30,))
    forwards, backwards = preprocess(data, sfreq, how), preprocess(data[:, ::-1], sfreq, how)
    assert_allclose(forwards[:, ::-1], backwards, atol=1e-5 * np.abs(data).max())


@given(order=st.permutations(range(11)), to=st.none() | RATES)
@settings(max_examples=20)
def test_channels_do_not_know_of_one_another(order, to):
    data = eeg(11, 1000)
    how = Preprocessing(sfreq=to)
    together = preprocess(data, 200, how)
    assert_allclose(preprocess(data[order], 200, how), together[order], atol=1e-4)
    assert_allclose(preprocess(data[3:4], 200, how), together[3:4], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("band", [(0.5, 45), (None, 45)])
def test_float32_is_enough_under_an_offset_of_millivolts(dtype, band):
    data = (eeg(3, 128 * 60) + 4200).astype(dtype)
    how = Preprocessing(sfreq=128, band=band)
    taps = kernel(how, 128)
    padded = np.pad(data.astype(float), ((0, 0), (len(taps) // 2,) * 2), mode="symmetric")
    expected = np.array([np.convolve(row, taps, mode="valid") for row in padded])
    offset = 4200 if band[0] is None else 0
    found = preprocess(data, 128, how)
    assert found.dtype == np.float32
    assert relative(found.astype(float) - offset, expected - offset) < 1e-4


def test_filtering_windows_alone_would_change_the_signal():
    data, sfreq = eeg(8, 128 * 120), 128
    how = Preprocessing(sfreq=None)
    whole = preprocess(data, sfreq, how)

    def alone(seconds):
        n, start = seconds * sfreq, 20 * sfreq
        return relative(
            preprocess(data[:, start : start + n], sfreq, how), whole[:, start : start + n]
        )

    assert alone(1) > 0.3 > 0.1 > alone(60)


def test_an_end_disturbs_half_a_kernel_and_no_more():
    data, sfreq = eeg(4, 128 * 60), 128
    how = Preprocessing(sfreq=None)
    half = len(kernel(how, sfreq)) // 2
    assert half / sfreq == pytest.approx(3.3, abs=0.01)
    whole, cut = preprocess(data, sfreq, how), preprocess(data[:, 2000:], sfreq, how)
    assert_allclose(cut[:, half:], whole[:, 2000 + half :], atol=1e-3)


# --- time ---------------------------------------------------------------------------------------


@given(
    sfreq=RATES,
    to=RATES,
    onset=st.integers(0, 10**8),
    length=st.integers(1, 10**6),
    after=st.integers(0, 10**4),
)
def test_a_trial_of_whole_samples_has_the_length_of_its_duration(sfreq, to, onset, length, after):
    n_times = n_resampled(onset + length + after, sfreq, to)
    (start,), (n,) = resample_spans([onset / sfreq], [length / sfreq], to, n_times=n_times)
    exact = onset * Fraction(to) / Fraction(sfreq)
    assert start == -(-(exact - NEAR) // 1) or (start == exact // 1 and start + n == n_times)
    assert n == (length * Fraction(to) / Fraction(sfreq) + Fraction(1, 2) + NEAR) // 1


NEAR = Fraction(1, 32)
"""Of a sample: times as files keep them may miss a sample by as much."""

SECONDS = st.integers(0, 10**6).map(lambda ms: ms / 1000) | st.floats(0, 1000)


@given(
    to=RATES,
    steps=st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=20),
    lost=st.integers(0, 3000),
)
def test_trials_of_any_seconds_have_their_length_unless_the_recording_ends_before(to, steps, lost):
    gaps, durations = np.array(steps).T
    onset = np.cumsum(gaps + durations) - durations
    whole = int(np.ceil((onset + durations).max() * to - 1e-6))
    for n_times in (whole, max(whole - lost, 1)):
        start, n = resample_spans(onset, durations, to, n_times=n_times)
        full = np.array([round(float(seconds) * to) for seconds in durations])
        fits = np.floor(onset * to + float(NEAR)) + full <= n_times
        assert (n[fits] >= full[fits]).all()
        assert (n <= durations * to + 0.5 + float(NEAR)).all()
        assert (start + n <= n_times)[n > 0].all()
        assert (np.abs(start - onset * to) < 1 + 1e-5).all()
        # Trials that touch share a sample at most, and only where their lengths were rounded up.
        there = durations > 0
        assert ((start + n)[there][:-1] - start[there][1:] <= 1).all()


@given(
    rate=st.sampled_from([100, 120, 160, 200, 250, 256, 300, 500, 512, 1000, 2048]),
    to=st.sampled_from([64, 100, 125, 128, 200, 250]),
    seconds=st.sampled_from([0.5, 1, 1.5, 2, 3.5, 4, 10]),
    onset=st.integers(0, 10**6),
)
def test_a_trial_as_long_as_the_window_gives_one(rate, to, seconds, onset):
    n_times = n_resampled(onset + round(seconds * rate) + rate, rate, to)
    _, (n,) = resample_spans([onset / rate], [seconds], to, n_times=n_times)
    assert n == int(seconds * to + 0.5)


@given(n=st.integers(1, 10**9), sfreq=RATES, to=RATES)
def test_the_new_length_covers_the_old_time(n, sfreq, to):
    m = n_resampled(n, sfreq, to)
    assert (m - 1) / Fraction(to) < n / Fraction(sfreq) <= m / Fraction(to)


def test_spans_are_taken_together_and_an_absent_baseline_stays_absent():
    onset, duration = np.array([0, 200, 300]) / 200, np.array([200, 0, 47001]) / 200
    start, n = resample_spans(onset, duration, 128, n_times=30273)
    assert_array_equal(start, [0, 128, 192])
    assert_array_equal(n, [128, 0, 30081])
    assert n_resampled(47001, 200, 128) == 30081


@given(n=st.integers(1, 40), to=st.none() | RATES)
@settings(max_examples=30)
def test_a_segment_may_be_shorter_than_the_filter(n, to):
    flat = preprocess(np.full((2, n), 7.0), 200, Preprocessing(sfreq=to, band=None))
    assert flat.shape == (2, n_resampled(n, 200, to))
    assert_allclose(flat, 7, rtol=1e-5)
    assert np.isfinite(preprocess(eeg(2, n), 200, Preprocessing(sfreq=to))).all()


def test_a_rate_that_is_no_neat_ratio_keeps_time():
    sfreq = 499.907
    tone = np.sin(2 * np.pi * 10 * np.arange(int(60 * sfreq)) / sfreq)
    found = preprocess(tone[None], sfreq, Preprocessing())[0]
    at = np.arange(len(found)) / 128
    inside = (at > 4) & (at < at[-1] - 4)
    assert_allclose(found[inside], np.sin(2 * np.pi * 10 * at[inside]), atol=0.01)


# --- missing samples ----------------------------------------------------------------------------


@given(
    sfreq=RATES,
    to=st.none() | RATES,
    gaps=st.lists(st.tuples(st.integers(0, 1499), st.integers(1, 60)), min_size=1, max_size=4),
)
@settings(max_examples=20)
def test_missing_samples_stay_missing_and_nothing_else_does(sfreq, to, gaps):
    data = eeg(3, 1500)
    for onset, length in gaps:
        data[1, onset : onset + length] = np.nan
    found = preprocess(data, sfreq, Preprocessing(sfreq=to))
    missing = np.flatnonzero(np.isnan(data[1])) / Fraction(sfreq)
    reach = max(1 / Fraction(sfreq), 1 / Fraction(to or sfreq))
    expected = [
        bool(np.any(np.abs(missing - j / Fraction(to or sfreq)) < reach))
        for j in range(0, found.shape[1], 7)
    ]
    assert_array_equal(np.isnan(found[1, ::7]), expected)
    assert np.isfinite(found[[0, 2]]).all()


def test_gaps_are_bridged_for_the_filter_only():
    data = eeg(2, 128 * 60).astype(np.float32)
    gappy = data.copy()
    gappy[0, 3000:3004] = [np.nan, np.inf, -np.inf, np.nan]
    gappy[1] = np.nan
    before = gappy.copy()
    how = Preprocessing(sfreq=None)
    found = preprocess(gappy, 128, how)
    assert_array_equal(gappy, before)
    assert_array_equal(np.flatnonzero(np.isnan(found[0])), np.arange(3000, 3004))
    assert np.isnan(found[1]).all()
    kept = np.isfinite(found[0])
    assert relative(found[0, kept], preprocess(data, 128, how)[0, kept]) < 0.02


# --- reference ----------------------------------------------------------------------------------


def test_the_average_is_of_good_channels_that_are_present():
    data = eeg(5, 600).astype(np.float32)
    data[1] += 1e4
    data[2, 100:200] = np.nan
    data[3] = np.nan
    found = preprocess(
        data,
        128,
        Preprocessing(sfreq=None, band=None, reference="average"),
        bad=np.array([False, True, False, False, False]),
    )
    expected = data - np.where(
        np.isnan(data[2]), (data[0] + data[4]) / 2, (data[0] + data[2] + data[4]) / 3
    )
    assert_allclose(found, expected, atol=2e-3)
    assert np.isnan(found[3]).all()


def test_a_reference_may_be_named_in_any_spelling():
    data = eeg(14, 600).astype(np.float32)
    how = Preprocessing(sfreq=None, band=None, reference=("o1", "EEG T7-Ref"))
    found = preprocess(data, 128, how, channels=EMOTIV)
    expected = data - (data[EMOTIV.index("O1")] + data[EMOTIV.index("T7")]) / 2
    assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(DataError, match=r"no channel Cz.*Choose among AF3"):
        preprocess(data, 128, Preprocessing(reference="Cz"), channels=EMOTIV)
    with pytest.raises(DataError, match="every channel of the reference is bad"):
        preprocess(data, 128, how, channels=EMOTIV, bad=np.isin(EMOTIV, ["O1", "T7"]))


def test_interpolation_needs_positions_and_good_channels():
    data, bad = eeg(14, 300), np.arange(14) < 11
    how = Preprocessing(interpolate=True)
    with pytest.raises(DataError, match="positions are not known"):
        preprocess(data, 128, how, bad=bad)
    with pytest.raises(DataError, match="11 of 14 channels are bad"):
        preprocess(data, 128, how, positions=UCS.positions(EMOTIV), bad=bad)


# --- settings -----------------------------------------------------------------------------------


@given(
    sfreq=st.none() | st.integers(100, 500) | st.floats(100, 500),
    band=st.none() | st.tuples(st.none() | st.floats(0.1, 5), st.none() | st.integers(6, 45)),
    transition=st.none() | st.floats(0.5, 10) | st.integers(1, 10),
    notch=st.lists(st.sampled_from([16.7, 20]), unique=True),
    reference=st.sampled_from(["source", "average", "Cz", ("M1", "M2"), ["t3", "T4"]]),
    interpolate=st.booleans(),
)
def test_settings_survive_json(sfreq, band, transition, notch, reference, interpolate):
    how = Preprocessing(sfreq, band, transition, tuple(notch), reference, interpolate)
    assert Preprocessing(**json.loads(json.dumps(asdict(how)))) == how
    assert hash(how) == hash(Preprocessing(**asdict(how)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sfreq": 0}, "not above|above 0 Hz"),
        ({"sfreq": float("nan")}, "above 0 Hz"),
        ({"band": (45, 0.5)}, "it is empty"),
        ({"band": (0.5, 64)}, "below 64 Hz.*0.5 Hz to fall off"),
        ({"band": (70, None)}, "below 64 Hz"),
        ({"band": (-1, 45)}, "not above 0 Hz"),
        ({"band": (1, 2, 3)}, "two edges"),
        ({"transition": 0}, "at least 0.5 Hz to fall off"),
        ({"transition": float("nan")}, "at least 0.5 Hz"),
        ({"notch": (0,)}, "reaches 0 Hz"),
        ({"notch": (50, 100)}, "below 64 Hz.*Leave 100 Hz out"),
        ({"reference": "nose tip"}, "no reference and no channel of the schema"),
        ({"reference": ()}, "names no channel"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(DataError, match=message):
        Preprocessing(**setting)


def test_settings_are_checked_against_the_source():
    with pytest.raises(DataError, match="below 40 Hz"):
        preprocess(np.zeros((1, 800)), 80, Preprocessing())
    with pytest.raises(DataError, match="below 50 Hz"):
        preprocess(np.zeros((1, 800)), 100, Preprocessing(notch=(60,)))
    assert Preprocessing(band=(0, 45)).band == (None, 45.0)


def test_the_result_goes_where_it_is_wanted():
    data, store = eeg(3, 400), np.zeros((3, 700), np.float32)
    found = preprocess(data, 200, Preprocessing(), out=store[:, 100 : 100 + 256])
    assert np.shares_memory(found, store)
    assert_array_equal(store[:, 100:356], preprocess(data, 200, Preprocessing()))
    assert not store[:, :100].any()
    assert not store[:, 356:].any()
    with pytest.raises(ValueError, match="expected float32"):
        preprocess(data, 200, Preprocessing(), out=store)


def test_a_worker_imports_neither_mne_nor_a_plotter():
    code = "import sys, omfa.pipeline.quality; print(*{'mne', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
