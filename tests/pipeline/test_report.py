"""The report: what it says is what the stores hold, in one file that needs nothing else."""

import base64
import io
import itertools
import re
import shutil
import tomllib
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import fsspec
import matplotlib
import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError
from PIL import Image
from scipy import fft

from omfa.pipeline import (
    DataError,
    Key,
    Preprocessing,
    Recording,
    ingest,
    open_store,
    report_figures,
    report_page,
    report_survey,
    report_times,
    write_report,
)
from omfa.pipeline.channels import UCS
from omfa.pipeline.cli import main
from omfa.pipeline.quality import FREQUENCIES
from omfa.pipeline.report_labels import class_balance, labels

ROOT = Path(__file__).parents[2]
CHANNELS = ("Fp1", "Fp2", "F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "O2")


class Page(HTMLParser):
    """A parsed report: its text, tables (lists of rows of cells), images and tags in balance."""

    def __init__(self, path):
        super().__init__()
        self.source = Path(path).read_text(encoding="utf-8")
        self.tables, self.images, self.links, self.tags = [], [], [], set()
        self._open, self._text = [], []
        self.feed(self.source)
        assert not self._open
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        if tag not in ("meta", "img", "br", "line", "rect"):
            self._open.append(tag)
        if tag == "img":
            self.images.append(given)
        if "href" in given:
            self.links.append(given["href"])
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        if tag == "rect":
            return
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            return
        self._text.append(data)
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def rows(self, *head):
        """The rows of all tables whose first columns are these."""
        return [
            row for table in self.tables for row in table[1:] if table[0][: len(head)] == [*head]
        ]


@dataclass(frozen=True)
class TextReader:
    """Gives another reader's recordings a text label, many ratings and a note of their source."""

    inner: object
    note: str = ""
    simulated: bool = False
    name: str = "text"

    def discover(self, root):
        return self.inner.discover(root)

    def read(self, key):
        recording = self.inner.read(key)
        onsets = np.arange(30) * 100
        trials = recording.trials.iloc[np.zeros(30, int)].assign(
            onset=onsets + 60,
            length=40,
            baseline_length=0,
            mood=["<b>calm</b> & 平静"] * 29 + ["$tense_"],
            rating=np.linspace(1, 9, 30),
        )
        return replace(
            recording,
            trials=trials,
            source={"note": self.note, "band": [0.1, 70], "simulated": self.simulated},
        )


def write_eeg(path, *, seed, channels=CHANNELS, flat=()):
    """Write one recording of 1/f noise, mostly shared: no channel is bad but the flat ones."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((len(channels) + 1, 4000))
    shaped = fft.rfft(white) / np.maximum(fft.rfftfreq(4000, 1 / 200), 0.5)
    own, shared = np.split(fft.irfft(shaped), [len(channels)])
    signal = 40 * (0.5 * own + shared)
    signal[[channels.index(name) for name in flat]] = 3.0
    np.savez(path, signal=signal, sfreq=200.0, names=np.array(channels))


@pytest.fixture(scope="module")
def reader_class(request):
    """The tiny reader of the conftest, for fixtures of the module."""
    path = str(Path(__file__).with_name("conftest.py"))
    return request.config.pluginmanager.getplugin(path).TinyReader


@pytest.fixture(scope="module")
def stores(reader_class, tmp_path_factory):
    """Four recordings with a flat channel, and one that fails; and one of three channels."""
    folder = tmp_path_factory.mktemp("r")
    for name in ("first", "second"):
        (folder / name).mkdir()
    for i in range(4):
        write_eeg(folder / "first" / f"{i:02d}.npz", seed=i, flat=["C3"] if i == 1 else [])
    (folder / "first" / "09.npz").write_bytes(b"<b>no recording</b>")
    write_eeg(folder / "second" / "00.npz", seed=9, channels=("O1", "O2", "Oz"))
    for name in ("first", "second"):
        ingest(reader_class(), folder / name, folder / f"{name}.zarr", serial=True)
    return [open_store(folder / f"{name}.zarr") for name in ("first", "second")]


@pytest.fixture(scope="module")
def written(stores, tmp_path_factory):
    return write_report(stores, tmp_path_factory.mktemp("out") / "new" / "report.html")


@pytest.fixture(scope="module")
def page(written):
    return Page(written)


@pytest.fixture
def without_maps(monkeypatch):
    """Spare a test that is about words the slowest picture."""
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, format="png")
    monkeypatch.setattr(report_figures, "electrodes", lambda *maps: pixel.getvalue())


@dataclass(frozen=True)
class LossyReader:
    """Recordings of one minute at 100 Hz with five trials, of which each has lost something else.

    Where the number of a recording is not in ``lost``, it has lost nothing.
    """

    lost: tuple[str, ...]
    n: int
    name: str = "deap"

    def discover(self, root):
        names = [f"{i:04d}" for i in range(self.n)]
        return [Key(subject=name, files=("x",), root=str(root)) for name in names]

    def read(self, key):
        number = int(key.subject)
        lost = self.lost[number] if number < len(self.lost) else ""
        signal = np.random.default_rng(number).normal(0, 20, (4, 6000)).astype(np.float32)
        onset, length, segments, notes = np.arange(5) * 1200 + 100, 1000, [signal], []
        segment, valence = np.zeros(5, int), np.array([2.0, 8.0, 3.0, 7.0, 4.0])
        if lost == "all":
            signal[:, 1500:2500] = np.nan
        elif lost == "some":
            signal[2, 5000:5300] = np.nan
        elif lost == "channel":
            signal[3] = np.nan
        elif lost == "trials":
            onset = onset[:4]
            notes = ["<b>event 5</b> lies outside the recording and is left out"]
        elif lost == "break":
            segments, segment = [signal[:, :2400], signal[:, 2400:]], (onset >= 2400).astype(int)
            onset = onset - 2400 * segment
        elif lost == "class":
            valence[1] = np.nan
        elif lost == "cut":  # by the source: nothing is lost
            segments, segment, onset = np.split(signal, 5, axis=1), np.arange(5), np.full(5, 0)
            length = 1200
        n = len(onset)
        table = {"segment": segment[:n], "onset": onset, "length": length, "baseline_onset": 0,
                 "baseline_length": 0, "stimulus": [f"clip {i}" for i in range(n)],
                 "valence": valence[:n]}  # fmt: skip
        names = ["F3", "F4", "O1", "O2"]
        return Recording(key, names, 100.0, segments, pd.DataFrame(table), notes=notes)


def lossy_store(folder, lost, n=0):
    folder.mkdir(exist_ok=True)
    (folder / "x").write_text("")
    settings = Preprocessing(sfreq=None, band=None)
    reader = LossyReader(tuple(lost), n or len(lost))
    ingest(reader, folder, folder / "lossy.zarr", preprocessing=settings, serial=True)
    return open_store(folder / "lossy.zarr")


# ------------------------------------------------------------------------------- what it says


def test_it_needs_nothing_but_itself(page):
    assert not {"script", "link", "iframe"} & page.tags
    assert "default-src 'none'" in page.source
    without_images = re.sub(r'src="data:[^"]*"', "", page.source)
    assert not re.search(r"//\w|url\(|src=", without_images)
    inside = [link for link in page.links if link.startswith("#")]
    assert all(f'id="{link[1:]}"' in page.source for link in inside)
    # Beside the page, under a name without a folder: all can be moved together.
    others = set(page.links) - set(inside)
    assert others == {f"./report-{table}.csv" for table in ("recordings", "channels")}
    assert len(page.images) > 8
    for image in page.images:
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert image["alt"]
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            picture.verify()


def test_the_overview_counts_what_the_stores_hold(page, stores):
    first, second = page.rows("dataset", "recordings")
    assert first[:7] == ["first", "4", "4", "4", "12", "8", "0.02"]
    assert first[7:] == [f"{stores[0].nbytes / 1e6:.1f} MB", "128 Hz", "2.1%", "1"]  # 1 of 48
    assert second[:6] == ["second", "1", "1", "1", "3", "2"]
    assert "0.5–45 Hz" in page.text
    assert "float16" in page.text


def test_every_channel_is_told_with_the_stores_that_hold_it(page):
    held = {who: names.split() for who, _, names in page.rows("held by")}
    assert held["first, second"] == ["O1", "O2"]
    assert held["second"] == ["Oz"]
    assert len(held["first"]) == 10
    assert "13 in the union, 2 in the intersection" in page.text


def test_bad_channels_are_told_with_recording_share_and_reason(page, stores):
    (row,) = page.rows("recording", "bad")
    assert row[:2] == ["sub-01_ses-1_run-1", "1 of 12"]
    assert row[2].startswith("C3 (flat")
    (often,) = page.rows("channel", "bad in")
    assert often[:2] == ["C3", "25.0%"]
    assert "flat" in often[2]
    assert stores[0]["sub-01_ses-1_run-1"].bad_channels == ["C3"]


def test_what_failed_is_told_with_its_reason_in_full(page, stores):
    (row,) = page.rows("recording", "why")
    assert row == ["sub-09_ses-1_run-1", stores[0].failures["sub-09_ses-1_run-1"]]
    assert "1 recording could not be stored" in page.text


def test_labels_are_counted(page):
    assert re.search(r"valence 8 trials 1.5 4 9 4", page.text)
    assert re.search(r"emotion 8 trials -1 4 1 4", page.text)


def test_real_data_are_not_called_simulated(page):
    assert "Simulated" not in page.text


def test_how_it_was_made_is_folded_away(page, stores):
    assert page.source.count("<details>") == 3 + 5  # one per store, the meanings, the recordings
    assert stores[0].settings["settings_digest"] in page.text
    assert stores[0].settings["software"]["numpy"] in page.text


def test_what_to_look_at_first_is_told_with_what_to_do(page):
    verdicts = page.rows("dataset", "finding")
    assert verdicts[0][0] == "first"
    assert verdicts[0][1].startswith("1 recording could not be stored: sub-09_ses-1_run-1")
    assert verdicts[1] == ["second", "nothing stands out"]
    said = page.text.split("What to do")[1].split("Quality by channel")[0]
    assert said.index("run the ingest command again") < said.index("sub-01_ses-1_run-1 (8%)")
    assert "ingest with --interpolate" in said
    assert "Nothing stands out: no recording needs a look" in page.text


def test_methods_can_be_pasted(page):
    first, second = page.text.split("For the methods of a paper")[1:]
    assert "4 recordings of 4 subjects with 8 trials and 12 channels" in first
    assert "1 recording could not be read and was left out" in first
    assert "high-pass filtered at 0.5 Hz, low-pass filtered at 45 Hz" in first
    assert "resampled to 128 Hz" in first
    assert "1 of 48 channels (2.1%) were bad; they were marked and not repaired" in first
    assert "(2015). The PREP pipeline" in first
    assert "left out" not in second
    numbers = sorted({int(n) for n in re.findall(r"\[(\d+)\]", second)})
    assert numbers == list(range(1, len(numbers) + 1))


def test_recordings_are_shown_one_by_one_the_worst_first(page):
    pages = page.text.split("Recordings, one by one")[1].split("For the methods")[0]
    names = re.findall(r"(sub-\d+_ses-1_run-1): (\d) of 12 channels bad, 2 trials", pages)
    assert [name for name, _ in names[:2]] == ["sub-01_ses-1_run-1", "sub-00_ses-1_run-1"]
    assert [n for _, n in names] == ["1", "0", "0", "0"]
    (row,) = [row for row in page.rows("channel", "flat (%)") if row[0] == "C3"]
    assert float(row[1]) == 100
    assert row[-1].startswith("flat")


def test_headings_and_tables_can_be_heard(page):
    levels = [int(level) for level in re.findall(r"<h(\d)", page.source)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.source.count("<th ") == page.source.count("<th scope=")
    assert "<th>" not in page.source


def test_a_report_of_some_recordings(stores, tmp_path, capsys):
    out = str(tmp_path / "r.html")
    command = ["report", stores[0].path, "--out", out, "--recordings", "sub-01_*"]
    assert main(command) == 0
    page = Page(out)
    assert page.rows("dataset", "recordings")[0][1] == "1"
    assert "sub-00" not in page.text
    assert main([*command[:-1], "sub-1_ses-1_run-1"]) == 2
    said = capsys.readouterr().err
    assert "none is called 'sub-1_ses-1_run-1' (nearest: sub-" in said
    assert "omfa-ingest inspect" in said


# ------------------------------------------------------------------------------- the file


def test_the_same_stores_give_the_same_bytes_whatever_the_callers_style(
    stores, written, tmp_path, capsys
):
    moved = [tmp_path / Path(store.path).name for store in stores]
    for store, path in zip(stores, moved, strict=True):
        shutil.copytree(store.path, path)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        again = write_report([open_store(path) for path in moved], tmp_path / "report.html")
        assert dict(matplotlib.rcParams) == before
    # Under the same name: the page names the files beside it by its own.
    assert again.read_bytes() == written.read_bytes()
    for table in ("recordings", "channels", "missing"):
        name = f"report-{table}.csv"
        assert again.with_name(name).read_bytes() == written.with_name(name).read_bytes()
    assert capsys.readouterr() == ("", "")  # no bar off a terminal


def test_a_write_that_fails_leaves_the_old_report_and_no_draft(stores, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match=r"report.html: No space left on device\. Free space"):
        write_report(stores[1:], out)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "old"


def test_where_it_cannot_be_written_is_told_before_the_work(stores, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"it is a folder\. Name a file in it"):
        write_report(stores, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="or name another file by --out"):
        write_report(stores, tmp_path / "file" / "report.html")
    # Root may write anywhere.
    monkeypatch.setattr(report_page.os, "access", lambda path, mode: False)
    with pytest.raises(DataError, match="no permission to write"):
        write_report(stores, tmp_path / "report.html")
    with pytest.raises(DataError, match="no store was given"):
        write_report([], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_template_that_asks_for_what_it_is_not_given_is_an_error_and_writes_nothing(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "odd.html").write_text("<p>{{ known }} {{ unknown }}</p>")
    with pytest.raises(UndefinedError, match="unknown"):
        report_page.write(
            tmp_path / "r.html", "odd.html", {"known": "<b>"}, folders=[tmp_path / "own"]
        )
    assert not (tmp_path / "r.html").exists()


def test_wheels_carry_the_templates():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packaged = settings["tool"]["setuptools"]
    assert "omfa.pipeline.templates" in packaged["packages"]
    patterns = packaged["package-data"]["omfa.pipeline.templates"]
    for file in (ROOT / "pipeline" / "templates").iterdir():
        assert any(fnmatch(file.name, pattern) for pattern in patterns), file


# ------------------------------------------------------------------------------- odd stores


def test_an_empty_store_says_that_nothing_is_stored_and_why(reader, tree, tmp_path):
    for file in tree.glob("*.npz"):
        file.write_bytes(b"not a recording")
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    page = Page(write_report([open_store(tmp_path / "s.zarr")], tmp_path / "r.html"))
    assert "Nothing is stored: every recording failed" in page.text
    assert len(page.rows("recording", "why")) == 3
    assert not page.images


@pytest.mark.usefixtures("without_maps")
def test_a_damaged_recording_costs_only_itself(reader, tree, tmp_path):
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    lost = tmp_path / "s.zarr" / "sub-01_ses-1_run-1" / "quality_variance_z" / "c" / "0"
    lost.write_bytes(b"?" * lost.stat().st_size)  # bytes that decode as well as any
    page = Page(write_report([open_store(tmp_path / "s.zarr")], tmp_path / "r.html"))
    (row,) = page.rows("recording", "why")
    assert row == ["sub-01_ses-1_run-1", "quality_variance_z/c/0 does not match its checksum"]
    assert "1 stored recording could not be read" in page.text
    assert "24 channels of 2 recordings" in page.text


LOST = ["all", "some", "channel", "trials", "break", "class", "cut", ""]


@pytest.fixture
def drawn(monkeypatch):
    """The rows of each picture of time, with its classes."""
    given = []

    def capture(rows, classes):
        given.append((rows, classes))
        return original(rows, classes)

    original = report_figures.timelines
    monkeypatch.setattr(report_figures, "timelines", capture)
    return given


@pytest.mark.usefixtures("without_maps")
def test_the_map_of_time_says_what_each_recording_lost(tmp_path, drawn):
    store = lossy_store(tmp_path / "s", LOST)
    page = Page(write_report([store], tmp_path / "r.html"))
    rows, classes = drawn[0]
    assert classes == ["low", "high"]
    by_number = {int(row.name[4:8]): row for row in rows}
    # The most missing first; what lost nothing, or was cut into trials by its source, comes last.
    assert list(by_number) == [2, 0, 1, 3, 4, 5, 6, 7]
    assert all(row.minutes == 1 for row in rows)
    assert by_number[0].every == [(pytest.approx(0.25), pytest.approx(2500 / 6000))]
    assert (by_number[0].some, by_number[1].every, by_number[2].some) == ([], [], [])
    assert by_number[1].some == [(pytest.approx(5000 / 6000), pytest.approx(5300 / 6000))]
    assert [len(by_number[k].trials) for k in (3, 4)] == [4, 5]
    assert by_number[4].breaks == [0.4]
    assert not by_number[6].breaks
    assert [number for *_, number in by_number[5].trials] == [0, -1, 0, 1, 0]
    assert by_number[4].trials[2][:2] == (pytest.approx(2500 / 6000), pytest.approx(1 / 6))
    assert [by_number[k].remark for k in (6, 7)] == ["", ""]
    assert by_number[2].remark == "25 % missing, 1 channel without a sample"
    assert (
        "Of 8 recordings, 3 lack samples, 1 lacks trials that the others have, "
        "1 lacks the class of a trial (valence>5), 1 is interrupted. The other 2 are whole: "
        "1 min, 5 trials each; the source holds 1 of them cut into trials."
    ) in page.text
    table = {row[0][:8]: row[1:] for row in page.rows("recording", "minutes", "missing")}
    assert table["sub-0000"] == [
        *("1.0", "16.67%", "1", "10.00 s", "0", "5"), "17 % missing, 1 trial with samples missing",
    ]  # fmt: skip
    assert table["sub-0004"][-1] == "1 break"
    assert table["sub-0003"][-1] == "4 of 5 trials"
    assert "sub-0006" not in table
    assert "<b>event 5</b> lies outside" in page.text  # escaped in the source, or a tag
    assert "Samples are missing in sub-0002_ses-1_run-1 (25%)" in page.text
    assert "The signal breaks off in sub-0004_ses-1_run-1 (1)." in page.text


@pytest.mark.usefixtures("without_maps")
def test_the_tables_of_a_report_are_beside_it_in_full(tmp_path):
    store = lossy_store(tmp_path / "s", LOST)
    out = tmp_path / "new" / "a b.html"
    page = Page(write_report([store], out))
    links = {link for link in page.links if not link.startswith("#")}
    assert links == {f"./a%20b-{table}.csv" for table in ("recordings", "channels", "missing")}
    recordings = pd.read_csv(out.with_name("a b-recordings.csv"), dtype={"subject": str})
    assert recordings["subject"].tolist() == [f"{i:04d}" for i in range(8)]
    assert recordings["missing"].tolist() == [0.166667, 0.0125, 0.25, 0, 0, 0, 0, 0]
    assert recordings["longest_gap_seconds"].tolist()[:3] == [10, 3, 0]
    assert recordings["n_breaks"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert recordings["n_segments"].tolist() == [1, 1, 1, 1, 2, 1, 5, 1]
    assert recordings["n_trials_less_than_usual"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert recordings["n_trials_without_class"].tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert recordings["channels_without_a_sample"][2] == "O2"
    assert "event 5" in recordings["notes"][3]
    missing = pd.read_csv(out.with_name("a b-missing.csv"))
    assert missing.drop(columns=["dataset", "recording"]).to_numpy().tolist() == [
        [15.0, 25.0, True, "F3 F4 O1 O2"],
        [50.0, 53.0, False, "O1"],
    ]
    channels = pd.read_csv(out.with_name("a b-channels.csv"))
    assert len(channels) == 8 * 4
    empty = channels[(channels["missing"] == 1)]
    assert empty[["recording", "channel", "bad"]].to_numpy().tolist() == [
        ["sub-0002_ses-1_run-1", "O2", True]
    ]


@pytest.mark.usefixtures("without_maps")
def test_of_many_recordings_those_that_lost_something_are_drawn(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(report_times, "MOST_DRAWN", 6)
    monkeypatch.setattr(report_times, "MOST_ROWS", 2)
    monkeypatch.setattr(report_times, "_BLOCK", 1999)  # gaps that go on from block to block are one
    monkeypatch.setattr(report_survey, "MOST_RECORDINGS", 5)
    store = lossy_store(tmp_path / "s", ["", "all", "", "", "break", "some"], 12)
    page = Page(write_report([store], tmp_path / "r.html"))
    names = [row.name[:8] for row in drawn[0][0]]
    assert names[:3] == ["sub-0001", "sub-0005", "sub-0004"]
    assert len(names) == 6  # with three whole ones to compare
    assert drawn[0][0][0].every == [(pytest.approx(0.25), pytest.approx(2500 / 6000))]
    assert "The other 9 are whole" in page.text
    assert len(page.rows("recording", "minutes", "missing")) == 2
    assert "All of it, 1 more: r-recordings.csv" in page.text
    assert "Every gap: r-missing.csv" in page.text
    monkeypatch.setattr(report_times, "MOST_DRAWN", 1)
    page = Page(write_report([store], tmp_path / "r.html"))
    assert "The gaps of 1 of the 2 that lack samples: r-missing.csv" in page.text
    assert "1 recording of the 3 that lack anything, those that lack the most first" in page.text
    monkeypatch.setattr(report_times, "MOST_TIMED", 4)
    page = Page(write_report([store], tmp_path / "r.html"))
    assert "4 of the 12 recordings were looked through" in page.text


@pytest.mark.usefixtures("without_maps")
def test_a_recording_that_cannot_be_looked_through_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(report_survey, "MOST_RECORDINGS", 1)
    store = lossy_store(tmp_path / "s", ["", "all", "some", ""])
    for recording, array in (("sub-0001", "signal"), ("sub-0003", "trial_onset")):
        folder = tmp_path / "s" / "lossy.zarr" / f"{recording}_ses-1_run-1" / array / "c"
        (file,) = (path for path in folder.rglob("*") if path.is_file())
        content = file.read_bytes()
        file.write_bytes(content[:-30] + bytes(30))
    page = Page(write_report([store], tmp_path / "r.html"))
    assert "2 more recordings could not be looked through" in page.text
    assert len(page.rows("recording", "why")) == 2
    table = pd.read_csv(tmp_path / "r-recordings.csv")
    assert table["error"].notna().tolist() == [False, True, False, True]
    assert table["n_gaps"].tolist()[2] == 1


@pytest.mark.usefixtures("without_maps")
def test_texts_are_escaped_and_many_ratings_make_a_histogram(reader, tree, tmp_path):
    ingest(TextReader(reader, "by a test", simulated=True), tree, tmp_path / "s.zarr", serial=True)
    page = Page(write_report([open_store(tmp_path / "s.zarr")], tmp_path / "r.html"))
    assert "<b>calm</b> & 平静 87" in page.text
    assert "$tense_ 3" in page.text
    assert "mean 5, SD" in page.text
    bars = [int(n) for n in re.findall(r"<title>[^<]* to [^<]*: (\d+)</title>", page.source)]
    assert len(bars) == 20
    assert sum(bars) == 90
    assert "source: 0.1–70 Hz" in page.text
    assert "Simulated data (the source's own files say so)" in page.text


@pytest.mark.usefixtures("without_maps")
def test_words_do_not_make_real_data_simulated(reader, tree, tmp_path):
    store = tmp_path / "simulated-driving.zarr"
    ingest(TextReader(reader, "a task of Simulated Driving"), tree, store, serial=True)
    page = Page(write_report([open_store(store)], tmp_path / "r.html"))
    assert "Simulated data" not in page.text
    assert page.rows("dataset")[0][0] == "simulated-driving"


@pytest.mark.usefixtures("without_maps")
def test_a_simulated_store_is_called_so(reader, tree, tmp_path):
    ingest(TextReader(reader, simulated=True), tree, tmp_path / "second.zarr", serial=True)
    page = Page(write_report([open_store(tmp_path / "second.zarr")], tmp_path / "r.html"))
    assert "Simulated data (the source's own files say so)" in page.text
    assert page.rows("dataset")[0][0] == "second simulated"


@pytest.mark.usefixtures("without_maps")
def test_names_of_other_meaning_are_reported_and_not_merged(reader, tmp_path):
    (tmp_path / "raw").mkdir()
    write_eeg(tmp_path / "raw" / "00.npz", seed=0, channels=("CB1", "CB2", "O1", "O2", "Oz"))
    for name, rule in (("one", "PO9/PO10"), ("other", "POO7/POO8")):
        path = tmp_path / f"{name}.zarr"
        ingest(reader, tmp_path / "raw", path, serial=True, cerebellar=rule)
    opened = [open_store(tmp_path / f"{name}.zarr") for name in ("one", "other")]
    page = Page(write_report(opened, tmp_path / "r.html"))
    assert "CB1 and CB2" in page.text
    assert not page.rows("held by")


@pytest.mark.usefixtures("without_maps")
def test_large_stores_are_sampled_evenly_and_it_says_so(stores, tmp_path, monkeypatch):
    monkeypatch.setattr(report_survey, "MOST_RECORDINGS", 2)
    page = Page(write_report(stores[:1], tmp_path / "r.html"))
    assert "are of 2 of the 4 recordings" in page.text
    assert "24 channels of 2 recordings" in page.text
    (row,) = page.rows("recording", "bad")  # of all recordings, and with its reason
    assert row[0] == "sub-01_ses-1_run-1"
    assert row[2].startswith("C3 (flat")


def survey_of(name, labels, subjects):
    """What the parts on labels read of a store: its name, labels and whose recordings they are."""
    table = pd.DataFrame({"subject": subjects})
    return SimpleNamespace(store=SimpleNamespace(name=name), labels=labels, table=table)


def test_ratings_of_one_scale_share_the_range_of_their_histograms():
    rng = np.random.default_rng(0)
    drawn = {
        "valence": {"a": np.linspace(1.2, 8.6, 30)},
        "arousal": {"a": rng.uniform(3, 7, 30)},
        "time": {"a": np.linspace(0, 3000, 30)},
    }
    found = {label.name: label for label in labels(survey_of("deap", drawn, {"a": "01"}))}
    edges = {name: label.histogram[1] for name, label in found.items()}
    assert edges["valence"] == edges["arousal"]
    assert (edges["valence"][0], edges["valence"][-1]) == (1, 9)
    assert edges["time"][-1] == 3000
    assert sum(found["arousal"].histogram[0]) == 30


def test_classes_are_counted_by_the_usual_target_and_by_subject():
    ratings = {"a": np.array([5.0, 5.1, 9.0]), "b": np.array([1.0, np.nan]), "c": np.array([6.0])}
    subjects = {"a": "01", "b": "02", "c": "01"}
    found = class_balance(survey_of("deap", {"valence": ratings}, subjects))
    assert found.target == "valence>5"
    assert (found.classes, found.counts) == (["low", "high"], [2, 3])  # 5 itself is low
    assert found.majority == 0.6
    assert found.one_class == ["02"]
    words = {"a": np.array(["sad", "happy", ""], dtype=object)}
    found = class_balance(survey_of("seed-iv", {"emotion": words}, {"a": "01"}))
    assert (found.classes, found.counts) == (["happy", "sad"], [1, 1])
    assert class_balance(survey_of("unknown", {"valence": ratings}, subjects)) is None
    assert class_balance(survey_of("deap", {}, subjects)) is None


# ------------------------------------------------------------------------------- pictures


def test_colours_reach_from_none_to_all_and_arrows_say_what_is_beyond(monkeypatch):
    given = []
    monkeypatch.setattr(report_figures, "named", lambda *shown: given.append(shown[1]))
    report_figures.bad_share(["C3", "C4"], np.array([0.25, 0.0]), UCS.positions(["C3", "C4"]))
    (shown,) = given
    assert shown.scale == (0, 100)
    assert shown.values.tolist() == [25, 0]
    for values, beyond in (
        ([0, 100], "neither"),
        ([5, 101], "max"),
        ([-1, 50], "min"),
        ([-1, 200], "both"),
        ([np.nan, 3], "neither"),
    ):
        assert replace(shown, values=np.array(values, float)).beyond == beyond


def test_no_two_electrodes_touch():
    names = [name for name in UCS.names[:62] if name not in ("CB1", "CB2")]
    places = report_figures.flatten(UCS.positions(names))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 2 * report_figures.disc_radius(places)


@pytest.mark.usefixtures("without_maps")
def test_traces_show_the_stored_signal_from_the_trials_own_segment(stores, tmp_path, monkeypatch):
    shown = []

    def capture(signal, sfreq, channels, bad, *, start):
        shown.append((signal, sfreq, channels, bad, start))
        return original(signal, sfreq, channels, bad, start=start)

    original = report_figures.traces
    monkeypatch.setattr(report_figures, "traces", capture)
    write_report(stores[:1], tmp_path / "r.html")
    (_, _, _, no_bad, _), (signal, sfreq, channels, bad, start) = shown
    assert no_bad == []
    assert bad == ["C3"]
    assert "C3" in channels
    recording = stores[0]["sub-01_ses-1_run-1"]
    rows = [recording.channels.index(name) for name in channels]
    onset = int(recording.trials["onset"].iloc[1])
    first = onset + round(start * sfreq)
    assert first <= onset < first + signal.shape[1]
    np.testing.assert_array_equal(
        signal, recording.signal(first, first + signal.shape[1])[rows].astype(float)
    )


def test_the_scalp_is_drawn_nose_up_and_symmetric():
    x, y = report_figures.flatten(UCS.positions(["Cz", "Fpz", "Oz", "T7", "T8", "F3", "F4"])).T
    np.testing.assert_allclose(x[:3], 0, atol=0.03)
    assert y[1] > 0.8 > abs(y[0]) * 10
    assert y[2] < -0.75
    assert x[3] == pytest.approx(-x[4], abs=0.03)
    assert x[5] == pytest.approx(-x[6], abs=0.03)
    assert x[5] < 0 < y[5]


def test_flat_missing_and_huge_channels_are_drawn():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((4, 256))
    signal[1], signal[2], signal[3] = 5.0, np.nan, 1e6 * signal[3]
    names = ["Fz", "Cz", "Pz", "Oz"]
    for bad in ([], names[1:], names):
        png = report_figures.traces(signal, 128.0, names, bad, start=-1.0)
        assert png.startswith(b"\x89PNG")
    rows = np.tile([[1.0], [2.0], [0.0]], len(FREQUENCIES))
    rows[:, 40:] = np.nan  # above a low Nyquist frequency
    assert report_figures.spectra(FREQUENCIES, rows, rows * np.nan, (None, 45.0))


@pytest.mark.usefixtures("without_maps")
def test_the_tables_go_to_an_address_with_the_page(tmp_path):
    files = fsspec.filesystem("memory")
    store = lossy_store(tmp_path / "s", ["all", ""])
    assert write_report([store], "memory://reports/r.html") == "memory://reports/r.html"
    names = {path.rpartition("/")[2] for path in files.find("/reports")}
    assert names == {"r.html", "r-recordings.csv", "r-channels.csv", "r-missing.csv"}
    assert files.cat("/reports/r-missing.csv").decode().splitlines()[1].startswith("lossy,sub-0000")
    assert b'href="./r-missing.csv"' in files.cat("/reports/r.html")
