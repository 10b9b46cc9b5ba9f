"""Types of an installed omfa: what a type checker sees of it in another project."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

USER = """\
from omfa.pipeline import Store, open_store
store: Store = open_store("x.zarr")
name: str = store[0].recording
wrong: str = store
store.nothing
"""


@pytest.mark.slow
@pytest.mark.network
def test_a_strict_editable_install_shows_its_types(tmp_path):
    """As CONTRIBUTING.md says; the default one is a hook of imports, which no checker runs."""
    pytest.importorskip("mypy")
    clone, home = tmp_path / "clone", tmp_path / "venv"
    clone.mkdir()
    for folder in ("pipeline", "models", "zoo"):
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(ROOT / folder, clone / folder, ignore=ignored)
    (clone / "zoo" / "weights").mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, clone)
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(clone)]
    install += ["--config-settings", "editable_mode=strict"]
    versioned = os.environ | {"SETUPTOOLS_SCM_PRETEND_VERSION": "0.1"}
    subprocess.run([python, *install], check=True, env=versioned, cwd=tmp_path)
    (tmp_path / "user.py").write_text(USER)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(python), "user.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line for line in checked.stdout.splitlines() if "error:" in line]
    assert len(found) == 2, checked.stdout + checked.stderr
    assert 'user.py:4: error: Incompatible types in assignment (expression has type "Store"' in (
        found[0]
    )
    assert 'user.py:5: error: "Store" has no attribute "nothing"' in found[1]
