"""What every reader must do. A new reader is tested by one line in ``CASES``."""

import builtins
import io
import os
import re
import shutil
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import DataError, Key, Recording, check_reader, simulate
from omfa.pipeline.reader_checks import CHECKS, Case, run_check
from omfa.pipeline.readers import READERS, folder, get_reader, reader_names
from omfa.pipeline.recording import TRIAL_COLUMNS, SourceWarning


def simulated(source, **options):
    """Return what makes a tree of a corpus."""

    def make(root):
        simulate(source, root, seconds=2, bad_channels=0, **options)

    return make


def noise():
    """Return half a minute of simulated noise, as MNE has it: 20 uV at 100 Hz."""
    import mne

    names = ["Fp1", "Cz", "O2", "EOG1"]
    info = mne.create_info(names, 100.0, ["eeg", "eeg", "eeg", "eog"])
    values = np.random.default_rng(0).normal(0, 20e-6, (len(names), 3000))
    raw = mne.io.RawArray(values, info, verbose="error")
    return raw.set_annotations(mne.Annotations([2, 10], [5, 5], ["sad", "happy"]))


def folder_of_files(root):
    root.mkdir()
    for subject in ("01", "02"):
        noise().save(root / f"{subject}_film_raw.fif", verbose="error")


def bids_dataset(root):
    mne_bids = pytest.importorskip("mne_bids")
    for subject in ("01", "02"):
        path = mne_bids.BIDSPath(subject=subject, task="film", datatype="eeg", root=root)
        mne_bids.write_raw_bids(
            noise(), path, format="BrainVision", allow_preload=True, verbose="error"
        )


def sessions_of_emotion(root):
    """Make a tree of MAHNOB-HCI without the sessions that the reader leaves out and names."""
    simulated("mahnob-hci", subjects=1)(root)
    for description in root.glob("Sessions/*/session.xml"):
        if b"feltArsl" not in description.read_bytes():
            shutil.rmtree(description.parent)


CASES = {
    # name: (what makes the tree, the reader, whether each recording has a file of its own)
    "seed": (simulated("seed", subjects=[2, 10], sessions=1), ("seed", {}), True),
    "seed-raw": (
        simulated("seed", variant="raw", subjects=1, sessions=2),
        ("seed", {"variant": "raw"}),
        True,
    ),
    "seed-iv": (simulated("seed-iv", subjects=[2], sessions=2), ("seed-iv", {}), True),
    "seed-v": (simulated("seed-v", subjects=1, sessions=2), ("seed-v", {}), True),
    "seed-vii": (simulated("seed-vii", subjects=2), ("seed-vii", {}), False),
    "seed-vii-raw": (
        simulated("seed-vii", variant="raw", subjects=[9], sessions=[2, 3]),
        ("seed-vii", {"variant": "raw"}),
        True,
    ),
    "deap": (simulated("deap", subjects=2), ("deap", {}), True),
    "deap-raw": (
        simulated("deap", variant="raw", subjects=[28]),
        ("deap", {"variant": "raw"}),
        True,
    ),
    "dreamer": (simulated("dreamer", subjects=2), ("dreamer", {}), False),
    "dreamer-json": (
        simulated("dreamer", variant="json", subjects=2),
        ("dreamer", {"variant": "json"}),
        False,
    ),
    "faced": (simulated("faced", subjects=[1, 100]), ("faced", {}), True),
    "mahnob-hci": (sessions_of_emotion, ("mahnob-hci", {}), True),
    "amigos": (simulated("amigos", subjects=2), ("amigos", {}), True),
    "eav": (simulated("eav", subjects=1), ("eav", {}), True),
    "thu-ep": (simulated("thu-ep", subjects=1), ("thu-ep", {}), True),
    "files": (
        folder_of_files,
        (
            "files",
            {"pattern": "{subject}_{what}_raw.fif", "labels_from": "annotations", "name": "mine"},
        ),
        True,
    ),
    "bids": (bids_dataset, ("bids", {"name": "mine"}), True),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    make, (name, options), own_files = CASES[request.param]
    root = tmp_path_factory.mktemp("sweep") / request.param
    make(root)
    reader = get_reader(name, **options)
    return reader, root, own_files


@pytest.fixture(scope="module")
def tried(case, tmp_path_factory):
    """Return the reader and its tree as the checks take them."""
    reader, root, _ = case
    return Case(reader, root, tmp_path_factory.mktemp("checked"))


@pytest.mark.parametrize("check", CHECKS)
def test_a_reader_keeps_what_readers_promise(tried, check):
    assert run_check(check, tried) == []


def test_the_sweep_knows_which_readers_have_a_file_for_each_recording(case, tried):
    assert tried.own_files == case[2]


def test_ratings_are_not_made_into_classes(tried):
    tables = [tried.recording.trials]
    if len(tables[0]) == 1:  # a recording for each trial
        tables = [tried.reader.read(key).trials for key in tried.keys]
    for label in {"valence", "arousal"} & set(tried.recording.labels):
        assert pd.concat(tables)[label].nunique() > 2


# A reader that breaks a promise


@dataclass(frozen=True)
class Tables:
    """A folder of SUBJECT_EMOTION.csv as write-a-reader.md has it, with a fault."""

    fault: str = ""
    name: str = field(default="tables", init=False)

    def discover(self, root):
        if self.fault == "listing":
            raise RuntimeError("no route to host")
        files = [
            path
            for path in folder.walk(Path(root))
            if re.fullmatch(r"\d+_[a-z]+\.csv", path.name.lower()) or self.fault == "copies"
        ] if Path(root).is_dir() else []  # fmt: skip
        if self.fault == "service":
            files = sorted(Path(root).rglob("*.csv"))
        if self.fault == "suffix":
            files = [path for path in files if path.suffix == ".csv"]
        if not files and self.fault == "other folders":
            return []
        if not files:
            raise DataError(f"tables reader: {root}", "no SUBJECT_EMOTION.csv", "Give another")
        if Path(root).is_dir() and self.fault != "silence":
            others = set(folder.walk(Path(root))) - set(files)
            if others:
                folder.left_out(f"tables: {root}", others, "have another name")
        if self.fault == "signals":
            [len(pd.read_csv(path)) > 200 or files.remove(path) for path in [*files]]
        if self.fault == "order":
            files = files[::-1]
        names = [(path, *path.stem.lower().split("_")[:2]) for path in files]
        return [
            Key(who, run="1" if self.fault == "names" else what.split()[0], root=str(root),
                files=(str(path.relative_to(root)),))
            for path, who, what in names
        ]  # fmt: skip

    def read(self, key):
        path = key.paths[0]
        if self.fault == "lost" and not path.exists():
            raise FileNotFoundError(path)
        if self.fault != "left":
            folder.check_there(path, where=f"tables: {path.name}")
        try:
            table = pd.read_csv(path, dtype=np.float64 if self.fault == "type" else np.float32)
        except (OSError, ValueError) as error:
            raise DataError(f"tables: {path.name}", "unreadable", "Correct it") from error
        signal = np.ascontiguousarray(table.to_numpy().T)
        if self.fault == "unit":
            signal = signal * np.float32(1e-6)
        if self.fault == "again":
            signal = signal + np.random.default_rng().normal(0, 1, signal.shape).astype(np.float32)
        if self.fault == "torch":
            import dask  # noqa: F401
        trial = dict.fromkeys(TRIAL_COLUMNS, 0) | {"length": len(table), "stimulus": ""}
        return Recording(
            key=key,
            channels=list(table.columns),
            sfreq=128.0,
            segments=[signal],
            trials=pd.DataFrame([trial | {"emotion": " sad" * (self.fault == "blanks") or "sad"}]),
            source={"files": np.int64(1)} if self.fault == "facts" else {},
        )


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    values = np.random.default_rng(0).normal(0, 20, (2, 300, 2)).round(3)
    for who, signal in zip(("7_happy", "7_sad"), values, strict=True):
        pd.DataFrame(signal, columns=["Fp1", "O2"]).to_csv(root / f"{who}.csv", index=False)
    return root


def test_a_reader_that_keeps_everything_has_no_finding(tables):
    before = sorted(tables.rglob("*"))
    assert check_reader(Tables(), tables) == []
    assert sorted(tables.rglob("*")) == before


@pytest.mark.parametrize(
    ("fault", "level", "check"),
    [
        ("listing", "must", "lists recordings that are there"),
        ("order", "must", "lists recordings that are there"),
        ("names", "must", "lists recordings that are there"),
        ("signals", "must", "lists without reading signals"),
        ("torch", "must", "reads in another process"),
        ("unit", "must", "reads a sound recording"),
        ("type", "must", "reads a sound recording"),
        ("blanks", "must", "has a trial table"),
        ("again", "must", "reads the same again"),
        ("facts", "must", "gives plain facts"),
        ("other folders", "must", "refuses other folders"),
        ("lost", "must", "names a lost file"),
        ("service", "should", "passes service folders by"),
        ("left", "should", "says what was not fetched"),
        ("suffix", "should", "takes a suffix in any case"),
        ("copies", "should", "leaves copies out, and says so"),
        ("silence", "should", "leaves copies out, and says so"),
    ],
)
def test_a_broken_promise_is_found_by_its_check(tables, fault, level, check):
    found = check_reader(Tables(fault), tables)
    assert (level, check) in {(one.level, one.check) for one in found}, found
    assert all(str(one).startswith(f"{one.level} {one.check}: ") for one in found)


def test_a_folder_that_cannot_be_tried_is_refused(tmp_path):
    with pytest.raises(DataError, match="it is no folder"):
        check_reader(Tables(), tmp_path / "absent")


# The registry


def test_every_listed_reader_can_be_made():
    assert reader_names()[: len(READERS)] == list(READERS)
    for name in ("seed", "deap", "dreamer"):
        assert get_reader(name).name == name


def test_an_unknown_reader_is_told_the_known_ones():
    with pytest.raises(DataError, match=r"there are seed, .*deap, dreamer, .*bids"):
        get_reader("sead")


def test_an_unknown_option_or_choice_is_told_the_known_ones():
    with pytest.raises(DataError, match="no option sfreq; it has variant, timing, auxiliary"):
        get_reader("seed", sfreq=1000)
    with pytest.raises(DataError, match=r"no variant 'rwa'.*Choose one of preprocessed, raw"):
        get_reader("deap", variant="rwa")
    with pytest.raises(DataError, match=r"no timing 'x'.*time\.txt, neurolm"):
        get_reader("seed", timing="x")


@pytest.fixture
def registered(monkeypatch):
    def register(*entries):
        found = [EntryPoint(name, value, "omfa.readers") for name, value in entries]
        monkeypatch.setattr("omfa.pipeline.readers.entry_points", lambda group: found)

    return register


def test_another_package_can_register_a_reader(registered):
    registered(("mine", "omfa.pipeline.readers.corpora.dreamer:DreamerReader"))
    assert reader_names()[-1] == "mine"
    assert get_reader("mine", auxiliary=False).auxiliary is False


def test_registering_twice_is_an_error_for_that_name_only(registered):
    registered(("seed", "other.package:Reader"), ("two", "a:A"), ("two", "b:B"))
    for name in ("seed", "two"):
        with pytest.raises(DataError, match="registered twice"):
            get_reader(name)
    assert get_reader("deap").name == "deap"


def copied(root, target):
    """Copy a tree; what is no recording's comes along."""
    return shutil.copytree(root, target, symlinks=True)


def listed(reader, root):
    return [(key.recording, key.files) for key in reader.discover(root)]


def is_of_a_corpus(reader):
    return type(reader).__module__.startswith("omfa.pipeline.readers.corpora")


@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_the_case_of_a_corpus_s_names_does_not_matter(case, tmp_path, change):
    reader, root, _ = case
    if not is_of_a_corpus(reader):
        pytest.skip("its names are the user's or the standard's")
    there = copied(root, tmp_path / "raw")
    for path in sorted(there.rglob("*"), reverse=True):
        path.rename(path.with_name(change(path.name)))
    keys = reader.discover(there)
    expected = reader.discover(root)
    assert [key.recording for key in keys] == [key.recording for key in expected]
    assert [len(key.files) for key in keys] == [len(key.files) for key in expected]
    one, other = reader.read(keys[0]), reader.read(expected[0])
    assert one.trials.equals(other.trials)  # labels and times are from files beside it
    assert one.participant == other.participant


def test_a_link_to_another_recording_is_no_recording_of_its_own(case, tmp_path):
    reader, root, _ = case
    if not is_of_a_corpus(reader):
        pytest.skip("test_readers_general.py has it")
    there = copied(root, tmp_path / "raw")
    first, *_, last = [reader.discover(there)[0], *reader.discover(there)]
    if first.files[0] == last.files[0]:
        pytest.skip("there is one file")
    last.paths[0].unlink()
    last.paths[0].symlink_to(first.paths[0])
    with pytest.warns(SourceWarning, match=rf"links to.*{re.escape(last.paths[0].name)}"):
        found = reader.discover(there)
    assert {key.files[0] for key in found} == {
        key.files[0] for key in reader.discover(root) if key.files[0] != last.files[0]
    }


def test_a_copy_of_a_corpus_s_folder_is_left_out_and_named(case, tmp_path):
    reader, root, _ = case
    there = copied(root, tmp_path / "raw")
    folder = reader.discover(there)[0].paths[0].parent
    if not is_of_a_corpus(reader) or folder == there:
        pytest.skip("it has no folder of recordings")
    copied(folder, folder.with_name(f"{folder.name} (1)"))
    if reader.name == "amigos":  # whose folders may have any name
        with pytest.raises(DataError, match=rf"{re.escape(folder.name)} \(1\).*both subject 01"):
            reader.discover(there)
        return
    with pytest.warns(SourceWarning, match=rf"{re.escape(folder.name)} \(1\)"):
        found = listed(reader, there)
    assert found == listed(reader, root)


def test_an_archive_beside_recordings_is_named(case, tmp_path):
    reader, root, own_files = case
    if not is_of_a_corpus(reader) or not own_files:
        pytest.skip("its recordings are all in one file, or whatever the user says")
    there = copied(root, tmp_path / "raw")
    file = reader.discover(there)[0].paths[0]
    file.with_name("the rest.zip").write_bytes(b"PK\x03\x04")
    file.with_suffix(".zip").write_bytes(b"PK\x03\x04")  # it is unpacked already
    with pytest.warns(SourceWarning, match=r"1 files are archives.*the rest\.zip$"):
        found = listed(reader, there)
    assert found == listed(reader, root)


def forbidden(monkeypatch, path):
    """Let the system refuse to open a file, whoever runs the test."""
    opened = io.open

    def refuse(file, *args, **kwargs):
        if not isinstance(file, int) and os.path.realpath(file) == os.path.realpath(path):
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)


def test_a_file_that_may_not_be_read_fails_by_name(case, tmp_path, monkeypatch):
    reader, root, _ = case
    if not is_of_a_corpus(reader):
        pytest.skip("MNE opens it")
    key = reader.discover(root)[0]
    for path in key.paths:
        with monkeypatch.context() as patch:
            forbidden(patch, path)
            try:
                notes = reader.read(key).notes
            except DataError as error:
                _, found, action = error.args
                assert f"{path.name} cannot be read (Permission denied)" in found
                assert "permissions" in action
            else:  # a table of people
                assert any(path.name in note and "Permission denied" in note for note in notes)


def test_a_folder_that_may_not_be_listed_is_named(case, tmp_path, monkeypatch):
    reader, root, _ = case
    if not is_of_a_corpus(reader):
        pytest.skip("test_readers_brought.py has it")
    folder = reader.discover(root)[0].paths[0].parent
    iterdir = Path.iterdir

    def refuse(path):
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=rf"{re.escape(str(folder))} cannot be read"):
        reader.discover(root)
