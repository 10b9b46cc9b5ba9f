"""The flags of ``omfa-zoo``: one name for a setting, and every spelling that was ever published."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args

import pytest

from omfa.pipeline import DataError
from omfa.zoo.checkpoints.downloads import PACKAGE, REGISTRY
from omfa.zoo.checkpoints.folder import load_card
from omfa.zoo.cli.flags import parameters_of, stage1_of, truths_of
from omfa.zoo.cli.main import COMMANDS, DEMO, main, parse
from omfa.zoo.estimators import settings as stage2
from omfa.zoo.estimators.settings import OmfaSettings, Training, omfa_and_training_from
from omfa.zoo.paper.settings import TABLES
from omfa.zoo.pretraining.settings import Augmentations, Settings, with_changes

PRETRAIN = ["pretrain", "a.zarr", "--out", "run"]
FINETUNE = ["finetune", "a.zarr", "--out", "run"]
EVALUATE = ["evaluate", "a.zarr"]
REPRODUCE = ["reproduce", "--stores", "a.zarr"]

STAGE1 = {
    "batch_size": 64,
    "channels_per_window": 8,
    "drop_path_prob": 0.2,
    "lag_seconds": (1.0, 2.0),
    "lr": 5e-4,
    "negatives_from": "subject",
    "preset": "tiny",
    "seed": 3,
    "steps": 10,
    "temperature": 0.2,
    "tokens_per_second": 4.0,
    "warm_up": 0.2,
    "weight_decay": 0.01,
    "window_seconds": 2.0,
}
STAGE2 = {
    "channel_drop_prob": 0.3,
    "freeze": "encoder",
    "head": "gcn",
    "layer_decay": 0.65,
    "batch_size": 16,
    "epochs": 3,
    "lr": 3e-3,
    "patience": None,
    "warm_up": 0.3,
}


def flags(settings, prefix=""):
    """Write settings as a command line."""
    line = []
    for name, value in settings.items():
        line.append(f"--{prefix}{name}".replace("_", "-"))
        line += map(str, value if isinstance(value, tuple) else (value,))
    return line


def pairs(settings):
    """Write settings as KEY=VALUE."""
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]


def test_help_is_there_without_torch():
    code = (
        "import contextlib, io, sys\n"
        "from omfa.zoo.cli.main import COMMANDS, main\n"
        "for command in ([], *([name] for name in COMMANDS)):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        with contextlib.suppress(SystemExit):\n"
        "            main([*command, '--help'])\n"
        "    assert 'usage: omfa-zoo' in out.getvalue()\n"
        "print({'torch', 'zarr', 'dask', 'lightning', 'sklearn'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("command", [PRETRAIN, REPRODUCE])
def test_stage_1_is_set_by_the_same_flags_everywhere(command):
    given = parse([*command, *flags(STAGE1, "pretrain-")])
    assert stage1_of(given) == replace(Settings(), **STAGE1)
    assert stage1_of(parse(command)) == Settings()


def test_the_prefix_is_needed_only_where_stage_2_has_the_name():
    assert stage1_of(parse([*PRETRAIN, *flags(STAGE1)])) == replace(Settings(), **STAGE1)
    plain = {name: STAGE1[name] for name in ("steps", "preset", "temperature", "lag_seconds")}
    assert stage1_of(parse([*REPRODUCE, *flags(plain)])) == replace(Settings(), **plain)
    both = parse([*REPRODUCE, "--batch-size", "16", "--pretrain-batch-size", "64"])
    assert stage1_of(both).batch_size == 64
    assert parameters_of(both) == {"omfa": {"batch_size": 16}}


def test_the_lag_has_a_short_name_too():
    """Commands that were written down before have it."""
    assert stage1_of(parse([*PRETRAIN, "--lag", "4", "30"])).lag_seconds == (4.0, 30.0)


def test_chances_of_augmentations_are_given_by_name(capsys):
    given = parse([*PRETRAIN, "--augmentation", "noise=0", "--augmentation", "drift=0.5"])
    assert stage1_of(given).augmentations == Augmentations(noise=0.0, drift=0.5)
    with pytest.raises(SystemExit):
        parse([*PRETRAIN, "--augmentation", "nois=0"])
    assert "there is no 'nois' (nearest: noise" in capsys.readouterr().err


@pytest.mark.parametrize("command", [FINETUNE, EVALUATE, REPRODUCE])
def test_stage_2_is_set_by_the_same_flags_everywhere(command):
    by_flags = parameters_of(parse([*command, *flags(STAGE2)]))
    assert by_flags == {"omfa": STAGE2}
    assert parameters_of(parse([*command, "--parameters", *pairs(STAGE2)])) == by_flags
    assert parameters_of(parse(command)) == {"omfa": {}}


def test_stage_1_of_a_grid_is_also_set_by_pairs():
    given = parse([*REPRODUCE, "--pretraining", *pairs(STAGE1), "noise=0"])
    settings = stage1_of(given, None, given.pretraining)
    expected = replace(Settings(), **STAGE1, augmentations=Augmentations(noise=0))
    assert asdict(settings) == asdict(expected) | {"lag_seconds": [1.0, 2.0]}


def test_smoothing_goes_to_every_model_with_features():
    models = ["omfa+non-causal-lds", "tangent-space+logistic", "braindecode:EEGNet", "majority"]
    for given in (["--smooth", "lds"], ["--parameters", "smooth=lds"]):
        line = parse([*EVALUATE, "--head", "logistic", *given])
        found = parameters_of(line, models)
        assert found["tangent-space+logistic"] == {"smooth": "lds"}
        assert found["omfa+non-causal-lds"] == {"smooth": "lds", "head": "logistic"}
        assert found["braindecode:EEGNet"] == found["majority"] == {}
    with pytest.raises(DataError, match="--smooth for majority"):
        parameters_of(parse([*EVALUATE, "--smooth", "lds"]), ["majority"])


def test_settings_go_to_the_models_that_take_them():
    models = ["omfa", "omfa:scratch", "braindecode:EEGNet", "majority"]
    line = [*EVALUATE, "--freeze", "encoder", "--epochs", "3", "--no-connectivity", "--refit"]
    line += ["--parameters", "omfa.epochs=4", "braindecode:EEGNet.sfreq=100", "lr=0.1"]
    training = {"epochs": 3, "refit": True, "lr": 0.1}
    own = {"freeze": "encoder", "connectivity": False}
    assert parameters_of(parse(line), models) == {
        "omfa": {**training, **own, "epochs": 4},
        "omfa:scratch": {**training, **own},
        "braindecode:EEGNet": {**training, "sfreq": 100},
        "majority": {},
    }
    with pytest.raises(DataError, match=r"--epochs for majority\. Add --model omfa"):
        parameters_of(parse([*EVALUATE, "--epochs", "3"]), ["majority"])
    with pytest.raises(DataError, match="--head for braindecode:EEGNet"):
        parameters_of(parse([*EVALUATE, "--head", "gcn"]), ["braindecode:EEGNet"])
    with pytest.raises(DataError, match=r"omfa:scrach.lr \(nearest: omfa:scratch"):
        parameters_of(parse([*EVALUATE, "--parameters", "omfa:scrach.lr=1"]), models)


def test_the_demo_is_what_it_was():
    given = parse([*REPRODUCE, *DEMO])
    assert asdict(stage1_of(given)) == asdict(
        Settings("tiny", steps=200, batch_size=128, channels_per_window=8)
    )
    assert parameters_of(given)["omfa"] == {
        "epochs": 30,
        "lr": 3e-3,
        "freeze": "encoder",
    }
    assert given.truth == []


def test_a_truth_that_is_not_there_is_told_before_hours_of_work(tmp_path):
    given = parse([*REPRODUCE, "--truth", str(tmp_path / "RAW")])
    with pytest.raises(DataError, match=r"RAW.truth.json is missing.*Simulate the tree again"):
        truths_of(given)


def test_the_help_of_reproduce_names_every_table(capsys):
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    told = capsys.readouterr().out
    for table in (*TABLES, "all"):
        assert re.search(rf"^  {table} ", told, re.M)


def test_commands_of_published_checkpoints_are_understood():
    text = (PACKAGE / REGISTRY).read_text()
    commands = re.findall(r"^command = (.*)$", text, re.M)
    assert commands
    for line in commands:
        program, *arguments = shlex.split(tomllib.loads(f"command = {line}")["command"])
        assert program == "omfa-zoo"
        given = parse(arguments)
        assert stage1_of(given).steps == 600
        assert given.hold_out == ["benchmark"]


def test_the_commands_of_the_docs_are_understood():
    root = Path(__file__).parents[3]
    found = 0
    pages = [
        root / "README.md",
        *(root / "docs" / f"{name}.md" for name in ("zoo", "reproduce", "results", "log")),
    ]
    for page in pages:
        for line in re.findall(r"^omfa-zoo .*$", page.read_text().replace("\\\n", " "), re.M):
            for part in line.split(" && "):
                _, command, *more = shlex.split(part, comments=True)
                if command in COMMANDS and "..." not in more:
                    parse([command, *more])
                    found += 1
    assert found > 20


def test_names_that_are_nearly_right_are_suggested(capsys):
    with pytest.raises(SystemExit):
        main(["evalute", "a.zarr"])
    assert "there is no command 'evalute' (nearest: evaluate" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"'freze' \(nearest: freeze"):
        omfa_and_training_from({"freze": "encoder"})
    with pytest.raises(DataError, match=r"freeze='encodr' \(nearest: encoder"):
        omfa_and_training_from({"freeze": "encodr"})
    with pytest.raises(DataError, match=r"stps \(nearest: steps"):
        with_changes(Settings(), {"stps": 3})
    with pytest.raises(DataError, match=r"of that name \(nearest: omfa-small-openeeg"):
        load_card("omfa-smal")


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("evaluate a.zarr --protocl within-subject", "--protocl (nearest: --protocol)"),
        ("evaluate a.zarr --freeze encodr", "'encodr' (nearest: encoder)"),
        ("pretrain a.zarr --out x --preset=smal", "'smal' (nearest: small)"),
    ],
)
def test_flags_and_choices_that_are_nearly_right_are_suggested(line, near, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert near in told
    assert f"omfa-zoo {line.split()[0]}" in told  # of the command, which knows its flags


def test_a_setting_has_one_home():
    own, training = omfa_and_training_from({"head": "gcn", "epochs": 3})
    assert (own, training) == (OmfaSettings(head="gcn"), Training(epochs=3))
    assert not {f.name for f in fields(OmfaSettings)} & {f.name for f in fields(Training)}


def test_the_choices_are_those_of_the_models():
    from omfa.models import names
    from omfa.models.encoders import ENCODERS, PRESETS
    from omfa.models.front_end import RESAMPLING
    from omfa.models.heads import HEADS

    assert get_args(names.PresetName) == tuple(PRESETS)
    assert get_args(names.EncoderName) == tuple(ENCODERS)
    assert set(get_args(names.Resampling)) == set(RESAMPLING)
    assert set(get_args(names.HeadName)) == set(HEADS)
    assert stage2.LOGISTIC not in HEADS


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("torch", "from omfa.zoo.cli.main import main; sys.exit(main(['verify']))", "zoo"),
        ("moabb", "from omfa.pipeline.cli import main; "
         "sys.exit(main(['moabb', 'FakeDataset', 'x.zarr', '--serial']))", "moabb"),
    ],
)  # fmt: skip
def test_a_package_that_is_missing_names_the_extra_that_brings_it(module, command, extra, tmp_path):
    """As after `pip install .` alone."""
    program = f"import sys; sys.modules[{module!r}] = None; {command}"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 2
    assert f"the package {module} is not installed. Run: pip install 'omfa[{extra}]'." in ran.stderr
    assert "Traceback" not in ran.stderr
