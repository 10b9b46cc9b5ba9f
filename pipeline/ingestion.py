"""The story of a run: list what the source holds, keep what is done, process the rest, commit.

Each recording is one task: read, judged, filtered, aligned, encoded, checked, committed, by
whichever worker is free. A task that fails is written down and the others go on. What is left to
do is a set difference between the source and the store, so going on after any interruption is
running again. ``serial=True`` runs the same code without a cluster.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline import cluster, encoding, metadata
from omfa.pipeline import store as stores
from omfa.pipeline.align import Recipe, align, recipe_for, unchanged, unreferenced
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Content, Location, locate, this_run
from omfa.pipeline.outcomes import Outcome, Summary, failed
from omfa.pipeline.progress import LOG, bar
from omfa.pipeline.readers import UNNAMED
from omfa.pipeline.recording import Key, Reader, Recording, SourceWarning, plausible_unit
from omfa.pipeline.store import State
from omfa.pipeline.words import some


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    states : mapping of str to str
        What is known of each recording: ``missing``, ``current``, ``damaged``, ``source changed``.
    bytes_in : int
        Size of the source files that would be read.
    bytes_out, seconds : float
        Size of what would be written, and working time in one process; both scaled from
        ``tried``. NaN where nothing is to do or nothing could be tried.
    tried : str
        The recording that was processed, without storing it, for the estimate.
    notes : tuple of str
        As a ``Summary`` has them, but for what only a run finds.
    failed : mapping of str to str
        Why each recording that was tried before could not be processed; a run may find more.

    Examples
    --------
    >>> from omfa.pipeline import plan
    >>> plan("dreamer", "DREAMER", "dreamer.zarr").states
    {'sub-01_ses-1_run-1': 'current', 'sub-02_ses-1_run-1': 'current'}
    """

    states: Mapping[str, State]
    bytes_in: int
    bytes_out: float
    seconds: float
    tried: str
    notes: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


# ------------------------------------------------------------------------------- one task


@dataclass(frozen=True)
class _Task:
    """Keys that one worker reads in one pass, and all it needs to store them."""

    recipe: Recipe
    settings_digest: str
    location: Location
    owner: str
    keys: tuple[Key, ...]
    reasons: tuple[str, ...]


def _perform(task: _Task) -> list[Outcome]:
    """Read, process and commit the recordings of a task; never raise for one of them.

    Nothing is committed before all are read: a file of many recordings may have its checksum at
    its end.
    """
    shares, reasons = _shares(task.keys), dict(zip(task.keys, task.reasons, strict=True))
    outcomes: dict[Key, Outcome] = {}
    encoded: dict[Key, dict[str, Content]] = {}

    def fail(key: Key, error: Exception) -> None:
        outcomes[key] = failed(key, error, task.location, shares[key])

    before = {key: _stamps(key) for key in task.keys}
    try:
        for key, found in _read(task.recipe.reader, task.keys):
            try:
                files, warned = _encode(found, task)
                _check_unchanged(key, before[key])
                encoded[key] = files
                outcomes[key] = Outcome(key.recording, "stored", reasons[key], shares[key], warned)
            except Exception as error:  # one bad recording never stops the others
                fail(key, error)
            del found  # before the next is read
    except Exception as error:  # the file as a whole
        encoded = {}
        for key in task.keys:
            fail(key, error)
    for key, files in encoded.items():
        try:
            task.location.commit(key.recording, files, last=encoding.METADATA, owner=task.owner)
        except Exception as error:
            fail(key, error)
    return list(outcomes.values())


def _encode(
    found: Recording | Exception, task: _Task
) -> tuple[dict[str, Content], tuple[str, ...]]:
    """Return a recording's files, and what is doubtful about it."""
    if isinstance(found, Exception):
        raise found
    doubts = (plausible_unit(found), unreferenced(found, task.recipe))
    aligned = align(found, task.recipe)
    files = encoding.encode(aligned, task.recipe.dtype, task.settings_digest)
    notes = aligned.facts["source"].get("notes", [])
    return files, (*notes, *(doubt for doubt in doubts if doubt))


def _stamps(key: Key) -> list[tuple[int, ...]]:
    """Return what changes when a file is written to or replaced, for each of a key's files."""
    found = [path.stat() for path in key.paths if path.exists()]
    return [(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in found]


def _check_unchanged(key: Key, before: list[tuple[int, ...]]) -> None:
    """Raise if a file was changed since before: its digest would not be that of what was read."""
    if _stamps(key) != before:
        raise DataError(
            f"Ingesting {key}",
            "its files were changed or replaced while they were read",
            "Run the same command again once they are complete",
        )


def _read(reader: Reader, keys: Sequence[Key]) -> Iterator[tuple[Key, Recording | Exception]]:
    """Yield each key with its recording, or with what reading it raised."""
    if len(keys) > 1 and hasattr(reader, "read_each"):
        yield from reader.read_each(keys)
        return
    for key in keys:
        try:
            yield key, reader.read(key)
        except Exception as error:
            yield key, error


def _shares(keys: Sequence[Key]) -> dict[Key, int]:
    """Return each recording's share of the size of its files."""
    together: dict[Any, int] = {}
    for key in keys:
        together[key.files] = together.get(key.files, 0) + 1
    return {key: _size(key) // together[key.files] for key in keys}


def _size(key: Key) -> int:
    return sum(path.stat().st_size for path in key.paths if path.exists())


def _tasks(
    keys: Sequence[Key], states: Mapping[Key, State], make: Callable[..., _Task]
) -> list[_Task]:
    """Put keys that share their files into one task, where the reader reads them in one pass."""
    groups: dict[Any, list[Key]] = {}
    for key in keys:
        groups.setdefault(key.files or key, []).append(key)
    return [make(tuple(group), tuple(states[key] for key in group)) for group in groups.values()]


# ------------------------------------------------------------------------------- the run


def ingest(
    source: str | Reader,
    raw: str | Path,
    store: str | Path,
    *,
    subjects: Iterable[str | int] | None = None,
    workers: int | None = None,
    memory_limit: str = "auto",
    scheduler: str | None = None,
    serial: bool = False,
    apart: bool = False,
    rewrite: bool = False,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Summary:
    """Turn a source's recordings into a UCS store; go on where an earlier run ended.

    Parameters
    ----------
    source : str or Reader
        As ``recipe_for``.
    raw : str or Path
        The folder with the source's files; for ``moabb`` the dataset's class name.
    store : str or Path
        A local path or an fsspec URL. Made if it is not there.
    subjects : iterable of str or int, optional
        Subjects to take; by default all.
    workers : int, optional
        Processes on this machine; by default one per core.
    memory_limit : str
        Memory of each worker, as Dask writes it: ``"4GB"``; ``"auto"`` is its share of all.
    scheduler : str, optional
        Address of a running Dask cluster, instead of workers of its own.
    serial : bool
        Run in this process, without Dask.
    apart : bool
        With ``serial``, in one process beside this one: a file that crashes a library written in C
        then costs one recording. The command line does so.
    rewrite : bool
        Make every recording again, with these settings.
    progress : bool, optional
        Show a progress bar; by default on a terminal only.
    storage_options : mapping, optional
        What fsspec's file system takes.
    **options
        As ``recipe_for``: ``preprocessing``, ``exclude``, ``dtype``, the reader's own.

    Returns
    -------
    Summary

    Raises
    ------
    DataError
        If the source is not there or has no name, or the store was made with other settings. What
        is wrong with single recordings is in the summary and in the store, and is not raised.

    Examples
    --------
    >>> from omfa.pipeline import ingest
    >>> summary = ingest("dreamer", "DREAMER", "fresh.zarr", serial=True, progress=False)
    >>> [outcome.status for outcome in summary.outcomes]
    ['stored', 'stored']
    """
    started = time.perf_counter()
    recipe, location = recipe_for(source, **options), locate(store, storage_options)
    keys, notes = _discover(recipe.reader, raw, subjects)
    recipe = _named(recipe, raw, location)
    with _writable(location):
        made = recipe.settings() | _titled(recipe.reader, raw)
        settings = _agree(location, made, keys, rewrite=rewrite)
    if subjects is None:
        notes += _gone(location, keys)
    digest = settings["settings_digest"]
    owner = this_run()
    location.sweep(owner)
    states = _survey(location, keys, digest, rewrite=rewrite, shown=progress)
    todo = [key for key in keys if states[key] != "current"]
    outcomes = {k.recording: Outcome(k.recording, "kept") for k in keys if states[k] == "current"}
    if todo:  # the list must not speak of what is about to be replaced
        stale = {key.recording for key in todo}
        with _writable(location, "Writing the list of"):
            metadata.write_root(location, settings, leave_out=stale)
    tasks = _tasks(todo, states, partial(_Task, recipe, digest, location, owner))
    try:
        # Closed after an error too: the workers are gone before the root is written.
        with closing(_run(tasks, workers, memory_limit, scheduler, serial, apart)) as running:
            for outcome in _shown(running, len(todo), recipe.reader.name, progress):
                outcomes[outcome.recording] = outcome
    finally:
        with _writable(location, "Writing the list of"):
            _finish(location, settings, outcomes.values())
        location.sweep(owner)
    ordered = tuple(outcomes[key.recording] for key in keys)
    there = [key for key in keys if outcomes[key.recording].status != "failed"]
    notes += _reviewed(recipe.reader, there, store, storage_options)
    return Summary(location.address, ordered, time.perf_counter() - started, notes)


def plan(
    source: str | Reader,
    raw: str | Path,
    store: str | Path,
    *,
    subjects: Iterable[str | int] | None = None,
    rewrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Plan:
    """Return what ``ingest`` with the same arguments would do, and do none of it.

    One recording is processed without storing it, to estimate size and time from.

    Examples
    --------
    >>> from omfa.pipeline import plan
    >>> plan("dreamer", "DREAMER", "not-yet.zarr").states
    {'sub-01_ses-1_run-1': 'missing', 'sub-02_ses-1_run-1': 'missing'}
    """
    recipe, location = recipe_for(source, **options), locate(store, storage_options)
    keys, notes = _discover(recipe.reader, raw, subjects)
    recipe = _named(recipe, raw, location)
    settings = recipe.settings()
    _compare(location, settings, keys, rewrite=rewrite)
    states = _survey(location, keys, settings["settings_digest"], rewrite=rewrite, shown=False)
    todo = [key for key in keys if states[key] != "current"]
    shares = _shares(todo)
    size, written, seconds, tried = sum(shares.values()), np.nan, np.nan, ""
    lost: dict[str, str] = {}
    for key in todo:
        started = time.perf_counter()
        try:
            files = encoding.encode(align(recipe.reader.read(key), recipe), recipe.dtype, "")
        except Exception as error:  # as in a run, and the estimate is of the next
            lost[key.recording] = failed(key, error, location).reason
            continue
        scale = size / shares[key] if shares[key] else len(todo)
        seconds = (time.perf_counter() - started) * scale
        files.pop(encoding.METADATA)  # a store's own count is without it
        written, tried = sum(map(len, files.values())) * scale, key.recording
        break
    named = {key.recording: state for key, state in states.items()}
    return Plan(named, size, written, seconds, tried, notes, lost)


def _discover(
    reader: Reader, raw: str | Path, subjects: Iterable[str | int] | None
) -> tuple[list[Key], tuple[str, ...]]:
    """Return the recordings that are wanted, and what the reader warned of while it listed them."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        keys = sorted(reader.discover(raw))
    for other in warned:
        if not issubclass(other.category, SourceWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    notes = tuple(str(w.message) for w in warned if issubclass(w.category, SourceWarning))
    if subjects is None:
        return keys, notes
    wanted = {_number(subject) for subject in subjects}
    known = {_number(key.subject): key.subject for key in keys}
    if unknown := sorted(wanted - known.keys()):
        raise DataError(
            f"{reader.name} reader: choosing subjects in {raw}",
            f"there is no subject {', '.join(unknown)}",
            f"Choose among {', '.join(dict.fromkeys(known.values()))}",
        )
    return [key for key in keys if _number(key.subject) in wanted], notes


def _named(recipe: Recipe, raw: str | Path, location: Location) -> Recipe:
    """Return the recipe with a name for the data; refuse a new store that would have none.

    Models know people by the names of stores, and a name that all data share tells nothing. A store
    that is there keeps its name, whatever it is.

    Raises
    ------
    DataError
        If the reader is for anybody's data, and was given no name, and the source has no title.
    """
    reader = recipe.reader
    if reader.name not in UNNAMED:
        return recipe
    try:
        root = metadata.read_root(location)
    except ValueError:  # unreadable, or of another format: without a name it cannot be compared
        root = None
    if (
        root is not None
        and root.settings.get("reader", {}).get("class") == type(reader).__qualname__
    ):
        return replace(recipe, reader=replace(reader, name=root.settings["source"]))  # type: ignore[type-var]
    if recipe.settings()["settings_digest"] in metadata.settings_digests(location).values():
        return recipe
    if not _titled(reader, raw):
        raise DataError(
            f"{reader.name} reader: naming the data in {raw}",
            f"they have no name, and {reader.name!r} would be the name of anybody's",
            "Give them one: --name eegmat, or name='eegmat' in Python"
            + (", or a Name in dataset_description.json" if reader.name == "bids" else ""),
        )
    return recipe


def _titled(reader: Reader, raw: str | Path) -> dict[str, Any]:
    """Return what the source calls itself, where a reader knows; no setting that runs agree on."""
    title = reader.title(raw) if hasattr(reader, "title") else None
    return {"dataset": title} if isinstance(title, str) else {}


def _gone(location: Location, keys: Sequence[Key]) -> tuple[str, ...]:
    """Return a note for each recording of the store that the source no longer has."""
    left = metadata.settings_digests(location).keys() - {key.recording for key in keys}
    return tuple(
        f"{name} is no longer in the source; it stays in the store" for name in sorted(left)
    )


def _reviewed(
    reader: Reader,
    keys: Sequence[Key],
    store: str | Path,
    storage_options: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """Return what a reader says of the recordings in the store, seen together."""
    if not (keys and hasattr(reader, "review")):
        return ()

    def tables() -> Iterator[tuple[Key, pd.DataFrame]]:
        opened = stores.open_store(store, storage_options=storage_options)
        for key in keys:
            yield key, opened[key.recording].trials

    try:
        return tuple(reader.review(tables()))
    except (DataError, OSError, KeyError):  # another run changes the store; the notes can wait
        return ()


def _number(subject: str | int) -> str:
    """Return a subject's id without leading zeros, so that 1 is "01"."""
    return str(subject).lstrip("0") or "0"


def _agree(
    location: Location, settings: dict[str, Any], keys: Sequence[Key], *, rewrite: bool
) -> dict[str, Any]:
    """Return the settings of the store, made if it is not there.

    A store that other software versions began keeps their list until it is rewritten: the
    settings decide whether two runs agree, and are equal.
    """
    found = _compare(location, settings, keys, rewrite=rewrite)
    if found is None and not rewrite and not metadata.create(location, settings):
        found = _compare(location, settings, keys, rewrite=rewrite)  # another run was faster
        if found is None:  # it was not: what is there is of no use
            metadata.write_root(location, settings)
    if found is None or rewrite:
        return settings
    return {name: value for name, value in found.items() if name != "recordings"}


@contextmanager
def _writable(location: Location, doing: str = "Making a store at") -> Iterator[None]:
    """Say in three parts that the root of a store cannot be written."""
    try:
        yield
    except OSError as error:
        why = "there is no permission to" if isinstance(error, PermissionError) else "one cannot"
        raise DataError(
            f"{doing} {location.address}",
            f"{why} write there ({error.strerror or error})",
            "Change that and run the same command again, or choose another place",
        ) from error


def _compare(
    location: Location, settings: dict[str, Any], keys: Sequence[Key], *, rewrite: bool
) -> dict[str, Any] | None:
    """Return the settings that the store has, None if there are none to keep.

    What is there decides: a root that is lost, damaged or of another store is made again if the
    recordings are of these settings, and settings of which no recording was ever made bind nobody.

    Raises
    ------
    DataError
        If the recordings were made with other settings, or the folder holds something else.
    """
    try:
        root = metadata.read_root(location)
    except metadata.UnreadableRoot:
        root = None
    except DataError:
        if not (rewrite and metadata.is_store(location)):
            raise
        return None
    ours = settings["settings_digest"]
    if root is not None and root.settings["settings_digest"] == ours:
        return None if root.found else root.settings
    theirs = metadata.settings_digests(location)
    if root is None and not theirs and (others := location.folders()):
        raise DataError(
            f"Making a store at {location.address}",
            f"the folder is not empty ({some(others)}) and is no omfa store",
            "Choose another folder",
        )
    if set(theirs.values()) <= {ours}:
        return None
    differs = "; ".join(_differences(root.settings, settings)) if root else "its root is lost"
    doing = f"Ingesting into {location.address}"
    if not rewrite:
        raise DataError(
            doing,
            f"it was made with other settings: {differs}",
            "Use the same settings, another store, or --rewrite to make every recording again",
        )
    if left := theirs.keys() - {key.recording for key in keys}:
        raise DataError(
            doing,
            f"rewriting it with other settings ({differs}) would leave {len(left)} recordings "
            f"as they were ({some(sorted(left))})",
            "Rewrite all subjects together, or choose another store",
        )
    return None


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], within: str = "") -> list[str]:
    found = []
    # The digest follows from the rest; other software with the same settings is no difference.
    for name in sorted((theirs.keys() | ours.keys()) - {"settings_digest", "software"}):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{within}{name}.")
        elif a != b and name in ours:
            found.append(f"{within}{name} is {a} there and {b} here")
    return found


def _survey(
    location: Location, keys: Sequence[Key], digest: str, *, rewrite: bool, shown: bool | None
) -> dict[Key, State]:
    """Return the state of each recording; those that are there are checked byte by byte."""

    def look(key: Key) -> State:
        if rewrite or key.recording not in present:
            return "missing"
        return stores.state(location, key.recording, digest, partial(unchanged, key))

    present = set(location.folders())
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves the interpreter free
        states = {}
        checking = bar(total=len(keys), what="checking", unit="rec", leave=False, shown=shown)
        with checking as counted:
            for key, state in zip(keys, pool.map(look, keys), strict=True):
                states[key] = state
                counted.update()
    return states


def _finish(location: Location, settings: dict[str, Any], outcomes: Iterable[Outcome]) -> None:
    """Write what is in the store, and what failed, into its root."""
    failures = dict(settings.get("failures", {}))
    for outcome in outcomes:
        failures.pop(outcome.recording, None)
        if outcome.status == "failed":
            failures[outcome.recording] = outcome.reason
    settings = {name: value for name, value in settings.items() if name != "failures"}
    metadata.write_root(location, settings | ({"failures": failures} if failures else {}))


def _run(
    tasks: Sequence[_Task],
    workers: int | None,
    memory_limit: str,
    scheduler: str | None,
    serial: bool,
    apart: bool,
) -> Generator[Outcome, None, None]:
    if not tasks:
        return
    if serial and not apart:
        for task in tasks:
            yield from _perform(task)
        return
    if serial:
        yield from _outcomes(cluster.apart(_perform, tasks))
        return
    near = partial(cluster.local, workers or os.cpu_count() or 1, memory_limit)
    with cluster.connected(scheduler) if scheduler else near() as client:
        found = cluster.spread(
            client,
            _perform,
            tasks,
            name=lambda task: task.keys[0].recording,
            doing="Ingesting on the Dask cluster",
        )
        yield from _outcomes(found)


def _outcomes(found: Iterable[tuple[_Task, Any]]) -> Iterator[Outcome]:
    for task, result in found:
        if isinstance(result, Exception):
            yield from (failed(key, result, task.location) for key in task.keys)
        else:
            yield from result


def _shown(
    outcomes: Iterator[Outcome], total: int, name: str, shown: bool | None
) -> Iterator[Outcome]:
    """Show a bar, with how fast source files are read, while outcomes come."""
    read, begun = 0, time.perf_counter()
    with bar(total=total, what=name, unit="rec", shown=shown) as counted:
        for outcome in outcomes:
            yield outcome
            if shown is not False:
                LOG.debug("%s: %s", outcome.recording, outcome.status)
            read += outcome.bytes_in
            rate = read / 1e6 / (time.perf_counter() - begun)
            counted.set_postfix_str(f"{rate:.0f} MB/s", refresh=False)
            counted.update()
