"""Quality figures: each fault, planted in simulated EEG, is found and alone is found."""

import re
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import fft, signal

from omfa.pipeline.channels import UCS
from omfa.pipeline.preprocess import Preprocessing, preprocess
from omfa.pipeline.quality import FIGURES, FREQUENCIES, QualityRules, assess, spectrum

REAL = Path(__file__).parents[2].parent / "shared" / "real-eeg"
EMOTIV = re.findall(r"\w+", "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4")
GENEVA = re.findall(
    r"\w+",
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 "
    "CP2 P4 P8 PO4 O2",
)
SEED = UCS.names[:62]


def noise(rng, shape, sfreq, exponent):
    """Simulate noise of unit variance with a power spectrum f**-exponent above 1 Hz."""
    at = fft.rfftfreq(shape[1], 1 / sfreq)
    spectrum = fft.rfft(rng.standard_normal(shape)) * np.maximum(at, 1) ** (-exponent / 2)
    values = fft.irfft(spectrum, n=shape[1])
    return values / values.std(axis=1, keepdims=True)


def clean(channels, sfreq, seconds=60, seed=0):
    """Simulate EEG: 60 sources of pink noise that each reach electrodes within some 5 cm."""
    rng = np.random.default_rng(seed)
    where = UCS.positions(channels)
    sources = rng.standard_normal((60, 3))
    sources *= 0.08 / np.linalg.norm(sources, axis=1, keepdims=True)
    sources[:, 2] = np.abs(sources[:, 2])
    distance = np.linalg.norm(where[:, None] - sources - [0, 0, 0.04], axis=-1)
    mixing = np.exp(-((distance / 0.06) ** 2)) + 0.1
    n = round(sfreq * seconds)
    field = mixing @ noise(rng, (60, n), sfreq, 1.5)
    own = noise(rng, (len(channels), n), sfreq, 1.0)
    return (12 * field / field.std() + own).astype(np.float32)


def judge(data, sfreq=128.0, channels=EMOTIV):
    return assess([data], sfreq, channels, UCS.positions(channels))


# --- each fault ---------------------------------------------------------------------------------


def flat(row, sfreq):
    row[: len(row) // 5] = row[len(row) // 2]


def dead(row, sfreq):
    row[:] = 4.0


def clipped(row, sfreq):
    np.clip(row, *np.quantile(row, [0.005, 0.995]), out=row)


def missing(row, sfreq):
    row[1000 : 1000 + len(row) // 10] = np.nan


def absent(row, sfreq):
    row[:] = np.nan


def loud(row, sfreq):
    row *= 8


def faint(row, sfreq):
    row *= 0.1


def mains(row, sfreq):
    row += 15 * np.sin(2 * np.pi * 50 * np.arange(len(row)) / sfreq)


def muscle(row, sfreq):
    fast = signal.butter(4, 30, "highpass", fs=sfreq, output="sos")
    rng = np.random.default_rng(1)
    row += 25 * np.sqrt(sfreq / 128) * signal.sosfilt(fast, rng.standard_normal(len(row)))


def alone(row, sfreq):
    row[:] = noise(np.random.default_rng(2), (1, len(row)), sfreq, 1.5)[0] * row.std()


@pytest.mark.parametrize(
    ("plant", "figure"),
    [
        (flat, "flat"),
        (dead, "flat"),
        (clipped, "clipped"),
        (missing, "missing"),
        (absent, "missing"),
        (loud, "variance_z"),
        (faint, "variance_z"),
        (mains, "line_ratio"),
        (muscle, "high_frequency_ratio"),
        (alone, "neighbour_correlation"),
    ],
)
@pytest.mark.parametrize(
    ("channels", "sfreq", "offset"), [(EMOTIV, 128.0, 4200.0), (GENEVA, 512.0, 0), (SEED, 200.0, 0)]
)
def test_a_planted_fault_alone_is_found(plant, figure, channels, sfreq, offset):
    data = clean(channels, sfreq) + np.float32(offset)
    plant(data[4], sfreq)
    quality = judge(data, sfreq, channels)
    expected = [() for _ in channels]
    expected[4] = (figure,)
    assert list(quality.reasons) == expected
    assert_array_equal(np.flatnonzero(quality.bad), [4])


@pytest.mark.parametrize(("channels", "sfreq"), [(EMOTIV, 128.0), (GENEVA, 128.0), (SEED, 200.0)])
@pytest.mark.parametrize("reference", ["source", "average"])
def test_of_clean_channels_one_in_a_hundred_is_called_bad_at_most(channels, sfreq, reference):
    bad = []
    for seed in range(8):
        data = clean(channels, sfreq, seconds=30, seed=seed)
        data -= data.mean(axis=0) if reference == "average" else 0
        bad.append(judge(data, sfreq, channels).bad)
    assert np.mean(bad) <= 0.01


# --- figures ------------------------------------------------------------------------------------


def test_shares_are_those_that_were_planted():
    data = clean(EMOTIV, 128.0, seconds=100)
    data[0, 1280:2560] = 3.0
    data[1, 640:1280] = np.nan
    data[1, 5000] = np.inf
    data[2, 100:164] = 500.0
    quality = judge(data)
    assert quality.flat[0] == pytest.approx(0.1, abs=0.003)
    assert quality.missing[1] == pytest.approx(641 / 12800)
    assert quality.clipped[2] == pytest.approx(63 / 12800)
    assert quality.flat[[1, 3]].max() == 0
    assert quality.missing[[0, 2]].max() == 0
    assert quality.clipped[[0, 1, 3]].max() == 0


def test_rounding_is_not_a_flat_or_clipped_channel():
    quality = judge(np.round(clean(EMOTIV, 128.0)))
    assert not quality.bad.any()
    assert quality.flat.max() < 0.001


def test_rails_count_wherever_the_segment_reaches_them():
    data = clean(EMOTIV, 128.0)
    clipped(data[5], 128.0)
    pieces = np.split(data, [1000, 1003, 5000], axis=1)
    whole, parts = judge(data), assess(pieces, 128.0, EMOTIV, UCS.positions(EMOTIV))
    assert parts.clipped == pytest.approx(whole.clipped, abs=5e-4)
    assert parts.reasons[5] == ("clipped",)


def test_the_mains_frequency_is_told():
    data = clean(EMOTIV, 200.0)
    t = np.arange(data.shape[1]) / 200
    data[3] += 10 * np.sin(2 * np.pi * 50 * t)
    data[7] += 10 * np.sin(2 * np.pi * 60 * t)
    quality = judge(data, 200.0)
    assert quality.line_frequency[3] == 50
    assert quality.line_frequency[7] == 60
    # What every channel has is the room's.
    everywhere = judge(clean(EMOTIV, 200.0) + 10 * np.sin(2 * np.pi * 50 * t), 200.0)
    assert everywhere.line_ratio.min() > 100
    assert not everywhere.bad.any()
    assert np.isnan(judge(clean(EMOTIV, 90.0), 90.0).line_ratio).all()


def test_white_noise_has_the_share_of_high_frequencies_that_is_documented():
    data = np.random.default_rng(0).standard_normal((14, 128 * 200))
    assert judge(data).high_frequency_ratio == pytest.approx(0.47, abs=0.02)


def test_a_spectrum_is_in_microvolts_squared_per_hertz():
    rng = np.random.default_rng(0)
    data = 20 * rng.standard_normal((2, 200 * 200)) + 4200
    psd = spectrum([data], 200.0)
    assert psd.shape == (2, len(FREQUENCIES))
    assert psd.mean() == pytest.approx(20**2 / 100, rel=0.03)
    at, welch = signal.welch(data, 200.0, nperseg=800)
    near = np.abs(at - FREQUENCIES[:, None]) <= 0.5
    assert_allclose(psd, [[row[i].mean() for i in near] for row in welch], rtol=0.6)


@pytest.mark.parametrize("sfreq", [100.0, 125.0, 128.0, 1000.0])
def test_spectra_of_all_rates_share_their_frequencies(sfreq):
    psd = judge(clean(EMOTIV, sfreq, 20), sfreq).psd
    assert psd.shape == (14, 64)
    assert_array_equal(np.isfinite(psd), np.tile(sfreq / 2 >= FREQUENCIES, (14, 1)))


def test_a_tone_is_a_peak_before_and_gone_after():
    data = clean(EMOTIV, 200.0)
    data += 20 * np.sin(2 * np.pi * 60 * np.arange(data.shape[1]) / 200).astype(np.float32)
    before = spectrum([data], 200.0)
    after = spectrum([preprocess(data, 200.0, Preprocessing())], 128.0)
    assert_array_equal(FREQUENCIES[before[:, 20:].argmax(axis=1) + 20], 60)
    assert (after[:, 59] < 1e-4 * before[:, 59]).all()
    assert_allclose(after[:, 1:43], before[:, 1:43], rtol=0.3)


# --- independence -------------------------------------------------------------------------------


@given(order=st.permutations(range(14)))
@settings(max_examples=10)
def test_channels_may_come_in_any_order(order):
    data = clean(EMOTIV, 128.0, 20)
    loud(data[3], 128.0)
    data[6, 100:300] = np.nan
    names = [EMOTIV[i] for i in order]
    first, other = judge(data), judge(data[order], channels=names)
    for name in FIGURES:
        assert_allclose(getattr(other, name), getattr(first, name)[order], rtol=1e-3, atol=1e-5)
    assert other.reasons == tuple(first.reasons[i] for i in order)


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_no_limit_depends_on_the_unit(scale):
    data = clean(EMOTIV, 128.0)
    alone(data[2], 128.0)
    a, b = judge(data), judge(data * np.float32(scale))
    assert a.reasons == b.reasons
    assert_allclose(b.psd, a.psd * scale**2, rtol=1e-3)


def test_it_is_repeatable_and_leaves_the_signal_alone():
    data = clean(EMOTIV, 128.0)
    missing(data[1], 128.0)
    before = data.copy()
    a, b = judge(data).arrays(), judge(data).arrays()
    assert_array_equal(data, before)
    assert set(a) == {*FIGURES, "psd", "bad"}
    for name in a:
        assert_array_equal(a[name], b[name])
        assert a[name].dtype == (bool if name == "bad" else np.float32)


def test_many_short_trials_are_judged_as_one_recording():
    data = clean(EMOTIV, 128.0)
    muscle(data[8], 128.0)
    pieces = [data[:, i : i + 640] for i in range(0, data.shape[1], 640)]
    quality = assess([*pieces, data[:, :50]], 128.0, EMOTIV, UCS.positions(EMOTIV))
    assert_array_equal(np.flatnonzero(quality.bad), [8])


@pytest.mark.parametrize("n_times", [1, 2, 5, 100])
@pytest.mark.parametrize("n_chans", [1, 2, 14])
def test_what_is_too_short_for_spectra_is_not_judged_by_them(n_times, n_chans):
    data = clean(EMOTIV, 128.0)[:n_chans, :n_times]
    quality = judge(data, channels=EMOTIV[:n_chans])
    assert not quality.bad.any()
    assert np.isnan(quality.psd).all()
    assert np.isnan(quality.neighbour_correlation).all()


def test_unknown_positions_are_no_fault():
    data, where = clean(EMOTIV, 128.0), UCS.positions(EMOTIV)
    where[5] = np.nan
    quality = assess([data], 128.0, EMOTIV, where)
    assert_array_equal(np.flatnonzero(np.isnan(quality.neighbour_correlation)), [5])
    assert not quality.bad.any()
    nowhere = assess([data], 128.0, EMOTIV, np.full((14, 3), np.nan))
    assert np.isnan(nowhere.neighbour_correlation).all()


def test_rules_decide():
    data = clean(EMOTIV, 128.0)
    loud(data[4], 128.0)
    where = UCS.positions(EMOTIV)
    lenient = replace(QualityRules(), variance_z=100.0)
    assert not assess([data], 128.0, EMOTIV, where, rules=lenient).bad.any()
    strict = replace(QualityRules(), neighbour_correlation=1.0)
    assert assess([data], 128.0, EMOTIV, where, rules=strict).bad.all()


# --- real EEG -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eegmmidb/S042/S042R12.edf", {"Iz": "line_ratio", "T10": "variance_z"}),
        ("eegmmidb/S001/S001R03.edf", {}),
    ],
)
def test_real_eeg_is_judged_as_documented(name, expected):
    path = REAL / name
    if not path.exists():
        pytest.skip("no real EEG beside the repository")
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    quality = judge(raw.get_data() * 1e6, raw.info["sfreq"], UCS.canonicalize(raw.ch_names))
    found = zip(quality.channels, quality.reasons, strict=True)
    assert {name: reasons[0] for name, reasons in found if reasons} == expected
