"""ART: its resampler against analytic signals and torchaudio, its tokens, its invariances."""

import math

import numpy as np
import pytest
import torch
from scipy import signal as sps

from omfa.models import ART, PRESETS, make_encoder
from omfa.models.art import AdaptiveResampler, invert_density, rotary_turns
from omfa.models.front_end import FrontEnd, rate_ratio, recorded, resample, resampling_kernel

RATES = (200.0, 250.0, 500.0, 1000.0)


def art(**options):
    size = PRESETS["tiny"]
    return ART(
        dim=size.dim,
        n_layers=size.n_layers,
        n_heads=size.n_heads,
        stem_channels=size.stem_channels,
        **options,
    ).eval()


def to_128(x, sfreq):
    up, down = rate_ratio(sfreq)
    kernel, reach = resampling_kernel(up, down)
    return resample(x, kernel.to(x), reach, up, down)


@pytest.mark.parametrize(
    ("sfreq", "tolerance"),
    [
        *((rate, 1e-4) for rate in (*RATES, 137.0, 512.0)),
        (100.0, 0.05),  # 45 Hz lies in the filter's flank, which ends at 50
        (499.7, 2e-3),  # the ratio to 128 is met within a part in a million
    ],
)
def test_resampled_tones_are_the_tones_sampled_at_128_hz(tones, sfreq, tolerance):
    seconds = 4
    got = to_128(tones(round(seconds * sfreq), sfreq).double(), sfreq)
    want = tones(got.shape[-1], 128.0).double()
    inner = slice(128, -128)  # reflection is not the true continuation
    error = (got - want)[:, inner].square().mean().sqrt() / want.square().mean().sqrt()
    assert error < tolerance


@pytest.mark.parametrize("sfreq", RATES)
def test_the_ends_of_a_window_hardly_depend_on_the_rate(tones, sfreq):
    got, want = to_128(tones(round(4 * sfreq), sfreq), sfreq), tones(512, 128.0)
    error = (got - want).square().mean(0).sqrt() / want.std()
    assert error.max() < 0.1


@pytest.mark.parametrize("sfreq", [200.0, 250.0, 1000.0])
def test_resampler_agrees_with_torchaudio(sfreq):
    from omfa.models.compat import make_torchaudio_importable

    make_torchaudio_importable()
    functional = pytest.importorskip("torchaudio.functional")
    x = torch.randn(3, round(4 * sfreq), dtype=torch.float64)
    want = functional.resample(
        x,
        round(sfreq),
        128,
        lowpass_filter_width=16,
        rolloff=0.95,
        resampling_method="sinc_interp_kaiser",
        beta=8.0,
    )
    got = to_128(x, sfreq)
    assert got.shape == want.shape
    torch.testing.assert_close(got[:, 64:-64], want[:, 64:-64], atol=2e-3, rtol=0)


def test_resampler_stops_what_would_alias():
    time = torch.arange(4000, dtype=torch.float64) / 1000
    x = torch.sin(2 * math.pi * 100 * time)[None]  # above 64 Hz, would appear at 28
    assert to_128(x, 1000.0)[:, 64:-64].abs().max() < 1e-3


def test_resampler_keeps_a_constant():
    x = torch.full((1, 500), 7.0, dtype=torch.float64)
    torch.testing.assert_close(to_128(x, 250.0), torch.full((1, 256), 7.0, dtype=torch.float64))


def test_a_window_shorter_than_the_filter_says_so():
    with pytest.raises(ValueError, match=r"20 samples is too short.*0\.5 s"):
        art(sfreq=1000.0)(torch.randn(1, 20))


def test_band_powers_agree_with_scipy_welch():
    x = torch.randn(4, 1280, dtype=torch.float64) * 13
    z, side, spectrum, _ = FrontEnd(128.0).double()(x)
    freqs, power = sps.welch(z.numpy(), 128, "hann", 128, 64, detrend=False)
    bands = ((1, 4), (4, 8), (8, 13), (13, 30), (30, 46))
    want = [np.log(power[:, (freqs >= a) & (freqs < b)].sum(-1) + 1e-4) + 2 for a, b in bands]
    np.testing.assert_allclose(side[:, 1:6].numpy(), np.stack(want, 1), rtol=1e-6)
    np.testing.assert_allclose(spectrum.numpy(), np.log(power[:, 1:46] + 1e-5) + 4, atol=1e-6)


def test_bursts_are_bartletts_statistic_of_short_segments():
    x = torch.randn(4, 1280, dtype=torch.float64) * 13
    front_end = FrontEnd(128.0).double()
    z = front_end(x)[0]
    segments = np.lib.stride_tricks.sliding_window_view(z.numpy(), 64, -1)[:, ::16]
    freqs, power = sps.periodogram(segments, 128, "hann", detrend=False)
    bands = ((1, 4), (4, 8), (8, 13), (13, 30), (30, 45))
    # Of densities, which are powers but for the 2 Hz from one to the next.
    band = np.stack([2 * power[..., (freqs >= a) & (freqs < b)].sum(-1) for a, b in bands]) + 1e-4
    uneven = np.log(band.mean(-1)) - np.log(band).mean(-1)
    want = torch.from_numpy(np.log(uneven + 0.01) + 2).T
    torch.testing.assert_close(front_end.bursts(z, None), want)


def test_bursts_are_told_from_a_rhythm_of_equal_power():
    steady = torch.randn(16, 1280, dtype=torch.float64)
    gate = torch.arange(1280) // 64 % 2
    front_end = FrontEnd(128.0).double()
    even, uneven = (front_end.bursts(front_end(10 * x)[0], None) for x in (steady, steady * gate))
    assert uneven[:, 2:].min() > even[:, 2:].max() + 0.5
    # A gap in a recording is no silence between bursts, and nothing at all is no burst.
    mask = torch.ones(16, 1280, dtype=torch.bool)
    mask[:, 400:900] = False
    z, _, _, mask = front_end(10 * steady, mask=mask)
    assert (front_end.bursts(z, mask) - even).abs().mean() < 0.25
    nothing = front_end.bursts(z, torch.zeros_like(mask))
    torch.testing.assert_close(nothing, torch.full_like(nothing, math.log(0.01) + 2))


@pytest.mark.parametrize(("path", "near"), [("spectral", 0.05), ("bursts", 0.1)])
def test_a_path_is_beside_all_else_and_reads_its_features_alone(path, near):
    """Time run backwards has the same segments, and so the same features; the stem hears it."""
    others = {"spectral": True, "bursts": True}
    x = 10 * torch.randn(4, 512)
    model, without = art(**others), art(**{**others, path: False})
    without.load_state_dict(model.state_dict(), strict=False)
    names = ["temporal", *others]
    parts = dict(zip(names, model(x).h.split(model.parts, -1), strict=True))
    assert torch.equal(
        torch.cat([part for name, part in parts.items() if name != path], -1), without(x).h
    )
    back = dict(zip(names, model(x.flip(-1)).h.split(model.parts, -1), strict=True))
    # Hann's window of the Fourier transform is even about its first sample, not its middle.
    torch.testing.assert_close(back[path], parts[path], atol=near, rtol=0)
    changed = {name: (back[name] - parts[name]).abs().max() for name in names}
    assert changed["temporal"] > 10 * changed["spectral"]
    assert changed["temporal"] > 5 * changed["bursts"]


def test_scale_is_known_to_the_side_features_and_not_to_the_embedding(tones):
    x = tones(512, 128.0)
    model = art()
    a, b = model(x), model(10 * x)
    torch.testing.assert_close(a.h, b.h, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b.side[:, 0] - a.side[:, 0], torch.full((6,), math.log(10)))
    torch.testing.assert_close(a.side[:, 1:], b.side[:, 1:], atol=1e-4, rtol=1e-4)


def test_an_offset_and_a_single_artefact_hardly_move_the_embedding(tones):
    model, x = art(), tones(512, 128.0)
    plain = model(x)
    torch.testing.assert_close(model(x + 4200).h, plain.h, atol=1e-3, rtol=1e-3)
    spiked = x.clone()
    spiked[:, 300] += 1e5
    shift = (model(spiked).side[:, 0] - plain.side[:, 0]).abs()
    # A standard deviation would move by log(1e5 / sqrt(512) / 10), about 6.
    assert (shift < 4).all()


@pytest.mark.parametrize("resampling", ["rate", "rate+content"])
@pytest.mark.parametrize("sfreq", RATES)
def test_the_rate_does_not_matter(tones, sfreq, resampling):
    model = art(resampling=resampling)
    want = model(tones(512, 128.0), 128.0).h
    got = model(tones(round(4 * sfreq), sfreq), sfreq).h
    assert torch.cosine_similarity(got, want).min() > 0.999


def test_the_rate_matters_when_resampling_is_off(tones):
    model = art(resampling="off")
    want = model(tones(512, 128.0), 128.0).h
    got = model(tones(2000, 500.0), 500.0).h
    assert torch.cosine_similarity(got, want).max() < 0.999


@pytest.mark.parametrize("resampling", ["rate", "rate+content"])
def test_the_rate_does_not_matter_after_training(tones, resampling):
    model = art(resampling=resampling).train()
    classify = torch.nn.Linear(model.dim, 3)
    optimizer = torch.optim.AdamW([*model.parameters(), *classify.parameters()], lr=3e-3)
    labels = torch.arange(12) % 3
    # The classes differ in the frequency of one tone, over a background of many.
    time = torch.arange(512) / 128
    mark = 8 * torch.sin(2 * math.pi * torch.tensor([6.0, 10.0, 20.0])[labels][:, None] * time)
    x = tones(512, 128.0, rows=12, seed=1) + mark
    first = last = None
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(classify(model(x).h), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = loss.item()
        first = first or last
    assert last < 0.3 * first
    model.eval()
    want = model(tones(512, 128.0), 128.0).h
    for sfreq in RATES:
        got = model(tones(round(4 * sfreq), sfreq), sfreq).h
        assert torch.cosine_similarity(got, want).min() > 0.999


@pytest.mark.parametrize("resampling", ["off", "rate", "rate+content"])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.3, 10.0, 60.0])
@pytest.mark.parametrize("sfreq", [128.0, 200.0, 1000.0])
def test_any_window_from_half_a_second_to_a_minute(sfreq, seconds, resampling):
    if resampling == "off" and seconds * sfreq > 60 * 128:
        seconds = 60 * 128 / sfreq
    out = art(resampling=resampling)(torch.randn(2, round(seconds * sfreq)), sfreq)
    assert out.h.isfinite().all()
    length = seconds * (sfreq / 128 if resampling == "off" else 1)
    assert out.tokens.shape[1] == max(1, math.ceil(2 * length - 0.5))
    assert (out.times.diff() > 0).all()
    assert (out.times > 0).all()
    assert (out.times < length + 0.01).all()


def test_tokens_follow_the_density():
    density = torch.ones(1, 80)
    density[:, 40:] = 3.0
    places, _ = invert_density(density, (torch.arange(16) + 0.5) / 16)
    assert (places < 0.5).sum() == 4  # a quarter of the tokens in the sparse half
    even, _ = invert_density(torch.ones(1, 80), (torch.arange(16) + 0.5) / 16)
    torch.testing.assert_close(even[0], (torch.arange(16) + 0.5) / 16)


def test_content_can_move_tokens_and_learns_to():
    resampler = AdaptiveResampler(8, 2.0, True, torch.nn.GELU, 1 / 8)
    frames = torch.zeros(1, 64, 8)
    frames[:, 32:] = 1.0
    optimizer = torch.optim.Adam(resampler.parameters(), lr=0.03)
    before = (resampler(frames, 8.0)[1] > 4.0).sum()
    for _ in range(60):
        _, times = resampler(frames, 8.0)
        optimizer.zero_grad()
        (-times.mean()).backward()  # wants tokens late
        optimizer.step()
    assert (resampler(frames, 8.0)[1] > 4.0).sum() > before + 2


def test_uniform_and_content_tokens_start_nearly_alike():
    _, even = AdaptiveResampler(16, 2.0, False, torch.nn.GELU, 1 / 8)(torch.randn(3, 64, 16), 8.0)
    _, placed = AdaptiveResampler(16, 2.0, True, torch.nn.GELU, 1 / 8)(torch.randn(3, 64, 16), 8.0)
    assert (placed - even).abs().max() < 0.25  # half a token


def test_what_stands_in_absent_samples_has_no_effect(tones):
    model, x = art(), tones(512, 128.0)
    mask = torch.ones(6, 512, dtype=torch.bool)
    mask[:, 300:] = False
    junk = torch.where(mask, x, torch.tensor(float("nan")))
    got, want = model(junk, mask=mask), model(torch.where(mask, x, 1e6), mask=mask)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    assert got.h.isfinite().all()
    # And the absent part is not what the answer is made of.
    cut = model(x[:, :300]).side
    torch.testing.assert_close(got.side[:, 0], cut[:, 0], atol=1e-5, rtol=1e-5)
    assert (got.side - cut).abs().max() < 0.6


def test_a_mask_of_ones_changes_nothing(tones):
    model, x = art(sfreq=250.0), tones(1000, 250.0)
    everything = torch.ones_like(x, dtype=torch.bool)
    for a, b in zip(model(x), model(x, mask=everything), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_rows_without_a_signal_are_silence(tones):
    x = tones(512, 128.0)
    x[0, 100], x[1, 7], x[2] = float("nan"), float("inf"), 3.0
    assert recorded(x).tolist() == [False] * 3 + [True] * 3
    out = art()(x)
    assert out.h.isfinite().all()
    torch.testing.assert_close(out.h[0], out.h[2])


def test_slices_of_a_batch_are_the_batch(tones, monkeypatch):
    model, x = art(sfreq=200.0), tones(800, 200.0, rows=7)
    mask = torch.rand(7, 800) < 0.9
    whole, masked = model(x), model(x, mask=mask)
    monkeypatch.setattr("omfa.models.art.CPU_SLICE", 2 * 800)
    for a, b in zip((*whole, *masked), (*model(x), *model(x, mask=mask)), strict=True):
        torch.testing.assert_close(a, b)


def test_what_a_graph_computes_in_another_way_is_the_same(monkeypatch):
    x = 10 * torch.randn(6, 40)
    x[0, 3], x[1, 4], x[2, 5], x[3] = math.nan, math.inf, -math.inf, 2.0
    density = torch.rand(4, 20) + 0.1
    density[0] = 0.25  # ranks that fall on edges
    ranks = (torch.arange(5) + 0.5) / 5
    want = recorded(x), *invert_density(density, ranks)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    found = recorded(x), *invert_density(density, ranks)
    for a, b in zip(found, want, strict=True):
        assert torch.equal(a, b)
    assert want[0].tolist() == [False] * 4 + [True] * 2


def test_the_order_of_tokens_is_told_by_the_rotary_phases_alone(tones):
    x = tones(1024, 128.0)
    for rotary in (True, False):
        model = art(rotary=rotary)
        want = model(x).h
        model.resampler.register_forward_hook(lambda _, __, out: (out[0].flip(1), out[1]))
        same = torch.allclose(model(x).h, want, atol=1e-5)
        assert same != rotary


@pytest.mark.parametrize("rate", [2.0, 4.0])
def test_the_fastest_rotary_phase_turns_half_way_from_token_to_token(rate):
    """A faster one could not tell a step from none, or from a step back."""
    model = art(tokens_per_second=rate)
    times = (torch.arange(4) / rate)[None]
    cos, _ = rotary_turns(times, model.head_dim, torch.float32, model.rotary_period)[:, 0, :, 0]
    torch.testing.assert_close(cos[:, 0], torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert (cos[1].diff() > 0).all()  # the others turn less


def test_half_precision_keeps_late_token_times():
    model = art().to(torch.bfloat16)
    times = model(torch.randn(1, 60 * 128).to(torch.bfloat16)).times[0]
    assert times.dtype == torch.float32
    torch.testing.assert_close(times.diff(), torch.full((119,), 0.5))


@pytest.mark.parametrize(
    ("preset", "millions"), [("tiny", 0.18), ("small", 1.09), ("base", 5.7), ("large", 29)]
)
@pytest.mark.parametrize("resampling", ["rate", "rate+content"])
def test_presets_have_their_size(preset, millions, resampling):
    model = make_encoder("art", preset, resampling=resampling)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1e6 * millions, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resampling": "content"}, "resampling 'content' is unknown"),
        ({"n_heads": 3}, "multiple of 8 and of twice n_heads"),
        ({"tokens_per_second": 0}, "tokens_per_second must be positive"),
        ({"stem_layers": 1}, "stem_layers must be 2 to 4"),
        ({"rotary_period": 0.0}, "rotary_period must be positive"),
        ({"sfreq": -1.0}, "sfreq must be positive"),
    ],
)
def test_wrong_settings_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        ART(**options)


def test_unknown_encoders_and_presets_list_the_known():
    with pytest.raises(ValueError, match=r"'rnn' is unknown; known: art"):
        make_encoder("rnn", "tiny")
    with pytest.raises(ValueError, match=r"'huge' is unknown; known: tiny"):
        make_encoder("art", "huge")
    with pytest.raises(ValueError, match="no tokens to place by content"):
        make_encoder("cnn", "tiny", resampling="rate+content")
