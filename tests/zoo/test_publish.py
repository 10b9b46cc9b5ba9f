import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

from omfa.models import OMFA
from omfa.pipeline import DataError
from omfa.zoo import Card, Protocol, evaluate, list_checkpoints, load, load_card, save_checkpoint
from omfa.zoo.checkpoints.downloads import (
    PACKAGE,
    REGISTRY,
    entries,
    local_files,
    read_registry,
    registry_text,
)
from omfa.zoo.checkpoints.folder import verify
from omfa.zoo.cli import main as cli
from omfa.zoo.protocols.windows import ArrayDataset
from omfa.zoo.publish import MARKS, PACKAGED_AT_MOST, publish, readme, table, write_table

ROOT = Path(__file__).parents[2]
INPUT = {
    "unit": "uV",
    "scale": 1.0,
    "sfreq": 128.0,
    "band": [0.5, 45.0],
    "reference": "source",
    "channels": ["Fp1", "Cz", "O2"],
    "window_seconds": 4.0,
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache; any connection is an error."""

    def refuse(*_):
        raise AssertionError("a test went to the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("OMFA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OMFA_ZOO_MIRROR", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return OMFA(n_outputs=2, sfreq=128.0, preset="tiny").eval()


@pytest.fixture
def run(tmp_path, model):
    """Lay the folder of a run, as pretrain does."""

    def run(name="three", **changes):
        fields = {
            "name": name,
            "preset": "tiny",
            "stage": "pretrained",
            "ucs_version": 1,
            "input": INPUT,
            "saw": [
                {
                    "dataset": "deap",
                    "subjects": ["sub-01", "sub-02"],
                    "hours": 1.25,
                    "recordings": ["sub-01_ses-1_run-1 a b", "sub-02_ses-1_run-1 c d"],
                }
            ],
            "recipe": {
                "command": "omfa-zoo pretrain deap.zarr --out runs/three",
                "settings": {"lr": None, "lag_seconds": (4.0, 10.0)},
                "seed": 0,
            },
        }
        save_checkpoint(tmp_path / "runs" / name / "checkpoint", model, Card(**fields | changes))
        return tmp_path / "runs" / name

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_published_loads_by_name_where_its_entry_is_put(run, tmp_path, home, model):
    out = tmp_path / "out" / "omfa-three"
    source = out.resolve().as_uri()
    with pytest.raises(DataError, match=r"Publishing .*would be called 'my three'.*--name"):
        publish(run(), out, name="my three", sources=[source])
    text = publish(run(), out, name="omfa-three", sources=[source])
    assert list_checkpoints().keys() & {"omfa-three"} == set()
    home.mkdir()
    (home / REGISTRY).write_text(text)
    x = torch.randn(2, 3, 512)
    assert torch.equal(load("omfa-three")(x), model(x))
    assert load_card("omfa-three") == list_checkpoints()["omfa-three"]
    assert load_card("omfa-three").recipe["settings"] == {"lr": None, "lag_seconds": [4.0, 10.0]}
    assert torch.equal(OMFA.from_pretrained(out)(x), model(x))
    for checked in ("omfa-three", out):
        assert "omfa-three" in verify(checked)


def test_a_registry_in_a_folder_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="registry"):
        publish(run(), tmp_path / "out", registry=tmp_path / "nowhere" / REGISTRY)
    assert not (tmp_path / "nowhere").exists()


def test_publishing_again_writes_the_same_bytes(run, tmp_path):
    registry = tmp_path / REGISTRY
    publish(run("b"), tmp_path / "b", registry=registry)
    publish(run("a"), tmp_path / "a", registry=registry)
    before = contents(tmp_path / "a"), registry.read_bytes()
    publish(tmp_path / "a", tmp_path / "a", registry=registry)
    publish(run("b"), tmp_path / "b", registry=registry)
    assert (contents(tmp_path / "a"), registry.read_bytes()) == before
    assert list(read_registry(registry)) == ["a", "b"]
    assert read_registry(registry)["a"].sources == ((tmp_path / "a").as_uri(),)
    assert set(before[0]) == {
        *("config.json", "model.safetensors", "card.json", "README.md", REGISTRY)
    }


def test_entries_that_are_made_at_once_are_all_kept(tmp_path):
    registry = tmp_path / REGISTRY
    code = """if True:
        import sys
        from dataclasses import replace
        from pathlib import Path
        from omfa.zoo.checkpoints.downloads import PACKAGE, REGISTRY, enter, read_registry

        entry = next(iter(read_registry(PACKAGE / REGISTRY).values()))
        print("ready", flush=True)
        input()
        for i in range(5):
            card = replace(entry.card, name=f"{sys.argv[1]}-{i}")
            enter(Path(sys.argv[2]), replace(entry, card=card))
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racing = [
        subprocess.Popen([sys.executable, "-c", code, who, str(registry)], **pipes)
        for who in "abcd"
    ]
    assert [process.stdout.readline() for process in racing] == ["ready\n"] * 4
    for process in racing:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in racing:
        process.communicate(timeout=60)
    assert [process.returncode for process in racing] == [0] * 4
    assert list(read_registry(registry)) == [f"{who}-{i}" for who in "abcd" for i in range(5)]


@pytest.mark.parametrize(("licence", "told"), [("BSD-3-Clause", "bsd-3-clause"), ("X", "other")])
def test_the_readme_is_a_model_card(run, tmp_path, licence, told):
    from huggingface_hub import ModelCard

    results = [
        {"dataset": "deap", "protocol": "cross-subject", "metric": "balanced_accuracy",
         "model": model, "score": score, "low": 0.5, "high": 0.7, "note": "2 subjects"}
        for model, score in (("omfa", 0.61), ("majority", 0.5))
    ]  # fmt: skip
    publish(
        run(results=results, simulated=True),
        tmp_path / "out",
        licence=licence,
        use="To try.",
        attributions={"deap": "Koelstra et al. (2012): DEAP."},
    )
    card = ModelCard.load(tmp_path / "out" / "README.md", ignore_metadata_errors=False)
    assert card.data.license == told
    assert "simulated-data" in card.data.tags
    assert card.data.model_name == "three"
    assert [result.metric_value for result in card.data.eval_results] == [0.61, 0.5]
    for said in ("simulated deap", "Koelstra et al.", "To try.", "0.500-0.700", "0.5-45 Hz", "uV"):
        assert said in card.text
    assert "omfa-zoo pretrain deap.zarr" in card.text


def test_results_of_evaluate_go_into_the_card_with_their_seeds(run, tmp_path, make_table, capsys):
    metadata = make_table(sessions=1)
    X = np.random.default_rng(0).standard_normal((len(metadata), 2, 64))
    dataset = ArrayDataset(X, metadata, sfreq=128.0, channels=["Fp1", "O2"])
    folder = run()
    quick = {"epochs": 1, "freeze": "encoder", "device": "cpu"}
    protocol = Protocol("cross-subject", n_folds=2)
    files = []
    for parameters, seeds in (
        (quick | {"checkpoint": str(folder)}, (0, 1)),
        (quick, (0,)),
        (quick | {"connectivity": False, "head": "mean"}, (0,)),
        ({"head": "logistic"}, (0,)),
    ):
        for seed in seeds:
            how = {"parameters": parameters | {"preset": "tiny"}, "seed": seed}
            result = evaluate("omfa", dataset, protocol, out=tmp_path / "results", **how)
            files += ["--result", str(result.path)]
    out = tmp_path / "out"
    assert cli.main(["publish", str(folder), str(out), "--name", "renamed", *files]) == 0
    said = "beside its results there is no omfa:random and no omfa:scratch"
    assert said in " ".join(capsys.readouterr().err.split())
    rows = load_card(out).results
    assert [row["model"] for row in rows] == [
        "frozen omfa from renamed (dataset held out)",
        "frozen omfa",
        "frozen omfa with head mean without connectivity",
        "linear probe of omfa",
        "majority",
    ]
    # After one epoch a network may choose one class for everybody, and then there is no interval.
    assert rows[3]["low"] < rows[3]["score"] < rows[3]["high"]
    assert "6 subjects, one pre-training seed, 2 fine-tuning seeds, 0." in rows[0]["note"]
    assert " per trial, " in rows[0]["note"]
    assert rows[-1]["score"] == 0.5
    assert {row["dataset"] for row in rows} == {result.data}


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        ({"input": {}}, {}, "input.unit, input.sfreq, input.channels, input.window_seconds"),
        ({"saw": []}, {}, "saw"),
        ({"recipe": {}}, {}, "recipe.command"),
        ({"licence": ""}, {}, "--licence cc-by-4.0"),
        ({}, {"attributions": {"seed": "SJTU"}}, "it did not see seed"),
        ({}, {"name": "../three"}, "letters"),
        ({}, {"sources": ["ftp://host"]}, "no known kind"),
    ],
)
def test_what_others_could_not_use_is_not_published(run, tmp_path, changes, how, message):
    with pytest.raises(DataError, match=message):
        publish(run(**changes), tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(DataError, match="something else"):
        publish(run(), tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.tex": b"years"}


def test_into_the_package(run, tmp_path, monkeypatch):
    package = tmp_path / "zoo"
    for module in ("publish", "checkpoints.downloads"):
        monkeypatch.setattr(f"omfa.zoo.{module}.PACKAGE", package)
    (package / "weights").mkdir(parents=True)
    publish(run(), package / "weights" / "three")
    assert read_registry(package / REGISTRY)["three"].sources == ("package",)
    assert load("three").n_outputs == 2
    monkeypatch.setattr("omfa.zoo.publish.PACKAGED_AT_MOST", 600_000)
    with pytest.raises(DataError, match=r"1\.6 MB of checkpoints"):
        publish(run("four"), package / "weights" / "four")
    assert list(read_registry(package / REGISTRY)) == ["three"]


# ---- what comes with omfa ----------------------------------------------------------------------


def test_the_table_of_the_documentation_is_made_from_the_cards():
    text = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    assert MARKS[0] + table(read_registry(PACKAGE / REGISTRY)) + MARKS[1] in text


def test_the_registry_is_as_publish_writes_it():
    text = (PACKAGE / REGISTRY).read_text(encoding="utf-8")
    assert text == registry_text(read_registry(PACKAGE / REGISTRY))


def test_every_packaged_checkpoint_is_whole_small_and_told():
    packed = {n: e for n, e in read_registry(PACKAGE / REGISTRY).items() if "package" in e.sources}
    assert sum(entry.size for entry in packed.values()) <= PACKAGED_AT_MOST
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["omfa.zoo"]
    for name, entry in packed.items():
        files = local_files(entry)
        assert files is not None, name
        assert Card.from_json(files["card.json"]) == entry.card
        verify(name)
        assert load(name).get_config()["preset"] == entry.card.preset
        for file in entry.files:
            path = PACKAGE / "weights" / name / file
            assert any(fnmatch(str(path.relative_to(PACKAGE)), pattern) for pattern in patterns)
        readme_there = (PACKAGE / "weights" / name / "README.md").read_text(encoding="utf-8")
        assert readme_there == readme(entry)
    assert {path.name for path in PACKAGE.glob("weights/*")} == set(packed)


# ---- the command line --------------------------------------------------------------------------


def test_list_show_and_verify(run, tmp_path, home, capsys):
    assert cli.main(["list"]) == 0
    home.mkdir()
    out = str(tmp_path / "out")
    assert cli.main(["publish", str(run()), out, "--registry", str(home / REGISTRY)]) == 0
    assert capsys.readouterr().out.count("[three]") == 1
    assert cli.main(["list"]) == 0
    line = r"^three +tiny, pretrained, 0\.8 MB, to download; saw deap"
    assert re.search(line, capsys.readouterr().out, re.M)
    assert cli.main(["download", "three"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert cli.main(["list"]) == 0
    assert re.search(r"^three .* 0\.8 MB, here", capsys.readouterr().out, re.M)
    assert cli.main(["show", "three"]) == 0
    assert capsys.readouterr().out.startswith("# three\n")
    assert cli.main(["show", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "three"
    assert cli.main(["verify"]) == 0
    assert capsys.readouterr().out.count("OK ") == len(entries())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert cli.main(["verify"]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert cli.main(["show", "thre"]) == 2
    assert "three" in capsys.readouterr().err


def test_the_table_is_written_between_its_marks(run, tmp_path, capsys):
    registry = tmp_path / REGISTRY
    publish(run(), tmp_path / "out", registry=registry)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}old\n{MARKS[1]}after\n")
    write_table(page, read_registry(registry))
    assert page.read_text().splitlines()[0] == "before"
    assert page.read_text().splitlines()[-1] == "after"
    assert "| `three` | tiny, pretrained | 0.8 | deap (2 subjects, 1.25 h) |" in page.read_text()
    page.write_text("no marks")
    assert cli.main(["list", "--markdown", str(page)]) == 2
    assert "marks" in capsys.readouterr().err
