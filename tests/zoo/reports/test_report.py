"""The report on results: what it must say, and that it needs nothing but itself."""

import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import DataError, Truth
from omfa.zoo import Protocol, compare, evaluate, holm, open_dataset
from omfa.zoo.cli.main import main
from omfa.zoo.reports import figures
from omfa.zoo.reports.ceilings import ceiling
from omfa.zoo.reports.page import attention, curves, history, write_report
from omfa.zoo.reports.pairs import control_of
from omfa.zoo.reports.tables import Entry, read_entries, scores_table, summary_table

ROOT = Path(__file__).parents[3]
NASTY = "<script>alert('x')</script> $x_1$ & \N{GREEK SMALL LETTER ALPHA}"


@pytest.fixture(scope="module")
def store(lay_store, tmp_path_factory):
    return lay_store(
        tmp_path_factory.mktemp("report") / "tiny.zarr",
        source="tiny",
        simulated=True,
        subjects=3,
        trials=tuple((i * 220, 200) for i in range(6)),
        n_times=1400,
        labels={"emotion": np.arange(6) % 2},
    )


@pytest.fixture(scope="module")
def results(store, tmp_path_factory):
    """A folder of results as the command leaves it; the store says simulated."""
    out = tmp_path_factory.mktemp("results")
    dataset = open_dataset(store, 1.0, target="emotion")
    for protocol in ("leaky-window", "within-subject"):
        for model in ("relative-band-power+logistic", "majority"):
            evaluate(model, dataset, Protocol(protocol, n_folds=2), out=out)
    return out


@pytest.fixture(scope="module")
def entries(results):
    return read_entries([results])


@pytest.fixture(scope="module")
def page(entries, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    named = [
        Entry("within", f"{NASTY} {i}", e.results, 99.27, -7.65 if i else None, "collapses")
        for i, e in enumerate(entries)
    ]
    write_report(named, out, metric="accuracy", titles={"within": NASTY})
    return out.read_text()


def test_results_are_listed_with_baselines_last_and_the_leaky_first(entries):
    assert [(e.first.protocol.name, e.name) for e in entries] == [
        ("leaky-window", "majority"),
        ("leaky-window", "relative-band-power+logistic"),
        ("within-subject", "majority"),
        ("within-subject", "relative-band-power+logistic"),
    ]


def test_a_report_needs_nothing_but_itself(page):
    assert "default-src 'none'" in page
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    # Links lead to places in the page, or to the tables beside it.
    links = {link for link in re.findall(r'href="([^"]*)"', page) if not link.startswith("#")}
    names = ("summary", "subjects", "pairs", "calibration")
    assert links == {f"./report-{name}.csv" for name in names}
    assert "http://" not in page
    assert "https://" not in page
    assert 'name="viewport"' in page


def test_whatever_names_hold_is_escaped(page):
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_leaky_and_simulated_are_said_at_the_top_and_at_the_table(page):
    assert page.index("Simulated data") < page.index("<section")
    leaky, holds = page.split("<h4>leaky-window")[1].split("<h4>within-subject")
    assert 'tag red">LEAKY' in leaky
    assert "LEAKY: windows of one trial are on both sides" in leaky
    assert "LEAKY" not in holds.split("<details")[0]
    assert 'alt="accuracy of every subject, simulated tiny, leaky-window (LEAKY' in page


def of_data(entries, **said):
    """The same results as if the store had said something else."""
    found = []
    for entry in entries:
        (result,) = entry.results
        data = {**result.config["dataset"], **said}
        found.append(
            replace(entry, results=(replace(result, config={**result.config, "dataset": data}),))
        )
    return found


def test_whitened_signals_are_said_at_the_top_and_at_the_table(page, entries, tmp_path):
    assert "whitened" not in page
    whitened = of_data(entries, whitened=True)
    page = write_report(whitened, tmp_path / "r.html", metric="accuracy").read_text()
    assert page.index("without labels, those that are tested too") < page.index("<section")
    assert "whitened, non-causal</span></h3>" in page
    assert scores_table(whitened)["whitened"].all()


def test_the_figures_of_the_paper_stand_beside_recordings_of_people_alone(page, entries, tmp_path):
    stated = [
        replace(e, paper=99.27, paper_difference=-7.65 if i else None)
        for i, e in enumerate(of_data(entries, simulated=False))
    ]
    real = write_report(stated, tmp_path / "r.html", metric="accuracy").read_text()
    assert "99.27" in real
    assert "\N{MINUS SIGN}7.65" in real
    assert "Star: what the paper states" in real
    assert "Simulated" not in real
    for said in ("99.27", "7.65", "collapses", "Star:"):  # the fixture's are simulated
        assert said not in page


def test_what_the_paper_says_in_words_stands_where_it_has_no_figure(entries, tmp_path):
    said = replace(of_data(entries, simulated=False)[0], paper_words="collapses")
    assert "collapses" in write_report([said], tmp_path / "r.html", metric="accuracy").read_text()


def drawn(monkeypatch, entries, out, **options):
    """What the picture of scores was given."""
    given = []

    def capture(sides, title, metric, **lines):
        given.append((sides, lines))
        return original(sides, title, metric, **lines)

    original = figures.scores
    monkeypatch.setattr(figures, "scores", capture)
    text = write_report(entries, out, **options).read_text()
    return given, text


def test_leaky_and_honest_are_on_one_axis_with_what_guessing_scores(entries, tmp_path, monkeypatch):
    given, text = drawn(monkeypatch, entries, tmp_path / "r.html")
    ((sides, lines),) = given
    assert [side.leaky for side in sides] == [True, False]
    assert [[row.name for row in side.rows] for side in sides] == [
        ["majority", "relative-band-power+logistic"]
    ] * 2
    assert lines == {"chance": 0.5, "ceiling": None}
    assert "at best, as the simulation knows" not in text
    mean = 100 * entries[2].results[0].subjects["balanced_accuracy"].mean()
    assert f"Under within-subject, majority has balanced accuracy {mean:.1f} %" in text


def test_the_best_that_a_simulation_allows_is_drawn_where_it_is_of_these_windows(
    entries, tmp_path, monkeypatch
):
    def truth(**changes):
        best = {"1": {"accuracy": 0.9, "balanced": 0.8}, "trial": {"accuracy": 1, "balanced": 1}}
        facts = {"source": "tiny", "targets": {"emotion": "-1, 0, 1"}} | changes
        return Truth(variant="", seed=0, effect=1, effect_kind="power",
                     best_accuracy={"emotion": best}, **facts)  # fmt: skip

    given, text = drawn(monkeypatch, entries, tmp_path / "r.html", truths=[truth()])
    assert given[0][1]["ceiling"] == 0.8
    assert "80.0 at best, as the simulation knows" in text
    assert "Dashed is the best" in text
    result = entries[0].first
    assert ceiling(result, "accuracy", [truth()]) == 0.9
    assert ceiling(result, "macro_f1", [truth()]) is None
    named = replace(result, config={**result.config, "rule": f"tiny: {result.config['rule']}"})
    assert ceiling(named, "accuracy", [truth()]) == 0.9
    assert ceiling(result, "accuracy", [truth(source="seed")]) is None
    rating = truth(targets={"emotion": "1 where the rating is above 3"})
    assert ceiling(result, "accuracy", [rating]) is None  # other classes
    assert ceiling(of_data(entries, simulated=False)[0].first, "accuracy", [truth()]) is None


def test_of_few_people_no_column_of_p_is_shown(page):
    heads = re.findall(r"<thead><tr>(.*?)</tr>", page)
    assert any("effect" in head for head in heads)
    for column in ("p", "p, Holm", "detectable"):
        assert not any(f">{column}</th>" in head for head in heads)
    assert "Wilcoxon" not in page


def test_methods_say_what_was_run_and_cite_what_they_name(page, entries, tmp_path):
    said = page.split('id="methods"')[1]
    assert "The data were simulated tiny: 3 subjects" in said
    assert "leaky-window" in said
    assert "they say nothing about new trials" in said
    assert "With fewer than 6 subjects no test was made" in said
    assert "Kerby, D. S. (2014)" in said
    assert "Wilcoxon" not in said
    alone = write_report(entries[2:3], tmp_path / "r.html").read_text().split('id="methods"')[1]
    assert "Kerby" not in alone
    assert "say nothing about new trials" not in alone
    assert write_report([], tmp_path / "none.html").read_text().count("methods") == 0


def test_tables_fit_a_sheet_of_paper(page):
    heads = [
        re.findall(r"<th[^>]*>(.*?)</th>", h) for h in re.findall(r"<thead>(.*?)</thead>", page)
    ]
    assert max(map(len, heads)) <= 9
    printed = page.split("@media print")[1].split("</style>")[0]
    assert ".scroll { overflow: visible; }" in printed
    assert 'scope="col"' in page


def test_the_tidy_table_has_a_row_per_subject_and_metric(entries):
    table = scores_table(entries)
    assert len(table) == 4 * 3 * 4  # entries, subjects, metrics
    assert not table.duplicated(["row", "protocol", "subject", "metric", "seed"]).any()
    assert table["simulated"].all()
    assert (table["leaky"] == table["protocol"].str.contains("LEAKY")).all()
    assert table[table["leaky"]]["result"].str.contains("leaky").all()
    one = table[(table["row"] == "majority") & ~table["leaky"] & (table["metric"] == "accuracy")]
    assert (one["value"] == one["majority"]).all()


def test_the_summary_compares_with_the_first_row_of_the_place(entries):
    summary = summary_table(entries)
    accuracy = summary[summary["metric"] == "accuracy"].set_index(["protocol", "row"])
    assert accuracy["difference"].isna().tolist() == [True, False, True, False]
    first, second = accuracy["mean"].to_numpy()[2:]
    assert accuracy["difference"].iloc[3] == pytest.approx(second - first)
    known = accuracy.dropna(subset=["low"])  # the majority class is as right for everybody
    assert known.index.get_level_values("row").tolist() == ["relative-band-power+logistic"] * 2
    assert (known["low"] <= known["mean"]).all()
    assert (known["mean"] <= known["high"]).all()
    assert summary_table([]).columns.tolist() == summary.columns.tolist()


def test_every_row_has_its_score_per_trial_and_its_effect(entries, page):
    summary = summary_table(entries, ["balanced_accuracy"])
    of_trials = [e.results[0].subjects["trial_balanced_accuracy"].mean() for e in entries]
    assert summary["per_trial"].tolist() == of_trials
    assert summary["p"].isna().all()  # three people
    assert summary["effect"].notna().tolist() == [False, True, False, True]
    assert (summary["least_p"].dropna() == 0.25).all()
    assert "One comparison; no p is given: with 3 people it could not be below 0.25." in page
    assert "per trial" in page
    assert "Every subject, accuracy (%)" in page
    (score,) = {f"{100 * e.results[0].subjects['accuracy'].iloc[1]:.1f}" for e in entries[2:3]}
    people = page.split("Every subject")[2].split("</table>")[0]
    assert re.findall(r"(sub-\d+)</th>", people) == ["sub-01", "sub-02", "sub-03"]
    assert re.findall(r'<td class="n">([\d.]+)</td>', people)[1] == score


def test_what_leaking_adds_is_labelled_and_tested(entries, page, tmp_path):
    summary = summary_table(entries, ["accuracy"])
    assert summary["inflation_over"].tolist() == ["within-subject"] * 2 + [""] * 2
    leaky, honest = summary["mean"].iloc[1], summary["mean"].iloc[3]
    assert summary["inflation_difference"].iloc[1] == pytest.approx(leaky - honest)
    assert "LEAKY less honest" in page
    alone = write_report(entries[2:], tmp_path / "r.html").read_text()
    assert "LEAKY less honest" not in alone


def test_seeds_of_a_model_are_one_entry_and_models_of_one_name_are_told_apart(store, tmp_path):
    dataset = open_dataset(store, 1.0, target="emotion")
    model = "tests_of_report:constant"
    for number, (value, seed) in enumerate(((0, 0), (0, 1), (1, 0))):
        result = evaluate("majority", dataset, Protocol("within-subject", n_folds=2), seed=seed)
        result.config.update(estimator=model, parameters={"value": value})
        result.save(tmp_path / f"{number}.zip")
    found = read_entries([tmp_path])
    assert sorted(len(entry.results) for entry in found) == [1, 2]
    assert len({entry.name for entry in found}) == 2
    assert any("value=1" in entry.name for entry in found)


def test_curves_and_maps_hold_their_pictures():
    steps = pd.Index(range(0, 40, 10), name="step")
    runs = {
        f"run {k}": pd.DataFrame({"loss": 3.0 - k, "accuracy": 0.1 * k}, index=steps)
        for k in range(3)
    }
    epochs = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [0.7, 0.6, 0.5],
            "validation_loss": [0.7, 0.65, 0.8],
            "validation_balanced_accuracy": [0.5, 0.6, 0.55],
        }
    )
    heard = pd.DataFrame({"channel": ["Fp1", "F3", "Cz", "T8", "O1"], "attention": range(5)})
    for part in (curves(runs), history(NASTY, epochs), attention(NASTY, heard)):
        assert "data:image/png;base64," in part
        assert "<script" not in part
    assert "Most: O1 4.00, T8 3.00" in attention("deap", heard)
    assert curves({}) == ""


def test_the_command_writes_it_beside_the_results(results, tmp_path, capsys):
    assert main(["report", str(results), "--out", str(tmp_path / "r.html")]) == 0
    assert "r.html" in capsys.readouterr().out
    assert "simulated tiny" in (tmp_path / "r.html").read_text()


def test_the_commands_of_the_docs_run(results, tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "zoo.md").read_text()
    block = text.split("## Results as one file")[1].split("```bash\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(results, "results")
    logs = Path("runs/three/logs/version_0")
    logs.mkdir(parents=True)
    (logs / "metrics.csv").write_text("step,loss,accuracy\n0,3.0,0.1\n10,2.0,0.4\n")
    for line in block.strip().splitlines():
        assert main(shlex.split(line)[1:]) == 0
    assert "Contrastive loss" not in Path("results.html").read_text()
    assert "Contrastive loss" in Path("all.html").read_text()
    assert capsys.readouterr().err == ""


def test_a_folder_without_results_is_an_error(tmp_path, capsys):
    with pytest.raises(DataError, match="there are none"):
        read_entries([tmp_path])
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "omfa-zoo evaluate --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["reports", "paper"])
def test_wheels_carry_the_templates(name):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packaged = settings["tool"]["setuptools"]
    assert f"omfa.zoo.{name}.templates" in packaged["packages"]
    patterns = packaged["package-data"][f"omfa.zoo.{name}.templates"]
    for file in (ROOT / "zoo" / name / "templates").iterdir():
        assert any(fnmatch(file.name, pattern) for pattern in patterns), file


def pretrained(entries, accuracy, *, parameters, estimator="omfa", control=None, name=None):
    """An entry as if of an OMFA: the first honest one with other predictions."""
    (result,) = entries[-1].results
    rng = np.random.default_rng(int(1000 * accuracy))
    table = result.predictions.copy()
    hit = rng.random(len(table)) < accuracy
    table["y_pred"] = np.where(hit, table["y_true"], 1 - table["y_true"])
    checkpoint = {"name": "c", "weights": "w", "recipe": "r"} if estimator == "omfa" else None
    config = {**result.config, "estimator": estimator, "parameters": parameters,
              "checkpoint": checkpoint}  # fmt: skip
    made = replace(result, predictions=table, config=config)
    return Entry("t", name or estimator, (made,), control=control)


FROZEN = {"freeze": "encoder", "epochs": 3}


def test_a_pretrained_row_is_paired_with_the_control_of_its_recipe(entries):
    own = pretrained(entries, 0.9, parameters={"checkpoint": "c", **FROZEN})
    random = pretrained(
        entries, 0.6, parameters={"preset": "tiny", **FROZEN}, estimator="omfa:random"
    )
    other = pretrained(
        entries, 0.6, parameters={"preset": "tiny", "epochs": 9}, estimator="omfa:random"
    )
    scratch = pretrained(
        entries, 0.7, parameters={"preset": "tiny", "epochs": 3}, estimator="omfa:scratch"
    )
    assert control_of(own, [own, other, scratch, random]) is random
    assert control_of(own, [own, other, scratch]) is scratch
    assert control_of(own, [own, other]) is None
    assert control_of(random, [own, random]) is None
    named = replace(own, control="omfa:scratch")
    assert control_of(named, [named, random, scratch]) is scratch
    assert control_of(replace(own, control=""), [own, random]) is None
    elsewhere = replace(random, table="other")
    assert control_of(own, [own, elsewhere]) is None


def paired(monkeypatch, entries, out, **options):
    """What the pictures of pairs were given, by their titles, and the page."""
    given = {}

    def capture(shown, title, metric):
        given[title.split(": ")[1]] = shown
        return original(shown, title, metric)

    original = figures.paired
    monkeypatch.setattr(figures, "paired", capture)
    return given, write_report(entries, out, **options).read_text()


def test_pairs_are_drawn_person_by_person_with_the_difference_and_its_interval(
    entries, tmp_path, monkeypatch
):
    own = pretrained(entries, 0.9, parameters={"checkpoint": "c", **FROZEN})
    random = pretrained(entries, 0.6, parameters=dict(FROZEN), estimator="omfa:random")
    given, text = paired(monkeypatch, [own, random, *entries], tmp_path / "r.html")
    (shown,) = given["pre-trained and control"]
    people = [e.first.subjects["balanced_accuracy"] for e in (random, own)]
    assert shown.scores.tolist() == np.stack(people, axis=1).tolist()
    test = compare(own.results, random.results)
    assert shown.interval == test.interval
    assert shown.words[0].startswith(f"{100 * test.difference:+.1f} points (")
    assert shown.words[1] == "3 people"  # and no p
    assert (shown.chance, shown.leaky) == (0.5, (False, False))
    leaky = given["leaky and honest"]
    assert [one.title for one in leaky] == [["majority"], ["relative-band-power+logistic"]]
    assert all(one.leaky == (False, True) for one in leaky)
    assert leaky[1].names == ("within-subject", "leaky-window (LEAKY)")
    honest, leak = (entries[k].first.subjects["balanced_accuracy"] for k in (3, 1))
    assert leaky[1].scores.tolist() == np.stack([honest, leak], axis=1).tolist()
    assert "Pre-trained and control, person by person" in text
    table = pd.read_csv(tmp_path / "r-pairs.csv")
    assert sorted(table["kind"]) == ["control", "leaky", "leaky"]
    (row,) = table[table["kind"] == "control"].to_dict("records")
    assert (row["row"], row["other"], row["n_subjects"]) == ("omfa", "omfa:random", 3)
    assert row["difference"] == pytest.approx(test.difference)
    assert np.isnan(row["p"])
    assert np.isnan(row["p_holm"])


def test_of_six_people_pairs_have_a_p_that_is_corrected(entries, monkeypatch, tmp_path):
    six = []
    for entry in entries:
        (result,) = entry.results
        again = result.predictions.assign(
            subject=[f"{name}-again" for name in result.predictions["subject"]]
        )
        both = pd.concat([result.predictions, again], ignore_index=True)
        six.append(replace(entry, results=(replace(result, predictions=both),)))
    given, text = paired(monkeypatch, six, tmp_path / "r.html")
    table = pd.read_csv(tmp_path / "r-pairs.csv")
    assert (table["n_subjects"] == 6).all()
    assert table["p_holm"].tolist() == holm(table["p"]).tolist()
    words = [one.words[1] for one in given["leaky and honest"]]
    assert words == [f"6 people, p {p:.2g} by Holm" for p in table["p_holm"]]
    assert "pre-trained and control" not in given
    assert "Pre-trained and control" not in text


def test_every_table_is_beside_the_page_in_full(entries, tmp_path):
    write_report(entries, tmp_path / "a b.html", metric="accuracy")
    read = {
        name: pd.read_csv(tmp_path / f"a b-{name}.csv")
        for name in ("summary", "subjects", "pairs", "calibration")
    }
    assert len(read["summary"]) == len(summary_table(entries))
    assert read["subjects"]["value"].tolist() == pytest.approx(
        scores_table(entries)["value"].tolist()
    )
    (calibrated,) = {*read["calibration"]["row"]}
    assert calibrated == "relative-band-power+logistic"
    log_loss = read["calibration"].set_index(["leaky", "metric"]).loc[(False, "log_loss"), "mean"]
    assert log_loss == pytest.approx(entries[3].first.calibration().loc["log_loss", "mean"])
    text = (tmp_path / "a b.html").read_text()
    assert 'href="./a%20b-summary.csv"' in text
    given = {"summary": pd.DataFrame({"mine": [1]})}
    text = write_report(entries, tmp_path / "r.html", tables=given, prefix="").read_text()
    assert (tmp_path / "summary.csv").read_text() == "mine\n1\n"
    assert 'href="./summary.csv"' in text
    assert (tmp_path / "pairs.csv").exists()


def test_the_same_results_give_the_same_bytes(entries, tmp_path):
    one = write_report(entries[:2], tmp_path / "a.html").read_bytes()
    assert write_report(entries[:2], tmp_path / "b" / "a.html").read_bytes() == one
