import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from omfa.models import OMFA
from omfa.pipeline import ingest, simulate
from omfa.zoo import Result, read_decision
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.checkpoints.folder import load_card, save_checkpoint
from omfa.zoo.cli.main import main
from omfa.zoo.protocols.protocol import PROTOCOL_PRESETS, PROTOCOLS

QUICK = ["--window-seconds", "2", "--parameters", "epochs=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small simulated stores, and a tiny checkpoint that saw another dataset."""
    folder = tmp_path_factory.mktemp("evaluate")
    for source, subjects in (("deap", 3), ("dreamer", 5)):
        raw = folder / f"{source}-raw"
        simulate(source, raw, subjects=subjects, seconds=4, effect=1.5, progress=False)
        ingest(source, raw, folder / f"{source}.zarr", serial=True, progress=False)
    model = OMFA(n_outputs=2, sfreq=128.0, preset="tiny")
    saw = [
        {
            "dataset": "elsewhere",
            "subjects": ["sub-01"],
            "hours": 1.0,
            "recordings": ["sub-01_ses-1_run-1 a b"],
        }
    ]
    card = Card("three", "tiny", "pretrained", 1, {}, saw, {})
    save_checkpoint(folder / "runs" / "three" / "checkpoint", model, card)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_models_are_compared_on_the_same_folds(capsys, tmp_path):
    command = [
        *("evaluate", "dreamer.zarr", "--out", str(tmp_path), "--folds", "3", "--seeds", "2"),
        *("--protocol", "cross-subject", "--protocol", "leaky-window"),
        *("--model", "omfa", "--model", "braindecode:DGCNN", "--model", "majority"),
        *("--checkpoint", "runs/three/checkpoint", *QUICK, "omfa.freeze=encoder"),
    ]
    code, told = main(command), capsys.readouterr()
    assert code == 0, told.err
    assert "Target, as none was given: dreamer valence>3" in told.err
    assert "simulated dreamer, 5 subjects, 2 seeds averaged; classes by" in told.out
    assert "dataset held out" in told.out
    assert "LEAKY" in told.out
    assert "Added: omfa:random" in told.err
    assert "Not in the table: omfa:scratch" in told.err
    for path in re.findall(r"Result: (.*)", told.out):
        result = Result.load(path)
        assert result.leaky is ("leaky" in Path(path).name)
        assert result.config["dataset"]["simulated"]
    omfa = [Result.load(path) for path in tmp_path.glob("cross-subject_omfa_*")]
    assert sorted(one.config["seed"] for one in omfa) == [0, 1]
    random = [Result.load(path) for path in tmp_path.glob("cross-subject_omfa-random_*")]
    assert sorted(one.config["seed"] for one in random) == [0, 1]
    for one in (*omfa, *random):
        assert one.config["parameters"]["freeze"] == "encoder"
    assert {one.config["parameters"]["preset"] for one in random} == {"tiny"}
    assert main(command) == 0  # read, not run
    assert capsys.readouterr().out == told.out
    again = omfa[0].path
    assert main(["evaluate", "--rerun", str(again), "--out", str(tmp_path / "again")]) == 0
    repeated = Result.load(tmp_path / "again" / again.name)
    assert repeated.predictions.equals(omfa[0].predictions)
    n = len(repeated.predictions)
    assert f"Predictions are identical in {n} of {n} windows of {again.name}" in (
        capsys.readouterr().out
    )
    # No folder of whoever ran it is in the file, and the checkpoint is found from there.
    assert omfa[0].config["dataset"]["recipe"]["stores"][0].startswith("../")
    for one in (omfa[0], repeated):
        assert str(Path.cwd()) not in json.dumps(one.config)


def test_a_result_is_run_again_on_the_store_that_is_named(folder, capsys, tmp_path):
    command = ["evaluate", "dreamer.zarr", "--model", "majority", "--out", str(tmp_path / "a")]
    assert main([*command, "--protocol", "cross-subject", *QUICK[:2]]) == 0
    (path,) = (tmp_path / "a").glob("*.zip")
    elsewhere = tmp_path / "b" / "c"
    elsewhere.mkdir(parents=True)
    moved = path.rename(elsewhere / path.name)
    again = ["evaluate", "--rerun", str(moved), "--out", str(tmp_path / "again")]
    capsys.readouterr()
    assert main(again) == 2
    assert "dreamer.zarr is not there, as seen from" in capsys.readouterr().err
    assert main([*again, "dreamer.zarr"]) == 0
    assert "Predictions are identical in" in capsys.readouterr().out
    assert main([*again, "deap.zarr"]) == 2
    assert "no target is given for deap" in capsys.readouterr().err


def test_controls_take_what_the_checkpoint_and_its_model_have(capsys, tmp_path):
    command = ["evaluate", "dreamer.zarr", "--dry-run", "--folds", "2", "--out", str(tmp_path)]
    command += ["--checkpoint", "runs/three/checkpoint", "--freeze", "encoder", *QUICK]
    seen = {}

    def shown(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "omfa.zoo.evaluation.run.plan",
                lambda model, *_, parameters, **__: seen.update({model: parameters}),
            )
            patch.setattr("omfa.zoo.cli.evaluation._show_plans", lambda *_, **__: None)
            seen.clear()
            assert main([*command, *arguments]) == 0
        return dict(seen)

    assert set(shown()) == {"omfa", "omfa:random"}
    assert set(shown("--no-control")) == {"omfa"}
    found = shown("omfa:scratch.lr=0.1", "--model", "omfa", "--model", "omfa:scratch")
    assert "freeze" not in found["omfa:scratch"]
    assert found["omfa:scratch"]["lr"] == 0.1
    assert found["omfa:random"]["freeze"] == "encoder"
    assert {found[name]["preset"] for name in ("omfa:random", "omfa:scratch")} == {"tiny"}


@pytest.mark.parametrize("out", ["dreamer.zarr", "dreamer.zarr/results/mine"])
def test_nothing_is_written_into_a_store(out, capsys):
    for command in (
        ["evaluate", "dreamer.zarr", "--model", "majority", "--out", out],
        ["report", "results", "--out", f"{out}/page.html"],
        ["reproduce", "--stores", "dreamer.zarr", "--out", out, "--dry-run"],
    ):
        assert main(command) == 2
        assert "lies inside the store" in capsys.readouterr().err


def test_trials_that_give_no_window_are_said_in_a_line(capsys, tmp_path):
    command = ["evaluate", "dreamer.zarr", "--dry-run", "--model", "majority"]
    main([*command, "--window-seconds", "4", "--out", str(tmp_path)])
    line = r"^omfa-zoo: Opening .*: \d+ of 90 trials left out: \d+ shorter than a window"
    assert re.search(line, capsys.readouterr().err, re.MULTILINE)


def test_a_dry_run_tells_folds_fits_and_time_and_writes_nothing(capsys, tmp_path):
    out = tmp_path / "out"
    command = ["evaluate", "deap.zarr", "--dry-run", "--seeds", "2", "--out", str(out), *QUICK]
    assert main([*command, "--model", "braindecode:DGCNN", "--model", "majority"]) == 0
    told = capsys.readouterr().out
    assert "... and 12 folds more" in told
    assert "braindecode:DGCNN under within-subject, seed 0: 15 fits" in told
    assert re.search(r"60 fits in all, about [\d.]+ (s|min|h)", told)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", "no store"),
        ("nix.zarr", "there is no omfa store"),
        ("deap.zarr --target joy", "no such label; it has"),
        ("deap.zarr --target 'valence=>5'", "neither a column nor a rule"),
        ("deap.zarr --target 'valence>8.9'", "has one trial|one class"),
        ("deap.zarr --folds 41", "expected at least 41 for 41 folds"),
        ("deap.zarr --folds many", "--folds many"),
        ("deap.zarr --train-subjects 2", "train_subjects=2.* Use it with 'cross-subject' only"),
        ("deap.zarr --protocol cross-session", "it has a single session"),
        ("deap.zarr --protocol sideways", "there is none of that name. Use leaky-window"),
        ("deap.zarr --model EEGNet", "'EEGNet': there is none of that name"),
        ("deap.zarr --model majority --checkpoint runs/three/checkpoint", "Add --model omfa"),
        ("deap.zarr --checkpoint runs/none", "Reading the checkpoint|checkpoint"),
        ("deap.zarr --checkpoint runs/three/checkpoint --parameters preset=base", "is 'tiny', and"),
        ("deap.zarr --parameters '{\"lr\":'", "Write JSON"),
        ("deap.zarr --parameters majority.lr=1", "the parameter majority.lr"),
        ("deap.zarr --model majority --parameters lr=1", "Models that take one"),
        ("deap.zarr --parameters lr", "Write it as NAME=VALUE"),
        (
            "deap.zarr --protocol cross-subject --folds 3 --centred subject",
            "reads signals, not features. Use a baseline, or omfa with freeze=encoder",
        ),
        (
            "deap.zarr --model braindecode:EEGNet --window-seconds 0.1",
            "Trying braindecode's EEGNet",
        ),
        ("deap.zarr other-rate.zarr --target 'valence>5'", "different rates"),
        ("old.zarr --target emotion", "channel schema"),
        ("tiny.zarr", "no usual one for tiny"),
    ],
)
def test_what_cannot_be_done_is_found_before_anything_runs(
    arguments, found, folder, lay_store, capsys, tmp_path
):
    if "other-rate" in arguments and not (folder / "other-rate.zarr").exists():
        lay_store(folder / "other-rate.zarr", sfreq=100.0, labels={"valence": [1.0, 9.0, 9.0]})
    if "tiny" in arguments and not (folder / "tiny.zarr").exists():
        lay_store(folder / "tiny.zarr")
    if "old" in arguments:
        lay_store(folder / "old.zarr")
        root = folder / "old.zarr" / "zarr.json"
        root.write_text(re.sub(r'("ucs_version": ?"?)\d+', r"\g<1>99", root.read_text()))
    out = tmp_path / "out"
    assert main(["evaluate", *shlex.split(arguments), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert re.search(found, told.err), told.err
    assert "fits" not in told.out
    assert not out.exists()


def test_a_probe_is_no_model_to_keep(capsys, tmp_path):
    out = tmp_path / "probe"
    arguments = ["finetune", "deap.zarr", "--parameters", "head=logistic", "preset=tiny"]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "head=logistic is a probe of an encoder, not a model to keep" in capsys.readouterr().err
    assert not out.exists()


def test_a_fine_tuned_model_is_a_checkpoint(capsys, tmp_path):
    out = tmp_path / "mine"
    command = ["finetune", "dreamer.zarr", "--checkpoint", "runs/three/checkpoint", *QUICK]
    assert main([*command, "--out", str(out), "--subject", "02", "--dry-run"]) == 0
    assert "of 1 subjects to train on" in capsys.readouterr().out
    assert not out.exists()
    assert main([*command, "--out", str(out), "--subject", "dreamer/sub-02"]) == 0
    card = load_card(str(out))
    assert card.stage == "finetuned"
    assert card.simulated
    assert {part["dataset"]: part["subjects"] for part in card.saw} == {
        "elsewhere": ["sub-01"],
        "dreamer": ["sub-02"],
    }
    assert card.recipe["classes"] == ["low", "high"]
    model = OMFA.from_pretrained(str(out)).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 14, 256)).shape == (2, 2)
    assert main([*command, "--out", str(out)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "no"), "--subject", "9"]) == 2
    assert "Use of dreamer/sub-01, dreamer/sub-02" in capsys.readouterr().err
    evaluated = ["evaluate", "dreamer.zarr", "--checkpoint", str(out), *QUICK]
    assert main([*evaluated, "--dry-run"]) == 2
    assert "may have seen their labels" in capsys.readouterr().err
    assert main([*evaluated, "--skip", "dreamer/sub-02", "--dry-run"]) == 0


def test_fine_tuning_holds_subjects_apart_for_a_temperature_or_an_epoch(tmp_path, capsys):
    def validation(name, *arguments):
        out = tmp_path / name
        command = ["finetune", "deap.zarr", "--out", str(out), *QUICK, "preset=tiny", *arguments]
        assert main(command) == 0
        return json.loads((out / "card.json").read_text())["recipe"]["validation"]

    chosen = validation("chosen", "patience=1")
    assert len(chosen["subjects"]) == 1
    assert np.isfinite(chosen["validation_loss"])
    assert "balanced accuracy" in capsys.readouterr().err
    everything = validation("all", "--no-calibrate")
    assert everything["subjects"] == []
    assert np.isfinite(everything["loss"])
    told = capsys.readouterr().err
    assert "balanced accuracy" not in told
    assert "set apart" not in told
    calibrated = validation("calibrated")
    assert len(calibrated["subjects"]) == 1
    told = capsys.readouterr().err
    first, second = told.index("A fit without what is set apart"), told.index("The fit on all")
    assert first < told.index("epoch   1") < second < told.rindex("epoch   1")
    decision = json.loads((tmp_path / "calibrated" / "config.json").read_text())["decision"]
    assert decision["classes"] == ["low", "high"]
    assert decision["decision_unit"] == "window"
    assert decision["temperature"] != 1
    assert read_decision(tmp_path / "calibrated").temperature == decision["temperature"]
    command = ["finetune", "deap.zarr", "--out", str(tmp_path / "no"), *QUICK, "preset=tiny"]
    command += ["--no-calibrate"]
    assert main([*command, "--protocol", "within-subject"]) == 2
    assert "all windows are learned from. Leave the protocol out" in capsys.readouterr().err


def test_people_held_out_of_fine_tuning_are_in_no_card(tmp_path, capsys):
    out = tmp_path / "some"
    command = ["finetune", "dreamer.zarr", "--out", str(out), *QUICK, "preset=tiny"]
    assert main([*command, "--hold-out", "dreamer/sub-0[23]"]) == 0
    (saw,) = json.loads((out / "card.json").read_text())["saw"]
    assert saw["subjects"] == ["sub-01", "sub-04", "sub-05"]
    command[3] = str(tmp_path / "none")
    assert main([*command, "--hold-out", "dreamer/*"]) == 2
    assert "everybody is held out. Hold out fewer" in capsys.readouterr().err
    assert main([*command, "--hold-out", "dreamer/sub-9"]) == 2
    assert "nobody is called 'dreamer/sub-9'" in capsys.readouterr().err


def test_an_interrupted_fine_tuning_says_that_it_starts_again(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("omfa.zoo.finetune.fine_tune", interrupted)
    command = ["finetune", "deap.zarr", "--out", str(tmp_path / "out"), *QUICK]
    assert main(command) == 130
    assert "Interrupted. Run the same command to start again." in capsys.readouterr().err
    monkeypatch.setattr("omfa.zoo.cli.evaluation.open_stores", interrupted)
    assert main(["evaluate", "deap.zarr"]) == 130
    assert "Interrupted. Run the same command again to go on." in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there_is_told_with_those_near(folder, capsys):
    assert main(["show", "runs/thre"]) == 2
    assert "no such folder or name (nearest: runs/three)" in capsys.readouterr().err
    (folder / "runs" / "begun").mkdir()
    (folder / "runs" / "begun" / "run.json").write_text("{}")
    assert main(["show", "runs/begun"]) == 2
    assert "its pre-training has not ended" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["runs/three", "runs/three/checkpoint"])
def test_what_a_folders_card_says_loads_it(place, capsys):
    assert main(["show", place]) == 0
    (name,) = re.findall(r'load\((".*?"), n_outputs', capsys.readouterr().out)
    assert load_card(json.loads(name)).name == "three"


@pytest.mark.parametrize("section", ["Fine-tune", "Evaluate"])
def test_the_commands_of_the_docs_run(section, capsys):
    """As they stand, but with one epoch of training on small simulated stores."""
    text = (Path(__file__).parents[3] / "docs" / "zoo.md").read_text()
    part = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", text, re.S | re.M)[1]
    blocks = re.findall(r"```bash\n(.*?)```", part, re.S)
    commands = "".join(blocks).replace("\\\n", " ").splitlines()
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        assert program == "omfa-zoo"
        code, told = main([*arguments, *QUICK]), capsys.readouterr()
        assert code == 0, f"{command}: {told.err}"
        assert told.out


def test_the_help_names_every_protocol(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    told = capsys.readouterr().out
    assert not [name for name in (*PROTOCOLS, *PROTOCOL_PRESETS) if name not in told]


def test_a_parameter_that_no_model_takes_is_said_to_be_none(capsys, tmp_path):
    line = ["evaluate", str(tmp_path), "--model", "majority", "--parameters", "foo=3"]
    assert main(line) == 2
    assert "none of them; add --model omfa" in capsys.readouterr().err


def test_random_weights_that_are_frozen_are_not_called_omfa_in_silence(capsys, tmp_path):
    for head, warned in (("logistic", True), ("gat", False)):
        line = ["evaluate", str(tmp_path / "none.zarr"), "--head", head, "--folds", "2"]
        assert main(line) == 2  # no store is there
        assert ("starts from no checkpoint" in capsys.readouterr().err) is warned
