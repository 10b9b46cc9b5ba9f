"""Kill an ingest at each step at which it changes the disk, run it again, compare every byte.

    python tests/pipeline/kill_campaign.py FOLDER [--every N]

A step is a call that writes, renames, links, removes or flushes; the process is killed before it
and after it, in a fresh run and in a rewrite with other settings. FOLDER is for scratch.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from omfa.pipeline import ingest, simulate

STEPS = [(Path, name) for name in ("write_bytes", "rename", "replace", "mkdir", "unlink", "rmdir")]
STEPS += [(os, "fsync"), (os, "link")]


# Forked, where that can be, from a process without threads that has imported what a run needs.
_FORKED = "forkserver" in multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if _FORKED else "spawn")
# Windows has the second alone, which ends a process there as the first does elsewhere.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def run(raw: Path, store: Path, kill_at: int = 0, **options: Any) -> int:
    """Ingest in a process that is killed at a moment; return its number of moments, 0 if killed."""
    receive, send = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=_ingest, args=(send, kill_at, raw, store, options))
    child.start()
    send.close()
    try:
        moments, complete = receive.recv()
    except EOFError:
        moments, complete = 0, True
    child.join()
    assert complete
    expected = 0 if moments else KILL if os.name == "nt" else -KILL
    assert child.exitcode == expected, f"ended with {child.exitcode}, which is no kill"
    return int(moments)


def _ingest(
    answer: Connection, kill_at: int, raw: Path, store: Path, options: dict[str, Any]
) -> None:
    moments = 0

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == kill_at:
            os.kill(os.getpid(), KILL)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            moment()
            result = function(*args, **kwargs)
            moment()
            return result

        return call

    for place, name in STEPS:
        setattr(place, name, counted(getattr(place, name)))
    done = ingest("dreamer", raw, store, serial=True, progress=False, **options)
    answer.send((moments, done.complete))


def files(store: Path) -> dict[str, bytes]:
    """Return everything below a folder, staging too, by relative name."""
    found = sorted(store.rglob("*"))
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in found if p.is_file()}


def main() -> None:
    """Run the campaign and print how many kills it had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each n-th moment")
    args = parser.parse_args()
    if _FORKED:
        PROCESSES.set_forkserver_preload(["omfa.pipeline.ingestion", "scipy.signal"])
    raw, kills = args.folder / "raw", 0
    simulate("dreamer", raw, subjects=2, seconds=2, progress=False)
    whole = args.folder / "whole"
    for how, options in (("fresh", {}), ("rewrite", {"rewrite": True, "dtype": "float32"})):
        before = args.folder / f"before-{how}"
        if options:
            shutil.copytree(whole, before)
        count = run(raw, whole, **options)
        for moment in range(1, count + 1, args.every):
            store = args.folder / "killed"
            if options:
                shutil.copytree(before, store)
            assert run(raw, store, moment, **options) == 0, f"{how}: no moment {moment}"
            assert run(raw, store, **options), f"{how}: the rerun after moment {moment} failed"
            assert files(store) == files(whole), f"{how}: other bytes after moment {moment}"
            shutil.rmtree(store)
            kills += 1
    print(f"{kills} kills, every rerun gave the bytes of an undisturbed run")


if __name__ == "__main__":
    main()
