"""The walls and floors of the house: pyproject.toml names them, the linter sees what breaks.

`lint-imports` checks the tree itself; here it is given trees that are wrong.
"""

import ast
import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_code_or_data_is_packaged():
    """A folder that is not listed is left out of wheels, or setuptools warns of it at every one."""
    listed = SETTINGS["tool"]["setuptools"]
    found = set()
    for name, top in listed["package-dir"].items():
        for file in (ROOT / top).rglob("*.*"):
            below = file.relative_to(ROOT / top).parts[:-1]
            if file.is_file() and "__pycache__" not in below:
                kept = itertools.takewhile(str.isidentifier, below)  # no name, no package
                found |= set(itertools.accumulate(kept, "{}.{}".format, initial=name))
    assert set(listed["packages"]) == found
    assert len(listed["packages"]) == len(found)


def private_imports(code):
    """Return what of Zarr's own parts is imported to run, and not for types alone."""
    found = []
    nodes = [ast.parse(code)]
    while nodes:
        match nodes.pop():
            case ast.If(test=ast.Name("TYPE_CHECKING"), orelse=otherwise):
                nodes += otherwise
            case ast.Import(names=names):
                found += [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                found += [f"{module}.{name.name}" for name in names]
            case node:
                nodes += ast.iter_child_nodes(node)
    parts = [name.split(".") for name in found]
    return sorted(
        ".".join(p) for p in parts if p[0] == "zarr" and any(x == "core" or x[0] == "_" for x in p)
    )


def test_no_part_of_zarr_is_used_that_a_version_may_move():
    """Zarr's public names last; ``zarr.core`` is its own affair."""
    for folder in SETTINGS["tool"]["setuptools"]["package-dir"].values():
        for file in (ROOT / folder).rglob("*.py"):
            assert private_imports(file.read_text(encoding="utf-8")) == [], file


def test_a_private_import_is_seen_wherever_it_stands():
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zarr.core import sync\n"
    assert private_imports(types) == []
    assert private_imports(types + "else:\n    import zarr.core") == ["zarr.core"]
    code = "import zarr\nfrom zarr.abc.buffer import Buffer\ndef f():\n    from zarr import _compat"
    assert private_imports(code) == ["zarr._compat"]
    assert private_imports("from zarr.core.buffer import Buffer") == ["zarr.core.buffer.Buffer"]


@pytest.fixture(scope="module")
def linted(tmp_path_factory):
    """Lint a copy of the tree, with a line put at the end of one of its files."""
    copy = tmp_path_factory.mktemp("house")
    for name, folder in SETTINGS["tool"]["setuptools"]["package-dir"].items():
        target = copy / Path(*name.split("."))
        shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns("weights", "*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", copy)

    def lint(file, line):
        path = copy / "omfa" / file
        before = path.read_text() if path.exists() else None
        path.write_text(f"{before or ''}\n{line}\n")
        try:
            return subprocess.run(
                [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
                cwd=copy,
                env=os.environ | {"PYTHONPATH": str(copy), "NO_COLOR": "1", "COLUMNS": "200"},
                capture_output=True,
                text=True,
            )
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_text(before)

    return lint


def test_the_tree_as_it_is_has_no_circle(linted):
    run = linted("pipeline/words.py", "")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("pipeline/store.py", "from omfa.pipeline.ingestion import ingest", "pipeline.store"),
        ("pipeline/words.py", "import omfa.pipeline.writing", "pipeline.words"),
        ("pipeline/readers/raw.py", "from omfa.pipeline.readers import files", ".raw -> .files"),
        ("pipeline/unplaced.py", "", "unplaced"),
        ("zoo/protocols/metrics.py", "import omfa.zoo.evaluation.run", "zoo.protocols"),
        ("zoo/finetune.py", "import omfa.zoo.evaluation.run", "zoo.finetune"),
        ("zoo/data/tiers.py", "from omfa.zoo.data.flat import hold", "omfa.zoo.data"),
        ("models/front_end.py", "from omfa.models.art import ART", "omfa.models"),
    ],
    ids=[
        *("upwards", "across", "circle", "unplaced"),
        *("zoo-upwards", "zoo-across", "zoo-circle", "models-circle"),
    ],
)
def test_an_import_that_breaks_a_floor_is_refused(linted, file, line, named):
    run = linted(file, line)
    assert run.returncode == 1
    assert named in run.stdout
