"""The ten lines of the README run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.filterwarnings("ignore:.*measures power by band")
@pytest.mark.filterwarnings("ignore::omfa.zoo.TrialsLeftOut")
def test_ten_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"## Ten lines\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len([line for line in code[1].splitlines() if line]) <= 10
    # Without processes of its own, which a test has no time for; all else as it stands.
    lines = code[1].replace('"dreamer.zarr")  ', '"dreamer.zarr", serial=True)  ', 1)
    names = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["X"].shape[1:] == (14, 512)
    assert len(names["X"]) == len(names["y"]) == len(names["groups"])
    assert "simulated dreamer" in capsys.readouterr().out
    assert names["model"].n_outputs == 2
