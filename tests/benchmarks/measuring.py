"""Measures work in a process of its own: CPU seconds, wall time, peak memory. Linux only.

The benchmarks share it. A process is started anew for each measurement, imports what the script
imports, may warm up, and only then is the clock started; so imports are left out of every time.
What other programs take of the machine meanwhile is measured too, since ratios of wall times mean
nothing where it is much.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What some work cost.

    Attributes
    ----------
    cpu : float
        Seconds, user and system, of the process and of all that it started and waited for.
    wall : float
        Seconds.
    peak : float
        MB of resident memory that the largest single process had.
    others : float
        Cores that other programs kept busy meanwhile.
    result : object
        What the work returned.
    """

    cpu: float
    wall: float
    peak: float
    others: float
    result: Any = None


def measure(
    work: Callable[..., Any], *args: Any, warm: tuple[Callable[..., Any], ...] = ()
) -> Cost:
    """Run a module's function in a fresh process and return what it cost.

    Parameters
    ----------
    work : callable
    *args
        For ``work``; they are pickled.
    warm : tuple
        A function and its arguments, called before the clock is started.
    """
    context = get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(send, work, args, warm))
    process.start()
    send.close()
    peak = 0.0
    while process.is_alive() and not receive.poll(0.02):
        peak = max(peak, _peak_of_tree(process.pid))
    try:
        cost = receive.recv()
    except EOFError:
        raise RuntimeError(f"{work.__name__} failed; see above") from None
    process.join()
    return replace(cost, peak=max(peak, cost.peak))


def _run(
    send: Connection,
    work: Callable[..., Any],
    args: tuple[Any, ...],
    warm: tuple[Callable[..., Any], ...],
) -> None:
    if warm:
        warm[0](*warm[1:])
    busy, cpu, wall = _busy(), _cpu(), time.perf_counter()
    result = work(*args)
    busy, cpu, wall = _busy() - busy, _cpu() - cpu, time.perf_counter() - wall
    send.send(Cost(cpu, wall, _peak("self"), max(0.0, busy - cpu) / wall, result))


def _cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _busy() -> float:
    """Return the seconds that the machine's cores were busy since it was started."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / _TICK


def _peak(pid: int | str | None) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _peak_of_tree(pid: int | None) -> float:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return 0.0
    return max(map(_peak, [pid, *(child.pid for child in children)]))


def interleave(
    repeats: int, works: Mapping[str, Callable[[], Cost]], *, by: str = "cpu"
) -> dict[str, Cost]:
    """Measure several works in turn, over and over; return for each the cheapest run."""
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            costs[name].append(work())
    return {name: min(runs, key=lambda cost: getattr(cost, by)) for name, runs in costs.items()}


def wait_until_idle(*, cores: float = 0.2, patience: float = 300.0) -> float:
    """Wait until other programs keep less than some cores busy; return what they do at last."""
    end = time.perf_counter() + patience
    while True:
        busy, wall = _busy(), time.perf_counter()
        time.sleep(3)
        taken = (_busy() - busy) / (time.perf_counter() - wall)
        if taken < cores or time.perf_counter() > end:
            return taken


# ------------------------------------------------------------------------------- a script


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the arguments that every benchmark takes."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="small inputs: is the script sound?")
    made.add_argument("--repeats", type=int, default=3, help="runs, of which the cheapest counts")
    made.add_argument("--scratch", type=Path, help="where to work; a temporary folder by default")
    return made


@contextlib.contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """Give an empty folder, and remove it afterwards."""
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="omfa-bench-", dir=parent) as folder:
        yield Path(folder)


def heading(packages: Sequence[str]) -> None:
    """Print what a table has to say of its making."""
    memory = psutil.virtual_memory().total / 2**30
    print(f"{date.today()}  {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"Python {platform.python_version()}, {versions}")
    print(f"load {os.getloadavg()[0]:.1f}: {' '.join(sys.argv)}\n", flush=True)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table that Markdown reads."""
    cells = [[_text(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    print(title, end="\n\n")
    for row in cells:
        print(f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |")
    print(flush=True)


def _text(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if cell >= 100 else f"{cell:.2f}" if cell >= 1 else f"{cell:.2g}"
