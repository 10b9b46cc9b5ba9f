"""Stores in object stores: the same promises against a real S3 server, and in memory."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import fsspec
import psutil
import pytest

from omfa.pipeline import DataError, ingest, open_store
from omfa.pipeline.cli import main
from omfa.pipeline.location import locate

BUCKET = "omfa-test"


@pytest.fixture(scope="session")
def endpoint():
    """A server of S3's protocol on loopback, in a process of its own.

    One for the session: fsspec keeps its connections for as long as the process.
    """
    code = (
        "from moto.server import ThreadedMotoServer as S; import sys, time\n"
        "s = S(ip_address='127.0.0.1', port=0); s.start()\n"
        "print('port', s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    port = next(line.split()[1] for line in server.stdout if line.startswith("port "))
    yield f"http://127.0.0.1:{port}"
    server.stdout.close()
    server.stdin.close()
    server.wait(timeout=20)


@pytest.fixture
def s3(endpoint, monkeypatch):
    """Credentials as a user has them: in the environment."""
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # A busy machine's server is slow, and a request that is sent twice can arrive late.
    patient = {"config_kwargs": {"read_timeout": 300, "connect_timeout": 300}}
    monkeypatch.setitem(fsspec.config.conf, "s3", patient)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.invalidate_cache()
    if fs.exists(BUCKET):
        fs.rm(BUCKET, recursive=True)
    fs.mkdir(BUCKET)
    return fs


def objects(fs, store):
    fs.invalidate_cache()
    base = store.removeprefix("s3://")
    return {name.removeprefix(base): fs.cat_file(name) for name in fs.find(base)}


def settled(fs, store):
    """Wait until the server has done what a killed process had asked of it."""
    before, last = None, time.monotonic()
    while time.monotonic() - last < 1:
        fs.invalidate_cache()
        found = {name: facts["ETag"] for name, facts in fs.find(store, detail=True).items()}
        if found != before:
            before, last = found, time.monotonic()
        time.sleep(0.1)


def test_s3_holds_the_same_bytes_as_a_disk(s3, tree, reader, tmp_path, bytes_of):
    store = f"s3://{BUCKET}/tiny.zarr"
    summary = ingest(reader, tree, store, serial=True)
    assert summary.complete
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    on_disk = {f"/{name}": content for name, content in bytes_of(tmp_path / "s.zarr").items()}
    assert objects(s3, store) == on_disk
    opened = open_store(store)
    local = open_store(tmp_path / "s.zarr")["sub-01_ses-1_run-1"]
    assert (opened["sub-01_ses-1_run-1"].signal() == local.signal()).all()
    assert [o.status for o in ingest(reader, tree, store, serial=True).outcomes] == ["kept"] * 3


def test_s3_damage_is_named_and_repaired(s3, tree, reader):
    store = f"s3://{BUCKET}/tiny.zarr"
    ingest(reader, tree, store, serial=True)
    whole = objects(s3, store)
    s3.pipe_file(f"{BUCKET}/tiny.zarr/sub-01_ses-1_run-1/signal/c/0/0", b"nothing")
    s3.rm_file(f"{BUCKET}/tiny.zarr/sub-02_ses-1_run-1/zarr.json")
    damaged = {d.recording: d.found for _, d in open_store(store).verify() if d}
    assert damaged == {
        "sub-01_ses-1_run-1": "signal/c/0/0 does not match its checksum",
        "sub-02_ses-1_run-1": "zarr.json is missing",
    }
    summary = ingest(reader, tree, store, serial=True)
    assert [o.reason for o in summary.outcomes] == ["", "damaged", "missing"]
    assert objects(s3, store) == whole


def test_s3_verify_beside_a_rewrite_waits_for_it(s3, tree, reader):
    store = f"s3://{BUCKET}/tiny.zarr"
    ingest(reader, tree, store, serial=True)
    whole, name = objects(s3, store), "sub-01_ses-1_run-1"
    old = {file: locate(store).read(f"{name}/{file}") for file in locate(store).files(name)}
    begun, go_on = threading.Event(), threading.Event()

    class Held(dict):
        def items(self):
            begun.set()
            go_on.wait(20)
            return super().items()

    def rewrite():
        locate(store).commit(name, Held(old), last="zarr.json", owner="other")

    opened = open_store(store)
    running = threading.Thread(target=rewrite)
    running.start()
    assert begun.wait(20)
    s3.rm_file(f"{BUCKET}/tiny.zarr/{name}/signal/c/0/0")  # what is not yet put again
    found = []
    for recording, damage in opened.verify():
        found.append((recording, damage))
        if len(found) == 2:  # all that is not being written
            go_on.set()
    running.join()
    assert [recording for recording, _ in found][-1] == name
    assert [damage for _, damage in found] == [None] * 3
    assert objects(s3, store) == whole


def test_s3_what_a_killed_run_left_is_said_and_made(s3, tree, reader, monkeypatch):
    store, name = f"s3://{BUCKET}/tiny.zarr", "sub-01_ses-1_run-1"
    ingest(reader, tree, store, serial=True)
    whole = objects(s3, store)

    class Killed(dict):
        def items(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        locate(store).commit(name, Killed({"zarr.json": b""}), last="zarr.json", owner="other")
    monkeypatch.setattr("omfa.pipeline.store._PATIENCE", 0.2)
    damaged = {d.recording: d.found for _, d in open_store(store).verify() if d}
    assert damaged == {name: "a run began to write it and has not finished"}
    summary = ingest(reader, tree, store, serial=True)
    assert [o.reason for o in summary.outcomes] == ["", "missing", ""]
    assert objects(s3, store) == whole


@pytest.mark.slow
def test_s3_killed_at_any_moment_a_rerun_gives_the_same_objects(s3, seed_tree):
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def command(store):
        return ["seed", str(seed_tree), store, "--serial", "--subjects", "1"]

    def start(*commands):
        """Run in a process forked from one with the imports, so that work is killed."""
        code = f"import os; os.environ.update({keys!r}); from omfa.pipeline.cli import main\n"
        code += "".join(f"assert main({one!r}) == 0\n" for one in commands)
        process = multiprocessing.get_context("forkserver").Process(target=exec, args=(code, {}))
        process.start()
        return process

    whole = f"s3://{BUCKET}/whole.zarr"
    assert main(command(whole)) == 0
    undisturbed = objects(s3, whole)
    start().join()  # the first waits for the imports
    started = time.monotonic()
    process = start(command(f"s3://{BUCKET}/forked.zarr"))
    process.join()
    duration = time.monotonic() - started
    assert process.exitcode == 0
    for i in range(3):
        store = f"s3://{BUCKET}/killed{i}.zarr"
        process = start(command(store))
        time.sleep(duration * (0.5 + 0.2 * i))
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.join()
        psutil.wait_procs(family, timeout=60)
        settled(s3, store)
        assert main(command(store)) == 0
        assert objects(s3, store) == undisturbed


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(s3, tree, reader):
    with pytest.raises(DataError, match=r"Making a store at s3://no-such-bucket/x\.zarr"):
        ingest(reader, tree, "s3://no-such-bucket/x.zarr", serial=True)


def test_memory_holds_a_store_for_as_long_as_the_process(tree, reader):
    ingest(reader, tree, "memory://tiny.zarr", serial=True)
    store = open_store("memory://tiny.zarr")
    assert len(store) == 3
    assert store["sub-00_ses-1_run-1"].signal().shape == (12, 2560)
    assert not any(damage for _, damage in store.verify())
