"""The causal signal path: the stored path's gain, from the past alone, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from omfa.pipeline.causal import CausalPath, minimum_phase
from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import Preprocessing, kernel

PLAIN = Preprocessing()


def path_of(sfreq, settings=PLAIN, n=1):
    return CausalPath(settings, sfreq, [f"E{i}" for i in range(n)])


def noise(n_chans, n_times, seed=0):
    return np.random.default_rng(seed).normal(0, 20, (n_chans, n_times)).astype(np.float32)


def tone(frequency, sfreq, seconds):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * sfreq)) / sfreq)[np.newaxis]


@pytest.mark.parametrize("sfreq", [100.0, 160.0, 500.0, 499.7])
def test_gain_is_that_of_the_stored_path(sfreq):
    taps = kernel(PLAIN, 512.0)
    for frequency in (1.0, 10.0, 40.0, 46.0, 47.0):
        out = path_of(sfreq).push(tone(frequency, sfreq, 20))[0, -1024:]
        _, stored = scipy.signal.freqz(taps, worN=[frequency], fs=512.0)
        assert out.std() * np.sqrt(2) == pytest.approx(abs(stored[0]), abs=4e-3)


def test_mains_and_offset_are_gone():
    x = 100 * tone(50.0, 500.0, 20) + 4200
    assert np.abs(path_of(500.0).push(x)[0, -512:]).max() < 0.15  # 60 dB below 100 is 0.1


def test_minimum_phase_has_its_zeros_inside_the_unit_circle():
    taps = np.random.default_rng(0).normal(size=24)
    zeros = np.roots(taps)
    # Each zero outside goes to its mirror image, and the gain stays: the textbook's factorization.
    inside = np.where(np.abs(zeros) > 1, 1 / zeros.conj(), zeros)
    gain = taps[0] * np.prod(np.maximum(np.abs(zeros), 1))
    factored = np.abs(gain) * np.poly(inside).real
    padded = np.pad(taps, (0, 1000))  # the cepstrum of so short a kernel is longer than it
    np.testing.assert_allclose(minimum_phase(padded)[:24], factored, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sfreq", [128.0, 160.0])
def test_blocks_do_not_matter(sfreq):
    x = noise(3, 2000)
    x[1, 500:503] = np.nan
    x[:, 900:960] = np.nan
    path = path_of(sfreq, n=3)
    whole = path.push(x)
    path.reset()
    cuts = np.random.default_rng(1).choice(np.arange(1, 2000), 60, replace=False)
    parts = [path.push(block) for block in np.split(x, np.sort(cuts), axis=1)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert whole.shape[1] == -(-2000 * 128 // round(sfreq))


def test_nothing_of_the_future_is_in_it():
    x, other = noise(2, 1600), noise(2, 1600, seed=1)
    other[:, :1000] = x[:, :1000]
    same = 1000 * 128 // 160
    a, b = (path_of(160.0, n=2).push(each) for each in (x, other))
    np.testing.assert_array_equal(a[:, :same], b[:, :same])
    assert not np.allclose(a[:, same + 20 :], b[:, same + 20 :])


def test_missing_samples_are_marked_and_the_channel_begins_anew():
    x = noise(2, 1600)
    whole = path_of(160.0, n=2).push(x)
    x[0, 800:960] = np.inf
    out = path_of(160.0, n=2).push(x)
    np.testing.assert_array_equal(out[1], whole[1])
    assert np.isnan(out[0, 640:768]).all()
    assert np.isfinite(np.delete(out[0], np.s_[640:769])).all()
    np.testing.assert_allclose(
        out[0, 769:], path_of(160.0).push(x[:1, 960:])[0, 1:], rtol=0, atol=1e-4
    )


def test_one_lost_sample_between_two_of_the_result_marks_the_second():
    x = noise(1, 4000)
    x[0, 2001] = np.nan  # 512 to 128 Hz: samples 2000 and 2004 are results
    assert np.flatnonzero(np.isnan(path_of(512.0).push(x)[0])).tolist() == [501]


def test_reference_is_subtracted_of_what_is_there():
    x = noise(3, 1280)
    x[2, 640:] = np.nan
    settings = Preprocessing(reference="average")
    plain = path_of(128.0, n=3).push(x)
    out = path_of(128.0, settings, n=3).push(x)
    np.testing.assert_allclose(out[:, :640], plain[:, :640] - plain[:, :640].mean(0), atol=1e-4)
    np.testing.assert_allclose(out[:2, 640:], plain[:2, 640:] - plain[:2, 640:].mean(0), atol=1e-4)


def test_without_a_high_pass_an_offset_stays():
    x = np.full((1, 500), 3000.0)
    out = path_of(250.0, Preprocessing(band=(None, 45.0))).push(x)
    np.testing.assert_allclose(out, 3000, rtol=1e-5)
    untouched = path_of(250.0, Preprocessing(sfreq=None, band=None)).push(noise(1, 50))
    np.testing.assert_allclose(untouched, noise(1, 50), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "sfreq", "found"),
    [
        (PLAIN, 64.0, "32 Hz exist"),
        (Preprocessing(interpolate=True), 128.0, "interpolated"),
        (Preprocessing(reference=("Cz",)), 128.0, "no channel Cz"),
    ],
)
def test_what_cannot_be_is_refused(settings, sfreq, found):
    with pytest.raises(DataError, match=found):
        path_of(sfreq, settings)
