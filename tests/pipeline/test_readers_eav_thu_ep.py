"""EAV and THU-EP: values by tones, their traps, and what is said when something is wrong."""

import shutil
import sys

import h5py
import numpy as np
import pytest
import scipy.io

from omfa.pipeline import DataError, ingest, open_store, simulate
from omfa.pipeline.readers import get_reader
from omfa.pipeline.recording import SourceWarning
from omfa.pipeline.simulation import Truth
from omfa.pipeline.simulation.formats import mat_numbers, mat_stack, write_mat, write_mat73


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    made = {}
    for source in ("eav", "thu-ep"):
        made[source] = tmp_path_factory.mktemp(source) / source.upper()
        simulate(source, made[source], subjects=2, seconds=2, tones=200, bad_channels=0)
    return made


@pytest.fixture
def eav(trees, tmp_path):
    return shutil.copytree(trees["eav"], tmp_path / "EAV")


@pytest.fixture
def thu_ep(trees, tmp_path):
    return shutil.copytree(trees["thu-ep"], tmp_path / "THU-EP")


def first(source, root, **options):
    reader = get_reader(source, **options)
    return reader.read(reader.discover(root)[0])


@pytest.fixture
def refused(told):
    """Check that a reader refuses the first recording of a tree with these words."""

    def check(source, root, *words):
        with pytest.raises(DataError) as caught:
            first(source, root)
        told(caught, *words)

    return check


@pytest.mark.parametrize("source", ["eav", "thu-ep"])
def test_each_channel_of_each_trial_has_its_own_tone(trees, source):
    reader, truth = get_reader(source), Truth.load(trees[source])
    keys = reader.discover(trees[source])
    assert [key.subject for key in keys] == ["01", "02"]
    for key, planted in zip(keys, truth.recordings, strict=True):
        recording = reader.read(key)
        tones = [planted["tones"][name] for name in recording.channels]
        for segment in recording.segments:
            frequency = np.fft.rfftfreq(segment.shape[1], 1 / recording.sfreq)
            power = np.abs(np.fft.rfft(segment * np.hanning(segment.shape[1])))
            assert list(frequency[power.argmax(axis=1)]) == tones


@pytest.mark.parametrize(
    ("source", "labels"),
    [("eav", ["emotion", "condition"]), ("thu-ep", ["emotion", "fear", "valence", "liking"])],
)
def test_labels_are_those_of_the_trial(trees, source, labels):
    recording = first(source, trees[source])
    rows = [row for row in Truth.load(trees[source]).trials if row["subject"] == 1]
    for name in ("stimulus", *labels):
        assert list(recording.trials[name]) == [row[name] for row in rows]


@pytest.mark.parametrize("source", ["eav", "thu-ep"])
def test_one_damaged_recording_does_not_stop_the_others(trees, tmp_path, source):
    root = shutil.copytree(trees[source], tmp_path / "raw")
    file = get_reader(source).discover(root)[0].paths[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    summary = ingest(source, root, tmp_path / "made.zarr", serial=True, progress=False)
    (failed,) = summary.having("failed")
    assert file.name in failed.reason
    assert "damaged or cut short" in failed.reason
    assert len(summary.having("stored")) == 1


# EAV


def test_eav_keeps_po9_and_po10_as_they_were_recorded(trees, tmp_path):
    ingest("eav", trees["eav"], tmp_path / "eav.zarr", subjects=["01"], serial=True, progress=False)
    store = open_store(tmp_path / "eav.zarr")
    assert {"PO9", "PO10"} <= set(store.channels)
    assert len(store.channels) == 30


def test_eav_emotions_are_equally_many_and_half_of_them_spoken(trees):
    trials = first("eav", trees["eav"]).trials
    assert set(trials.groupby(["emotion", "condition"]).size()) == {20}
    assert trials["emotion"].nunique() == 5


def test_eav_takes_names_that_are_given_and_30_of_them(trees, told):
    names = [f"EAV-{i:02d}" for i in range(1, 31)]
    assert first("eav", trees["eav"], channels=names).channels == names
    with pytest.raises(DataError) as caught:
        get_reader("eav", channels=names[:29])
    told(caught, "29 names were given, and the recordings have 30")


def write_eav(path, **arrays):
    path.unlink()
    write_mat(path, [mat_stack(a.shape, lambda a=a: [a], name) for name, a in arrays.items()])


@pytest.mark.parametrize("order", [("seg", "seg1"), ("seg1", "seg")])
def test_eav_seg1_is_preferred_where_it_has_three_axes(eav, order):
    path = eav / "EAV/subject1/EEG/subject1_eeg.mat"
    seg, seg1 = np.full((4, 30, 200), 1.0), np.full((6, 30, 200), 2.0)
    both = {"seg": seg, "seg1": seg1}
    write_eav(path, **{name: both[name] for name in order})
    assert (first("eav", eav).segments[0] == 2).all()
    both["seg1"] = seg1[:, :, 0]
    write_eav(path, **{name: both[name] for name in order})
    assert (first("eav", eav).segments[0] == 1).all()


@pytest.mark.parametrize(
    ("axes", "found"), [((2, 0, 1), "200 x 6 x 30"), ((1, 0, 2), "30 x 6 x 200")]
)
def test_eav_refuses_axes_in_another_order(eav, axes, found, refused):
    array = np.zeros((6, 30, 200)).transpose(axes)
    write_eav(eav / "EAV/subject1/EEG/subject1_eeg.mat", seg1=array)
    refused("eav", eav, f"seg1 is {found}, expected samples x 30 x 200")


def test_eav_refuses_a_file_of_something_else(eav, refused):
    write_eav(eav / "EAV/subject1/EEG/subject1_eeg.mat", eeg=np.zeros((6, 30, 200)))
    refused("eav", eav, "no array of trials seg1 or seg, but eeg (6 x 30 x 200)")


def test_eav_labels_that_are_missing_or_of_another_kind_are_refused(eav, refused):
    path = eav / "EAV/subject1/EEG/subject1_eeg_label.mat"
    one_hot = scipy.io.loadmat(path)["label"].astype(int)
    for changed, word in (
        (one_hot[:, :199], "200 trials in it and 199 in subject1_eeg_label.mat"),
        (one_hot.T, "label in subject1_eeg_label.mat is 200 x 10, expected 10 x 200"),
        (one_hot * 0, "not exactly one of the ten labels"),
        (2 * one_hot, "not exactly one of the ten labels"),
    ):
        write_mat(path, [mat_numbers(changed, "label")])
        refused("eav", eav, word)
    write_mat(path, [mat_numbers(one_hot, "labels")])
    refused("eav", eav, "no variable 'label'")
    path.unlink()
    refused("eav", eav, "there is no subject1_eeg_label.mat beside it")


def test_eav_folders_may_have_zeros_and_marks_and_no_other_subjects_number(eav, told):
    (eav / "EAV/subject2").rename(eav / "EAV/subject02__")
    (eav / "EAV/subject1").rename(eav / "EAV/subject7")
    reader = get_reader("eav")
    one, two = reader.discover(eav)
    assert reader.read(two).key.subject == "02"
    with pytest.raises(DataError) as caught:
        reader.read(one)
    told(caught, "subject 1", "its folder is called subject7, another subject's")


def test_eav_reads_a_subject_once(eav):
    shutil.copytree(eav / "EAV/subject1", eav / "EAV/subject2/copy")
    with pytest.warns(SourceWarning, match="EAV/subject2/copy/EEG/subject1_eeg.mat"):
        keys = get_reader("eav").discover(eav)
    home = "EAV/subject{0}/EEG/subject{0}_eeg.mat"
    assert [key.files[0] for key in keys] == [home.format(1), home.format(2)]


# THU-EP


def test_thu_ep_is_matlab_7_3_and_no_level_5(thu_ep, monkeypatch, refused):
    path = thu_ep / "EEG data/sub_1.mat"
    with pytest.raises(NotImplementedError):
        scipy.io.loadmat(path)
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        assert file["data"].shape == (500, 32, 28, 6)
        assert file["data"].attrs["MATLAB_class"] == b"double"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        refused("thu-ep", thu_ep, "h5py is not installed", "pip install 'omfa[hdf5]'")
    write_mat(path, [mat_numbers([[1, 2]], "data")])
    refused("thu-ep", thu_ep, "MATLAB file of level 5", "as distributed")


def test_thu_ep_has_the_ears_in_the_middle_and_the_broad_band_alone(trees):
    recording = first("thu-ep", trees["thu-ep"])
    assert recording.channels[15:19] == ["T8", "A1", "A2", "CP1"]
    with h5py.File(trees["thu-ep"] / "EEG data/sub_1.mat") as file:
        data = file["data"][:]
    np.testing.assert_allclose(recording.segments[27], data[:, :, 27, 5].T, rtol=1e-6)
    narrow = data[..., :5].sum(axis=-1)
    assert 0.9 < narrow.std() / data[..., 5].std() < 1.0


def swapped(ratings):
    """Return ratings with joy before the others, as FACED has them."""
    return ratings[[5, 7, 6, 4, 0, 1, 2, 3, 8, 9, 10, 11]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swapped, ("clips of anger are rated", "another order than the known one")),
        (lambda r: r[:, ::-1], ("clips of anger are rated",)),
        (lambda r: r.transpose(2, 1, 0), ("are 80 x 28 x 12, expected 12 x 28 x 80",)),
        (lambda r: r[:, :, :79], ("are 12 x 28 x 79",)),
        (lambda r: r * np.nan, ("an item or a clip in ratings.mat has no ratings at all",)),
    ],
)
def test_thu_ep_ratings_that_are_not_the_known_ones_are_refused(thu_ep, change, words, refused):
    path = thu_ep / "Ratings/ratings.mat"
    with h5py.File(path) as file:
        ratings = file["ratings"][:]
    write_mat73(path, "ratings", change(ratings))
    refused("thu-ep", thu_ep, *words)


def test_thu_ep_without_ratings_is_refused(thu_ep, refused):
    shutil.rmtree(thu_ep / "Ratings")
    refused("thu-ep", thu_ep, "no ratings.mat", "Copy the corpus's folder Ratings")


def test_thu_ep_a_subject_without_ratings_is_refused(thu_ep, told):
    (thu_ep / "EEG data/sub_1.mat").rename(thu_ep / "EEG data/sub_81.mat")
    reader = get_reader("thu-ep")
    two, other = reader.discover(thu_ep)
    reader.read(two)
    with pytest.raises(DataError) as caught:
        reader.read(other)
    told(caught, "ratings.mat has ratings of 80 subjects")


def test_thu_ep_reads_a_subject_once(thu_ep):
    shutil.copy(thu_ep / "EEG data/sub_1.mat", thu_ep / "EEG data/sub_01.mat")
    with pytest.warns(SourceWarning, match=r"sub_01\.mat"):
        keys = get_reader("thu-ep").discover(thu_ep)
    assert [key.files[0] for key in keys] == ["EEG data/sub_1.mat", "EEG data/sub_2.mat"]


@pytest.mark.parametrize("shape", [(6, 28, 32, 6), (6, 32, 28, 5), (6, 32, 28)])
def test_thu_ep_refuses_axes_in_another_order(thu_ep, shape, refused):
    write_mat73(thu_ep / "EEG data/sub_1.mat", "data", np.zeros(shape))
    found = " x ".join(map(str, shape))
    refused("thu-ep", thu_ep, f"its data are {found}, expected samples x 32 x 28 x 6")


def test_data_in_other_files_and_of_any_size_are_refused(thu_ep, refused):
    path = thu_ep / "EEG data/sub_1.mat"
    secret = thu_ep / "secret.bin"
    secret.write_bytes(bytes(8 * 6 * 32 * 28 * 6))

    def linked(file):
        file["data"] = h5py.ExternalLink(str(thu_ep / "EEG data/sub_2.mat"), "data")

    def stored_outside(file):
        file.create_dataset(
            "data", (6, 32, 28, 6), "f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )

    def huge(file):
        file.create_dataset("data", (10**7, 32, 28, 6), "f8", chunks=(100, 32, 28, 6))

    def text(file):
        file["data"] = "simulated"

    for make, words in (
        (linked, "no array in the file itself"),
        (stored_outside, "no array in the file itself"),
        (huge, "10000000 x 32 x 28 x 6"),
        (text, "no real numbers"),
        (lambda file: file.create_group("data"), "no array in the file itself"),
        (lambda file: None, "no variable 'data', but nothing"),
    ):
        path.unlink()
        with h5py.File(path, "w", userblock_size=512) as file:
            make(file)
        refused("thu-ep", thu_ep, words)
