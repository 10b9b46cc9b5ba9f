"""Whitening a recording over its channels, by the option and alone."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from omfa.pipeline import DataError, Preprocessing, ingest, open_store, simulate
from omfa.pipeline.causal import CausalPath
from omfa.pipeline.signal_path import SignalPath, differences
from omfa.pipeline.whitening import UNIT, whiten


def mixed(n_chans=6, n_times=5000, seed=0):
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(n_chans, n_chans)))[0]
    mixing = directions * rng.uniform(5, 50, n_chans)
    return (mixing @ rng.normal(size=(n_chans, n_times))).astype(np.float32)


def none(signal):
    return np.zeros(len(signal), bool)


def test_it_is_the_inverse_root_of_the_mean_covariance_of_windows():
    signal = mixed()
    windows = signal.astype(float).reshape(6, 10, 500).transpose(1, 0, 2)
    mean = np.mean([np.cov(window, bias=True) for window in windows], axis=0)
    level = 1e-3 * np.trace(mean) / 6
    want = UNIT * np.linalg.inv(sqrtm(mean + level * np.eye(6))) @ signal
    whiten([signal], none(signal), sfreq=125.0, where="here")  # windows of 500 samples
    np.testing.assert_allclose(signal, want, rtol=2e-3, atol=2e-3)


@given(seed=st.integers(0, 1000), n_chans=st.integers(1, 8), parts=st.integers(1, 4))
def test_channels_are_alike_and_uncorrelated_however_the_recording_is_cut(seed, n_chans, parts):
    signal = mixed(n_chans, 4096, seed)
    pieces = [piece.copy() for piece in np.array_split(signal, parts, axis=1)]
    whiten(pieces, none(signal), sfreq=128.0, where="here")
    covariance = np.cov(np.concatenate(pieces, axis=1))
    deviations = np.sqrt(np.diag(np.atleast_2d(covariance)))
    np.testing.assert_allclose(deviations, UNIT, rtol=0.1)
    assert np.abs(np.atleast_2d(covariance) - np.diag(deviations**2)).max() < 0.1 * UNIT**2


def test_recordings_of_other_scales_and_units_become_alike():
    one = mixed()
    other = 1e-3 * one
    for signal in (one, other):
        whiten([signal], none(signal), sfreq=125.0, where="here")
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_a_bad_channel_stays_out_and_is_scaled():
    signal = mixed()
    alone = np.delete(signal, 2, axis=0)
    signal[2] = 1e4 * np.random.default_rng(1).normal(size=5000)
    bad = np.arange(6) == 2
    before = signal[2].copy()
    whiten([signal], bad, sfreq=125.0, where="here")
    whiten([alone], none(alone), sfreq=125.0, where="here")
    np.testing.assert_array_equal(np.delete(signal, 2, axis=0), alone)
    np.testing.assert_allclose(signal[2], before * UNIT / before.std(), rtol=1e-4)


def test_missing_samples_stay_missing_and_spoil_nothing_else():
    signal = mixed()
    signal[1, 700:900] = np.nan
    signal[3] = np.nan
    whiten([signal], none(signal), sfreq=125.0, where="here")
    assert np.isnan(signal[1, 700:900]).all()
    assert np.isnan(signal[3]).all()
    assert np.isfinite(np.delete(signal, [1, 3], axis=0)).all()
    assert np.isfinite(signal[1]).sum() == 4800


def test_a_flat_recording_stays_flat():
    signal = np.zeros((3, 1000), np.float32)
    whiten([signal], none(signal), sfreq=125.0, where="here")
    assert not signal.any()


def test_too_little_in_common_is_refused():
    signal = mixed()
    for row in range(6):
        signal[row, row::6] = np.nan
    with pytest.raises(DataError, match=r"have 0 samples in common.*without --whiten"):
        whiten([signal], none(signal), sfreq=125.0, where="sub-1")


def test_a_store_says_that_it_is_whitened(tmp_path):
    simulate("dreamer", tmp_path / "raw", subjects=2, seconds=8, progress=False)
    for name, how in (("plain", Preprocessing()), ("white", Preprocessing(whiten=True))):
        made = ingest(
            "dreamer",
            tmp_path / "raw",
            tmp_path / f"{name}.zarr",
            preprocessing=how,
            serial=True,
            progress=False,
        )
        assert {outcome.status for outcome in made.outcomes} == {"stored"}
    plain, white = (open_store(tmp_path / f"{name}.zarr") for name in ("plain", "white"))
    # Stores of before, which say nothing of it, are those of the same settings.
    assert "whiten" not in json.dumps(plain.settings)
    assert white.settings["preprocessing"]["whiten"] is True
    paths = [
        SignalPath.of(store.settings["preprocessing"], store[0].attrs, store[0].sfreq)
        for store in (plain, white)
    ]
    assert differences(paths) == (["whitening"], [])
    assert "whitened" in str(paths[1])
    good = ~white[0].array("bad")
    signals = [store[0].signal()[good] for store in (plain, white)]
    there = np.isfinite(signals[0]).all(axis=0)
    before, after = (np.corrcoef(signal[:, there]) - np.eye(good.sum()) for signal in signals)
    assert np.abs(after).mean() < 0.1 * np.abs(before).mean()
    assert 0.5 * UNIT < signals[1][:, there].std() < 1.5 * UNIT


def test_a_stream_cannot_be_whitened():
    with pytest.raises(DataError, match=r"known at the end.*whiten=False"):
        CausalPath(Preprocessing(whiten=True), 256.0, ["Cz", "Pz"])
