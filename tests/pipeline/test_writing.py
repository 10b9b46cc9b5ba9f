"""A file or folder has its name when it is whole, and a failure leaves nothing of it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omfa.pipeline.writing import is_draft, staged, staged_folder, write_whole


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "out" / "result.txt"
    write_whole(path, "old")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bytes_and_text_replace_what_was_there(file):
    write_whole(file, "µV\r\n")
    assert file.read_bytes() == "µV\r\n".encode()
    write_whole(str(file), b"\0\1")
    assert file.read_bytes() == b"\0\1"
    assert names(file.parent) == [file.name]


def fail(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_failure_leaves_the_old_file_and_no_draft(file, monkeypatch, owner, step):
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, "new")
    assert file.read_text() == "old"
    assert names(file.parent) == [file.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_no_draft(file, error):
    def write():
        with staged(file) as out:
            out.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert file.read_text() == "old"
    assert names(file.parent) == [file.name]


def test_a_name_that_is_taken_can_be_refused(file):
    with pytest.raises(FileExistsError):
        write_whole(file, "new", replace=False)
    write_whole(file.with_name("new"), "new", replace=False)
    assert file.read_text() == "old"
    assert names(file.parent) == ["new", file.name]


def test_content_is_flushed_before_the_name_is_taken(file, monkeypatch):
    flushed = []
    fsync = os.fsync

    def watch(descriptor):
        fsync(descriptor)
        flushed.append((os.fstat(descriptor).st_size, file.read_text()))

    monkeypatch.setattr(os, "fsync", watch)
    write_whole(file, "newer")
    assert flushed == [(5, "old")]


def test_writers_of_one_name_never_share_a_draft(file):
    contents = [str(i) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_whole(file, text), contents * 5))
    assert file.read_text() in contents
    assert names(file.parent) == [file.name]


def make(folder, name, error=None):
    with staged_folder(folder) as made:
        write_whole(made / "sub" / name, name)
        if error:
            raise error


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "deep" / "checkpoint"
    make(folder, "one")
    make(folder, "two")
    assert names(folder / "sub") == ["two"]
    assert names(folder.parent) == ["checkpoint"]


def test_a_failure_keeps_the_old_folder_and_no_draft(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint"
    make(folder, "old")
    with pytest.raises(RuntimeError):
        make(folder, "new", RuntimeError)
    rename = Path.rename

    def fail_for_the_new(self, target):
        return fail() if (self / "sub" / "new").exists() else rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="No space"):
        make(folder, "new")
    assert names(folder / "sub") == ["old"]
    assert names(tmp_path) == ["checkpoint"]


def test_a_file_in_the_way_of_a_folder_stays(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OSError, match="taken"), staged_folder(tmp_path / "taken"):
        pass
    assert names(tmp_path) == ["taken"]
    assert (tmp_path / "taken").read_text() == "mine"


def test_what_a_killed_process_left_is_known_by_its_name(tmp_path):
    path = tmp_path / "a.mat"
    with staged(path) as out:
        assert is_draft(Path(out.name), of=path)
    for other in ("a.mat", "ba.mat.part", "a.mat.notes.part", "a.part"):
        assert not is_draft(tmp_path / other, of=path)
