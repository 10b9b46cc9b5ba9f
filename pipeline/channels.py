"""The Unified Channel Schema (UCS): one vocabulary of electrode names for every corpus.

An append-only list of names with fixed integer ids, kept in ``ucs.csv`` beside this file. Ids 0-61
are SEED's 62 electrodes in SEED's order, in 10-05 spelling; DEAP's 32 and DREAMER's 14 are subsets
of them. Then come the other 10-05 names, the mastoids and ears, and O9 and O10, so that adding a
corpus never renumbers. Positions are MNE's ``colin27_1005`` template (O9, O10: ``standard_1020``)
in the head frame, in metres. CB1 and CB2, which 10-05 lacks, keep their names and take the
positions of PO9 and PO10 as MNE's ``colin27_postfixed`` does; ``CerebellarRule`` names the other
choice in use.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest, some

UCS_VERSION = "1"
"""Version of the schema, raised when a name is appended to ``ucs.csv`` or a position changes."""

CerebellarRule = Literal["PO9/PO10", "POO7/POO8"]
"""Whose positions CB1 and CB2 take: MNE's choice, or TorchEEG's and LibEER's."""

MAX_DISPLACEMENT = 0.04
"""Metres between a measured electrode and its template before the name is not believed.

Heads differ from the template by up to 2 cm; neighbours in 10-20 are 6 cm apart.
"""

MAX_NAMING = 0.015
"""Metres between an electrode and the place of the name that it is given by its position.

Names of 10-05 are 1 to 2 cm apart.
"""

MIN_ANCHORS = 8
"""Channels of known names that a recording needs for the others to be named by position."""

# Names of the older 10-20 for today's electrodes.
_ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}

# What recorders add to a name: "EEG Fp1-Ref", "Fc5.", "EEG F3-LE".
_PREFIX = re.compile(r"^EEG[\s_:-]+", re.IGNORECASE)
_SUFFIX = re.compile(r"[\s_-]+(?:REF|LE|AVG?|AR|CAR)$", re.IGNORECASE)

# BioSemi's ABC caps number electrodes A1-A32, B1-B32 ...: their A1 is no ear.
_ABC = re.compile(r"^[A-H]([3-9]|[12]\d|3[0-2])$")


class HasChannels(Protocol):
    """What the union and the intersection need to know of a store."""

    @property
    def channels(self) -> Sequence[str]:
        """Every UCS name that some recording holds."""

    @property
    def common_channels(self) -> Sequence[str]:
        """The UCS names that all recordings hold."""

    @property
    def ucs(self) -> ChannelSchema:
        """The schema that the store was aligned with."""


@dataclass(frozen=True)
class ChannelSchema:
    """Names, ids and positions of electrodes, and the rules that map raw names to them.

    Use the module's ``UCS``; ``with_options`` makes one with other rules.

    Attributes
    ----------
    names : tuple of str
        The canonical names; a name's index is its id.
    version : str
        The vocabulary's version, which every store and checkpoint carries.
    cerebellar : {"PO9/PO10", "POO7/POO8"}
        Whose positions CB1 and CB2 take.
    aliases : tuple of (str, str)
        Names of the user's own, each with the canonical one it stands for.

    Examples
    --------
    >>> from omfa.pipeline import UCS
    >>> UCS.canonicalize(["FP1", "T3", "EEG Oz-Ref"])
    ['Fp1', 'T7', 'Oz']
    >>> UCS.ids(["Fp1", "Oz"])
    array([ 0, 59], dtype=int32)
    >>> UCS.in_order(["O2", "Fp1"])
    ['Fp1', 'O2']
    """

    names: tuple[str, ...]
    template: npt.NDArray[np.float64] = field(repr=False, compare=False)
    version: str = UCS_VERSION
    cerebellar: CerebellarRule = "PO9/PO10"
    aliases: tuple[tuple[str, str], ...] = ()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _canonical(self) -> dict[str, str]:
        upper = {name.upper(): name for name in self.names}
        return (
            upper
            | _ALIASES
            | {_bare(raw).upper(): upper[name.upper()] for raw, name in self.aliases}
        )

    def with_options(
        self,
        *,
        cerebellar: CerebellarRule = "PO9/PO10",
        aliases: Mapping[str, str] | None = None,
    ) -> ChannelSchema:
        """Return the same vocabulary with other rules; a store records them.

        Raises
        ------
        DataError
            If an alias points at a name that is not in the vocabulary, or would change what a
            canonical name means.
        """
        for raw, name in (aliases or {}).items():
            if name not in self._ids:
                near = nearest(name, self._canonical, self._canonical)
                raise DataError(
                    f"Channel alias {raw!r}",
                    f"its target {name!r} is not in the channel schema{near}",
                    "Use a canonical name such as 'Fp1'",
                )
            if self._canonical.get(_bare(raw).upper(), name) != name:
                raise DataError(
                    f"Channel alias {raw!r}",
                    f"the schema already has that name for {self.name(raw)!r}",
                    "Rename the channel in the recording if it is another electrode",
                )
        return replace(self, cerebellar=cerebellar, aliases=tuple(sorted((aliases or {}).items())))

    def __contains__(self, raw: object) -> bool:
        """Return whether a raw name, in any spelling, is in the vocabulary."""
        return isinstance(raw, str) and _bare(raw).upper() in self._canonical

    def name(self, raw: str, *, where: str = "Channel schema") -> str:
        """Return the canonical name of a channel in any spelling.

        Parameters
        ----------
        raw : str
            As the file spells it: ``"FP1"``, ``"Fc5."``, ``"EEG T3-Ref"``.
        where : str
            Who asks, for the error: a reader and a recording.

        Raises
        ------
        DataError
            If the name is not in the vocabulary; it names the nearest that are.
        """
        try:
            return self._canonical[_bare(raw).upper()]
        except KeyError:
            near = nearest(_bare(raw), self._canonical, self._canonical)
            raise DataError(
                where,
                f"channel {raw!r} is not in the channel schema{near}",
                "Give its meaning by --alias RAW=NAME, or leave it out by --exclude",
            ) from None

    def canonicalize(self, raw: Iterable[str], *, where: str = "Channel schema") -> list[str]:
        """Return the canonical names of a recording's channels, in the recording's order.

        Raises
        ------
        DataError
            If a name is unknown, two names mean one electrode, or the names are those of a
            BioSemi ABC cap, whose A1 and A2 are not the ears.
        """
        raw = list(raw)
        _refuse_abc([name for name in raw if name not in self], where)
        if len(unknown := [name for name in raw if name not in self]) > 1:
            each = [
                f"{name!r}{nearest(_bare(name), self._canonical, self._canonical)}"
                for name in unknown
            ]
            raise DataError(
                where,
                f"{len(unknown)} of {len(raw)} channels are not in the channel schema: "
                f"{', '.join(each)}",
                "Give each its meaning by --alias RAW=NAME, leave it out by --exclude, or say that "
                "it is no EEG by --not-eeg; --exclude and --not-eeg take patterns",
            )
        names = [self.name(name, where=where) for name in raw]
        for i, name in enumerate(names):
            if (first := names.index(name)) != i:
                raise DataError(
                    where,
                    f"channels {raw[first]!r} and {raw[i]!r} are both {name}",
                    "Leave one of them out by --exclude or --not-eeg",
                )
        return names

    def name_by_position(
        self,
        raw: Sequence[str],
        measured: npt.NDArray[np.floating] | None,
        *,
        where: str = "Channel schema",
    ) -> list[str | None]:
        """Return the names of channels, those that the schema does not know by their positions.

        Channels with a name or an alias of the schema keep it and are anchors: the measured places
        are turned, scaled and shifted onto the schema's (Umeyama 1991, IEEE Trans Pattern Anal Mach
        Intell 13:376), and bent by a thin-plate spline, so that the anchors lie in theirs. Every
        other channel gets the nearest name of 10-05 that is free and within ``MAX_NAMING``, one to
        one, by the least sum of distances.

        Parameters
        ----------
        raw : sequence of str
        measured : ndarray, shape (n_chans, 3), or None
            NaN or all zero where not measured. Any unit; axes to the right ear and the nose.
        where : str
            Who asks, for the error.

        Returns
        -------
        list of str or None
            None where no free name is near.

        Raises
        ------
        DataError
            If a name means two things (see ``canonicalize``), a channel has neither a name of the
            schema nor a position, there are fewer than ``MIN_ANCHORS`` anchors, or an anchor lies
            where its name cannot be.
        """
        has_name = np.array([name in self for name in raw])
        names: list[str | None] = [None] * len(raw)
        known_names = self.canonicalize((n for n in raw if n in self), where=where)
        for i, name in zip(np.flatnonzero(has_name), known_names, strict=True):
            names[i] = name
        if has_name.all():
            return names
        _refuse_abc([name for name in raw if name not in self], where)
        places = np.full((len(raw), 3), np.nan) if measured is None else np.array(measured, float)
        placed = np.isfinite(places).all(1) & (np.abs(places).max(1) > 0)
        if lacking := [name for name, ok in zip(raw, has_name | placed, strict=True) if not ok]:
            raise DataError(
                where,
                f"{len(lacking)} channels have neither a name of the channel schema nor a measured "
                f"position: {some(lacking)}",
                "Give positions by --montage, or leave the channels out by --exclude",
            )
        anchors = np.flatnonzero(has_name & placed)
        if placed.any() and _at_one_place(places[placed]):
            raise DataError(
                where,
                "all channels have one measured position, by which none can be named",
                "Give positions by --montage, or the names by --alias RAW=NAME",
            )
        if len(anchors) < MIN_ANCHORS:
            raise DataError(
                where,
                f"{len(anchors)} channels have both a name of the channel schema and a measured "
                f"position, and {MIN_ANCHORS} are needed to name the others by their places",
                "Give the names of more channels by --alias RAW=NAME",
            )
        anchored = [str(names[i]) for i in anchors]
        expected = self.positions(anchored)
        fitted = _turned_onto(places, places[anchors], expected)
        far = np.linalg.norm(fitted[anchors] - expected, axis=1)
        worst = int(far.argmax())
        if far[worst] > MAX_DISPLACEMENT:
            raise DataError(
                where,
                f"channel {raw[anchors[worst]]!r} was measured {100 * far[worst]:.0f} cm from "
                f"where the schema has {anchored[worst]}",
                "Correct its alias or its position",
            )
        from scipy.interpolate import RBFInterpolator  # both take a while to import
        from scipy.optimize import linear_sum_assignment

        bend = RBFInterpolator(fitted[anchors], expected, kernel="thin_plate_spline")
        free = [name for name in self.names[:_N_10_05] if name not in {*anchored, *_STAND_INS}]
        free = [name for name in free if name not in names]
        rest = np.flatnonzero(~has_name)
        apart = bend(fitted[rest])[:, None] - self.positions(free)[None]
        distance = np.linalg.norm(apart, axis=2)
        # What is too far costs as much as any sum of what is not.
        cost = np.where(distance <= MAX_NAMING, distance, len(raw) * MAX_NAMING)
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if distance[row, column] <= MAX_NAMING:
                names[rest[row]] = free[column]
        return names

    def ids(self, names: Iterable[str]) -> npt.NDArray[np.int32]:
        """Return the ids of canonical names.

        Returns
        -------
        ndarray of int32, shape (n_chans,)
        """
        return np.array([self._ids[name] for name in names], dtype=np.int32)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return canonical names in UCS order, without repeats."""
        return [self.names[i] for i in sorted({self._ids[name] for name in names})]

    def positions(self, names: Iterable[str]) -> npt.NDArray[np.float64]:
        """Return electrode positions.

        Returns
        -------
        ndarray of float64, shape (n_chans, 3)
            Head frame, metres.
        """
        stand_in = dict(zip(_STAND_INS, self.cerebellar.split("/"), strict=True))
        return self.template[self.ids(stand_in.get(name, name) for name in names)]

    def check_positions(
        self, names: Sequence[str], measured: npt.NDArray[np.floating], *, where: str
    ) -> None:
        """Raise if an electrode was measured where its name cannot be.

        Heads differ in size and caps in seat, and a cap's spherical template is smaller than this
        schema's head. With eight electrodes or more, the measured ones are therefore first scaled
        and shifted onto the schema's by least squares, which an electrode or two in the wrong place
        hardly changes. From three electrodes on, axes to the nose and the left ear are tried too.
        Electrodes all at one distance from the origin are a template's, and are compared by
        direction. A unit other than metres shows in the scale and is no fault. Electrodes that all
        lie at one place were not measured.

        Parameters
        ----------
        names : sequence of str
            Canonical names.
        measured : ndarray, shape (n_chans, 3)
            NaN or all zero where not measured.
        where : str
            The reader and the recording, for the error.
        """
        known = np.isfinite(measured).all(1) & (np.abs(measured).max(1, initial=0) > 0)
        expected = self.positions(names)
        if not known.any() or _at_one_place(measured[known]):
            return
        readings = _readings(measured, expected, known)
        distances = [np.linalg.norm(reading - expected, axis=1) for reading in readings]
        if any((each[known] <= MAX_DISPLACEMENT).all() for each in distances):
            return
        distance = distances[0]
        for name, far in zip(names, known & (distance > MAX_DISPLACEMENT), strict=True):
            if far:
                cm = 100 * distance[list(names).index(name)]
                raise DataError(
                    where,
                    f"channel {name} was measured {cm:.0f} cm from where the schema has it, so "
                    "the name means another electrode here",
                    "Rename it, or give its meaning by --alias RAW=NAME; where the positions are "
                    "wrong and the names are right, --ignore-positions",
                )

    def align(
        self,
        signal: npt.NDArray[np.floating],
        channels: Sequence[str],
        to: Sequence[str],
    ) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
        """Put a signal's rows in the order of another list of channels.

        Parameters
        ----------
        signal : ndarray, shape (n_chans, ...)
            One row per channel.
        channels : sequence of str
            The rows' names, in any spelling.
        to : sequence of str
            The channels wanted, in any spelling.

        Returns
        -------
        aligned : ndarray, shape (len(to), ...)
            Zero where a channel is absent: use ``present`` and not the zeros.
        present : ndarray of bool, shape (len(to),)

        Raises
        ------
        DataError
            If the signal's rows are not as many as its names, or a name is not in the vocabulary.
        """
        if len(channels) != len(signal):
            raise DataError(
                "Aligning a signal",
                f"it has {len(signal)} rows and {len(channels)} channel names",
                "Give one name per row",
            )
        row = {name: i for i, name in enumerate(self.canonicalize(channels))}
        wanted = self.canonicalize(to)
        present = np.array([name in row for name in wanted], dtype=bool)
        aligned = np.zeros((len(wanted), *signal.shape[1:]), signal.dtype)
        aligned[present] = signal[[row[name] for name in wanted if name in row]]
        return aligned, present

    def union(self, stores: Iterable[HasChannels]) -> list[str]:
        """Return every channel that some recording of some store holds, in UCS order.

        Raises
        ------
        DataError
            If the stores give one name different meanings: another vocabulary version, another
            rule for CB1 and CB2, or another alias.
        """
        return self.in_order(name for store in _same_meaning(stores) for name in store.channels)

    def intersection(self, stores: Iterable[HasChannels]) -> list[str]:
        """Return the channels that every recording of every store holds, in UCS order.

        Raises
        ------
        DataError
            As ``union``.
        """
        sets = [set(store.common_channels) for store in _same_meaning(stores)]
        return self.in_order(set.intersection(*sets)) if sets else []


def _refuse_abc(unknown: Iterable[str], where: str) -> None:
    """Raise if names that the schema does not know are those of a BioSemi ABC cap."""
    banks = {name[0] for name in (_bare(raw).upper() for raw in unknown) if _ABC.match(name)}
    if banks & {"A", "B"}:  # E3 alone is of an EGI net
        raise DataError(
            where,
            "the channels are numbered as on a BioSemi ABC cap (A1, B1, ...), "
            "where A1 is an electrode of the cap and not the left ear",
            "Rename them to 10-05 names, or give each by --alias RAW=NAME",
        )


def _bare(raw: str) -> str:
    """Strip what recorders add to a name."""
    return _SUFFIX.sub("", _PREFIX.sub("", raw.strip())).strip(" .")


# The names of 10-05; after them come mastoids, ears, O9 and O10.
_N_10_05 = 337

# The names that stand at another's place.
_STAND_INS = ("CB1", "CB2")


def _turned_onto(
    places: npt.NDArray[np.float64],
    anchors: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Turn, scale and shift places so that the anchors come nearest to where they are expected."""
    centre, target = anchors.mean(0), expected.mean(0)
    u, strength, v = np.linalg.svd((anchors - centre).T @ (expected - target))
    keep = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])  # no mirror
    scale = (strength * keep).sum() / ((anchors - centre) ** 2).sum()
    turned: npt.NDArray[np.float64] = scale * (places - centre) @ ((u * keep) @ v) + target
    return turned


def _at_one_place(measured: npt.NDArray[np.floating]) -> bool:
    """Return whether several positions are one, as software writes where nothing was measured."""
    return len(measured) > 1 and not np.ptp(measured, axis=0).any()


# The sphere nearest to the template, metres.
_CENTRE, _RADIUS = np.array([0.0, 0.0146, 0.0389]), 0.0989


def _readings(
    measured: npt.NDArray[np.floating],
    expected: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_],
) -> list[npt.NDArray[np.float64]]:
    """Return what measured positions may be in the head frame, the likeliest first."""
    norm = np.linalg.norm(measured[known], axis=1)
    ratio = np.median(np.linalg.norm(expected[known], axis=1)) / np.median(norm)
    many = known.sum() >= 8
    if not 0.5 <= ratio <= 2:  # millimetres, centimetres, inches, a sphere of radius 1
        # The size of a few says less of their unit, which then is a power of ten.
        measured = measured * (ratio if many else 10.0 ** np.round(np.log10(ratio)))
    turned = np.stack([-measured[:, 1], measured[:, 0], measured[:, 2]], axis=1)
    # One or two that are turned may as well be misnamed.
    readings = [measured, turned] if known.sum() >= 3 else [measured]
    if many:
        return [_fitted(each, expected, known) for each in readings]
    if np.ptp(norm) <= 0.01 * norm.max():
        directions = [e / np.linalg.norm(e, axis=1, keepdims=True).clip(1e-12) for e in readings]
        readings += [_CENTRE + _RADIUS * direction for direction in directions]
    return [np.asarray(each, np.float64) for each in readings]


def _fitted(
    measured: npt.NDArray[np.floating],
    expected: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Scale and shift measured positions onto those expected, by least squares; no rotation."""
    centre, target = measured[known].mean(0), expected[known].mean(0)
    a, b = measured[known] - centre, expected[known] - target
    scale = (a * b).sum() / (a * a).sum()
    return (measured - centre) * np.clip(scale, 0.5, 2) + target


def _same_meaning(stores: Iterable[HasChannels]) -> list[HasChannels]:
    stores = list(stores)
    for first, other in itertools.combinations(stores, 2):
        a, b = first.ucs, other.ucs
        theirs = {_bare(raw).upper(): name for raw, name in b.aliases}
        clash = {raw for raw, name in a.aliases if theirs.get(_bare(raw).upper(), name) != name}
        cerebellar = {"CB1", "CB2"}
        for what, differs in {
            f"channel schema versions {a.version} and {b.version}": a.version != b.version,
            f"positions {a.cerebellar} and {b.cerebellar} for CB1 and CB2": (
                a.cerebellar != b.cerebellar
                and bool(cerebellar.intersection(first.channels))
                and bool(cerebellar.intersection(other.channels))
            ),
            f"meanings for {', '.join(sorted(clash))}": bool(clash),
        }.items():
            if differs:
                raise DataError(
                    "Joining the channels of two stores",
                    f"they were aligned with different {what}",
                    "Ingest one of them again with the other's settings (--rewrite)",
                )
    return stores


def _load() -> ChannelSchema:
    table = files(__package__).joinpath("ucs.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    return ChannelSchema(
        names=tuple(row["name"] for row in rows),
        template=np.array([[float(row[axis]) for axis in "xyz"] for row in rows]),
    )


UCS = _load()
"""The Unified Channel Schema."""
