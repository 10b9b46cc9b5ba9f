"""A run: the same bytes however it is run, interrupted, repeated or shared."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from omfa.pipeline import DataError, Key, Preprocessing, ingest, open_store, plan
from omfa.pipeline.cli import main
from omfa.pipeline.location import STAGING


def run_cli(*args, **options):
    command = [sys.executable, "-m", "omfa.pipeline.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def run_here(*args):
    """Run the command in this process, where it is not the process that is tested."""
    return main([*map(str, args)])


def statuses(summary):
    return [outcome.status for outcome in summary.outcomes]


# ------------------------------------------------------------------------------- how it is run


def test_dask_and_serial_give_the_same_bytes(tree, reader, tmp_path, bytes_of):
    ingest(reader, tree, tmp_path / "serial.zarr", serial=True)
    summary = ingest(reader, tree, tmp_path / "dask.zarr", workers=2)
    assert summary.complete
    assert bytes_of(tmp_path / "serial.zarr") == bytes_of(tmp_path / "dask.zarr")


def test_a_running_cluster_does_the_work(tree, reader, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        summary = ingest(reader, tree, tmp_path / "s.zarr", scheduler=address)
    assert statuses(summary) == ["stored"] * 3


def test_a_cluster_that_is_not_there_is_an_error_that_says_so(tree, reader, tmp_path):
    with pytest.raises(DataError, match=r"Connecting to the Dask scheduler tcp://127\.0\.0\.1:1"):
        ingest(reader, tree, tmp_path / "s.zarr", scheduler="tcp://127.0.0.1:1")


def test_a_second_run_keeps_everything(tree, reader, tmp_path, bytes_of):
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    before = bytes_of(tmp_path / "s.zarr")
    summary = ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    assert statuses(summary) == ["kept"] * 3
    assert bytes_of(tmp_path / "s.zarr") == before


def test_subjects_are_chosen_by_number_and_added_to_later(tree, reader, tmp_path, bytes_of):
    ingest(reader, tree, tmp_path / "whole.zarr", serial=True)
    ingest(reader, tree, tmp_path / "s.zarr", serial=True, subjects=[2])
    assert list(open_store(tmp_path / "s.zarr").recordings["subject"]) == ["02"]
    summary = ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    assert statuses(summary) == ["stored", "stored", "kept"]
    assert bytes_of(tmp_path / "s.zarr") == bytes_of(tmp_path / "whole.zarr")
    with pytest.raises(DataError, match=r"there is no subject 7\. Choose among 00, 01, 02"):
        ingest(reader, tree, tmp_path / "s.zarr", serial=True, subjects=[7])


def test_a_plan_changes_nothing_and_foretells_the_run(tree, reader, tmp_path):
    foretold = plan(reader, tree, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    assert set(foretold.states.values()) == {"missing"}
    ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    assert foretold.bytes_out == pytest.approx(open_store(tmp_path / "s.zarr").nbytes, rel=0.3)
    again = plan(reader, tree, tmp_path / "s.zarr")
    assert set(again.states.values()) == {"current"}
    assert again.bytes_in == 0


def test_two_runs_at_once_share_a_store(seed_tree, tmp_path, bytes_of):
    def start(store):
        return run_cli("seed", seed_tree, store, "--serial")

    assert run_here("seed", seed_tree, tmp_path / "alone.zarr", "--serial") == 0
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(start, [tmp_path / "shared.zarr"] * 2))
    assert [run.returncode for run in both] == [0, 0], both
    assert bytes_of(tmp_path / "shared.zarr") == bytes_of(tmp_path / "alone.zarr")


# ------------------------------------------------------------------------- what makes it stale


def test_other_settings_are_refused_by_name_until_rewritten(tree, reader, tmp_path, bytes_of):
    store = tmp_path / "s.zarr"
    ingest(reader, tree, store, serial=True)
    before = bytes_of(store)
    other = {"preprocessing": Preprocessing(sfreq=100.0), "serial": True}
    with pytest.raises(DataError, match=r"preprocessing\.sfreq is 128\.0 there and 100\.0 here"):
        ingest(reader, tree, store, **other)
    assert bytes_of(store) == before
    with pytest.raises(DataError, match="would leave 2 recordings as they were"):
        ingest(reader, tree, store, subjects=[0], rewrite=True, **other)
    summary = ingest(reader, tree, store, rewrite=True, **other)
    assert statuses(summary) == ["stored"] * 3
    assert set(open_store(store).recordings["sfreq"]) == {100.0}


def test_an_interrupted_rewrite_is_never_served_as_current(tree, reader, tmp_path, monkeypatch):
    store = tmp_path / "s.zarr"
    ingest(reader, tree, store, serial=True)
    read = type(reader).read

    def stop_at_the_second(self, key):
        if key.subject == "01":
            raise KeyboardInterrupt
        return read(self, key)

    other = {"preprocessing": Preprocessing(sfreq=100.0), "serial": True}
    monkeypatch.setattr(type(reader), "read", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ingest(reader, tree, store, rewrite=True, **other)
    monkeypatch.setattr(type(reader), "read", read)
    with pytest.warns(UserWarning, match="2 recordings were made with settings"):
        assert list(open_store(store).recordings["subject"]) == ["00"]
    summary = ingest(reader, tree, store, **other)
    assert [o.reason for o in summary.outcomes] == ["", "settings changed", "settings changed"]
    assert len(open_store(store)) == 3


def test_a_changed_source_is_made_again_and_a_copied_one_is_not(tree, reader, tmp_path, tiny_file):
    store = tmp_path / "s.zarr"
    ingest(reader, tree, store, serial=True)
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, copy_function=shutil.copyfile)  # new times, same bytes
    assert statuses(ingest(reader, copy, store, serial=True)) == ["kept"] * 3
    tiny_file(copy / "01.npz", seed=99)
    summary = ingest(reader, copy, store, serial=True)
    assert [o.reason for o in summary.outcomes] == ["", "source changed", ""]


# ------------------------------------------------------------------------------- what goes wrong


def test_one_bad_recording_never_stops_the_others(tree, reader, tmp_path, tiny_file):
    tiny_file(tree / "03.npz", seed=3, channels=("Fp1", "Cz", "Xyz"))
    tiny_file(tree / "04.npz", seed=4, channels=("Fp1", "Cz", "FP1"))
    (tree / "01.npz").write_bytes(b"no archive")
    store = tmp_path / "s.zarr"
    summary = ingest(reader, tree, store, workers=2)
    assert statuses(summary) == ["stored", "failed", "stored", "failed", "failed"]
    failures = open_store(store).failures
    assert "channel 'Xyz' is not in the channel schema" in failures["sub-03_ses-1_run-1"]
    assert "channels 'Fp1' and 'FP1' are both Fp1" in failures["sub-04_ses-1_run-1"]
    assert failures["sub-01_ses-1_run-1"].startswith("Ingesting sub-01_ses-1_run-1 (01.npz): ")
    for seed in (1, 3, 4):
        tiny_file(tree / f"{seed:02d}.npz", seed=seed)
    assert ingest(reader, tree, store, serial=True).complete
    assert open_store(store).failures == {}


def test_a_reader_that_returns_nonsense_fails_by_name(tree, reader, tmp_path, monkeypatch):
    read = type(reader).read

    def beyond(self, key):
        recording = read(self, key)
        recording.trials.loc[1, "length"] = 10**6
        return recording

    monkeypatch.setattr(type(reader), "read", beyond)
    summary = ingest(reader, tree, tmp_path / "s.zarr", serial=True)
    assert "trial 2 reaches outside its segment" in summary.outcomes[0].reason


def test_a_folder_with_something_else_in_it_is_left_alone(tree, reader, tmp_path):
    (tmp_path / "mine" / "thesis").mkdir(parents=True)
    with pytest.raises(DataError, match=r"is not empty \(thesis\) and is no omfa store"):
        ingest(reader, tree, tmp_path / "mine", serial=True)


def test_a_full_disk_is_named_and_what_is_stored_stays(seed_tree, tmp_path, bytes_of, capsys):
    whole, small = tmp_path / "whole.zarr", tmp_path / "disk"
    assert run_here("seed", seed_tree, whole, "--serial") == 0
    small.mkdir()
    size = sum(map(len, bytes_of(whole).values())) * 2 // 3
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        assert run_here("seed", seed_tree, small / "s.zarr", "--serial") == 1
        told = capsys.readouterr().err
        assert "the disk is full" in told
        assert "Free some space and run the same command again" in told
        stored = {name for name in bytes_of(small / "s.zarr") if name.endswith("_run-1/zarr.json")}
        assert stored
        assert not (small / "s.zarr" / STAGING).exists()
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        assert run_here("seed", seed_tree, small / "s.zarr", "--serial") == 0
        assert bytes_of(small / "s.zarr") == bytes_of(whole)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_no_permission_to_write_is_an_error_before_any_work(tree, reader, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    if os.access(locked, os.W_OK):  # root may write everywhere but where nobody may
        made = subprocess.run(["chattr", "+i", str(locked)], capture_output=True)
        if made.returncode:
            pytest.skip("no way to make a folder that root may not write")
    try:
        with pytest.raises(DataError, match="there is no permission to write there"):
            ingest(reader, tree, locked / "s.zarr", serial=True)
    finally:
        subprocess.run(["chattr", "-i", str(locked)], capture_output=True)


def test_a_reader_that_workers_cannot_import_fails_and_never_hangs(tree, reader, tmp_path):
    here = types.ModuleType("only_here")
    here.Reader = type("Reader", (type(reader),), {"__module__": "only_here"})
    sys.modules["only_here"] = here
    try:
        summary = ingest(here.Reader(), tree, tmp_path / "s.zarr", workers=1)
    finally:
        del sys.modules["only_here"]
    assert statuses(summary) == ["failed"] * 3
    assert "No module named 'only_here'" in summary.outcomes[0].reason


# ------------------------------------------------------------------------------- what kills it


def _start(*args):
    command = [sys.executable, "-m", "omfa.pipeline.cli", *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _family(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _fork(*args):
    """Start the command in a process forked from one with its imports, so that work is killed."""
    process = multiprocessing.get_context("forkserver").Process(
        target=main, args=([*map(str, args)],)
    )
    process.start()
    return process


@pytest.mark.slow
def test_killed_at_any_moment_a_rerun_gives_the_bytes_of_an_undisturbed_run(
    seed_tree, tmp_path, bytes_of
):
    whole = tmp_path / "whole.zarr"
    started = time.monotonic()
    assert run_cli("seed", seed_tree, whole, "--serial").returncode == 0
    duration = {"command": time.monotonic() - started}
    undisturbed = bytes_of(whole)
    _fork("--version").join()  # the first waits for the imports
    started = time.monotonic()
    _fork("seed", seed_tree, tmp_path / "forked.zarr", "--serial").join()
    duration["forked"] = time.monotonic() - started
    assert bytes_of(tmp_path / "forked.zarr") == undisturbed
    rng = random.Random(0)
    seen = set()
    for i in range(10):
        store = tmp_path / f"killed{i}.zarr"
        if i % 5 == 4:
            process = _start("seed", seed_tree, store, "--workers", "2")
            time.sleep(rng.uniform(0.3, 3.0) * duration["command"])
            family = _family(process)
            process.kill()
            process.communicate()
        else:
            process = _fork("seed", seed_tree, store, "--serial")
            time.sleep(rng.uniform(0.3, 1.0) * duration["forked"])
            family = _family(process)
            process.kill()
            process.join()
        # They end with it, but not in the same instant.
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
        seen.add(len(list(store.glob("sub-*"))) if store.exists() else -1)
        assert run_here("seed", seed_tree, store, "--serial") == 0
        assert bytes_of(store) == undisturbed
    assert len(seen) > 1, "the kills all fell on one moment"


@pytest.mark.slow
def test_interrupted_by_hand_it_stops_cleanly_and_says_how_to_go_on(seed_tree, tmp_path, bytes_of):
    store = tmp_path / "s.zarr"
    process = _start("seed", seed_tree, store, "--workers", "2")
    while not list(store.glob("sub-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    # Held up, or on a busy machine the run ends while its workers are listed.
    os.killpg(process.pid, signal.SIGSTOP)
    family = _family(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    os.killpg(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Run the same command again to go on." in err
    assert "Traceback" not in err
    assert not (store / STAGING).exists()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert run_here("seed", seed_tree, store, "--serial") == 0


class Deadly:
    """Makes a worker die or swell while it reads one of the recordings."""

    name = "tiny"

    def __init__(self, inner, subject, how):
        self.inner, self.subject, self.how = inner, subject, how

    def discover(self, root):
        return self.inner.discover(root)

    def read(self, key: Key):
        if key.subject == self.subject:
            self.how(key)
        return self.inner.read(key)


def _die_once(key):
    mark = key.paths[0].with_suffix(".died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _swell(key):
    hoard = []
    for _ in range(200):
        hoard.append(np.ones(4_000_000))  # 32 MB
        time.sleep(0.02)


@pytest.fixture
def by_value():
    import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def test_a_worker_that_is_killed_costs_nothing(tree, reader, tmp_path, by_value):
    summary = ingest(Deadly(reader, "01", _die_once), tree, tmp_path / "s.zarr", workers=2)
    assert statuses(summary) == ["stored"] * 3


def test_a_worker_over_its_memory_fails_one_recording_by_name(tree, reader, tmp_path, by_value):
    summary = ingest(
        Deadly(reader, "01", _swell), tree, tmp_path / "s.zarr", workers=2, memory_limit="700MB"
    )
    assert statuses(summary) == ["stored", "failed", "stored"]
    assert "died twice, most often for want of memory (limit 0.7 GB)" in summary.outcomes[1].reason
