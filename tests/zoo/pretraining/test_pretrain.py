"""Stage 1: the loss, the views, and runs that go on after being killed."""

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from omfa.models.encoders import make_encoder
from omfa.pipeline import DataError, ingest, simulate
from omfa.pipeline.errors import DataWarning
from omfa.pipeline.writing import staged
from omfa.zoo.checkpoints.folder import load_card
from omfa.zoo.cli.main import main
from omfa.zoo.data.dataset import Batch
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.pretraining.augmentations import (
    RATES,
    Augmentations,
    augment,
    change_rate,
    change_spectrum,
)
from omfa.zoo.pretraining.loss import alignment, effective_rank, nt_xent, uniformity
from omfa.zoo.pretraining.module import Contrastive, Settings
from omfa.zoo.pretraining.probes import probe, residual
from omfa.zoo.pretraining.run import last_checkpoint, learning_curve, plan, pretrain_encoder
from omfa.zoo.protocols.held_out import HELD_OUT

QUICK = Settings(
    preset="tiny",
    window_seconds=2,
    lag_seconds=(1, 2),
    steps=6,
    batch_size=16,
    channels_per_window=4,
)


OFF = Augmentations(**dict.fromkeys(Augmentations.__dataclass_fields__, 0.0))


@pytest.fixture(scope="module")
def store(lay_store, tmp_path_factory):
    return lay_store(
        tmp_path_factory.mktemp("pretrain") / "tiny.zarr",
        subjects=4,
        sfreq=128.0,
        n_times=6000,
        trials=((0, 3000), (3000, 3000)),
        labels={"emotion": np.array([0, 1])},
    )


# ---- the loss -------------------------------------------------------------------------------


def expected_loss(z, unit, recording, time, temperature, reach, side=None, width=None):
    """The definition, one anchor after the other."""
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    views, n, _ = z.shape
    if side is not None:
        side = side / side.reshape(-1, side.shape[-1]).std(0, ddof=1)
    losses = []
    for v in range(views):
        for i in range(n):
            top = math.exp(z[v, i] @ z[1 - v, i] / temperature)
            terms, weights = [], []
            for w in range(views):
                for j in range(n):
                    near = recording[i] == recording[j] and abs(time[v, i] - time[w, j]) < reach
                    if j == i or unit[i] != unit[j] or near:
                        continue
                    terms.append(math.exp(z[v, i] @ z[w, j] / temperature))
                    apart = 0.0 if side is None else np.sum((side[v, i] - side[w, j]) ** 2)
                    weights.append(math.exp(-apart / (2 * (width or 1) ** 2)))
            # Weights of mean 1, so that there are as many negatives as without.
            below = top + len(terms) * np.average(terms, weights=weights) if terms else top
            losses.append(-math.log(top / below))
    return float(np.mean(losses))


def pairs(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "z": rng.normal(size=(2, n, 8)),
        "unit": rng.integers(0, 2, n),
        "recording": rng.integers(0, 4, n),
        "time": rng.uniform(0, 30, (2, n)),
    }


@pytest.mark.parametrize("width", [None, 0.7, 2.0])
def test_the_loss_is_that_of_its_definition(width):
    p = pairs(12)
    side = None if width is None else np.random.default_rng(1).normal(3, 2, (2, 12, 3))
    p["recording"] += 4 * p["unit"]  # a recording is of one dataset
    p["time"][1] = p["time"][0] + 3
    got, _, negatives = nt_xent(
        torch.from_numpy(p["z"]),
        **{k: torch.from_numpy(p[k]) for k in ("unit", "recording", "time")},
        temperature=0.2,
        reach=5.0,
        side=None if side is None else torch.from_numpy(side),
        match_width=width,
    )
    wanted = expected_loss(**p, temperature=0.2, reach=5.0, side=side, width=width)
    assert got.item() == pytest.approx(wanted, rel=1e-5)
    assert 0 < float(negatives) < 22


def test_parts_of_an_embedding_are_compared_one_by_one():
    """Its loss is the mean of theirs, so that one part that finds every pair spares no other."""
    one, other = pairs(12), pairs(12, seed=1)
    numbers = {k: torch.from_numpy(one[k]) for k in ("unit", "recording", "time")}
    z = torch.from_numpy(np.stack([one["z"], other["z"]]))
    both = nt_xent(z, **numbers)
    alone = [nt_xent(part, **numbers) for part in z]
    for k in range(3):
        assert both[k].item() == pytest.approx(np.mean([found[k].item() for found in alone]))


def test_what_side_features_tell_apart_is_no_help():
    """Embeddings that are side features find the positive, but not among negatives of the same."""
    rng = np.random.default_rng(0)
    kinds = torch.from_numpy(rng.normal(size=(4, 3))).float()
    side = kinds[torch.arange(64) % 4].expand(2, 64, 3)
    z = side + 0.01 * torch.from_numpy(rng.normal(size=(2, 64, 3))).float()
    numbers = {
        "unit": torch.zeros(64, dtype=torch.long),
        "recording": torch.arange(64),
        "time": torch.zeros(2, 64),
    }
    alike, _, _ = nt_xent(z, **numbers)
    matched, _, negatives = nt_xent(z, **numbers, side=side, match_width=0.1)
    # A quarter of the negatives are of the anchor's kind; weighed, they count for all.
    assert float(alike) == pytest.approx(math.log(1 + 30), abs=0.4)
    assert float(matched) == pytest.approx(math.log(1 + float(negatives)), abs=0.1)


def test_windows_near_in_time_and_other_datasets_are_no_negatives():
    same = torch.zeros(4, dtype=torch.long)
    z = torch.randn(2, 4, 8)
    loss, accuracy, negatives = nt_xent(
        z, unit=same, recording=same, time=torch.zeros(2, 4), reach=8.0
    )
    assert (float(loss), float(accuracy), float(negatives)) == (0.0, 1.0, 0.0)
    apart = torch.arange(4)
    _, _, negatives = nt_xent(z, unit=apart, recording=apart, time=torch.zeros(2, 4))
    assert float(negatives) == 0
    _, _, negatives = nt_xent(z, unit=same, recording=apart, time=torch.zeros(2, 4))
    assert float(negatives) == 6


PART = """
import sys, torch
from omfa.zoo.cli.main import main
from omfa.zoo.pretraining.loss import nt_xent
folder, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
)
rows = slice(rank * 4, rank * 4 + 4)
p = {k: v[..., rows] for k, v in torch.load(f"{folder}/pairs.pt").items() if k != "z"}
z = torch.load(f"{folder}/pairs.pt")["z"][:, rows].clone().requires_grad_()
loss, _, _ = nt_xent(z, **p)
loss.backward()
torch.save((loss.detach(), z.grad), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_see_each_others_negatives(tmp_path):
    p = {k: torch.from_numpy(v) for k, v in pairs(8).items()}
    torch.save(p, tmp_path / "pairs.pt")
    processes = [
        subprocess.Popen([sys.executable, "-c", PART, str(tmp_path), str(rank)]) for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    z = p.pop("z").requires_grad_()
    loss, _, _ = nt_xent(z, **p)
    loss.backward()
    assert float(sum(part[0] for part in parts)) / 2 == pytest.approx(loss.item(), rel=1e-6)
    # Each process's gradient is of the sum of the losses; DDP then takes the mean.
    gradient = torch.cat([part[1] for part in parts], 1) / 2
    torch.testing.assert_close(gradient, z.grad)


def test_what_is_watched():
    z = torch.eye(6)[None].expand(2, -1, -1)
    assert float(alignment(z)) == 0
    assert float(uniformity(z[0])) == pytest.approx(-4.0)  # all pairs are sqrt(2) apart
    directions = torch.randn(500, 3) @ torch.randn(3, 20)
    assert 1.5 < float(effective_rank(directions)) <= 3.0
    assert float(effective_rank(torch.ones(10, 4))) <= 1.0


# ---- views ----------------------------------------------------------------------------------


def ramp(n_windows=3, n_chans=6, span=1000, absent=()):
    """A batch whose values tell channel and time."""
    X = torch.arange(span).float().expand(n_windows, n_chans, span).clone()
    X += 10_000 * torch.arange(n_chans)[:, None]
    present = torch.ones(n_windows, n_chans, dtype=torch.bool)
    present[:, list(absent)] = False
    nothing = torch.zeros(n_windows, dtype=torch.long)
    few = int(present.sum(1).min())
    return Batch(X, present, nothing, torch.zeros(n_windows, n_chans), nothing, 100.0, few)


@pytest.mark.parametrize("lag", [(1.0, 2.0), (2.0, 2.0), (0.0, 0.0)])
def test_a_positive_is_the_same_channel_some_seconds_away(lag):
    settings = Settings(preset="tiny", window_seconds=2, lag_seconds=lag, batch_size=12,
                        channels_per_window=4)  # fmt: skip
    model = Contrastive(settings, {})
    batch = ramp(absent=(1,))
    apart = []
    for seed in range(20):
        torch.manual_seed(seed)
        x, other, start = model.views(batch)
        assert x.shape == other.shape == (2, 12, 200)
        channel = (x // 10_000).long()
        assert (channel[0] == channel[1]).all()
        assert (channel == channel[..., :1]).all()
        assert (channel != 1).all()
        assert ((other // 10_000).long() != channel).all()
        torch.testing.assert_close(x[..., 0] % 10_000, start * 100)
        torch.testing.assert_close(other % 10_000, x % 10_000)
        apart.append(start[1] - start[0])
        chosen = channel[0, :, 0].view(3, 4)
        assert all(len(row.unique()) == 4 for row in chosen)
    seconds = torch.cat(apart)
    low, high = lag if lag[1] else (0.0, 0.25)
    assert (seconds.abs() >= low - 1e-4).all()
    assert (seconds.abs() <= high + 0.011).all()
    if lag[1]:
        assert (seconds > 0).any()
        assert (seconds < 0).any()


def test_montages_smaller_than_the_channels_per_window_are_used():
    settings = Settings(preset="tiny", window_seconds=2, lag_seconds=(1, 2), batch_size=24,
                        channels_per_window=8)  # fmt: skip
    x, other, _ = Contrastive(settings, {}).views(ramp())
    assert x.shape[1] == 24
    same = (other == 0).all(-1)  # where a channel would be subtracted from itself
    assert ((other // 10_000).long()[~same] != (x // 10_000).long()[~same]).all()


def test_augmentations_follow_the_seed_and_can_be_turned_off():
    x, other = torch.randn(64, 512), torch.randn(64, 512)
    same, sfreq = augment(x, 128.0, other, OFF)
    assert sfreq == 128
    assert (same == x).all()
    torch.manual_seed(3)
    one, _ = augment(x, 128.0, other, Augmentations())
    torch.manual_seed(3)
    two, _ = augment(x, 128.0, other, Augmentations())
    assert (one == two).all()


@pytest.mark.parametrize("name", ["rereference", "noise", "time_mask", "band_stop", "drift"])
def test_an_augmentation_changes_about_as_many_rows_as_asked(name):
    off = dict.fromkeys(Augmentations.__dataclass_fields__, 0.0) | {"noise_sd": 0.2}
    torch.manual_seed(0)
    x = torch.randn(400, 512)
    got, _ = augment(x, 128.0, torch.randn(400, 512), Augmentations(**(off | {name: 0.3})))
    changed = ((got - x).abs().amax(1) > 1e-4).float().mean()
    assert 0.2 < float(changed) < 0.4


@pytest.mark.parametrize("rate", RATES)
def test_another_rate_keeps_the_signal(rate):
    seconds = torch.arange(512) / 128
    x = torch.stack([torch.sin(2 * math.pi * f * seconds) for f in (3.0, 11.0, 30.0)])
    y, sfreq = change_rate(x, 128.0, rate)
    assert sfreq == rate
    there = torch.arange(y.shape[1]) / rate
    wanted = torch.stack([torch.sin(2 * math.pi * f * there) for f in (3.0, 11.0, 30.0)])
    middle = slice(int(rate), int(3 * rate))
    assert (y - wanted)[:, middle].abs().max() < 0.01


def test_a_stopped_band_is_gone_and_turned_phases_keep_the_power():
    torch.manual_seed(0)
    x = torch.randn(200, 512)
    power = torch.fft.rfft(x).abs()
    stopped = torch.fft.rfft(change_spectrum(x, 128.0, 1.0, 0.0)).abs()
    gone = (stopped < 1e-3) & (power > 1e-2)
    width = gone.sum(1) * 0.25  # Hz
    assert ((width >= 2.5) & (width <= 5.25)).all()
    turned = torch.fft.rfft(change_spectrum(x, 128.0, 0.0, 1.0)).abs()
    torch.testing.assert_close(turned[:, 1:-1], power[:, 1:-1], rtol=1e-3, atol=1e-3)


# ---- runs -----------------------------------------------------------------------------------


def test_a_run_ends_in_a_checkpoint_that_says_what_it_saw(store, tmp_path):
    from omfa.zoo.checkpoints.folder import load

    folder = pretrain_encoder(store, tmp_path / "run", QUICK, log_every=1, hold_out=["tiny/sub-01"])
    card = load_card(folder)
    assert card.stage == "pretrained"
    (saw,) = card.saw
    assert saw["dataset"] == "tiny"
    assert saw["subjects"] == ["sub-02", "sub-03", "sub-04"]
    assert saw["hours"] == pytest.approx(3 * 6000 / 128 / 3600, abs=1e-3)
    again = pretrain_encoder(store, tmp_path / "again", QUICK, hold_out=["tiny/sub-01"])
    one, two = (load(f).encoder.state_dict() for f in (folder, again))
    assert all((one[k] == two[k]).all() for k in one)
    curve = learning_curve(tmp_path / "run")
    assert list(curve.index) == list(range(6))
    assert {"loss", "alignment", "uniformity", "effective_rank", "pairs_per_second"} <= set(curve)
    before = sorted((tmp_path / "run").rglob("*"))
    assert pretrain_encoder(store, tmp_path / "run", QUICK, hold_out=["tiny/sub-01"]) == folder
    assert sorted((tmp_path / "run").rglob("*")) == before


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A folder with small stores of simulated DEAP and DREAMER."""
    folder = tmp_path_factory.mktemp("corpora")
    for source in ("deap", "dreamer"):
        simulate(source, folder / source, subjects=2, seconds=20, progress=False)
        ingest(source, folder / source, folder / f"{source}.zarr", serial=True, progress=False)
    return folder


def test_a_card_says_all_bands_and_references_that_were_learned_from(store, lay_store, tmp_path):
    deap = lay_store(
        tmp_path / "deap.zarr",
        source="deap",
        subjects=4,
        sfreq=128.0,
        n_times=6000,
        trials=((0, 6000),),
        seed=1,
        history={"band": [4.0, 45.0], "reference": "average"},
    )
    with pytest.warns(DataWarning, match="the recordings differ in"):
        folder = pretrain_encoder([store, deap], tmp_path / "run", QUICK)
    card = load_card(folder)
    assert card.input["band"] == [4.0, 45.0]
    assert card.input["bands"] == [[0.5, 45.0], [4.0, 45.0]]
    assert card.input["reference"] == "as recorded or average"


@pytest.mark.slow
def test_the_commands_of_the_docs_run(corpora, tmp_path, monkeypatch, capsys):
    """As they stand, but with few small steps, and in one process."""
    for store in corpora.glob("*.zarr"):
        (tmp_path / store.name).symlink_to(store)
    monkeypatch.chdir(tmp_path)
    # Probes embed windows of all channels, which takes longer than all else here.
    monkeypatch.setattr("omfa.zoo.pretraining.probes.N_WINDOWS", 40)
    text = (Path(__file__).parents[3] / "docs" / "zoo.md").read_text()
    part = re.search(r"^## Pre-train$(.*?)(?=^## |\Z)", text, re.S | re.M)[1]
    commands = "".join(re.findall(r"```bash\n(.*?)```", part, re.S)).splitlines()
    assert len(commands) == 4
    small = "--preset tiny --steps 4 --batch-size 16 --channels-per-window 4 --probe-every 3"
    for command in commands:
        arguments = shlex.split(command.replace("--devices 2", ""), comments=True)
        assert main([*arguments[1:], *small.split()]) == 0
        told = capsys.readouterr().out
        assert "Checkpoint: runs/" in told or "pairs/s on this machine" in told


@pytest.mark.parametrize("paths", [True, False])
def test_it_learns(corpora, tmp_path, paths):
    # Against all negatives alike: matched ones take longer than a test may.
    settings = Settings(
        preset="tiny", window_seconds=1, lag_seconds=(0, 0), steps=250, batch_size=32,
        channels_per_window=4, lr=2e-3, augmentations=OFF, match_width=None,
        spectral=paths, bursts=paths,
    )  # fmt: skip
    pretrain_encoder(corpora / "deap.zarr", tmp_path / "run", settings, log_every=1)
    curve = learning_curve(tmp_path / "run")
    assert curve["loss"].tail(8).mean() < curve["loss"].head(8).mean() - 0.5
    # A third of the positives are found by spectra through random weights.
    least = 1.2 if paths else 1.5
    assert curve["accuracy"].tail(25).mean() > least * curve["accuracy"].head(25).mean()
    assert load_card(tmp_path / "run").simulated


CLI = [sys.executable, "-m", "omfa.zoo.cli"]


def command(store, out, *more):
    return [
        "pretrain", str(store), "--out", str(out), "--preset", "tiny", "--window-seconds", "1",
        "--lag", "1", "2", "--steps", "60", "--batch-size", "16", "--channels-per-window", "4",
        "--checkpoint-every", "10", "--log-every", "1", "--probe-every", "0", "--accelerator",
        "cpu", *more,
    ]  # fmt: skip


@pytest.fixture
def one_thread(monkeypatch):
    """One thread here and in processes that a test starts: sums are taken in the same order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_and_run_again_the_loss_goes_on_as_if_nothing_had_been(store, tmp_path, capsys):
    assert main(command(store, tmp_path / "whole")) == 0
    process = subprocess.Popen(
        [*CLI, *command(store, tmp_path / "killed")],
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
    assert not (tmp_path / "killed" / "checkpoint").exists()
    capsys.readouterr()
    assert main(command(store, tmp_path / "killed")) == 0
    assert "Checkpoint:" in capsys.readouterr().out
    whole, killed = (learning_curve(tmp_path / name) for name in ("whole", "killed"))
    shared = killed.index.intersection(whole.index)
    assert len(shared) >= 50
    assert (whole.loc[shared, "loss"] == killed.loc[shared, "loss"]).all()
    weights = [tmp_path / name / "checkpoint" / "model.safetensors" for name in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_damaged_training_checkpoint_is_set_aside_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "checkpoints"
    for step in (4, 8):
        with staged(folder / f"step={step}.ckpt") as file:
            torch.save({"weights": torch.arange(1000.0)}, file)
    content = (folder / "step=8.ckpt").read_bytes()
    assert last_checkpoint(folder).name == "step=8.ckpt"
    for damage in (
        content[: len(content) // 2],
        b"",
        content.replace(b"\x00\x00\x80\x3f", b"????"),
    ):
        assert damage != content
        (folder / "step=8.ckpt").write_bytes(damage)
        with pytest.warns(
            DataWarning, match=r"step=8\.ckpt is damaged .*goes on from the one before"
        ):
            assert last_checkpoint(folder).name == "step=4.ckpt"
        assert (folder / "step=8.ckpt.damaged").read_bytes() == damage
    (folder / "step=4.ckpt").write_bytes(b"PK")
    with pytest.warns(DataWarning, match="or begins anew"):
        assert last_checkpoint(folder) is None


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(store, tmp_path):
    every = ("--checkpoint-every", "4", "--steps", "10")
    run = command(store, tmp_path / "run", *every)
    done = tmp_path / "run" / "checkpoint"
    assert main(run) == 0
    whole = (done / "model.safetensors").read_bytes()
    kept = sorted((tmp_path / "run" / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in kept] == ["step=4.ckpt", "step=8.ckpt"]
    shutil.rmtree(done)
    kept[1].write_bytes(kept[1].read_bytes()[:-1000])
    assert main(run) == 0
    assert (done / "model.safetensors").read_bytes() == whole


@pytest.mark.slow
def test_two_processes_train_one_model(store, tmp_path):
    done = subprocess.run(
        [*CLI, *command(store, tmp_path / "two", "--devices", "2", "--steps", "8")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    curve = learning_curve(tmp_path / "two")
    assert np.isfinite(curve["loss"]).all()
    # 31 others in two views each, but for those near in time: more than one process has.
    assert curve["negatives"].max() > 30
    assert (tmp_path / "two" / "checkpoint" / "model.safetensors").exists()


def test_the_plan_is_timed(store):
    text = plan([store], QUICK)
    assert "4 subjects" in text
    assert re.search(r"expected     [\d.]+ (s|min|h), [\d,]+ pairs/s on this machine", text)


def test_probes_never_open_who_is_held_out(store, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.zarr"
    shutil.copytree(store, damaged)
    for name in ("sub-03", "sub-04"):  # cannot be opened
        (damaged / f"{name}_ses-1_run-1" / "zarr.json").write_text("{")
    encoder, about = make_encoder("art", "tiny"), {"targets": {"tiny": "emotion"}}
    monkeypatch.setitem(HELD_OUT, "tiny", ("sub-03", "sub-04"))
    for names in (["tiny/sub-0[34]", "other/*"], ["benchmark"]):
        found = probe(encoder, [str(damaged)], 2.0, **about, hold_out=names)
        assert "probe_residual/tiny" in found
    with pytest.raises(DataError, match="Reading sub-03_ses-1_run-1"):
        probe(encoder, [str(damaged)], 2.0, **about)
    asked = []
    monkeypatch.setattr(
        "omfa.zoo.pretraining.probes.probe",
        lambda *args, hold_out, **kwargs: asked.append(hold_out) or {},
    )
    pretrain_encoder(store, tmp_path / "run", QUICK, hold_out=["tiny/sub-0[34]"], probe_every=3)
    assert asked == [("tiny/sub-0[34]",)] * 2


def test_probes_score_what_can_be_held_out(store):
    found = probe(make_encoder("art", "tiny"), [str(store)], 2.0, targets={"tiny": "emotion"})
    task = {"probe_side/tiny", "probe_gain/tiny", "probe_residual/tiny"}
    assert set(found) == {"probe_subject/tiny", *task}
    gain = found.pop("probe_gain/tiny")
    assert all(0 <= score <= 1 for score in found.values())
    assert -1 <= gain <= 1


def test_what_side_features_explain_is_taken_out_of_embeddings():
    rng = np.random.default_rng(0)
    side, own = rng.normal(size=(200, 3, 6)), rng.normal(size=(200, 3, 4))
    told = np.stack([side[..., 0] * side[..., 1], side[..., 2] ** 2, side[..., 3]], -1)
    h = np.concatenate([told, own], -1).astype(np.float32)
    h[5, 1] = side[5, 1] = np.nan
    left = residual(h, side.astype(np.float32))
    assert np.isnan(left[5, 1]).all()
    there = np.isfinite(left).all(-1)
    assert there.sum() == 599
    assert np.abs(left[there][:, :3]).max() < 1e-3
    # What was drawn on its own stays, but for the share that 28 numbers fit by chance.
    assert left[there][:, 3:].var() > 0.9 * own[there].var()


# ---- bad input ------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_windows(store, tmp_path):
    settings = Settings(
        preset="tiny", window_seconds=2, lag_seconds=(1, 2), steps=30, batch_size=16,
        channels_per_window=4, lr=1e30,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"the loss is nan \(windows of tiny/.*lower --lr"):
        pretrain_encoder(store, tmp_path / "run", settings)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_an_interrupt_reaches_the_caller(store, tmp_path, monkeypatch):
    def interrupted(self, batch, batch_idx):
        raise KeyboardInterrupt

    answered = signal.getsignal(signal.SIGINT)  # Lightning has it ignored from then on
    monkeypatch.setattr(Contrastive, "training_step", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            pretrain_encoder(store, tmp_path / "run", QUICK)
    finally:
        signal.signal(signal.SIGINT, answered)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_an_interrupted_run_says_what_it_goes_on_from(store, tmp_path, monkeypatch, capsys):
    answered, step = signal.getsignal(signal.SIGINT), Contrastive.training_step
    last = [3]

    def interrupted(self, batch, batch_idx):
        if self.global_step == last[0]:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Contrastive, "training_step", interrupted)
    line = command(store, tmp_path / "run", "--checkpoint-every", "5", "--steps", "10")
    try:
        assert main(line) == 130
        assert "No step is kept yet" in capsys.readouterr().err
        last[0] = 7
        assert main(line) == 130
        assert "again to go on from step 5, the last that is kept" in capsys.readouterr().err
        last[0] = -1
        assert main(line) == 0
        assert "finished before" not in capsys.readouterr().err
        assert main(line) == 0
        assert "This run was finished before" in capsys.readouterr().err
    finally:
        signal.signal(signal.SIGINT, answered)


def test_a_name_that_no_checkpoint_can_have_is_refused_at_once(store, tmp_path):
    """And not by the card, when the training is done."""
    with pytest.raises(DataError, match=r"would be called 'my run', .*Give it one: --name"):
        pretrain_encoder(store, tmp_path / "my run", QUICK)
    assert not (tmp_path / "my run").exists()
    called = pretrain_encoder(store, tmp_path / "my run", QUICK, name="mine")
    assert load_card(called).name == "mine"


def test_a_folder_that_holds_another_run_is_refused(store, tmp_path):
    pretrain_encoder(store, tmp_path / "run", QUICK)
    other = Settings(**{**QUICK.__dict__, "seed": 1})
    with pytest.raises(DataError, match=r"a run with other settings \(seed 0 before, 1 now\)"):
        pretrain_encoder(store, tmp_path / "run", other)
    found = r"other hold_out \(none before, tiny/sub-01 now\)"
    with pytest.raises(DataError, match=found):
        pretrain_encoder(store, tmp_path / "run", QUICK, hold_out=["tiny/sub-01"])


@pytest.mark.parametrize(
    ("changes", "hold_out", "found"),
    [
        ({"batch_size": 4096}, (), "Lower --batch-size"),
        ({}, ("tiny/sub-99",), "nobody is called 'tiny/sub-99'"),
        ({}, ("tiny/*",), "nobody of 4 subjects is left"),
        ({"window_seconds": 100.0}, (), "Ask for a shorter window"),
        ({"preset": "huge"}, (), "Use one of tiny"),
        ({"batch_size": 18}, (), "multiple of the channels"),
        ({"lag_seconds": (3, 1)}, (), "least and greatest"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    store, tmp_path, changes, hold_out, found
):
    with pytest.raises(DataError, match=found):
        pretrain_encoder(
            store, tmp_path / "run", Settings(**{**QUICK.__dict__, **changes}), hold_out=hold_out
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["--accelerator", "gpux"], r"accelerator='gpux' \(nearest: gpu\)"),
        (["--accelerator", "gpu"], "accelerator='gpu', and torch .* finds none here"),
        (["--accelerator", "cuda"], "accelerator='cuda', and torch .* finds none here"),
        (["--accelerator", "mps"], "accelerator='mps', and torch .* finds none here"),
        (["--devices", "0"], "devices='0' on the CPU"),
        (["--devices", "0,1"], "devices='0,1' on the CPU"),
        (["--precision", "bf17"], r"precision='bf17' \(nearest: bf16"),
        (["--checkpoint-every", "0"], "checkpoint_every=0"),
        (["--probe-target", "tiny=emotoin"], r"emotoin.*\(nearest: emotion\)"),
        (["--probe-target", "deap=emotion"], "'deap' is no dataset of these stores"),
        (["--probe-target", "tiny=onset"], "onset"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_a_machine_or_a_store_lacks_is_said_before_anything_is_written(
    store, tmp_path, monkeypatch, capsys, given, found, dry
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    line = command(store, tmp_path / "run", "--probe-every", "5", *given, *dry)
    assert main(line) == 2
    assert re.search(found, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_devices_that_are_not_there_are_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for devices in (3, "0,2"):
        with pytest.raises(DataError, match=f"devices={devices}, and there are 2 here"):
            pretrain_encoder(store, tmp_path / "run", QUICK, accelerator="gpu", devices=devices)
    assert not (tmp_path / "run").exists()


def test_windows_can_be_cut_from_whole_recordings(store):
    trials = open_dataset(store, 2.0)
    whole = open_dataset(store, 2.0, cut_from="recordings")
    assert len(whole) == 4 * (6000 // 256) >= len(trials)
    assert whole.metadata["i_stop_in_trial"].max() <= 6000
    with pytest.raises(DataError, match="without a target"):
        open_dataset(store, 2.0, cut_from="recordings", target="emotion")


def test_a_loader_goes_on_from_within_an_epoch(store):
    data = open_dataset(store, 2.0)
    whole = [batch.windows.tolist() for batch in data.loader(7, shuffle=True)]
    rest = [batch.windows.tolist() for batch in data.loader(7, shuffle=True, skip=3)]
    assert rest == whole[3:]
