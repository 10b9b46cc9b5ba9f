"""The prepared run of ``tests/benchmarks/gpu_run.py``, rehearsed on the CPU in tiny sizes."""

import ast
import io
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.utils import canonicalize_name

from omfa.zoo.checkpoints.folder import load_card

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_run.py"


@pytest.mark.slow
def test_the_prepared_run_in_tiny_sizes(lay_store, tmp_path):
    # Of the name that the benchmark knows, and nobody in it who is held out.
    lay_store(
        tmp_path / "stores" / "eegmat.zarr",
        source="eegmat",
        subjects=3,
        channels=("F3", "Cz", "O1", "O2"),
        sfreq=128.0,
        n_times=6000,
        trials=((0, 3000),),
        labels={"condition": np.array([0])},
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [
            sys.executable, str(SCRIPT), "run", str(tmp_path / "stores"), str(out),
            "--device", "cpu", "--rehearse", "--time-limit", "1500",  # for a busy machine
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (out / "gpu.md").read_text()
    assert "A rehearsal in tiny sizes" in page
    assert "2 passed, 0 failed, 0 error." in page
    rows = [
        line
        for line in page.splitlines()
        if line.startswith(("| stage", "| window", "| one", "| a head"))
    ]
    assert len(rows) == 13
    assert not [row for row in rows if "failed" in row or "out of memory" in row]
    assert "Out of time" not in page
    packed = b"".join(path.read_bytes() for path in sorted(out.glob("checkpoint.tar.*")))
    (tmp_path / "checkpoint.tar").write_bytes(packed)
    with tarfile.open(tmp_path / "checkpoint.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    card = load_card(tmp_path / "omfa-base-openeeg")
    assert card.saw[0]["dataset"] == "eegmat"
    assert card.recipe["hold_out"] == ["benchmark"]
    assert len(list(out.iterdir())) <= 8


def test_what_was_measured_decides_how_long_it_trains(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_run

    row = "| stage 1, base, pairs | eager, bf16 | {} | {} | 20 % | 7 | 1 % | 80 |\n"
    page = row.format(4096, "90,000") + row.format(1024, "51,234")
    assert gpu_run.pace_of(page) == 51_234
    assert gpu_run.pace_of(row.format(1024, "failed: a reason")) == gpu_run.pace_of("") > 0


def test_a_command_that_is_not_done_in_time_is_ended(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_run

    code = "import time; print('begun', flush=True); time.sleep({})"
    commands = [[sys.executable, "-c", code.format(s)] for s in (0, 600)]
    logs = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert not gpu_run.within(8.0, commands, logs)
    assert [path.read_text().strip() for path in logs] == ["begun", "begun"]
    assert gpu_run.within(30.0, commands[:1], logs[:1])


def test_a_training_that_is_cut_off_leaves_its_last_weights(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_run

    monkeypatch.setattr(gpu_run, "within", lambda *_, **__: False)
    monkeypatch.setattr(gpu_run, "PART", 1000)
    state = {"encoder.weight": torch.arange(1000.0)}
    kept = tmp_path / "scratch" / "omfa-base-openeeg" / "checkpoints"
    kept.mkdir(parents=True)
    torch.save({"state_dict": state, "optimizer_states": [2]}, kept / "step=500.ckpt")
    out = tmp_path / "out"
    out.mkdir()
    log = gpu_run.Log(out / "gpu.md")
    log.say("# A run")
    gpu_run.train(log, ["a.zarr"], out, tmp_path / "scratch", 300.0, {}, False)
    page = log.path.read_text()
    assert "Cut off after" in page
    assert "The weights after step=500" in page
    content = b"".join(path.read_bytes() for path in sorted(out.glob("weights.pt.*")))
    assert torch.equal(torch.load(io.BytesIO(content))["encoder.weight"], state["encoder.weight"])
    # Some of the time for 15,000 pairs a second, where nothing was measured.
    assert "--preset base --steps 2700 --batch-size 1024" in page


def test_what_travels_imports_only_what_is_there(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_run

    root = SCRIPT.parents[2]
    paths = [
        path for name in gpu_run.TRAVEL for path in [root / name, *(root / name).rglob("*.py")]
    ]
    paths = [path for path in paths if path.suffix == ".py" and path != Path(__file__)]
    assert len(paths) > 6
    # These come with one another, and are there with torch.
    have = {*gpu_run.LACKING, *gpu_run.SPARE, *gpu_run.THERE, "numpy", "scipy", "packaging"}
    have = {canonicalize_name(name) for name in have}
    own = {"omfa", *(path.stem for path in paths), *sys.stdlib_module_names}
    # Of ``prepare``, which is run where the tree is, and of a benchmark that is not run there.
    own |= {"gpu_stores", "torch_geometric"}
    packages = packages_distributions()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in {name.split(".")[0] for name in names} - own:
                known = {canonicalize_name(one) for one in packages.get(name, [name])}
                assert known & have, f"{path.name} imports {name}"


def test_what_a_wheel_needs_is_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_run

    def wheel(name, *needs):
        path = tmp_path / f"{name}-1.0-py3-none-any.whl"
        about = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {need}" for need in needs)]
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(about) + "\n\n")
        return path

    store = wheel("a_store", "numpy>=2", "a-codec>=1; python_version >= '3'", "tests; extra == 'x'")
    assert gpu_run.unmet([store]) == ['a_store needs a-codec>=1; python_version >= "3"']
    assert gpu_run.unmet([store, wheel("a_codec")]) == []
