"""Broken, full and crowded machines: nothing is damaged in silence, and nothing is a dead end."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from omfa.pipeline import (
    DataError,
    Key,
    Preprocessing,
    cluster,
    encoding,
    ingest,
    location,
    open_store,
)
from omfa.pipeline import store as stores
from omfa.pipeline.cli import main
from omfa.pipeline.location import STAGING, Folder
from omfa.pipeline.report import write_report

NAME = "sub-01_ses-1_run-1"


@pytest.fixture
def store(tree, reader, tmp_path):
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    return tmp_path / "s.zarr"


@pytest.fixture
def by_value():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def statuses(summary):
    return [outcome.status for outcome in summary.outcomes]


def damaged(store):
    return {name: damage.found for name, damage in open_store(store).verify() if damage}


# ------------------------------------------------------------------- who cannot see each other

FILES = {"zarr.json": b"0", "a/zarr.json": b"1", "a/c/0/0": b"2", "b/zarr.json": b"3"}


@pytest.mark.parametrize("moment", range(len(FILES)))
def test_a_run_that_is_taken_for_dead_commits_its_whole_set(tmp_path, monkeypatch, moment):
    """As in containers that share a host's name and have process ids of their own."""
    here, write, written = Folder(tmp_path / "s.zarr"), Path.write_bytes, []
    monkeypatch.setattr(location, "_abandoned", lambda run: True)

    def sweeping(path, data):
        write(path, data)
        written.append(path)
        if len(written) == moment + 1:
            here.sweep("another-1-1")

    monkeypatch.setattr(Path, "write_bytes", sweeping)
    here.commit("rec", FILES, last="zarr.json", owner=location.this_run())
    assert len(written) > len(FILES), "nothing was begun again"
    assert {name: here.read(f"rec/{name}") for name in here.files("rec")} == FILES
    here.sweep("another-1-1")
    assert not (tmp_path / "s.zarr" / STAGING).exists()


def test_a_root_that_is_swept_while_it_is_written_is_written_again(tmp_path, monkeypatch):
    here, fsync, calls = Folder(tmp_path / "s.zarr"), os.fsync, []
    monkeypatch.setattr(location, "_abandoned", lambda run: True)

    def sweeping(file):
        calls.append(file)
        if len(calls) == 1:
            here.sweep("another-1-1")
        return fsync(file)

    monkeypatch.setattr(os, "fsync", sweeping)
    here.write("zarr.json", b"{}")
    assert here.read("zarr.json") == b"{}"
    assert len(calls) == 2


def test_threads_of_one_process_share_a_store(tree, reader, tmp_path, monkeypatch, bytes_of):
    ingest(reader, tree, tmp_path / "alone.zarr", serial=True)
    store, write, first, seen = tmp_path / "s.zarr", Path.write_bytes, threading.get_ident(), []

    def interrupted(path, data):
        write(path, data)
        if STAGING in str(path) and threading.get_ident() == first:
            seen.append(path)
            if len(seen) == 20:
                other = {"subjects": [2], "serial": True}
                thread = threading.Thread(target=ingest, args=(reader, tree, store), kwargs=other)
                thread.start()
                thread.join()

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert ingest(reader, tree, store, serial=True).complete
    assert bytes_of(store) == bytes_of(tmp_path / "alone.zarr")


def test_verify_beside_a_rewrite_does_not_cry_damage(store, tree, reader, tmp_path, monkeypatch):
    other = tmp_path / "other.zarr"
    ingest(reader, tree, other, serial=True, dtype="float32")
    read, done = Folder.read, []

    def replaced(here, name, *most):
        content = read(here, name, *most)
        if name == f"{NAME}/zarr.json" and not done:
            done.append(name)
            shutil.rmtree(store / NAME)
            shutil.copytree(other / NAME, store / NAME)
        return content

    monkeypatch.setattr(Folder, "read", replaced)
    assert stores.damage(location.locate(store), NAME) == ""
    assert done


# ------------------------------------------------------------------- damage that is read


def arrays(store):
    folder = store / NAME
    return sorted(
        (path, path.relative_to(folder).as_posix().split("/c")[0])
        for path in folder.rglob("*")
        if path.is_file() and path.name != "zarr.json"
    )


def test_a_changed_byte_in_any_array_is_an_error_where_it_is_read(store):
    rng = np.random.default_rng(0)
    for path, name in arrays(store):
        whole = path.read_bytes()
        before = open_store(store)[NAME].array(name)
        for _ in range(8):
            content = bytearray(whole)
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
            path.write_bytes(content)
            try:
                after = open_store(store)[NAME].array(name)
            except DataError as error:
                message = str(error)
            else:  # a shard has bytes that stand for nothing
                message = ""
                assert name == "signal"
                np.testing.assert_array_equal(after, before)
            assert not message or re.match(f"Reading {NAME} .* ingest command again", message)
        path.write_bytes(whole)


def test_a_lost_file_is_no_array_of_fill_values(store):
    for path, name in arrays(store):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=r"is missing|cannot be decoded"):
            open_store(store)[NAME].array(name)
        path.write_bytes(whole)
        open_store(store)[NAME].array(name)


def test_exchanged_folders_are_named_and_made_again(store, tree, reader, bytes_of):
    whole = bytes_of(store)
    first, second = (store / f"sub-0{i}_ses-1_run-1" for i in range(2))
    first.rename(store / "x")
    second.rename(first)
    (store / "x").rename(second)
    with pytest.raises(DataError, match="it is sub-00_ses-1_run-1 under another name"):
        open_store(store)[second.name].signal()
    assert set(damaged(store)) == {first.name, second.name}
    assert statuses(ingest(reader, tree, store, serial=True)) == ["stored", "stored", "kept"]
    assert bytes_of(store) == whole


def test_changed_metadata_are_an_error_where_they_are_read(store):
    path = store / NAME / "zarr.json"
    path.write_text(path.read_text().replace('"Fp1"', '"Fp9"'))
    with pytest.raises(DataError, match=r"zarr\.json was changed"):
        _ = open_store(store)[NAME].attrs


def test_a_list_of_files_may_not_lead_out_of_its_folder(store):
    path = store / NAME / "zarr.json"
    document = json.loads(path.read_text())
    attrs = document["attributes"]
    del attrs["digest"]
    attrs["checksums"]["../../../../dev/zero"] = "0" * 64
    attrs["digest"] = encoding.digest(document)
    path.write_text(json.dumps(document))
    assert "names a file outside of it (../../../../dev/zero)" in damaged(store)[NAME]


def test_a_signal_is_float32_and_has_finite_sums(tmp_path, reader, tiny_file):
    (root := tmp_path / "raw").mkdir()
    tiny_file(root / "00.npz", seed=0, scale=300.0)
    ingest(reader, root, tmp_path / "s.zarr", serial=True, dtype="float16")
    recording = open_store(tmp_path / "s.zarr")["sub-00_ses-1_run-1"]
    assert recording.stored_signal(5, 9).dtype == np.float16
    signal = recording.signal()
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, recording.stored_signal())
    assert np.isfinite(signal.std(axis=1)).all()


def test_a_store_without_checksums_behind_its_chunks_is_read_kept_and_said(
    tree, reader, tmp_path, monkeypatch, capsys
):
    """As omfa wrote them before: no CRC-32C, and no digest of the root."""
    create = zarr.Group.create_array

    def bare(group, name, *, compressors, **rest):
        kept = [c for c in compressors if not isinstance(c, Crc32cCodec)] or None
        return create(group, name, compressors=kept, **rest)

    monkeypatch.setattr(zarr.Group, "create_array", bare)
    store = tmp_path / "old.zarr"
    ingest(reader, tree, store, serial=True)
    monkeypatch.undo()
    root = json.loads((store / "zarr.json").read_text())
    del root["attributes"]["digest"]
    (store / "zarr.json").write_text(json.dumps(root))
    assert open_store(store)[NAME].signal().shape == (12, 2560)
    assert damaged(store) == {}
    assert statuses(ingest(reader, tree, store, serial=True)) == ["kept"] * 3
    assert damaged(store) == {}
    for command in ("verify", "inspect"):
        assert main([command, str(store)]) == 0
        said = capsys.readouterr().err
        assert "3 of 3 recordings are of an earlier omfa and have no checksum" in said
        assert "--rewrite" in said
    assert "3 of 3 that were read" in write_report(
        [open_store(store)], tmp_path / "r.html"
    ).read_text(encoding="utf-8")
    ingest(reader, tree, store, serial=True, rewrite=True)
    assert main(["verify", str(store)]) == 0
    assert "checksum" not in capsys.readouterr().err


def test_a_process_apart_ends_with_the_one_that_is_killed(tmp_path):
    begun = tmp_path / "begun"
    code = (
        "import pathlib, sys, time\nfrom omfa.pipeline import cluster\n"
        "def work(path):\n    pathlib.Path(path).touch()\n    time.sleep(600)\n"
        "list(cluster.apart(work, sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(begun)])
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


@pytest.mark.parametrize("name", ["signal", "trial_onset", "stimulus"])
def test_an_array_of_hostile_size_with_a_right_digest_is_refused_before_memory(store, name):
    path = store / NAME / "zarr.json"
    document = json.loads(path.read_text())
    array = document["consolidated_metadata"]["metadata"][name]
    array["shape"][-1] = 10**12
    if name == "signal":
        document["attributes"]["n_times"] = 10**12
    del document["attributes"]["digest"]
    document["attributes"]["digest"] = encoding.digest(document)
    path.write_bytes(encoding.to_json(document))
    opened = open_store(store)
    tracemalloc.start()
    with pytest.raises(DataError, match=f"its {name} claims [0-9,]+ bytes and its files have"):
        opened[NAME].array(name)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_metadata_nested_without_end_are_damage_and_no_crash(store, tree, reader):
    nested = "[" * 200_000 + "]" * 200_000
    (store / NAME / "zarr.json").write_text(f'{{"attributes": {nested}}}')
    assert damaged(store).keys() >= {NAME}
    assert statuses(ingest(reader, tree, store, serial=True)).count("stored") == 1
    assert damaged(store) == {}


# ------------------------------------------------------------------- the root


@pytest.mark.parametrize(
    ("old", "new"), [("0.5,\n", "1.5,\n"), ('"Fp1"', '"Fp9"'), ('"n_chans": 12', '"n_chans": 13')]
)
def test_a_changed_root_is_named_and_mended(store, tree, reader, bytes_of, old, new):
    whole, path = bytes_of(store), store / "zarr.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.warns(UserWarning, match=r"its zarr\.json was changed"):
        opened = open_store(store)
    assert set(opened.recordings["n_chans"]) == {12}
    with pytest.warns(UserWarning, match="was changed"):
        assert damaged(store)["zarr.json"] == "was changed"
    ingest(reader, tree, store, serial=True)
    assert bytes_of(store) == whole


@pytest.mark.parametrize("how", ["empty", "cut", "gone", "of another store", "a list"])
def test_a_lost_root_is_made_again_from_the_recordings(
    store, tree, reader, tmp_path, bytes_of, how
):
    whole, root = bytes_of(store), store / "zarr.json"
    other = {"preprocessing": Preprocessing(sfreq=100.0), "serial": True}
    if how == "of another store":
        ingest(reader, tree, tmp_path / "other.zarr", **other)
        shutil.copy(tmp_path / "other.zarr/zarr.json", root)
        with (
            pytest.warns(UserWarning, match="lists sub-00_ses-1_run-1 otherwise than it is"),
            pytest.warns(UserWarning, match="3 recordings were made with settings"),
        ):
            assert len(open_store(store)) == 0
    else:
        content = {"empty": b"", "cut": whole["zarr.json"][:400], "a list": b"[]"}.get(how)
        root.unlink()
        if content is not None:
            root.write_bytes(content)
        with pytest.raises(DataError, match="makes the root again from the recordings"):
            open_store(store)
        with pytest.raises(DataError, match="made with other settings: its root is lost"):
            ingest(reader, tree, store, **other)
    assert statuses(ingest(reader, tree, store, serial=True)) == ["kept"] * 3
    assert bytes_of(store) == whole


def test_a_lost_root_can_be_rewritten_with_other_settings(store, tree, reader):
    (store / "zarr.json").write_bytes(b"")
    other = {"preprocessing": Preprocessing(sfreq=100.0), "serial": True}
    assert statuses(ingest(reader, tree, store, rewrite=True, **other)) == ["stored"] * 3
    assert set(open_store(store).recordings["sfreq"]) == {100.0}


def test_a_run_in_which_all_failed_binds_nobody(tree, reader, tmp_path, bytes_of):
    store = tmp_path / "s.zarr"
    assert (
        statuses(ingest(reader, tree, store, serial=True, exclude=["*z", "*[0-9]"]))
        == ["failed"] * 3
    )
    assert list(open_store(store).recordings["subject"]) == []
    assert statuses(ingest(reader, tree, store, serial=True)) == ["stored"] * 3
    ingest(reader, tree, tmp_path / "fresh.zarr", serial=True)
    assert bytes_of(store) == bytes_of(tmp_path / "fresh.zarr")


@pytest.mark.parametrize("n", [1, 2])
def test_a_disk_that_is_full_at_the_root_is_an_error_in_three_parts(
    tree, reader, tmp_path, monkeypatch, bytes_of, n
):
    store, calls, fsync = tmp_path / "s.zarr", [], os.fsync

    def full(file):
        calls.append(file)
        if len(calls) >= n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"one cannot write there \(No space left on device\)"):
            ingest(reader, tree, store, serial=True)
    assert ingest(reader, tree, store, serial=True).complete
    ingest(reader, tree, tmp_path / "whole.zarr", serial=True)
    assert bytes_of(store) == bytes_of(tmp_path / "whole.zarr")


def test_a_store_that_is_whole_is_not_written_to(store, tree, reader, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Folder, "write", refuse)
    assert statuses(ingest(reader, tree, store, serial=True)) == ["kept"] * 3


# ------------------------------------------------------------------- files that cannot be read


@pytest.mark.parametrize("file", ["signal/c/0/0", "zarr.json", "valence/c/0"])
@pytest.mark.parametrize("how", ["a folder", "a pipe"])
def test_an_unreadable_file_stops_its_recording_alone(store, tree, reader, bytes_of, file, how):
    whole, path = bytes_of(store), store / NAME / file
    path.unlink()
    path.mkdir() if how == "a folder" else os.mkfifo(path)
    assert set(damaged(store)) == {NAME}
    assert f"{file} cannot be read" in damaged(store)[NAME]
    assert statuses(ingest(reader, tree, store, serial=True)) == ["kept", "stored", "kept"]
    assert bytes_of(store) == whole


def test_names_that_are_not_utf_8_are_stored_and_told_of(tree, reader, tmp_path, monkeypatch):
    names = [os.fsdecode(name) for name in (b"a\xff.npz", b"b\xff.npz")]
    (tree / "00.npz").rename(tree / names[0])
    (tree / names[1]).write_bytes(b"no archive")

    def discover(self, root):
        files = sorted(Path(root).glob("*.npz"))
        return [Key(f"{i:02d}", files=(f.name,), root=str(root)) for i, f in enumerate(files)]

    monkeypatch.setattr(type(reader), "discover", discover)
    store = tmp_path / os.fsdecode(b"s\xff.zarr")
    summary = ingest(reader, tree, store, serial=True)
    assert statuses(summary) == ["stored", "stored", "stored", "failed"]
    (store / os.fsdecode(b"not mine\xff")).mkdir()
    opened = open_store(store)
    assert opened["sub-02_ses-1_run-1"].attrs["source_files"][0]["name"] == names[0]
    assert opened["sub-02_ses-1_run-1"].signal().shape == (12, 2560)
    assert names[1] in opened.failures["sub-03_ses-1_run-1"]
    assert statuses(ingest(reader, tree, store, serial=True)) == ["kept"] * 3 + ["failed"]
    assert main(["inspect", str(store)]) == 0
    assert main(["verify", str(store)]) == 1


# ------------------------------------------------------------------- the source


def test_a_source_that_is_replaced_while_it_is_read_fails_by_name(
    tree, reader, tmp_path, tiny_file, monkeypatch
):
    read, once = type(reader).read, []

    def replaced(self, key):
        recording = read(self, key)
        if key.subject == "01" and not once:
            once.append(key)
            tiny_file(tree / "new.part", seed=99)
            (tree / "new.part.npz").replace(tree / "01.npz")
        return recording

    monkeypatch.setattr(type(reader), "read", replaced)
    summary = ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    assert statuses(summary) == ["stored", "failed", "stored"]
    assert "changed or replaced while they were read" in summary.outcomes[1].reason
    assert not (tmp_path / "s.zarr" / NAME).exists()
    assert ingest(reader, tree, tmp_path / "s.zarr", serial=True).complete


def test_a_recording_whose_source_is_gone_is_noted_and_stays(store, tree, reader):
    (tree / "01.npz").unlink()
    summary = ingest(reader, tree, store, serial=True)
    assert summary.notes == (f"{NAME} is no longer in the source; it stays in the store",)
    assert NAME in open_store(store)
    assert ingest(reader, tree, store, serial=True, subjects=[0]).notes == ()


class Crashing:
    """Ends the process that reads subject 01, as a library written in C does."""

    name = "tiny"

    def __init__(self, inner):
        self.inner = inner

    def discover(self, root):
        return self.inner.discover(root)

    def read(self, key):
        if key.subject == "01":
            os.abort()
        return self.inner.read(key)


@pytest.mark.slow
def test_a_file_that_crashes_its_process_costs_one_recording(tree, reader, tmp_path, by_value):
    store = tmp_path / "s.zarr"
    summary = ingest(Crashing(reader), tree, store, serial=True, apart=True)
    assert statuses(summary) == ["stored", "failed", "stored"]
    assert "the process that read it died" in open_store(store).failures[NAME]


# ------------------------------------------------------------------- a cluster of one's own


@pytest.mark.slow
def test_a_local_cluster_lets_nobody_else_in():
    from distributed import Client

    with cluster.local(1, "1GB") as client:
        address = client.scheduler.address
        assert address.startswith("tls://")
        for stranger in (address.replace("tls", "tcp"), address):
            with pytest.raises((OSError, TypeError, RuntimeError)):
                Client(stranger, timeout=2)
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.slow
def test_a_script_without_a_guard_works(tree, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from omfa.pipeline import ingest, Key, Recording\n"
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "print('once')\n"
        "from conftest import TinyReader\n"
        f"print(ingest(TinyReader(), {str(tree)!r}, {str(tmp_path / 's.zarr')!r}, workers=1)"
        ".complete)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240)
    assert (run.stdout, run.returncode) == ("once\nTrue\n", 0), run.stderr


# ------------------------------------------------------------------- standard output


def inspected(store, *, encoding="utf-8", **options):
    command = [sys.executable, "-m", "omfa.pipeline.cli", "inspect", str(store)]
    return subprocess.run(
        command,
        stderr=subprocess.PIPE,
        text=True,
        encoding=encoding,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        **options,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_the_output_lacks_are_escaped(store, encoding):
    named = store.rename(store.with_name("数据.zarr"))
    run = inspected(named, encoding=encoding, stdout=subprocess.PIPE)
    assert run.returncode == 0, run.stderr
    assert "\\u6570\\u636e.zarr" in run.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_output_is_an_error_in_three_parts(store):
    with Path("/dev/full").open("w") as full:
        run = inspected(store, stdout=full)
    assert run.returncode == 2
    assert run.stderr.startswith("omfa-ingest: Printing what was done: standard output cannot be")
    assert len(run.stderr.splitlines()) == 1


def test_closed_streams_are_no_error(store):
    command = f"{sys.executable} -m omfa.pipeline.cli verify {store}"
    assert subprocess.run(f"{command} >&- 2>&-", shell=True).returncode == 0
    run = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_report_lies_beside_its_store_and_never_in_it(store, monkeypatch, capsys):
    assert main(["report", str(store), "--out", str(store / NAME / "report.html")]) == 2
    assert f"it would lie within the store {store}" in capsys.readouterr().err
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(store), "/bucket/s.zarr", recursive=True)
    try:
        assert main(["report", "memory://bucket/s.zarr"]) == 0
        assert capsys.readouterr().out.strip() == "memory://bucket/s.zarr.html"
        assert memory.cat("/bucket/s.zarr.html").startswith(b"<!DOCTYPE html>")
        assert main(["report", "memory://bucket/s.zarr", "--out", "nowhere://x/y.html"]) == 2
        assert "it cannot be written there (ValueError: Protocol not known" in (
            capsys.readouterr().err
        )
    finally:
        memory.rm("/bucket", recursive=True)


# ------------------------------------------------------------------- killed at any step


def test_killed_at_a_step_a_rerun_gives_the_bytes_of_an_undisturbed_run(tmp_path):
    """The short form; ``kill_campaign.py`` by hand takes every step."""
    script = Path(__file__).with_name("kill_campaign.py")
    run = subprocess.run(
        [sys.executable, script, tmp_path, "--every", "83"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.split()[0]) > 8
