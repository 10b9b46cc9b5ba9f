"""SEED, DEAP and DREAMER: their quirks, and what is said when something is wrong."""

import io
import json
import os
import pickle
import shutil
import warnings
from dataclasses import dataclass

import mne
import numpy as np
import pandas as pd
import pytest
import scipy.io

from omfa.pipeline import UCS, DataError, simulate
from omfa.pipeline.readers.corpora import deap, dreamer, seed
from omfa.pipeline.readers.corpora.deap import DeapReader
from omfa.pipeline.readers.corpora.dreamer import DreamerReader
from omfa.pipeline.readers.corpora.seed import SeedReader
from omfa.pipeline.readers.pickled import read_arrays
from omfa.pipeline.simulation import Truth
from omfa.pipeline.simulation.formats import BdfChannel, write_bdf, write_cnt

SEED_LABELS = [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]


def truth_rows(root, key, stimuli):
    rows = [
        row
        for row in Truth.load(root).trials
        if f"{row['subject']:02d}" == key.subject and str(row["session"]) == key.session
    ]
    return [row for row in rows if row["stimulus"] in set(stimuli)]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Make simulated trees, each once."""
    made = {}

    def tree(source, **options):
        name = repr((source, sorted(options.items())))
        if name not in made:
            made[name] = tmp_path_factory.mktemp(source) / source.upper()
            simulate(source, made[name], seconds=2, bad_channels=0, **options)
        return made[name]

    return tree


@pytest.fixture
def copy(trees, tmp_path):
    """Copy a simulated tree, to damage it."""

    def make(source, **options):
        return shutil.copytree(trees(source, **options), tmp_path / source.upper())

    return make


def only(reader, root):
    (key,) = reader.discover(root)
    return key


# --- SEED


def small_seed(root, *, names=("1_20131027",), prefix="djc_eeg{}", n=3, labels=(1, 0, -1), T=401):
    """Write a little SEED with scipy."""
    folder = root / "Preprocessed_EEG"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        trials = {prefix.format(i): 10 * rng.standard_normal((62, T)) for i in range(1, n + 1)}
        scipy.io.savemat(folder / f"{name}.mat", trials, do_compression=True)
    if labels is not None:
        scipy.io.savemat(folder / "label.mat", {"label": np.array([labels])})
    return folder


def test_seed_trials_are_those_of_the_file_in_numeric_order(trees):
    root = trees("seed", subjects=[10], sessions=1)
    key = only(SeedReader(), root)
    recording = SeedReader().read(key)
    stored = scipy.io.loadmat(key.paths[0])
    for i, segment in enumerate(recording.segments, 1):
        np.testing.assert_array_equal(segment, stored[f"ww_eeg{i}"].astype(np.float32))
        assert segment.shape[1] % 200 == 1  # both end points
    assert recording.sfreq == 200
    assert UCS.canonicalize(recording.channels) == list(UCS.names[:62])
    assert recording.trials["emotion"].tolist() == SEED_LABELS
    assert recording.trials["stimulus"].tolist() == [str(i) for i in range(1, 16)]
    assert recording.participant == {"sex": "F"}
    assert recording.source["band"] == [0, 75]


def test_seed_accepts_both_trees_and_every_root(trees):
    new = trees("seed", subjects=[10], sessions=1)
    old = trees("seed", subjects=[10], sessions=1, quirks=("old_layout",))
    roots = [new, new / "SEED_EEG", new / "SEED_EEG/Preprocessed_EEG", new.parent, old]
    names = [[key.recording for key in SeedReader().discover(root)] for root in roots]
    assert names == [["sub-10_ses-1_run-1"]] * 5


def test_seed_finds_the_labels_in_the_parent_folder(tmp_path):
    folder = small_seed(tmp_path)
    (folder / "label.mat").rename(tmp_path / "label.mat")
    for root in (tmp_path, folder):
        assert SeedReader().read(only(SeedReader(), root)).trials["emotion"].tolist() == [1, 0, -1]


def test_seed_sessions_are_the_ranks_of_dates_and_known_dates_keep_theirs(tmp_path):
    # 2 has all sessions, 10 only its second and third, 99 is not in the release.
    dates = ["2_20140419", "2_20140404", "2_20140413", "10_20131211", "10_20131204"]
    small_seed(tmp_path, names=[*dates, "99_20250101", "99_20240101"])
    (tmp_path / "Preprocessed_EEG/.DS_Store").write_text("")
    (tmp_path / "Preprocessed_EEG/readme.txt").write_text("")
    found = {
        key.files[0].split("/")[1][:-4]: key.recording for key in SeedReader().discover(tmp_path)
    }
    assert found == {
        "2_20140404": "sub-02_ses-1_run-1",
        "2_20140413": "sub-02_ses-2_run-1",
        "2_20140419": "sub-02_ses-3_run-1",
        "10_20131204": "sub-10_ses-2_run-1",
        "10_20131211": "sub-10_ses-3_run-1",
        "99_20240101": "sub-99_ses-1_run-1",
        "99_20250101": "sub-99_ses-2_run-1",
    }


def test_seed_files_named_by_person_are_known_by_their_variables(tmp_path):
    small_seed(tmp_path, names=["dujingcheng_20131027"], prefix="djc_eeg{}")
    small_seed(tmp_path, names=["somebody_20131027"], prefix="xx_eeg{}")
    keys = SeedReader().discover(tmp_path)
    assert [key.subject for key in keys] == ["01", "somebody"]
    assert SeedReader().read(keys[1]).participant == {}


def test_seed_leaves_out_an_old_copy_of_a_numbered_file_and_says_so(tmp_path):
    small_seed(tmp_path, names=["1_20131027", "dujingcheng_20131027"])
    with pytest.warns(UserWarning, match="1_20131027.mat and dujingcheng_20131027.mat are both"):
        key = only(SeedReader(), tmp_path)
    assert key.files[0].endswith("1_20131027.mat")


@pytest.mark.parametrize("prefix", ["eeg_{}", "eeg{}", "a_b2_eeg{}"])
def test_seed_accepts_any_prefix_and_the_documented_names(tmp_path, prefix):
    small_seed(tmp_path, prefix=prefix, n=12, labels=[1] * 12)
    recording = SeedReader().read(only(SeedReader(), tmp_path))
    assert recording.trials["stimulus"].tolist() == [str(i) for i in range(1, 13)]


def test_seed_accepts_labels_in_the_recordings_own_file(tmp_path):
    folder = small_seed(tmp_path, labels=None)
    path = folder / "1_20131027.mat"
    values = {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != "_"}
    scipy.io.savemat(path, values | {"labels": np.array([[-1, 0, 1]])})
    assert SeedReader().read(only(SeedReader(), tmp_path)).trials["emotion"].tolist() == [-1, 0, 1]


def test_seed_nan_passes(tmp_path):
    folder = small_seed(tmp_path, n=1, labels=[1])
    signal = np.zeros((62, 401))
    signal[3, 5] = np.nan
    scipy.io.savemat(folder / "1_20131027.mat", {"djc_eeg1": signal})
    (segment,) = SeedReader().read(only(SeedReader(), tmp_path)).segments
    assert np.flatnonzero(np.isnan(segment)).tolist() == [3 * 401 + 5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 2}, ["subject 1 session 1 (1_20131027.mat)", "2 trials, expected 3; 3 missing"]),
        ({"labels": [1, 0]}, ["3 trials, expected 2"]),
        ({"labels": None}, ["no label.mat", "Copy label.mat"]),
        ({"labels": [1, 0, 7]}, ["not all -1, 0 or 1"]),
        ({"prefix": "de_movingAve{}"}, ["extracted features", "Preprocessed_EEG"]),
        ({"prefix": "a{}"}, ["0 trials, expected 3"]),
        ({"T": 1}, ["trial 1 is 62 x 1, expected 62 x samples"]),
    ],
)
def test_seed_faults_are_told(tmp_path, change, words, told):
    small_seed(tmp_path, **change)
    with pytest.raises(DataError) as caught:
        SeedReader().read(only(SeedReader(), tmp_path))
    told(caught, *words)


def test_seed_wrong_shape_and_a_trial_twice(tmp_path, told):
    folder = small_seed(tmp_path, n=1, labels=[1])
    for values, words in (
        ({"djc_eeg1": np.zeros((401, 62))}, "401 x 62, expected 62 x"),
        ({"a_eeg1": np.zeros((62, 9)), "b_eeg1": np.zeros((62, 9))}, "trial 1 twice"),
    ):
        scipy.io.savemat(folder / "1_20131027.mat", values)
        with pytest.raises(DataError) as caught:
            SeedReader().read(only(SeedReader(), tmp_path))
        told(caught, words)


@pytest.mark.parametrize("n_bytes", [0, 60, 4000, -1])
def test_seed_truncated_file_fails_alone(tmp_path, n_bytes, told):
    folder = small_seed(tmp_path, names=["1_20131027", "1_20131030"])
    path = folder / "1_20131030.mat"
    path.write_bytes(path.read_bytes()[:n_bytes])
    keys = SeedReader().discover(tmp_path)
    assert len(keys) == 2
    SeedReader().read(keys[0])
    with pytest.raises(DataError) as caught:
        SeedReader().read(keys[1])
    told(caught, "subject 1 session 2 (1_20131030.mat)", "ownload")


def test_seed_hdf5_is_refused(tmp_path, told):
    folder = small_seed(tmp_path)
    (folder / "1_20131027.mat").write_bytes(b"\x89HDF\r\n\x1a\n".ljust(900))
    with pytest.raises(DataError) as caught:
        SeedReader().read(only(SeedReader(), tmp_path))
    told(caught, "HDF5", "save -v7")


def test_seed_in_two_places_is_ambiguous(tmp_path, told):
    small_seed(tmp_path / "a")
    small_seed(tmp_path / "b")
    with pytest.raises(DataError) as caught:
        SeedReader().discover(tmp_path)
    told(caught, "2 folders", "Give one")


@pytest.mark.parametrize("reader", [SeedReader(), SeedReader("raw"), DeapReader(), DreamerReader()])
def test_the_wrong_corpus_is_told(trees, reader, told):
    wrong = {"seed": "deap", "deap": "dreamer", "dreamer": "deap"}[reader.name]
    options = {} if wrong == "seed" else {"subjects": 1}
    with pytest.raises(DataError) as caught:
        reader.discover(trees(wrong, **options))
    told(caught, reader.name.upper(), "unpacked to", "or another source or variant")


# --- raw SEED


def small_cnt(path, *, names=(), sfreq=1000, n_times=3000, events=((250, 1),), last=()):
    """Write a Neuroscan file of SEED's channels in another order."""
    channels = [*names] or [*reversed(seed.CHANNELS), "M1", "M2", "VEO", "HEO", *last]
    digits = np.random.default_rng(0).integers(-1500, 1500, (len(channels), n_times))
    path.parent.mkdir(parents=True, exist_ok=True)
    heads = dict.fromkeys(channels, (0.0, 0.0))
    write_cnt(path, heads, [digits.astype(np.int32)], sfreq=sfreq, events=events)
    return path


def raw_seed(root, *, starts=(100, 1500), ends=(1100, 2900), labels=(1, -1), **options):
    folder = root / "SEED_RAW_EEG"
    small_cnt(folder / "1_1.cnt", **options)
    text = "start_point_list = [{}];\nend_point_list = [{}];\n#1000Hz\n"
    (folder / "time.txt").write_text(
        text.format(*(", ".join(map(str, points)) for points in (starts, ends)))
    )
    scipy.io.savemat(root / "label.mat", {"label": np.array([labels])})
    return folder


def test_seed_raw_equals_mne_by_name_with_other_channels_apart(trees):
    options = {"subjects": 1, "sessions": 1, "quirks": ("ecg", "no_sample_count")}
    root = trees("seed", variant="raw", **options)
    key = only(SeedReader("raw"), root)
    recording = SeedReader("raw").read(key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MNE's layout of the electrodes
        raw = mne.io.read_raw_cnt(key.paths[0], data_format="int32", verbose="error")
    theirs = raw.get_data(picks=list(seed.CHANNELS)) * 1e6
    np.testing.assert_allclose(recording.segments[0], theirs, rtol=1e-6, atol=1e-4)
    (rest,) = recording.auxiliary
    assert rest.names == ("M1", "M2", "VEO", "HEO", "ECG")
    np.testing.assert_allclose(
        rest.segments[0], raw.get_data(picks=list(rest.names)) * 1e6, rtol=1e-6, atol=1e-4
    )
    rows = truth_rows(root, key, recording.trials["stimulus"])
    assert (recording.trials["length"] / 1000).tolist() == [row["seconds"] for row in rows]
    assert recording.trials["emotion"].tolist() == SEED_LABELS
    assert recording.source["first_trigger"] > recording.source["first_start"]


def test_seed_raw_without_auxiliary(tmp_path):
    raw_seed(tmp_path)
    reader = SeedReader("raw", auxiliary=False)
    assert reader.read(only(reader, tmp_path)).auxiliary == []


def test_seed_raw_timing_tables(tmp_path):
    raw_seed(tmp_path)
    reader = SeedReader("raw")
    recording = reader.read(only(reader, tmp_path))
    assert recording.trials["onset"].tolist() == [100, 1500]  # and not the 1000 of the remark
    assert recording.trials["length"].tolist() == [1000, 1400]
    assert [len(table[0]) for table in (seed.TIME_TXT, seed.NEUROLM)] == [15, 15]
    seconds = np.diff(np.array(seed.TIME_TXT), axis=0).ravel() / 1000
    assert seconds.sum() == 3394
    assert np.diff(np.array(seed.NEUROLM), axis=0).sum() == 3433


def test_seed_raw_tables_reach_their_trials(tmp_path):
    # A recording of full length, of two bytes in a sparse file: only the onsets are looked at.
    folder = raw_seed(tmp_path, labels=SEED_LABELS)
    path = folder / "1_1.cnt"
    data_onset, frame = 900 + 75 * 66, 4 * 66
    with path.open("r+b") as file:
        file.seek(886)
        file.write((data_onset + frame * 3_807_000).to_bytes(4, "little"))
        file.truncate(data_onset)
        file.seek(data_onset + frame * 3_807_000)
        file.write(b"\2" + bytes(8))
    for timing, first, told_by in (
        ("time.txt", 27_000, "time.txt as published"),
        ("neurolm", 24_000, "NeuroLM's table"),
    ):
        (folder / "time.txt").unlink(missing_ok=True)
        reader = SeedReader("raw", timing)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "omfa.pipeline.readers.neuroscan.NeuroscanFile.signal",
                lambda self, picks: np.broadcast_to(np.float32(0), (len(picks), self.n_times)),
            )
            recording = reader.read(only(reader, tmp_path))
        assert recording.trials["onset"].iloc[0] == first
        assert recording.source["timing"] == told_by
        assert len(recording.trials) == 15


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ends": (1100, 5000)}, ["ends after 3 s", "last trial at 5 s"]),
        ({"labels": (1, 0, -1)}, ["2 trials in the timing table and 3 labels"]),
        ({"starts": (100,)}, ["1 starts and 2 ends"]),
        ({"starts": (100, 1000)}, ["no trials in a row"]),
        ({"sfreq": 500}, ["500 Hz, expected 1000 Hz"]),
        ({"names": ["FP1", "FPZ"]}, ["no channels are called FP2"]),
    ],
)
def test_seed_raw_faults_are_told(tmp_path, options, words, told):
    raw_seed(tmp_path, **options)
    with pytest.raises(DataError) as caught:
        SeedReader("raw").read(only(SeedReader("raw"), tmp_path))
    told(caught, "subject 1 session 1 (1_1.cnt)", *words)


def test_seed_raw_duplicate_channel_is_told(tmp_path, told):
    path = raw_seed(tmp_path) / "1_1.cnt"
    data = bytearray(path.read_bytes())
    data[900:910] = b"CB1".ljust(10, b"\0")  # the first channel, CB2
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        SeedReader("raw").read(only(SeedReader("raw"), tmp_path))
    told(caught, "2 channels are called CB1")


@pytest.mark.parametrize("n_bytes", [100, 2000, 300_000, -5])
def test_seed_raw_truncation_is_told(tmp_path, n_bytes, told):
    path = raw_seed(tmp_path) / "1_1.cnt"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DataError) as caught:
        SeedReader("raw").read(only(SeedReader("raw"), tmp_path))
    told(caught, "Download")


# --- DEAP


def test_deap_trials_are_those_of_the_pickle(trees):
    root = trees("deap", subjects=1)
    key = only(DeapReader(), root)
    recording = DeapReader().read(key)
    with key.paths[0].open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy: names of another version in the pickle
        stored = pickle.load(file, encoding="latin1")
    np.testing.assert_array_equal(
        np.stack(recording.segments), stored["data"][:, :32].astype(np.float32)
    )
    (rest,) = recording.auxiliary
    np.testing.assert_array_equal(rest.segments[39], stored["data"][39, 32:].astype(np.float32))
    assert rest.names[:2] == ("hEOG", "vEOG")
    trials = recording.trials
    np.testing.assert_array_equal(trials[list(deap.RATINGS)], stored["labels"])
    assert trials["stimulus"].tolist() == [str(i) for i in range(1, 41)]
    assert set(trials["baseline_length"]) == {384} == set(trials["onset"])
    assert recording.channels == list(deap.CHANNELS)
    assert recording.source["band"] == [4, 45]


class Evil:
    """Pickles to a call of ``os.system``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def with_pickle(root, data):
    folder = root / "data_preprocessed_python"
    folder.mkdir(exist_ok=True)
    (folder / "s01.dat").write_bytes(data)
    return DeapReader().discover(root)[0]


@pytest.mark.parametrize("protocol", range(5))
def test_deap_hostile_pickle_is_refused_and_not_run(tmp_path, protocol, told):
    mark = tmp_path / "run"
    for evil in (Evil(f"touch {mark}"), {"data": Evil(f"touch {mark}"), "labels": 1}):
        key = with_pickle(tmp_path, pickle.dumps(evil, protocol=protocol))
        with pytest.raises(DataError) as caught:
            DeapReader().read(key)
        told(caught, "subject 1", "Do not trust this file")
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nload\n(U\x01xtR.",
        b"cbuiltins\neval\n(U\x011tR.",
        b"cnumpy\nndarray\n)\x81.",  # NEWOBJ
        b"cnumpy\nndarray\n)R.",
        b"(cos\nsystem\nU\x02lso.",  # OBJ
        b"(U\x02lsios\nsystem\n.",  # INST
        b"\x82\x01.",  # EXT1
        b"U\x01xQ.",  # PERSID
        b"cnumpy\ndtype\n(U\x01O\x85R.",
        b"}}b.",  # BUILD of a dict
    ],
)
def test_deap_other_instructions_are_refused(tmp_path, program):
    (tmp_path / "a").write_bytes(b"\x80\x02" + program)
    with pytest.raises(DataError):
        read_arrays(tmp_path / "a", doing="x")


def test_deap_object_arrays_are_refused(tmp_path):
    array = np.array([{"a": 1}], dtype=object)
    (tmp_path / "a").write_bytes(pickle.dumps({"data": array}, protocol=4))
    with pytest.raises(DataError):
        read_arrays(tmp_path / "a", doing="x")


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", "i2", "u1"])
def test_deap_pickles_saved_again_by_python_3_are_read(tmp_path, protocol, order, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    (tmp_path / "a").write_bytes(pickle.dumps({"x": array}, protocol=protocol))
    np.testing.assert_array_equal(read_arrays(tmp_path / "a", doing="x")["x"], array)


def deap_arrays(n_times=400, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "labels": np.round(rng.uniform(1, 9, (40, 4)), 2),
        "data": 10 * rng.standard_normal((40, 40, n_times)),
    }
    return arrays | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": np.zeros((39, 40, 400))}, "39 x 40 x 400, expected 40 trials x 40 channels"),
        ({"data": np.zeros((40, 32, 400))}, "40 x 32 x 400"),
        ({"data": np.zeros((40, 40, 384))}, "more than 384 samples"),
        ({"data": np.zeros(9)}, "its data are 9"),
        ({"labels": np.ones((39, 4))}, "labels are 39 x 4, expected 40 x 4"),
        ({"labels": np.zeros((40, 4))}, "valence of trial 1 is 0.0, off the scale"),
        ({"labels": np.full((40, 4), np.nan)}, "off the scale"),
    ],
)
def test_deap_faults_are_told(tmp_path, changes, words, told):
    key = with_pickle(tmp_path, pickle.dumps(deap_arrays(**changes), protocol=4))
    with pytest.raises(DataError) as caught:
        DeapReader().read(key)
    told(caught, "DEAP reader: subject 1 session 1 (s01.dat)", words, "Download")


def test_deap_missing_array_and_nan(tmp_path):
    key = with_pickle(tmp_path, pickle.dumps({"data": np.zeros(3)}, protocol=4))
    with pytest.raises(DataError, match="no array labels"):
        DeapReader().read(key)
    data = np.zeros((40, 40, 400))
    data[2, 3, 4] = np.nan
    key = with_pickle(tmp_path, pickle.dumps(deap_arrays(data=data), protocol=4))
    assert np.isnan(DeapReader().read(key).segments[2][3, 4])


def test_deap_truncated_pickle_is_told(trees, tmp_path, told):
    whole = only(DeapReader(), trees("deap", subjects=1)).paths[0].read_bytes()
    for n_bytes in (0, 1, 40, 5000, len(whole) - 1):
        key = with_pickle(tmp_path, whole[:n_bytes])
        with pytest.raises(DataError) as caught:
            DeapReader().read(key)
        told(caught, "damaged", "Download")


# --- raw DEAP

# fmt: off
TWENTE = [
    "Fp1", "AF3", "F7", "F3", "FC1", "FC5", "T7", "C3", "CP1", "CP5", "P7", "P3", "Pz", "PO3", "O1",
    "Oz", "O2", "PO4", "P4", "P8", "CP6", "CP2", "C4", "T8", "FC6", "FC2", "F4", "F8", "AF4", "Fp2",
    "Fz", "Cz",
]
# fmt: on
REST = [*(f"EXG{i}" for i in range(1, 9)), "GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Plet", "Temp"]


@dataclass
class Layout:
    """How the recordings of some subjects are laid out."""

    subject: int
    channels: list[str]
    status: list[str]
    resting: int


LAYOUTS = [
    Layout(1, TWENTE, ["Status"], 0),
    Layout(23, list(deap.CHANNELS), ["Status"], 0),
    Layout(24, list(deap.CHANNELS), [""], 0x18FF00),
    Layout(29, list(deap.CHANNELS), ["", ""], 0x18FF00),
    Layout(32, list(deap.CHANNELS), ["", ""], 0x58FF00),
]
SPACING = 4  # seconds from video to video: 3 s of baseline, 1 s of video


def raw_deap(root, layout, *, marked=range(40), shuffled=None):
    """Write a subject's recording with one-second videos, and the table of ratings."""
    names = [*layout.channels, *REST, *layout.status]
    channels = [BdfChannel(name, status=name in ("Status", "")) for name in names]
    seconds = SPACING * 40 + 8
    status = np.full(seconds * 512, layout.resting, np.int32)
    for presentation in marked:
        onset = (5 + SPACING * presentation) * 512 + presentation
        status[onset - 700 : onset - 690] += 3
        status[onset : onset + 10] += 4
        status[onset + 500 : onset + 510] += 5
    rng = np.random.default_rng(0)
    template = rng.integers(-900, 900, (len(names), 512), dtype=np.int32)
    template[: len(layout.channels)] += (1000 * np.arange(32)[:, None]).astype(np.int32)

    def records():
        for second in range(seconds):
            block = template.copy()
            block[len(layout.channels) + len(REST) :] = 0x18FF00
            block[-1] = status[second * 512 : (second + 1) * 512]
            yield block

    path = root / f"data_original/s{layout.subject:02}.bdf"
    write_bdf(path, channels, records(), n_records=seconds, sfreq=512)
    order = np.random.default_rng(layout.subject).permutation(40) + 1
    table = pd.DataFrame(
        {
            "Participant_id": layout.subject,
            "Trial": np.arange(1, 41),
            "Experiment_id": order,
            "Start_time": 0,
            "Valence": 1 + order / 5,
            "Arousal": 5.0,
            "Dominance": 5.0,
            "Liking": 5.0,
            "Familiarity": np.where(order % 2, 3.0, np.nan),
        }
    )
    (root / "metadata_csv").mkdir(exist_ok=True)
    table.sample(frac=1, random_state=0).to_csv(
        root / "metadata_csv/participant_ratings.csv", index=False
    )
    return path, order


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"s{layout.subject:02}")
def test_deap_raw_layouts(tmp_path, layout):
    path, order = raw_deap(tmp_path, layout)
    reader = DeapReader("raw")
    recording = reader.read(only(reader, tmp_path))
    trials = recording.trials
    assert recording.channels == list(deap.CHANNELS)
    # By name: the offset planted in each channel tells which it was.
    steps = np.round(recording.segments[0].mean(axis=1) / 31.25).astype(int)
    assert [layout.channels[i] for i in steps] == list(deap.CHANNELS)
    expected = (5 + SPACING * np.arange(40)) * 512 + np.arange(40)
    np.testing.assert_array_equal(trials["onset"], expected)
    assert set(trials["length"]) == {500}  # to the fixation after the video
    np.testing.assert_array_equal(trials["baseline_onset"], expected - 3 * 512)
    assert trials["stimulus"].tolist() == [str(video) for video in order]
    np.testing.assert_allclose(trials["valence"], 1 + order / 5)
    np.testing.assert_array_equal(trials["familiarity"].isna(), order % 2 == 0)
    units = dict(zip(recording.auxiliary[0].names, recording.auxiliary[0].units, strict=True))
    assert units["GSR1"] == ("nS" if layout.subject <= 22 else "Ohm")
    raw = mne.io.read_raw_bdf(path, verbose="error")
    theirs = raw.get_data(picks=list(deap.CHANNELS)) * 1e6
    np.testing.assert_allclose(recording.segments[0], theirs, rtol=1e-6, atol=1e-4)


def test_deap_raw_subject_28_lacks_three_onsets(tmp_path):
    layout = Layout(28, list(deap.CHANNELS), [""], 0x18FF00)
    marked = [i for i in range(40) if i not in (23, 24, 25)]
    _, order = raw_deap(tmp_path, layout, marked=marked)
    reader = DeapReader("raw")
    recording = reader.read(only(reader, tmp_path))
    assert recording.trials["stimulus"].tolist() == [str(order[i]) for i in marked]
    np.testing.assert_allclose(recording.trials["valence"], 1 + order[marked] / 5)
    assert recording.source["unmarked_presentations"] == [24, 25, 26]


@pytest.mark.parametrize(
    ("subject", "lacking", "words"),
    [
        (28, (30, 31, 32), "37 videos, expected 37"),  # the gap is elsewhere
        (28, (1,), "39 videos, expected 37"),
        (27, (23, 24, 25), "37 videos, expected 40"),
    ],
)
def test_deap_raw_other_missing_onsets_are_told(tmp_path, subject, lacking, words, told):
    layout = Layout(subject, list(deap.CHANNELS), [""], 0x18FF00)
    raw_deap(tmp_path, layout, marked=[i for i in range(40) if i not in lacking])
    with pytest.raises(DataError) as caught:
        DeapReader("raw").read(only(DeapReader("raw"), tmp_path))
    told(caught, f"subject {subject} ", words)


def test_deap_raw_truth_and_site(trees):
    root = trees("deap", variant="raw", subjects=[28])
    key = only(DeapReader("raw"), root)
    trials = DeapReader("raw").read(key).trials
    rows = truth_rows(root, key, trials["stimulus"])
    assert len(rows) == 37
    assert trials["stimulus"].tolist() == [row["stimulus"] for row in rows]
    for label in deap.RATINGS:
        assert trials[label].tolist() == [row[label] for row in rows]


def test_deap_raw_faults_are_told(tmp_path, told):
    path, _ = raw_deap(tmp_path, LAYOUTS[2])
    whole = path.read_bytes()
    table = tmp_path / "metadata_csv/participant_ratings.csv"
    text = table.read_text()
    rows = text.splitlines()
    reader = DeapReader("raw")

    def fails(*words, data=whole, ratings=text):
        path.write_bytes(data)
        table.write_text(ratings)
        with pytest.raises(DataError) as caught:
            reader.read(only(reader, tmp_path))
        told(caught, "DEAP reader: subject 24 session 1 (s24.bdf)", *words)

    fails("no .bdf", data=b"")
    fails("header cannot be understood", data=whole[:300])
    fails("bytes, and its header tells of", data=whole[:-1])
    fails("bytes, and its header tells of", data=whole[:90_000] + b"x" + whole[90_000:])
    fails("no channels are called Fp1", data=whole.replace(b"Fp1", b"Xp1", 1))
    fails("2 channels are called AF3", data=whole.replace(b"Fp1", b"AF3", 1))
    fails("39 rows", ratings="\n".join(rows[:-1]))
    fails("41 rows", ratings=text + rows[1])
    fails("no column valence", ratings=text.replace("Valence", "V"))
    fails("valence of trial", ratings=text.replace("5.0", "12.0").replace("V,12", "V,5"))
    table.unlink()
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"no participant_ratings\.csv.*Put the release's"):
        reader.read(only(reader, tmp_path))


def test_deap_questionnaire_tells_age_and_sex_where_it_is_there(tmp_path):
    key = with_pickle(tmp_path, pickle.dumps(deap_arrays(), protocol=4))
    assert DeapReader().read(key).participant == {}
    (tmp_path / "metadata_csv").mkdir()
    (tmp_path / "metadata_csv/participant_questionnaire.csv").write_text(
        "Participant_id,Gender,Age\ns10,Male,40\ns01,Female,27\n"
    )
    assert DeapReader().read(only(DeapReader(), tmp_path)).participant == {"age": 27, "sex": "F"}


# --- DREAMER


def test_dreamer_clips_and_baselines_are_those_of_the_file(trees):
    root = trees("dreamer", subjects=2)
    keys = DreamerReader().discover(root)
    data = scipy.io.loadmat(root / "DREAMER.mat", simplify_cells=True)["DREAMER"]["Data"]
    for (key, recording), person in zip(DreamerReader().read_each(keys), data, strict=True):
        assert recording.sfreq == 128
        assert recording.channels == list(dreamer.CHANNELS)
        table = recording.trials
        for row in table.itertuples():
            clip = int(row.stimulus) - 1
            for segment, part in ((row.segment, "stimuli"), (row.baseline_segment, "baseline")):
                np.testing.assert_array_equal(  # time first in the file
                    recording.segments[segment], person["EEG"][part][clip].T.astype(np.float32)
                )
                np.testing.assert_array_equal(
                    recording.auxiliary[0].segments[segment],
                    person["ECG"][part][clip].T.astype(np.float32),
                )
        for name in dreamer.RATINGS:
            assert table[name].dtype == np.int64  # 3 - 5 of uint8 would be 254
            assert table[name].tolist() == person[f"Score{name.capitalize()}"].tolist()
        assert recording.participant["age"] == int(person["Age"])
        assert key.subject in ("01", "02")


def test_dreamer_missing_samples_pass_as_nan(trees):
    root = trees("dreamer", subjects=2)
    ((trial, _, start, length),) = Truth.load(root).recordings[0]["missing"]
    first = DreamerReader().read(DreamerReader().discover(root)[0])
    clip = first.segments[first.trials["segment"].iloc[trial - 1]]
    assert np.isnan(clip[:, start : start + length]).all()


def test_dreamer_json_equals_mat(trees):
    both = []
    for options in ({}, {"variant": "json"}):
        root = trees("dreamer", subjects=2, **options)
        reader = DreamerReader(options.get("variant", "preprocessed"))
        keys = reader.discover(root)
        both.append([recording for _, recording in reader.read_each(keys)])
    for mat, text in zip(*both, strict=True):
        assert mat.trials.equals(text.trials)
        assert mat.participant == text.participant
        for a, b in zip(mat.segments, text.segments, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


def test_dreamer_reads_only_who_is_asked_for(trees):
    root = trees("dreamer", subjects=2)
    first, second = DreamerReader().discover(root)
    assert [key for key, _ in DreamerReader(auxiliary=False).read_each([second])] == [second]
    assert DreamerReader(auxiliary=False).read(first).auxiliary == []
    assert list(DreamerReader().read_each([])) == []


def dreamer_values(root):
    """Return a simulated file as dicts and object arrays that scipy writes back."""

    def back(value):
        if isinstance(value, dict):
            return {k: back(v) for k, v in value.items() if not k.startswith("__")}
        if isinstance(value, (list, np.ndarray)) and len(np.shape(value)) == 1 and len(value) == 18:
            if not np.isscalar(value[0]):
                cell = np.empty((18, 1), object)
                cell[:, 0] = list(value)
                return cell
            return np.reshape(value, (18, 1))
        return value

    values = back(scipy.io.loadmat(root / "DREAMER.mat", simplify_cells=True))["DREAMER"]
    cell = np.empty((1, len(values["Data"])), object)
    cell[0, :] = [back(person) for person in values["Data"]]
    electrodes = np.empty((1, 14), object)
    electrodes[0, :] = list(values["EEG_Electrodes"])
    return values | {"Data": cell, "EEG_Electrodes": electrodes}


def save_dreamer(root, values):
    scipy.io.savemat(root / "DREAMER.mat", {"DREAMER": values}, do_compression=True)
    keys = DreamerReader().discover(root)
    return dict(DreamerReader().read_each(keys))


def test_dreamer_a_subject_at_fault_leaves_the_others(trees, tmp_path):
    for change, words in (
        (lambda p: p["EEG"].update(stimuli=p["EEG"]["stimuli"][:17]), "18 baselines and 17 clips"),
        (lambda p: p.update(ScoreValence=np.ones((17, 1))), "17 scores of valence, expected 18"),
        (lambda p: p.update(ScoreArousal=np.full((18, 1), 9)), "arousal are not all whole numbers"),
        (lambda p: p["EEG"]["baseline"].__setitem__((3, 0), np.ones((5, 13))), "4 is 5 x 13"),
        (lambda p: p.update(EEG=5), "not a struct"),
        (lambda p: p.pop("EEG"), "0 baselines and 0 clips"),
    ):
        values = dreamer_values(trees("dreamer", subjects=2))
        change(values["Data"][0, 0])
        found = list(save_dreamer(tmp_path, values).values())
        assert isinstance(found[0], DataError)
        assert words in str(found[0])
        assert "DREAMER reader: subject 1 session 1 (DREAMER.mat)" in str(found[0])
        assert found[1].check()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("EEG_SamplingRate", 256, "its EEG_SamplingRate is 256.0, expected 128.0"),
        ("EEG_Electrodes", None, "its EEG_Electrodes is"),
    ],
)
def test_dreamer_other_rates_and_electrodes_are_told(trees, tmp_path, name, value, words, told):
    values = dreamer_values(trees("dreamer", subjects=2))
    values[name] = values[name][:, ::-1] if value is None else value
    with pytest.raises(DataError) as caught:
        save_dreamer(tmp_path, values)
    told(caught, words)


def test_dreamer_damage_at_the_end_is_told_before_the_last_recording(copy):
    root = copy("dreamer", subjects=2)
    keys = DreamerReader().discover(root)
    path = root / "DREAMER.mat"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the checksum
    path.write_bytes(data)
    seen = []
    with pytest.raises(DataError, match="damaged"):
        seen.extend(key for key, _ in DreamerReader().read_each(keys))
    assert seen == keys[:1]
    with pytest.raises(DataError, match="damaged"):
        DreamerReader().read(keys[0])


@pytest.mark.parametrize("n_bytes", [0, 300, 20_000, -1])
def test_dreamer_truncation_is_told(copy, n_bytes, told):
    root = copy("dreamer", subjects=2)
    keys = DreamerReader().discover(root)
    path = root / "DREAMER.mat"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DataError) as caught:
        DreamerReader().read(keys[0])
    told(caught, "DREAMER reader", "ownload")


@pytest.mark.parametrize("values", [{"other": 1}, {"DREAMER": 5}, {"DREAMER": {"Data": 5}}])
def test_dreamer_other_contents_are_told(tmp_path, values):
    scipy.io.savemat(tmp_path / "DREAMER.mat", values)
    with pytest.raises(DataError, match="no variable DREAMER with a cell Data"):
        DreamerReader().discover(tmp_path)


def test_dreamer_subject_that_is_not_there_is_told(trees):
    root = trees("dreamer", subjects=2)
    key = DreamerReader().discover(root)[0]
    other = type(key)("03", files=key.files, root=key.root)
    with pytest.raises(DataError, match="holds no such subject"):
        DreamerReader().read(other)


def test_dreamer_json_faults_are_told(copy):
    root = copy("dreamer", subjects=2, variant="json")
    reader = DreamerReader("json")
    keys = reader.discover(root)
    path = root / "DREAMER_Data.json"
    whole = path.read_bytes()
    people = json.load(io.BytesIO(whole))
    people[0]["EEG"]["stimuli"].pop()
    people[1]["note"] = 'a "quoted" } brace'
    path.write_text(json.dumps(people))
    first, second = dict(reader.read_each(keys)).values()
    assert "18 baselines and 17 clips" in str(first)
    assert second.check()
    path.write_bytes(whole[:-1000])
    with pytest.raises(DataError, match="ends within subject 2"):
        dict(reader.read_each(keys))
    path.write_bytes(whole.replace(b"0.", b"x.", 1))
    first, second = dict(reader.read_each(keys)).values()
    assert "JSON is damaged" in str(first)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        reader.discover(root)
