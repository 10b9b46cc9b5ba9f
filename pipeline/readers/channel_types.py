"""Which channels are EEG, and in which unit: by the file, their names, the reader's options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.events import kind_of
from omfa.pipeline.readers.opening import EDF_SUFFIXES
from omfa.pipeline.words import some

if TYPE_CHECKING:
    import mne


UNITS = {"V": 1e6, "mV": 1e3, "uV": 1.0, "nV": 1e-3}
"""What a value in each unit is in microvolts."""

# What MNE multiplies a file's numbers by to have volts, by the unit that the file declares.
_TO_VOLTS = {"V": 1.0, "mV": 1e-3, "µV": 1e-6, "nV": 1e-9}

# The unit that MNE assumes where a format has no field for it; volts in every other.
_ASSUMED = {".set": "µV", ".fdt": "µV"}

# EDF, and often BDF, has no channel types: these are names that recorders give to what is not EEG.
_NOT_EEG = re.compile(
    r"""^(?:
        (?:EEG[\s_-]+)?[LRHVI]?(?:EOG|ECG|EKG|EMG)  # EOG horizontal, VEOG, ECG1
      | HEO|VEO|E[XO]G\d | LOC|ROC | EXG\d+
      | STATUS|STI|TRIG|STIM|MARKER|EVENT|DIN\d|DC\d|PHOTIC|COUNTER|TIME
      | RESP|BREATH|THOR|ABD|AIRFLOW|SNORE | TEMP | SPO2|SAO2|PULSE|PLETH|BVP|PPG|HR$|HEART
      | GSR|EDA|SCL|SCR | ERGO | ACC|GYR|MAG|QUAT | AUX|MISC | BATT|CHARGE
      | (?:EDF|BDF)\s+ANNOTATIONS
    )""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class ChannelRules:
    """Which channels are EEG, and their unit, where the file does not say.

    Attributes
    ----------
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns (``"Sensor*"``), as MNE spells
        them.
    unit : {"V", "mV", "uV", "nV"} or None
        The unit of the EEG's numbers, in place of the one that the file declares.
    eeg : tuple of str
        Channels that are EEG whatever type the file gives them, as names or patterns.
    ignore_positions : bool
        Take no measured positions from the file.
    montage : str or None
        Where electrodes are instead: see ``place_by_montage``.
    """

    not_eeg: tuple[str, ...] = ()
    unit: str | None = None
    eeg: tuple[str, ...] = ()
    ignore_positions: bool = False
    montage: str | None = None

    def __post_init__(self) -> None:
        for name in ("not_eeg", "eeg"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))
        if self.montage is not None and self.ignore_positions:
            raise DataError(
                "Choosing where electrodes are",
                f"positions are to be ignored and to come from the montage {self.montage}",
                "Give either --montage or --ignore-positions",
            )
        if self.unit is not None and self.unit not in UNITS:
            raise DataError(
                "Choosing the unit of a source",
                f"{self.unit!r} is no unit of voltage that is known",
                f"Choose one of {', '.join(UNITS)}",
            )


def sort_channels(
    raw: mne.io.BaseRaw, rules: ChannelRules, *, where: str, notes: list[str]
) -> tuple[list[int], list[int]]:
    """Return the indices of the EEG and of the other channels."""
    if not raw.ch_names:
        raise DataError(
            where,
            "it holds annotations and no signal",
            "Leave it out by --pattern; give its events as a table by --labels-from",
        )
    eeg: list[int] = []
    rest: list[int] = []
    for i, (name, kind) in enumerate(zip(raw.ch_names, raw.get_channel_types(), strict=True)):
        # The schema first: a name that it knows is an electrode, whatever else it looks like.
        is_eeg = kind == "eeg" and (name in UCS or not _NOT_EEG.match(name.strip()))
        is_eeg |= _matches(name, rules.eeg)
        (eeg if is_eeg and not _matches(name, rules.not_eeg) else rest).append(i)
    types = raw.get_channel_types()
    if not eeg:
        found = ", ".join(sorted({types[i] for i in rest}))
        raise DataError(
            where,
            f"none of its {len(raw.ch_names)} channels is EEG ({some(raw.ch_names, 6)}); their "
            f"type is {found}",
            "Take them for EEG by --eeg (names, or patterns such as 'EEG*'), leave the file out, "
            "or name fewer channels by --not-eeg",
        )
    electrodes = [i for i in rest if raw.ch_names[i] in UCS]
    if kept_apart := [raw.ch_names[i] for i in electrodes if types[i] in _NO_TYPE]:
        kept_apart = [name for name in kept_apart if not _matches(name, rules.not_eeg)]
    if kept_apart:
        notes.append(
            f"{where}: {len(kept_apart)} channels with names of electrodes have the type misc and "
            f"are kept apart from the EEG: {some(kept_apart, 6)}. Take them by --eeg, or say that "
            "they are none by --not-eeg."
        )
    return eeg, rest


_NO_TYPE = ("misc", "bio")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name.strip(), pattern) or name == pattern for pattern in patterns)


def names_of(raw: mne.io.BaseRaw, eeg: Sequence[int], *, where: str) -> list[str]:
    """Return the names as the file has them: MNE numbers those that occur twice (F1-0, F1-1)."""
    names = []
    for i in eeg:
        numbered = re.fullmatch(r"(.+)-\d+", raw.ch_names[i])
        twice = numbered and numbered[1] in UCS and f"{numbered[1]}-0" in raw.ch_names
        names.append(numbered[1] if numbered and twice else raw.ch_names[i])
    for name in names:
        if names.count(name) > 1:
            same = [raw.ch_names[i] for i, other in zip(eeg, names, strict=True) if other == name]
            raise DataError(
                where,
                f"{len(same)} channels are labelled {name!r} ({', '.join(same)} in order)",
                f"Keep all but one apart from the EEG, such as --not-eeg {same[-1]!r}",
            )
    return names


def declared_unit(raw: mne.io.BaseRaw, i: int) -> str | None:
    """Return the unit that the file declares; None where its format has no field for it."""
    units: Mapping[str, str] = getattr(raw, "_orig_units", None) or {}
    unit = units.get(raw.ch_names[i])
    if unit == "nV" and kind_of(raw) in EDF_SUFFIXES:
        return "n/a"  # MNE does not know the unit in these formats, and leaves the numbers alone
    return None if unit is None else unit.replace("μ", "µ")


def to_microvolts(
    raw: mne.io.BaseRaw, i: int, unit: str | None, factor: float, *, where: str
) -> float:
    """Return what MNE's values of an EEG channel are multiplied by."""
    declared = declared_unit(raw, i)
    if unit is not None:
        assumed = _ASSUMED.get(kind_of(raw), "V")
        return UNITS[unit] / _TO_VOLTS.get(declared or assumed, 1.0)
    if declared is not None and declared not in _TO_VOLTS:
        raise DataError(
            where,
            f"channel {raw.ch_names[i]!r} declares no unit of voltage ({declared!r})",
            "Give the unit of its numbers by --unit uV (or V, mV, nV), or keep the channel apart "
            "from the EEG by --not-eeg",
        )
    return factor


def auxiliary_scale(raw: mne.io.BaseRaw, i: int, factor: float) -> tuple[float, str]:
    """Return the factor and the unit of a channel that is not EEG: microvolts if it is voltage."""
    declared, kind = declared_unit(raw, i), raw.get_channel_types(picks=[i])[0]
    if kind == "stim":
        return 1.0, ""
    if declared is None:
        voltage = kind not in ("misc", "resp", "temperature")
    else:
        voltage = declared in _TO_VOLTS
    if voltage:
        return factor, "uV"
    # MNE brings prefixed units to plain ones: µS to S
    return 1.0, "" if declared in (None, "n/a") else declared.removeprefix("µ")
