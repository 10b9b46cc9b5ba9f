"""The benchmark on small simulated stores: who is tested, what is said, what is refused."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from omfa.models import OMFA
from omfa.pipeline import DataError
from omfa.zoo import Card, save_checkpoint, split
from omfa.zoo.benchmark.report import benchmark, last_word
from omfa.zoo.benchmark.rows import NETWORKS, PAIRS, peer
from omfa.zoo.benchmark.rows import OMFA as ROWS
from omfa.zoo.benchmark.run import Benchmark
from omfa.zoo.benchmark.settings import BenchmarkSettings
from omfa.zoo.benchmark.tasks import RECORDINGS, SOURCES, TASKS
from omfa.zoo.cli.main import main
from omfa.zoo.data.rules import parse_rule
from omfa.zoo.protocols.held_out import HELD_OUT

# The cards of these checkpoints were laid by hand, without digests of signals.
pytestmark = pytest.mark.filterwarnings("ignore:.*its card has no digests")

HELD = set(HELD_OUT["ssvep"])


@pytest.fixture(scope="module")
def ssvep(lay_store, tmp_path_factory):
    """Twelve simulated people with two trials of each of the four classes."""
    return lay_store(
        tmp_path_factory.mktemp("stores") / "ssvep.zarr",
        source="ssvep",
        subjects=12,
        channels=("O1", "O2"),
        sfreq=128.0,
        trials=[(512 * k, 512) for k in range(8)],
        n_times=4096,
        labels={"event": ["rest", "13", "17", "21"] * 2},
        simulated=True,
    )


def checkpoint(folder, *subjects, tokens=2.0):
    torch.manual_seed(0)
    chs = [{"ch_name": name, "kind": "eeg"} for name in ("O1", "O2")]
    model = OMFA(n_outputs=2, chs_info=chs, n_times=512, sfreq=128.0, preset="tiny",
                 tokens_per_second=tokens)  # fmt: skip
    recordings = [f"{subject}_ses-1_run-1 - {subject[-2:] * 8}" for subject in subjects]
    saw = [{"dataset": "ssvep", "subjects": list(subjects), "hours": 0.1, "recordings": recordings}]
    card = Card(folder.name, "tiny", "pretrained", 1, {}, saw, {})
    return str(save_checkpoint(folder, model, card))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("made") / "dev", "sub-01", "sub-02")


@pytest.fixture(scope="module")
def how(pretrained):
    quick = {"networks": False, "epochs": 1, "least_steps": 1}
    return {"checkpoints": (pretrained,), "tasks": ("flicker",), **quick}


@pytest.fixture(scope="module")
def made(ssvep, how, tmp_path_factory):
    """The benchmark, run on development people: the folder, the cells."""
    out = tmp_path_factory.mktemp("out") / "bench"
    run = Benchmark(out, stores=[ssvep], how=BenchmarkSettings(**how, n_folds=2, people=4))
    _, cells = benchmark(run, command="omfa-zoo benchmark --out '<b>'", note="A try.")
    return out, cells


def test_the_tasks_name_data_that_are_there_and_rules_that_can_be_read():
    for task in TASKS.values():
        assert RECORDINGS[task.recordings].source in SOURCES
        assert parse_rule(task.target).column == RECORDINGS[task.recordings].label
        # A class that is one recording is no state.
        assert task.counts == (not task.warning) == (RECORDINGS[task.recordings].label == "event")
    assert set(SOURCES) == set(HELD_OUT)


def test_controls_differ_from_their_row_in_the_first_weights_alone(how, ssvep, tmp_path):
    run = Benchmark(tmp_path, stores=[ssvep], how=BenchmarkSettings(**how))
    rows = {row.name: row for row in ROWS}
    assert [len(pair) for pair in PAIRS] == [2, 2, 2]
    for one, other in PAIRS:
        first, control = rows[one], rows[other]
        assert (first.pretrained, control.pretrained) == (True, False)
        theirs = run.parameters(TASKS["flicker"], control)
        assert theirs == run.parameters(TASKS["flicker"], first) | run.architecture
        assert run.architecture["tokens_per_second"] == 2.0


def test_nobody_held_out_is_read_on_development_people(made):
    _, cells = made
    assert [cell.error for cell in cells] == [""] * len(cells)
    assert len(cells) == len({cell.row.name for cell in cells}) >= 9
    for cell in cells:
        [result] = cell.results
        who = set(result.folds["subject"])
        assert len(who) == 4
        assert not who & HELD
        assert set(result.predictions["subject"]) == who
        kind = result.config["pretraining"]["kind"]
        assert kind == ("transductive" if cell.row.pretrained else "none")


def test_all_models_meet_the_same_folds(made):
    assert len({cell.results[0].folds_digest for cell in made[1]}) == 1


def test_the_tables_say_chance_people_and_what_could_be_shown(made):
    out, cells = made
    table = pd.read_csv(out / "summary.csv")
    assert len(table) == len(cells)
    assert (table["chance"] == 0.25).all()
    assert (table["n_subjects"] == 4).all()
    assert table["p"].isna().all()  # four people
    assert table["detectable"].isna().all()
    assert table["simulated"].all()
    pairs = pd.read_csv(out / "pairs.csv")
    assert list(zip(pairs["row"], pairs["other"], strict=True)) == list(PAIRS)
    assert pairs["p"].isna().all()
    text = (out / "tables.md").read_text()
    assert "4 people tested; chance 0.25. 4 people are too few for a p." in text
    assert text.count("\n| ") == len(cells) + 1
    page = (out / "report.html").read_text()
    for words in ("Simulated data", "Development people", "A try.", "&lt;b&gt;", "CC0 1.0"):
        assert words in page
    about = json.loads((out / "benchmark.json").read_text())
    n, least = about["could show"]["flicker"]
    assert n == 4
    assert least is None  # so few show nothing


def test_the_one_test_takes_all_pairs_and_tasks(made):
    found, words = last_word(made[1])
    assert found is None
    assert re.search(r"it lacks fists: OMFA .* and \d+ more", words)


def test_a_finished_benchmark_is_read_and_not_run_again(made, ssvep, how):
    out, cells = made
    files = {path: path.read_bytes() for path in out.rglob("*.zip")}
    assert len(files) == len(cells)
    run = Benchmark(out, stores=[ssvep], how=BenchmarkSettings(**how, n_folds=2, people=4))
    assert "0 fits" in run.plan()
    again = run.run()
    assert {path: path.read_bytes() for path in out.rglob("*.zip")} == files
    for one, other in zip(cells, again, strict=True):
        assert one.results[0].path == other.results[0].path


def test_those_held_out_are_tested_in_one_fold_that_none_of_them_learns_in(ssvep, how, tmp_path):
    run = Benchmark(tmp_path, stores=[ssvep], how=BenchmarkSettings(**how, split="held-out"))
    data = run.dataset(TASKS["flicker"])
    [fold] = split(data.metadata, data.y, run.protocol(TASKS["flicker"]))
    who = data.metadata["subject"].to_numpy()
    assert set(who[fold.test]) == HELD
    assert {*who[fold.train], *who[fold.validation]} == {f"sub-{k:02d}" for k in range(1, 9)}


def test_a_checkpoint_that_saw_somebody_held_out_has_no_last_word(ssvep, how, tmp_path):
    saw = checkpoint(tmp_path / "saw", "sub-01", "sub-10")
    run = Benchmark(
        tmp_path / "out",
        stores=[ssvep],
        how=BenchmarkSettings(**how | {"checkpoints": (saw,)}, split="held-out"),
    )
    with pytest.raises(DataError, match="it saw 1 of the tested subjects"):
        run.run()
    assert not list(tmp_path.rglob("*.zip"))


def test_what_is_missing_is_named_with_where_to_get_it(ssvep, how, tmp_path):
    settings = BenchmarkSettings(**how | {"tasks": ()})
    run = Benchmark(tmp_path, stores=[ssvep], how=settings)
    assert [task.name for task in run.tasks] == ["flicker"]
    told = " ".join(run.missing)
    for words in ("fists, sides: no data", "https://physionet.org/content/eegmat/1.0.0/",
                  "--eegmmidb FOLDER", "ODC-BY"):  # fmt: skip
        assert words in told
    with pytest.raises(DataError, match=r"no data\. Get SSVEP-based"):
        Benchmark(tmp_path, how=BenchmarkSettings(**how))


def test_what_cannot_be_run_is_refused(ssvep, lay_store, how, pretrained, tmp_path):
    settings = BenchmarkSettings(**how)
    with pytest.raises(DataError, match="holds the same recordings"):
        Benchmark(tmp_path, stores=[ssvep, ssvep], how=settings)
    other = lay_store(tmp_path / "o.zarr", source="ssvep")
    with pytest.raises(DataError, match="of 'ssvep' with the labels emotion"):
        Benchmark(tmp_path, stores=[other], how=settings)
    finer = checkpoint(tmp_path / "finer", "sub-01", tokens=4.0)
    both = BenchmarkSettings(**how | {"checkpoints": (pretrained, finer)})
    with pytest.raises(DataError, match="they differ in tokens_per_second"):
        Benchmark(tmp_path, stores=[ssvep], how=both)
    few = lay_store(tmp_path / "few.zarr", source="ssvep", subjects=2,
                    labels={"event": ["rest", "13", "17"]})  # fmt: skip
    run = Benchmark(tmp_path, stores=[few], how=settings)
    with pytest.raises(DataError, match="no window is '21'"):
        run.run()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tasks": ("fist",)}, "there is no task 'fist'"),
        ({"split": "test"}, "split='test'"),
        ({"split": "held-out", "people": 4}, "people=4 with split='held-out'"),
        ({"people": 2}, "people=2"),
        ({"checkpoints": ()}, "no checkpoint"),
        ({"epochs": 0}, "epochs=0"),
    ],
)
def test_settings_that_are_impossible(changes, found):
    with pytest.raises(DataError, match=found):
        BenchmarkSettings(**changes)


def test_pretrained_peers_are_rows_of_their_own():
    row = peer("CBraMod", "cbramod.safetensors")
    assert row.parameters == {"sfreq": 200, "weights": "cbramod.safetensors"}
    assert row.name not in {network.name for network in NETWORKS}


def test_the_command_plans_an_ingest_of_public_files_and_writes_nothing(
    tmp_path, pretrained, capsys
):
    import mne

    for number in (1, 2, 61):  # the last is none of the sixty
        for run in ("04", "08", "14"):
            info = mne.create_info(["Fc5.", "Fc3."], 160.0, "eeg")
            noise = np.random.default_rng(number).normal(0, 2e-5, (2, 1600))
            raw = mne.io.RawArray(noise, info, verbose="error")
            raw.set_annotations(mne.Annotations([0, 5], [5, 5], ["T0", "T1"]))
            file = tmp_path / "raw" / f"S{number:03d}" / f"S{number:03d}R{run}.fif"
            file.parent.mkdir(parents=True, exist_ok=True)
            mne.export.export_raw(file.with_suffix(".edf"), raw, verbose="error")
    line = ["benchmark", "--eegmmidb", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    line += ["--tasks", "fists", "--checkpoints", pretrained, "--quick", "--dry-run"]
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "to ingest    fists: 4 recordings" in told
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_told_by_what_it_should_be(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "session1.edf").write_bytes(b"0" * 512)
    for more in (["--dry-run"], []):
        line = ["benchmark", "--eegmmidb", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
        assert main([*line, "--tasks", "fists", *more]) == 2
        told = capsys.readouterr().err
        assert "Give the folder as it comes from https://" in told
        assert "--pattern" not in told
