"""The examples of docstrings: every public name has one, and it runs as it stands."""

import doctest
import importlib
import inspect
import io
import sys
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from omfa.pipeline import ingest, simulate

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
PACKAGES = ("omfa.pipeline", "omfa.models", "omfa.zoo")
NAMES = [
    (package, name)
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
    # Constants have no docstring of their own; the reference has a table of them.
    if callable(getattr(importlib.import_module(package), name))
]
NEEDS = {"export": "onnxscript", "Exported": "onnxscript"}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """A folder with what the examples name: stores, files, and a model that learned from them."""
    folder = tmp_path_factory.mktemp("laboratory")
    simulate("dreamer", folder / "DREAMER", subjects=2, seconds=6, bad_channels=0, progress=False)
    ingest("dreamer", folder / "DREAMER", folder / "dreamer.zarr", serial=True, progress=False)
    spec = importlib.util.spec_from_file_location("lab", TUTORIALS / "lab.py")
    lab = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(lab)
        lab.learn(folder)
    logs = folder / "run" / "logs" / "version_0"
    logs.mkdir(parents=True)
    (logs / "metrics.csv").write_text("step,loss,chance_loss\n4,4.8,4.8\n9,4.6,4.8\n")
    return folder


def docstring(package, name):
    return inspect.getdoc(getattr(importlib.import_module(package), name)) or ""


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_a_public_name_has_an_example_that_runs(package, name, laboratory, monkeypatch):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(laboratory)
    monkeypatch.setenv("MNE_DATA", str(laboratory))
    found = doctest.DocTestParser().get_doctest(docstring(package, name), {}, name, None, 0)
    assert found.examples, f"{package}.{name} has no example"
    said = io.StringIO()
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # some examples are of warnings
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=said.write)
    plt.close("all")
    assert result.failed == 0, said.getvalue()


def test_names_are_callable_or_in_the_table_of_constants():
    constants = {
        f"{package}.{name}"
        for package in PACKAGES
        for name in importlib.import_module(package).__all__
        if (package, name) not in NAMES
    }
    pages = "".join(page.read_text() for page in (TUTORIALS.parent).glob("api-*.rst"))
    assert constants
    assert [name for name in constants if f"``{name}``" not in pages] == []


def test_the_reference_lists_every_public_name():
    for package in PACKAGES:
        page = TUTORIALS.parent / f"api-{package.rpartition('.')[2]}.rst"
        lines = {line.strip() for line in page.read_text().splitlines()}
        listed = {name for of, name in NAMES if of == package}
        assert listed - lines == set()
        assert sys.modules[package]
