"""What runs on a CUDA device gives what the CPU gives; ``pytest -m gpu`` runs it there."""

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from omfa.models import HEADS, OMFA, UnitWarning
from omfa.models.encoders import ENCODERS, PRESETS, make_encoder
from omfa.pipeline import DataError
from omfa.zoo.checkpoints.folder import load
from omfa.zoo.cli.main import main
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.data.tiers import onto
from omfa.zoo.estimators.embeddings import Embeddings
from omfa.zoo.evaluation.run import evaluate
from omfa.zoo.pretraining.loss import nt_xent
from omfa.zoo.pretraining.run import learning_curve, pretrain_encoder
from omfa.zoo.pretraining.settings import Settings
from omfa.zoo.protocols.protocol import Protocol

SMALL = Settings(preset="tiny", window_seconds=2, lag_seconds=(1, 2), channels_per_window=4)
# Noise has nothing to learn from but what two views share.
OVERLAPPING = Settings(preset="tiny", window_seconds=2, batch_size=64, channels_per_window=4)
NAMES = ["Fp1", "F3", "Cz", "T8", "O2"]
CHS_INFO = [{"ch_name": name, "kind": "eeg"} for name in NAMES]
VARIANTS = [{"head": head} for head in HEADS]
VARIANTS += [{"encoder": encoder} for encoder in ENCODERS if encoder != "art"]
VARIANTS += [{"resampling": "rate+content"}, {"resampling": "off"}, {"connectivity": False}]
SLOW_ON_A_CPU = [
    *(p for p in PRESETS if p != "large"),
    pytest.param("large", marks=pytest.mark.slow),
]


def windows(n=6, n_times=400, seed=1):
    return 20 * torch.randn(n, len(NAMES), n_times, generator=torch.Generator().manual_seed(seed))


def omfa(**options):
    arguments = {"n_outputs": 3, "chs_info": CHS_INFO, "n_times": 400, "sfreq": 100.0}
    return OMFA(**arguments, **{"preset": "tiny", **options})


@pytest.fixture
def no_waiting():
    """Refuse all that has the host wait for the device."""
    yield lambda on: torch.cuda.set_sync_debug_mode("error" if on else "default")
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


# ---- models ---------------------------------------------------------------------------------


def takes_a_step(model, x):
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    y = torch.arange(len(x), device=x.device) % 3
    model.train()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    optimizer.step()
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(changed) > len(list(model.parameters())) / 2
    assert torch.isfinite(model(x)).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_head_and_encoder(variant, device):
    model = omfa(**variant).eval()
    x = windows()
    want = model(x)
    there = model.to(device)
    torch.testing.assert_close(there(x.to(device)).cpu(), want, atol=2e-3, rtol=2e-3)
    takes_a_step(there, x.to(device))


@pytest.mark.parametrize("preset", SLOW_ON_A_CPU)
def test_every_preset(preset, device):
    model = omfa(preset=preset).eval()
    x = windows(3)
    want = model(x)
    there = model.to(device)
    torch.testing.assert_close(there(x.to(device)).cpu(), want, atol=5e-3, rtol=5e-3)
    takes_a_step(there, x.to(device))


@pytest.mark.parametrize("rate", [100.0, 128.0, 200.0, 250.0])
def test_weights_that_were_trained_embed_alike(rate, device):
    encoder = load("omfa-small-openeeg").encoder
    x = windows(8, int(4 * rate)).flatten(0, 1)
    with torch.no_grad():
        want = encoder(x, rate)
        got = encoder.to(device)(x.to(device), rate)
    assert F.cosine_similarity(got.h.cpu(), want.h).min() > 0.9999
    torch.testing.assert_close(got.side.cpu(), want.side, atol=1e-3, rtol=1e-3)


def test_mixed_precision(device):
    x = windows().to(device) + 4000  # an offset that bfloat16 would round the signal to
    model = omfa().to(device).eval()
    with torch.no_grad():
        want, alone = model(x), model.encoder(x.flatten(0, 1))
        with torch.autocast(device, torch.bfloat16):
            got, mixed = model(x), model.encoder(x.flatten(0, 1))
    torch.testing.assert_close(got.float(), want, atol=0.15, rtol=0.0)
    # Not a bit of a power is lost, and so no bit of a signal on its way to the encoder.
    assert torch.equal(mixed.side, alone.side)
    model.train()
    with torch.autocast(device, torch.bfloat16):
        loss = F.cross_entropy(model(x), torch.arange(len(x), device=device) % 3)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
# A compiler's warnings are about what it would rather compile.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [False, True], ids=["encoder", "model"])
def test_compiled(whole, device):
    model = omfa().to(device).eval()
    part, x = (model, windows()) if whole else (model.encoder, windows().flatten(0, 1))
    x = x.to(device)
    torch.compiler.reset()
    compiled = torch.compile(part, dynamic=False)

    def out(of):
        made = of(x)
        return made if whole else made.h

    for each in (part, compiled):
        model.zero_grad()
        out(each).square().mean().backward()
        grads = [p.grad.clone() for p in part.parameters() if p.grad is not None]
        if each is part:
            want, wanted = out(part).detach(), grads
    torch.testing.assert_close(out(compiled), want, atol=1e-3, rtol=1e-3)
    for one, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-2)


@pytest.mark.filterwarnings("ignore:.*:omfa.models.UnitWarning")
def test_training_does_not_wait(device, no_waiting):
    model = omfa().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    x, y = windows().to(device), (torch.arange(6) % 3).to(device)
    for number in range(3):
        if device == "cuda":
            no_waiting(number > 0)  # in the first, kernels are loaded
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if device == "cuda":
        no_waiting(False)
    assert torch.isfinite(loss)


def test_the_unit_is_looked_at_once_in_evaluation(device):
    model = omfa().to(device).eval()
    with pytest.warns(UnitWarning, match="looks like volts"):
        model(1e-6 * windows().to(device))
    model(1e-6 * windows().to(device))  # no second one, which would be an error here


# ---- datasets -------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_batches(cache, store, device):
    data = open_dataset(store, 1.0, target="emotion", cache=cache, device=device)
    host = open_dataset(store, 1.0, target="emotion", cache="memory")
    for batch in data.loader(8, shuffle=True):
        assert batch.X.device.type == device
        X, present, y = host.take(batch.windows.cpu())
        assert np.array_equal(batch.X.cpu(), X)
        assert np.array_equal(batch.present.cpu(), present)
        assert np.array_equal(batch.y.cpu(), y)
        assert batch.n_present == present.sum(1).min()


def test_batches_do_not_wait(store, device, no_waiting):
    data = open_dataset(store, 1.0, target="emotion", cache="memory", device=device)
    for number, batch in enumerate(data.loader(8, shuffle=True, channels_per_window=2)):
        if device == "cuda":
            no_waiting(number < 4)
        assert batch.X.shape == (8, 2, 128) or number
    if device == "cuda":
        no_waiting(False)
    assert onto(np.arange(3), torch.device(device)).device.type == device


# ---- stage 1 --------------------------------------------------------------------------------


def test_a_step_of_stage_1_does_not_wait(stage1, device, no_waiting):
    module = stage1(device)
    optimizer = torch.optim.AdamW(module.parameters())
    loader = module.data.loader(16, shuffle=True, by="dataset", channels_per_window=4)
    batches = [batch for batch, _ in zip(loader, range(12), strict=False)]
    # The first round loads kernels, of every rate that views are changed to.
    for round_ in range(2):
        for number, batch in enumerate(batches):
            if device == "cuda":
                no_waiting(round_ == 1)
            with torch.autocast(device, torch.bfloat16):
                done = module.compare(batch, number)
            optimizer.zero_grad()
            done.loss.backward()
            optimizer.step()
    if device == "cuda":
        no_waiting(False)
    assert torch.isfinite(done.loss)


def test_the_first_50_steps_are_those_of_the_cpu(stage1, device, keep):
    """The same pairs, made on the CPU: what is random is drawn differently on a device."""
    module, pairs = stage1("cpu", OVERLAPPING), []
    while len(pairs) < 50:
        loader = module.data.loader(16, shuffle=True, seed=len(pairs), channels_per_window=4)
        pairs += [(*module.views(batch), batch.windows) for batch in loader if len(batch.X) == 16]
    curves = {}
    for where in dict.fromkeys(("cpu", device)):
        encoder = make_encoder("art", "tiny", drop_path_prob=0.0)
        encoder.load_state_dict(module.encoder.state_dict())
        encoder = encoder.to(where)
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
        losses = []
        for x, _, start, rows in pairs[:50]:
            one, other = (encoder(view.to(where), sfreq=128.0) for view in x)
            each = rows.repeat_interleave(4)
            loss, _, _ = nt_xent(
                torch.stack([one.h, other.h]),
                unit=torch.zeros(64, dtype=torch.long, device=where),
                recording=module.recording_of[each].to(where),
                time=(module.start_of[each] + start).to(where),
                side=torch.stack([one.side[:, :-1], other.side[:, :-1]]),
                match_width=0.7,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves[where] = losses
    rows = zip(*curves.values(), strict=True)
    lines = [f"{i},{','.join(f'{v:.5f}' for v in row)}" for i, row in enumerate(rows)]
    keep("curves.csv", "\n".join([f"step,{','.join(curves)}", *lines]) + "\n")
    cpu, there = np.array(curves["cpu"]), np.array(curves[device])
    assert cpu[-10:].mean() < cpu[:5].mean()
    np.testing.assert_allclose(there[:10], cpu[:10], rtol=5e-3)
    np.testing.assert_allclose(there, cpu, rtol=5e-2)


def pretrain(store, out, device, *more):
    return [
        "pretrain", str(store), "--out", str(out), "--preset", "tiny", "--window-seconds", "2",
        "--lag-seconds", "1", "2", "--batch-size", "32", "--channels-per-window", "4",
        "--checkpoint-every", "5", "--log-every", "1",
        "--accelerator", "cpu" if device == "cpu" else "gpu", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_stage_1_goes_on_after_a_kill(store, device, tmp_path, capsys):
    arguments = pretrain(store, tmp_path / "killed", device, "--steps", "30")
    process = subprocess.Popen(
        [sys.executable, "-m", "omfa.zoo.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoints/*.ckpt")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert main(arguments) == 0
    assert main(pretrain(store, tmp_path / "whole", device, "--steps", "30")) == 0
    assert "Checkpoint:" in capsys.readouterr().out
    whole, killed = (learning_curve(tmp_path / name) for name in ("whole", "killed"))
    shared = killed.index.intersection(whole.index)
    assert len(shared) >= 20
    # On a CPU to the last bit; on a GPU sums are added up in any order.
    near = {"rtol": 0.0} if device == "cpu" else {"rtol": 3e-2}
    np.testing.assert_allclose(
        killed.loc[shared, "loss"], whole.loc[shared, "loss"], atol=0.0, **near
    )
    for name in ("whole", "killed"):
        weights = load(tmp_path / name / "checkpoint").state_dict().values()
        assert all(torch.isfinite(tensor).all() for tensor in weights)


def test_a_loss_that_is_no_number_ends_stage_1(store, device, tmp_path):
    """On a GPU it is looked at after a while, and before a checkpoint is kept."""
    settings = replace(SMALL, steps=30, batch_size=16, lr=1e30)
    with pytest.raises(DataError, match=r"the loss is nan \(windows of tiny/.*lower --lr"):
        pretrain_encoder(
            store,
            tmp_path,
            settings,
            accelerator="cpu" if device == "cpu" else "gpu",
            checkpoint_every=2,
        )
    assert not (tmp_path / "checkpoint").exists()
    for path in tmp_path.glob("checkpoints/*.ckpt"):
        weights = torch.load(path, weights_only=False)["state_dict"].values()
        assert all(torch.isfinite(tensor).all() for tensor in weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_stage_1_compiled(store, device, tmp_path):
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    few = ("--steps", "6", "--precision", "32-true")
    torch.compiler.reset()
    assert main(pretrain(store, plain, device, *few)) == 0
    assert main(pretrain(store, compiled, device, *few, "--compile")) == 0
    losses = [learning_curve(out)["loss"].to_numpy() for out in (plain, compiled)]
    assert len(losses[0]) == 6
    # Drop-path and projections draw alike; what is added up in another order differs little.
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.2)
    names = [set(load(out / "checkpoint").state_dict()) for out in (plain, compiled)]
    assert names[0] == names[1]


# ---- stage 2 --------------------------------------------------------------------------------


def test_stage_2_by_its_command(store, device, tmp_path):
    out = tmp_path / "tuned"
    done = main([
        "finetune", str(store), "--out", str(out), "--target", "emotion", "--window", "2",
        "--preset", "tiny", "--epochs", "2", "--device", device, "--no-calibrate",
    ])  # fmt: skip
    assert done == 0
    model = load(out).eval()
    x = 20 * torch.randn(4, 6, 256)
    want = model(x)
    torch.testing.assert_close(model.to(device)(x.to(device)).cpu(), want, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("n", [1, 4])
def test_heads_on_a_frozen_encoder(n, store, device):
    data = open_dataset(store, 2.0, target="emotion", cache="memory")
    how = {"preset": "tiny", "freeze": "encoder", "epochs": 3, "channel_drop_prob": 0.0}
    how |= {"drop_prob": 0.0, "edge_drop_prob": 0.0}

    def found(**where):
        result = evaluate(
            "omfa", data, Protocol("cross-subject", n_folds=3), parameters=how | where
        )
        return result.predictions.filter(like="p_").to_numpy()

    want = found(device="cpu", folds_at_once=1)
    np.testing.assert_allclose(found(device=device, folds_at_once=n), want, atol=1e-2)


def test_features_of_a_frozen_encoder(store, device):
    data = open_dataset(store, 2.0, target="emotion", cache="memory")
    X, present, _ = data.take(np.arange(8))
    encoder = make_encoder("art", "tiny")
    want = Embeddings(encoder, device="cpu")(X, present, 128.0).astype(np.float32)
    got = Embeddings(encoder, device=device)(X, present, 128.0).astype(np.float32)
    np.testing.assert_allclose(got, want, atol=1e-2)
