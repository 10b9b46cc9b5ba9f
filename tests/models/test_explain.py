"""What a model looked at, drawn."""

import matplotlib
import pytest
import torch

from omfa.models import OMFA, attention_topomap, channel_attention, token_density

matplotlib.use("Agg")
NAMES = ["Fp1", "Fp2", "F7", "F8", "T7", "T8", "P7", "P8", "O1", "O2"]


def build(**options):
    infos = [{"ch_name": name} for name in NAMES]
    arguments = {"chs_info": infos, "n_times": 512, "sfreq": 128.0, "preset": "tiny"}
    return OMFA(n_outputs=2, **{**arguments, **options}).eval()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_attention_is_shared_out_over_the_present_channels():
    model, x = build(), 10 * torch.randn(3, 10, 512)
    mask = torch.ones(3, 10, dtype=torch.bool)
    mask[:, 2] = False
    shares = channel_attention(model.train(), x, mask=mask)
    assert model.training
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    assert (shares[:, 2] == 0).all()
    assert shares.std(1).min() > 0


def test_attention_finds_the_channel_that_a_trained_model_listens_to():
    model = build()
    layer = model.head.layers[-1]
    # A model made to listen: scores grow with one node feature, which one channel alone has.
    for parameter in model.head.parameters():
        parameter.data.zero_()
    layer.source.weight.data[0, 0] = 50.0
    layer.score.data[0, 0] = 1.0
    model.head.norms[0].weight.data.fill_(1.0)
    model.nodes.register_forward_hook(
        lambda *_: (
            torch.eye(32)[:1].expand(10, 32) * (torch.arange(10) == 7)[:, None]
            + torch.zeros(1, 10, 32)
        )
    )
    shares = channel_attention(model, 10 * torch.randn(1, 10, 512))
    assert shares[0].argmax() == 7


def test_topomap_is_drawn_where_the_electrodes_are():
    figure, attention = attention_topomap(build(), 10 * torch.randn(2, 10, 512))
    assert attention.shape == (10,)
    assert attention.mean() == pytest.approx(1.0, abs=1e-5)
    assert len(figure.axes) == 2
    _, axes = matplotlib.pyplot.subplots()
    again, _ = attention_topomap(build(), 10 * torch.randn(2, 10, 512), axes=axes)
    assert again is axes.figure


def test_topomap_says_what_it_needs():
    x = torch.randn(1, 10, 512)
    with pytest.raises(ValueError, match="head is MeanHead"):
        attention_topomap(build(head="mean"), x)
    with pytest.raises(ValueError, match="10 positions of 10 channels are unknown"):
        attention_topomap(build(chs_info=None, n_chans=10), x)


@pytest.mark.parametrize("resampling", ["rate", "rate+content"])
def test_token_density_is_that_of_the_tokens(resampling):
    model = build(resampling=resampling)
    if resampling == "rate+content":
        model.encoder.resampler.alpha.data.fill_(8.0)
    figure, times, density = token_density(model, 10 * torch.randn(1280), sfreq=128.0)
    assert len(times) == len(density) == 20
    assert (density > 0).all()
    assert len(figure.axes) == 2
    even = torch.allclose(density, torch.full_like(density, 2.0))
    assert even == (resampling == "rate")
    with pytest.raises(ValueError, match="SmallCNN does not place tokens"):
        token_density(build(encoder="cnn"), torch.randn(512))
