"""Exported models: what onnxruntime and torch.export answer is what the model answers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import omfa.models
from omfa import zoo
from omfa.models import HEADS
from omfa.pipeline.errors import DataError
from omfa.zoo import exporting
from omfa.zoo.checkpoints.decision import as_stored
from omfa.zoo.cli.main import main

CHANNELS = ["Fp1", "Cz", "O1"]
CLASSES = ["calm", "tense"]
TEMPERATURE = 2.5
DOCS = Path(__file__).parents[2] / "docs"


def card(name, stage, preset="tiny"):
    return zoo.Card(
        name=name,
        preset=preset,
        stage=stage,
        ucs_version=1,
        input={
            "unit": "uV",
            "sfreq": 128.0,
            "band": [0.5, 45.0],
            "channels": CHANNELS,
            "window_seconds": 1.0,
        },
        saw=[{"dataset": "noise", "subjects": ["sub-01"], "hours": 0.5}],
        recipe={"command": "omfa-zoo finetune noise.zarr --out here"},
        simulated=True,
        licence="CC-BY-4.0",
        decision=as_stored(CLASSES, "the values of 'mood'", temperature=TEMPERATURE)
        if stage == "finetuned"
        else {},
    )


def made(folder, stage="finetuned", preset="tiny", **options):
    """A checkpoint of random weights."""
    torch.manual_seed(0)
    model = omfa.models.OMFA(n_outputs=2, sfreq=128.0, preset=preset, **options)
    return zoo.save_checkpoint(folder, model, card(folder.name, stage, preset))


@pytest.fixture(scope="module")
def mood(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made") / "mood")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made") / "only", "pretrained", encoder="cnn")


@pytest.fixture(scope="module")
def exported(mood, tmp_path_factory):
    pytest.importorskip("onnxscript")
    return zoo.export(mood, tmp_path_factory.mktemp("onnx") / "mood.onnx")


@pytest.fixture
def session(exported):
    import onnxruntime

    return onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])


def answers_of(folder, x, mask=None):
    chs_info = zoo.read_decision(folder).chs_info()
    model = zoo.load(folder, chs_info=chs_info, n_times=x.shape[-1], sfreq=128.0)
    with torch.no_grad():
        return model(x, mask=mask)


def noise(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 20, (n, len(CHANNELS), 128)).astype(np.float32)


def test_the_documented_lines_run_where_torch_is_not(exported, mood):
    """The ten lines of docs/export.md, beside the file that they name."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "export.md").read_text(), re.DOTALL)
    windows = noise(7)
    np.save(exported.path.parent / "windows.npy", windows.astype(np.float64))
    without = "import sys; sys.modules['torch'] = sys.modules['omfa'] = None\n"
    run = subprocess.run(
        [sys.executable, "-c", without + code],
        cwd=exported.path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    chances = torch.softmax(answers_of(mood, torch.from_numpy(windows)) / TEMPERATURE, -1)
    wanted = [f"{CLASSES[int(p.argmax())]} {float(p.max()):.2f}" for p in chances]
    assert run.stdout.splitlines() == wanted


@pytest.mark.parametrize("n", [1, 2, 64])
def test_a_file_answers_as_the_model_for_any_number_of_windows(session, mood, n):
    x, mask = noise(n, seed=n), np.ones((n, len(CHANNELS)), bool)
    mask[::2, 1] = False
    logits, chances = session.run(None, {"x": x, "mask": mask})
    wanted = answers_of(mood, torch.from_numpy(x), torch.from_numpy(mask))
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    np.testing.assert_allclose(chances, torch.softmax(wanted / TEMPERATURE, -1), atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
def test_what_is_no_recording_counts_as_masked(session, bad):
    x, whole = noise(2), np.ones((2, len(CHANNELS)), bool)
    masked = whole.copy()
    masked[0, 2] = False
    wanted, _ = session.run(None, {"x": x, "mask": masked})
    spoilt = x.copy()
    spoilt[0, 2, slice(None) if bad is None else 40] = 3.0 if bad is None else bad
    found, _ = session.run(None, {"x": spoilt, "mask": whole})
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(found - session.run(None, {"x": x, "mask": whole})[0])[0].max() > 1e-6


def test_volts_are_another_answer(session):
    x, mask = noise(1), np.ones((1, len(CHANNELS)), bool)
    found = [session.run(None, {"x": part, "mask": mask})[0] for part in (x, x / 1e6)]
    assert np.isfinite(found[1]).all()
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_the_file_says_what_it_is(session, exported, mood):
    import hashlib

    says = json.loads(session.get_modelmeta().custom_metadata_map["omfa"])
    assert says == exported.metadata
    assert says["classes"] == CLASSES
    assert says["channels"] == CHANNELS
    assert says["temperature"] == TEMPERATURE
    known = {"sfreq": 128.0, "window_seconds": 1.0, "n_times": 128, "unit": "uV"}
    known |= {"checkpoint": "mood", "licence": "CC-BY-4.0", "simulated": True}
    assert {key: says[key] for key in known} == known
    weights = (mood / "model.safetensors").read_bytes()
    assert says["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    names = [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]
    assert names == (says["inputs"], says["outputs"])
    assert [one.shape[1:] for one in session.get_inputs()] == [[3, 128], [3]]


def test_a_program_of_torch_export_from_the_command_line(tmp_path, monkeypatch, capsys):
    folder = made(tmp_path / "pairs", head="coherency")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(folder), "--format", "torch-export"]) == 0
    assert capsys.readouterr().out == "pairs.pt2\n"
    extra = {"omfa": ""}
    program = torch.export.load("pairs.pt2", extra_files=extra)
    assert json.loads(extra["omfa"])["classes"] == CLASSES
    x = torch.from_numpy(noise(5))
    logits, chances = program.module()(x, torch.ones(5, 3, dtype=torch.bool))
    torch.testing.assert_close(logits, answers_of(folder, x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(chances.sum(-1), torch.ones(5))
    # A second time it would overwrite the first.
    before = Path("pairs.pt2").read_bytes()
    assert main(["export", str(folder), "--format", "torch-export"]) == 2
    assert "pairs.pt2 is there already. Name another --out" in capsys.readouterr().err
    assert Path("pairs.pt2").read_bytes() == before
    # An answer that is off by anything would not do.
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(DataError, match="answers differ from torch's by"):
        zoo.export(folder, "other.pt2", format="torch-export")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "pairs.pt2"]


def test_what_is_only_pretrained_has_an_encoder_to_export(pretrained, tmp_path):
    with pytest.raises(DataError, match=r"only pre-trained.*Fine-tune it first: omfa-zoo finetune"):
        zoo.export(pretrained, tmp_path / "a.pt2", format="torch-export")
    made = zoo.export(pretrained, tmp_path / "a.pt2", format="torch-export", encoder=True)
    assert made.metadata["outputs"] == ["embeddings", "power"]
    assert "classes" not in made.metadata
    rows = torch.from_numpy(noise(4)).flatten(0, 1)
    program = torch.export.load(made.path).module()
    with torch.no_grad():
        wanted = zoo.load(pretrained).encoder(rows)
    for found, want in zip(program(rows), (wanted.h, wanted.side), strict=True):
        torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_exported_is_said(mood, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no format 'onx' \(nearest: onnx\).*Choose one"):
        zoo.export(mood, tmp_path / "a", format="onx")
    with pytest.raises(DataError, match="neither a folder nor a checkpoint"):
        zoo.export("omfa-unheard-of", tmp_path / "a", format="torch-export")
    pairs = made(tmp_path / "pairs", "pretrained", head="coherency")
    with pytest.raises(DataError, match="has no encoder"):
        zoo.export(pairs, tmp_path / "a", format="torch-export", encoder=True)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r"package onnx is not installed. Run: pip .*omfa\[onnx\]"):
        zoo.export(mood, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


# The default, GAT on ART at the rate, is exported above.
VARIANTS = [
    *({"head": head} for head in HEADS if head != "gat"),
    {"resampling": "rate+content"},
    {"resampling": "off"},
    {"encoder": "art_no_rotary"},
    {"encoder": "patch"},
    {"encoder": "cnn"},
    *({"preset": preset} for preset in ("small", "base", "large")),
]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant.values()))
def test_every_head_encoder_and_preset_is_exported(variant, tmp_path):
    """``export`` compares each file with torch itself; here more narrowly."""
    pytest.importorskip("onnxscript")
    found = zoo.export(made(tmp_path / "it", **variant), tmp_path / "it.onnx")
    assert found.difference < 1e-5
