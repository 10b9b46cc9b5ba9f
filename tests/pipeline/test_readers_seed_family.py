"""SEED-IV, SEED-V and SEED-VII: values by tones, labels, sessions, quirks, and what is refused."""

import shutil

import mne
import numpy as np
import pytest
import scipy.io

from omfa.pipeline import UCS, DataError, ingest, open_store, simulate
from omfa.pipeline.readers.corpora import seed_iv, seed_v, seed_vii
from omfa.pipeline.readers.corpora.seed_family import CHANNELS
from omfa.pipeline.readers.corpora.seed_iv import SeedIVReader
from omfa.pipeline.readers.corpora.seed_v import SeedVReader
from omfa.pipeline.readers.corpora.seed_vii import SeedVIIReader
from omfa.pipeline.recording import SourceWarning
from omfa.pipeline.simulation import Truth
from omfa.pipeline.simulation.formats import write_cnt

TONE = 300.0  # microvolts: far above everything else that is simulated


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Make simulated trees with a tone per channel, each once."""
    made = {}

    def tree(source, **options):
        name = repr((source, sorted(options.items())))
        if name not in made:
            made[name] = tmp_path_factory.mktemp(source) / source.upper()
            simulate(source, made[name], seconds=2, bad_channels=0, tones=TONE, **options)
        return made[name]

    return tree


@pytest.fixture
def copy(trees, tmp_path):
    """Copy a simulated tree, to damage it."""

    def make(source, **options):
        root = shutil.copytree(trees(source, **options), tmp_path / source.upper())
        shutil.copy(Truth.path(trees(source, **options)), Truth.path(root))
        return root

    return make


def truth_of(root, key):
    """Return the truth of a recording: its own, and the rows of its trials."""
    truth = Truth.load(root)
    place = int(key.subject), int(key.session)
    (own,) = [r for r in truth.recordings if (r["subject"], r["session"]) == place]
    return own, [row for row in truth.trials if (row["subject"], row["session"]) == place]


def assert_tones(signal, sfreq, channels, tones):
    """Check that each row's strongest frequency is its channel's own."""
    n_times = int(2 * sfreq)
    power = np.abs(np.fft.rfft(signal[:, :n_times] * np.hanning(n_times)))
    found = np.fft.rfftfreq(n_times, 1 / sfreq)[power[:, 4:].argmax(axis=1) + 4]
    names = UCS.canonicalize(channels)
    assert dict(zip(names, found.tolist(), strict=True)) == {name: tones[name] for name in names}


def assert_as_planted(recording, root):
    """Check every trial's channels, length, stimulus and label against the truth."""
    own, rows = truth_of(root, recording.key)
    table = recording.trials
    assert len(table) == len(rows)
    assert table["stimulus"].tolist() == [row["stimulus"] for row in rows]
    assert table["emotion"].tolist() == [row["emotion"] for row in rows]
    for trial, row in zip(table.itertuples(), rows, strict=True):
        assert int(trial.length / recording.sfreq) == row["seconds"]
        signal = recording.segments[trial.segment][:, trial.onset : trial.onset + trial.length]
        assert_tones(signal, recording.sfreq, recording.channels, own["tones"])


def listed(reader, root):
    return [(key.recording, key.files[0]) for key in reader.discover(root)]


# --- SEED-IV


def iv(copy_or_tree, **options):
    return copy_or_tree("seed-iv", **({"subjects": [10], "sessions": 3} | options))


def test_iv_trials_are_as_planted_in_each_session(trees):
    root = iv(trees)
    keys = SeedIVReader().discover(root)
    assert [key.recording for key in keys] == [f"sub-10_ses-{n}_run-1" for n in (1, 2, 3)]
    for key in keys:
        recording = SeedIVReader().read(key)
        assert_as_planted(recording, root)
        assert recording.participant == {"sex": "F"}
        assert recording.source["labels"] == "as published and in ReadMe.txt"
        assert recording.source["band"] == [1, 75]
    stimuli = [s for key in keys for s in SeedIVReader().read(key).trials["stimulus"]]
    assert stimuli == [str(number) for number in range(1, 73)]


def test_iv_arrays_are_those_of_the_file(trees):
    key = SeedIVReader().discover(iv(trees))[1]
    stored = scipy.io.loadmat(key.paths[0])
    for i, segment in enumerate(SeedIVReader().read(key).segments, 1):
        np.testing.assert_array_equal(segment, stored[f"tyc_eeg{i}"].astype(np.float32))


def test_iv_has_the_words_and_counts_of_the_release():
    # Six clips of each emotion a session; whole minutes of windows as the release counts them.
    for labels in seed_iv.LABELS:
        assert [labels.count(code) for code in range(4)] == [6, 6, 6, 6]
    assert [sum(windows) for windows in seed_iv.WINDOWS] == [851, 832, 822]
    assert [labels[0] for labels in seed_iv.LABELS] == [1, 2, 1]
    assert seed_iv.EMOTIONS[seed_iv.LABELS[0][3]] == "neutral"


def test_iv_accepts_every_root_and_copies_of_other_layouts(trees):
    root = iv(trees)
    expected = [name for name, _ in listed(SeedIVReader(), root)]
    for other in (root / "eeg_raw_data", root.parent):
        assert [name for name, _ in listed(SeedIVReader(), other)] == expected
    (alone,) = SeedIVReader().discover(root / "eeg_raw_data/2")
    assert alone.recording == "sub-10_ses-2_run-1"
    assert SeedIVReader().read(alone).source["labels"] == "as published and in ReadMe.txt"
    for quirk in ("session_folders", "flat"):
        there = iv(trees, quirks=(quirk,), sessions=[2])
        for start in (there, there / "eeg_raw_data"):
            (key,) = SeedIVReader().discover(start)
            assert key.recording == "sub-10_ses-2_run-1"
            assert_as_planted(SeedIVReader().read(key), there)


def test_iv_a_renamed_session_folder_is_known_by_its_dates(copy):
    root = iv(copy)
    expected = [name for name, _ in listed(SeedIVReader(), root)]
    (root / "eeg_raw_data/3").rename(root / "eeg_raw_data/the last")
    keys = SeedIVReader().discover(root)
    assert [key.recording for key in keys] == expected
    assert_as_planted(SeedIVReader().read(keys[2]), root)


def test_iv_files_whose_session_nothing_says_are_named(copy):
    root = iv(copy)
    folder = root / "eeg_raw_data/3"
    (folder / "10_20151023.mat").rename(folder / "10_20250101.mat")
    shutil.copy(root / "eeg_raw_data/1/10_20151014.mat", folder / "1_20161126.mat")
    folder.rename(root / "eeg_raw_data/copy")
    with pytest.warns(SourceWarning) as caught:
        names = [name for name, _ in listed(SeedIVReader(), root)]
    assert names == ["sub-01_ses-3_run-1", "sub-10_ses-1_run-1", "sub-10_ses-2_run-1"]
    said = [str(warning.message) for warning in caught]
    assert any("1 files are in a folder that says no session" in text for text in said)
    assert any("3 sessions that others have are not there: subject 1 session 1" in t for t in said)


def test_iv_a_second_file_of_a_session_is_named(copy):
    root = iv(copy)
    (root / "eeg_raw_data/backup").mkdir()
    shutil.copy(root / "eeg_raw_data/1/10_20151014.mat", root / "eeg_raw_data/backup")
    with pytest.warns(SourceWarning, match=r"of a session that another .*backup/10_20151014\.mat"):
        assert len(SeedIVReader().discover(root)) == 3


def test_iv_a_missing_session_is_named(copy):
    root = iv(copy)
    folder = root / "eeg_raw_data/2"
    (folder / "10_20151021.mat").rename(folder / "11_20150921.mat")
    with pytest.warns(SourceWarning, match="not there: subject 10 session 2, subject 11 session 1"):
        assert len(SeedIVReader().discover(root)) == 3


def test_iv_without_its_readme_has_the_published_labels(trees):
    root = iv(trees, quirks=("no_readme",), sessions=[3])
    recording = SeedIVReader().read(SeedIVReader().discover(root)[0])
    assert_as_planted(recording, root)
    assert recording.source["labels"] == "as published"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("session2_label = [2,1,", "session2_label = [2,3,", "label 3 for trial 2 .* 1 is publish"),
        ("session2_label = [2,1,", "session2_label = [2,", "has 23 labels of session 2"),
    ],
)
def test_iv_other_labels_in_the_readme_fail_their_session_alone(copy, old, new, found):
    root = iv(copy)
    path = root / "ReadMe.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    first, second, *_ = SeedIVReader().discover(root)
    SeedIVReader().read(first)
    with pytest.raises(DataError, match=f"subject 10 session 2 .*{found}.*take it out"):
        SeedIVReader().read(second)


def test_iv_a_readme_without_labels_is_said_to_have_none(copy):
    root = iv(copy)
    (root / "ReadMe.txt").write_bytes("说明: nothing of labels".encode("gbk"))
    recording = SeedIVReader().read(SeedIVReader().discover(root)[0])
    assert recording.source["labels"] == "as published; ReadMe.txt has none"


def test_iv_exchanged_folders_are_told_by_dates_and_by_lengths(copy, tmp_path):
    root = iv(copy) / "eeg_raw_data"
    (root / "1").rename(root / "x")
    (root / "2").rename(root / "1")
    (root / "x").rename(root / "2")
    with pytest.raises(DataError, match=r"date is that of the subject's session 2, .* session 1"):
        SeedIVReader().read(SeedIVReader().discover(root)[0])
    alone = tmp_path / "alone"
    alone.mkdir()
    # Without dates: trials as long as the release's of session 3, a hundredth of the samples.
    for session in (1, 3):
        trials = {f"a_eeg{i}": np.ones((62, 8 * n)) for i, n in enumerate(seed_iv.WINDOWS[2], 1)}
        scipy.io.savemat(alone / f"4_{session}.mat", trials)
    first, third = SeedIVReader().discover(alone)
    SeedIVReader().read(third)
    with pytest.raises(DataError, match=r"as long as those of session 3, .* session 1"):
        SeedIVReader().read(first)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v.pop("tyc_eeg7"), "23 trials, expected 24; 7 missing"),
        (lambda v: v.update(tyc_eeg25=v["tyc_eeg1"]), "25 trials, expected 24"),
        (
            lambda v: v.update(tyc_eeg3=v["tyc_eeg3"].T),
            "trial 3 is 401 x 62, expected 62 x",
        ),
        (lambda v: v.update(xx_eeg3=v["tyc_eeg3"]), "holds trial 3 twice"),
        (lambda v: (v.clear(), v.update(de_LDS1=np.ones((62, 9, 5)))), "features .*eeg_raw_data"),
        (lambda v: (v.clear(), v.update(eye_1=np.ones((31, 9)))), "no trial of EEG.*eye_1"),
    ],
)
def test_iv_faults_are_told(copy, change, found):
    root = iv(copy)
    first, second, *_ = SeedIVReader().discover(root)
    values = {k: v for k, v in scipy.io.loadmat(first.paths[0]).items() if k[0] != "_"}
    change(values)
    scipy.io.savemat(first.paths[0], values)
    with pytest.raises(DataError, match=rf"subject 10 session 1 \(10_20151014.mat\): .*{found}"):
        SeedIVReader().read(first)
    SeedIVReader().read(second)


@pytest.mark.parametrize("n_bytes", [0, 60, 4000, -1])
def test_iv_a_truncated_file_fails_alone(copy, n_bytes):
    root = iv(copy)
    first, second, _ = SeedIVReader().discover(root)
    first.paths[0].write_bytes(first.paths[0].read_bytes()[:n_bytes])
    with pytest.raises(DataError, match=r"10_20151014.mat.*ownload"):
        SeedIVReader().read(first)
    SeedIVReader().read(second)


@pytest.mark.parametrize("names", [["1_20131027.mat", "2_20140404.mat"], ["s01.dat"]])
def test_iv_another_corpus_is_told(tmp_path, names):
    folder = tmp_path / "Preprocessed_EEG"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"MATLAB 5.0 MAT-file".ljust(200))
    for root in (tmp_path, folder):
        with pytest.raises(DataError, match=r"SEED-IV.*Give the folder that SEED-IV was unpacked"):
            SeedIVReader().discover(root)


def test_iv_is_ingested_with_one_broken_file_named(copy, tmp_path):
    root = iv(copy)
    (root / "eeg_raw_data/2/10_20151021.mat").write_bytes(b"MATLAB 5.0".ljust(128))
    summary = ingest("seed-iv", root, tmp_path / "s.zarr", serial=True, progress=False)
    stored = [outcome.recording for outcome in summary.having("stored")]
    assert stored == ["sub-10_ses-1_run-1", "sub-10_ses-3_run-1"]
    (failed,) = summary.having("failed")
    assert "subject 10 session 2 (10_20151021.mat)" in failed.reason
    store = open_store(tmp_path / "s.zarr")
    assert len(store) == 2
    assert set(store["sub-10_ses-1_run-1"].trials["emotion"]) == set(seed_iv.EMOTIONS)
    assert all(recording.simulated for recording in store)


def test_the_cap_is_the_first_62_names_of_the_schema():
    assert UCS.canonicalize(CHANNELS) == list(UCS.names[:62])


# --- SEED-V

TABLE = "trial_start_end_timestamp.txt"


def v(copy_or_tree, **options):
    return copy_or_tree("seed-v", **({"subjects": [7], "sessions": [1, 3]} | options))


def test_v_trials_are_as_planted_in_each_session(trees):
    root = v(trees)
    keys = SeedVReader().discover(root)
    assert [key.recording for key in keys] == ["sub-07_ses-1_run-1", "sub-07_ses-3_run-1"]
    for key in keys:
        recording = SeedVReader().read(key)
        assert_as_planted(recording, root)
        assert recording.participant == {"sex": "F", "age": 23}
        assert recording.source["timing"] == TABLE
        assert recording.source["first_trigger"] > recording.source["first_start"]
        (rest,) = recording.auxiliary
        assert rest.names == ("M1", "M2", "VEO", "HEO")
    assert SeedVReader().read(keys[1]).trials["stimulus"].tolist()[0] == "31"


def test_v_has_the_words_and_counts_of_the_release():
    for labels in seed_v.LABELS:
        assert [labels.count(code) for code in range(5)] == [3] * 5
    lasting = [np.subtract(ends, starts).sum() for starts, ends in seed_v.SECONDS]
    assert lasting == [2743, 2191, 2425]
    assert (len(seed_v.SEX), seed_v.SEX.count("M"), len(seed_v.AGE)) == (16, 6, 16)


def test_v_sessions_are_those_of_the_names_and_not_of_the_dates(tmp_path):
    # Subject 1 saw the third session's clips before the second's.
    for name in ("1_1_20180804", "1_2_20180810", "1_3_20180808"):
        (tmp_path / f"{name}.cnt").write_bytes(b"")
    sessions = {key.files[0][:-4]: key.session for key in SeedVReader().discover(tmp_path)}
    assert sessions == {"1_1_20180804": "1", "1_2_20180810": "2", "1_3_20180808": "3"}


def test_v_the_repaired_file_is_read_and_the_other_named(trees):
    root = v(trees, sessions=[1], quirks=("repaired", "ecg", "no_sample_count"))
    with pytest.warns(SourceWarning, match=r"repaired copy, which is read.*7_1_20180411\.cnt"):
        (key,) = SeedVReader().discover(root)
    assert key.files[0] == "EEG_raw/7_1_20180411_repaired.cnt"
    recording = SeedVReader().read(key)
    assert_as_planted(recording, root)
    assert recording.auxiliary[0].names[-1] == "ECG"
    assert SeedVReader(auxiliary=False).read(key).auxiliary == []


def test_v_the_damaged_file_alone_is_told(trees, tmp_path):
    root = v(trees, sessions=[1], quirks=("repaired", "ecg", "no_sample_count"))
    shutil.copy(root / "EEG_raw/7_1_20180411.cnt", tmp_path)
    (key,) = SeedVReader().discover(tmp_path)
    with pytest.raises(DataError, match=r"subject 7 session 1 \(7_1_20180411.cnt\).*cut short"):
        SeedVReader().read(key)


def test_v_two_files_of_one_session_are_told(copy):
    root = v(copy)
    shutil.copy(root / "EEG_raw/7_1_20180411.cnt", root / "EEG_raw/7_1_20180412.cnt")
    with pytest.raises(DataError, match=r"7_1_20180411.cnt and 7_1_20180412.cnt are of one"):
        SeedVReader().discover(root)


def test_v_a_missing_session_is_named(copy):
    root = v(copy)
    (root / "EEG_raw/7_3_20180422.cnt").rename(root / "EEG_raw/8_3_20180726.cnt")
    with pytest.warns(SourceWarning, match="not there: subject 7 session 3, subject 8 session 1"):
        assert len(SeedVReader().discover(root)) == 2


@pytest.mark.parametrize("session", [1, 2, 3])
def test_v_published_times_reach_their_trials(tmp_path, monkeypatch, session):
    # A recording of full length, of no bytes in a sparse file: only the onsets are looked at.
    path = tmp_path / f"2_{session}_20180416.cnt"
    channels = dict.fromkeys([*CHANNELS, "M1", "M2", "VEO", "HEO"], (0.0, 0.0))
    write_cnt(path, channels, [], sfreq=1000, events=[])
    data_onset, frame = 900 + 75 * 66, 4 * 66
    with path.open("r+b") as file:
        file.seek(886)
        file.write((data_onset + frame * 3_400_000).to_bytes(4, "little"))
        file.truncate(data_onset)
        file.seek(data_onset + frame * 3_400_000)
        file.write(b"\2" + bytes(8))
    monkeypatch.setattr(
        "omfa.pipeline.readers.neuroscan.NeuroscanFile.signal",
        lambda self, picks: np.broadcast_to(np.float32(0), (len(picks), self.n_times)),
    )
    recording = SeedVReader().read(SeedVReader().discover(tmp_path)[0])
    last = {1: (3204, 155), 2: (2741, 76), 3: (2888, 178)}[session]
    trials = recording.trials
    assert (trials["onset"].iloc[0], trials["onset"].iloc[-1]) == (30_000, 1000 * last[0])
    assert trials["length"].iloc[-1] == 1000 * last[1]
    assert trials["emotion"].iloc[0] == {1: "happy", 2: "sad", 3: "sad"}[session]
    assert recording.source["timing"] == f"{TABLE} as published"
    assert recording.source["first_trigger"] is None


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("Session 3:", "Session 4:", "0 starts and 0 ends for session 3"),
        ("Session 3:\nstart_second: [2, ", "Session 3:\nstart_second: [", "14 starts and 15 ends"),
        ("Session 3:\nstart_second: [2, ", "Session 3:\nstart_second: [99, ", "trials in a row"),
    ],
)
def test_v_a_wrong_table_fails_its_session_alone(copy, old, new, found):
    root = v(copy)
    path = root / TABLE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    first, third = SeedVReader().discover(root)
    SeedVReader().read(first)
    with pytest.raises(DataError, match=rf"subject 7 session 3 .*{found}.*take it out"):
        SeedVReader().read(third)


def test_v_a_recording_that_ends_before_its_last_trial_is_told(copy):
    root = v(copy)
    (root / TABLE).unlink()
    with pytest.raises(DataError, match=r"ends after \d+ s, and the last trial at 3359 s"):
        SeedVReader().read(SeedVReader().discover(root)[0])


def test_v_is_not_mistaken_for_its_siblings(trees):
    for root in (vii_raw(trees), iv(trees)):
        with pytest.raises(DataError, match="no file like those of SEED-V"):
            SeedVReader().discover(root)
    with pytest.raises(DataError, match="no file like those of SEED-VII"):
        SeedVIIReader("raw").discover(v(trees))


# --- SEED-VII


RAW_VII = SeedVIIReader("raw")


def vii(copy_or_tree, **options):
    return copy_or_tree("seed-vii", **({"subjects": [3]} | options))


def vii_raw(copy_or_tree, **options):
    # The first session has its own triggers, the third those of its table alone.
    chosen = {"variant": "raw", "subjects": [9], "sessions": [1, 3]} | options
    return copy_or_tree("seed-vii", **chosen)


def change_mat(path, change):
    """Change the variables of a MATLAB file, in its order."""
    values = {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != "_"}
    change(values)
    scipy.io.savemat(path, values)


def test_vii_trials_are_as_planted_in_each_session(trees):
    root = vii(trees)
    keys = list(SeedVIIReader().discover(root))
    assert [key.recording for key in keys] == [f"sub-03_ses-{n}_run-1" for n in (1, 2, 3, 4)]
    found = list(SeedVIIReader().read_each(keys))
    assert [key.session for key, _ in found] == ["4", "3", "2", "1"]  # as this file has them
    for _, recording in found:
        assert_as_planted(recording, root)
        assert recording.participant == {"sex": "F", "age": 25}
        assert recording.source["band"] == [0.1, 70]
        assert {segment.shape[1] % 200 for segment in recording.segments} == {0}
    stimuli = [s for _, recording in found[::-1] for s in recording.trials["stimulus"]]
    assert stimuli == [str(number) for number in range(1, 81)]


def test_vii_has_the_words_and_counts_of_the_release():
    every = [word for session in seed_vii.EMOTIONS for word in session]
    assert {word: every.count(word) for word in every} == {
        **dict.fromkeys(("happy", "disgust", "sad", "anger", "fear", "surprise"), 12),
        "neutral": 8,
    }
    # Where a list in circulation is wrong: trials 12, 14 and 15 of the first session.
    assert [seed_vii.EMOTIONS[0][i] for i in (11, 13, 14)] == ["neutral", "sad", "anger"]
    assert (len(seed_vii.SEX), len(seed_vii.AGE), seed_vii.SEX.count("F")) == (20, 20, 10)


def test_vii_arrays_and_continuous_labels_are_those_of_the_files(tmp_path):
    root = tmp_path / "SEED-VII"
    simulate("seed-vii", root, subjects=1, sessions=[2], seconds=9, quirks=("compressed",))
    keys = SeedVIIReader().discover(root)
    recording = SeedVIIReader().read(keys[1])
    stored = scipy.io.loadmat(root / "EEG_preprocessed/1.mat")
    labels = scipy.io.loadmat(root / "continuous_labels/1.mat")
    for i, segment in enumerate(recording.segments, 21):
        np.testing.assert_array_equal(segment, stored[str(i)].astype(np.float32))
    texts = recording.trials["continuous_label"]
    assert {len(text.split()) for text in texts} == {1, 2}
    for i, text in enumerate(texts, 21):
        np.testing.assert_array_equal(np.array(text.split(), float), labels[str(i)].ravel())
    assert recording.source["continuous_label"] == "continuous_labels/1.mat"
    with pytest.raises(DataError, match=r"session 1 .*0 trials, expected 20; 1, 2, 3, 4, 5 and 15"):
        SeedVIIReader().read(keys[0])


def test_vii_continuous_labels_reach_the_store(tmp_path):
    root = tmp_path / "SEED-VII"
    simulate("seed-vii", root, subjects=1, sessions=1, seconds=9)
    ingest("seed-vii", root, tmp_path / "s.zarr", serial=True, progress=False)
    (stored,) = open_store(tmp_path / "s.zarr")
    read = SeedVIIReader().read(SeedVIIReader().discover(root)[0])
    kept = stored.trials["continuous_label"].tolist()
    assert kept == read.trials["continuous_label"].tolist()
    assert all(kept)


def test_vii_without_continuous_labels_has_no_such_column(copy):
    root = vii(copy)
    shutil.rmtree(root / "continuous_labels")
    recording = SeedVIIReader().read(SeedVIIReader().discover(root / "EEG_preprocessed")[0])
    assert recording.labels == ["emotion"]
    assert recording.source["continuous_label"] == "none"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v.pop("25"), "no trial 25"),
        (
            lambda v: v.update({"25": np.ones((1, 3))}),
            "25 .*has 3 values, .*has 2 s, .*0 of 4",
        ),
    ],
)
def test_vii_continuous_labels_of_another_length_fail_their_session_alone(copy, change, found):
    root = vii(copy)
    change_mat(root / "continuous_labels/3.mat", change)
    answers = dict(SeedVIIReader().read_each(list(SeedVIIReader().discover(root))))
    failed = {
        key.session: answer for key, answer in answers.items() if isinstance(answer, DataError)
    }
    assert list(failed) == ["2"]
    with pytest.raises(
        DataError, match=rf"subject 3 session 2 \(3.mat\).*{found}.*take continuous_"
    ):
        raise failed["2"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v.pop("25"), "19 trials, expected 20; 25 missing"),
        (lambda v: v.update({"25": v["25"].T}), "trial 25 is 400 x 62, expected 62 x samples"),
        (lambda v: v.update({"25": np.ones((62, 1))}), "trial 25 is 62 x 1, expected"),
        (lambda v: v.update({"25": "text"}), "trial 25 is 1 x 4, expected"),
    ],
)
def test_vii_faults_fail_their_session_alone(copy, change, found):
    root = vii(copy)
    change_mat(root / "EEG_preprocessed/3.mat", change)
    keys = list(SeedVIIReader().discover(root))
    answers = dict(SeedVIIReader().read_each(keys))
    assert [key for key in keys if isinstance(answers[key], DataError)] == [keys[1]]
    with pytest.raises(DataError, match=rf"subject 3 session 2 \(3.mat\): .*{found}"):
        SeedVIIReader().read(keys[1])


def test_vii_features_and_labels_in_the_place_of_signals_are_told(copy, tmp_path):
    root = vii(copy)
    with pytest.raises(DataError, match="trial 1 is 1 x 0, expected 62 x samples"):
        SeedVIIReader().read(SeedVIIReader().discover(root / "continuous_labels")[0])
    folder = tmp_path / "EEG_features"
    folder.mkdir()
    scipy.io.savemat(folder / "3.mat", {"psd_1": np.ones((5, 5, 62)), "de_LDS_1": np.ones(5)})
    with pytest.raises(DataError, match=r"extracted features \(psd_1\).*EEG_preprocessed"):
        SeedVIIReader().read(SeedVIIReader().discover(folder)[0])


def test_vii_damage_within_a_variable_fails_its_session_alone(tmp_path):
    root = tmp_path / "SEED-VII"
    simulate("seed-vii", root, subjects=1, seconds=2, quirks=("compressed",))
    path = root / "EEG_preprocessed/1.mat"
    data = bytearray(path.read_bytes())
    data[int(len(data) * 0.4)] ^= 1  # in the second session
    path.write_bytes(data)
    answers = dict(SeedVIIReader().read_each(list(SeedVIIReader().discover(root))))
    assert {k.session: isinstance(a, DataError) for k, a in answers.items()} == {
        "1": False,
        "3": False,
        "4": False,
        "2": True,
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_vii_a_truncated_file_keeps_what_is_whole(copy, share):
    root = vii(copy, subjects=[1])
    path = root / "EEG_preprocessed/1.mat"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    keys = list(SeedVIIReader().discover(root))
    answers = dict(SeedVIIReader().read_each(keys))
    whole = [key.session for key in keys if not isinstance(answers[key], DataError)]
    assert whole == ["1", "2"][: int(share * 4)]
    with pytest.raises(DataError, match=r"subject 1 session 4 \(1.mat\): .*ownload"):
        raise answers[keys[3]]


def test_vii_a_trial_twice_is_told(copy):
    root = vii(copy, subjects=[1])
    path = root / "EEG_preprocessed/1.mat"
    data = path.read_bytes()
    scipy.io.savemat(root / "again.mat", {"3": np.ones((62, 4))})
    # In front, so that the session is not complete when the second comes.
    path.write_bytes(data[:128] + (root / "again.mat").read_bytes()[128:] + data[128:])
    with pytest.raises(DataError, match="it holds trial 3 twice"):
        SeedVIIReader().read(SeedVIIReader().discover(root)[0])


def test_vii_raw_trials_are_as_planted_by_triggers_and_by_table(trees):
    root = vii_raw(trees)
    first, third = RAW_VII.discover(root)
    for key, timing in ((first, "triggers"), (third, "the table of triggers")):
        recording = RAW_VII.read(key)
        assert_as_planted(recording, root)
        assert recording.source["timing"] == timing
        (rest,) = recording.auxiliary
        assert rest.names == ("M1", "M2", "VEO", "HEO", "ECG")
        assert recording.participant == {"sex": "F", "age": 24}
        assert recording.notes == []
        assert {
            len(t.split()) * 4 > s / 1000
            for t, s in zip(
                recording.trials["continuous_label"], recording.trials["length"], strict=True
            )
        } == {False}


def test_vii_simulated_files_are_read_as_the_makers_script_reads_them(trees):
    root = vii_raw(trees)
    rows = [row for row in Truth.load(root).trials if row["session"] == 1]
    (file,) = (root / "EEG_raw").glob("9_*_1.cnt")
    raw = mne.io.read_raw_cnt(
        file, data_format="int32", eog=["HEO", "VEO"], ecg=["ECG"], verbose="error"
    )
    raw.drop_channels(["M1", "M2", "ECG", "HEO", "VEO"])
    assert raw.ch_names == list(CHANNELS)
    events, _ = mne.events_from_annotations(raw, verbose="error")
    assert np.diff(events[:, 0])[::2].tolist() == [1000 * row["seconds"] for row in rows]
    table = (root / f"save_info/{file.stem}_trigger_info.csv").read_text().splitlines()
    assert [line[0] for line in table] == ["1", "2"] * 20
    stored = scipy.io.loadmat(vii(trees) / "EEG_preprocessed/3.mat")
    assert {name for name in stored if name[0] != "_"} == {str(i) for i in range(1, 81)}
    assert stored["80"].dtype == np.float64


def test_vii_raw_triggers_beyond_the_trials_are_noted(trees):
    root = vii_raw(trees, sessions=[1], quirks=("extra_trigger", "no_sample_count"))
    recording = RAW_VII.read(RAW_VII.discover(root)[0])
    assert_as_planted(recording, root)
    (note,) = recording.notes
    assert "its last 1 triggers are no trial's" in note


def test_vii_raw_without_its_table_is_told(copy):
    root = vii_raw(copy)
    (root / "save_info/9_20221111_3_trigger_info.csv").unlink()
    first, third = RAW_VII.discover(root)
    RAW_VII.read(first)
    with pytest.raises(DataError, match=r"no 9_20221111_3_trigger_info.csv in save_info.*Copy"):
        RAW_VII.read(third)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("1,2022-11-11 14:01:29", "1,soon", "row 1 of .* has no time"),
        ("14:01:29", "13:01:29", "not those of one trial after another"),
        ("14:01:29", "14:02:29", "not those of one trial after another"),
        ("1,2022-11-11 14:01:29.000000\n", "", "has 39 rows, expected 40"),
    ],
)
def test_vii_raw_wrong_tables_are_told(copy, old, new, found):
    root = vii_raw(copy, sessions=[3])
    path = root / "save_info/9_20221111_3_trigger_info.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=rf"subject 9 session 3 .*{found}"):
        RAW_VII.read(RAW_VII.discover(root)[0])


def test_vii_raw_too_few_triggers_are_told(copy):
    root = vii_raw(copy)
    key = RAW_VII.discover(root)[1]
    other = key.paths[0].with_name("9_20220928_3.cnt")
    key.paths[0].rename(other)  # its own triggers now count
    with pytest.raises(DataError, match="it has 36 triggers, expected 40"):
        RAW_VII.read(RAW_VII.discover(root)[1])


def test_vii_raw_two_files_of_one_session_are_told(copy):
    root = vii_raw(copy, sessions=[3])
    file = RAW_VII.discover(root)[0].paths[0]
    shutil.copy(file, file.with_name("9_20221112_3.cnt"))
    with pytest.raises(DataError, match="are both session 3 of subject 9"):
        RAW_VII.discover(root)


def test_vii_is_not_mistaken_for_its_siblings(trees):
    with pytest.raises(DataError, match="no file like those of SEED-VII"):
        SeedVIIReader().discover(vii_raw(trees))
    with pytest.raises(DataError, match="no file like those of SEED-VII"):
        RAW_VII.discover(vii(trees))
    with pytest.raises(DataError, match="no file like those of SEED-VII"):
        SeedVIIReader().discover(iv(trees))
