"""Answers on blocks of a signal: however they are cut, ordered, or broken."""

import numpy as np
import pytest

from omfa.pipeline import DataError
from omfa.pipeline.causal import CausalPath
from omfa.zoo.live.clock import Clock
from omfa.zoo.live.decoder import Decoder
from omfa.zoo.live.ring import Ring

SFREQ = 160.0
CHANNELS = ["Fp1", "F3", "Cz", "T8", "O1", "O2"]


def decoder(loaded, channels=CHANNELS, sfreq=SFREQ, stride_seconds=0.25):
    model, decision = loaded
    return Decoder(model, decision, channels=channels, sfreq=sfreq, stride_seconds=stride_seconds)


def times_of(n, start=50.0):
    return start + np.arange(n) / SFREQ


def answers_of(loaded, x, cuts=(), **how):
    made = decoder(loaded, **how)
    blocks = zip(np.split(x, cuts, axis=1), np.split(times_of(x.shape[1]), cuts), strict=True)
    return [answer for block in blocks for answer in made.push(*block)]


def values(answers):
    return np.array([[*answer.probabilities.values()] for answer in answers])


@pytest.fixture(scope="module")
def whole(loaded, signal):
    return answers_of(loaded, signal)


def test_an_answer_is_the_model_on_the_causal_window(loaded, signal, whole):
    import torch

    model, decision = loaded
    path = CausalPath(decision.preprocessing, SFREQ, CHANNELS).push(signal)
    for answer, end in zip(whole, range(128, path.shape[1] + 1, 32), strict=True):
        with torch.inference_mode():
            logits = model(torch.from_numpy(path[None, :, end - 128 : end].copy())).numpy()[0]
        raised = np.exp(logits / 1.5)
        np.testing.assert_allclose(
            [answer.probabilities[name] for name in ("calm", "sad", "happy")],
            raised / raised.sum(),
            atol=1e-5,
        )
        # The last sample of the window is at (end - 1) / 128 s after the first.
        assert answer.time == pytest.approx(50 + (end - 1) / 128, abs=1 / SFREQ)
    assert np.ptp(values(whole), axis=0).max() > 1e-3


def test_blocks_do_not_matter(loaded, signal, whole):
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, 1600), 100, replace=False))
    parts = answers_of(loaded, signal, cuts)
    np.testing.assert_allclose(values(parts), values(whole), atol=1e-5)
    assert [a.time for a in parts] == [a.time for a in whole]


def test_order_and_other_channels_do_not_matter(loaded, signal, whole):
    order = [3, 0, 5, 1, 4, 2]
    x = np.concatenate([signal[order], signal[:1]])
    names = [["fp1", "F3", "CZ", "T4", "o1", "O2"][i] for i in order] + ["TRIGGER"]
    made = decoder(loaded, names)
    assert made.unused == ["TRIGGER"]
    assert made.missing == []
    np.testing.assert_allclose(values(made.push(x, times_of(1600))), values(whole), atol=1e-5)


def test_a_channel_that_is_not_there_is_masked_and_named(loaded, signal, whole):
    made = decoder(loaded, CHANNELS[:-1])
    assert made.missing == ["O2"]
    answers = made.push(signal[:-1], times_of(1600))
    assert {answer.absent for answer in answers} == {("O2",)}
    assert answers[0].n_present == 5
    assert np.isfinite(values(answers)).all()
    assert np.abs(values(answers) - values(whole)).max() > 1e-5


def test_a_gap_gives_no_answer_until_a_whole_window_has_come(loaded, signal):
    x = signal.copy()
    x[:, 800:880] = np.nan  # 5.0 to 5.5 s
    got = {round(answer.time - 50, 2): answer for answer in answers_of(loaded, x)}
    silent = [time for time, answer in got.items() if answer.label is None]
    assert min(silent) >= 5.0
    assert max(silent) <= 5.5 + 1.0 + 0.01
    assert len(silent) == 6  # those that end at 5.25 to 6.5 s
    assert all(got[time].n_present == 0 and not got[time].probabilities for time in silent)


def test_strides_longer_than_windows(loaded, signal):
    answers = answers_of(loaded, signal, stride_seconds=3)
    np.testing.assert_allclose([a.time - 50 for a in answers], [1, 4, 7, 10], atol=0.013)


def test_what_cannot_be_read_is_refused(loaded):
    with pytest.raises(DataError, match=r"no channel in common.*has A5, B7.*from Fp1"):
        decoder(loaded, ["A5", "B7"])
    with pytest.raises(DataError, match=r"are both Fp1\. Give each channel of the stream a name"):
        decoder(loaded, ["Fp1", "FP1"])
    with pytest.raises(DataError, match=r"80 Hz.*up to 45 Hz.*more than 90 Hz"):
        decoder(loaded, sfreq=80.0)


# ------------------------------------------------------------------------------- ring and clock


def test_the_ring_holds_the_newest_in_order():
    ring, x = Ring(2, 10), np.arange(94, dtype=np.float32).reshape(2, 47)
    assert np.isnan(ring.window).all()
    for part in np.split(x, [3, 4, 14, 20, 29, 30, 38], axis=1):
        ring.add(part)
    np.testing.assert_array_equal(ring.window, x[:, -10:])


def fill(clock, times, size=16):
    filled = [
        clock.fill(np.ones((1, len(block))), block)
        for block in np.split(times, range(size, len(times), size))
    ]
    return np.concatenate([f[0][0] for f in filled]), np.concatenate([f[1] for f in filled])


@pytest.mark.parametrize("size", [16, 640])
def test_lost_samples_are_put_in_as_missing(size):
    clock, times = Clock(SFREQ, 5.0), times_of(640)
    kept = np.delete(times, np.r_[200:240, 401:404])  # across packets, and within one
    samples, filled = fill(clock, kept, size)
    assert np.flatnonzero(np.isnan(samples)).tolist() == [*range(200, 240), *range(401, 404)]
    np.testing.assert_allclose(filled, times, atol=1e-9)
    assert clock.lost == pytest.approx(43 / SFREQ)


def test_a_long_gap_is_put_in_no_longer_than_anything_remembers():
    times = np.delete(times_of(16000), np.s_[320:15000])
    samples, _ = fill(Clock(SFREQ, 2.0), times)
    assert np.isnan(samples).sum() == 2 * SFREQ


@pytest.mark.parametrize("per_second", [0.9985, 1.0015])
def test_a_clock_that_drifts_loses_nothing(per_second):
    clock = Clock(SFREQ, 5.0)
    samples, _ = fill(clock, 50 + np.arange(16000) / (SFREQ * per_second))
    assert np.isfinite(samples).all()
    assert clock.rate == pytest.approx(SFREQ * per_second, rel=1e-6)
    assert not clock.drifts


def test_another_rate_than_the_nominal_one_is_seen():
    clock = Clock(SFREQ, 5.0)
    fill(clock, 50 + np.arange(3200) / 163)
    assert clock.drifts


def test_late_packets_are_no_gaps_once_they_have_been_seen():
    times = times_of(3200).reshape(-1, 16)
    late = np.random.default_rng(0).uniform(0, 0.03, len(times))
    clock = Clock(SFREQ, 5.0)
    fill(clock, (times + late[:, np.newaxis])[:20].ravel())
    before = clock.lost
    fill(clock, (times + late[:, np.newaxis])[20:].ravel())
    assert clock.lost - before < 0.05
