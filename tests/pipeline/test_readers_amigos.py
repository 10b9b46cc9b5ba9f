"""AMIGOS: cells that lack something, videos in an order of each file, and wrong files."""

import shutil

import numpy as np
import pytest
import scipy.io

from omfa.pipeline import UCS, DataError, simulate
from omfa.pipeline.readers.corpora.amigos import (
    AUXILIARY,
    CHANNELS,
    CHOICES,
    RATINGS,
    AmigosReader,
)
from omfa.pipeline.recording import SourceWarning
from omfa.pipeline.simulation import Truth

READER = AmigosReader()
SUBJECTS = [1, 2, 3, 4, 8]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Subjects with each of the faults, each channel with a tone of its own."""
    root = tmp_path_factory.mktemp("amigos") / "AMIGOS"
    simulate(
        "amigos", root, subjects=SUBJECTS, seconds=2, bad_channels=0, tones=60.0, progress=False
    )
    return root


@pytest.fixture(scope="module")
def recordings(tree):
    return {int(key.subject): READER.read(key) for key in READER.discover(tree)}


def stored(recording):
    return scipy.io.loadmat(recording.key.paths[0])


def test_every_subject_is_listed_from_either_layout(tree, tmp_path):
    names = [f"sub-{subject:02d}_ses-1_run-1" for subject in SUBJECTS]
    assert [key.recording for key in READER.discover(tree)] == names
    root = tmp_path / "A"
    simulate("amigos", root, subjects=2, seconds=2, quirks=("folder_each",), progress=False)
    keys = READER.discover(root)
    assert [key.recording for key in keys] == names[:2]
    assert keys[0].files[0].endswith("Data_Preprocessed_P01/Data_Preprocessed_P01.mat")


def test_segments_are_the_columns_of_the_cells(recordings):
    for subject in (2, 4):
        found = recordings[subject]
        cells = stored(found)["joined_data"]
        assert cells.shape == (1, 20)
        (rest,) = found.auxiliary
        assert rest.names == tuple(AUXILIARY)
        for cell, segment, other in zip(cells[0], found.segments, rest.segments, strict=True):
            assert cell.shape == (segment.shape[1], 17)
            np.testing.assert_array_equal(segment, cell[:, :14].T.astype(np.float32))
            np.testing.assert_array_equal(other, cell[:, 14:].T.astype(np.float32))
    assert UCS.canonicalize(list(CHANNELS)) == list(CHANNELS)
    assert AmigosReader(auxiliary=False).read(recordings[4].key).auxiliary == []


def test_every_channel_of_every_video_has_its_own_tone(tree, recordings):
    truth = {recording["subject"]: recording for recording in Truth.load(tree).recordings}
    for subject, found in recordings.items():
        expected = [truth[subject]["tones"][name] for name in found.channels]
        for segment in found.segments:
            whole = segment[:, ~np.isnan(segment).any(axis=0)]
            if whole.shape[1] < 512:
                continue  # three quarters are missing
            power = np.abs(np.fft.rfft(whole * np.hanning(whole.shape[1]), 2560))
            heard = np.fft.rfftfreq(2560, 1 / 128)[power.argmax(axis=1)]
            np.testing.assert_allclose(heard, expected, atol=0.2)


def test_trials_are_those_of_the_truth_by_video(tree, recordings):
    truth = Truth.load(tree).trials
    orders = set()
    for subject, found in recordings.items():
        rows = [row for row in truth if row["subject"] == subject]
        trials = found.trials
        assert trials["stimulus"].tolist() == [row["stimulus"] for row in rows]
        for name in (*RATINGS, *CHOICES):
            expected = [np.nan if row[name] is None else row[name] for row in rows]
            np.testing.assert_array_equal(trials[name], expected)
        assert (trials["length"] / 128).tolist() == [row["seconds"] for row in rows]
        assert set(trials["onset"]) == set(trials["baseline_length"]) == {640}
        names = [str(name[0]) for name in stored(found)["VideoIDs"][0]]
        orders.add(tuple(names))
        assert len(set(names)) == 20
    assert len(orders) == len(recordings)  # another order in every file
    assert recordings[4].trials["experiment"].tolist() == ["short"] * 16 + ["long"] * 4
    assert set(recordings[8].trials["experiment"]) == {"short"}


def test_cells_that_lack_something_are_said(recordings):
    empty, nan, unlabelled, whole, short = (recordings[n] for n in SUBJECTS)
    assert len(empty.trials) == 19
    (note,) = empty.notes
    assert "in cell 4 is empty and is left out" in note
    video = str(stored(empty)["VideoIDs"][0, 3][0])
    assert f"video {video} " in note
    assert video not in set(empty.trials["stimulus"])
    (note,) = nan.notes
    assert "in cell 6 lacks 75% of its EEG" in note
    assert np.isnan(nan.segments[5]).mean() == 0.75
    assert not np.isnan(nan.auxiliary[0].segments[5]).any()
    (note,) = unlabelled.notes
    assert "in cell 8 has no self-assessment" in note
    labels = unlabelled.trials[[*RATINGS, *CHOICES]]
    assert labels.iloc[7].isna().all()
    assert not labels.drop(index=7).isna().any().any()
    assert whole.notes == []
    assert len(short.notes) == 4
    assert all("is empty and is left out" in note for note in short.notes)


def test_age_and_sex_are_those_of_the_table(tree, recordings, tmp_path):
    lines = (tree / "Metadata_csv/Participant_Questionnaires.csv").read_text().splitlines()
    for subject, found in recordings.items():
        number, age, sex = lines[subject].split(",")
        assert int(number) == subject
        assert found.participant == {"age": int(age), "sex": sex[0].upper()}
    key = recordings[4].key
    shutil.copy(key.paths[0], tmp_path)
    (tmp_path / "Participant_Questionnaires.xlsx").write_bytes(b"PK")
    with pytest.warns(SourceWarning, match=r"Participant_Questionnaires\.xlsx is not read"):
        (key,) = READER.discover(tmp_path)
    assert READER.read(key).participant == {}


def rebuilt(root, recording, **changes):
    """Write a subject's file again with other variables."""
    values = {name: value for name, value in stored(recording).items() if name[0] != "_"}
    values |= changes
    path = root / recording.key.paths[0].name
    scipy.io.savemat(path, {name: value for name, value in values.items() if value is not None})
    (key,) = READER.discover(root)
    return key


def one(cells, at, value):
    """Return cells with another value in one place."""
    cells = cells.copy()
    cells[0, at] = value
    return cells


def test_a_file_saved_again_is_read_the_same(tmp_path, recordings):
    found = READER.read(rebuilt(tmp_path, recordings[3]))
    expected = recordings[3]
    assert found.trials.equals(expected.trials)
    for a, b in zip(found.segments, expected.segments, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_cell_without_a_sample_of_eeg_is_left_out_and_said(tmp_path, recordings):
    cells = stored(recordings[4])["joined_data"]
    signal = cells[0, 2].copy()
    signal[:, :14] = np.nan
    found = READER.read(rebuilt(tmp_path, recordings[4], joined_data=one(cells, 2, signal)))
    assert len(found.trials) == 19
    assert "in cell 3 has not a sample of EEG" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("joined_data", None), ["no variable joined_data", "original ones"]),
        (("VideoIDs", None), ["no variable VideoIDs"]),
        (("joined_data", np.zeros((3, 4))), ["no row of 20 cells but a numeric of 12"]),
        (("joined_data", 19), ["no row of 20 cells but a cell of 19"]),
        (("labels_selfassessment", 19), ["labels_selfassessment is no row of 20 cells"]),
        (("joined_data", np.zeros((17, 900))), ["in cell 3 is 17 x 900", "samples x 17"]),
        (("joined_data", np.zeros((900, 25))), ["in cell 3 is 900 x 25"]),
        (("joined_data", np.zeros((640, 17))), ["640 x 17, expected more than 640"]),
        (("VideoIDs", ""), ["video without a name in cell 3", "nothing says what was shown"]),
        (("VideoIDs", "N1"), ["video N1 twice"]),
        (("labels_selfassessment", np.ones((1, 11))), ["in cell 3 has 11 numbers, not 12"]),
        (("labels_selfassessment", np.zeros((1, 12))), ["is 0 0 0", "5 numbers from 1 to 9"]),
        (("labels_selfassessment", np.full((1, 12), np.nan)), ["is nan nan", "from 1 to 9"]),
        (("labels_selfassessment", np.full((1, 12), 2.0)), ["7 of 0 and 1"]),
    ],
)
def test_wrong_files_are_told(tmp_path, recordings, change, words, told):
    name, value = change
    cells = stored(recordings[4])[name]
    if isinstance(value, int):
        value = cells[:, :value]
    elif value is not None and np.shape(value) != (3, 4):
        value = one(cells, 2, value)
    with pytest.raises(DataError) as caught:
        READER.read(rebuilt(tmp_path, recordings[4], **{name: value}))
    told(caught, "AMIGOS reader: subject 4 session 1 (Data_Preprocessed_P04.mat)", *words)


def test_a_file_of_empty_cells_is_told(tmp_path, recordings):
    cells = np.empty((1, 20), object)
    for i in range(20):
        cells[0, i] = np.empty((0, 0))
    with pytest.raises(DataError, match="all of its 20 cells are empty"):
        READER.read(rebuilt(tmp_path, recordings[4], joined_data=cells))


@pytest.mark.parametrize("n_bytes", [0, 100, 50_000, -3])
def test_a_truncated_file_fails_alone(tree, tmp_path, n_bytes, told):
    root = shutil.copytree(tree, tmp_path / "A")
    first, second, *_ = READER.discover(root)
    first.paths[0].write_bytes(first.paths[0].read_bytes()[:n_bytes])
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "subject 1 session 1", "ownload")
    READER.read(second)


def test_other_folders_copies_and_original_data_are_told(tree, tmp_path, told):
    root = shutil.copytree(tree, tmp_path / "A")
    path = READER.discover(root)[0].paths[0]
    shutil.copy(path, path.with_name("Data_Preprocessed_P01 (1).mat"))
    with pytest.warns(SourceWarning, match=r"Data_Preprocessed_P01 \(1\)\.mat"):
        assert len(READER.discover(root)) == len(SUBJECTS)
    path.with_name("Data_Preprocessed_P01 (1).mat").unlink()
    (root / "again").mkdir()
    shutil.copy(path, root / "again")
    with pytest.raises(DataError) as caught:
        READER.discover(root)
    told(caught, "are both subject 01", "again/Data_Preprocessed_P01.mat", "Take one")
    (tmp_path / "B").mkdir()
    (tmp_path / "B/Data_Original_P01.mat").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        READER.discover(tmp_path / "B")
    told(caught, "no Data_Preprocessed_P01.mat", "Data_Original_P01.mat", "another source")
