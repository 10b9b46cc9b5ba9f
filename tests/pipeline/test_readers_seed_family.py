"""SEED-IV, SEED-V and SEED-VII: values by tones, labels, sessions, quirks, and what is refused."""

import shutil

import numpy as np
import pytest
import scipy.io

from omfa.pipeline import UCS, DataError, ingest, open_store, simulate
from omfa.pipeline.readers.corpora import seed_iv
from omfa.pipeline.readers.corpora.seed_family import CHANNELS
from omfa.pipeline.readers.corpora.seed_iv import SeedIVReader
from omfa.pipeline.recording import SourceWarning
from omfa.pipeline.simulation import Truth

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
