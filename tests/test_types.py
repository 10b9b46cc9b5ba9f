"""Types of an installed omfa: what a type checker sees of it in another project."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
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


BUILD = """\
import sys
from setuptools.build_meta import build_editable
build_editable(sys.argv[1], {"editable_mode": "strict"})
"""


@pytest.mark.slow
def test_a_strict_editable_install_shows_its_types(tmp_path):
    """As CONTRIBUTING.md says; the default one is a hook of imports, which no checker runs."""
    for needed in ("mypy", "setuptools", "setuptools_scm"):
        pytest.importorskip(needed, exc_type=ImportError)
    clone, home, wheels = (tmp_path / name for name in ("clone", "venv", "wheels"))
    for folder in ("pipeline", "models", "zoo"):
        ignored = shutil.ignore_patterns("__pycache__", "weights")
        shutil.copytree(ROOT / folder, clone / folder, ignore=ignored)
    (clone / "zoo" / "weights").mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, clone)
    # What pip does, without the network that it takes to do it.
    wheels.mkdir()
    versioned = os.environ | {"SETUPTOOLS_SCM_PRETEND_VERSION": "0.1"}
    build = [sys.executable, "-W", "ignore", "-c", BUILD, str(wheels)]
    subprocess.run(build, check=True, env=versioned, cwd=clone, capture_output=True)
    venv.create(home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    (tmp_path / "user.py").write_text(USER)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(python), "user.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line for line in checked.stdout.splitlines() if "error:" in line]
    assert len(found) == 2, checked.stdout + checked.stderr
    assert (
        'user.py:4: error: Incompatible types in assignment (expression has type "Store"'
        in (found[0])
    )
    assert 'user.py:5: error: "Store" has no attribute "nothing"' in found[1]
