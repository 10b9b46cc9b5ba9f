"""What is a recording in a folder that predict is given."""

import mne
import numpy as np
import pytest

from omfa.pipeline import DataError
from omfa.zoo.prediction.recordings import recordings_in


def recording(path):
    info = mne.create_info(["Fp1", "Cz"], 100.0, "eeg")
    mne.io.RawArray(np.zeros((2, 200)), info, verbose="error").save(path, verbose="error")


def test_folders_that_are_one_recording_are_found_beside_files(tmp_path):
    recording(tmp_path / "one_raw.fif")
    (tmp_path / "later" / "two.MFF").mkdir(parents=True)
    recording(tmp_path / "later" / "two.MFF" / "inside_raw.fif")
    assert dict(recordings_in(tmp_path)) == {
        "one_raw": tmp_path / "one_raw.fif",
        "later_two": tmp_path / "later" / "two.MFF",
    }


def test_a_folder_without_recordings_is_answered_by_what_predict_has(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"holds no recording.*or a recording by its own path"):
        list(recordings_in(tmp_path))
