"""FACED: its order of channels and of clips, its units, and what is said of wrong files."""

import pickle
import pickletools
import shutil
import warnings

import numpy as np
import pytest
import scipy.io

from omfa.pipeline import UCS, DataError, simulate
from omfa.pipeline.readers.corpora.faced import CHANNELS, EMOTIONS, RATINGS, FacedReader
from omfa.pipeline.readers.pickled import read_arrays
from omfa.pipeline.recording import SourceWarning, plausible_unit
from omfa.pipeline.simulation import Truth
from omfa.pipeline.simulation.formats import write_python3_pickle

TONES = {"seconds": 2, "bad_channels": 0, "tones": 80.0, "progress": False}
READER = FacedReader()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Subjects 000 and 001, each channel with a tone of its own."""
    root = tmp_path_factory.mktemp("faced") / "FACED"
    simulate("faced", root, subjects=2, **TONES)
    return root


@pytest.fixture
def copy(tree, tmp_path):
    return shutil.copytree(tree, tmp_path / "FACED")


def heard(segment, sfreq=250.0):
    """Return each channel's loudest frequency."""
    power = np.abs(np.fft.rfft(segment * np.hanning(segment.shape[1]), 5000))
    return np.fft.rfftfreq(5000, 1 / sfreq)[power.argmax(axis=1)]


def test_every_channel_of_every_clip_has_its_own_tone(tree):
    truth = Truth.load(tree)
    for key, recording in zip(READER.discover(tree), truth.recordings, strict=True):
        found = READER.read(key)
        assert key.subject == f"{recording['subject']:03d}"
        expected = [recording["tones"][name] for name in found.channels]
        for segment in found.segments:
            np.testing.assert_allclose(heard(segment), expected, atol=0.2)


def test_the_segments_are_those_of_the_pickle(tree):
    key = READER.discover(tree)[1]
    with key.paths[0].open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy: names of another version in the pickle
        stored = pickle.load(file)
    found = READER.read(key)
    assert stored.shape == (28, 32, 500)
    np.testing.assert_array_equal(np.stack(found.segments), stored.astype(np.float32))
    assert (found.sfreq, found.auxiliary, found.notes) == (250.0, [], [])
    assert found.source["reference"] == "average"
    assert found.source["band"] == [0.05, 47.0]


def test_the_ears_come_last_and_the_right_one_first():
    assert CHANNELS[-2:] == ("A2", "A1")
    assert CHANNELS[16:18] == ("CP1", "CP2")
    assert UCS.canonicalize(list(CHANNELS)) == list(CHANNELS)


def test_emotions_are_three_clips_each_and_four_neutral_ones():
    counts = {word: EMOTIONS.count(word) for word in EMOTIONS}
    assert counts.pop("neutral") == 4
    assert set(counts.values()) == {3}
    assert len(counts) == 8


@pytest.mark.parametrize("quirks", [(), ("ratings_apart",)])
def test_scores_go_with_their_clips_in_both_layouts(tmp_path, quirks):
    root = tmp_path / "FACED"
    simulate("faced", root, subjects=[7], quirks=quirks, **TONES)
    (key,) = READER.discover(root)
    trials = READER.read(key).trials
    rows = Truth.load(root).trials
    for name in ("stimulus", "emotion", *RATINGS):
        assert trials[name].tolist() == [row[name] for row in rows]
    stored = scipy.io.loadmat(key.paths[1])["After_remark"]
    assert stored.shape == (28, 1)
    shown = [int(item["vid"][0, 0]) for item in stored[:, 0]]
    assert shown != sorted(shown)
    assert [shown[int(place) - 1] for place in trials["presentation"]] == list(range(1, 29))
    np.testing.assert_array_equal(
        trials[list(RATINGS)].to_numpy()[np.array(shown) - 1],
        np.vstack([item["score"] for item in stored[:, 0]]),
    )


def test_a_pickle_in_volts_is_read_as_microvolts_and_said(tmp_path):
    root = tmp_path / "FACED"
    simulate("faced", root, subjects=2, seconds=2, quirks=("volts",), progress=False)
    plain, volts = (READER.read(key) for key in READER.discover(root))
    assert plain.notes == []
    (note,) = volts.notes
    assert "subject 1 session 1 (sub001.pkl)" in note
    assert "volts" in note
    assert plausible_unit(plain) is plausible_unit(volts) is None
    again = tmp_path / "again"
    simulate("faced", again, subjects=[2], seconds=2, progress=False)
    (key,) = READER.discover(again)
    np.testing.assert_allclose(volts.segments[9], READER.read(key).segments[9], rtol=1e-5)


def test_people_are_those_of_the_table(copy):
    found = [READER.read(key) for key in READER.discover(copy)]
    table = (copy / "Recording_info.csv").read_text().splitlines()
    for number, recording in enumerate(found):
        sub, sex, age, cohort, rate, _ = table[1 + number].split(",")
        assert sub == f"sub{number:03d}"
        assert recording.participant == {"sex": sex, "age": int(age)}
        assert recording.source["cohort"] == int(cohort)
        assert recording.source["recorded_sfreq"] == int(rate)
    (copy / "Recording_info.csv").write_text("sub,Gender,Age\nsub001,Female,n/a\n")
    assert [READER.read(key).participant for key in READER.discover(copy)] == [{}, {"sex": "F"}]
    for text, word in (
        ("who,Age\nsub000,30\n", "no column sub"),
        ("sub\n" + "x" * 200_000, "read"),
    ):
        (copy / "Recording_info.csv").write_text(text)
        recording = READER.read(READER.discover(copy)[0])
        assert recording.participant == {}
        (note,) = recording.notes
        assert "Recording_info.csv" in note
        assert word in note


def test_the_processed_folder_alone_is_read_and_so_is_one_without_ratings(tree, copy):
    inside = READER.discover(tree / "Processed_data")
    assert [key.recording for key in inside] == ["sub-000_ses-1_run-1", "sub-001_ses-1_run-1"]
    assert len(inside[0].files) == 3
    shutil.rmtree(copy / "Data/sub001")
    with pytest.warns(SourceWarning, match=r"no After_remarks\.mat for 1 subjects.*: 001"):
        keys = READER.discover(copy)
    rated, unrated = (READER.read(key).trials for key in keys)
    assert not rated.isna().any().any()
    assert unrated[[*RATINGS, "presentation"]].isna().all().all()
    assert unrated["emotion"].tolist() == list(EMOTIONS)


def instructions(data):
    """Return a pickle's instructions, without the lengths of frames and numpy's own name."""
    found = [(op.name, arg) for op, arg, _ in pickletools.genops(data) if op.name != "FRAME"]
    return [(op, "multiarray" if str(arg).endswith("multiarray") else arg) for op, arg in found]


def test_the_simulated_pickle_is_made_as_python_3_makes_it(tmp_path):
    values = np.random.default_rng(0).normal(0, 10, (28, 32, 500))
    write_python3_pickle(tmp_path / "a", values.shape, values)
    made = (tmp_path / "a").read_bytes()
    assert instructions(made) == instructions(pickle.dumps(values, protocol=4))
    assert made.count(b"\x95") >= 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_arrays_saved_otherwise_are_read(copy, protocol, dtype, order):
    values = np.random.default_rng(0).normal(0, 10, (28, 32, 300)).astype(dtype, order=order)
    key = READER.discover(copy)[0]
    key.paths[0].write_bytes(pickle.dumps(values, protocol=protocol))
    np.testing.assert_array_equal(np.stack(READER.read(key).segments), values.astype("f4"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((28, 32, 30, 5)), ["extracted features, 28 x 32 x 30 x 5", "Processed_data"]),
        (np.zeros((28, 30, 500)), ["28 x 30 x 500, expected 28 clips x 32 channels"]),
        (np.zeros((33, 500)), ["33 x 500"]),
        (np.zeros((28, 32, 0)), ["28 x 32 x 0"]),
        ({"data": np.zeros(3)}, ["something beside arrays", "Do not trust"]),
        ([1, 2], ["no array needs", "Do not trust"]),
    ],
)
def test_other_pickles_are_told(copy, values, words, told):
    first, second = READER.discover(copy)
    first.paths[0].write_bytes(pickle.dumps(values, protocol=4))
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "FACED reader: subject 0 session 1 (sub000.pkl)", *words)
    READER.read(second)


def test_a_pickle_that_calls_something_is_not_run(copy, tmp_path):
    mark = tmp_path / "run"
    key = READER.discover(copy)[0]
    key.paths[0].write_bytes(b"cos\nsystem\n(V" + f"touch {mark}".encode() + b"\ntR.")
    with pytest.raises(DataError, match="Do not trust this file"):
        READER.read(key)
    assert not mark.exists()


@pytest.mark.parametrize("n_bytes", [0, 100, 9000, -1])
def test_a_truncated_pickle_fails_alone(copy, n_bytes, told):
    first, second = READER.discover(copy)
    first.paths[0].write_bytes(first.paths[0].read_bytes()[:n_bytes])
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "subject 0", "damaged", "Download")
    READER.read(second)


class Shared:
    """Pickles to an array whose bytes another has, too."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        made, arguments, state = np.frombuffer(self.data).__reduce__()
        return made, arguments, (*state[:-1], self.data)


def test_one_stretch_of_bytes_does_not_make_many_arrays(tmp_path):
    data = bytes(1 << 21)
    for n, refused in ((1, False), (3, True)):
        arrays = {str(i): Shared(data) for i in range(n)}
        (tmp_path / "a").write_bytes(pickle.dumps(arrays, protocol=4))
        if refused:
            with pytest.raises(DataError, match="more numbers than it has"):
                read_arrays(tmp_path / "a", doing="Reading")
        else:
            assert read_arrays(tmp_path / "a", doing="Reading")["0"].nbytes == len(data)


def remarks(n=28, *, vid=None, score=None):
    """Return After_remark as scipy writes it."""
    column = np.empty((n, 1), dtype=[("score", object), ("vid", object)])
    for i in range(n):
        given = np.full((1, 12), 3.0) if score is None else score
        column[i, 0] = (given, np.array([[float(vid or i + 1)]]))
    return {"After_remark": column}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (remarks(27), ["27 scores", "expected one of each of 28"]),
        (remarks(29), ["29 scores"]),
        (remarks(vid=3), ["of the clips 3, 3, 3"]),
        (remarks(score=np.ones((1, 11))), ["11 numbers, expected 12"]),
        (remarks(score=np.full((1, 12), 7.5)), ["from 0 to 7"]),
        (remarks(score=np.full((1, 12), np.nan)), ["from 0 to 7"]),
        ({"other": np.ones(3)}, ["0 scores, of the clips none"]),
        ({"After_remark": np.ones(3)}, ["not a struct"]),
    ],
)
def test_other_ratings_are_told(copy, values, words, told):
    first, second = READER.discover(copy)
    scipy.io.savemat(first.paths[1], values)
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "subject 0", "sub000/After_remarks.mat", *words)
    READER.read(second)


def test_truncated_ratings_are_told(copy, told):
    key = READER.discover(copy)[0]
    key.paths[1].write_bytes(key.paths[1].read_bytes()[:-7])
    with pytest.raises(DataError) as caught:
        READER.read(key)
    told(caught, "sub000/After_remarks.mat", "cut short")


def test_the_wrong_corpus_and_a_renamed_folder_are_told(tmp_path, told):
    simulate("dreamer", tmp_path / "D", subjects=1, seconds=2, progress=False)
    with pytest.raises(DataError) as caught:
        READER.discover(tmp_path / "D")
    told(caught, "no file like those of FACED", "DREAMER.mat", "Processed_data")
    simulate("faced", tmp_path / "F", subjects=1, seconds=2, progress=False)
    (tmp_path / "F/Processed_data").rename(tmp_path / "F/processed (1)")
    with pytest.raises(DataError) as caught:
        READER.discover(tmp_path / "F")
    told(caught, "folder Processed_data", "processed (1)")
    assert len(READER.discover(tmp_path / "F/processed (1)")) == 1
