"""Small simulated copies of open BIDS sets, each with what its real tree has and BIDS has not.

Names of files, columns, codes and channels are those of the sets themselves as OpenNeuro and NEMAR
hold them; every number is simulated.
"""

import json
import shlex
import shutil

import mne
import numpy as np
import pytest
import scipy.io

from omfa.pipeline import UCS, DataError, ingest, open_store
from omfa.pipeline.catalogue import CORPORA
from omfa.pipeline.cli import main
from omfa.pipeline.readers.bids import BidsReader
from omfa.pipeline.readers.files import FilesReader
from omfa.pipeline.simulation.formats import BDF_STEP, BdfChannel, write_bdf

# fmt: off
EMOEEG = [
    "Fp1", "Fpz", "Fp2", "AF7", "AF3", "AF4", "AF8", "F7", "F5", "F3", "F1", "Fz", "F2", "F4", "F6",
    "F8", "FT7", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "FT8", "T7", "C5", "C3", "C1",
    "Cz", "C2", "C4", "C6", "T8", "TP7", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "TP8",
    "P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO3", "POz", "PO4", "PO8", "O1",
    "Oz", "O2", "F9", "F10", "TP9", "TP10",
]
DALY = [
    "FP1", "FP2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz",
    "P4", "T6", "O1", "O2",
]
TEN_TWENTY = [
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz",
    "P4", "P8", "O1", "Oz", "O2",
]
# fmt: on
# The 10-20 equivalents of EGI's 128-channel net.
EGI = {
    "E22": "Fp1",
    "E9": "Fp2",
    "E33": "F7",
    "E24": "F3",
    "E11": "Fz",
    "E124": "F4",
    "E122": "F8",
    "E45": "T7",
    "E36": "C3",
    "E104": "C4",
    "E108": "T8",
    "E58": "P7",
    "E52": "P3",
    "E62": "Pz",
    "E92": "P4",
    "E96": "P8",
    "E70": "O1",
    "E75": "Oz",
    "E83": "O2",
}  # fmt: skip


def noise(n_chans, n_times):
    return np.random.default_rng(n_chans).normal(0, 20, (n_chans, n_times))


def table(path, header, *rows, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in (header.split(), *rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def description(root, name):
    root.mkdir(parents=True, exist_ok=True)
    about = {"Name": f"{name} (simulated)", "BIDSVersion": "1.6.0"}
    (root / "dataset_description.json").write_text(json.dumps(about))


def write_edf(path, names, *, sfreq, seconds, marks=()):
    """Write an EDF+ with the given marks: (onset, text)."""
    pytest.importorskip("edfio")
    info = mne.create_info(names, sfreq, "eeg")
    raw = mne.io.RawArray(1e-6 * noise(len(names), round(sfreq * seconds)), info, verbose="error")
    if marks:
        raw.set_annotations(mne.Annotations([m[0] for m in marks], 0, [m[1] for m in marks]))
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.export(path, verbose="error")


def write_set(path, names, *, sfreq, seconds, fdt):
    """Write an EEGLAB file without positions, its signal beside it or in it."""
    signal = noise(len(names), round(sfreq * seconds)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    if fdt:
        path.with_suffix(".fdt").write_bytes(signal.tobytes(order="F"))
    labels = [(name, "") for name in names]
    content = {
        "setname": "simulated", "nbchan": float(len(names)), "pnts": float(signal.shape[1]),
        "trials": 1.0, "srate": float(sfreq), "xmin": 0.0, "event": [], "icawinv": [],
        "icaweights": [], "icasphere": [], "epoch": [], "ref": "Cz", "comments": "",
        "data": path.with_suffix(".fdt").name if fdt else signal,
        "chanlocs": np.array(labels, dtype=[("labels", object), ("type", object)]),
    }  # fmt: skip
    scipy.io.savemat(path, {"EEG": content}, appendmat=False)


def store_of(reader, root, path, **options):
    summary = ingest(reader, root, path, serial=True, progress=False, **options)
    assert not summary.having("failed"), summary.having("failed")
    return open_store(path)


# EmoEEG-MC, ds005540


@pytest.fixture
def emoeeg(tmp_path):
    root = tmp_path / "ds005540"
    description(root, "EmoEEG-MC")
    table(root / "participants.tsv", "participant_id age gender", ("sub-02", 20, "M"),
          ("sub-50", 23, "M"))  # fmt: skip
    marks = [(1, "33"), (4, "31"), (6, "32"), (9, "30")]
    eeg = root / "sub-02/eeg"
    write_edf(eeg / "sub-02_task-emotion_eeg.edf", EMOEEG, sfreq=1200, seconds=12, marks=marks)
    for run in ("01", "02"):
        write_edf(root / f"sub-50/eeg/sub-50_task-emotion_run-{run}_eeg.edf", EMOEEG, sfreq=600,
                  seconds=12, marks=marks)  # fmt: skip
    # No recording, and there all the same: what is only of the body, what is derived.
    (eeg / "sub-02_task-emotion_recording-GSR_physio.tsv.gz").write_bytes(b"\x1f\x8b")
    (root / "sub-01/eeg").mkdir(parents=True)
    (root / "sub-01/eeg/sub-01_task-emotion_recording-PPG_physio.tsv.gz").write_bytes(b"\x1f\x8b")
    derived = root / "derivatives/sub-02/ses-ima/eeg/sub-02_ses-ima_task-emotion_de.npy"
    derived.parent.mkdir(parents=True)
    np.save(derived, np.zeros(3))
    table(root / "sub-02/beh/sub-02_task-emotion_beh.tsv", "trial_number video_name score_1",
          (1, 3, 4.41))  # fmt: skip
    return root


def test_emoeeg_mc_is_read_at_both_rates_into_one_store(emoeeg, tmp_path):
    store = store_of(BidsReader(events_from="annotations"), emoeeg, tmp_path / "made.zarr")
    table = store.recordings
    assert list(table.index) == [
        "sub-02_ses-1_run-emotion", "sub-50_ses-1_run-emotion01", "sub-50_ses-1_run-emotion02"
    ]  # fmt: skip
    assert set(store.channels) == set(EMOEEG)
    assert {"F9", "F10", "TP9", "TP10", "AF7", "AF8"} <= set(store.common_channels)
    events = list(store["sub-02_ses-1_run-emotion"].trials["event"])
    assert events == ["33", "31", "32", "30"]
    assert store["sub-02_ses-1_run-emotion"].attrs["participant"] == {"age": 20.0, "gender": "M"}


def test_emoeeg_mc_without_events_says_that_its_annotations_are_not_used(emoeeg):
    reader = BidsReader()
    recording = reader.read(reader.discover(emoeeg)[0])
    (note,) = recording.notes
    assert "no events.tsv and is one trial" in note
    assert "30, 31, 32, 33" in note
    assert "--events-from annotations" in note
    assert len(recording.trials) == 1


def test_events_at_the_subjects_level_are_the_recordings(emoeeg):
    table(emoeeg / "sub-02/sub-02_events.tsv", "onset duration trial_type stim_type",
          (1, 3, "vid", "sad"), (6, 3, "ima", "sad"))  # fmt: skip
    reader = BidsReader()
    recording = reader.read(reader.discover(emoeeg)[0])
    assert list(recording.trials["stim_type"]) == ["sad", "sad"]
    assert list(recording.trials["length"]) == [3600, 3600]


# FACED, nm000112

FACED = """
    Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 {} {} {} {} CP1 CP2 CP5 CP6 Pz P3 P4 {} {} PO3
    PO4 Oz O1 O2
"""
FIRST = FACED.format("T3", "T4", "A1", "A2", "T5", "T6").split()
SECOND = "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 PO3"
SECOND = [*SECOND.split(), "PO4", "Oz", "O1", "O2", "HEOR", "HEOL"]


@pytest.fixture
def faced(tmp_path):
    root = tmp_path / "nm000112"
    description(root, "FACED")
    table(root / "participants.tsv", "participant_id age sex", ("sub-000", 21, "F"),
          ("sub-100", 24, "M"))  # fmt: skip
    for subject, names, sfreq in (("000", FIRST, 1000), ("100", SECOND, 250)):
        stem = f"sub-{subject}/eeg/sub-{subject}_task-watchingVideoClips_"
        (root / stem).parent.mkdir(parents=True)
        digits = np.round(noise(32, 30 * sfreq) / BDF_STEP).astype(np.int32)
        write_bdf(root / f"{stem}eeg.bdf", [BdfChannel(name) for name in names], [digits],
                  n_records=30, sfreq=sfreq)  # fmt: skip
        # MNE-BIDS writes a byte order mark.
        bom = "utf-8-sig"
        table(root / f"{stem}channels.tsv", "name type units status",
              *[(name, "EEG", "µV", "good") for name in names], encoding=bom)  # fmt: skip
        header = "onset duration trial_type value sample emotion_label binary_label video_index"
        nothing = ("n/a",) * 5
        table(
            root / f"{stem}events.tsv",
            f"{header} Joy Valence",
            (1.827, 0.0, "Experiment start", 5, 1827, *nothing),
            (2.328, 0.0, "Experiment start", 5, 2328, *nothing),
            (5.5, 6.171, "Departures", 3, 5500, "Sadness", "negative", 11, 0.16, 0.87),
            (15.25, 7.25, "Minions", 13, 15250, "Amusement", "positive", 18, 5.5, 6.25),
            encoding=bom,
        )
    return root


def test_faced_gives_its_clips_with_emotion_and_ratings(faced, tmp_path):
    store = store_of(BidsReader(events_by="emotion_label"), faced, tmp_path / "made.zarr")
    one, two = (store[name] for name in store.recordings.index)
    for recording in (one, two):
        trials = recording.trials
        assert list(trials["stimulus"]) == ["Departures", "Minions"]
        assert list(trials["emotion_label"]) == ["Sadness", "Amusement"]
        assert list(trials["video_index"]) == [11, 18]
        assert list(trials["Valence"]) == [0.87, 6.25]
    # T3 is T7; the ears stay ears; the eyes of the second cohort are no electrodes.
    assert {"A1", "A2", "T7", "P8"} <= set(one.channels)
    assert set(one.channels) - set(two.channels) == {"A1", "A2"}
    assert len(two.channels) == 30
    reader = BidsReader(events_by="emotion")
    key = reader.discover(faced)[0]
    with pytest.raises(DataError, match="no column 'emotion'; it has onset, duration"):
        reader.read(key)


# Music of Daly et al., ds002721 (ds002720 and ds002722 to ds002725 are named alike)


def test_daly_music_is_read_by_its_codes_from_its_music_runs(tmp_path):
    root = tmp_path / "ds002721"
    description(root, "An EEG dataset recorded during affective music listening")
    table(root / "participants.tsv", "participant_id age sex", ("sub-01", 31, "M"))
    for run in range(1, 7):
        stem = root / f"sub-01/eeg/sub-01_task-run{run}_"
        write_edf(stem.with_name(f"{stem.name}eeg.edf"), DALY, sfreq=1000, seconds=52)
        rows = [(2.449, 20, 263), (2.689, 20, 786), (2.817, 20, 257)]
        if run not in (1, 6):
            rows += [(5.689, 20, 788), (5.689, 20, 362), (28.402, 20, 800), (28.402, 20, 904)]
            rows += [(31.5, 20, 788), (31.5, 20, 305)]
        table(stem.with_name(f"{stem.name}events.tsv"), "onset duration trial_type", *rows)
        table(stem.with_name(f"{stem.name}channels.tsv"), "name type units status",
              *[(name, "EEG", "microV", "good") for name in DALY])  # fmt: skip
    reader = BidsReader(task="run[2-5]", events={"788": "music"})
    store = store_of(reader, root, tmp_path / "made.zarr")
    assert list(store.recordings["run"]) == ["run2", "run3", "run4", "run5"]
    trials = store["sub-01_ses-1_run-run3"].trials
    assert list(trials["event"]) == ["music", "music"]
    assert {"T7", "T8", "P7", "P8"} <= set(store.channels)
    every = BidsReader(events={"788": "music"})
    key = every.discover(root)[0]
    with pytest.raises(DataError, match=r"none of 788 is among its events \(257, 263, 786\)"):
        every.read(key)


def test_daly_music_interface_keeps_what_is_no_eeg_apart(tmp_path):
    root = tmp_path / "ds002723"
    description(root, "A dataset recorded during development of an affective music interface")
    eeg = [*DALY, "FT9", "FT10", "TP9", "TP10"]
    others = {"GSR": "GSR", "ECG": "ECG", "VA1": "UserReport", "VAtarg": "MetaData"}
    stem = root / "sub-01/eeg/sub-01_task-run2_"
    write_edf(stem.with_name(f"{stem.name}eeg.edf"), [*eeg, *others], sfreq=1000, seconds=62)
    types = [*((name, "EEG") for name in eeg), *others.items()]
    table(stem.with_name(f"{stem.name}channels.tsv"), "name type", *types)
    table(stem.with_name(f"{stem.name}events.tsv"), "onset duration trial_type",
          (16.964, 21, 9), (36.964, 21, 3))  # fmt: skip
    reader = BidsReader(events={"3": "HVLA", "9": "HVHA"}, duration=20.0)
    recording = reader.read(reader.discover(root)[0])
    assert recording.channels == eeg
    assert {name for group in recording.auxiliary for name in group.names} == set(others)
    assert list(recording.trials["event"]) == ["HVHA", "HVLA"]
    assert list(recording.trials["length"]) == [20_000, 20_000]


def run_of_the_catalogue(name, root, store):
    """Run the command that ``omfa-ingest corpora`` gives for a set."""
    (corpus,) = [corpus for corpus in CORPORA if corpus.name == name]
    (arguments,) = corpus.arguments
    words = shlex.split(arguments)
    words[words.index("RAW")] = str(root)
    words[words.index(f"{name}.zarr")] = str(store)
    assert main([*words, "--serial", "--quiet"]) == 0
    return open_store(store)


@pytest.mark.parametrize("name", ["ds002722", "ds002723", "ds002724"])
def test_the_music_interface_s_sets_are_read_by_the_command_of_the_list(tmp_path, name):
    root = tmp_path / name
    description(root, "A dataset recorded during development of an affective music interface")
    for run in (1, 2):
        stem = root / f"sub-01/eeg/sub-01_task-run{run}_"
        names = [*DALY, "GSR", "ECG"]
        write_edf(stem.with_name(f"{stem.name}eeg.edf"), names, sfreq=1000, seconds=62)
        types = [*((channel, "EEG") for channel in DALY), ("GSR", "GSR"), ("ECG", "ECG")]
        table(stem.with_name(f"{stem.name}channels.tsv"), "name type", *types)
        codes = [(float(6 + 2 * code), 21, code) for code in range(1, 10)]
        table(stem.with_name(f"{stem.name}events.tsv"), "onset duration trial_type", *codes)
    store = run_of_the_catalogue(name, root, tmp_path / "made.zarr")
    assert store.name == name
    assert list(store.recordings["run"]) == ["run1", "run2"]
    trials = store[0].trials
    assert list(trials["event"]) == [f"{v}V{a}A" for a in "LNH" for v in "LNH"]
    assert set(trials["length"]) == {20 * 128}


def test_music_in_the_scanner_is_a_trial_a_piece(tmp_path):
    root = tmp_path / "ds002725"
    description(root, "A dataset recording joint EEG-fMRI during affective music listening")
    for task in ("genMusic01", "genMusic02", "classicalMusic", "restingState"):
        stem = root / f"sub-01/eeg/sub-01_task-{task}_"
        write_edf(stem.with_name(f"{stem.name}eeg.edf"), DALY, sfreq=1000, seconds=20)
        pulses = [(2.0 * i, 0, 1) for i in range(9)]  # of the scanner
        table(stem.with_name(f"{stem.name}events.tsv"), "onset duration trial_type", *pulses)
    store = run_of_the_catalogue("ds002725", root, tmp_path / "made.zarr")
    assert list(store.recordings["run"]) == ["genMusic01", "genMusic02"]
    assert list(store.recordings["n_trials"]) == [1, 1]


# EGI: DENS ds003751 and MUSIN-G ds003774


@pytest.fixture
def dens(tmp_path):
    root = tmp_path / "ds003751"
    description(root, "Dataset on Emotion with Naturalistic Stimuli (DENS)")
    table(root / "participants.tsv", "participant_id age sex handedness",
          ("sub-mit003", 23, "M", "r"))  # fmt: skip
    names = [*(f"E{i}" for i in range(1, 129)), "ECG", "EMG1", "EMG2"]
    eeg = root / "sub-mit003/eeg"
    write_set(eeg / "sub-mit003_task-Emotion_eeg.set", names, sfreq=250, seconds=60, fdt=True)
    # The recording is of the task Emotion, its events of the task emotion, in milliseconds.
    table(eeg / "sub-mit003_task-emotion_events.tsv",
          "onset duration trial_type label description",
          (3565.74459, 1000.0, "base", "baseline", "Baseline"),
          (13630.993068, 1000.0, "stm", "neutral_1_1", "n/a"),
          (28755.493611, 1000.0, "vlnc", "Valence", "n/a"),
          (38401.24445, 1000.0, "stm", "12_2", "n/a"),
          (45877.742823, 1000.0, "clic", "click", "n/a"))  # fmt: skip
    about = {"EEGReference": "Cz", "SamplingFrequency": 250, "RecordingDuration": 60}
    (eeg / "sub-mit003_task-emotion_eeg.json").write_text(json.dumps(about))
    return root


DENS = {"events": {"stm": "film"}, "events_unit": "ms", "duration": 15.0}


def test_dens_is_named_by_the_places_of_its_net(dens, tmp_path):
    store = store_of(
        BidsReader(**DENS, montage="GSN-HydroCel-128"),
        dens,
        tmp_path / "made.zarr",
        aliases=EGI,
        names_by_position=True,
    )
    recording = store["sub-mit003_ses-1_run-Emotion"]
    assert list(recording.trials["label"]) == ["neutral_1_1", "12_2"]
    assert [round(s) for s in recording.trials["length"] / recording.sfreq] == [15, 15]
    named = dict(zip(recording.attrs["source_channels"], recording.channels, strict=True))
    assert EGI.items() <= named.items()
    assert len(named) == 102
    assert len(set(named.values())) == len(named)
    assert store.settings["channels"]["names_by_position"] is True
    notes = " ".join(recording.attrs["source"]["notes"])
    assert f"{128 - len(named)} of 128 channels have no name of the schema within 1.5 cm" in notes
    assert "differ from it in upper and lower case" in notes


def test_dens_as_it_is_says_what_is_wrong(dens):
    reader = BidsReader(events={"stm": "film"})
    (key,) = reader.discover(dens)
    with pytest.raises(DataError, match=r"lasts from 13631 to 14631 s, the recording from 0 to 60"):
        reader.read(key)


def refused(reader, root, path, **options):
    summary = ingest(reader, root, path, serial=True, progress=False, **options)
    (failed,) = summary.having("failed")
    return failed.reason


def test_egi_names_without_places_or_anchors_are_refused(dens, tmp_path):
    bare, placed = BidsReader(**DENS), BidsReader(**DENS, montage="GSN-HydroCel-128")
    assert "128 of 128 channels are not in the channel schema" in refused(
        bare, dens, tmp_path / "a.zarr"
    )
    assert "109 channels have neither a name of the channel schema nor a measured position" in (
        refused(bare, dens, tmp_path / "b.zarr", aliases=EGI, names_by_position=True)
    )
    assert "0 channels have both a name of the channel schema and a measured position" in (
        refused(placed, dens, tmp_path / "c.zarr", names_by_position=True)
    )
    swapped = EGI | {"E22": "O1", "E70": "Fp1"}
    assert "was measured" in refused(
        placed, dens, tmp_path / "d.zarr", aliases=swapped, names_by_position=True
    )
    wrong = BidsReader(**DENS, montage="GSN-HydroCel-12")
    assert (
        "no montage 'GSN-HydroCel-12', neither a file nor one of MNE's (nearest: GSN-HydroCel-12"
        in refused(wrong, dens, tmp_path / "e.zarr")
    )
    other = BidsReader(**DENS, montage="biosemi64")
    assert "is in the montage biosemi64" in refused(other, dens, tmp_path / "f.zarr")


def test_a_table_of_positions_is_a_montage(dens, tmp_path):
    places = mne.channels.make_standard_montage("GSN-HydroCel-128").get_positions()["ch_pos"]
    rows = [(name, *(1000 * place).round(2)) for name, place in places.items()]
    table(dens / "net.tsv", "name x y z", *rows)
    options = {"aliases": EGI, "names_by_position": True}
    reader = BidsReader(**DENS, montage="net.tsv")
    assert "net.tsv" in reader.discover(dens)[0].files
    by_table = store_of(reader, dens, tmp_path / "a.zarr", **options)
    by_name = store_of(BidsReader(**DENS, montage="GSN-HydroCel-128"), dens, tmp_path / "b.zarr",
                       **options)  # fmt: skip
    assert by_table.channels == by_name.channels
    table(dens / "net.tsv", "name x y", *[row[:3] for row in rows])
    assert "it has no column z" in refused(reader, dens, tmp_path / "c.zarr", **options)


def test_musin_g_is_read_a_song_at_a_time(tmp_path):
    root = tmp_path / "ds003774"
    description(root, "Music Listening- Genre EEG dataset (MUSIN-G)")
    names = [f"E{i}" for i in range(1, 130)]
    for song in (7, 12):
        folder = root / f"sub-001/ses-{song:02d}/eeg"
        stem = f"sub-001_ses-{song:02d}_task-MusicListening_run-{song}_"
        write_set(folder / f"{stem}eeg.set", names, sfreq=250, seconds=30, fdt=False)
        # The same table beside each song: it is of the recording that the songs were cut from.
        table(folder / f"{stem}events.tsv",
              "onset duration sample trial_type response_time stim_file value",
              *[(at, 1000, 250 * at, "n/a", "n/a", "n/a", value) for at, value in
                ((0.21, "SESS"), (2.9, "boundary"), (143.28, "stm+"), (256.43, "fxnd"))],
              )  # fmt: skip
        table(folder / f"{stem}electrodes.tsv", "name x y z",
              *[(name, 6.3, -6.61, -2.94) for name in names])  # fmt: skip
        system = {"EEGCoordinateUnits": "mm", "EEGCoordinateSystem": "Other"}
        (folder / f"{stem}coordsystem.json").write_text(json.dumps(system))
    store = store_of(
        BidsReader(events_from="none", montage="GSN-HydroCel-129"),
        root,
        tmp_path / "made.zarr",
        aliases=EGI | {"E129": "Cz"},
        names_by_position=True,
    )
    assert list(store.recordings["session"]) == ["07", "12"]
    assert [len(store[name].trials) for name in store.recordings.index] == [1, 1]
    assert "Cz" in store.channels
    assert len(store.common_channels) == len(store.channels) > 95
    reader = BidsReader(events={"stm+": "song"})
    key = reader.discover(root)[0]
    with pytest.raises(DataError, match="the recording from 0 to 30 s"):
        reader.read(key)


def test_what_trial_type_does_not_say_the_value_says(tmp_path):
    root = tmp_path / "raw"
    description(root, "Mine")
    stem = root / "sub-01/eeg/sub-01_task-x_"
    write_edf(stem.with_name(f"{stem.name}eeg.edf"), ["Fp1", "Cz"], sfreq=100, seconds=10)
    table(stem.with_name(f"{stem.name}events.tsv"), "onset duration trial_type value stim_file",
          (1, 1, "n/a", "go", "n/a"), (3, 1, "rest", 2, "a.wav"),
          (5, 0, "n/a", "boundary", "n/a"))  # fmt: skip
    reader = BidsReader()
    recording = reader.read(reader.discover(root)[0])
    assert len(recording.segments) == 2
    assert list(recording.trials["stimulus"]) == ["go", "a.wav"]
    chosen = BidsReader(events={"go": "a"}).read(reader.discover(root)[0])
    assert list(chosen.trials["event"]) == ["a"]


def test_a_sidecar_of_another_recording_is_not_taken_for_its_case(tmp_path):
    root = tmp_path / "raw"
    description(root, "Mine")
    for task in ("Rest", "rest"):
        write_edf(root / f"sub-01/eeg/sub-01_task-{task}_eeg.edf", ["Fp1", "Cz"], sfreq=100,
                  seconds=10)  # fmt: skip
    table(root / "sub-01/eeg/sub-01_task-rest_events.tsv", "onset duration trial_type",
          (1, 1, "go"), (3, 1, "go"))  # fmt: skip
    reader = BidsReader()
    found = {key.run: len(reader.read(key).trials) for key in reader.discover(root)}
    assert found == {"Rest": 1, "rest": 2}


def test_wrong_choices_are_told():
    for options, words in (
        ({"events_from": "file"}, "Choose one of events.tsv, annotations, none"),
        ({"events_unit": "us"}, "Choose one of s, ms"),
        ({"montage": "biosemi64", "ignore_positions": True}, "either --montage or --ignore"),
    ):
        with pytest.raises(DataError, match=words):
            BidsReader(**options)
    with pytest.raises(DataError, match="either --montage or --ignore"):
        FilesReader(montage="biosemi64", ignore_positions=True)


# Naming by position


@pytest.mark.parametrize("cap", ["biosemi64", "easycap-M1", "brainproducts-RNP-BA-128"])
def test_channels_of_a_cap_are_named_by_their_places_as_they_are(cap):
    montage = mne.channels.make_standard_montage(cap)
    places = montage.get_positions()["ch_pos"]
    names = [name for name in montage.ch_names if name in UCS.names[:337]]
    anchors = {
        "Fp1",
        "Fp2",
        *[
            "F7",
            "F3",
            "Fz",
            "F4",
            "F8",
            "T7",
            "C3",
            "Cz",
            "C4",
            "T8",
            "P7",
            "P3",
            "Pz",
            "P4",
            "P8",
            "O1",
            "Oz",
            "O2",
        ],
    }
    raw = [name if name in anchors else f"X{i}" for i, name in enumerate(names)]
    measured = 1000 * np.array([places[name] for name in names])  # millimetres
    assert UCS.name_by_position(raw, measured) == names


def test_no_two_channels_get_one_name_and_none_one_far_away():
    anchors = list(UCS.names[:62:5])
    near = UCS.positions(["AFz", "AFz", "AF8"])
    near[1, 0] += 0.004
    far = np.array([[0.0, 0.0, -0.1]])
    measured = np.vstack([UCS.positions(anchors), near, far])
    names = UCS.name_by_position([*anchors, "a", "b", "c", "d"], measured)
    assert names[: len(anchors)] == anchors
    assert names[-4] == "AFz"
    assert names[-2:] == ["AF8", None]
    assert names[-3] not in ("AFz", "AF8", *anchors)
    assert UCS.name_by_position(["Fp1", "fp2"], None) == ["Fp1", "Fp2"]
    with pytest.raises(DataError, match="BioSemi ABC cap"):
        UCS.name_by_position([*anchors, "B5"], measured[: len(anchors) + 1])


def test_files_take_a_montage_too(dens, tmp_path):
    folder = dens / "sub-mit003/eeg"
    root = tmp_path / "files"
    root.mkdir()
    for file in folder.glob("*Emotion_eeg.*"):
        shutil.copy(file, root / file.name)
    reader = FilesReader(name="mine", montage="GSN-HydroCel-128")
    store = store_of(reader, root, tmp_path / "a.zarr", aliases=EGI, names_by_position=True)
    assert len(store.channels) > 95
