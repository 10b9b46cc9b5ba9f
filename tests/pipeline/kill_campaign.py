"""Kill an ingest at each step at which it changes the disk, run it again, compare every byte.

    python tests/pipeline/kill_campaign.py FOLDER [--every N]

A step is a call that writes, renames, links, removes or flushes; the process is killed before it
and after it, in a fresh run and in a rewrite with other settings. FOLDER is for scratch.
"""

import argparse
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omfa.pipeline import ingest, simulate

STEPS = [(Path, name) for name in ("write_bytes", "rename", "replace", "mkdir", "unlink", "rmdir")]
STEPS += [(os, "fsync"), (os, "link")]


def run(raw: Path, store: Path, kill_at: int = 0, **options: Any) -> int:
    """Ingest in a forked process, killed at a moment; return its number of moments, 0 if killed."""
    receive, send = os.pipe()
    if not (child := os.fork()):
        moments = 0

        def moment() -> None:
            nonlocal moments
            moments += 1
            if moments == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                moment()
                result = function(*args, **kwargs)
                moment()
                return result

            return call

        try:
            for place, name in STEPS:
                setattr(place, name, counted(getattr(place, name)))
            done = ingest("dreamer", raw, store, serial=True, progress=False, **options)
            os.write(send, json.dumps([moments, done.complete]).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    moments, complete = json.loads(text) if text else (0, True)
    assert complete
    return int(moments)


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
