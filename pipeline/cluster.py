"""Work on other processes and machines: the only file that knows Dask.

``connected`` and ``local`` give a client, of a running cluster or of one made here; ``spread`` runs
a function on items with it and yields what becomes of each, as it comes. ``apart`` does so in one
process beside this one, without Dask.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

from omfa.pipeline.errors import DataError

Item = TypeVar("Item")

_QUIET = "ignore::UserWarning:multiprocessing.resource_tracker"


class WorkerLost(Exception):
    """The workers that had a task died, for want of memory or in a library written in C.

    Attributes
    ----------
    memory_limit : float
        Bytes that the largest worker may take; 0 where that is not known.
    times : int
        How many workers the task has cost.
    """

    def __init__(self, memory_limit: float, times: int = 2) -> None:
        super().__init__(memory_limit, times)
        self.memory_limit = memory_limit
        self.times = times


@contextmanager
def connected(cluster: Any) -> Iterator[Any]:
    """Give the client of a running cluster.

    Parameters
    ----------
    cluster : str or distributed.Client
        A scheduler's address, or a client, which is left open.

    Raises
    ------
    DataError
        If the scheduler does not answer within 20 s, or no worker comes within 60 s.
    """
    if not isinstance(cluster, str):
        yield cluster
        return
    from distributed import Client

    try:
        client = Client(cluster, timeout=20)
        client.wait_for_workers(1, timeout=60)  # batch systems start them after the scheduler
    except (OSError, TimeoutError) as error:
        raise DataError(
            f"Connecting to the Dask scheduler {cluster}",
            str(error) or "no worker came within 60 s",
            "Start it and its workers, or leave --scheduler out",
        ) from error
    with client:
        yield client


@contextmanager
def local(workers: int, memory_limit: str = "auto") -> Iterator[Any]:
    """Start worker processes on this machine, with one thread each, and give their client.

    Whoever can connect to a scheduler can run code on its workers, and every user of a machine can
    connect to its ports: only processes that hold a certificate made for this cluster are let in.

    Parameters
    ----------
    workers : int
    memory_limit : str
        For each worker, as Dask writes it: ``"4GB"``, or ``"auto"`` for its share of the memory.
    """
    import dask
    from distributed import Client, LocalCluster

    options = {
        # A recording that killed two workers would kill the next; Dask would try four.
        "distributed.scheduler.allowed-failures": 1,
        # Recordings are not Dask's to spill, and a paused worker would never be woken.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.comm.timeouts.connect": "60s",
        # One core a worker: threads of Zarr's within each would only take turns.
        "distributed.nanny.environ": {"ZARR_THREADING__MAX_WORKERS": "1"},
        # Ctrl-C reaches the whole group; only this process shall answer it.
        "distributed.worker.preload": [
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
        ],
    }
    with (
        _main_left_alone(),
        dask.config.set(options),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit,
            dashboard_address="127.0.0.1:0",  # any port: the usual one may be another cluster's
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            security=True,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep new processes from running the caller's script once more.

    A spawned process imports its parent's main module, so a script without a guard would start the
    same work within each worker. Workers need none of it: what a script defines travels by value.
    Python leaves a main module of this name alone (``multiprocessing.spawn``).
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    main.__spec__ = ModuleSpec("__main__", None)
    try:
        yield
    finally:
        main.__spec__ = spec


def spread(
    client: Any,
    function: Callable[..., Any],
    items: Iterable[Item],
    *,
    shared: Any = None,
    name: Callable[[Item], str] = lambda item: "task",
    doing: str = "Working on the Dask cluster",
) -> Iterator[tuple[Item, Any]]:
    """Run a function on items, as many at a time as there are threads.

    A worker that dies then takes no more than one item's name with it: Dask counts the deaths of
    all tasks that lay on the worker, also of those that only waited there.

    Parameters
    ----------
    client : distributed.Client
    function : callable
        Takes an item; with ``shared``, that and an item.
    items : iterable
    shared : object, optional
        Sent to each worker once.
    name : callable
        Takes an item and returns what Dask calls it on its dashboard and in its logs.
    doing : str
        What an error says was being done.

    Yields
    ------
    item
        In the order in which they are done.
    result
        What the function returned, or the exception that it raised: ``WorkerLost`` if it died.

    Raises
    ------
    DataError
        If no worker is left.
    """
    import cloudpickle
    from distributed.scheduler import KilledWorker

    # Not hashed: that would read all of it once more, and it is sent once anyway.
    sent = () if shared is None else (client.scatter(shared, broadcast=True, hash=False),)
    waiting = iter(items)
    running: dict[Any, Item] = {}
    slots = max(1, sum(client.nthreads().values()))
    workers = client.scheduler_info()["workers"].values()
    limit = max((worker["memory_limit"] or 0 for worker in workers), default=0)
    while True:
        for item in islice(waiting, slots - len(running)):
            task = cloudpickle.dumps((function, item))
            key = f"{name(item)}-{uuid4()}"
            # A key of its own each time, or Dask would answer with what an equal task gave before.
            running[client.submit(_call, task, *sent, key=key, pure=False)] = item
        if not running:
            return
        for future in _done(client, list(running), doing):
            item = running.pop(future)
            try:
                result = future.result()
            except KilledWorker:
                result = WorkerLost(limit)
            except Exception as error:
                result = error
            yield item, result


def apart(function: Callable[..., Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
    """Run a function on items, one after the other, in a process apart.

    An item that crashes the process, as a damaged file can crash a library written in C, costs no
    more than itself: a new process goes on with the next.

    Parameters
    ----------
    function : callable
        Takes an item.
    items : iterable

    Yields
    ------
    item, result
        As ``spread``.
    """
    import cloudpickle

    worker: tuple[Any, Any] | None = None
    try:
        for item in items:
            process, line = worker = worker or _beside()
            try:
                line.send_bytes(cloudpickle.dumps((function, item)))
                result = pickle.loads(line.recv_bytes())
            except (EOFError, ConnectionError):
                process.join()
                worker, result = None, WorkerLost(0, times=1)
            yield item, result
    finally:
        if worker:
            worker[1].close()
            worker[0].terminate()
            worker[0].join()


def _beside() -> tuple[Any, Any]:
    """Start a process that answers tasks until its line is closed, and dies with this one."""
    from multiprocessing import get_context

    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs,), daemon=True)
    # Python would print of a process that crashed that it left a semaphore of its bars behind.
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, _QUIET)))
    try:
        with _main_left_alone():
            process.start()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before
    theirs.close()
    return process, ours


def _answer(line: Any) -> None:
    import signal
    import threading

    import cloudpickle

    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    while True:
        try:
            task = line.recv_bytes()
        except EOFError:
            return
        try:
            result = _call(task)
        except Exception as error:
            result = error
        line.send_bytes(cloudpickle.dumps(result))


def _die_with_parent() -> None:
    """End this process with its parent: what it made later would be written beside the next run."""
    from multiprocessing import parent_process

    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _call(task: bytes, *shared: Any) -> Any:
    """Run a task. Unpacked here, one that a worker cannot import fails alone."""
    function, item = pickle.loads(task)
    return function(*shared, item)


def _done(client: Any, futures: Sequence[Any], doing: str) -> set[Any]:
    """Wait until some futures are done; raise if nobody is left to do them."""
    from distributed import wait

    while True:
        try:
            # A minute, only to look whether anybody is left; a task may take hours.
            done: set[Any] = wait(futures, timeout=60, return_when="FIRST_COMPLETED").done
            return done
        except TimeoutError:
            if not client.nthreads():
                raise DataError(
                    doing,
                    "all its workers are gone",
                    "Look into the workers' logs, and run the same command again to go on",
                ) from None
