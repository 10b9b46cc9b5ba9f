"""Benchmarks are run by hand, so nothing else tells when what they use has moved."""

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = sorted((Path(__file__).parent / "benchmarks").glob("*.py"))


def taken(module, name):
    """What a module has under a name: an attribute, or a module of it; None if neither."""
    try:
        return getattr(import_module(module), name, None) or import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return None


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_takes_from_omfa_is_there(script):
    tree, modules, lost = ast.parse(script.read_text()), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("omfa"):
            for alias in node.names:
                found = taken(node.module, alias.name)
                lost += [f"{node.module}.{alias.name}"] * (found is None)
                if isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
        elif isinstance(node, ast.Import):
            for name in (alias.name for alias in node.names if alias.name.startswith("omfa")):
                lost += [name] * (taken(*name.rsplit(".", 1)) is None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                lost.append(f"{module.__name__}.{node.attr}")
    assert not lost
