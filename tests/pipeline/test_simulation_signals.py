"""Simulated signals: the planted effect is there, alone, and as large as the truth says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.fft
import scipy.io
import scipy.signal

from omfa.pipeline import UCS
from omfa.pipeline.simulation import simulate
from omfa.pipeline.simulation.corpora.deap import DEAP_GENEVA
from omfa.pipeline.simulation.signals import (
    BANDS,
    RHYTHMS,
    Effect,
    Mixture,
    Piece,
    best_accuracy,
    draw_mixture,
    record,
    rng,
    synthesize,
)

N_SUBJECTS = 4
CLIP = slice(3 * 128, None)


@pytest.fixture(scope="module")
def deap(tmp_path_factory):
    """Return EEG (subject, trial, channel, time) and ratings (subject, trial, 4) per effect."""
    made = {}

    def make(effect, kind="power"):
        if (effect, kind) not in made:
            root = tmp_path_factory.mktemp("effect") / "deap"
            options = {"subjects": N_SUBJECTS, "seconds": 10, "bad_channels": 0}
            truth = simulate("deap", root, effect=effect, effect_kind=kind, **options)
            files = []
            for name in truth.files:
                with (root / name).open("rb") as file:
                    files.append(pickle.load(file, encoding="latin1"))
            eeg = np.stack([file["data"][:, :32, CLIP] for file in files])
            made[effect, kind] = eeg, np.stack([file["labels"] for file in files]), truth
        return made[effect, kind]

    return make


def log_power(eeg, channel, band):
    """Return log band power (subject, trial), centred in each subject."""
    freqs, power = scipy.signal.welch(eeg[:, :, DEAP_GENEVA.index(channel)], 128, nperseg=256)
    low, high = BANDS[band]
    power = np.log(power[..., (freqs >= low) & (freqs < high)].mean(axis=-1))
    return power - power.mean(axis=1, keepdims=True)


def correlation(figure, rating):
    rating = rating - rating.mean(axis=1, keepdims=True)
    return np.corrcoef(figure.ravel(), rating.ravel())[0, 1]


PLANTED = [rhythm for rhythm in RHYTHMS if rhythm.target]


@pytest.mark.parametrize("rhythm", PLANTED, ids=lambda rhythm: rhythm.anchor)
def test_power_follows_the_rating_where_it_was_planted(deap, rhythm):
    column = {"valence": 0, "arousal": 1}[rhythm.target]
    eeg, ratings, _ = deap(1.0)
    seen = correlation(log_power(eeg, rhythm.anchor, rhythm.band), ratings[..., column])
    assert seen * rhythm.gain > 0.35
    eeg, ratings, _ = deap(0.0)
    seen = correlation(log_power(eeg, rhythm.anchor, rhythm.band), ratings[..., column])
    assert abs(seen) < 0.24  # three standard errors of 160 trials


def decode(eeg, rating):
    """Return the accuracy of ridge regression on log band power, over held-out subjects."""
    figures = np.stack(
        [log_power(eeg, name, band) for name in DEAP_GENEVA for band in BANDS], axis=-1
    )
    labels = np.where(rating > 5, 1.0, -1.0)
    right = []
    for held in range(len(eeg)):
        others = np.arange(len(eeg)) != held
        x, y = figures[others].reshape(-1, figures.shape[-1]), labels[others].ravel()
        weights = np.linalg.solve(x.T @ x + 30 * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        right.append(np.sign(figures[held] @ weights + y.mean()) == labels[held])
    return np.mean(right)


@pytest.mark.parametrize("target", ["valence", "arousal"])
def test_a_decoder_comes_near_the_best_and_learns_nothing_from_nothing(deap, target):
    column = {"valence": 0, "arousal": 1}[target]
    eeg, ratings, truth = deap(1.0)
    best = truth.best_accuracy[target]["10"]["accuracy"]
    assert best - 0.15 < decode(eeg, ratings[..., column]) < best + 0.08
    eeg, ratings, truth = deap(0.0)
    assert truth.best_accuracy[target]["10"]["balanced"] == 0.5
    majority = truth.best_accuracy[target]["10"]["accuracy"]
    assert decode(eeg, ratings[..., column]) < majority + 0.08


def test_without_an_effect_the_labels_change_nothing():
    mixture = draw_mixture(DEAP_GENEVA, seed=0, source="deap", subject=1)
    for kind in ("power", "connectivity", "waveform"):
        drawn = [
            synthesize(
                mixture,
                Piece(2, ("p",), ("s",), {"valence": code, "arousal": -code}),
                n_times=256,
                sfreq=128.0,
                band=(4.0, 45.0),
                effect=Effect(kind, 0.0),
            )
            for code in (-1.0, 1.0)
        ]
        np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("kind", ["connectivity", "waveform"])
def test_coupling_and_bursts_leave_every_spectrum_as_it_is(deap, kind):
    eeg, ratings, _ = deap(1.0, kind)
    largest = max(
        abs(correlation(log_power(eeg, name, band), ratings[..., column]))
        for column in (0, 1)
        for name in DEAP_GENEVA
        for band in BANDS
    )
    # The largest of 256 chance correlations of 160 trials is about 3.5 standard errors.
    assert largest < 0.32


@pytest.mark.parametrize(
    ("pair", "band", "column"), [(("T7", "T8"), "gamma", 0), (("FC5", "FC6"), "beta", 1)]
)
def test_connectivity_follows_the_rating(deap, pair, band, column):
    def lag(eeg):
        """Return the imaginary coherency of the two channels in the band, (subject, trial)."""
        a, b = (eeg[:, :, DEAP_GENEVA.index(name)] for name in pair)
        freqs, cross = scipy.signal.csd(a, b, 128, nperseg=128)
        _, of_a = scipy.signal.welch(a, 128, nperseg=128)
        _, of_b = scipy.signal.welch(b, 128, nperseg=128)
        low, high = BANDS[band]
        inside = (freqs >= low) & (freqs < high)
        scale = of_a[..., inside].mean(axis=-1) * of_b[..., inside].mean(axis=-1)
        return cross[..., inside].imag.mean(axis=-1) / np.sqrt(scale)

    eeg, ratings, _ = deap(1.0, "connectivity")
    assert abs(correlation(lag(eeg), ratings[..., column])) > 0.5
    eeg, ratings, _ = deap(1.0, "power")
    assert abs(correlation(lag(eeg), ratings[..., column])) < 0.24


def test_bursts_follow_the_rating_and_coherency_does_not(deap):
    def burstiness(eeg, name, band):
        """Return how uneven the power of half seconds is, (subject, trial)."""
        sos = scipy.signal.butter(4, BANDS[band], "bandpass", fs=128, output="sos")
        signal = scipy.signal.sosfiltfilt(sos, eeg[:, :, DEAP_GENEVA.index(name)])
        half = 64
        cells = signal[..., : signal.shape[-1] // half * half].reshape(*signal.shape[:2], -1, half)
        power = np.log(np.mean(cells**2, axis=-1))
        return power.std(axis=-1)

    eeg, ratings, _ = deap(1.0, "waveform")
    assert correlation(burstiness(eeg, "T7", "gamma"), ratings[..., 0]) > 0.4
    assert abs(correlation(burstiness(eeg, "T7", "gamma"), ratings[..., 1])) < 0.24
    covariance = np.einsum("stcn,stdn->stcd", eeg, eeg) / eeg.shape[-1]
    scale = np.sqrt(np.einsum("stcc->stc", covariance))
    coherent = covariance / scale[..., :, None] / scale[..., None, :]
    pair = DEAP_GENEVA.index("T7"), DEAP_GENEVA.index("T8")
    assert abs(correlation(coherent[..., pair[0], pair[1]], ratings[..., 0])) < 0.24


def sources_alone():
    """Return a mixture whose channels are the rhythms themselves, at equal densities."""
    n = len(RHYTHMS)
    none = np.zeros(n, np.float32)
    return Mixture(
        channels=tuple(f"source {i}" for i in range(n)),
        background=np.zeros((n, n), np.float32),
        exponent=1.2,
        rhythms=np.eye(n, dtype=np.float32),
        density=np.ones(n),
        sites=np.zeros((n, 3)),
        white=none,
        line=none,
        blink=none,
        bad={},
    )


def draw_sources(code, trial, *, effect, seconds):
    return synthesize(
        sources_alone(),
        Piece(seconds, ("p", trial), ("s", trial), {"valence": code}),
        n_times=128 * seconds,
        sfreq=128.0,
        band=(0.0, 64.0),
        effect=effect,
    )


def band_power(sources):
    """Return each source's log power."""
    return np.log(np.mean(sources**2, axis=1))


@pytest.mark.parametrize("seconds", [1, 4])
def test_best_accuracy_is_what_the_true_sources_give(seconds):
    effect, codes = Effect("power", 0.7), np.tile([-1.0, 0.0, 1.0], 300)
    figures = np.stack(
        [
            band_power(draw_sources(code, trial, effect=effect, seconds=seconds))
            for trial, code in enumerate(codes)
        ]
    )
    planted = [i for i, rhythm in enumerate(RHYTHMS) if rhythm.target == "valence"]
    x = figures[:, planted]
    means = np.stack([x[codes == code].mean(axis=0) for code in (-1, 0, 1)])
    spread = np.mean([np.cov(x[codes == code].T) for code in (-1, 0, 1)], axis=0)
    distance = [
        np.einsum("ti,ij,tj->t", x - mean, np.linalg.inv(spread), x - mean) for mean in means
    ]
    reached = np.mean(np.argmin(distance, axis=0) - 1 == codes)
    accuracy, balanced = best_accuracy(
        codes, codes.astype(int), target="valence", effect=effect, seconds=seconds
    )
    assert reached == pytest.approx(accuracy, abs=0.04)
    assert balanced == pytest.approx(accuracy, abs=1e-3)


def test_best_accuracy_of_coupling_is_what_the_true_sources_give():
    effect, codes, seconds = Effect("connectivity", 0.5), np.tile([-1.0, 1.0], 300), 4
    figures = []
    for trial, code in enumerate(codes):
        sources = draw_sources(code, trial, effect=effect, seconds=seconds)
        spectra = scipy.fft.rfft(sources)
        pairs = [i for i, rhythm in enumerate(RHYTHMS) if rhythm.target == "valence"][::2]
        row = []
        for i in pairs:
            a, b = spectra[i], spectra[i + 1]
            scale = np.sqrt(np.sum(np.abs(a) ** 2) * np.sum(np.abs(b) ** 2))
            row.append(np.arctanh(np.sum(np.conj(a) * b).imag / scale))
        figures.append(row)
    means = effect.size * np.array([RHYTHMS[i].gain for i in pairs])
    widths = [BANDS[RHYTHMS[i].band][1] - BANDS[RHYTHMS[i].band][0] for i in pairs]
    weights = means / (0.25**2 + 1 / (2 * np.array(widths) * seconds))
    reached = np.mean(np.sign(np.array(figures) @ weights) == codes)
    accuracy, _ = best_accuracy(
        codes, codes.astype(int), target="valence", effect=effect, seconds=seconds
    )
    assert reached == pytest.approx(accuracy, abs=0.04)


def test_best_accuracy_of_bursts_is_what_the_true_sources_give():
    effect, codes, seconds = Effect("waveform", 1.5), np.tile([-1.0, 1.0], 300), 4
    planted = [i for i, rhythm in enumerate(RHYTHMS) if rhythm.target == "valence"]
    figures = []
    for trial, code in enumerate(codes):
        halves = draw_sources(code, trial, effect=effect, seconds=seconds).reshape(
            len(RHYTHMS), seconds, 2, 64
        )
        power = np.mean(halves[planted] ** 2, axis=-1)
        share = power[..., 0] / power.sum(axis=-1)
        figures.append(np.mean(np.abs(share - 0.5), axis=-1))
    figures = np.array(figures)
    signs = np.array([RHYTHMS[i].gain for i in planted])
    even = figures[::2], figures[1::2]
    weights = (even[1].mean(axis=0) - even[0].mean(axis=0)) / figures.var(axis=0)
    assert np.all(np.sign(weights) == signs)
    level = (even[0].mean(axis=0) + even[1].mean(axis=0)) / 2
    reached = np.mean(np.sign((figures - level) @ weights) == codes)
    accuracy, balanced = best_accuracy(
        codes, codes.astype(int), target="valence", effect=effect, seconds=seconds
    )
    assert balanced == pytest.approx(accuracy, abs=1e-9)
    # The rhythm's filter blurs the halves and the share's distance is not the whole likelihood.
    assert accuracy - 0.08 < reached < accuracy + 0.02


def test_best_accuracy_grows_with_the_window_and_starts_at_the_majority():
    codes = rng(0, "codes").normal(0, 0.4, 200)
    classes = (codes > 0.1).astype(int)

    def best(size, seconds):
        return best_accuracy(
            codes, classes, target="valence", effect=Effect("power", size), seconds=seconds
        )

    assert best(0.0, 4)[0] == pytest.approx(max(classes.mean(), 1 - classes.mean()), abs=1e-3)
    assert best(0.0, 4)[1] == pytest.approx(0.5, abs=1e-3)
    assert best(0.5, 1) < best(0.5, 4) < best(0.5, 60)
    assert best(0.2, 4) < best(0.5, 4) < best(2.0, 4)


def test_near_electrodes_are_more_alike_than_far_ones():
    channels = UCS.names[:62]
    mixture = draw_mixture(channels, seed=0, source="seed", subject=1)
    (eeg,) = record(
        mixture,
        [Piece(30, ("p",), ("s",), {})],
        sfreq=200.0,
        band=(0.0, 75.0),
        effect=Effect("power", 0.0),
        line_uv=0.0,
        blinking=False,
    )
    alike = np.abs(np.corrcoef(eeg))
    places = UCS.positions(channels)
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    upper = np.triu_indices(62, 1)
    near, far = alike[upper][apart[upper] < 0.05], alike[upper][apart[upper] > 0.12]
    assert np.median(near) > 0.6
    assert np.median(far) < 0.4


def test_the_background_falls_as_one_over_f():
    mixture = draw_mixture(DEAP_GENEVA, seed=0, source="deap", subject=1)
    eeg = synthesize(
        mixture,
        Piece(120, ("p",), ("s",), {}),
        n_times=120 * 128,
        sfreq=128.0,
        band=(0.0, 64.0),
        effect=Effect("power", 0.0),
    )
    freqs, power = scipy.signal.welch(eeg, 128, nperseg=512)
    between = ((freqs > 1.5) & (freqs < 4)) | ((freqs > 46) & (freqs < 52))
    slope = np.polyfit(np.log(freqs[between]), np.log(power[:, between].mean(axis=0)), 1)[0]
    assert slope == pytest.approx(-mixture.exponent, abs=0.15)


def test_subjects_differ_more_than_sessions():
    def topographies(subject, session):
        mixture = draw_mixture(DEAP_GENEVA, seed=0, source="seed", subject=subject, session=session)
        return mixture.rhythms[:, :8] / np.linalg.norm(mixture.rhythms[:, :8], axis=0)

    first = topographies(1, 1)
    another_session = np.abs(np.sum(first * topographies(1, 2), axis=0))
    another_person = np.abs(np.sum(first * topographies(2, 1), axis=0))
    assert 0.95 < another_session.mean() < 1
    assert another_person.mean() < another_session.mean() - 0.02


def test_windows_of_a_trial_know_each_other(deap):
    """A nearest neighbour finds a window's own trial, though no label is in the signal."""
    eeg, _, _ = deap(0.0)
    windows = eeg[0].reshape(40, 32, 5, 256).transpose(0, 2, 1, 3)  # five of 2 s
    freqs, power = scipy.signal.welch(windows, 128, nperseg=128)
    figures = np.stack(
        [
            np.log(power[..., (freqs >= low) & (freqs < high)].mean(axis=-1))
            for low, high in BANDS.values()
        ],
        axis=-1,
    ).reshape(200, -1)
    figures = (figures - figures.mean(axis=0)) / figures.std(axis=0)
    apart = np.linalg.norm(figures[:, None] - figures, axis=-1)
    np.fill_diagonal(apart, np.inf)
    trial = np.repeat(np.arange(40), 5)
    assert np.mean(trial[apart.argmin(axis=1)] == trial) > 0.3  # by chance 0.02


def test_pieces_join_without_a_step_and_keep_their_power():
    mixture = draw_mixture(DEAP_GENEVA, seed=0, source="deap", subject=1)
    pieces = [Piece(4, ("p", i), ("s",), {}) for i in range(20)]
    blocks = list(
        record(
            mixture,
            pieces,
            sfreq=128.0,
            band=(0.5, 45.0),
            effect=Effect("power", 0.0),
            line_uv=0.0,
            blinking=False,
        )
    )
    assert [block.shape for block in blocks] == [(32, 512)] * 20
    steps = np.abs(np.diff(np.hstack(blocks), axis=1))
    at_joins = steps[:, 511::512]
    assert np.median(at_joins) < 1.5 * np.median(steps)
    fading = np.mean([block[:, 8:56].var() for block in blocks[1:]])
    after = np.mean([block[:, 128:].var() for block in blocks[1:]])
    assert fading == pytest.approx(after, rel=0.25)


@pytest.fixture(scope="module")
def seed_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("seed") / "seed"
    truth = simulate("seed", root, subjects=2, sessions=2, seconds=8, bad_channels=4)
    arrays = {}
    for recording in truth.recordings:
        stored = scipy.io.loadmat(root / recording["file"])
        trials = {int(key.split("eeg")[1]): x for key, x in stored.items() if "_eeg" in key}
        arrays[recording["file"]] = trials
    return truth, arrays


def test_bad_channels_are_those_of_the_truth(seed_tree):
    truth, arrays = seed_tree
    kinds = set()
    for recording in truth.recordings:
        trials = arrays[recording["file"]]
        spread = np.median([trial.std(axis=1) for trial in trials.values()], axis=0)
        found = {
            name: "flat" if sd == 0 else "noisy"
            for name, sd in zip(truth.channels, spread, strict=True)
            if sd == 0 or sd > 100
        }
        assert found == recording["bad"]
        kinds |= set(found.values())
    assert kinds == {"flat", "noisy"}


def test_blinks_are_where_the_truth_has_them(seed_tree):
    truth, arrays = seed_tree
    front, back, before = [], [], []
    for recording in truth.recordings:
        fpz, poz = (truth.channels.index(name) for name in ("Fpz", "POz"))
        if {"Fpz", "POz"} & set(recording["bad"]):
            continue
        for trial, time in recording["blinks"]:
            eeg, at = arrays[recording["file"]][trial], round(time * 200)
            front.append(eeg[fpz, at])
            back.append(eeg[poz, at])
            before.append(eeg[fpz, at - 60])
    assert len(front) > 30
    assert np.median(front) > 70
    assert abs(np.median(back)) < 15
    assert abs(np.median(before)) < 15


def test_mains_is_seen_at_50_hz(seed_tree):
    truth, arrays = seed_tree
    recording = truth.recordings[0]
    good = [i for i, name in enumerate(truth.channels) if name not in recording["bad"]]
    freqs, power = scipy.signal.welch(arrays[recording["file"]][9][good], 200, nperseg=400)
    at, beside = power[:, freqs == 50].mean(), power[:, (freqs > 52) & (freqs < 56)].mean()
    assert at > 3 * beside
