"""On the device ``meta``, where nothing has a value: what passes asks for none on a GPU either.

A constant on another device, a copy from the host and a look at a value would each make the host
wait for the device in every step.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from omfa.models import HEADS, OMFA
from omfa.models.encoders import ENCODERS, PRESETS, make_encoder
from omfa.models.front_end import resampling_kernel
from omfa.zoo.data.dataset import Batch
from omfa.zoo.pretraining.augmentations import augment
from omfa.zoo.pretraining.loss import nt_xent
from omfa.zoo.pretraining.settings import Augmentations, Settings

OFF = dict.fromkeys(Augmentations.__dataclass_fields__, 0.0)
NAMES = ["Fp1", "F3", "Cz", "T8", "O2"]

# On a GPU these look at values, though on meta they do not.
LOOKING = {"multinomial", "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}


class OneDevice(TorchDispatchMode):
    """Refuse what would have the host wait: ops on two devices, copies, looks at values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        # A number of the host travels with the call of a kernel.
        devices = {t.device.type for t in given if t.dim() or t.device.type != "cpu"}
        name = str(func).split(".")[1]
        assert len(devices) <= 1, f"{name} is given tensors on {devices}"
        assert not (name in LOOKING and "meta" in devices), f"{name} looks at values"
        made = func(*args, **(kwargs or {}))
        if "cpu" in devices or "meta" in devices:
            on = {t.device.type for t in tree_leaves(made) if isinstance(t, torch.Tensor)}
            assert on <= devices, f"{name} copies from {devices} to {on}"
        return made


def test_the_check_refuses_what_it_should():
    x = torch.zeros(3, device="meta")
    for wrong in (
        lambda: x + torch.zeros(3),
        lambda: torch.zeros(3).to("meta"),
        lambda: x[x > 0],
        lambda: torch.multinomial(x, 1),
    ):
        with pytest.raises(Exception, match=r"is given tensors|copies|looks|meta"), OneDevice():
            wrong()


def kernel_on_meta(up, down):
    kernel, reach = resampling_kernel(up, down)
    return torch.empty(kernel.shape, dtype=kernel.dtype, device="meta"), reach


def step(model, *inputs, **options):
    with OneDevice():
        out = model(*inputs, **options)
        out.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    return out


@pytest.mark.parametrize(
    ("head", "preset"),
    [*((head, "tiny") for head in HEADS), *(("gat", preset) for preset in PRESETS)],
)
def test_every_head(head, preset):
    chs_info = [{"ch_name": name, "kind": "eeg"} for name in NAMES]
    model = OMFA(n_outputs=3, chs_info=chs_info, n_times=512, sfreq=128.0, preset=preset, head=head)
    x = torch.randn(4, len(NAMES), 512, device="meta")
    mask = torch.ones(4, len(NAMES), dtype=torch.bool, device="meta")
    assert step(model.to("meta").train(), x, mask=mask).shape == (4, 3)


@pytest.mark.parametrize("sfreq", [128.0, 200.0, 250.0])
@pytest.mark.parametrize("resampling", ["off", "rate", "rate+content"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder(encoder, resampling, sfreq):
    if resampling == "rate+content" and not encoder.startswith("art"):
        pytest.skip("it places no tokens by content")
    model = make_encoder(encoder, "tiny", sfreq=sfreq, resampling=resampling).to("meta").train()
    x = torch.randn(8, int(4 * sfreq), device="meta")
    with OneDevice():
        encoded = model(x)
        encoded.h.sum().backward()
    assert encoded.h.shape == (8, model.dim)
    assert encoded.side.device.type == "meta"


@pytest.mark.parametrize("name", [n for n in Augmentations.__dataclass_fields__ if n != "noise_sd"])
def test_every_augmentation(name, monkeypatch):
    # Kernels of rates are kept on an accelerator, where the copy is made once for a run.
    monkeypatch.setattr("omfa.models.front_end.resampling_kernel", kernel_on_meta)
    x = torch.randn(16, 512, device="meta")
    with OneDevice():
        for _ in range(4):
            seen, _ = augment(x, 128.0, torch.randn_like(x), Augmentations(**OFF | {name: 1.0}))
    assert seen.device.type == "meta"


@pytest.mark.parametrize("match_width", [None, 0.7])
def test_the_loss(match_width):
    z = torch.randn(2, 32, 128, device="meta", requires_grad=True)
    numbers = torch.zeros(32, dtype=torch.long, device="meta")
    with OneDevice():
        loss, *_ = nt_xent(
            z,
            unit=numbers,
            recording=numbers,
            time=torch.zeros(2, 32, device="meta"),
            side=torch.randn(2, 32, 6, device="meta"),
            match_width=match_width,
        )
        loss.backward()
    assert z.grad is not None


@pytest.mark.parametrize("lag", [(0.0, 0.0), (1.0, 2.0)])
def test_a_step_of_stage_1(lag, stage1, monkeypatch):
    settings = Settings(preset="tiny", window_seconds=2, lag_seconds=lag, batch_size=64,
                        channels_per_window=4)  # fmt: skip
    module = stage1("cpu", settings)
    loader = module.data.loader(16, shuffle=True, by="dataset", channels_per_window=4)
    batch = next(iter(loader))
    there = Batch(*(t.to("meta") if isinstance(t, torch.Tensor) else t for t in batch))
    module.to("meta")
    monkeypatch.setattr("omfa.models.front_end.resampling_kernel", kernel_on_meta)
    for name in ("unit_of", "recording_of", "start_of"):
        setattr(module, name, getattr(module, name).to("meta"))
    for number in range(6):  # other rates
        with OneDevice():
            done = module.compare(there, number)
            done.loss.backward()
    assert all(p.grad is not None for p in module.parameters())
