"""MAHNOB-HCI: sessions and what they tell, the status channel, and what is said of wrong files."""

import shutil
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

from omfa.pipeline import UCS, DataError, simulate
from omfa.pipeline.readers.corpora.mahnob_hci import (
    AUXILIARY,
    CHANNELS,
    EMOTIONS,
    RATINGS,
    MahnobHciReader,
)
from omfa.pipeline.recording import SourceWarning
from omfa.pipeline.simulation import Truth
from omfa.pipeline.simulation.formats import BdfChannel, write_bdf

READER = MahnobHciReader()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Subjects 1 and 2, each channel with a tone of its own."""
    root = tmp_path_factory.mktemp("mahnob") / "MAHNOB"
    simulate("mahnob-hci", root, subjects=2, seconds=4, bad_channels=0, tones=150.0, progress=False)
    return root


def listed(root):
    """List recordings; the sessions that are always left out are another test's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no felt emotion", SourceWarning)
        return READER.discover(root)


@pytest.fixture
def copy(tree, tmp_path):
    """Copy a session of a neutral clip and two with an emotion: subject 1's trials 1 and 2."""
    for number in (1, 2, 4):
        shutil.copytree(tree / f"Sessions/{number}", tmp_path / f"M/Sessions/{number}")
    return tmp_path / "M"


def changed(root, number, *pairs):
    """Change a session's description."""
    path = root / f"Sessions/{number}/session.xml"
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_every_session_with_an_emotion_is_a_recording(tree):
    with pytest.warns(SourceWarning, match=r"42 files tell of no felt emotion.*1/session\.xml"):
        keys = READER.discover(tree)
    assert len(keys) == 40
    assert keys[0].recording == "sub-01_ses-1_run-01"
    assert keys[0].files == ("Sessions/2/Part_1_S_Trial1_emotion.bdf", "Sessions/2/session.xml")
    assert keys[-1].files[0] == "Sessions/170/Part_2_S_Trial20_emotion.bdf"
    assert [key.recording for key in listed(tree / "Sessions")] == [key.recording for key in keys]


def test_labels_and_times_are_those_of_the_truth(tree):
    truth = {(row["subject"], row["trial"]): row for row in Truth.load(tree).trials}
    for key in listed(tree):
        found = READER.read(key)
        row = truth[int(key.subject), int(key.run)]
        (trial,) = found.trials.to_dict("records")
        for name in ("stimulus", "emotion", *RATINGS):
            assert trial[name] == row[name]
        assert (trial["onset"], trial["length"]) == (2 * 256, row["seconds"] * 256)
        assert (trial["baseline_onset"], trial["baseline_length"]) == (0, 512)
        assert found.source["status_idle"] == (0 if key.subject == "01" else 0x500)
        assert found.notes == []
    assert {row["emotion"] for row in truth.values()} <= set(EMOTIONS.values())


def test_every_channel_has_its_own_tone_and_the_offset_of_the_release(tree):
    truth = {recording["file"]: recording for recording in Truth.load(tree).recordings}
    for key in listed(tree)[::13]:
        found = READER.read(key)
        trial = found.trials.iloc[0]
        clip = found.segments[0][:, trial["onset"] : trial["onset"] + trial["length"]]
        assert ((clip.mean(axis=1) < -2_500) & (clip.mean(axis=1) > -4_500)).all()
        centred = clip - clip.mean(axis=1, keepdims=True)
        power = np.abs(np.fft.rfft(centred * np.hanning(clip.shape[1]), 5120))
        heard = np.fft.rfftfreq(5120, 1 / 256)[power.argmax(axis=1)]
        expected = [truth[key.files[0]]["tones"][name] for name in found.channels]
        np.testing.assert_allclose(heard, expected, atol=0.2)
    assert UCS.canonicalize(list(CHANNELS)) == list(CHANNELS)


def test_signals_are_those_that_mne_reads(tree):
    key = listed(tree)[21]
    found = READER.read(key)
    raw = mne.io.read_raw_bdf(key.paths[0], verbose="error")
    assert raw.info["sfreq"] == found.sfreq == 256
    assert len(raw.ch_names) == 47
    theirs = raw.get_data(picks=list(CHANNELS)) * 1e6
    np.testing.assert_allclose(found.segments[0], theirs, rtol=1e-6, atol=1e-3)
    (rest,) = found.auxiliary
    assert rest.names == tuple(AUXILIARY)
    theirs = raw.get_data(picks=["EXG2"])[0] * 1e6
    np.testing.assert_allclose(rest.segments[0][1], theirs, rtol=1e-6, atol=1e-3)
    assert MahnobHciReader(auxiliary=False).read(key).auxiliary == []
    assert "CMS" in found.source["reference"]


def test_a_session_without_eeg_is_left_out_and_one_whose_eeg_is_lost_fails(copy, told):
    (copy / "Sessions/2/Part_1_S_Trial1_emotion.bdf").unlink()
    lost, there = listed(copy)
    with pytest.raises(DataError) as caught:
        READER.read(lost)
    told(caught, "subject 1 session 1 (Part_1_S_Trial1_emotion.bdf) trial 1", "is not there")
    READER.read(there)
    changed(copy, 2, ('type="Physiological"', 'type="Video"'))
    with pytest.warns(SourceWarning, match=r"1 files tell of no EEG.*: 2/session\.xml"):
        (key,) = listed(copy)
    assert key.run == "02"


def test_a_session_without_its_description_fails_alone(copy, told):
    (copy / "Sessions/2/session.xml").unlink()
    first, second = listed(copy)
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "subject 1 session 1 (Part_1_S_Trial1_emotion.bdf) trial 1", "session.xml is not")
    READER.read(second)


def test_a_folder_that_cannot_be_read_is_told(copy, monkeypatch, told):
    listing = Path.iterdir

    def refused(path):
        if path.name == "4":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError) as caught:
        listed(copy)
    told(caught, "Sessions/4 cannot be read (Permission denied)", "permissions")


def test_copies_are_left_out_and_named(copy, told):
    shutil.copytree(copy / "Sessions/2", copy / "Sessions/2 (1)")
    with pytest.warns(SourceWarning, match=r"not named by a number.*: Sessions/2 \(1\)"):
        assert len(listed(copy)) == 2
    shutil.rmtree(copy / "Sessions/2 (1)")
    again = copy / "Sessions/2/Part_1_S_Trial3_emotion.bdf"
    shutil.copy(copy / "Sessions/2/Part_1_S_Trial1_emotion.bdf", again)
    with pytest.warns(SourceWarning, match=rf"2/{again.name}"):
        assert [key.run for key in listed(copy)] == ["01", "02"]
    again.unlink()
    shutil.copytree(copy / "Sessions/2", copy / "Sessions/900")
    with pytest.raises(DataError) as caught:
        listed(copy)
    told(caught, "Sessions/900/", "Sessions/2/", "both subject 01's trial 01", "Take one")


def test_a_renamed_session_is_noted_and_a_mixed_one_refused(copy, told):
    (copy / "Sessions/4").rename(copy / "Sessions/44")
    first, second = (READER.read(key) for key in listed(copy))
    assert first.notes == []
    (note,) = second.notes
    assert "its folder is called 44" in note
    assert "session 4" in note
    shutil.copy(copy / "Sessions/2/session.xml", copy / "Sessions/44/session.xml")
    with pytest.raises(DataError) as caught:
        READER.read(listed(copy)[1])
    told(caught, "its file is part_1_s_trial1_emotion.bdf", "go with Part_1_S_Trial2_emotion.bdf")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('feltEmo="', 'feltEmo="9', ["feltEmo '9", "expected one of 0, 1, 2"]),
        ('feltArsl="', 'feltArsl="1', ["feltArsl '1", "from 1 to 9"]),
        ('feltVlnc="', 'feltVlnc="x', ["feltVlnc 'x", "from 1 to 9"]),
        ("mediaFile", "media", ["no mediaFile"]),
        ('id="1"', 'id="7"', ["its subject is 7"]),
        ("</session>", "", ["session.xml is damaged"]),
        ("session", "meeting", ["<meeting>, expected <session>"]),
        ("<session", "<!DOCTYPE s [<!ENTITY a 'b'>]><session", ["document type", "Do not trust"]),
        ("<session", "<!DOCTYPE session SYSTEM 'http://x/y'><session", ["document type"]),
        ('date="', f'date="{"1" * (1 << 20)}', ["more than 1048576"]),
    ],
)
def test_wrong_descriptions_are_told_and_the_next_session_is_read(copy, old, new, words, told):
    changed(copy, 2, (old, new))
    first, second = listed(copy)
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "subject 1 session 1 (Part_1_S_Trial1_emotion.bdf) trial 1", *words)
    READER.read(second)


def test_another_number_of_clip_is_noted(copy):
    changed(copy, 2, ('cutNr="2"', 'cutNr="12"'))
    first, second = (READER.read(key) for key in listed(copy))
    assert any("its cutNr is 12" in note for note in first.notes)
    assert not any("cutNr" in note for note in second.notes)


def test_a_document_type_in_another_encoding_is_refused_too(copy):
    path = copy / "Sessions/2/session.xml"
    text = (
        path.read_text().replace("UTF-8", "UTF-16").replace("<session", "<!DOCTYPE s><session", 1)
    )
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(DataError, match="document type"):
        READER.read(listed(copy)[0])


def test_answers_that_were_not_asked_for_are_missing(copy):
    changed(copy, 2, ("feltPred", "other"))
    trial = READER.read(listed(copy)[0]).trials.iloc[0]
    assert np.isnan(trial["predictability"])
    assert trial["dominance"] in range(1, 10)


def small_bdf(root, codes, *, channels=CHANNELS, sfreq=256, status="Status"):
    """Write subject 1's trial 1 with these values of the status channel."""
    digits = np.random.default_rng(0).integers(-900, 900, (len(channels) + 1, 1024), np.int32)
    digits[-1] = codes
    heads = [*map(BdfChannel, channels), BdfChannel(status, status=True)]
    path = root / "Sessions/2/Part_1_S_Trial1_emotion.bdf"
    write_bdf(path, heads, [digits], n_records=1024 // sfreq, sfreq=sfreq)
    return listed(root)[0]


def marks(*spans, idle=0x190000, value=268):
    codes = np.full(1024, idle, np.int32)
    for start, end in spans:
        codes[start:end] += value
    return codes


@pytest.mark.parametrize("idle", [0, 0x190000, 0x190500, 0x600003])
@pytest.mark.parametrize("value", [1, 268, 0x4000])
def test_the_clip_lasts_from_mark_to_mark_whatever_rests_between(copy, idle, value):
    spans = [(300, 310), (800, 810)]
    key = small_bdf(copy, marks(*spans, idle=idle, value=value))
    trial = READER.read(key).trials.iloc[0]
    assert (trial["onset"], trial["length"]) == (300, 500)
    assert (trial["baseline_onset"], trial["baseline_length"]) == (0, 300)


def test_channels_are_taken_by_name(copy):
    key = small_bdf(copy, marks((300, 310), (800, 810)))
    expected = READER.read(key).segments[0]
    shuffled = [*CHANNELS[16:], *CHANNELS[:16]]
    found = READER.read(small_bdf(copy, marks((300, 310), (800, 810)), channels=shuffled))
    np.testing.assert_array_equal(found.segments[0], np.roll(expected, -16, axis=0))


@pytest.mark.parametrize(
    ("codes", "options", "words"),
    [
        (marks(), {}, ["0 marks, with the values 0", "leave the session out"]),
        (marks((300, 310)), {}, ["1 marks, with the values 0, 268"]),
        (marks((3, 5), (300, 310), (800, 810)), {}, ["3 marks"]),
        (marks((300, 310), (309, 310), (800, 810)), {}, ["2 marks, with the values 0, 268, 536"]),
        (marks((300, 310), (800, 810)), {"sfreq": 512}, ["512 Hz, expected 256 Hz"]),
        (marks((300, 310), (800, 810)), {"status": "Stat"}, ["no channels are called Status"]),
        (marks((1, 2), (8, 9)), {"channels": CHANNELS[1:]}, ["no channels are called Fp1"]),
        (
            marks((1, 2), (8, 9)),
            {"channels": [*CHANNELS, "Fp1"]},
            ["2 channels are called Fp1"],
        ),
    ],
)
def test_wrong_recordings_are_told(copy, codes, options, words, told):
    with pytest.raises(DataError) as caught:
        READER.read(small_bdf(copy, codes, **options))
    told(caught, "subject 1 session 1 (Part_1_S_Trial1_emotion.bdf) trial 1", *words)


@pytest.mark.parametrize("n_bytes", [0, 300, 100_000, -1])
def test_a_truncated_recording_fails_alone(copy, n_bytes, told):
    path = copy / "Sessions/2/Part_1_S_Trial1_emotion.bdf"
    path.write_bytes(path.read_bytes()[:n_bytes])
    first, second = listed(copy)
    with pytest.raises(DataError) as caught:
        READER.read(first)
    told(caught, "subject 1", "Download")
    READER.read(second)


def test_an_unreadable_description_alone_is_named(copy):
    changed(copy, 1, ("<session", "<"))
    (copy / "Sessions/1/Part_1_N_Trial1_emotion.bdf").unlink()
    with pytest.warns(SourceWarning, match=r"cannot be read, lie beside no recording.*1/session"):
        assert len(READER.discover(copy)) == 2


def test_the_wrong_corpus_and_two_copies_are_told(copy, tmp_path, told):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/s01.dat").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        READER.discover(tmp_path / "other")
    told(caught, "no numbered folder", "s01.dat", "another source")
    shutil.copytree(copy, tmp_path / "N")
    with pytest.raises(DataError) as caught:
        READER.discover(tmp_path)
    told(caught, "2 folders", "Give one")
    for number in (2, 4):
        shutil.rmtree(copy / f"Sessions/{number}")
    with pytest.raises(DataError) as caught:
        listed(copy)
    told(caught, "none of its sessions has EEG and a felt emotion")
