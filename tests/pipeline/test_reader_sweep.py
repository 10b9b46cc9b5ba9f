"""What every reader must do. A new reader is tested by one line in ``CASES``."""

import builtins
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import DataError, Key, Recording, simulate
from omfa.pipeline.readers import READERS, get_reader, reader_names
from omfa.pipeline.recording import TRIAL_COLUMNS, SourceWarning, plausible_unit


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
def recording(case):
    reader, root, _ = case
    return reader.read(reader.discover(root)[0])


def test_discover_is_sorted_unique_and_names_files_that_exist(case):
    reader, root, own_files = case
    keys = list(reader.discover(root))
    assert keys
    assert keys == sorted(keys)
    assert len({key.recording for key in keys}) == len(keys)
    assert all(isinstance(key, Key) and key.files for key in keys)
    assert all(path.is_file() for key in keys for path in key.paths)
    if own_files:
        assert len({key.files[0] for key in keys}) == len(keys)
    assert keys == list(reader.discover(str(root)))  # a str, and again


def test_discover_needs_no_signal(case, tmp_path):
    reader, root, own_files = case
    if not own_files:
        pytest.skip("the one file tells how many recordings it holds")
    keys = reader.discover(root)
    for key in keys:
        for i, (name, path) in enumerate(zip(key.files, key.paths, strict=True)):
            target = tmp_path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes()[: None if i else 2048])
    assert [key.recording for key in reader.discover(tmp_path)] == [key.recording for key in keys]


def copied(root, target):
    """Copy a tree; what is no recording's comes along."""
    return shutil.copytree(root, target, symlinks=True)


def listed(reader, root):
    return [(key.recording, key.files) for key in reader.discover(root)]


SERVICE = (
    *(".git/annex", ".snapshot", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", "derivatives"),
    *("__MACOSX", "#snapshot", "~snapshot", "@Recycle", "RECYCLER", "System Volume Information"),
    "__pycache__",
)


def test_service_folders_hold_no_recordings(case, tmp_path):
    reader, root, _ = case
    there = copied(root, tmp_path / "raw")
    for name in SERVICE:
        copied(root, there / name / "copy")
    assert listed(reader, there) == listed(reader, root)


def test_links_to_folders_are_followed_once(case, tmp_path):
    reader, root, _ = case
    there = tmp_path / "raw"
    there.mkdir()
    for path in root.iterdir():
        (there / path.name).symlink_to(path)
    (there / "loop").symlink_to(there)
    (there / "out").symlink_to(tmp_path)
    assert listed(reader, there) == listed(reader, root)
    key = reader.discover(there)[0]
    reader.read(key).check()


LEFT = {
    "pointer": (b"/annex/objects/MD5E-s9--0.edf\n", "was not fetched"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "was not fetched"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "is compressed by gzip"),
    "zip": (b"PK\x03\x04" + bytes(99), "is a ZIP archive"),
    "page": (b"<!DOCTYPE html><p>Sign in", "is a web page"),
}


@pytest.mark.parametrize("left", ["link", *LEFT])
def test_a_recording_that_was_not_fetched_is_listed_and_fails_by_name(case, tmp_path, left):
    reader, root, _ = case
    there = copied(root, tmp_path / "raw")
    file = reader.discover(there)[0].paths[0]
    file.unlink()
    if left == "link":
        file.symlink_to("../.git/annex/objects/x/y/MD5E-s9--0.edf/MD5E-s9--0.edf")
    else:
        file.write_bytes(LEFT[left][0])
    what = LEFT.get(left, ("", "was not fetched"))[1]

    def first():
        keys = reader.discover(there)
        assert [key.recording for key in keys] == [key.recording for key in reader.discover(root)]
        return reader.read(keys[0])

    with pytest.raises(DataError, match=rf"{re.escape(file.name)}.*{what}"):
        first()


def test_the_case_of_a_suffix_does_not_matter(case, tmp_path):
    reader, root, _ = case
    there = copied(root, tmp_path / "raw")
    file = reader.discover(there)[0].paths[0]
    file.rename(file.with_suffix(file.suffix.upper()))
    keys = reader.discover(there)
    assert [key.recording for key in keys] == [key.recording for key in reader.discover(root)]
    found, expected = reader.read(keys[0]), reader.read(reader.discover(root)[0])
    assert found.channels == expected.channels
    for one, other in zip(found.segments, expected.segments, strict=True):
        np.testing.assert_array_equal(one, other)


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


def test_a_copy_that_is_named_otherwise_is_left_out_and_named(case, tmp_path):
    reader, root, _ = case
    there = copied(root, tmp_path / "raw")
    file = reader.discover(there)[0].paths[0]
    copy = file.with_name(f"{file.stem} (1){file.suffix}")
    shutil.copy(file, copy)
    with pytest.warns(SourceWarning, match=re.escape(copy.name)):
        found = listed(reader, there)
    assert found == listed(reader, root)


def test_reader_and_keys_pickle(case):
    reader, root, _ = case
    keys = reader.discover(root)
    again, same_keys = pickle.loads(pickle.dumps((reader, keys)))
    assert again == reader
    assert same_keys == keys
    assert hash(again) == hash(reader)


def test_a_reader_without_its_options_is_the_same_in_another_process(case):
    reader, root, _ = case
    key = reader.discover(root)[0]
    code = (
        "import pickle, sys; reader, key = pickle.load(sys.stdin.buffer); "
        "print(reader.read(key).n_times, 'torch' in sys.modules, 'dask' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((reader, key)), capture_output=True
    )
    n_times, torch, dask = done.stdout.split()
    assert int(n_times) == reader.read(key).n_times
    assert (torch, dask) == (b"False", b"False")


def test_read_gives_a_sound_recording_in_microvolts(recording):
    assert isinstance(recording, Recording)
    assert recording.check() is recording
    assert plausible_unit(recording) is None
    assert {segment.dtype for segment in recording.segments} == {np.dtype(np.float32)}


def test_trials_have_every_column_and_raw_labels(recording):
    assert set(TRIAL_COLUMNS) <= set(recording.trials.columns)
    assert len(recording.trials)
    assert all(isinstance(stimulus, str) for stimulus in recording.trials["stimulus"])
    for name in recording.trials:  # blanks around a text are no part of it
        texts = [text for text in recording.trials[name] if isinstance(text, str)]
        assert texts == [text.strip() for text in texts]
    assert all(isinstance(note, str) for note in recording.notes)


def test_ratings_are_not_made_into_classes(case, recording):
    reader, root, _ = case
    tables = [recording.trials]
    if len(recording.trials) == 1:  # a recording for each trial
        tables = [reader.read(key).trials for key in reader.discover(root)]
    for label in {"valence", "arousal"} & set(recording.labels):
        assert pd.concat(tables)[label].nunique() > 2


def test_auxiliary_channels_run_beside_the_segments(recording):
    for group in recording.auxiliary:
        assert len(group.names) == len(group.units)
        assert not set(group.names) & set(recording.channels)
        for rest, segment in zip(group.segments, recording.segments, strict=True):
            assert rest.shape[0] == len(group.names)
            seconds = segment.shape[1] / recording.sfreq
            assert abs(rest.shape[1] / group.sfreq - seconds) <= 1 / recording.sfreq


def test_a_second_read_is_equal(case, recording):
    reader, _, _ = case
    again = reader.read(recording.key)
    for a, b in zip(again.segments, recording.segments, strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.trials.equals(recording.trials)
    assert (again.channels, again.source) == (recording.channels, recording.source)


def test_read_each_equals_read(case):
    reader, root, _ = case
    if not hasattr(reader, "read_each"):
        pytest.skip("one recording a file")
    keys = list(reader.discover(root))
    found = dict(reader.read_each(keys))
    assert list(found) == keys
    for key in keys:
        for one, other in zip(found[key].segments, reader.read(key).segments, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_participant_and_the_history_are_plain(recording):
    import json

    json.dumps([dict(recording.participant), dict(recording.source)])


@pytest.mark.parametrize("what", ["absent", "empty", "other"])
def test_a_folder_of_something_else_is_told_in_three_parts(case, tmp_path, what):
    reader, _, _ = case
    root = tmp_path / what
    if what != "absent":
        root.mkdir()
    if what == "other":
        (root / "holiday.txt").write_text("nothing of EEG")
    with pytest.raises(DataError) as caught:
        reader.discover(root)
    doing, found, action = caught.value.args
    assert str(root) in doing + found
    assert found
    assert action


def test_a_file_that_went_away_is_a_data_error(case):
    reader, root, _ = case
    key = reader.discover(root)[0]
    lost = Key(key.subject, key.session, key.run, ("nowhere/s99.xyz", *key.files[1:]), str(root))
    with pytest.raises(DataError):
        reader.read(lost)


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
