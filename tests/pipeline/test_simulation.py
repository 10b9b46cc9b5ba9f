"""Simulated corpora: as the real ones on disk, the same from the same seed, safe to write."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import pickle

import mne
import numpy as np
import pytest
import scipy.io
import scipy.signal

from omfa.pipeline import UCS, DataError
from omfa.pipeline.simulation import Truth, simulate
from omfa.pipeline.simulation.corpora.deap import DEAP_GENEVA, DEAP_TWENTE
from omfa.pipeline.simulation.corpora.dreamer import DREAMER_CHANNELS, DREAMER_SECONDS
from omfa.pipeline.simulation.corpora.seed import SEED_LABELS, SEED_SECONDS
from omfa.pipeline.simulation.signals import draw_mixture


def digests(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Make simulated trees, each once."""
    folder, made = tmp_path_factory.mktemp("trees"), {}

    def make(source, **options):
        name = f"{source}-{sorted(options.items())}"
        if name not in made:
            root = folder / str(len(made)) / source.upper()
            made[name] = root, simulate(source, root, **options)
        return made[name]

    return make


# SEED


def test_seed_has_the_lengths_of_the_release():
    assert sum(200 * s + 1 for s in SEED_SECONDS) == 678_815
    assert sum(SEED_SECONDS) == 3394
    assert sum(DREAMER_SECONDS) == 3728
    assert (DREAMER_SECONDS[0], min(DREAMER_SECONDS), max(DREAMER_SECONDS)) == (199, 67, 393)


def test_seed_tree_and_arrays(trees):
    root, truth = trees("seed", subjects=[6], seconds=6, bad_channels=2)
    folder = root / "SEED_EEG" / "Preprocessed_EEG"
    assert sorted(path.name for path in folder.iterdir()) == [
        "6_20130712.mat",
        "6_20131016.mat",
        "6_20131113.mat",
        "label.mat",
        "readme.txt",
    ]
    label = scipy.io.loadmat(folder / "label.mat")["label"]
    assert label.shape == (1, 15)
    assert label[0].astype(int).tolist() == list(SEED_LABELS)
    names = [name for name, _, _ in scipy.io.whosmat(folder / "6_20130712.mat")]
    assert names == [f"mhw_eeg{i}" for i in range(1, 16)]
    arrays = scipy.io.loadmat(folder / "6_20130712.mat")
    for trial in truth.trials[:15]:
        array = arrays[f"mhw_eeg{trial['trial']}"]
        assert array.shape == (62, 200 * trial["seconds"] + 1)
        assert array.dtype == np.float64
    assert len({trial["seconds"] for trial in truth.trials}) > 1
    assert "imulated" in (folder / "readme.txt").read_text()


def test_seed_amplitudes_are_those_of_eeg(trees):
    root, truth = trees("seed", subjects=[6], seconds=6, bad_channels=2)
    file, recording = root / truth.recordings[0]["file"], truth.recordings[0]
    good = [i for i, name in enumerate(truth.channels) if name not in recording["bad"]]
    arrays = scipy.io.loadmat(file)
    rms = np.median([arrays[f"mhw_eeg{i}"][good].std(axis=1) for i in range(1, 16)], axis=0)
    assert 8 < np.median(rms) < 35
    assert rms.min() > 3
    assert rms.max() < 80


def test_seed_old_copies(trees):
    root, truth = trees(
        "seed", subjects=1, sessions=[2], seconds=2, quirks=("old_layout", "person_names")
    )
    assert (root / "Preprocessed_EEG" / "djc_20131030.mat").is_file()
    assert truth.quirks == ("old_layout", "person_names")


def test_seed_cnt(trees):
    root, truth = trees("seed", variant="raw", subjects=1, sessions=1, seconds=3)
    folder = root / "SEED_EEG" / "SEED_RAW_EEG"
    raw = mne.io.read_raw_cnt(folder / "1_1.cnt", data_format="int32", verbose="error")
    assert raw.info["sfreq"] == 1000
    assert len(raw.ch_names) == 66
    others = {"M1", "M2", "VEO", "HEO"}
    eeg = [name for name in raw.ch_names if name not in others]
    assert eeg == [name.upper() for name in truth.channels]
    assert raw.info["subject_info"]["last_name"] == "Simulated"

    starts, ends = (
        [int(n) for n in line.split("[")[1].split("]")[0].split(",")]
        for line in (folder / "time.txt").read_text().splitlines()
    )
    assert [(end - start) // 1000 for start, end in zip(starts, ends, strict=True)] == [
        trial["seconds"] for trial in truth.trials
    ]
    late = raw.annotations.onset[::2] * 1000 - starts
    assert np.ptp(late) < 2
    assert late[0] > 0
    assert raw.n_times > ends[-1]
    rms = raw.get_data(eeg).std(axis=1) * 1e6
    assert 8 < np.median(rms) < 40


def test_seed_cnt_that_hides_its_length(trees):
    root, truth = trees(
        "seed",
        variant="raw",
        subjects=1,
        sessions=1,
        seconds=2,
        quirks=("no_sample_count", "ecg"),
    )
    file = root / truth.recordings[0]["file"]
    with pytest.raises(RuntimeError, match="data_format"):
        mne.io.read_raw_cnt(file, verbose="error")
    raw = mne.io.read_raw_cnt(file, data_format="int32", verbose="error")
    assert raw.ch_names[-1] == "ECG"
    assert len(raw.ch_names) == 67


# DEAP


def read_dat(file):
    with file.open("rb") as opened:
        return pickle.load(opened, encoding="latin1")


def test_deap_dat(trees):
    root, truth = trees("deap", subjects=2, seconds=5, bad_channels=2)
    folder = root / "data_preprocessed_python"
    assert sorted(path.name for path in folder.iterdir()) == ["s01.dat", "s02.dat"]
    with (folder / "s01.dat").open("rb") as file, pytest.raises(UnicodeDecodeError):
        pickle.load(file)
    read = read_dat(folder / "s01.dat")
    assert read["data"].shape == (40, 40, 128 * (3 + 5))
    assert read["labels"].shape == (40, 4)
    for row, trial in zip(read["labels"], truth.trials, strict=False):
        ratings = [trial[name] for name in ("valence", "arousal", "dominance", "liking")]
        np.testing.assert_array_equal(row, ratings)
    labels = np.concatenate([read_dat(path)["labels"] for path in folder.iterdir()])
    assert labels.min() >= 1
    assert labels.max() <= 9
    assert (labels == 5).any()
    assert (labels != np.round(labels)).mean() > 0.5


def test_deap_dat_is_band_limited_and_average_referenced(trees):
    root, truth = trees("deap", subjects=2, seconds=5, bad_channels=2)
    for recording in truth.recordings:
        eeg = read_dat(root / recording["file"])["data"][:, :32]
        flat = [i for i, n in enumerate(DEAP_GENEVA) if recording["bad"].get(n) == "flat"]
        good = [i for i, n in enumerate(DEAP_GENEVA) if n not in recording["bad"]]
        assert (eeg[:, flat] == 0).all()
        if not flat:
            assert np.abs(eeg.mean(axis=1)).max() < 1e-3
        freqs, power = scipy.signal.welch(eeg[:, good], 128, nperseg=512)
        inside = power[..., (freqs > 5) & (freqs < 44)].mean()
        assert power[..., (freqs < 3) | (freqs > 47)].mean() < 0.01 * inside


STATUS = {22: ["Status"], 23: ["Status"], 28: [""], 30: ["-0", "-1"]}


@pytest.fixture(scope="module")
def bdf(trees):
    return trees("deap", variant="raw", subjects=list(STATUS), seconds=2)


@pytest.mark.filterwarnings("ignore:Channel names are not unique")
@pytest.mark.parametrize("subject", STATUS)
def test_deap_bdf(bdf, subject):
    root, _ = bdf
    raw = mne.io.read_raw_bdf(root / f"data_original/s{subject:02}.bdf", verbose="error")
    site = DEAP_TWENTE if subject <= 22 else DEAP_GENEVA
    assert tuple(raw.ch_names[:32]) == site
    assert raw.info["sfreq"] == 512
    assert raw.ch_names[47:] == STATUS[subject]
    assert raw.ch_names[32:41] == [f"EXG{i}" for i in range(1, 9)] + ["GSR1"]
    raw.pick([*raw.ch_names[:32], raw.ch_names[-1]]).load_data()
    events = mne.find_events(
        raw, raw.ch_names[-1], mask=0xFF, mask_type="and", initial_event=False, verbose="error"
    )
    onsets = events[events[:, 2] == 4, 0]
    assert len(onsets) == (37 if subject == 28 else 40)
    assert set(events[:, 2]) == {1, 2, 3, 4, 5, 7}
    gaps = np.diff(onsets) / 512
    assert gaps.min() == 14
    assert np.sum(gaps > 30) == (1 if subject == 28 else 0)
    resting = {22: 0, 23: 0, 28: 0x18FF00, 30: 0x58FF00}[subject]
    if subject > 23:
        status = np.round(raw.get_data([raw.ch_names[-1]])[0]).astype(int)
        assert status[-1] == resting
        assert status[1000] == 0x19FF00


def test_deap_ratings_map_presentation_to_video(bdf):
    root, truth = bdf
    text = (root / "metadata_csv" / "participant_ratings.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 1280
    blank = {row["Participant_id"] for row in rows if not row["Familiarity"]}
    assert blank == {"2", "15", "23"}
    by_trial = {(row["Participant_id"], row["Trial"]): row for row in rows}
    for trial in truth.trials:
        row = by_trial[str(trial["subject"]), str(trial["trial"])]
        assert row["Experiment_id"] == trial["stimulus"]
        assert float(row["Valence"]) == trial["valence"]
    for participant in range(1, 33):
        videos = [int(r["Experiment_id"]) for r in rows if r["Participant_id"] == str(participant)]
        assert sorted(videos) == list(range(1, 41))
        assert videos != sorted(videos)


def test_deap_start_times_are_those_of_the_markers(bdf):
    root, _ = bdf
    raw = mne.io.read_raw_bdf(root / "data_original/s22.bdf", verbose="error")
    events = mne.find_events(raw, mask=0xFF, mask_type="and", verbose="error")
    text = (root / "metadata_csv" / "participant_ratings.csv").read_text()
    starts = [
        int(row["Start_time"]) / 1e6
        for row in csv.DictReader(io.StringIO(text))
        if row["Participant_id"] == "22"
    ]
    np.testing.assert_array_equal(events[events[:, 2] == 4, 0] / 512, starts)


def test_deap_labels_are_the_same_in_both_variants(trees, bdf):
    _, preprocessed = trees("deap", subjects=[22], seconds=2)
    by_video = {t["stimulus"]: t["valence"] for t in bdf[1].trials if t["subject"] == 22}
    assert {t["stimulus"]: t["valence"] for t in preprocessed.trials} == by_video


# DREAMER


@pytest.fixture(scope="module")
def dreamer(trees):
    root, truth = trees("dreamer", subjects=2, seconds=12)
    return root / "DREAMER.mat", truth


def test_dreamer_by_the_index_chains_in_use(dreamer):
    file, truth = dreamer
    read = scipy.io.loadmat(file)["DREAMER"]
    assert read.dtype.names == (
        "Data",
        "EEG_SamplingRate",
        "ECG_SamplingRate",
        "EEG_Electrodes",
        "noOfSubjects",
        "noOfVideoSequences",
        "Disclaimer",
        "Provider",
        "Version",
        "Acknowledgement",
    )
    assert read[0, 0]["Data"].shape == (1, 2)
    first = read[0, 0]["Data"][0, 0]
    assert first.dtype.names == (
        *("Age", "Gender", "EEG", "ECG"),
        *("ScoreValence", "ScoreArousal", "ScoreDominance"),
    )
    # TorchEEG by name, EEGain by position.
    clip = first["EEG"][0, 0]["stimuli"][0, 0][0, 0]
    assert clip.shape == (128 * truth.trials[0]["seconds"], 14)
    np.testing.assert_array_equal(read[0][0][0][0][0][0][0][2][0][0][1][0][0], clip)
    assert first["EEG"][0, 0].dtype.names == ("baseline", "stimuli")
    assert first["EEG"][0, 0]["stimuli"][0, 0].shape == (18, 1)
    assert first["ScoreValence"][0, 0].dtype == np.uint8
    assert first["ScoreValence"][0, 0].shape == (18, 1)
    electrodes = [str(name[0]) for name in read[0, 0]["EEG_Electrodes"][0]]
    assert tuple(electrodes) == DREAMER_CHANNELS


def test_dreamer_simplified(dreamer):
    file, truth = dreamer
    read = scipy.io.loadmat(file, simplify_cells=True)["DREAMER"]
    assert (read["EEG_SamplingRate"], read["ECG_SamplingRate"]) == (128, 256)
    assert (read["noOfSubjects"], read["noOfVideoSequences"]) == (2, 18)
    assert "imulated" in read["Disclaimer"]
    for number, subject in enumerate(read["Data"], start=1):
        trials = [trial for trial in truth.trials if trial["subject"] == number]
        assert subject["ScoreArousal"].tolist() == [trial["arousal"] for trial in trials]
        assert int(subject["Age"]) > 17
        for part in ("baseline", "stimuli"):
            for eeg, ecg in zip(subject["EEG"][part], subject["ECG"][part], strict=True):
                assert ecg.shape == (2 * eeg.shape[0], 2)
        assert [len(eeg) / 128 for eeg in subject["EEG"]["stimuli"]] == [
            trial["seconds"] for trial in trials
        ]
        levels = np.nanmean(subject["EEG"]["stimuli"][2], axis=0)
        assert np.abs(levels - 4200).max() < 250


def test_dreamer_misses_just_what_the_truth_says(dreamer):
    file, truth = dreamer
    data = scipy.io.loadmat(file, simplify_cells=True)["DREAMER"]["Data"]
    for number, subject in enumerate(data, start=1):
        recording = truth.recordings[number - 1]
        for clip, eeg in enumerate(subject["EEG"]["stimuli"], start=1):
            expected = np.zeros(eeg.shape, bool)
            for trial, channels, start, length in recording["missing"]:
                if trial == clip:
                    rows = [DREAMER_CHANNELS.index(name) for name in channels]
                    expected[start : start + length, rows] = True
            np.testing.assert_array_equal(np.isnan(eeg), expected)
    assert sum(len(recording["missing"]) for recording in truth.recordings) == 1


def test_dreamer_json_is_the_same_recording(dreamer, trees):
    data = scipy.io.loadmat(dreamer[0], simplify_cells=True)["DREAMER"]["Data"]
    root, _ = trees("dreamer", variant="json", subjects=2, seconds=12)
    edition = json.loads((root / "DREAMER_Data.json").read_text())
    assert len(edition) == 2
    for one, other in zip(edition, data, strict=True):
        assert list(one) == list(other)
        assert one["ScoreDominance"] == other["ScoreDominance"].tolist()
        for signal in ("EEG", "ECG"):
            for part in ("baseline", "stimuli"):
                for a, b in zip(one[signal][part], other[signal][part], strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-4)


# All of them

SMALL = {
    "seed": {"subjects": [3], "sessions": [2]},
    "seed-iv": {"subjects": [3], "sessions": [2]},
    "seed-v": {"subjects": [3], "sessions": [2]},
    "seed-vii": {"subjects": [3], "sessions": [2]},
    "deap": {"subjects": [2]},
    "dreamer": {"subjects": 1},
    "faced": {"subjects": [2]},
    "mahnob-hci": {"subjects": [2]},
    "amigos": {"subjects": [3]},
    "eav": {"subjects": [2]},
    "thu-ep": {"subjects": [3]},
}


@pytest.mark.parametrize(
    ("source", "variant"),
    [
        *(
            ("seed-iv", "preprocessed"),
            ("seed-v", "raw"),
            ("seed-vii", "preprocessed"),
            ("seed-vii", "raw"),
        ),
        *(("seed", "preprocessed"), ("seed", "raw"), ("deap", "preprocessed"), ("deap", "raw")),
        *(("dreamer", "preprocessed"), ("dreamer", "json")),
        ("faced", "processed"),
        ("mahnob-hci", "raw"),
        ("amigos", "preprocessed"),
        *(("eav", "preprocessed"), ("thu-ep", "preprocessed")),
    ],
)
def test_a_seed_gives_the_same_bytes_again(tmp_path, source, variant):
    for name in ("a", "b"):
        simulate(source, tmp_path / name, variant=variant, seconds=2, **SMALL[source])
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert Truth.path(tmp_path / "a").read_text() == Truth.path(tmp_path / "b").read_text()


def test_another_seed_gives_other_signals_and_ratings(tmp_path):
    for seed in (0, 1):
        simulate("deap", tmp_path / str(seed), seed=seed, subjects=1, seconds=2)
    one, other = (read_dat(tmp_path / n / "data_preprocessed_python/s01.dat") for n in "01")
    assert not np.isclose(one["data"][:, :32], other["data"][:, :32]).any(axis=2).all()
    assert np.mean(one["labels"] == other["labels"]) < 0.2


def test_a_smaller_tree_is_part_of_a_larger_one(tmp_path):
    simulate("deap", tmp_path / "both", subjects=2, seconds=2)
    simulate("deap", tmp_path / "one", subjects=[2], seconds=2)
    both, one = digests(tmp_path / "both"), digests(tmp_path / "one")
    assert set(both) - set(one) == {"data_preprocessed_python/s01.dat"}
    assert one.items() <= both.items()


def test_the_truth_is_beside_the_tree_and_lists_its_files(trees):
    for source, options in SMALL.items():
        root, truth = trees(source, seconds=2, **options)
        assert Truth.load(root) == truth
        assert set(truth.files) == set(digests(root))
        assert truth.path(root) == root.parent / f"{root.name}.truth.json"


def test_sites_lie_below_their_electrodes(trees):
    _, truth = trees("deap", subjects=2, seconds=5, bad_channels=2)
    for recording in truth.recordings:
        anchors = UCS.positions([source["anchor"] for source in truth.sources])
        assert np.linalg.norm(np.array(recording["sites"]) - anchors, axis=1).max() < 0.05


def test_a_simulated_tree_is_replaced_whole(tmp_path):
    root = tmp_path / "deap"
    simulate("deap", root, subjects=2, seconds=2)
    simulate("deap", root, variant="raw", subjects=1, seconds=2)
    assert not (root / "data_preprocessed_python").exists()
    assert Truth.load(root).variant == "raw"


def test_a_simulated_tree_of_another_corpus_is_left_alone(tmp_path):
    root = tmp_path / "tree"
    truth = simulate("deap", root, subjects=1, seconds=2)
    before = digests(root)
    with pytest.raises(DataError, match="holds a simulated tree of deap"):
        simulate("dreamer", root, subjects=1, seconds=2)
    assert digests(root) == before
    assert Truth.load(root) == truth


def test_what_simulate_returns_is_short_in_a_console(tmp_path):
    truth = simulate("deap", tmp_path / "deap", subjects=2, seconds=2)
    assert len(repr(truth)) < 200
    assert "source='deap'" in repr(truth)


def test_an_interrupted_tree_can_be_written_again(tmp_path):
    root = tmp_path / "deap"
    whole = simulate("deap", root, subjects=2, seconds=2)
    (root / whole.files[1]).rename(root / (whole.files[1] + ".part"))
    simulate("deap", root, subjects=2, seconds=2)
    assert set(digests(root)) == set(whole.files)


def test_a_folder_with_anything_else_is_left_alone(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "s01.dat").write_bytes(b"a person")
    with pytest.raises(DataError, match=r"s01\.dat"):
        simulate("deap", real, subjects=1, seconds=2)
    assert (real / "s01.dat").read_bytes() == b"a person"

    root = tmp_path / "simulated"
    simulate("deap", root, subjects=1, seconds=2)
    (root / "notes.txt").write_text("mine")
    before = digests(root)
    with pytest.raises(DataError, match=r"notes\.txt"):
        simulate("deap", root, subjects=1, seconds=3)
    assert digests(root) == before
    with pytest.raises(DataError, match="it is a file"):
        simulate("deap", root / "notes.txt")


@pytest.mark.parametrize(
    ("source", "options", "found"),
    [
        ("seed4", {}, "unknown source 'seed4'.*seed, .*deap, dreamer"),
        ("deap", {"variant": "cnt"}, "unknown variant 'cnt'.*preprocessed, raw"),
        (
            "deap",
            {"effect_kind": "phase"},
            "unknown kind of effect 'phase'.*power, connectivity, waveform",
        ),
        ("deap", {"quirks": ["ecg"]}, "unknown quirk 'ecg'.*none"),
        ("deap", {"subjects": 33}, "corpus has 32"),
        ("seed", {"subjects": [0, 1]}, "corpus has 15"),
        ("deap", {"sessions": 2}, "corpus has 1"),
        ("seed", {"subjects": []}, "corpus has 15"),
        ("dreamer", {"subjects": [3, 5]}, "how many"),
        ("deap", {"seconds": 1}, "trials of 1 s"),
        ("deap", {"seconds": 2.5}, "trials of 2.5 s"),
        ("deap", {"effect": -1}, "negative"),
    ],
)
def test_wrong_use_is_told_and_nothing_written(tmp_path, source, options, found):
    with pytest.raises(DataError, match=found):
        simulate(source, tmp_path / "tree", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_truth_is_told(tmp_path):
    with pytest.raises(DataError, match="no truth"):
        Truth.load(tmp_path / "corpus")
    Truth.path(tmp_path / "corpus").write_text('{"source": "seed"}')
    with pytest.raises(DataError, match="Simulate the tree again"):
        Truth.load(tmp_path / "corpus")


def test_no_bar_where_there_is_no_terminal(tmp_path, capfd):
    simulate("dreamer", tmp_path / "d", subjects=1, seconds=2)
    assert capfd.readouterr() == ("", "")


def test_each_channel_carries_a_tone_of_its_own_where_asked(tmp_path):
    truth = simulate(
        "seed", tmp_path / "seed", subjects=1, sessions=1, seconds=4, tones=50, bad_channels=0
    )
    recording = truth.recordings[0]
    trial = scipy.io.loadmat(tmp_path / "seed" / recording["file"])["djc_eeg1"]
    freqs = np.fft.rfftfreq(trial.shape[1], 1 / truth.sfreq)
    power = np.abs(np.fft.rfft(trial * np.hanning(trial.shape[1])))
    heard = freqs[power.argmax(axis=1)]
    expected = [recording["tones"][name] for name in truth.channels]
    assert len(set(expected)) == len(truth.channels)
    np.testing.assert_allclose(heard, expected, atol=0.1)


def test_electrodes_beyond_the_cap_are_simulated_too(tmp_path):
    beyond = ["Cz", "A1", "F9", "TP10", "AF7", "PO9"]
    mixture = draw_mixture(beyond, seed=0, source="mine", subject=1)
    same = draw_mixture(["Cz", "M1"], seed=0, source="mine", subject=1)
    assert np.isfinite(mixture.rhythms).all()
    assert (np.abs(mixture.rhythms).max(axis=1) > 0).all()
    np.testing.assert_array_equal(mixture.rhythms[0], same.rhythms[0])
