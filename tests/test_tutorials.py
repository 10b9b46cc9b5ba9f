"""The tutorials of docs/, each run as a reader runs it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
NEEDS = {
    "plot_08_cluster": ("dask_jobqueue", "moto", "s3fs"),
    "plot_11_live": ("mne_lsl",),
    "plot_12_exported_model": ("onnx", "onnxscript", "onnxruntime"),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("plot_*.py")), ids=lambda path: path.stem)
def test_a_tutorial_runs_to_its_end(path, tmp_path):
    lacking = [name for name in NEEDS.get(path.stem, []) if not importlib.util.find_spec(name)]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    run = subprocess.run(
        [sys.executable, path],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert not list(tmp_path.iterdir())  # all of it was in a temporary folder
