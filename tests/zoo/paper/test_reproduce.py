import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import DataError, ingest, open_store, simulate
from omfa.zoo.checkpoints.cards import NAME
from omfa.zoo.cli.main import main
from omfa.zoo.paper.grid import Grid
from omfa.zoo.paper.report import reproduce, summarise
from omfa.zoo.paper.settings import GridSettings, quick
from omfa.zoo.paper.tables import BASELINES, CORPORA, PAPER, TABLES, control_of, rows_of
from omfa.zoo.pretraining.settings import Settings
from omfa.zoo.protocols.metrics import METRICS
from omfa.zoo.protocols.protocol import LEAKY_LABEL

# A trial of these short recordings has 2 s, and a window 3.
pytestmark = [
    pytest.mark.filterwarnings("ignore::omfa.zoo.TrialsLeftOut"),
    # DEAP's release begins at 4 Hz and is average referenced, as DREAMER is not.
    pytest.mark.filterwarnings("ignore::omfa.zoo.SignalPathWarning"),
    pytest.mark.filterwarnings("ignore:.* measures power by band"),
    pytest.mark.filterwarnings("ignore:.*it learned from 4 to 45 Hz"),
]

COMMAND = "omfa-zoo reproduce --out '<script>alert(1)</script>'"


def simulated(folder, **sizes):
    stores = []
    for source, size in sizes.items():
        raw, store = folder / f"{source}-simulated", folder / f"{source}-simulated.zarr"
        simulate(source, raw, subjects=2, seconds=6, bad_channels=0, progress=False, **size)
        ingest(source, raw, store, serial=True, progress=False)
        stores.append(str(store))
    return stores


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("stores"), deap={}, dreamer={})


@pytest.fixture(scope="module")
def made(stores, tmp_path_factory):
    """A table, run: the folder, the cells."""
    out = tmp_path_factory.mktemp("out") / "paper"
    _, cells = reproduce(Grid(stores, out, ["transfer"], quick()), command=COMMAND)
    assert [cell.error for cell in cells] == [""] * len(cells)
    return out, cells


def results(out):
    return {path: path.read_bytes() for path in sorted((out / "results").glob("*.zip"))}


# ---- what the paper states ----------------------------------------------------------------------


def test_the_papers_figures_are_those_of_its_abstract():
    told = {place: (claim.accuracy, claim.difference) for place, claim in PAPER.items()}
    assert told == {
        ("within", "pre-trained", "seed"): (99.27, None),
        ("within", "pre-trained", "deap"): (93.69, None),
        ("within", "pre-trained", "dreamer"): (93.93, None),
        ("within", "from scratch", "seed"): (None, None),
        ("within", "from scratch", "deap"): (None, -7.65),
        ("within", "from scratch", "dreamer"): (None, -3.55),
        ("transfer", "unseen, channel intersection", "dreamer"): (94.08, None),
        ("transfer", "unseen, channel union (UCS)", "dreamer"): (93.05, None),
        ("ablation", "graph: GCN, distances", "deap"): (None, -22.19),
        ("ablation", "graph: none, mean", "deap"): (None, -16.44),
    }
    assert PAPER["within", "from scratch", "seed"].words == "collapses"
    assert all("2511.08444" in claim.source for claim in PAPER.values())


def test_every_figure_of_the_paper_stands_in_a_row():
    rows = [row for table in TABLES for row in rows_of(table, CORPORA)[0]]
    assert {(row.table, row.name, row.dataset) for row in rows if row.claim} == set(PAPER)


@pytest.mark.parametrize("table", TABLES)
def test_every_corpus_of_a_table_has_the_baselines(table):
    rows, missing = rows_of(table, CORPORA)
    assert not missing
    for dataset in {row.dataset for row in rows}:
        assert set(BASELINES) <= {row.model for row in rows if row.dataset == dataset}
    assert len({(row.name, row.dataset) for row in rows}) == len(rows)


def test_an_unseen_corpus_is_in_no_pretraining_of_its_rows():
    rows = [row for row in rows_of("transfer", CORPORA)[0] if row.name.startswith("unseen")]
    assert len(rows) == 2
    assert all(row.dataset not in row.stage1.corpora for row in rows)


def test_among_other_corpora_each_is_left_out_in_turn():
    corpora = ("seed-iv", "faced", "mine")
    rows, missing = rows_of("transfer", corpora)
    assert not missing
    assert {row.dataset for row in rows} == set(corpora)
    unseen = [row for row in rows if row.name.startswith("unseen")]
    assert len(unseen) == 2 * len(corpora)
    for row in unseen:
        assert {*row.stage1.corpora, row.dataset} == set(corpora)
        assert row.dataset not in row.stage1.corpora
    assert not any(row.claim for row in rows)


def test_sources_compare_what_each_corpus_is_worth_to_each_other():
    rows, missing = rows_of("sources", ("seed", "seed-v", "eav"))
    assert not missing
    mine = {row.name: row.stage1.corpora for row in rows if row.dataset == "eav" and row.stage1}
    assert mine == {
        "from all others": ("seed", "seed-v"),
        "from seed": ("seed",),
        "from seed-v": ("seed-v",),
        "from itself": ("eav",),
    }
    rows, missing = rows_of("sources", ("seed", "eav"))  # one other is all others
    assert [row.name for row in rows if row.dataset == "eav" and row.stage1] == [
        "from all others",
        "from itself",
    ]
    assert rows_of("sources", ("seed",)) == (
        [],
        ["sources: left out, for it takes the stores of two corpora or more"],
    )


def test_the_number_of_pretrainings_does_not_explode_with_the_corpora():
    corpora = (*CORPORA, *(f"other{i}" for i in range(12)))
    rows = [row for table in TABLES for row in rows_of(table, corpora)[0]]
    stages = {row.stage1 for row in rows} - {None}
    assert len(stages) < 10 * len(corpora)
    names = [str(stage) for stage in stages]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)


def test_rows_without_their_corpus_are_left_out_and_said_so():
    rows, missing = rows_of("within", ["deap"])
    assert {row.dataset for row in rows} == {"deap"}
    assert "seed, dreamer" in missing[0]
    assert rows_of("transfer", ["dreamer"])[0] == []
    rows, missing = rows_of("ablation", ["seed", "dreamer"])
    assert not rows
    assert "deap" in missing[0]


def test_graphs_are_compared_with_coherency_or_without_and_never_across():
    heads = {"gat", "gcn", "gcn_learned", "transformer", "mean"}
    for table, connectivity in (("ablation", False), ("coherency", True)):
        rows = [row for row in rows_of(table, CORPORA)[0] if row.name.startswith("graph: ")]
        assert {row.parameters["head"] for row in rows} == heads
        assert rows[0] == rows_of(table, CORPORA)[0][0]
        assert rows[0].parameters == {"head": "gat", "connectivity": connectivity}
        assert {row.parameters["connectivity"] for row in rows} == {connectivity}
        assert len({row.stage1 for row in rows}) == 1
    (alone,) = [row for row in rows_of("coherency", CORPORA)[0] if row.name == "coherency alone"]
    assert alone.parameters["head"] == "coherency"
    assert alone.stage1 is None


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_pretraining_has_both_controls(table):
    rows, _ = rows_of(table, CORPORA)
    for dataset in {row.dataset for row in rows}:
        models = [row.model for row in rows if row.dataset == dataset]
        assert {"omfa", "omfa:random", "omfa:scratch"} <= set(models)


def test_resampling_is_left_out_only_where_every_store_has_the_rate_of_the_model():
    def modes(**rates):
        rows, missing = rows_of("resampling", list(rates), rates)
        told = any("model's own rate of 128 Hz" in reason for reason in missing)
        return {row.stage1.resampling for row in rows if row.stage1}, told

    assert modes(deap=128.0, dreamer=128.0) == ({"rate", "rate+content"}, True)
    assert modes(deap=512.0, dreamer=128.0) == ({"rate", "rate+content", "off"}, False)


# ---- the grid -----------------------------------------------------------------------------------


def test_a_finished_grid_is_read_and_not_run_again(made, stores):
    out, cells = made
    before = results(out)
    runs = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = Grid(stores, out, ["transfer"], quick()).run()
    assert results(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == runs
    pd.testing.assert_frame_equal(summarise(again), summarise(cells))


def test_a_grid_goes_on_where_it_was_ended(made, stores):
    out, cells = made
    before = results(out)
    gone = next(iter(before))
    content = gone.read_bytes()
    gone.unlink()
    try:
        again = Grid(stores, out, ["transfer"], quick()).run()
        assert {path for path, new in results(out).items() if new != before[path]} <= {gone}
        pd.testing.assert_frame_equal(summarise(again), summarise(cells))
    finally:
        gone.write_bytes(content)


def test_what_a_result_is_from_decides_its_pretraining(made):
    _, cells = made
    kinds = {cell.row.name: cell.results[0].config["pretraining"] for cell in cells}
    assert kinds["unseen, channel union (UCS)"]["kind"] == "dataset held out"
    assert kinds["unseen, channel intersection"]["kind"] == "dataset held out"
    assert kinds["seen, with the others"]["kind"] == "transductive"
    assert kinds["from scratch"]["kind"] == kinds["majority"]["kind"] == "none"


def test_the_intersection_is_of_the_channels_of_the_unseen_corpus(made, stores):
    out, _ = made
    cards = {
        "intersection" in str(path): json.loads(path.read_text())
        for path in out.glob("pretraining/deap-art-rate*/checkpoint/card.json")
    }
    assert set(cards[True]["input"]["channels"]) == set(open_store(stores[1]).channels)
    assert set(cards[False]["input"]["channels"]) == set(open_store(stores[0]).channels)
    assert {part["dataset"] for card in cards.values() for part in card["saw"]} == {"deap"}


def test_the_plan_tells_cells_fits_and_the_paper_and_reads_no_signal(
    stores, tmp_path, capsys, monkeypatch
):
    monkeypatch.delattr("omfa.pipeline.store.StoredRecording.stored_signal")
    what = ["--quick", "--table", "transfer", "--out", str(tmp_path / "o"), "--dry-run"]
    code = main(["reproduce", *what, "--stores", *map(str, stores)])
    text = capsys.readouterr().out
    assert code == 0
    assert "93.05 %" in text
    assert "94.08 %" in text
    assert LEAKY_LABEL in text
    assert "26 cells of 104 fits" in text
    assert "whose store is not given" in text
    assert "nan" not in text
    assert not (tmp_path / "o").exists()


def test_the_plan_tells_the_time_where_it_is_asked_for(stores, tmp_path, capsys):
    what = ["--quick", "--table", "within", "--out", str(tmp_path / "o"), "--dry-run", "--timed"]
    assert main(["reproduce", *what, "--datasets", "deap", "--stores", *map(str, stores)]) == 0
    text = capsys.readouterr().out
    assert "pairs/s on this machine" in text
    assert re.search(r"fits, about [\d.]+ (s|min|h) after the pre-training", text)
    assert not (tmp_path / "o").exists()


def test_other_protocols_for_one_corpus():
    how = GridSettings(
        protocols=("within-subject", "deap=cross-subject"), n_folds=2, skip=("deap/sub-01",)
    )
    assert [p.name for p in how.splits("deap")][1:] == ["within-subject", "cross-subject"]
    assert [p.name for p in how.splits("dreamer")][1:] == ["within-subject"]
    assert {p.n_folds for p in how.splits("deap")} == {2}
    assert how.splits("deap")[0].skip == ("deap/sub-01",)
    assert how.splits("dreamer")[0].skip == ()
    with pytest.raises(DataError, match="leaky-window"):
        GridSettings(protocols=("leaky-window",)).splits("deap")


def test_what_cannot_be_run_is_refused_before_anything_is_trained(stores, lay_store, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DataError, match="two stores are of deap"):
        Grid([stores[0], stores[0]], out)
    with pytest.raises(DataError, match="no usual target for tiny"):
        Grid([lay_store(tmp_path / "tiny.zarr"), stores[0]], out)
    with pytest.raises(DataError, match="no table 'figures'"):
        Grid(stores, out, ["figures"])
    with pytest.raises(DataError, match="takes the store of dreamer"):
        Grid(stores[:1], out, ["transfer"])
    with pytest.raises(DataError, match="longest trial has 6 s"):
        Grid(stores, out, ["transfer"], replace(quick(), window_seconds=9.0)).run()
    with pytest.raises(DataError, match="folds"):
        Grid(stores, out, ["transfer"], replace(quick(), n_folds=30)).run()
    far = Settings(lag_seconds=(4.0, 10.0))
    with pytest.raises(DataError, match="Ask for a shorter window"):
        Grid(stores, out, ["transfer"], GridSettings(settings=far)).run()  # a view's span is 16 s
    assert not out.exists()


# ---- what comes out -----------------------------------------------------------------------------


def test_the_csv_is_tidy(made):
    out, cells = made
    table = pd.read_csv(out / "subjects.csv", dtype={"subject": str})
    assert not table.duplicated(
        ["table", "row", "dataset", "protocol", "seed", "subject", "metric"]
    ).any()
    assert len(table) == len(cells) * 2 * len(METRICS)
    assert set(table["metric"]) == set(METRICS)
    one = cells[0].results[0].subjects["accuracy"]
    same = table[table["result"] == cells[0].results[0].path.name]
    same = same[same["metric"] == "accuracy"]
    np.testing.assert_allclose(sorted(same["value"]), sorted(one))


def test_the_summary_has_intervals_differences_and_the_papers_figures(made):
    out, _ = made
    table = pd.read_csv(out / "summary.csv")
    accuracy = table[table["metric"] == "accuracy"].set_index(["row", "leaky"])
    union = accuracy.loc["unseen, channel union (UCS)"]
    assert set(union["paper"]) == {0.9305}
    assert set(union["paper_source"]) == {"arXiv 2511.08444, abstract"}
    assert union["difference"].isna().all()  # the others' reference
    assert accuracy.loc["from scratch", "difference"].notna().all()
    known = accuracy[accuracy["low"].notna()]
    assert (known["low"] <= known["mean"]).all()
    assert (known["mean"] <= known["high"]).all()


def test_pretrained_rows_are_compared_with_random_weights_of_their_recipe(made):
    out, _ = made
    table = pd.read_csv(out / "pairs.csv")
    controls = table[table["kind"] == "control"]
    assert set(controls["row"]) == {
        *("unseen, channel union (UCS)", "unseen, channel intersection"),
        *("seen, with the others", "seen alone"),
    }
    assert set(controls["other"]) == {"random weights, same recipe"}
    accuracy = pd.read_csv(out / "summary.csv").query("metric == 'accuracy'")
    means = accuracy.set_index(["row", "protocol"])["mean"]
    for row in controls.to_dict("records"):
        less = means[row["row"], row["protocol"]] - means[row["other"], row["protocol"]]
        assert row["difference"] == pytest.approx(less)
    rows, _ = rows_of("ablation", ["seed", "deap", "dreamer"])
    by_name = {row.name: row for row in rows}
    random = "random weights, same recipe"
    assert control_of(by_name["graph: GAT"], rows) == random
    for other in ("graph: GCN, learned", "encoder: patches"):  # which differ in more than weights
        assert control_of(by_name[other], rows) == ""
    rows, _ = rows_of("resampling", ["seed", "deap"])
    assert [control_of(row, rows) for row in rows[:6]] == [random, "", ""] * 2


def test_the_report_names_the_files_beside_it(made):
    out, _ = made
    page = (out / "report.html").read_text()
    links = set(re.findall(r'href="([^"#][^"]*)"', page))
    names = {"summary.csv", "subjects.csv", "pairs.csv", "calibration.csv", "pretraining.csv"}
    assert {f"./{name}" for name in names | {"run.json"}} <= links
    assert all((out / link).is_file() for link in links)
    steps = pd.read_csv(out / "pretraining.csv")
    assert steps["loss"].notna().all()
    assert steps["run"].nunique() == 4


def test_leaky_and_simulated_are_told_in_every_file(made):
    out, cells = made
    for name in ("subjects.csv", "summary.csv"):
        table = pd.read_csv(out / name)
        assert table["simulated"].all()
        assert set(table[table["leaky"]]["protocol"]) == {LEAKY_LABEL}
        assert table["leaky"].mean() == 0.5
    leaky = [cell for cell in cells if cell.protocol.leaky]
    assert all(cell.results[0].path.name.startswith("leaky-window") for cell in leaky)
    page = (out / "report.html").read_text()
    assert "LEAKY" in page
    assert "imulated" in page


def test_the_report_holds_all_it_shows_and_escapes(made):
    out, _ = made
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    fetched = re.findall(r'src="([^"]*)"', page)
    assert fetched
    assert all(one.startswith("data:") for one in fetched)
    # What can be gone to is here, or beside the page.
    assert all(one.startswith(("#", "./")) for one in re.findall(r'href="([^"]*)"', page))
    assert not re.search(r"url\(|@import|<link", page)
    assert "94.08" not in page  # the paper's figure is of real data, and these are simulated
    assert "arXiv" in page
    assert json.loads((out / "run.json").read_text())["command"] == COMMAND


def test_controls_are_frozen_as_their_row_says(stores, tmp_path):
    grid = Grid(stores, tmp_path / "out", ["transfer", "coherency"], quick())
    how = {row.name: grid.parameters(row) for row in grid.rows if row.table == "transfer"}
    assert how["random weights, same recipe"]["freeze"] == "encoder"
    assert "freeze" not in how["from scratch"]
    for name in ("random weights, same recipe", "from scratch"):
        assert how[name]["preset"] == "tiny"
    (alone,) = [row for row in grid.rows if row.name == "coherency alone"]
    assert grid.parameters(alone)["head"] == "coherency"
    assert "freeze" not in grid.parameters(alone)


@pytest.mark.slow
def test_the_commands_of_the_docs_run(stores, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text()
    block = re.search(r"^# Reproduce the paper$.*?```bash\n(.*?)```", text, re.S | re.M)[1]
    for store in [*stores, *simulated(tmp_path, seed={"sessions": 1})]:
        name = store.rpartition("/")[2].replace("-simulated", "")
        (tmp_path / name).symlink_to(store, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for command in block.splitlines():
        program, *arguments = shlex.split(command, comments=True)
        assert program == "omfa-zoo"
        code, told = main([*arguments, "--quick"]), capsys.readouterr()
        assert code == 0, f"{command}: {told.err}"
        assert told.out
    assert (tmp_path / "paper" / "report.html").exists()


@pytest.mark.slow
def test_all_tables_run_on_simulated_corpora(tmp_path, capsys):
    stores = simulated(tmp_path, seed={"sessions": 1}, deap={}, dreamer={})
    out = tmp_path / "paper"
    argv = ["reproduce", "--quick", "--out", str(out), "--stores", *stores]
    assert main([*argv, "--table", "all"]) == 0
    assert "Report" in capsys.readouterr().out
    table = pd.read_csv(out / "summary.csv")
    assert set(table["table"]) == set(TABLES)
    assert table["simulated"].all()
    told = table[table["paper_says"].notna()]
    assert set(zip(told["table"], told["row"], told["dataset"], strict=True)) == set(PAPER)
