"""What people bring: folders, texts, tables and headers as other programs leave them."""

import json
import os
import pickle
import shutil
import struct
import warnings

import mne
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from omfa.pipeline import DataError, ingest, open_store, simulate
from omfa.pipeline.channels import UCS
from omfa.pipeline.ingestion import plan
from omfa.pipeline.readers import get_reader
from omfa.pipeline.readers.bids import BidsReader
from omfa.pipeline.readers.files import FilesReader
from omfa.pipeline.recording import Key, SourceWarning

from .test_readers_general import eeg, only, raw_array, refused, write_brainvision, write_edf

NAMES = ["Fp1", "Cz", "O2"]


def write(path, events=(), *, names=NAMES, seconds=30, seed=0):
    """Write an EDF+ of half a minute, simulated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_edf(
        path, eeg(names, seconds=seconds, seed=seed), seconds=seconds, kind="EDF+C", events=events
    )


def annotated(root, **options):
    return only(FilesReader(labels_from="annotations", **options), root)


def eeglab(path, events=(), *, trials=1, seconds=30, signal=None):
    """Write an EEGLAB file at 100 Hz, simulated; events are (type, second, seconds).

    ``signal`` names a file that holds the signal in its place.
    """
    data = np.random.default_rng(0).normal(0, 20, (3, seconds * 100)).astype("f4")
    kinds = [("type", object), ("latency", object), ("duration", object)]
    table = np.array([(t, 1 + 100 * float(at), 100 * float(n)) for t, at, n in events], dtype=kinds)
    chans = np.array([(n, "EEG") for n in NAMES], dtype=[("labels", object), ("type", object)])
    empty = np.array([])
    if trials > 1:
        data = data.reshape(3, -1, trials, order="F")
    fields = {
        "setname": "a", "nbchan": 3, "trials": trials, "pnts": data.shape[1], "srate": 100.0,
        "xmin": 0.0, "xmax": data.shape[1] / 100, "data": data if signal is None else signal,
        "chanlocs": chans, "event": table if len(table) else empty, "icawinv": empty,
        "icasphere": empty, "icaweights": empty, "icachansind": empty,
        "chaninfo": {"icachansind": empty}, "ref": "common", "epoch": empty, "urevent": empty,
        "history": "", "saved": "yes", "comments": "", "filename": path.name, "filepath": "",
    }  # fmt: skip
    savemat(path, {"EEG": fields}, appendmat=False)
    return path


# --------------------------------------------------------------------------- folders and names


def test_a_folder_inside_that_is_also_linked_is_there_once_under_its_own_name(tmp_path):
    write(tmp_path / "b" / "rest.edf")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert [key.files for key in FilesReader().discover(tmp_path)] == [("b/rest.edf",)]


def test_a_file_under_two_names_is_there_once_and_it_is_said(tmp_path):
    write(tmp_path / "S2" / "rest.edf")
    (tmp_path / "S1").mkdir()
    (tmp_path / "S1" / "rest.edf").symlink_to(tmp_path / "S2" / "rest.edf")
    with pytest.warns(
        SourceWarning, match="1 files are links to files that are read under another"
    ):
        keys = FilesReader().discover(tmp_path)
    assert [key.subject for key in keys] == ["S2"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read all")
    write(tmp_path / "S1" / "rest.edf")
    (tmp_path / "S2").mkdir(mode=0)
    with pytest.raises(DataError, match="S2 cannot be read"):
        FilesReader().discover(tmp_path)
    (tmp_path / "S2").chmod(0o700)


def test_files_that_a_pattern_does_not_match_are_named_and_choices_are_not(tmp_path):
    for name in ("S01_happy.edf", "S02_sad.edf", "S03-happy.edf"):
        write(tmp_path / name)
    with pytest.warns(SourceWarning, match=r"1 files do not match the pattern .*: S03-happy\.edf"):
        assert len(FilesReader(pattern="S{subject}_{mood}.edf").discover(tmp_path)) == 2
    with pytest.warns(SourceWarning, match=r"1 files do not match.*S03-happy\.edf"):
        assert len(FilesReader(pattern="S{subject}_{mood:sad}.edf").discover(tmp_path)) == 1


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (["1-1/happy.edf", "11/sad.edf"], "'1-1' and '11' would both be subject 11"),
        (["1_1/a.edf", "1.1/b.edf"], "would both be subject 11"),
        (["Jürgen/a.edf", "Jrgen/b.edf"], "would both be subject Jrgen"),
        (["p/1/11/a.edf", "p/11/1/b.edf"], "'1/11' and '11/1' would both be session 111"),
        (["1-1.edf", "11.edf"], "would both be sub-11"),
        (["Ren\u00e9/a.edf", "Rene\u0301/b.edf"], "'René' is there twice, by two codings"),
    ],
)
def test_people_and_sessions_whose_names_collapse_are_refused(tmp_path, files, match):
    for name in files:
        write(tmp_path / name)
    with pytest.raises(DataError, match=match):
        FilesReader().discover(tmp_path)


@pytest.mark.parametrize("naming", ["bids", "neuromag"])
def test_a_split_fif_is_one_recording_whatever_its_parts_are_called(tmp_path, naming):
    raw = raw_array(NAMES, sfreq=1000.0, seconds=300)
    raw.save(tmp_path / "S1_task-x_raw.fif", split_size="2MB", split_naming=naming, verbose="error")
    assert len(list(tmp_path.iterdir())) > 1
    recording = only(FilesReader(), tmp_path)
    np.testing.assert_allclose(recording.segments[0], 1e6 * raw.get_data(), rtol=1e-4, atol=1e-3)
    first = min(tmp_path.iterdir(), key=lambda path: (len(path.name), path.name))
    assert recording.key.files[0] == first.name
    first.unlink()
    refused(FilesReader(), tmp_path, "a later part of a recording that begins in")


def test_recordings_that_are_only_named_like_parts_stay_apart(tmp_path):
    for i, name in enumerate(("S1_raw.fif", "S1_raw-1.fif")):
        raw_array(NAMES, seconds=5 + i).save(tmp_path / name, verbose="error")
    lengths = [FilesReader().read(key).n_times for key in FilesReader().discover(tmp_path)]
    assert lengths == [500, 600]


def test_a_stray_copy_above_a_corpus_does_not_take_its_place(tmp_path):
    simulate("deap", tmp_path, subjects=2, seconds=2)
    shutil.copy(tmp_path / "data_preprocessed_python" / "s01.dat", tmp_path)
    with pytest.warns(SourceWarning, match=r"1 files lie outside .*: s01\.dat"):
        assert [key.subject for key in get_reader("deap").discover(tmp_path)] == ["01", "02"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_deap_file_that_was_saved_again_is_read(tmp_path, protocol, order):
    simulate("deap", tmp_path, subjects=1, seconds=2)
    file = tmp_path / "data_preprocessed_python" / "s01.dat"
    (key,) = get_reader("deap").discover(tmp_path)
    expected = get_reader("deap").read(key)
    with file.open("rb") as opened:
        data = pickle.load(opened, encoding="latin1")
    file.write_bytes(
        pickle.dumps({k: np.asarray(v, order=order) for k, v in data.items()}, protocol)
    )
    found = get_reader("deap").read(key)
    np.testing.assert_array_equal(found.segments[3], expected.segments[3])
    assert found.trials.equals(expected.trials)


def test_a_pickle_makes_no_more_bytes_than_it_has(tmp_path):
    simulate("deap", tmp_path, subjects=1, seconds=2)
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x00"  # kept, as number 0
    encode = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    (tmp_path / "data_preprocessed_python" / "s01.dat").write_bytes(
        b"\x80\x02" + text + 5000 * encode + b"."
    )
    refused(get_reader("deap"), tmp_path, "makes more bytes than it has")


def test_notes_of_a_source_and_of_a_recording_are_in_the_summary_and_the_store(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "S1_film.edf", [(2, 4, "happy"), (10, 4, "sad"), (28, 4, "sad")])
    write(raw / "S1-film.edf")
    reader = FilesReader(pattern="S{subject}_{film}.edf", labels_from="annotations", name="films")
    summary = ingest(reader, raw, tmp_path / "s.zarr", serial=True)
    assert summary.complete
    assert any("S1-film.edf" in note for note in summary.notes)
    (outcome,) = summary.outcomes
    assert any("'sad' from 28 to 32 s" in warning for warning in outcome.warnings)
    (recording,) = open_store(tmp_path / "s.zarr")
    assert recording.attrs["source"]["notes"] == list(outcome.warnings)
    assert ingest(reader, raw, tmp_path / "s.zarr", serial=True).notes == summary.notes


# --------------------------------------------------------------------------- events


def test_classes_called_bad_are_classes_where_no_format_says_otherwise(tmp_path):
    write(
        tmp_path / "S1.edf",
        [(2, 4, "good"), (8, 4, "bad"), (14, 4, "Bad Romance"), (20, 2, "BAD_x")],
    )
    recording = annotated(tmp_path)
    assert recording.trials["event"].tolist() == ["good", "bad", "Bad Romance"]
    assert recording.source["bad_spans"] == [[20.0, 2.0, "BAD_x"]]


def test_in_mne_s_own_files_bad_begins_a_span_and_it_is_said(tmp_path):
    raw = raw_array(NAMES, seconds=30)
    raw.set_annotations(mne.Annotations([2, 8, 14], 4, ["good", "bad", "BAD_x"]))
    raw.save(tmp_path / "S1_raw.fif", verbose="error")
    recording = annotated(tmp_path)
    assert recording.trials["event"].tolist() == ["good"]
    (note,) = recording.notes
    assert "1 annotations begin with 'bad'" in note
    assert "'bad' from 8 to 12 s. Take them by --events" in note
    taken = annotated(tmp_path, events={"good": "+", "bad": "-"})
    assert taken.trials["event"].tolist() == ["+", "-"]


def test_blanks_around_texts_are_no_part_of_them(tmp_path):
    write(tmp_path / "S1.edf", [(2, 4, "happy "), (8, 4, " happy"), (14, 4, "sad")])
    assert annotated(tmp_path).trials["event"].tolist() == ["happy", "happy", "sad"]
    chosen = annotated(tmp_path, events={"happy": "+", "sad ": "-"})
    assert chosen.trials["event"].tolist() == ["+", "+", "-"]


BEYOND = [(-3, 5, "sad"), (2, 4, "happy"), (10, 4, "sad"), (28, 4, "happy"), (33, 4, "sad")]


def beyond_edf(root):
    write(root / "S1.edf", BEYOND)


def beyond_eeglab(root):
    eeglab(root / "S1.set", [(text, at, n) for at, n, text in BEYOND[1:]])


def beyond_brainvision(root):
    write_brainvision(root, n_times=3000)
    marks = [(at, n, text) for at, n, text in BEYOND if 0 <= at < 30]
    lines = [
        f"Mk{i}=Comment,{t},{100 * at + 1},{100 * n},0" for i, (at, n, t) in enumerate(marks, 1)
    ]
    with (root / "a.vmrk").open("a") as file:
        file.write("\n".join(lines) + "\n")


@pytest.mark.parametrize("case", [str.lower, str.upper])
@pytest.mark.parametrize("make", [beyond_edf, beyond_eeglab, beyond_brainvision])
def test_annotations_beyond_the_ends_are_left_out_by_name_and_never_cut(tmp_path, make, case):
    make(tmp_path)
    for file in [*tmp_path.iterdir()]:
        file.rename(file.with_suffix(case(file.suffix)))
    recording = annotated(tmp_path)
    assert recording.trials[["onset", "length"]].to_numpy().tolist() == [[200, 400], [1000, 400]]
    (note,) = recording.notes
    assert "reach outside the recording, which has 30 s, and are left out" in note
    assert "happy' from 28 to 32 s" in note
    # what is not asked for is not missed
    assert not annotated(tmp_path, events={recording.trials["stimulus"][1]: "x"}).notes or (
        make is not beyond_brainvision
    )


@pytest.mark.parametrize("kind", ["edf", "set", "table"])
def test_a_marker_at_the_very_end_is_left_out_and_named(tmp_path, kind):
    marks = [("happy", 2, 4), ("sad", 10, 4), ("Recording ends", 30, 0)]
    options = {"labels_from": "annotations"}
    if kind == "set":
        eeglab(tmp_path / "S1.set", marks)
    else:
        write(tmp_path / "S1.edf", [(at, n, text) for text, at, n in marks])
    if kind == "table":
        rows = "".join(f"S1.edf,{at},{n or ''},{text}\n" for text, at, n in marks)
        (tmp_path / "labels.csv").write_text(f"file,onset,duration,mood\n{rows}")
        options = {"labels_from": "labels.csv"}
    recording = only(FilesReader(**options), tmp_path)
    assert recording.trials["length"].tolist() == [400, 400]
    assert any("events without extent are left out: event 3 at 30 s" in n for n in recording.notes)


def test_a_negative_duration_is_none_and_it_is_said(tmp_path):
    write(tmp_path / "S1.edf")
    (tmp_path / "labels.csv").write_text("file,onset,duration\nS1.edf,2,-1\nS1.edf,10,4\n")
    recording = only(FilesReader(labels_from="labels.csv"), tmp_path)
    assert recording.trials["length"].tolist() == [800, 400]
    assert "1 events have a negative duration (2 s)" in recording.notes[0]


@pytest.mark.parametrize("missing", ["n/a", "", "NaN"])
def test_durations_that_are_all_missing_last_to_the_next_event(tmp_path, missing):
    write(tmp_path / "S1.edf")
    rows = "".join(f"S1.edf,{at},{missing}\n" for at in (2, 10))
    (tmp_path / "labels.csv").write_text(f"file,onset,duration\n{rows}")
    recording = only(FilesReader(labels_from="labels.csv"), tmp_path)
    assert recording.trials["length"].tolist() == [800, 2000]


@pytest.mark.parametrize("boundary", ["boundary", "Boundary", "boundary ", "-99"])
def test_an_interruption_in_any_spelling_begins_a_segment(tmp_path, boundary):
    eeglab(tmp_path / "S1.set", [("happy", 2, 4), (boundary, 15, 0), ("sad", 20, 4)])
    recording = annotated(tmp_path)
    assert [segment.shape[1] for segment in recording.segments] == [1500, 1500]
    assert recording.trials["event"].tolist() == ["happy", "sad"]


# --------------------------------------------------------------------------- tables and texts


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_numbers_where_commas_do_not_part_cells(tmp_path, separator):
    write(tmp_path / "S1.edf")
    rows = ["file onset duration valence mood", "S1.edf 2,5 4 7,5 a,b", "S1.edf 10 4,25 -3 c"]
    (tmp_path / "l.csv").write_text("\n".join(rows).replace(" ", separator))
    recording = only(FilesReader(labels_from="l.csv"), tmp_path)
    assert recording.trials["valence"].tolist() == [7.5, -3.0]
    assert recording.trials["mood"].tolist() == ["a,b", "c"]
    assert recording.trials[["onset", "length"]].to_numpy().tolist() == [[250, 400], [1000, 425]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_a_table_is_read_in_the_encodings_that_spreadsheets_save(tmp_path, encoding):
    write(tmp_path / "S1.edf")
    (tmp_path / "l.csv").write_bytes("file,mood\nS1.edf, fröhlich \n".encode(encoding))
    recording = only(FilesReader(labels_from="l.csv"), tmp_path)
    assert recording.trials["mood"].tolist() == ["fröhlich"]


@pytest.mark.parametrize("suffix", ["edf", "bdf"])
def test_samples_that_look_like_an_annotation_are_none(tmp_path, suffix):
    file = tmp_path / f"S1.{suffix}"
    write(file, [(2, 4, "happy")])
    content = bytearray(file.read_bytes())
    first_sample = 256 * (1 + len(NAMES) + 1)
    content[first_sample : first_sample + 12] = b"+7\x153\x14false\x14\x00"
    file.write_bytes(content)
    recording = annotated(tmp_path)
    assert recording.trials["event"].tolist() == ["happy"]
    assert not recording.notes


def test_a_text_that_is_no_recording_is_called_so(tmp_path):
    (tmp_path / "S1.txt").write_text("hello\n")
    reader = FilesReader(extensions=(".txt",))
    refused(reader, tmp_path, "no recording in a format that MNE reads.*convert it")


def test_texts_of_an_edf_in_another_encoding(tmp_path):
    write(tmp_path / "S1.edf", [(2, 4, "gl?cklich")])
    for encoding, text in (("latin-1", "glücklich"), ("cp1251", "глuцklich")):
        file = tmp_path / "S1.edf"
        content = file.read_bytes()
        wanted = text.encode(encoding).ljust(9)[:9]
        file.write_bytes(content.replace(b"gl?cklich", wanted))
        shown = annotated(tmp_path, encoding=encoding).trials["event"].tolist()
        assert shown == [wanted.decode(encoding)]
        recording = annotated(tmp_path)
        assert len(recording.trials) == 1
        assert any("were read as Latin-1" in note for note in recording.notes)
        file.write_bytes(content)
    refused(FilesReader(encoding="klingon"), tmp_path, "encoding")


# --------------------------------------------------------------------------- channels, positions


def test_channels_without_a_type_are_named_and_can_be_taken(tmp_path):
    raw_array(NAMES, types="misc").save(tmp_path / "S1_raw.fif", verbose="error")
    refused(FilesReader(), tmp_path, r"their type is misc\. Take them for EEG by --eeg")
    taken = only(FilesReader(eeg=("*",)), tmp_path)
    assert taken.channels == NAMES
    np.testing.assert_allclose(taken.segments[0].std(), 20, rtol=0.1)
    raw_array(NAMES, types=["eeg", "misc", "misc"]).save(
        tmp_path / "S1_raw.fif", overwrite=True, verbose="error"
    )
    recording = only(FilesReader(), tmp_path)
    assert recording.channels == ["Fp1"]
    assert "2 channels with names of electrodes have the type misc" in recording.notes[0]
    assert not only(FilesReader(not_eeg=("Cz", "O2")), tmp_path).notes


MONTAGE = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Cz", "Fz"]


@pytest.mark.parametrize("scale", [1e3, 1e2, 1e-3, 11.0])
def test_positions_in_another_unit_are_recognised(scale):
    for names in (MONTAGE, MONTAGE[:3]):
        UCS.check_positions(names, scale * UCS.positions(names), where="")
    # The scale of many is measured; that of a few is a power of ten.
    UCS.check_positions(MONTAGE, UCS.positions(MONTAGE) / 0.0254, where="")
    swapped = scale * UCS.positions([*MONTAGE[:2][::-1], *MONTAGE[2:]])
    with pytest.raises(DataError, match=r"was measured .* --ignore-positions"):
        UCS.check_positions(MONTAGE, swapped, where="")


@pytest.mark.parametrize("names", [MONTAGE, MONTAGE[:3], ["Fp1", "Cz", "O1", "T8"]])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_positions_with_axes_to_the_nose_are_recognised(names, scale):
    x, y, z = scale * UCS.positions(names).T
    UCS.check_positions(names, np.stack([y, -x, z], axis=1), where="")
    for mirrored in (np.stack([-x, y, z], axis=1), np.stack([x, -y, z], axis=1)):
        with pytest.raises(DataError, match="was measured"):
            UCS.check_positions(names, mirrored, where="")


def test_one_place_for_all_electrodes_was_not_measured():
    same = np.full((len(MONTAGE), 3), 0.03)
    UCS.check_positions(MONTAGE, same, where="")
    with pytest.raises(DataError, match=r"all channels have one measured position.*--montage"):
        UCS.name_by_position([*MONTAGE[1:], "E7"], same, where="")


@pytest.mark.parametrize("radius", [0.085, 0.095, 1.0])
def test_a_few_electrodes_of_a_spherical_template_are_compared_by_direction(radius):
    positions = mne.channels.make_standard_montage("biosemi64").get_positions()["ch_pos"]
    names = ["Fp1", "Cz", "Oz", "T7"]
    sphere = np.array([positions[name] for name in names])
    sphere *= radius / np.linalg.norm(sphere, axis=1, keepdims=True)
    UCS.check_positions(names, sphere, where="")
    with pytest.raises(DataError, match="was measured"):
        UCS.check_positions(["Oz", "Cz", "Fp1", "T7"], sphere, where="")


def test_positions_can_be_ignored(tmp_path):
    raw = raw_array(NAMES)
    points = dict(zip(NAMES, UCS.positions(["O2", "Cz", "Fp1"]), strict=True))
    raw.set_montage(mne.channels.make_dig_montage(points, coord_frame="head"))
    raw.save(tmp_path / "S1_raw.fif", verbose="error")
    failed = ingest("files", tmp_path, tmp_path / "a.zarr", name="mine", serial=True)
    assert "--ignore-positions" in failed.outcomes[0].reason
    ignored = ingest(
        "files", tmp_path, tmp_path / "b.zarr", name="mine", serial=True, ignore_positions=True
    )
    assert ignored.complete


def test_where_a_neuroscan_display_draws_a_channel_is_no_position(tmp_path):
    n, n_times = 8, 2000
    data = np.random.default_rng(0).normal(0, 20, (n, n_times))
    head = bytearray(900)
    head[:12] = b"Version 3.0\0"
    head[225:235], head[235:247] = b"01/02/2018", b"10:00:00\0\0\0\0"
    start = 900 + 75 * n
    for at, form, value in ((370, "<H", n), (376, "<H", 1000), (864, "<i", n_times),
                            (886, "<I", start + 4 * n * n_times)):  # fmt: skip
        struct.pack_into(form, head, at, value)
    electrodes = b""
    for i, name in enumerate(MONTAGE[:n]):
        entry = bytearray(75)
        entry[: len(name)] = name.encode()
        struct.pack_into("<ff", entry, 19, 600.0 - 70 * i, 80.0 + 30 * i)
        struct.pack_into("<f", entry, 59, 204.8)
        struct.pack_into("<f", entry, 71, 0.1)
        electrodes += bytes(entry)
    signal = np.round(data / 0.1).astype("<i4").T.tobytes()
    (tmp_path / "1_1.cnt").write_bytes(
        bytes(head) + electrodes + signal + struct.pack("<Bii", 1, 0, 0)
    )
    recording = only(FilesReader(), tmp_path)
    assert recording.positions is None
    np.testing.assert_allclose(recording.segments[0], data, atol=0.06)


def test_unknown_channels_are_named_at_once_with_the_nearest_names(tmp_path):
    write(tmp_path / "S1.edf", names=["FP1-F7", "Fpp1", "Cz"])
    summary = ingest("files", tmp_path, tmp_path / "s.zarr", name="mine", serial=True)
    reason = summary.outcomes[0].reason
    assert "2 of 3 channels are not in the channel schema: 'FP1-F7'" in reason
    assert "'Fpp1' (nearest: Fp1" in reason


def test_a_channel_is_excluded_by_its_name_as_the_source_spells_it(tmp_path):
    write(tmp_path / "S1.edf", names=["Fp1 [uV]", "Cz", "O2"])
    summary = ingest(
        "files", tmp_path, tmp_path / "s.zarr", name="mine", serial=True, exclude=["Fp1 [uV]"]
    )
    assert summary.complete
    assert open_store(tmp_path / "s.zarr").channels == ["Cz", "O2"]
    every = ingest("files", tmp_path, tmp_path / "t.zarr", name="mine", serial=True, exclude=["*"])
    assert "leaves out all of its 3 channels" in every.outcomes[0].reason


# --------------------------------------------------------------------------- files of another sort


def test_files_that_are_no_continuous_recording_are_called_what_they_are(tmp_path):
    epochs = mne.make_fixed_length_epochs(raw_array(NAMES), 2, preload=True, verbose="error")
    epochs.save(tmp_path / "S1-epo.fif", verbose="error")
    refused(FilesReader(), tmp_path, r"no continuous recording, but epochs.*Export it as")
    (tmp_path / "S1-epo.fif").unlink()
    epochs.average().save(tmp_path / "S1-ave.fif", verbose="error")
    refused(FilesReader(), tmp_path, r"no continuous recording.*Export it as")
    (tmp_path / "S1-ave.fif").unlink()
    eeglab(tmp_path / "S1.set", [("early", -3, 1)])
    refused(FilesReader(), tmp_path, r"an event before its first sample.*Correct the event")
    eeglab(tmp_path / "S1.set", trials=3)
    refused(FilesReader(), tmp_path, r"it was cut into epochs.*Export it as a continuous")
    (tmp_path / "S1.set").unlink()
    write_edf(tmp_path / "S1.edf", [], seconds=10, kind="EDF+C", events=[(1, 2, "N1")])
    refused(FilesReader(), tmp_path, r"it holds annotations and no signal.*--labels-from")


def test_a_brainvision_signal_that_ends_within_a_sample_is_refused(tmp_path):
    write_brainvision(tmp_path)
    os.truncate(tmp_path / "a.eeg", 6 * 500 + 5)
    refused(FilesReader(), tmp_path, "3005 bytes, which end 5 bytes into a sample of 6")


@pytest.mark.parametrize("field", ["DataFile", "MarkerFile"])
def test_a_header_leads_to_no_file_outside_its_folder(tmp_path, field):
    secret = tmp_path / "secret.bin"
    (tmp_path / "raw").mkdir()
    write_brainvision(tmp_path / "raw")
    header = tmp_path / "raw" / "a.vhdr"
    old = {"DataFile": "a.eeg", "MarkerFile": "a.vmrk"}[field]
    (tmp_path / "raw" / old).rename(secret)
    for name in (str(secret), "../secret.bin", "..\\secret.bin"):
        text = header.read_text(encoding="utf-8")
        header.write_text(text.replace(f"{field}={old}", f"{field}={name}"), encoding="utf-8")
        assert str(secret) not in FilesReader().discover(tmp_path / "raw")[0].files
        refused(FilesReader(), tmp_path / "raw", f"its {field} is .* out of its folder")
        header.write_text(text, encoding="utf-8")


def test_an_eeglab_file_leads_to_no_signal_outside_its_folder(tmp_path):
    (tmp_path / "raw").mkdir()
    secret = tmp_path / "secret.fdt"
    np.zeros((3000, 3), "<f4").tofile(secret)
    for name in (str(secret), "../secret.fdt"):
        eeglab(tmp_path / "raw" / "S1.set", signal=name)
        with pytest.raises(DataError, match=r"S1\.set"):
            only(FilesReader(), tmp_path / "raw")


def test_a_header_of_microseconds_and_a_table_without_a_number_are_refused(tmp_path):
    path = write(tmp_path / "S1.edf")
    content = bytearray(path.read_bytes())
    content[244:252] = b"0.00001 "
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"the sampling rate is 1e\+07 Hz"):
        only(FilesReader(), tmp_path)
    write(tmp_path / "S1.edf")
    recording = only(FilesReader(), tmp_path)
    for name, value in (("onset", np.nan), ("length", 10.5), ("baseline_onset", "x")):
        damaged = recording.trials.astype(object).assign(**{name: value})
        with pytest.raises(DataError, match=f"the {name} of trial 1 is"):
            type(recording)(recording.key, NAMES, 100.0, recording.segments, damaged).check()


# --------------------------------------------------------------------------- BIDS

EVENTS = "onset\tduration\ttrial_type\tvalence\n2\t4\thappy\t7\n10\t4\tsad\t3\n"
CHANNELS = "name\ttype\tunits\nFp1\tEEG\tuV\nCz\tEEG\tuV\nO2\tEEG\tuV\n"


def bids(root, *, events=EVENTS, channels=CHANNELS, facts='{"TaskName": "film"}', who=("01",)):
    """Write a BIDS dataset of EDF files; a sidecar is text or bytes."""
    root.mkdir()
    (root / "dataset_description.json").write_text(
        '{"Name": "Films & Feelings", "BIDSVersion": "1"}'
    )
    for seed, subject in enumerate(who):
        folder = root / f"sub-{subject}" / "eeg"
        stem = f"sub-{subject}_task-film"
        write(folder / f"{stem}_eeg.edf", seed=seed)
        for end, content in (
            ("events.tsv", events),
            ("channels.tsv", channels),
            ("eeg.json", facts),
        ):
            content = content if isinstance(content, bytes) else content.encode()
            (folder / f"{stem}_{end}").write_bytes(content)
    return root


@pytest.mark.parametrize("missing", ["n/a", ""])
def test_bids_durations_that_are_all_missing(tmp_path, missing):
    root = bids(tmp_path / "raw", events=EVENTS.replace("\t4\t", f"\t{missing}\t"))
    assert only(BidsReader(), root).trials["length"].tolist() == [800, 2000]
    assert only(BidsReader(duration=4), root).trials["length"].tolist() == [400, 400]


def test_bids_texts_in_other_encodings_and_spellings(tmp_path):
    facts = json.dumps({"EEGReference": "Cz", "InstitutionName": "Hôpital"}, ensure_ascii=False)
    for name, content in (("bom", facts.encode("utf-8-sig")), ("latin", facts.encode("latin-1"))):
        recording = only(BidsReader(), bids(tmp_path / name, facts=content))
        assert recording.source["reference"] == "Cz"
        assert [f"{name}/sub-01" in note for note in recording.notes] == [True] * (name == "latin")
    refused(BidsReader(), bids(tmp_path / "damaged", facts="{"), r"_eeg\.json: it is no JSON")
    spelled = bids(
        tmp_path / "spelled", events=EVENTS.replace("sad", " sad ").replace("2\t4", "2,5\t4")
    )
    trials = only(BidsReader(events={"sad": "-", "happy": "+"}), spelled).trials
    assert trials["event"].tolist() == ["+", "-"]
    assert trials["trial_type"].tolist() == ["happy", "sad"]
    assert trials["onset"].tolist() == [250, 1000]


def test_bids_channels_that_differ_are_told_and_not_refused(tmp_path):
    other = only(
        BidsReader(), bids(tmp_path / "case", channels=CHANNELS.replace("Fp1\tEEG", "FP1\tEOG"))
    )
    assert (other.channels, other.auxiliary[0].names, other.notes) == (["Cz", "O2"], ("Fp1",), [])
    twice = only(BidsReader(), bids(tmp_path / "twice", channels=CHANNELS.replace("Cz", "Fp1")))
    assert twice.channels == NAMES
    unknown = bids(tmp_path / "unknown", channels=CHANNELS.replace("Cz", "Pz"))
    (note,) = only(BidsReader(), unknown).notes
    assert "names channels that the file has not: Pz; and it does not name Cz" in note
    assert only(BidsReader(names_from="channels.tsv"), unknown).channels == ["Fp1", "Pz", "O2"]
    short = bids(tmp_path / "short", channels=CHANNELS.replace("Cz\tEEG\tuV\n", ""))
    assert only(BidsReader(), short).channels == NAMES
    refused(BidsReader(names_from="channels.tsv"), short, "has 2 rows, .* 3 channels")
    untyped = bids(tmp_path / "untyped", channels=CHANNELS.replace("EEG", "n/a"))
    assert only(BidsReader(), untyped).channels == NAMES


def test_one_misnamed_bids_file_stops_itself_alone(tmp_path):
    root = bids(tmp_path / "raw", who=("01", "02", "03"))
    for path in list((root / "sub-02" / "eeg").iterdir()):
        path.rename(path.with_name(path.name.replace("task-film", "task-film-2")))
    for path in list((root / "sub-03" / "eeg").iterdir()):
        path.rename(path.with_name(path.name.replace("sub-03", "sub-01")))
    with pytest.raises(DataError, match="would both be sub-01"):
        BidsReader().discover(root)
    shutil.rmtree(root / "sub-03")
    summary = ingest("bids", root, tmp_path / "s.zarr", serial=True)
    assert [outcome.status for outcome in summary.outcomes] == ["stored", "failed"]
    assert "'task-film-2' of its name is not a key, a hyphen" in summary.outcomes[1].reason
    assert open_store(tmp_path / "s.zarr").name == "films-feelings"


def test_data_of_anybodys_need_a_name(tmp_path):
    raw, store = tmp_path / "raw", tmp_path / "s.zarr"
    write(raw / "a.edf")
    for run in (ingest, plan):
        with pytest.raises(DataError, match=r"they have no name.*--name eegmat"):
            run("files", raw, store)
    assert not store.exists()
    ingest("files", raw, store, serial=True, name="mine")
    # What is there keeps its name, also where it is not said again.
    again = ingest("files", raw, store, serial=True)
    assert [outcome.status for outcome in again.outcomes] == ["kept"]
    rewritten = ingest("files", raw, store, serial=True, rewrite=True)
    assert [outcome.status for outcome in rewritten.outcomes] == ["stored"]
    assert open_store(store).name == "mine"
    with pytest.raises(DataError, match="source is mine there and yours here"):
        ingest("files", raw, store, serial=True, name="yours")
    bare = bids(tmp_path / "bids")
    (bare / "dataset_description.json").unlink()
    with pytest.raises(DataError, match=r"they have no name.*or a Name in dataset_description"):
        ingest("bids", bare, tmp_path / "b.zarr", serial=True)
    ingest("bids", bare, tmp_path / "b.zarr", serial=True, name="feelings")
    assert open_store(tmp_path / "b.zarr").name == "feelings"


def test_a_store_from_before_names_were_needed_goes_on(tmp_path, monkeypatch):
    raw, store = tmp_path / "raw", tmp_path / "s.zarr"
    write(raw / "a.edf")
    with monkeypatch.context() as earlier:
        earlier.setattr("omfa.pipeline.ingestion.UNNAMED", ())
        ingest("files", raw, store, serial=True)
    for damage in (lambda: None, (store / "zarr.json").unlink):
        damage()
        kept = ingest("files", raw, store, serial=True)
        assert [outcome.status for outcome in kept.outcomes] == ["kept"]
        assert open_store(store).name == "files"


def test_bids_electrodes_with_gaps_are_read(tmp_path):
    root = bids(tmp_path / "raw")
    folder = root / "sub-01" / "eeg"
    rows = [
        f"{n}\t{x}\t{y}\t{z}"
        for n, (x, y, z) in zip(NAMES, 1e3 * UCS.positions(NAMES), strict=True)
    ]
    rows[1] = "Cz\tn/a\tn/a\tn/a"
    (folder / "sub-01_space-CapTrak_electrodes.tsv").write_text("name\tx\ty\tz\n" + "\n".join(rows))
    (folder / "sub-01_space-CapTrak_coordsystem.json").write_text(
        '{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "mm"}'
    )
    recording = only(BidsReader(), root)
    expected = UCS.positions(NAMES)
    expected[1] = np.nan
    np.testing.assert_allclose(recording.positions, expected, atol=1e-6)
    assert only(BidsReader(ignore_positions=True), root).positions is None


# a table with the columns that are looked for, some of them, and cells of any sort
CELLS = st.builds(
    lambda names, cells: "\t".join(names) + "\n" + "\t".join(cells),
    st.lists(
        st.sampled_from(
            ["onset", "duration", "trial_type", "value", "name", "type", "status", "x", "y", "z"]
        )
    ),
    st.lists(st.sampled_from(["1", "-1", "n/a", "", "7,5", "x", "Fp1", "nan", "1e999", '"', "\n"])),
)


@pytest.mark.parametrize(
    "end", ["events.tsv", "channels.tsv", "eeg.json", "electrodes.tsv", "participants.tsv"]
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | CELLS)
def test_a_bids_sidecar_of_anything_is_read_or_refused_by_name(tmp_path_factory, end, content):
    root = bids(tmp_path_factory.mktemp("fuzz") / "raw")
    folder = root if end == "participants.tsv" else root / "sub-01" / "eeg"
    stem = "" if end == "participants.tsv" else "sub-01_task-film_"
    (folder / f"{stem}{end}").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    told = ()
    try:
        only(BidsReader(), root)
    except DataError as error:
        told = error.args
    assert len(told) in (0, 3)
    assert not told or end.split(".")[0].rstrip("s") in " ".join(told)


def test_bids_sidecars_are_inherited_from_the_nearest_folder(tmp_path):
    root = bids(tmp_path / "raw", who=("01", "02"))
    events = root / "sub-01" / "eeg" / "sub-01_task-film_events.tsv"
    events.rename(root / "task-film_events.tsv")
    (root / "task-rest_events.tsv").write_text(EVENTS.replace("happy", "calm"))
    for key in BidsReader().discover(root):
        assert BidsReader().read(key).trials["trial_type"].tolist() == ["happy", "sad"]
    assert "task-film_events.tsv" in BidsReader().discover(root)[0].files


def test_an_option_that_came_later_does_not_change_the_settings_of_a_store(tmp_path):
    write(tmp_path / "S1.edf")
    ingest("files", tmp_path, tmp_path / "s.zarr", name="mine", serial=True)
    assert set(open_store(tmp_path / "s.zarr").settings["reader"]) == {
        "class", "pattern", "labels_from", "events", "duration", "extensions", "not_eeg", "unit",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"reader\.eeg is None there and \['\*'\] here"):
        ingest("files", tmp_path, tmp_path / "s.zarr", name="mine", serial=True, eeg=("*",))


def test_a_key_of_nothing_is_no_crash(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reader in (FilesReader(), BidsReader()):
            with pytest.raises(DataError, match=r"is not there|is not a key"):
                reader.read(Key("1", files=("sub-1/eeg/sub-1_eeg.edf",), root=str(tmp_path)))
