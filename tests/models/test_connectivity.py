"""Coherency between channels: against SciPy's, and against what is planted."""

import numpy as np
import pytest
import scipy.signal
import torch

from omfa.models import OMFA
from omfa.models.connectivity import LARGEST, N_CONNECTIVITY, Connectivity, local_reference
from omfa.models.front_end import BANDS
from omfa.models.heads import PairReadout

N_BANDS = len(BANDS)
EVERYWHERE = torch.ones(2, 5, dtype=torch.bool)


def places(n=5):
    return 0.1 * torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.double), dim=-1)


def mixed(n=5, n_times=1280):
    """Channels that share a source."""
    own, shared = torch.randn(2, n, n_times).double(), torch.randn(2, 1, n_times).double()
    return 20 * (own + shared * torch.linspace(0, 2, n)[:, None])


@pytest.mark.parametrize("sfreq", [128.0, 200.0])
def test_it_is_welchs_coherency_of_the_local_reference(sfreq):
    x, positions, n = mixed(), places(), round(sfreq)
    got = Connectivity(sfreq).double()(x, EVERYWHERE, positions)
    y = (local_reference(EVERYWHERE, positions) @ x).numpy()
    told = {"fs": sfreq, "nperseg": n, "noverlap": n - n // 2, "detrend": "constant", "axis": -1}
    freqs, cross = scipy.signal.csd(y[:, :, None], y[:, None], **told)
    for k, (low, high) in enumerate(BANDS.values()):
        band = cross[..., (freqs >= low) & (freqs < high)].sum(-1).conj()  # SciPy's is conj(x) y
        power = np.einsum("bii->bi", band.real)
        coherency = band / np.sqrt(power[:, :, None] * power[:, None])
        off = ~np.eye(5, dtype=bool)
        for part, value in ((k, coherency.real), (N_BANDS + k, coherency.imag)):
            np.testing.assert_allclose(
                np.tanh(got[..., part].numpy()[:, off]), LARGEST * value[:, off], atol=1e-4
            )


def test_a_lag_shows_in_the_imaginary_part_of_its_band():
    time = torch.arange(1280, dtype=torch.double) / 128
    phase = 2 * np.pi * 10 * time + torch.cumsum(0.1 * torch.randn(1280), 0)
    x = torch.randn(1, 20, 1280).double()
    x[0, 0] += 3 * torch.cos(phase)
    x[0, 1] += 3 * torch.sin(phase)  # a quarter of a cycle later
    nowhere = torch.full((20, 3), float("nan"), dtype=torch.double)
    got = Connectivity(128).double()(x, torch.ones(1, 20, dtype=torch.bool), nowhere)[0]
    alpha = list(BANDS).index("alpha")
    lagged = got[0, 1, N_BANDS:]
    assert lagged.argmax() == alpha
    assert lagged[alpha] > 2 * got[0, 1, :N_BANDS].abs()[alpha]
    torch.testing.assert_close(got[1, 0, N_BANDS:], -lagged)
    torch.testing.assert_close(got[1, 0, :N_BANDS], got[0, 1, :N_BANDS])


def test_what_no_amplifier_decides():
    x, positions = mixed(), places()
    measure = Connectivity(128).double()
    want = measure(x, EVERYWHERE, positions)
    torch.testing.assert_close(measure(1e-6 * x, EVERYWHERE, positions), want)
    torch.testing.assert_close(measure(x + 4000, EVERYWHERE, positions), want, atol=1e-6, rtol=0)
    reference = torch.randn(2, 1, 1280).double()
    torch.testing.assert_close(measure(x + 50 * reference, EVERYWHERE, positions), want)


def test_the_rate_of_a_batch_is_taken():
    x, positions = mixed(), places()
    torch.testing.assert_close(
        Connectivity(128).double()(x, EVERYWHERE, positions, 250.0),
        Connectivity(250).double()(x, EVERYWHERE, positions),
    )


@pytest.mark.parametrize("filled", [0.0, float("nan"), 1e6])
def test_absent_channels_have_no_part(filled):
    x, positions, present = mixed(), places(), EVERYWHERE.clone()
    present[:, 3:] = False
    x[:, 3:] = filled
    measure = Connectivity(128).double()
    got = measure(x, present, positions)
    want = measure(x[:, :3], present[:, :3], positions[:3])
    torch.testing.assert_close(got[:, :3, :3], want)
    assert not got[:, 3:].any()
    assert not got[:, :, 3:].any()


@pytest.mark.parametrize("n_times", [64, 128, 200])
def test_short_windows_and_flat_ones_are_finite(n_times):
    x = torch.randn(2, 5, n_times)
    x[0] = 7.0
    got = Connectivity(128)(x, EVERYWHERE, places().float())
    assert got.shape == (2, 5, 5, N_CONNECTIVITY)
    assert torch.isfinite(got).all()
    assert not got[0].any()
    nobody = Connectivity(128)(x, torch.zeros_like(EVERYWHERE), places().float())
    assert not nobody.any()


def test_pairs_are_weighed_by_both_places():
    """Against the sum of its definition, pair by pair."""
    from omfa.models import graph

    readout, positions = PairReadout(3, 4).double(), places()
    pairs, present = torch.randn(2, 5, 5, 3).double(), EVERYWHERE.clone()
    present[1, 2] = False
    phi = graph.position_features(positions)
    want = torch.zeros(2, 4).double()
    for b in range(2):
        there = [i for i in range(5) if present[b, i]]
        for i in there:
            for j in there:
                both = torch.outer(phi[j], pairs[b, i, j]).flatten()
                want[b] += readout.here(phi[i]) * readout.there(both) / len(there) ** 2
    torch.testing.assert_close(readout(pairs, present, positions), 25 * want)


def test_channels_that_training_drops_are_no_neighbours(montage_info, monkeypatch):
    info = montage_info(["F3", "F4", "P3", "P4"])["chs"]
    off = dict.fromkeys(("drop_prob", "drop_path_prob", "edge_drop_prob"), 0.0)
    model = OMFA(2, chs_info=info, sfreq=128, preset="tiny", **off)
    x, left = 10 * torch.randn(3, 4, 512), torch.tensor([True, True, False, True])
    monkeypatch.setattr("omfa.models.omfa.drop_channels", lambda present, _: present & left)
    torch.testing.assert_close(model.train()(x), model.eval()(x, mask=left.expand(3, 4)))


def test_every_head_has_it_and_can_do_without(montage_info):
    info = montage_info(["F3", "F4", "P3", "P4"])["chs"]
    x = 10 * torch.randn(3, 4, 512)
    for options, has in (
        ({}, True),
        ({"connectivity": False}, False),
        ({"head": "mean"}, True),
        ({"head": "gcn_learned", "connectivity": False}, False),
        ({"head": "coherency"}, True),
    ):
        model = OMFA(2, chs_info=info, sfreq=128, preset="tiny", **options).eval()
        assert (model.connectivity is not None) is has
        assert torch.isfinite(model(x)).all()
        again = OMFA.from_config(model.get_config())
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again.eval()(x), model(x))
