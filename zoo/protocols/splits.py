"""The six ways to divide windows into folds.

Windows are grouped into pools (a subject's, a session's, or all of them), each pool is cut by its
protocol's function, and every fold that comes out is checked by ``check_fold``. Units (trials,
subjects, clips) are dealt to folds by class, so that each fold holds its share of every class.
"""

from __future__ import annotations

import re
import typing
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.zoo.protocols.protocol import (
    LEAKY,
    SESSION,
    SIDES,
    STIMULUS,
    SUBJECT,
    TRIAL,
    Fold,
    Protocol,
    Rows,
    as_protocol,
    check_fold,
    codes,
)


def _natural(value: object) -> tuple[tuple[bool, int, str], ...]:
    """Make a key that sorts trial 10 after trial 9."""
    parts = re.split(r"(\d+)", str(value))
    return tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)


def _deal(strata: Rows, n_folds: int, rng: np.random.Generator) -> Rows:
    """Deal units to folds like cards, stratum after stratum, so that each fold gets its share."""
    order = np.lexsort((rng.permutation(len(strata)), strata))
    fold = np.empty(len(strata), dtype=np.int64)
    # The count runs on from stratum to stratum: folds differ by one unit at most.
    fold[order] = np.arange(len(strata)) % n_folds
    return fold


def _stratified_share(
    strata: Rows, share: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose units for validation: a share of each stratum that has three or more.

    Where none has three, one unit of the largest stratum; none at all where every unit is the only
    one of its stratum.
    """
    # At least two units of a stratum stay for training.
    chosen = np.zeros(len(strata), dtype=bool)
    values, counts = np.unique(strata, return_counts=True)
    for value, count in zip(values, counts, strict=True):
        if count >= 3:
            members = rng.permutation(np.flatnonzero(strata == value))
            chosen[members[: min(max(1, round(share * count)), count - 2)]] = True
    if not chosen.any() and counts.max(initial=0) >= 2:
        members = np.flatnonzero(strata == values[counts.argmax()])
        chosen[rng.choice(members)] = True
    return chosen


def _most_frequent(unit: Rows, y: Rows) -> Rows:
    """Return the commonest class of each unit; units are numbered from 0."""
    counts = np.zeros((unit.max() + 1, y.max() + 1), dtype=np.int64)
    np.add.at(counts, (unit, y), 1)
    return counts.argmax(axis=1)


class _Pool:
    """The windows that one group of folds is cut from, and the units they move in."""

    def __init__(
        self, name: str, metadata: pd.DataFrame, y: Rows, rows: Rows, protocol: Protocol
    ) -> None:
        self.name, self.protocol = name, protocol
        self.rows, self.y, self.metadata = rows, y[rows], metadata.iloc[rows]
        # A subject's folds do not depend on who else is in the dataset.
        # crc32 and not hash(), which gives a text another number in every process.
        self.rng = np.random.default_rng([protocol.seed, zlib.crc32(name.encode())])

    def units(self, columns: Sequence[str]) -> tuple[Rows, Rows]:
        """Find the rows' units by number, and each unit's stratum: its dataset and class."""
        unit = codes(self.metadata, columns)
        first = np.unique(unit, return_index=True)[1]
        dataset = codes(self.metadata, ("dataset",))[first]
        # By dataset as well, or a small one might be missing from a fold.
        return unit, dataset * (self.y.max() + 1) + _most_frequent(unit, self.y)

    def fold(
        self,
        name: str,
        test: npt.NDArray[np.bool_],
        rest: npt.NDArray[np.bool_],
        *inner: tuple[Rows, Rows],
    ) -> Fold:
        """Take validation out of ``rest`` by the units of ``inner``; all must agree on a row."""
        validation, train = rest.copy(), rest.copy()
        for unit, strata in inner:
            left = np.unique(unit[rest])
            held = np.zeros(len(strata), dtype=bool)
            held[left] = _stratified_share(strata[left], self.protocol.validation, self.rng)
            # A row of a held subject, but not of a held clip, is on neither side: it would share
            # the subject with validation and the clip with training.
            validation &= held[unit]
            train &= ~held[unit]
        sides = (self.rows[side] for side in (train, validation, test))
        return Fold("/".join(part for part in (self.name, name) if part), *sides)


class _Impossible(Exception):
    """A pool cannot be split: what was found (``{classes}`` are to be named), what to do, codes."""


def _need_two_classes(pool: _Pool) -> None:
    if len(np.unique(pool.y)) < 2:
        raise _Impossible(
            "all its trials are in one class", "Choose another target or rule, or leave it out"
        )


def _leaky_window(pool: _Pool) -> Iterator[Fold]:
    _need_two_classes(pool)
    n_folds = typing.cast(int, pool.protocol.n_folds)
    windows = np.arange(len(pool.rows)), pool.y
    # 3: a window for each side.
    if np.bincount(pool.y)[np.unique(pool.y)].min() < 2 or len(pool.rows) < max(n_folds, 3):
        raise _Impossible(
            f"it has {len(pool.rows)} windows, one class a single one",
            "Cut shorter windows or use fewer folds",
        )
    fold = _deal(pool.y, n_folds, pool.rng)
    for k in range(n_folds):
        yield pool.fold(f"fold-{k}", fold == k, fold != k, windows)


def _within_subject(pool: _Pool) -> Iterator[Fold]:
    trial, strata = pool.units(TRIAL)
    places, fewest = _places(pool, TRIAL, SESSION)
    # Blocks and first trials are those of each session; other folds are dealt over all of them.
    by_place = pool.protocol.consecutive or pool.protocol.train_trials is not None
    n_trials = fewest if by_place else len(strata)
    n_folds = pool.protocol.n_folds or n_trials
    _need_two_classes(pool)
    if (n_train := pool.protocol.train_trials) is not None:
        if n_trials <= n_train:
            raise _Impossible(
                f"it has {n_trials} trials, expected more than the {n_train} to train on",
                "Lower train_trials, or use folds (train_trials=None)",
            )
        early = (places < n_train)[trial]
        yield pool.fold(f"first-{n_train}", ~early, early, (trial, strata))
        return
    per_class = np.bincount(strata)
    # First: no number of folds would do.
    if 1 in per_class and not pool.protocol.consecutive:
        raise _Impossible(
            "class {classes} has one trial, which cannot be both trained on and tested",
            "Choose another target or rule, or a protocol that leaves subjects out",
            *np.flatnonzero(per_class == 1)[:1],
        )
    if n_trials < n_folds:
        raise _Impossible(
            f"it has {n_trials} trials, expected at least {n_folds} for {n_folds} folds",
            f"Use n_folds={max(n_trials, 2)} or fewer",
        )
    if pool.protocol.consecutive:
        fold = _blocks(places, n_folds)[trial]
        for k in range(n_folds):
            yield pool.fold(f"fold-{k}", fold == k, fold != k, (trial, strata))
        return
    fold = _deal(strata, n_folds, pool.rng)[trial]
    for k in range(n_folds):
        yield pool.fold(f"fold-{k}", fold == k, fold != k, (trial, strata))


def _places(pool: _Pool, unit: Sequence[str], among: Sequence[str]) -> tuple[Rows, int]:
    """Count the units in their natural order, anew in each group of the columns ``among``.

    Returns
    -------
    places : ndarray of int64, shape (n_units,)
        Counted from 0, in the order of ``pool.units``.
    fewest : int
        Units of the smallest group.
    """
    first = np.unique(codes(pool.metadata, unit), return_index=True)[1]
    table = pool.metadata.iloc[first]
    names = [tuple(map(_natural, row)) for row in table[list(unit)].to_numpy()]
    group = codes(table, among)
    places = np.zeros(len(names), dtype=np.int64)
    seen = np.zeros(group.max() + 1, dtype=np.int64)
    for i in sorted(range(len(names)), key=names.__getitem__):
        places[i] = seen[group[i]]
        seen[group[i]] += 1
    return places, int(seen.min())


def _blocks(places: Rows, n_folds: int) -> Rows:
    """Return the fold of each place: blocks of one length, the last with what is left over."""
    return np.minimum(places // max((places.max() + 1) // n_folds, 1), n_folds - 1)


def _cross_session(pool: _Pool) -> Iterator[Fold]:
    session, names = pd.factorize(pool.metadata["session"])
    if len(names) < 2:
        raise _Impossible(
            f"it has a single session ({names[0]}), expected at least 2",
            "Use 'within-subject' for datasets of one session",
        )
    _need_two_classes(pool)
    for k, name in enumerate(names):
        yield pool.fold(str(name), session == k, session != k, pool.units(TRIAL))


def _cross_subject(pool: _Pool) -> Iterator[Fold]:
    subject, strata = pool.units(SUBJECT)
    tested = np.flatnonzero(_tested(pool))
    n_folds = _subject_folds(pool, len(strata), len(tested))
    # -1: whoever is not tested at all may learn in every fold.
    group = np.full(len(strata), -1)
    if pool.protocol.consecutive:
        places = _places(pool, SUBJECT, ())[0][tested]
        group[tested] = _blocks(np.argsort(np.argsort(places)), n_folds)
    else:
        group[tested] = _deal(strata[tested], n_folds, pool.rng)
    fold = group[subject]
    for k in range(n_folds):
        rest = (fold != k) & np.isin(subject, _learning(pool, np.flatnonzero(group != k), k))
        yield pool.fold(f"fold-{k}", fold == k, rest, (subject, strata))


def _learning(pool: _Pool, others: Rows, fold: int) -> Rows:
    """Choose those of the subjects not tested in a fold that learn in it."""
    few = pool.protocol.train_subjects
    if few is None:
        return others
    if len(others) < few:
        raise _Impossible(
            f"{len(others)} subjects are not tested in fold-{fold}, expected the {few} to train on",
            "Lower train_subjects, or leave it out",
        )
    # From a generator of its own, so that a larger number adds to those of a smaller one.
    return np.random.default_rng([pool.protocol.seed, fold]).permutation(others)[:few]


def _tested(pool: _Pool) -> npt.NDArray[np.bool_]:
    """Return whether the protocol tests each subject, shape (n_subjects,)."""
    who = pool.metadata[list(SUBJECT)].astype(str).drop_duplicates().agg("/".join, axis=1)
    found = [any(fnmatch(name, pattern) for pattern in pool.protocol.tested or "*") for name in who]
    for pattern in pool.protocol.tested:
        if not any(fnmatch(name, pattern) for name in who):
            raise _Impossible(
                f"{pattern!r} is to be tested and names nobody of {len(who)} subjects",
                "Write DATASET/SUBJECT; * stands for anything",
            )
    return np.array(found)


def _subject_folds(pool: _Pool, n_subjects: int, n_tested: int | None = None) -> int:
    n_tested = n_subjects if n_tested is None else n_tested
    n_folds = pool.protocol.n_folds or n_tested
    # 3: one to test, one to choose on, one to train on.
    if n_subjects < 3 or n_tested < n_folds:
        raise _Impossible(
            f"there are {n_tested} subjects, expected at least {max(3, n_folds)} for {n_folds} "
            "folds with validation subjects apart",
            "Use fewer folds or more subjects, or 'within-subject'",
        )
    return n_folds


def _cross_subject_stimulus(pool: _Pool) -> Iterator[Fold]:
    # As objects: a categorical of an older pandas takes no value that it has no category for.
    named = pool.metadata["stimulus"].astype(object).fillna("").astype(str).str.strip().ne("")
    if not named.all():
        raise _Impossible(
            f"{int((~named).sum())} windows do not say which stimulus was shown",
            "Use 'cross-subject', or a reader that knows the stimulus",
        )
    subject, subject_strata = pool.units(SUBJECT)
    stimulus, stimulus_strata = pool.units(STIMULUS)
    n_folds, n_groups = _subject_folds(pool, len(subject_strata)), pool.protocol.n_stimulus_folds
    if len(stimulus_strata) < max(3, n_groups):
        raise _Impossible(
            f"there are {len(stimulus_strata)} stimuli, expected at least {max(3, n_groups)}",
            "Use fewer n_stimulus_folds, or 'cross-subject'",
        )
    group = _deal(subject_strata, n_folds, pool.rng)[subject]
    clips = _deal(stimulus_strata, n_groups, pool.rng)[stimulus]
    for k in range(n_folds):
        for j in range(n_groups):
            test, rest = (group == k) & (clips == j), (group != k) & (clips != j)
            # Not every group of subjects has watched a clip of every group.
            if test.any():
                inner = ((subject, subject_strata), (stimulus, stimulus_strata))
                yield pool.fold(f"subjects-{k}/stimuli-{j}", test, rest, *inner)


def _cross_dataset(pool: _Pool) -> Iterator[Fold]:
    dataset, names = pd.factorize(pool.metadata["dataset"])
    wanted = pool.protocol.target_dataset
    if len(names) < 2:
        raise _Impossible(
            f"there is one dataset ({names[0]}), expected at least 2", "Open several stores"
        )
    if wanted is not None and wanted not in names:
        raise _Impossible(
            f"target_dataset={wanted!r} is none of {', '.join(map(str, names))}",
            "Name one of these",
        )
    for k, name in enumerate(names):
        if wanted in (None, name):
            yield pool.fold(f"test-{name}", dataset == k, dataset != k, pool.units(SUBJECT))


_SPLITS: dict[str, tuple[tuple[str, ...], typing.Callable[[_Pool], Iterator[Fold]]]] = {
    # The columns that name a pool (none: all windows are one), and the function that cuts it.
    LEAKY: (SUBJECT, _leaky_window),
    "within-subject": (SESSION, _within_subject),
    "cross-session": (SUBJECT, _cross_session),
    "cross-subject": ((), _cross_subject),
    "cross-subject-stimulus": ((), _cross_subject_stimulus),
    "cross-dataset": ((), _cross_dataset),
}


def split(
    metadata: pd.DataFrame,
    y: npt.ArrayLike,
    protocol: str | Protocol,
    *,
    classes: Sequence[str] | None = None,
) -> list[Fold]:
    """Divide windows into folds, and prove that the folds keep what the protocol promises.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window: ``dataset, subject, session, run, trial`` (which together name a trial)
        and ``stimulus, i_start_in_trial, i_stop_in_trial``.
    y : array-like of int, shape (n_windows,)
        Classes; windows below 0 are left out.
    protocol : str or Protocol
    classes : sequence of str, optional
        Their names, for messages.

    Returns
    -------
    list of Fold

    Raises
    ------
    DataError
        If some subject, session or class does not allow the split; all of them are named.

    Examples
    --------
    >>> from omfa.zoo import Protocol, open_dataset, split
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> len(split(data.metadata, data.y, Protocol("within-subject", n_folds=3)))
    6
    """
    protocol = as_protocol(protocol)
    y = np.asarray(y, dtype=np.int64)
    # Compared a hundred times over: as codes.
    metadata = metadata.astype(dict.fromkeys([*TRIAL, "stimulus"], "category"))
    keep = np.flatnonzero((y >= 0) & _not_skipped(metadata, protocol))
    if len(np.unique(y[keep])) < 2:
        raise DataError(
            f"Splitting {len(keep)} windows by {protocol}",
            "all of them are in one class",
            "Choose another target or rule, or skip fewer subjects",
        )
    columns, cut = _SPLITS[protocol.name]
    columns = SUBJECT if protocol.sessions == "together" else columns
    folds: list[Fold] = []
    problems: dict[str, tuple[str, str]] = {}
    pools = list(_pools(metadata, keep, columns))
    for name, rows in pools:
        pool = _Pool(name, metadata, y, rows, protocol)
        try:
            made = list(cut(pool))
            for fold in made:
                _check_sides(fold, y)
            folds += made
        # The other pools are tried too: one error names everybody concerned.
        except _Impossible as error:
            found, action, *lost = error.args
            names = ", ".join(repr(classes[code]) if classes else str(code) for code in lost)
            problems[name] = found.format(classes=names) if lost else found, action
    if problems:
        raise _cannot_split(protocol, problems, len(pools))
    for fold in folds:
        check_fold(metadata, fold, protocol)
    return folds


def _pools(
    metadata: pd.DataFrame, keep: Rows, columns: tuple[str, ...]
) -> Iterator[tuple[str, Rows]]:
    if not columns:
        yield "", keep
        return
    unit = codes(metadata.iloc[keep], columns)
    for k in range(unit.max() + 1):
        rows = keep[unit == k]
        yield "/".join(str(metadata[column].iat[rows[0]]) for column in columns), rows


def _not_skipped(metadata: pd.DataFrame, protocol: Protocol) -> npt.NDArray[np.bool_]:
    keep = np.ones(len(metadata), dtype=bool)
    for name in protocol.skip:
        parts = name.split("/")
        hit = np.ones(len(metadata), dtype=bool)
        for column, part in zip(SESSION, parts, strict=False):
            hit &= (metadata[column].astype(str) == part).to_numpy()
        if not hit.any() or len(parts) not in (2, 3):
            raise DataError(
                f"Leaving out {name!r}",
                "the dataset has no such subject or session",
                "Write it as 'dataset/subject' or 'dataset/subject/session'",
            )
        keep &= ~hit
    return keep


def _check_sides(fold: Fold, y: Rows) -> None:
    """Refuse a fold that cannot be trained, chosen on, or tested."""
    for side in SIDES:
        if not len(fold.side(side)):
            raise _Impossible(
                f"nothing is left for {side} in {fold.name}",
                "Use another number of folds, or leave it out",
            )
    lost = np.setdiff1d(y[fold.test], y[fold.train])
    if len(lost):
        raise _Impossible(
            f"class {{classes}} is tested in {fold.name} but never trained on",
            "Use fewer folds, another target or rule, or leave it out",
            *lost,
        )


def hold_out(metadata: pd.DataFrame, y: Rows, protocol: str | Protocol) -> Fold:
    """Set validation apart for a model that is tested nowhere: a fold without a test side.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window.
    y : ndarray of int, shape (n_windows,)
        Classes; -1 where a window is not used.
    protocol : str or Protocol
        ``"within-subject"`` sets trials apart, ``"cross-subject"`` subjects; a share of
        ``Protocol.validation``.

    Raises
    ------
    DataError
        If nothing can be set apart, or the protocol is another.

    Examples
    --------
    >>> from omfa.zoo import hold_out, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> fold = hold_out(data.metadata, data.y, "within-subject")
    >>> len(fold.test)
    0
    """
    protocol = as_protocol(protocol)
    columns = {"within-subject": TRIAL, "cross-subject": SUBJECT}.get(protocol.name)
    doing = f"Setting validation apart by {protocol}"
    if columns is None:
        raise DataError(doing, "it is for testing", "Use 'within-subject' or 'cross-subject'")
    rows = np.flatnonzero(y >= 0)
    pool = _Pool("", metadata, y, rows, protocol)
    everything = np.ones(len(rows), dtype=bool)
    fold = pool.fold("all", ~everything, everything, pool.units(columns))
    if not len(fold.validation):
        raise DataError(
            doing,
            f"there are too few {columns[-1]}s of each class",
            "Give more, or use 'within-subject'",
        )
    check_fold(metadata, fold, protocol)
    return fold


def _cannot_split(
    protocol: Protocol, problems: dict[str, tuple[str, str]], n_pools: int
) -> DataError:
    name, (found, action) = next(iter(problems.items()))
    doing = f"Splitting {name or 'all subjects'} by {protocol}"
    others = [other for other in problems if other != name]
    if others:
        more = ", ..." if len(others) > 5 else ""
        found += f" (the same or worse in {len(others)} more: {', '.join(others[:5])}{more})"
    if name and len(problems) < n_pools:
        action += f". To leave out: Protocol(..., skip={tuple(problems)!r})"
    return DataError(doing, found, action)
