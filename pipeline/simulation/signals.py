"""Simulated EEG: cortical sources mixed through a head model, with a planted effect.

A recording is ``x = G (B b + L s) + w``: background dipoles ``b`` all over the cortex with a 1/f
spectrum, rhythms ``s`` (narrow-band Gaussian dipoles at named places), white amplifier noise ``w``
and a gain ``G`` per channel. ``B`` and ``L`` are columns of the lead field of MNE's three-shell
sphere, so neighbouring electrodes see nearly the same. Everything is drawn in the frequency domain,
where band limits, spectra and phase lags are exact.

Three kinds of effect tie a trial's label code ``v`` (-1 to 1) to the rhythms of a target:

- ``power``: a rhythm's log power is shifted by ``effect * gain * v``;
- ``connectivity``: the two rhythms of a pair are coupled at a quarter cycle's lag with coherency
  ``tanh(effect * gain * v)``, whose sign is the direction. A real mixture of sources in quadrature
  has the power of independent ones, so every channel's spectrum stays the same in every class;
- ``waveform``: a rhythm comes in bursts or runs on evenly. The white noise that is filtered into
  the rhythm is strong in one half of each second and weak in the other, by a depth of ``(1 +
  tanh(effect * gain * v)) / 2``. Noise whose strength alone changes stays white, so every spectrum
  and every cross-spectrum stays the same in every class, and a channel's waveform alone differs.

Every trial moves the power of all rhythms and of the background's principal patterns by amounts of
its own, which carry no label: a signature by which windows of one trial know each other.

What is drawn depends only on the seed and on what it is drawn for, never on what was drawn before.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used

from omfa.pipeline.channels import UCS

EffectKind = Literal["power", "connectivity", "waveform"]

BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (14.0, 29.0), "gamma": (31.0, 45.0)}
"""Hz."""


@dataclass(frozen=True)
class Rhythm:
    """A source of one rhythm below one electrode.

    Attributes
    ----------
    anchor : str
        The electrode above it.
    band : str
        A name in ``BANDS``.
    target : str
        The rating that moves it; empty for none.
    gain : float
        Its share of the effect, with the sign.
    """

    anchor: str
    band: str
    target: str = ""
    gain: float = 0.0


# Valence in lateral temporal gamma and frontal alpha asymmetry, arousal in posterior alpha and
# central beta. Pairs follow one another: even and odd rows of a target are coupled together.
RHYTHMS = (
    Rhythm("T7", "gamma", "valence", 1.0),
    Rhythm("T8", "gamma", "valence", 1.0),
    Rhythm("F3", "alpha", "valence", -1.0),
    Rhythm("F4", "alpha", "valence", 1.0),
    Rhythm("O1", "alpha", "arousal", -1.0),
    Rhythm("O2", "alpha", "arousal", -1.0),
    Rhythm("FC5", "beta", "arousal", 1.0),
    Rhythm("FC6", "beta", "arousal", 1.0),
    Rhythm("Fz", "theta"),
    Rhythm("Pz", "alpha"),
    Rhythm("C3", "alpha"),
    Rhythm("C4", "alpha"),
    Rhythm("P7", "beta"),
    Rhythm("P8", "beta"),
)

TRIAL_SD = 0.5
"""Standard deviation over trials of a rhythm's natural-log power, whatever the label."""

TRIAL_SD_COUPLING = 0.25
"""The same of a pair's inverse hyperbolic tangent of coherency."""

TRIAL_SD_BURSTS = 0.25
"""The same of the inverse hyperbolic tangent that sets the depth of a rhythm's bursts."""

TRIAL_SD_BACKGROUND = 0.5
"""The same of the natural-log power of a pattern of the background."""

BASELINE: Mapping[str, float] = {}
"""The label codes of a time without a stimulus: none."""

_CAP = (*UCS.names[:62], "M1", "M2")
# What other corpora record beyond it, drawn by itself, so that what the cap records stays the same.
_BEYOND = tuple(name for name in UCS.names if name not in _CAP)
_HEAD_CENTRE = np.array([0.0, 0.0, 0.04])  # metres, head frame: MNE's default sphere
_CORTEX_RADIUS = 0.8  # of the head's
_N_SITES = 600
_N_BACKGROUND = 120
_BACKGROUND_RMS = 15.0  # microvolts, mean over channels, 0.5-45 Hz
_RHYTHM_TO_BACKGROUND = 2.0  # power in the band, at the electrode that sees the rhythm best
_WHITE_DENSITY = 0.06  # microvolts per root Hz
_NOISY_RMS = 150.0  # microvolts, of a noisy channel
_BLINK_UV = 200.0  # at the eyes
_BLINK_SECONDS = 0.4
_BLINKS_PER_SECOND = 0.2
_EYES = np.array([0.0, 0.095, 0.0])  # metres, head frame: between them
_JOIN_SECONDS = 0.5
# Half a second of a rhythm 5 Hz wide has 2.5 independent amplitudes: shorter bursts would blur.
_BURST_SECONDS = 0.5
_N_DRAWS = 4000  # windows of the Monte Carlo integral: a standard error of .005 or less
_MOST_PAIRS = 60  # seconds that it draws: a trial's own spread bounds what more would tell
_SLICE = 32  # frequencies: 64 x 64 x 64 multiplications are OpenBLAS's limit for one thread


def rng(*purpose: int | str) -> np.random.Generator:
    """Return the random numbers of one purpose: a seed, then words and numbers that name it."""
    # crc32 and not hash(), which gives a text another number in every process.
    words = (zlib.crc32(part.encode()) if isinstance(part, str) else part for part in purpose)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(list(words))))


@lru_cache(maxsize=1)
def _lead_field() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return cortical sites (n_sites, 3) and the lead field (n_ucs, n_sites, 3): the cap, the rest.

    Potentials are against infinity; the scale is arbitrary, since sources are scaled by what the
    electrodes see.
    """
    import mne  # takes seconds to import and only the simulator needs a head model

    names = [*_CAP, *_BEYOND]
    electrodes = UCS.positions(names)
    radius = float(np.linalg.norm(electrodes[: len(_CAP)] - _HEAD_CENTRE, axis=1).mean())
    step = np.arange(_N_SITES) + 0.5  # a Fibonacci lattice, equal areas from the top down
    z = 1 - 1.35 * step / _N_SITES
    turn = np.pi * (1 + 5**0.5) * step
    across = np.sqrt(1 - z**2)
    outward = np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
    sites = _HEAD_CENTRE + _CORTEX_RADIUS * radius * outward

    info = mne.create_info(names, 1000.0, "eeg")
    info.set_montage(
        mne.channels.make_dig_montage(dict(zip(names, electrodes, strict=True)), coord_frame="head")
    )
    sphere = mne.make_sphere_model(r0=tuple(_HEAD_CENTRE), head_radius=radius, verbose="error")
    space = mne.setup_volume_source_space(pos={"rr": sites, "nn": outward}, verbose="error")
    forward = mne.make_forward_solution(
        info, trans=None, src=space, bem=sphere, meg=False, eeg=True, verbose="error"
    )
    assert forward["nsource"] == _N_SITES
    field = forward["sol"]["data"].reshape(len(names), _N_SITES, 3)
    return sites, field / np.abs(field[: len(_CAP)]).max()


@dataclass(frozen=True)
class Mixture:
    """How the electrodes of one recording see their sources.

    Attributes
    ----------
    channels : tuple of str
        Canonical names.
    background : ndarray, shape (n_chans, n_chans)
        The background's principal patterns, microvolts of 0.5-45 Hz: a square root of its
        covariance.
    exponent : float
        Exponent of the background's 1/f spectrum.
    rhythms : ndarray, shape (n_chans, n_rhythms)
        The topographies, gain included.
    density : ndarray, shape (n_rhythms,)
        The rhythms' power densities in their bands.
    sites : ndarray, shape (n_rhythms, 3)
        Where the rhythms are, head frame, metres.
    white : ndarray, shape (n_chans,)
        White noise, microvolts per root Hz.
    line : ndarray, shape (n_chans,)
        Amplitude of the mains, microvolts.
    blink : ndarray, shape (n_chans,)
        The blink's peak, microvolts.
    bad : mapping of str to str
        Bad channels: ``"flat"`` or ``"noisy"``.
    tone_uv : float
        Amplitude of each channel's own sine, microvolts.
    """

    channels: tuple[str, ...]
    background: npt.NDArray[np.float32]
    exponent: float
    rhythms: npt.NDArray[np.float32]
    density: npt.NDArray[np.float64]
    sites: npt.NDArray[np.float64]
    white: npt.NDArray[np.float32]
    line: npt.NDArray[np.float32]
    blink: npt.NDArray[np.float32]
    bad: Mapping[str, str]
    tone_uv: float = 0.0

    @property
    def tones(self) -> dict[str, float]:
        """The frequency of each channel's own sine, Hz; none where there are no sines.

        Half a hertz apart, so that windows of two seconds tell them apart, and below 45 Hz for up
        to 80 channels.
        """
        if not self.tone_uv:
            return {}
        return {name: 5 + 0.5 * i for i, name in enumerate(self.channels)}


def draw_mixture(
    channels: Sequence[str],
    *,
    seed: int,
    source: str,
    subject: int,
    session: int = 1,
    bad_channels: float = 0.0,
    tones: float = 0.0,
) -> Mixture:
    """Draw one person's sources and one session's electrodes.

    Parameters
    ----------
    channels : sequence of str
        Canonical names.
    seed : int
    source : str
        The corpus: its subject 1 is not another's.
    subject, session : int
    bad_channels : float
        The expected number of bad channels.
    tones : float
        Amplitude of each channel's own sine, microvolts.
    """
    person = rng(seed, source, subject, "person")
    sitting = rng(seed, source, subject, session, "session")
    sites, field = _lead_field()
    beyond = rng(seed, source, subject, session, "beyond")
    row = {name: i for i, name in enumerate([*_CAP, *_BEYOND])}
    seen = [row[name] for name in channels]
    scalp = [row[name] for name in UCS.names[:62]]
    outward = (sites - _HEAD_CENTRE) / np.linalg.norm(sites - _HEAD_CENTRE, axis=1, keepdims=True)

    chosen = person.choice(_N_SITES, _N_BACKGROUND, replace=False)
    moments = outward[chosen] + 0.5 * person.standard_normal((_N_BACKGROUND, 3))
    moments *= person.lognormal(0.0, 0.5, (_N_BACKGROUND, 1))
    moments += 0.05 * sitting.standard_normal(moments.shape)  # the cap sits elsewhere each time
    rms = _BACKGROUND_RMS * person.lognormal(0.0, 0.2)
    columns = np.einsum("csk,sk->cs", field[:, chosen], moments)
    columns *= rms / np.sqrt((columns[scalp] ** 2).sum(axis=1).mean())
    exponent = float(np.clip(person.normal(1.2, 0.15), 0.8, 1.7))

    places, topographies, densities = [], [], []
    for rhythm in RHYTHMS:
        below = np.linalg.norm(sites - UCS.positions([rhythm.anchor]), axis=1)
        site = np.argsort(below)[person.integers(6)]
        moment = outward[site] + 0.3 * person.standard_normal(3) + 0.05 * sitting.standard_normal(3)
        topography = field[:, site] @ moment
        best = scalp[int(np.abs(topography[scalp]).argmax())]
        log_power = person.normal(0.0, 0.4) + sitting.normal(0.0, 0.2)
        centre = np.array([np.mean(BANDS[rhythm.band])])
        behind = (columns[best] ** 2).sum() * _one_over_f(centre, exponent)[0]
        places.append(sites[site])
        topographies.append(topography / abs(topography[best]))
        densities.append(_RHYTHM_TO_BACKGROUND * behind * np.exp(log_power))

    cap_gain = _electrodes(0.08, sitting, beyond)[seen]
    modes, strengths, _ = np.linalg.svd(columns[seen], full_matrices=False)
    white = np.full(len(seen), _WHITE_DENSITY)
    bad = _draw_bad(channels, bad_channels, rng(seed, source, subject, session, "bad"))
    for name, kind in bad.items():
        if kind == "noisy":
            # Its root mean square over the 45 Hz that the default band passes.
            white[list(channels).index(name)] = _NOISY_RMS / np.sqrt(45.0)
    to_eyes = np.linalg.norm(UCS.positions(channels) - _EYES, axis=1)
    return Mixture(
        channels=tuple(channels),
        background=(cap_gain[:, None] * modes * strengths).astype(np.float32),
        exponent=exponent,
        rhythms=(cap_gain[:, None] * np.stack(topographies, axis=1)[seen]).astype(np.float32),
        density=np.array(densities),
        sites=np.array(places),
        white=white.astype(np.float32),
        line=_electrodes(0.5, sitting, beyond)[seen].astype(np.float32),
        blink=(_BLINK_UV * cap_gain * np.exp(-((to_eyes / 0.05) ** 2))).astype(np.float32),
        bad=bad,
        tone_uv=tones,
    )


def _electrodes(
    spread: float, cap: np.random.Generator, beyond: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw a factor for each electrode of the cap, and then for each beyond it."""
    return np.concatenate(
        [cap.lognormal(0.0, spread, len(_CAP)), beyond.lognormal(0.0, spread, len(_BEYOND))]
    )


def _draw_bad(
    channels: Sequence[str], expected: float, draw: np.random.Generator
) -> dict[str, str]:
    # However many are expected, most of a small montage stays good.
    n_bad = min(int(draw.poisson(expected)), len(channels) // 4)
    chosen = sorted(draw.choice(len(channels), n_bad, replace=False))
    return {channels[i]: str(draw.choice(["flat", "noisy"])) for i in chosen}


def _one_over_f(freqs: npt.NDArray[np.floating], exponent: float) -> npt.NDArray[np.floating]:
    """Return the background's density per Hz: f^-exponent, level below 1 Hz, 1 over 0.5-45 Hz."""
    # 0.5 Hz of level density, then the integral from 1 to 45 Hz; ln 45 + 0.5 at an exponent of 1.
    total = 0.5 + (1 - 45.0 ** (1 - exponent)) / (exponent - 1) if exponent != 1 else 4.31
    return np.maximum(freqs, 1.0) ** -exponent / total


def _window(
    freqs: npt.NDArray[np.floating], low: float, high: float, edge: float
) -> npt.NDArray[np.floating]:
    """Return 1 in a band, with raised-cosine edges of ``edge`` Hz inside it."""
    rise = np.clip((freqs - low) / edge, 0, 1) if low > 0 else np.ones_like(freqs)
    fall = np.clip((high - freqs) / edge, 0, 1)
    return np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2


@dataclass(frozen=True)
class Effect:
    """What is planted: its kind and its size (natural-log power, or inverse tanh of coherency)."""

    kind: EffectKind
    size: float


@dataclass(frozen=True)
class Piece:
    """A stretch of signal under one condition.

    Attributes
    ----------
    seconds : float
    purpose : tuple of int or str
        Names its random numbers, after the seed.
    signature : tuple of int or str
        Names the random numbers of its trial, which all pieces of the trial share.
    codes : mapping of str to float
        The label code of each target, -1 to 1.
    """

    seconds: float
    purpose: tuple[int | str, ...]
    signature: tuple[int | str, ...]
    codes: Mapping[str, float]


def synthesize(
    mixture: Mixture,
    piece: Piece,
    *,
    n_times: int,
    sfreq: float,
    band: tuple[float, float],
    effect: Effect,
) -> npt.NDArray[np.float32]:
    """Draw a piece of EEG, without blinks, mains and bad channels' flatness.

    Parameters
    ----------
    mixture : Mixture
    piece : Piece
    n_times : int
    sfreq : float
        Hz.
    band : (float, float)
        Hz that the recorder passes; 0 as the lower edge for all.
    effect : Effect

    Returns
    -------
    ndarray of float32, shape (n_chans, n_times)
        Microvolts.
    """
    draw = rng(*piece.purpose)
    # Room to spare, or the end of the piece would run into its beginning.
    n_fft = scipy.fft.next_fast_len(n_times + int(sfreq), real=True)
    freqs = scipy.fft.rfftfreq(n_fft, 1 / sfreq)
    passed = _window(freqs, band[0], band[1], edge=min(1.0, band[1] / 10))
    n_chans = len(mixture.channels)
    shift, coupling, patterns = _trial_state(piece, effect, n_patterns=n_chans)
    depths = _burst_depths(piece, effect)

    def gaussian(rows: int, bins: int) -> npt.NDArray[np.float32]:
        return draw.standard_normal((rows, 2 * bins), dtype=np.float32)  # real, imaginary, real ...

    # |X_f|^2 = density * sfreq * n_fft / 2 for a one-sided density.
    scale = np.sqrt(sfreq * n_fft / 4)
    shape = np.sqrt(_one_over_f(freqs, mixture.exponent)) * passed * scale
    background = mixture.background * np.exp(patterns / 2).astype(np.float32)
    # Slices so small that BLAS keeps to one thread: its threads wait on each other for most of the
    # time when several processes share the cores.
    n_slices = -(-len(freqs) // _SLICE)
    slices = background @ gaussian(n_slices * n_chans, _SLICE).reshape(n_slices, n_chans, -1)
    spectrum = slices.transpose(1, 0, 2).reshape(n_chans, -1).view(np.complex64)[:, : len(freqs)]
    del slices
    spectrum *= shape.astype(np.float32)
    white = gaussian(n_chans, len(freqs)).view(np.complex64)
    white *= (passed * scale).astype(np.float32)
    white *= mixture.white[:, None]
    spectrum += white
    del white

    for i in range(0, len(RHYTHMS), 2):
        first, second = (_bins(freqs, rhythm.band) for rhythm in RHYTHMS[i : i + 2])
        sources = [
            gaussian(1, where.stop - where.start)[0].view(np.complex64) for where in (first, second)
        ]
        if (c := coupling[i // 2]) != 0:
            # A quarter cycle's lag: the cross-spectrum of the two is imaginary.
            sources[1] = c * 1j * sources[0] + np.sqrt(1 - c**2) * sources[1]
        for j, where in ((0, first), (1, second)):
            if depths[i + j]:
                purpose = (*piece.purpose, "bursts", i + j)
                sources[j] = _bursting(depths[i + j], n_fft, sfreq, draw=rng(*purpose))[where]
        for j, where, waves in zip((i, i + 1), (first, second), sources, strict=True):
            density = mixture.density[j] * np.exp(shift[j])
            in_band = _window(freqs[where], *BANDS[RHYTHMS[j].band], edge=1.0)
            amplitude = np.sqrt(density * in_band) * passed[where] * scale
            spectrum[:, where] += mixture.rhythms[:, j, None] * (waves * amplitude.astype("f4"))
    # Offsets are the amplifier's: each corpus adds its own.
    spectrum[:, 0] = 0
    return scipy.fft.irfft(spectrum, n_fft, axis=1, overwrite_x=True)[:, :n_times]


def _bins(freqs: npt.NDArray[np.floating], band: str) -> slice:
    low, high = BANDS[band]
    return slice(int(np.searchsorted(freqs, low, "right")), int(np.searchsorted(freqs, high)))


def _trial_state(
    piece: Piece, effect: Effect, *, n_patterns: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return log-power shifts of rhythms, coherencies of pairs, and shifts of the background."""
    draw = rng(*piece.signature)
    shift = draw.normal(0.0, TRIAL_SD, len(RHYTHMS))
    coupling = draw.normal(0.0, TRIAL_SD_COUPLING, len(RHYTHMS) // 2)
    patterns = draw.normal(0.0, TRIAL_SD_BACKGROUND, n_patterns)
    pull = np.array([r.gain * piece.codes.get(r.target, 0.0) for r in RHYTHMS]) * effect.size
    if effect.kind == "power":
        return shift + pull, np.zeros(len(coupling)), patterns
    targeted = np.array([bool(r.target) for r in RHYTHMS[::2]])
    return shift, np.tanh(coupling + pull[::2]) * targeted, patterns


def _burst_depths(piece: Piece, effect: Effect) -> npt.NDArray[np.float64]:
    """Return how deep the bursts of each rhythm are: 0 for none, 1 for silence between them."""
    if effect.kind != "waveform":
        return np.zeros(len(RHYTHMS))
    own = rng(*piece.signature, "bursts").normal(0.0, TRIAL_SD_BURSTS, len(RHYTHMS))
    pull = np.array([r.gain * piece.codes.get(r.target, 0.0) for r in RHYTHMS]) * effect.size
    targeted = np.array([bool(r.target) for r in RHYTHMS])
    return _depth(own + pull) * targeted


def _depth(pull: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (1 + np.tanh(pull)) / 2


def _bursting(
    depth: float, n_fft: int, sfreq: float, *, draw: np.random.Generator
) -> npt.NDArray[np.complex64]:
    """Return the spectrum of white noise in bursts; real and imaginary parts have variance 1."""
    n_pairs = int(np.ceil(n_fft / sfreq / (2 * _BURST_SECONDS)))
    # One half of each pair is strong, either with the same chance: the power of a pair is known.
    strong = draw.integers(0, 2, n_pairs)
    power = 1 + depth * np.stack([2 * strong - 1, 1 - 2 * strong], axis=1).ravel()
    cell = (np.arange(n_fft) / sfreq / _BURST_SECONDS).astype(int)
    noise = draw.standard_normal(n_fft, dtype=np.float32) * np.sqrt(power[cell] * 2 / n_fft)
    spectrum: npt.NDArray[np.complex64] = scipy.fft.rfft(noise.astype(np.float32))
    return spectrum


def blink_times(piece: Piece) -> npt.NDArray[np.float64]:
    """Return the peaks of a piece's blinks, seconds from its start."""
    draw = rng(*piece.purpose, "blinks")
    room = piece.seconds - 2 * _BLINK_SECONDS
    if room <= 0:
        return np.zeros(0)
    times = draw.uniform(0, room, draw.poisson(_BLINKS_PER_SECOND * room)) + _BLINK_SECONDS
    # To the millisecond, so that the truth's JSON holds the very numbers that were used.
    return np.sort(times).round(3)


def blinks(times: Iterable[float], *, n_times: int, sfreq: float) -> npt.NDArray[np.float32]:
    """Return the course of blinks, peak 1, as raised cosines.

    Returns
    -------
    ndarray of float32, shape (n_times,)
    """
    course = np.zeros(n_times, np.float32)
    half = int(sfreq * _BLINK_SECONDS / 2)
    bump = np.cos(np.linspace(-np.pi / 2, np.pi / 2, 2 * half + 1)) ** 2
    for time in times:
        start = round(time * sfreq) - half
        course[start : start + len(bump)] += bump
    return course


def mains(n_times: int, sfreq: float, *, start: int = 0) -> npt.NDArray[np.float32]:
    """Return a 50 Hz sine of amplitude 1 from sample ``start`` of a recording.

    Returns
    -------
    ndarray of float32, shape (n_times,)
    """
    return np.sin(2 * np.pi * 50 / sfreq * (start + np.arange(n_times))).astype(np.float32)


def record(
    mixture: Mixture,
    pieces: Sequence[Piece],
    *,
    sfreq: float,
    band: tuple[float, float],
    effect: Effect,
    line_uv: float,
    blinking: bool = True,
    n_last: int = 0,
) -> Iterator[npt.NDArray[np.float32]]:
    """Draw contiguous pieces of EEG with their artefacts, one block per piece.

    Consecutive pieces are cross-faded over half a second at the later one's start, by weights whose
    squares sum to one, so that power is kept.

    Parameters
    ----------
    mixture, pieces, sfreq, band, effect
        As in ``synthesize``.
    line_uv : float
        Typical amplitude of the mains, microvolts.
    blinking : bool
    n_last : int
        Samples that the last piece has beyond its seconds.

    Yields
    ------
    ndarray of float32, shape (n_chans, n_times)
        Microvolts; flat channels are 0.
    """
    n_join = int(_JOIN_SECONDS * sfreq)
    angle = np.pi / 2 * np.arange(n_join, dtype=np.float32) / n_join
    tail = None
    start = 0
    flat = [mixture.channels.index(name) for name, kind in mixture.bad.items() if kind == "flat"]
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        n_times = round(piece.seconds * sfreq) + (n_last if last else 0)
        spare = 0 if last else n_join
        drawn = synthesize(
            mixture, piece, n_times=n_times + spare, sfreq=sfreq, band=band, effect=effect
        )
        block = drawn[:, :n_times]
        if tail is not None:
            block[:, :n_join] *= np.sin(angle)
            block[:, :n_join] += tail * np.cos(angle)
        # A copy, or this view would keep the whole piece in memory.
        tail = drawn[:, n_times:].copy()
        if blinking and len(times := blink_times(piece)):
            course = blinks(times, n_times=n_times, sfreq=sfreq)
            for channel in np.flatnonzero(mixture.blink > 0.01):
                block[channel] += mixture.blink[channel] * course
        if mixture.tone_uv:
            turns = np.outer(list(mixture.tones.values()), np.arange(n_times) / sfreq)
            block += (mixture.tone_uv * np.sin(2 * np.pi * turns)).astype(np.float32)
        if line_uv:
            block += line_uv * mixture.line[:, None] * mains(n_times, sfreq, start=start)
        block[flat] = 0
        start += n_times
        yield block


def best_accuracy(
    codes: npt.NDArray[np.floating],
    classes: npt.NDArray[np.integer],
    *,
    target: str,
    effect: Effect,
    seconds: float,
) -> tuple[float, float]:
    """Return what a decoder that sees the true sources can reach on one window.

    It sees each planted rhythm's log power (or each pair's inverse tanh of coherency) over the
    window and knows the recording's own levels. That figure is Gaussian with mean ``gain * effect *
    v`` and the variance of the trial's own shift plus that of the estimate from ``n = bandwidth *
    seconds`` independent bins: trigamma(n) for log power, 1/(2n) for coherency. Together they weigh
    as one Gaussian figure of unit variance and mean ``d * v``, whose Bayes accuracy over the codes
    given is integrated. Of bursts it sees, for each planted rhythm and second, how the power of the
    two halves compares, and knows where the halves begin; its Bayes accuracy is integrated over
    4,000 drawn windows, of at most a minute. Electrodes see the sources mixed, so no decoder of
    channels does better.

    Parameters
    ----------
    codes : ndarray, shape (n_trials,)
        Label codes of the target.
    classes : ndarray of int, shape (n_trials,)
    target : str
    effect : Effect
    seconds : float
        The window's length.

    Returns
    -------
    accuracy, balanced : float
        Accuracy and balanced accuracy of the decisions that are best for each.
    """
    kinds = np.unique(classes)
    share = np.array([(classes == kind).mean() for kind in kinds])
    seen = _burst_likelihood if effect.kind == "waveform" else _gaussian_likelihood
    weights, likelihood = seen(codes, target, effect, seconds)
    joint = np.stack([likelihood[:, classes == kind].sum(axis=1) for kind in kinds]) / len(codes)
    accuracy = joint.max(axis=0) @ weights
    balanced = (joint / share[:, None]).max(axis=0) @ weights / len(kinds)
    return float(accuracy), float(balanced)


def _gaussian_likelihood(
    codes: npt.NDArray[np.floating], target: str, effect: Effect, seconds: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return weights (n_points,) and densities (n_points, n_trials) of the one figure seen."""
    rhythms = [rhythm for rhythm in RHYTHMS if rhythm.target == target]
    if effect.kind == "connectivity":
        rhythms = rhythms[::2]
    information = 0.0
    for rhythm in rhythms:
        n_bins = _n_bins(rhythm, seconds)
        if effect.kind == "power":
            variance = TRIAL_SD**2 + float(scipy.special.polygamma(1, n_bins))
        else:
            variance = TRIAL_SD_COUPLING**2 + 1 / (2 * n_bins)
        information += (effect.size * rhythm.gain) ** 2 / variance
    means = np.sqrt(information) * codes
    # Six standard deviations beyond the means: about 1e-9 is left out.
    grid = np.linspace(means.min() - 6, means.max() + 6, 2001)
    weights = np.full(len(grid), grid[1] - grid[0])
    weights[[0, -1]] /= 2
    return weights, np.exp(-((grid[:, None] - means) ** 2) / 2) / np.sqrt(2 * np.pi)


def _burst_likelihood(
    codes: npt.NDArray[np.floating], target: str, effect: Effect, seconds: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return weights (n_draws,) and relative densities (n_draws, n_trials) of drawn windows.

    A window is one share per second and rhythm: of its two halves' power, that of the first. With
    ``n`` independent amplitudes a half, the powers are gamma variables of shape ``n``. Weights are
    the inverse of what the draws were made from, so that sums over draws are integrals.
    """
    draw = rng(0, "best accuracy", target)
    per_code = -(-_N_DRAWS // len(codes))
    drawn = np.repeat(codes, per_code)
    n_pairs = min(int(seconds / (2 * _BURST_SECONDS) + 1e-9), _MOST_PAIRS)
    log_likelihood = np.zeros((len(drawn), len(codes)))
    for rhythm in RHYTHMS:
        if rhythm.target != target:
            continue
        n = _n_bins(rhythm, _BURST_SECONDS)
        pull = effect.size * rhythm.gain * codes
        depth = _depth(
            effect.size * rhythm.gain * drawn + draw.normal(0, TRIAL_SD_BURSTS, len(drawn))
        )
        strong, weak = draw.gamma(n, size=(2, len(drawn), n_pairs))
        strong, weak = strong * (1 + depth[:, None]), weak * (1 - depth[:, None])
        first = strong / (strong + weak)
        # Four standard deviations beyond the pulls; the steps are finer than a trial's own spread.
        reach = 4 * TRIAL_SD_BURSTS
        grid = np.arange(pull.min() - reach, pull.max() + reach, TRIAL_SD_BURSTS / 2)
        on_grid = np.empty((len(drawn), len(grid)))
        for g, d in enumerate(_depth(grid)):
            halves = [
                -2 * n * np.log(share / (1 + d) + (1 - share) / (1 - d))
                for share in (first, 1 - first)
            ]
            on_grid[:, g] = (np.logaddexp(*halves) - n * np.log((1 + d) * (1 - d))).sum(axis=1)
        prior = np.exp(-(((grid[:, None] - pull) / TRIAL_SD_BURSTS) ** 2) / 2)
        top = on_grid.max(axis=1, keepdims=True)
        log_likelihood += top + np.log(np.exp(on_grid - top) @ (prior / prior.sum(axis=0)))
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    return 1 / (likelihood.mean(axis=1) * len(drawn)), likelihood


def _n_bins(rhythm: Rhythm, seconds: float) -> float:
    low, high = BANDS[rhythm.band]
    return (high - low) * seconds


def heartbeat(n_times: int, sfreq: float, *, draw: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return an electrocardiogram of peak about 1 at 60-80 beats a minute.

    Returns
    -------
    ndarray of float32, shape (n_times,)
    """
    seconds = n_times / sfreq
    period = draw.uniform(0.75, 1.0)
    beats = np.cumsum(draw.normal(period, 0.03, int(seconds / period * 1.2) + 2))
    course = np.zeros(n_times + int(sfreq), np.float32)
    time = np.arange(-0.3, 0.5, 1 / sfreq)
    # Gaussian P, Q, R, S and T waves: height, seconds from R, width in seconds.
    waves = [(0.1, -0.2, 0.03), (-0.1, -0.03, 0.01), (1, 0, 0.01), (-0.2, 0.03, 0.01)]
    waves += [(0.25, 0.25, 0.05)]
    beat = np.sum([h * np.exp(-(((time - t) / w) ** 2) / 2) for h, t, w in waves], axis=0)
    for peak in beats:
        start = int((peak - 0.3) * sfreq)
        if start >= 0 and start + len(beat) <= len(course):
            course[start : start + len(beat)] += beat
    return course[:n_times]
