"""The general readers: any folder of files, BIDS, MOABB, and a reader of one's own."""

import os
import pickle
import re
import shutil
import struct
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omfa.pipeline import ingest, open_store
from omfa.pipeline.channels import UCS
from omfa.pipeline.cli import main
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers import get_reader
from omfa.pipeline.readers.bids import BidsReader
from omfa.pipeline.readers.files import FilesReader
from omfa.pipeline.readers.moabb_datasets import MoabbReader
from omfa.pipeline.recording import Reader, SourceWarning

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "real-eeg"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real EEG is not at hand")


# --------------------------------------------------------------------------- files to read


def noise(n_chans, n_times, seed=0):
    return np.random.default_rng(seed).normal(0, 20, (n_chans, n_times))


def write_edf(path, signals, *, seconds, events=(), kind="", record_starts=None, **header):
    """Write an EDF or BDF file, simulated, record by record.

    ``signals`` are (label, unit, values), any number of values per second; ``events`` are (onset,
    duration, text); ``kind`` is "EDF+C" or "EDF+D" with a start for each 1 s record; ``header``
    overwrites the field of that name in every signal.
    """
    bdf = path.suffix == ".bdf"
    width, top = (3, 2**23 - 1) if bdf else (2, 2**15 - 1)
    samples = [len(values) // seconds for _, _, values in signals]
    fields = {
        "label": [label for label, _, _ in signals],
        "transducer": ["" for _ in signals],
        "unit": [unit for _, unit, _ in signals],
        "physical_min": [-1000 for _ in signals],
        "physical_max": [1000 for _ in signals],
        "digital_min": [-top for _ in signals],
        "digital_max": [top for _ in signals],
        "filter": ["" for _ in signals],
        "samples": list(samples),
        "reserved": ["" for _ in signals],
    }
    fields |= {name: [value] * len(signals) for name, value in header.items() if name in fields}
    if kind:
        annotation = (kind[:3] + " Annotations", "", "", -1, 1, -top, top, "", 60, "")
        for column, value in zip(fields.values(), annotation, strict=True):
            column.append(value)
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    n_signals = len(fields["label"])
    text = "".join(
        str(value).ljust(width)[:width]
        for values, width in zip(fields.values(), widths, strict=True)
        for value in values
    )
    version = b"\xffBIOSEMI" if bdf else b"0       "
    n_records = header.get("n_records", seconds)
    fixed = "X X X X".ljust(80) + "Startdate X X X X".ljust(80) + "01.01.20" + "01.01.01"
    fixed += str(256 * (n_signals + 1)).ljust(8) + kind.ljust(44) + str(n_records).ljust(8)
    fixed += "1".ljust(8) + str(n_signals).ljust(4)
    with path.open("wb") as file:
        file.write(version + (fixed + text).encode("latin-1"))
        for record in range(seconds):
            for (_, _, values), n in zip(signals, samples, strict=True):
                digital = np.round(values[record * n : (record + 1) * n] / 1000 * top).astype("<i4")
                file.write(digital.view(np.uint8).reshape(-1, 4)[:, :width].tobytes())
            if kind:
                start = record_starts[record] if record_starts else record
                tal = f"+{start:g}\x14\x14\0"
                for onset, duration, text in events if record == 0 else ():
                    tal += f"+{onset}\x15{duration}\x14{text}\x14\0"
                file.write(tal.encode().ljust(60 * width, b"\0"))
    return path


def eeg(names, *, rate=100, seconds=10, unit="uV", seed=0):
    values = noise(len(names), rate * seconds, seed)
    return [(name, unit, row) for name, row in zip(names, values, strict=True)]


@pytest.fixture
def edf_folder(tmp_path):
    """Two subjects, each at rest and at work; events in the recordings of work."""
    for subject in ("01", "02"):
        for seed, state in enumerate(("rest", "work")):
            events = [(1, 2, "T1"), (4, 0, "T2"), (6, 1, "BAD_move"), (7, 0, "T1"), (8, 1, "T0")]
            write_edf(
                tmp_path / f"sub{subject}_{state}.edf",
                eeg(["Fp1", "Cz..", "O2"], seed=seed),
                seconds=10,
                kind="EDF+C",
                events=events if state == "work" else (),
            )
    return tmp_path


def test_an_event_that_occurs_nowhere_is_named_at_the_end(edf_folder, tmp_path, capsys):
    (edf_folder / "sub02_work.edf").unlink()
    write_edf(
        edf_folder / "sub02_work.edf",
        eeg(["Fp1", "Cz", "O2"]),
        seconds=10,
        kind="EDF+C",
        events=[(1, 2, "T1")],
    )
    pattern = "sub{subject}_{state:work}.edf"
    line = ["files", str(edf_folder), str(tmp_path / "s.zarr"), "--name", "s", "--serial"]
    line += ["--pattern", pattern, "--events"]
    for _ in range(2):  # also where all was kept
        assert main([*line, "T1=left", "T2=right", "BADmove=moved", "fist=fist"]) == 0
        said = capsys.readouterr().err
        assert "the event 'BADmove' of --events (nearest: BAD_move)" in said
        assert "the event 'fist' of --events is a trial in none of the 2 stored recordings" in said
        assert "has BAD_move, T0, T1, T2" in said
        assert "'T1' of" not in said
        assert "'T2' of" not in said  # it is in one of two
    line[2] = str(tmp_path / "whole.zarr")
    assert main([*line, "T1=left", "T2=right"]) == 0
    assert "--events" not in capsys.readouterr().err

    reader = FilesReader(pattern=pattern, events={"T1": "left", "T4": "tongue"}, name="p")
    summary = ingest(reader, edf_folder, tmp_path / "p.zarr", serial=True, progress=False)
    assert ["'T4'" in note for note in summary.notes] == [True]


def test_an_event_of_bids_that_occurs_nowhere_is_named(bids_tree, tmp_path):
    reader = BidsReader(events={"joy": "happy", "fear": "afraid"}, task="film", name="b")
    summary = ingest(reader, bids_tree, tmp_path / "b.zarr", serial=True, progress=False)
    assert summary.having("stored")
    (note,) = (note for note in summary.notes if "--events" in note)
    assert "the event 'fear'" in note


def write_brainvision(folder, *, markers=(), n_times=1000, data_points=None):
    """Write a BrainVision recording of 3 channels at 100 Hz, simulated."""
    values = np.round(noise(3, n_times) * 10).astype("<i2")
    values.T.tofile(folder / "a.eeg")
    (folder / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=a.eeg\nMarkerFile=a.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        "NumberOfChannels=3\nSamplingInterval=10000\n"
        + (f"DataPoints={data_points}\n" if data_points else "")
        + "[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\n"
        "Ch1=Fp1,,0.1,µV\nCh2=Cz,,0.1,µV\nCh3=ECG,,0.1,µV\n",
        encoding="utf-8",
    )
    lines = [f"Mk{i}={kind},{text},{at},1,0" for i, (kind, text, at) in enumerate(markers, 1)]
    (folder / "a.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=a.eeg\n[Marker Infos]\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return values / 10


def raw_array(names, *, types="eeg", sfreq=100.0, seconds=10):
    info = mne.create_info(names, sfreq, types)
    return mne.io.RawArray(1e-6 * noise(len(names), int(sfreq * seconds)), info, verbose="error")


def only(reader, root):
    """Read the one recording of a folder, as a worker would."""
    (key,) = reader.discover(root)
    reader, key = pickle.loads(pickle.dumps((reader, key)))
    return reader.read(key).check()


def refused(reader, root, match):
    with pytest.raises(DataError, match=match) as error:
        only(reader, root)
    assert all(isinstance(part, str) and part for part in error.value.args)
    assert len(error.value.args) == 3


# --------------------------------------------------------------------------- names and patterns


def test_a_pattern_gives_names_and_labels(edf_folder):
    reader = FilesReader(pattern="sub{subject}_{state}.edf")
    keys = reader.discover(edf_folder)
    assert [(key.subject, key.session, key.run) for key in keys] == [
        ("01", "1", "rest"), ("01", "1", "work"), ("02", "1", "rest"), ("02", "1", "work")
    ]  # fmt: skip
    recording = reader.read(keys[0]).check()
    assert recording.channels == ["Fp1", "Cz..", "O2"]
    assert UCS.canonicalize(recording.channels) == ["Fp1", "Cz", "O2"]
    assert recording.sfreq == 100
    (trial,) = recording.trials.to_dict("records")
    assert trial["state"] == "rest"
    assert (trial["onset"], trial["length"], trial["baseline_length"]) == (0, 1000, 0)
    assert recording.labels == ["state"]
    # microvolts, float32, within half a step of the file's 16 bits
    assert recording.segments[0].dtype == np.float32
    np.testing.assert_allclose(recording.segments[0], noise(3, 1000), atol=0.51 * 1000 / 2**15)


def test_it_is_a_reader_that_pickles():
    for reader in (
        FilesReader(pattern="{subject}.edf", events={"a": "b"}),
        BidsReader(),
        MoabbReader(),
    ):
        assert isinstance(reader, Reader)
        again = pickle.loads(pickle.dumps(reader))
        assert (again, hash(again)) == (reader, hash(reader))
        assert type(get_reader(reader.name)) is type(reader)


@pytest.mark.parametrize(
    ("pattern", "files", "found"),
    [
        ("S{subject}R{run}.edf", ["a/S1R04.edf", "b/S2R11.edf"], ["1-1-04", "2-1-11"]),
        ("S{subject}R{run:04|08}.edf", ["S001R04.edf", "S001R06.edf"], ["001-1-04"]),
        ("{subject}/s{session}/*.edf", ["a/s2/x.edf", "a/x.edf"], ["a-2-1"]),
        ("**/{subject}_{run}.edf", ["a/b/7_1.edf", "8_2.edf"], ["7-1-1", "8-1-2"]),
        ("S{subject}/S{subject}_{run}.edf", ["S1/S1_a.edf", "S2/S1_a.edf"], ["1-1-a"]),
        ("{subject}_{film}_{mood}.edf", ["1_the film_sad.edf"], ["1-1-thefilmsad"]),
        (None, ["one.edf", "two.edf"], ["one-1-1", "two-1-1"]),
        (None, ["p1/a.edf", "p1/b_2.edf"], ["p1-1-a", "p1-1-b2"]),
        (None, ["p1/day 1/a.edf", "p1/day 2/a.edf"], ["p1-day1-a", "p1-day2-a"]),
    ],
)  # fmt: skip
def test_where_names_come_from(tmp_path, pattern, files, found):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).with_name("._hidden.edf").touch()
    left_out = len(files) > len(found) and ":" not in pattern  # not by a choice in the pattern
    with pytest.warns(SourceWarning, match="left out") if left_out else nullcontext():
        keys = FilesReader(pattern=pattern).discover(tmp_path)
    assert [f"{key.subject}-{key.session}-{key.run}" for key in keys] == found


@pytest.mark.parametrize(
    ("pattern", "match"),
    [("S*.edf", r"does not say where the subject is"),
     ("{subject}_{onset}.edf", r"\{onset\} cannot"),
     ("{subject}_{2}.edf", r"\{2\} cannot be the name")],
)  # fmt: skip
def test_a_pattern_that_cannot_be_is_refused(pattern, match):
    with pytest.raises(DataError, match=match):
        FilesReader(pattern=pattern)


def test_folders_without_recordings_are_refused(edf_folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(FilesReader(), empty, r"it holds no recording \(\.edf, .*Give the folder")
    refused(FilesReader(), tmp_path / "nowhere", "it is no folder")
    refused(FilesReader(extensions=(".bdf",)), edf_folder, r"no recording \(\.bdf\)")
    refused(
        FilesReader(pattern="S{subject}R{run}.edf"),
        edf_folder,
        r"none of 4 recordings, such as 'sub01_rest.edf', matches .*'S\{subject\}R\{run\}.edf'",
    )
    refused(
        FilesReader(pattern="sub{subject}_*.edf"),
        edf_folder,
        "sub01_rest.edf and sub01_work.edf would both be sub-01_ses-1_run-1",
    )


# --------------------------------------------------------------------------- labels


def test_annotations_become_trials(edf_folder):
    reader = FilesReader(pattern="sub{subject}_{state:work}.edf", labels_from="annotations")
    recording = reader.read(reader.discover(edf_folder)[0]).check()
    trials = recording.trials
    assert trials["event"].tolist() == trials["stimulus"].tolist() == ["T1", "T2", "T1", "T0"]
    # of its own duration, or to the next annotation, over a BAD span
    assert trials["onset"].tolist() == [100, 400, 700, 800]
    assert trials["length"].tolist() == [200, 300, 100, 100]
    assert trials["state"].unique().tolist() == ["work"]
    assert recording.source["bad_spans"] == [[6.0, 1.0, "BAD_move"]]


def test_annotations_are_chosen_and_renamed(edf_folder):
    reader = FilesReader(pattern="sub{subject}_{state}.edf", events={"T1": "left", "T2": "right"})
    rest, work, *_ = reader.discover(edf_folder)
    trials = reader.read(work).check().trials
    assert trials["event"].tolist() == ["left", "right", "left"]
    assert trials["stimulus"].tolist() == ["T1", "T2", "T1"]
    assert trials["length"].tolist() == [200, 300, 100]  # T0 ends the last, chosen or not
    with pytest.raises(DataError, match=r"none of T1, T2 is among its events \(none\)"):
        reader.read(rest)
    asked = FilesReader(pattern="sub{subject}_{state}.edf", events={"BAD_move": "moved"})
    assert asked.read(work).check().trials["event"].tolist() == ["moved"]
    fixed = FilesReader(pattern="sub{subject}_{state}.edf", events={"T2": "right"}, duration=1.5)
    assert fixed.read(work).check().trials["length"].tolist() == [150]


def test_a_table_labels_whole_recordings(edf_folder):
    (edf_folder / "people.csv").write_text("Subject,Run,valence,mood\n"
        "01,rest,3,calm\n01,work,4.5,\n02,rest,,glad\n02,work,n/a,sad\n")  # fmt: skip
    reader = FilesReader(pattern="sub{subject}_{state}.edf", labels_from="people.csv")
    tables = [reader.read(key).check().trials for key in reader.discover(edf_folder)]
    assert [table["mood"].item() for table in tables] == ["calm", "", "glad", "sad"]
    np.testing.assert_array_equal([t["valence"].item() for t in tables], [3, 4.5, np.nan, np.nan])
    assert [table["state"].item() for table in tables] == ["rest", "work"] * 2
    assert [table["length"].item() for table in tables] == [1000] * 4
    assert all("people.csv" in key.files for key in reader.discover(edf_folder))


def test_a_table_labels_parts_of_recordings(edf_folder):
    (edf_folder / "t.tsv").write_text("file\tonset\tduration\tstimulus\trating\n"
        "sub01_rest.edf\t2.5\t3\tfilm a\t7\nsub01_rest.edf\t6\t\tfilm b\t1\n")  # fmt: skip
    reader = FilesReader(pattern="sub{subject:01}_{state:rest}.edf", labels_from="t.tsv")
    trials = only(reader, edf_folder).trials
    assert trials["onset"].tolist() == [250, 600]
    assert trials["length"].tolist() == [300, 400]
    assert trials["stimulus"].tolist() == ["film a", "film b"]
    assert trials["rating"].tolist() == [7, 1]


def test_a_trial_without_a_sample_in_the_store_is_named(tmp_path):
    raw = raw_array(["Cz", "Fp1"], sfreq=1000.0)
    raw.set_annotations(mne.Annotations([1, 5], [0.002, 2], ["click", "film"]))
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    reader = FilesReader(labels_from="annotations", name="made")
    summary = ingest(reader, tmp_path, tmp_path / "a.zarr", serial=True)
    (outcome,) = summary.outcomes
    assert any(
        "1 of 2 trials are too short for a sample at 128 Hz" in text and "1 of 0.002 s" in text
        for text in outcome.warnings
    )
    (stored,) = open_store(tmp_path / "a.zarr")
    assert stored.trials["length"].tolist() == [0, 256]
    assert outcome.warnings[0] in stored.attrs["source"]["notes"]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ("subject,x\n01,1\n03,2\n", "row 2 \\(subject 03\\) is of no recording"),
        ("subject,x\n02,1\n", "row 1 \\(subject 02\\) is of no recording"),
        ("subject,x\n", "has 0 rows for sub-01_ses-1_run-rest. Give it a row"),
        ("subject,x\n01,1\n01,2\n", "has 2 rows .* no column 'onset'"),
        ("who,x\n01,1\n", r"no column says which recording a row is of \(who, x\)"),
        ("subject,length\n01,1\n", "'length' has the name of a column of the trial table"),
        ("subject,onset,duration\n01,8,3\n", "event 1 lasts from 8 to 11 s, the recording from 0 "),
        ("subject,onset,duration\n01,-1,3\n", "event 1 lasts from -1 to 2 s"),
        ("subject,onset,duration\n01,1,3\n01,,3\n", "event 2 lasts from nan to nan s"),
        ("subject,onset,duration\n01,10,3\n", "event 1 lasts from 10 to 13 s"),
        ("subject,onset\n01,start\n", "'onset' holds text"),
        ("subject,onset,state\n01,1,work\n", "'state' is 'rest' in the pattern and something"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(edf_folder, table, match):
    (edf_folder / "t.csv").write_text(table)
    reader = FilesReader(pattern="sub{subject:01}_{state:rest}.edf", labels_from="t.csv")
    refused(reader, edf_folder, match)


def test_a_table_that_is_not_there_is_refused(edf_folder):
    refused(FilesReader(labels_from="no.csv"), edf_folder, "table of labels cannot be read")
    with pytest.raises(DataError, match="either --labels-from or --events"):
        FilesReader(labels_from="t.csv", events={"T1": "left"})


# --------------------------------------------------------------------------- channels and units


def test_what_is_not_eeg_is_kept_apart(tmp_path):
    names = ["Fp1", "EOG left", "ECG", "EEG Cz-Ref", "Resp oro-nasal", "EXG1", "A1", "Event marker",
             "EMG1", "GSR", "O2.."]  # fmt: skip
    write_edf(tmp_path / "a.edf", eeg(names), seconds=10)
    recording = only(FilesReader(), tmp_path)
    assert UCS.canonicalize(recording.channels) == ["Fp1", "Cz", "A1", "O2"]
    (auxiliary,) = recording.auxiliary
    kept_apart = [name for name in names if name not in recording.channels]
    assert list(auxiliary.names) == kept_apart
    assert set(auxiliary.units) == {"uV"}
    expected = noise(len(names), 1000)[[names.index(name) for name in kept_apart]]
    np.testing.assert_allclose(auxiliary.segments[0], expected, atol=0.02)


def test_more_is_kept_apart_when_asked_and_unknown_names_are_left_to_the_schema(tmp_path):
    write_edf(tmp_path / "a.edf", eeg(["Fp1", "Sensor 1", "Sensor 2"]), seconds=10)
    assert only(FilesReader(), tmp_path).channels == ["Fp1", "Sensor 1", "Sensor 2"]
    assert only(FilesReader(not_eeg="Sensor 2"), tmp_path).channels == ["Fp1", "Sensor 1"]
    recording = only(FilesReader(not_eeg=("Sensor*",)), tmp_path)
    assert recording.channels == ["Fp1"]
    assert recording.auxiliary[0].names == ("Sensor 1", "Sensor 2")
    refused(FilesReader(not_eeg=("*",)), tmp_path, "none of its 3 channels is EEG")


def test_a_label_that_occurs_twice_is_refused_until_one_is_kept_apart(tmp_path):
    write_edf(tmp_path / "a.edf", eeg(["EEG F1-Ref", "EEG F2-Ref", "EEG F1-Ref"]), seconds=10)
    refused(
        FilesReader(), tmp_path, r"2 channels are labelled 'EEG F1-Ref'.*--not-eeg 'EEG F1-Ref-1'"
    )
    recording = only(FilesReader(not_eeg=("EEG F1-Ref-1",)), tmp_path)
    assert UCS.canonicalize(recording.channels) == ["F1", "F2"]
    np.testing.assert_allclose(recording.segments[0], noise(3, 1000)[:2], atol=0.02)


@pytest.mark.parametrize(
    "suffix", [".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".cnt", ".nxe", ".lay"]
)
def test_an_empty_file_is_called_empty(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    refused(FilesReader(), tmp_path, rf"a{suffix} is empty \(0 bytes\)\. Get the file again")


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize("n_bytes", [100, 5000])
def test_what_is_no_edf_is_said_to_be_none(tmp_path, suffix, n_bytes):
    (tmp_path / f"a{suffix}").write_bytes(b"garbage " * (n_bytes // 8))
    refused(FilesReader(), tmp_path, "header is not that of a whole EDF or BDF file .its ")


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_every_rate_in_a_file_stays_as_it_was_recorded(tmp_path, suffix):
    slow, fast = eeg(["Resp", "Temp"], rate=5, seed=1), eeg(["ECG"], rate=400, seed=2)
    signals = [slow[0], *eeg(["Fp1", "Cz"]), *fast, slow[1], *eeg(["EOG"], seed=3)]
    write_edf(tmp_path / f"a{suffix}", signals, seconds=10)
    recording = only(FilesReader(), tmp_path)
    assert (recording.sfreq, recording.channels) == (100, ["Fp1", "Cz"])
    np.testing.assert_allclose(recording.segments[0], noise(2, 1000), atol=0.02)
    found = {a.sfreq: (a.names, a.segments[0]) for a in recording.auxiliary}
    assert {rate: names for rate, (names, _) in found.items()} == {
        5: ("Resp", "Temp"), 400: ("ECG",), 100: ("EOG",)
    }  # fmt: skip
    np.testing.assert_allclose(found[5][1], noise(2, 50, 1), atol=0.02)
    np.testing.assert_allclose(found[400][1], noise(1, 4000, 2), atol=0.02)


def test_eeg_of_two_rates_is_refused(tmp_path):
    write_edf(tmp_path / "a.edf", [*eeg(["Fp1"]), *eeg(["Cz"], rate=50)], seconds=10)
    refused(FilesReader(), tmp_path, r"several rates \(50, 100 Hz\).*--not-eeg")
    assert only(FilesReader(not_eeg=("Fp1",)), tmp_path).sfreq == 50


def test_a_status_channel_is_no_eeg_and_keeps_its_codes(tmp_path):
    codes = np.zeros(1000)
    codes[100:200] = 5000 * 1000 / (2**23 - 1)  # in the file's digital steps
    write_edf(tmp_path / "a.bdf", [*eeg(["Fp1"]), ("Status", "Boolean", codes)], seconds=10)
    recording = only(FilesReader(), tmp_path)
    (status,) = recording.auxiliary
    assert (status.names, status.units) == (("Status",), ("",))
    assert set(np.unique(status.segments[0])) == {0, 5000}


@pytest.mark.parametrize(
    ("declared", "unit", "scale"),
    [("uV", None, 1), ("mV", None, 1e3), ("V", None, 1e6), ("", "uV", 1), ("", "mV", 1e3),
     ("nV", "nV", 1e-3), ("uV", "V", 1e6), ("mV", "uV", 1), ("xyz", "uV", 1)],
)  # fmt: skip
def test_units_come_out_as_microvolts(tmp_path, declared, unit, scale):
    write_edf(tmp_path / "a.edf", eeg(["Fp1", "Cz"], unit=declared), seconds=10)
    recording = only(FilesReader(unit=unit), tmp_path)
    np.testing.assert_allclose(recording.segments[0] / scale, noise(2, 1000), atol=0.02)


@pytest.mark.parametrize("declared", ["", "xyz", "nV"])
def test_eeg_without_a_unit_is_refused(tmp_path, declared):
    write_edf(tmp_path / "a.edf", eeg(["Fp1", "Cz"], unit=declared), seconds=10)
    refused(FilesReader(), tmp_path, "'Fp1' declares no unit of voltage .*--unit uV")


def test_an_unknown_unit_is_refused():
    for reader in (FilesReader, BidsReader):
        with pytest.raises(DataError, match="'volt' is no unit"):
            reader(unit="volt")


def test_a_signal_without_a_scale_is_refused(tmp_path):
    write_edf(tmp_path / "a.edf", eeg(["Fp1"]), seconds=10, physical_min=5, physical_max=5)
    refused(FilesReader(), tmp_path, "gives no scale for Fp1")


def test_measured_positions_are_kept_in_the_head_frame(tmp_path):
    raw = raw_array(["Fp1", "Cz", "EOG1"], types=["eeg", "eeg", "eog"])
    positions = {
        "Fp1": [0, 0.09, 0.02],
        "nasion": [0, 0.1, 0],
        "lpa": [-0.08, 0, 0],
        "rpa": [0.08, 0, 0],
    }
    points = {name: np.array(at) for name, at in positions.items()}
    fiducials = {name: points.pop(name) for name in ("nasion", "lpa", "rpa")}
    raw.set_montage(
        mne.channels.make_dig_montage(points, **fiducials, coord_frame="head"), on_missing="ignore"
    )
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    recording = only(FilesReader(), tmp_path)
    np.testing.assert_allclose(recording.positions, [[0, 0.09, 0.02], [np.nan] * 3], atol=1e-6)
    assert recording.auxiliary[0].names == ("EOG1",)


# --------------------------------------------------------------------------- whole or not


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize("lost", [1, 1000, 5000])
def test_a_truncated_file_is_refused(tmp_path, suffix, lost):
    path = write_edf(tmp_path / f"a{suffix}", eeg(["Fp1", "Cz", "O2"]), seconds=10)
    os.truncate(path, path.stat().st_size - lost)
    refused(
        FilesReader(),
        tmp_path,
        r"it holds \d whole data records and \d+ bytes .* its header says 10\. Get the",
    )


@pytest.mark.parametrize("kept", [0, 100, 300, 700])
def test_a_truncated_header_is_refused(tmp_path, kept):
    path = write_edf(tmp_path / "a.edf", eeg(["Fp1", "Cz", "O2"]), seconds=10)
    os.truncate(path, kept)
    refused(FilesReader(), tmp_path, "its header is not that of a whole|is empty")


def test_a_recording_that_was_not_ended_in_order_is_read_to_its_last_record(tmp_path):
    path = write_edf(tmp_path / "a.edf", eeg(["Fp1"]), seconds=10, n_records=-1)
    assert only(FilesReader(), tmp_path).n_times == 1000
    os.truncate(path, path.stat().st_size - 10)
    refused(FilesReader(), tmp_path, "holds 9 whole data records .* says nothing of how many")


@pytest.mark.parametrize("name", ["a.edf", "a.bdf", "a.fif", "a.set", "a.vhdr", "a.cnt", "a.gdf"])
def test_what_is_no_recording_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no recording" * 100)
    refused(FilesReader(), tmp_path, "MNE cannot read it|header is not that of a whole EDF")


def test_an_interrupted_edf_is_refused_and_one_without_gaps_is_not(tmp_path):
    for starts in (range(10), [0, 1, 2, 3, 4, 65, 66, 67, 68, 69]):
        write_edf(
            tmp_path / "a.edf", eeg(["Fp1"]), seconds=10, kind="EDF+D", record_starts=list(starts)
        )
        if starts == range(10):
            assert only(FilesReader(), tmp_path).n_times == 1000
    refused(FilesReader(), tmp_path, r"interrupted 1 times, first after 65 s \(EDF\+D\)")


def test_a_brainvision_recording_is_its_three_files(tmp_path):
    signal = write_brainvision(
        tmp_path, markers=[("Stimulus", "S  1", 101), ("Stimulus", "S  2", 501)]
    )
    reader = FilesReader(
        labels_from="annotations", events={"Stimulus/S  1": "go", "Stimulus/S  2": "stop"}
    )
    (key,) = reader.discover(tmp_path)
    assert key.files == ("a.vhdr", "a.eeg", "a.vmrk")
    recording = only(reader, tmp_path)
    np.testing.assert_allclose(recording.segments[0], signal[:2], atol=1e-4)
    np.testing.assert_allclose(recording.auxiliary[0].segments[0], signal[2:], atol=1e-4)
    assert recording.trials[["onset", "length"]].to_numpy().tolist() == [[100, 400], [500, 500]]


@pytest.mark.parametrize("named", ["as they are", "in lower case"])
def test_a_brainvision_recording_is_read_in_upper_case(tmp_path, named):
    signal = write_brainvision(
        tmp_path, markers=[("Stimulus", "S  1", 101), ("Stimulus", "S  1", 501)]
    )
    for name in ("eeg", "vmrk"):
        (tmp_path / f"a.{name}").rename(tmp_path / f"A.{name.upper()}")
    text = (tmp_path / "a.vhdr").read_bytes()
    if named == "as they are":
        text = text.replace(b"=a.eeg", b"=A.EEG").replace(b"=a.vmrk", b"=A.VMRK")
    (tmp_path / "A.VHDR").write_bytes(text.replace(b"\n", b"\r\n"))
    (tmp_path / "a.vhdr").unlink()
    reader = FilesReader(labels_from="annotations", duration=1.0)
    (key,) = reader.discover(tmp_path)
    assert key.files == ("A.VHDR", "A.EEG", "A.VMRK")
    recording = only(reader, tmp_path)
    np.testing.assert_allclose(recording.segments[0], signal[:2], atol=1e-4)
    assert recording.trials[["onset", "length"]].to_numpy().tolist() == [[100, 100], [500, 100]]


def test_an_interrupted_brainvision_recording_has_a_segment_per_piece(tmp_path):
    markers = [("New Segment", "", 1), ("Stimulus", "S  1", 101), ("New Segment", "", 401)]
    signal = write_brainvision(tmp_path, markers=[*markers, ("Stimulus", "S  1", 601)])
    recording = only(FilesReader(labels_from="annotations"), tmp_path)
    assert [segment.shape[1] for segment in recording.segments] == [400, 600]
    assert [segment.shape[1] for segment in recording.auxiliary[0].segments] == [400, 600]
    np.testing.assert_allclose(np.hstack(recording.segments), signal[:2], atol=1e-4)
    # a trial across the interruption is in two parts
    assert recording.trials[["segment", "onset", "length"]].to_numpy().tolist() == [
        [0, 100, 300], [1, 0, 200], [1, 200, 400]
    ]  # fmt: skip
    assert recording.source["interruptions"] == [4.0]
    np.testing.assert_allclose(recording.times, [[1, 3], [0, 2], [2, 4]])
    assert any("1 of 2 events go across an interruption" in note for note in recording.notes)


@pytest.mark.parametrize(
    "options", [{"markers": [("Stimulus", "S  1", 990)]}, {"data_points": 1000}]
)
def test_a_truncated_brainvision_signal_is_refused(tmp_path, options):
    write_brainvision(tmp_path, **options)
    os.truncate(tmp_path / "a.eeg", 6 * 500)
    refused(FilesReader(), tmp_path, r"its signal has 500 samples, its header and markers reach")
    (tmp_path / "a.eeg").unlink()
    refused(FilesReader(), tmp_path, r"its DataFile 'a\.eeg' is not there.*Put the file beside")


def test_a_fif_that_was_cropped_keeps_its_annotations_in_place(tmp_path):
    raw = raw_array(["Fp1", "Cz"], seconds=20).set_annotations(
        mne.Annotations([7, 12], [1, 2], ["a", "b"])
    )
    raw.set_meas_date(1e9).crop(5, None).save(tmp_path / "a_raw.fif", verbose="error")
    recording = only(FilesReader(labels_from="annotations"), tmp_path)
    assert recording.trials[["onset", "length"]].to_numpy().tolist() == [[200, 100], [700, 200]]
    np.testing.assert_allclose(recording.segments[0], noise(2, 2000)[:, 500:], atol=1e-3)


@pytest.mark.parametrize("lost", [1, 16, 100, 10_000])
def test_a_truncated_fif_is_refused(tmp_path, lost):
    raw_array(["Fp1", "Cz"], seconds=50).save(tmp_path / "a_raw.fif", verbose="error")
    os.truncate(tmp_path / "a_raw.fif", (tmp_path / "a_raw.fif").stat().st_size - lost)
    refused(FilesReader(), tmp_path, r"its chain of tags breaks at byte \d+ of")


def test_a_fif_whose_tags_lead_nowhere_or_in_circles_is_refused(tmp_path):
    path = tmp_path / "a_raw.fif"
    raw_array(["Fp1", "Cz"]).save(path, verbose="error")
    content = bytearray(path.read_bytes())
    content[52:56] = struct.pack(">i", 10**6)  # the pointer's data: 36 of the first tag, then 16
    path.write_bytes(content)
    refused(FilesReader(), tmp_path, "its directory of tags, at byte 1000000, is not there")
    content[52:56] = struct.pack(">i", -1)
    content[48:52] = struct.pack(">i", 36)  # the second tag's next one is itself
    path.write_bytes(content)
    refused(FilesReader(), tmp_path, "its chain of tags breaks at byte 36")


def test_a_fif_in_parts_is_one_recording(tmp_path):
    raw = raw_array([f"E{i}" for i in range(40)], sfreq=1000.0, seconds=30)
    raw.save(tmp_path / "a_raw.fif", split_size="2MB", verbose="error")
    (key,) = FilesReader().discover(tmp_path)
    assert len(key.files) > 2
    assert FilesReader().read(key).n_times == 30_000


def test_an_eeglab_file_is_read_and_its_boundaries_are_interruptions(tmp_path):
    signal = noise(2, 1000)
    event = np.array(
        [("go", 101.0, 0.0), ("boundary", 400.5, 3.0), ("go", 601.0, 0.0)],
        dtype=[("type", object), ("latency", float), ("duration", float)],
    )
    chanlocs = np.array([("Fp1", ""), ("Cz", "")], dtype=[("labels", object), ("type", object)])
    content = {
        "setname": "a", "nbchan": 2.0, "pnts": 1000.0, "trials": 1.0, "srate": 100.0, "xmin": 0.0,
        "data": signal.astype(np.float32), "chanlocs": chanlocs, "event": event, "icawinv": [],
        "icaweights": [], "icasphere": [], "epoch": [], "ref": "common", "comments": "",
    }  # fmt: skip
    scipy.io.savemat(tmp_path / "a.set", {"EEG": content}, appendmat=False)
    recording = only(FilesReader(events={"go": "go"}), tmp_path)
    np.testing.assert_allclose(np.hstack(recording.segments), signal, atol=1e-4)
    assert len(recording.segments) == 2
    assert recording.trials["event"].tolist() == ["go"] * len(recording.trials)
    (key,) = FilesReader().discover(tmp_path)
    np.testing.assert_allclose(
        np.hstack(FilesReader(unit="mV").read(key).segments), 1000 * signal, atol=0.1
    )


def test_reading_holds_the_signal_once_as_float32(tmp_path):
    write_edf(tmp_path / "a.edf", eeg(UCS.names[:60], rate=200, seconds=500), seconds=500)
    (key,) = FilesReader().discover(tmp_path)
    FilesReader().read(key)  # imports
    tracemalloc.start()
    recording = FilesReader().read(key)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    decoded = recording.segments[0].nbytes
    assert decoded == 60 * 100_000 * 4
    assert peak < 2 * decoded + 2**24


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.one_of(st.none(), st.integers(0, 9000)),
)
def test_a_damaged_file_gives_an_error_or_a_consistent_recording(tmp_path, suffix, edits, length):
    signals = [*eeg(["Fp1", "Cz"], rate=20), *eeg(["ECG"], rate=40)]
    path = write_edf(
        tmp_path / f"a{suffix}", signals, seconds=10, kind="EDF+C", events=[(1, 2, "T1")]
    )
    content = bytearray(path.read_bytes())
    for at, value in edits:
        content[at] = value
    path.write_bytes(bytes(content[:length]))
    for reader in (FilesReader(), FilesReader(labels_from="annotations")):
        try:
            recording = reader.read(reader.discover(tmp_path)[0]).check()
        except DataError:
            continue
        held = len(content[:length])
        assert recording.segments[0].size * (3 if suffix == ".bdf" else 2) <= held


# --------------------------------------------------------------------------- real EEG


@real
def test_eegmat_needs_a_pattern_and_no_more():
    reader = FilesReader(pattern="Subject{subject}_{condition}.edf")
    keys = reader.discover(REAL / "eegmat" / "edf_125Hz")
    assert len(keys) == 72
    recording = reader.read(keys[1]).check()
    raw = mne.io.read_raw(keys[1].paths[0], verbose="error")
    assert len(UCS.canonicalize(recording.channels)) == 19
    np.testing.assert_allclose(recording.segments[0], 1e6 * raw.get_data(), rtol=1e-6, atol=1e-4)
    assert recording.trials["condition"].tolist() == ["2"]
    labelled = FilesReader(pattern="{subject}_{condition}.edf", labels_from="subject-info.csv")
    recording = labelled.read(labelled.discover(REAL / "eegmat")[2]).check()
    assert recording.key.subject == "Subject01"
    assert recording.trials[["Age", "Count quality"]].to_numpy().tolist() == [[18, 1]]


@real
def test_eegmmidb_needs_a_pattern_and_names_for_its_events():
    reader = FilesReader(
        pattern="S{subject}R{run:04|08|12}.edf", events={"T1": "left", "T2": "right"}
    )
    keys = reader.discover(REAL / "eegmmidb")
    assert {key.run for key in keys} == {"04", "08", "12"}
    recording = reader.read(keys[0]).check()
    raw = mne.io.read_raw(keys[0].paths[0], verbose="error")
    assert len(UCS.canonicalize(recording.channels)) == 64
    np.testing.assert_allclose(recording.segments[0], 1e6 * raw.get_data(), rtol=1e-6, atol=1e-4)
    events, codes = mne.events_from_annotations(raw, verbose="error")
    asked = events[np.isin(events[:, 2], [codes["T1"], codes["T2"]])]
    assert recording.trials["onset"].tolist() == asked[:, 0].tolist()
    assert set(recording.trials["event"]) == {"left", "right"}
    assert (recording.trials["length"] == 656).all()  # 4.1 s


@real
@pytest.mark.parametrize(
    ("file", "options", "aliases", "n_chans", "sfreq", "auxiliary"),
    [
        ("mne-python_BSD-3/edf/test.bdf", {}, {}, 66, 2048, 7),
        ("mne-python_BSD-3/edf/test_bdf_stim_channel.bdf", {}, {}, 3, 500, 1),
        ("mne-python_BSD-3/edf/duplicate_channel_labels.edf", {"not_eeg": ("EEG F1-Ref-1",)}, {},
         2, 250, 1),
        ("mne-python_BSD-3/edf/test_stim_channel.edf", {}, {"sine 1 Hz": "Cz"}, 1, 200, 2),
        ("mne-python_BSD-3/edf/test_uneven_samp.edf", {"not_eeg": ("3Hz*",)},
         {"0.2Hz Blk 1/0uV": "Cz"}, 1, None, 1),
        ("mne-python_BSD-3/brainvision/test.vhdr", {"labels_from": "annotations"}, {}, 26, 1000, 6),
        ("mne-python_BSD-3/brainvision/test_bin_raw.fif", {},
         {f"EEG {i:03}": UCS.names[i] for i in range(1, 33)}, 32, 1000, 1),
        ("edfio_Apache-2.0/short_psg.edf", {}, {"EEG Fpz-Cz": "Fpz", "EEG Pz-Oz": "Pz"}, 2, 100, 5),
        ("edfio_Apache-2.0/short_psg.bdf", {}, {"EEG Fpz-Cz": "Fpz", "EEG Pz-Oz": "Pz"}, 2, 100, 5),
        ("edfio_Apache-2.0/test_subsecond.edf", {"labels_from": "annotations"}, {}, 1, 128, 0),
        ("edfio_Apache-2.0/test_subsecond.bdf", {"labels_from": "annotations"}, {}, 1, 128, 0),
    ],
)  # fmt: skip
def test_odd_files_of_other_peoples_tests_are_read(
    file, options, aliases, n_chans, sfreq, auxiliary
):
    path = REAL / "format_fixtures" / file
    reader = FilesReader(extensions=(path.name,), **options)
    recording = reader.read(reader.discover(path.parent)[0]).check()
    schema = UCS.with_options(aliases=aliases)
    assert len(schema.canonicalize(recording.channels)) == n_chans
    assert sfreq is None or recording.sfreq == sfreq
    assert sum(len(group.names) for group in recording.auxiliary) == auxiliary


@real
@pytest.mark.parametrize("file", ["edf/test.edf", "../edfio_Apache-2.0/mne_test.bdf"])
def test_a_real_file_with_an_abc_caps_names_is_refused_by_the_schema(file):
    path = (REAL / "format_fixtures" / "mne-python_BSD-3" / file).resolve()
    recording = only(FilesReader(extensions=(path.name,)), path.parent)
    with pytest.raises(DataError, match="BioSemi ABC"):
        UCS.canonicalize(recording.channels)


@real
@pytest.mark.parametrize(("file", "twin"), [("test.bdf", "test_bdf"), ("test.edf", "test_edf")])
def test_values_are_those_that_eeglab_read_from_the_same_file(file, twin):
    folder = REAL / "format_fixtures" / "mne-python_BSD-3" / "edf"
    expected = scipy.io.loadmat(folder / f"{twin}_eeglab.mat")["data"]
    (key,) = FilesReader(extensions=(file,)).discover(folder)
    recording = FilesReader().read(key).check()
    names = mne.io.read_raw(key.paths[0], verbose="error").ch_names
    rows = [names.index(name) for name in recording.channels]
    np.testing.assert_allclose(recording.segments[0], expected[rows], rtol=1e-5, atol=1e-2)


# --------------------------------------------------------------------------- BIDS


def write_bids(
    root, subject, *, session=None, task="film", run=None, acquisition=None, events=True
):
    mne_bids = pytest.importorskip("mne_bids")
    raw = raw_array(["Fp1", "Cz", "O2", "EOG1"], types=["eeg"] * 3 + ["eog"])
    raw.set_montage(make_montage(), on_missing="ignore")
    raw.info["line_freq"] = 50
    raw.info["subject_info"] = {"his_id": "someone", "sex": 2, "hand": 1}
    if events:
        raw.set_annotations(
            mne.Annotations([1, 4, 6, 8], [2, 0, 0.5, 1], ["sad", "joy", "BAD_x", "sad"])
        )
    path = mne_bids.BIDSPath(subject=subject, session=session, task=task, run=run,
                             acquisition=acquisition, root=root, datatype="eeg")  # fmt: skip
    path = mne_bids.write_raw_bids(
        raw, path, format="BrainVision", allow_preload=True, overwrite=True, verbose="error"
    )
    return path, 1e6 * raw.get_data()


def make_montage():
    names = ["Fp1", "Cz", "O2"]
    points = dict(zip(names, 0.9 * UCS.positions(names), strict=True))
    return mne.channels.make_dig_montage(
        points, nasion=[0, 0.1, 0], lpa=[-0.08, 0, 0], rpa=[0.08, 0, 0], coord_frame="head"
    )


def sidecar(path, suffix):
    return Path(path.find_matching_sidecar(suffix=suffix, extension=".tsv"))


@pytest.fixture
def bids_tree(tmp_path):
    write_bids(tmp_path, "01", session="a", run="1")
    write_bids(tmp_path, "01", session="a", run="2")
    write_bids(tmp_path, "01", session="b", task="rest", events=False)
    write_bids(tmp_path, "02", session="a", task="rest", acquisition="dry", events=False)
    shutil.copytree(tmp_path / "sub-01", tmp_path / "derivatives" / "clean" / "sub-01")
    return tmp_path


def test_a_bids_dataset_gives_its_recordings(bids_tree):
    keys = BidsReader().discover(bids_tree)
    assert [key.recording for key in keys] == [
        "sub-01_ses-a_run-film1", "sub-01_ses-a_run-film2", "sub-01_ses-b_run-rest",
        "sub-02_ses-a_run-restdry",
    ]  # fmt: skip
    assert all(path.is_file() for key in keys for path in key.paths)
    kinds = {name.rsplit("_", 1)[-1] for name in keys[0].files}
    assert kinds == {"eeg.vhdr", "eeg.eeg", "eeg.vmrk", "eeg.json", "events.tsv", "channels.tsv",
                     "electrodes.tsv", "coordsystem.json", "participants.tsv"}  # fmt: skip
    assert [key.run for key in BidsReader(task="rest").discover(bids_tree)] == ["rest", "restdry"]


def test_a_bids_recording_has_its_signal_events_person_and_history(tmp_path):
    path, signal = write_bids(tmp_path, "01")
    events = sidecar(path, "events")
    table = pd.read_csv(events, sep="\t", dtype=str, keep_default_na=False)
    table["valence"], table["length"] = ["3", "n/a", "", "4.5"], "7"
    table.to_csv(events, sep="\t", index=False)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\tgroup\nsub-02\t9\tM\tx\nsub-01\t23\tF\tn/a\n"
    )
    channels = sidecar(path, "channels")
    text = channels.read_text().replace("good", "bad", 1)
    channels.write_text(text)
    recording = only(BidsReader(), tmp_path)
    assert recording.channels == ["Fp1", "Cz", "O2"]
    np.testing.assert_allclose(recording.segments[0], signal[:3], atol=1e-3)
    np.testing.assert_allclose(recording.auxiliary[0].segments[0], signal[3:], atol=1e-3)
    np.testing.assert_allclose(
        recording.positions, 0.9 * UCS.positions(recording.channels), atol=1e-4
    )
    trials = recording.trials
    assert trials["stimulus"].tolist() == trials["trial_type"].tolist() == ["sad", "joy", "sad"]
    assert trials[["onset", "length"]].to_numpy().tolist() == [[100, 200], [400, 400], [800, 100]]
    np.testing.assert_array_equal(trials["valence"], [3, np.nan, 4.5])
    assert trials["events_length"].tolist() == [7, 7, 7]
    assert recording.participant == {"age": 23, "sex": "F"}
    assert recording.source["line_frequency"] == 50
    assert recording.source["bad_channels"] == ["Fp1"]
    assert recording.source["task"] == "film"


def test_bids_events_are_chosen_and_renamed(bids_tree):
    reader = BidsReader(task="film", events={"sad": "negative"}, duration=1)
    trials = reader.read(reader.discover(bids_tree)[0]).check().trials
    assert trials["event"].tolist() == ["negative", "negative"]
    assert trials["length"].tolist() == [100, 100]
    reader = BidsReader(events={"fear": "negative"})
    with pytest.raises(DataError, match=r"none of fear is among its events \(joy, sad\)"):
        reader.read(reader.discover(bids_tree)[0])


def test_a_bids_recording_without_events_is_one_trial(bids_tree):
    reader = BidsReader(task="rest")
    trials = reader.read(reader.discover(bids_tree)[0]).check().trials
    assert trials[["onset", "length"]].to_numpy().tolist() == [[0, 1000]]


def test_bids_datasets_that_do_not_hold_are_refused(bids_tree, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    refused(BidsReader(), empty, r"it holds no EEG as BIDS lays it out \(")
    refused(BidsReader(), empty / "nowhere", "it holds no EEG as BIDS lays it out|MNE cannot")
    refused(BidsReader(task="sleep"), bids_tree, "no EEG .* of task 'sleep'")


def test_a_bids_recording_that_does_not_hold_is_refused(tmp_path):
    path, _ = write_bids(tmp_path, "01")
    events = sidecar(path, "events")
    kept = events.read_text()
    for damaged, match in {
        kept.replace("onset", "when"): "events.tsv cannot be read",
        re.sub(r"(?m)^1.0", "n/a", kept): "an event has no onset",
        re.sub(r"(?m)^1.0", "99", kept): "event 3 lasts from 99 to 101 s",
    }.items():
        events.write_text(damaged)
        refused(BidsReader(), tmp_path, match)
    events.write_text(kept)
    signal = path.fpath.with_suffix(".eeg")
    os.truncate(signal, signal.stat().st_size // 2)
    refused(BidsReader(), tmp_path, "its signal has 500 samples|MNE cannot read it")


# --------------------------------------------------------------------------- MOABB


FAKE = {"n_subjects": "2", "n_sessions": "2", "n_runs": "1", "duration": "20", "n_events": "6",
        "seed": "7", "channels": "['Fz', 'Cz', 'Pz']"}  # fmt: skip


@pytest.mark.parametrize("events_in", ["stim", "annotations"])
def test_a_moabb_dataset_by_its_name(events_in):
    pytest.importorskip("moabb")
    found = {"stim": str(events_in == "stim"), "annotations": str(events_in == "annotations")}
    reader = MoabbReader(arguments=FAKE | found)
    keys = reader.discover("FakeDataset")
    assert [key.recording for key in keys] == [
        f"sub-{subject}_ses-{session}_run-0" for subject in (1, 2) for session in (0, 1)
    ]
    reader, keys = pickle.loads(pickle.dumps((reader, keys)))
    recording = reader.read(keys[0]).check()
    assert (recording.channels, recording.sfreq) == (["Fz", "Cz", "Pz"], 128)
    assert 18 < recording.segments[0].std() < 22  # the dataset has 20 uV of noise
    assert recording.trials["event"].tolist() == ["fake1", "fake2", "fake3"] * 2
    assert (recording.trials["length"] == 3 * 128).all()  # its interval
    assert sum(len(group.names) for group in recording.auxiliary) == (events_in == "stim")
    UCS.check_positions(recording.channels, recording.positions, where="")
    again = dict(reader.read_each(keys))
    assert list(again) == keys
    np.testing.assert_array_equal(again[keys[0]].segments[0], recording.segments[0])


def test_a_moabb_dataset_that_was_made_already():
    fake = pytest.importorskip("moabb.datasets.fake")
    dataset = fake.FakeDataset(
        n_subjects=1, n_sessions=1, n_runs=2, seed=1, duration=20, n_events=4
    )
    dataset.interval, dataset.unit_factor = [1, 2.5], 1.0
    reader = pickle.loads(pickle.dumps(MoabbReader(dataset=dataset)))
    keys = reader.discover("FakeDataset")
    assert [key.run for key in keys] == ["0", "1"]
    recording = reader.read(keys[0]).check()
    codes = recording.auxiliary[0].segments[0][0]
    # the interval begins 1 s after the event, and the last one would end after the recording
    assert recording.trials["onset"].tolist() == [at + 128 for at in np.flatnonzero(codes)]
    assert set(recording.trials["length"]) == {192}
    assert 18e-6 < recording.segments[0].std() < 22e-6  # the factor is the dataset's own


def test_moabb_datasets_that_are_not_there_are_refused():
    pytest.importorskip("moabb")
    refused(MoabbReader(), "FakeDatase", r"no dataset of that name \(nearest: FakeDataset")
    refused(MoabbReader(arguments={"colour": "1"}), "FakeDataset", "cannot be made so .*colour")


def test_a_moabb_subject_that_cannot_be_loaded_is_refused():
    fake = pytest.importorskip("moabb.datasets.fake")

    class Offline(fake.FakeDataset):
        def _get_single_subject_data(self, subject):
            raise ConnectionError("no route to host")

    with pytest.raises(DataError, match=r"subject 1: MOABB cannot load it \(ConnectionError"):
        MoabbReader(dataset=Offline(n_subjects=1)).discover("")


# --------------------------------------------------------------------------- one's own


def test_the_documented_reader_runs_as_an_installed_package(tmp_path, monkeypatch):
    text = (REPOSITORY / "docs" / "write-a-reader.md").read_text()
    code, entry_point = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1]
                         for kind in ("python", "toml"))  # fmt: skip
    assert len(code.strip().splitlines()) <= 40
    group, name, target = re.search(
        r'\[project.entry-points."(.+)"\]\n(\w+) = "(.+)"', entry_point
    ).groups()
    site = tmp_path / "site"
    (site / "omfa_csv-1.dist-info").mkdir(parents=True)
    info = site / "omfa_csv-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: omfa-csv\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    (site / f"{target.split(':')[0]}.py").write_text(code)
    monkeypatch.syspath_prepend(site)

    raw = tmp_path / "raw"
    raw.mkdir()
    signal = noise(2, 256).astype(np.float32)
    for file in ("7_happy.csv", "7_sad.csv"):
        pd.DataFrame(signal.T, columns=["FP1", "O2"]).to_csv(raw / file, index=False)
    reader = get_reader(name, sfreq=128.0)
    assert isinstance(reader, Reader)
    keys = pickle.loads(pickle.dumps(reader)).discover(raw)
    assert [key.recording for key in keys] == ["sub-7_ses-1_run-happy", "sub-7_ses-1_run-sad"]
    recording = reader.read(keys[1]).check()
    np.testing.assert_allclose(recording.segments[0], signal, rtol=1e-5)
    assert recording.sfreq == 128
    assert recording.trials[recording.labels].to_dict("records") == [{"emotion": "sad"}]
    with pytest.raises(DataError, match="csv reader"):
        reader.discover(tmp_path)

    store = tmp_path / "s.zarr"
    args = "--serial --csv-sfreq 128 --sfreq 64 --band 4 30"
    assert main([name, str(raw), str(store), *args.split()]) == 0
    settings = open_store(store).settings
    assert settings["reader"] == {"class": "CsvReader", "sfreq": 128.0}
    assert settings["preprocessing"]["sfreq"] == 64.0

    (raw / "8_calm.csv").write_text("FP1,O2\n1,x\n")
    with pytest.raises(DataError, match=r"8_calm\.csv"):
        reader.read(reader.discover(raw)[-1])
