"""The one place that knows Dask serves runs over recordings and over folds alike."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from distributed import Client, LocalCluster

from omfa.pipeline import DataError
from omfa.pipeline.cluster import WorkerLost, apart, connected, spread


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def halve(n):
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def test_each_item_comes_with_its_result_or_its_error(client):
    found = dict(spread(client, halve, range(6), name=lambda n: f"item-{n}"))
    assert {n: found[n] for n in (0, 2, 4)} == {0: 0, 2: 1, 4: 2}
    assert [str(found[n]) for n in (1, 3, 5)] == ["1 is odd", "3 is odd", "5 is odd"]


def test_what_is_shared_is_given_to_each(client):
    shared = {"offset": 10}
    found = spread(client, lambda job, n: job["offset"] + n, range(5), shared=shared)
    assert sorted(result for _, result in found) == [10, 11, 12, 13, 14]


def test_nothing_to_do_is_nothing_done(client):
    assert list(spread(client, halve, [])) == []


def test_a_client_is_left_open_and_an_address_connected_to(client):
    with connected(client) as same:
        assert same is client
    address = client.scheduler.address
    with connected(address) as other:
        assert other is not client
        assert dict(spread(other, halve, [4])) == {4: 2}
    assert client.status == "running"
    assert other.status == "closed"


def test_a_scheduler_that_is_not_there_is_an_error_in_three_parts(monkeypatch):
    import distributed

    def refuse(*_, **__):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(DataError, match=r"Dask scheduler tcp://127\.0\.0\.1:9: Timed out"):
        connected("tcp://127.0.0.1:9").__enter__()


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_own_item():
    from omfa.pipeline.cluster import local

    def die(n):
        if n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    with local(2, "1GB") as client:
        found = dict(spread(client, die, range(4)))
    assert isinstance(found[1], WorkerLost)
    assert found[1].memory_limit == 1e9
    assert [found[n] for n in (0, 2, 3)] == [0, 2, 3]


@pytest.mark.slow
def test_a_process_apart_that_dies_costs_its_own_item():
    def die(n):
        if n == 1:
            os.abort()
        if n == 2:
            raise ValueError("two")
        return n, os.getpid()

    found = dict(apart(die, range(5)))
    assert isinstance(found[1], WorkerLost)
    assert str(found[2]) == "two"
    assert [found[n][0] for n in (0, 3, 4)] == [0, 3, 4]
    assert len({os.getpid(), found[0][1], found[3][1]}) == 3
    assert found[3][1] == found[4][1]


@pytest.mark.slow
def test_a_process_apart_ends_with_the_one_that_started_it():
    program = (
        "import os, signal, time\n"
        "from omfa.pipeline.cluster import apart\n"
        "for n, pid in apart(lambda n: os.getpid(), [1, 2]):\n"
        "    print(pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(run.stdout)).wait(timeout=30)
