"""Cards: what a checkpoint is, which data trained it, what input it needs, and how it scored.

A card is a JSON file beside the weights. The README of a published folder, with the metadata that
Hugging Face reads, and the tables of ``docs/checkpoints.md`` are made from it.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from omfa.models.names import PresetName
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some
from omfa.zoo.protocols.identity import Recorded, bare

CONFIG, WEIGHTS, CARD = FILES = ("config.json", "model.safetensors", "card.json")
"""The files of a checkpoint's folder."""

README = "README.md"
"""The card as a page for people, in a published folder."""

FORMAT = 1
STAGES = ("pretrained", "finetuned")
DEEPEST = 100
"""How often tables and lists may be nested in a card; real ones are five deep."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A checkpoint's name; folders and Hugging Face repositories can have it too."""

_NAMED = "up to 64 letters, digits, dots, dashes and underscores, a letter or digit first"


def checked_name(name: str, doing: str) -> str:
    """Return a name; refuse one that no checkpoint can have, before the hours of its training."""
    if not NAME.fullmatch(name):
        raise DataError(
            doing,
            f"the checkpoint would be called {name!r:.80}, and a name is made of {_NAMED}",
            "Give it one: --name NAME",
        )
    return name


DecisionUnit = Literal["window", "trial"]
"""What one answer is of: a window, or all windows of a trial together."""

DECISION = "decision"
"""The key of a configuration, and the field of a card, that say what a fine-tuned model answers."""

DECIDED = ("classes", "rule", "decision_unit", "temperature")
"""What they hold."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint is, which data trained it and what input it needs.

    Unknown facts are left out of ``input``, ``recipe`` and the entries of the lists.

    Attributes
    ----------
    name : str
        Up to 64 letters, digits, dots, dashes and underscores.
    preset : {"tiny", "small", "base", "large"}
        The size of the model.
    stage : {"pretrained", "finetuned"}
        A pre-trained checkpoint has a trained encoder, and a classifier of random weights.
    ucs_version : int
        Version of the channel schema that ``input["channels"]`` is written in.
    input : dict
        The signals that the model was trained on: ``unit``; ``scale``, a factor from that unit to
        the model's input; ``sfreq`` (Hz); ``band`` (two edges in Hz, None for an open one), of what
        source and store leave together, and ``bands``, all of them where there were several, of
        which ``band`` is what all hold; ``transition`` (Hz in which the low-pass falls above it;
        left out by stores until recipe 2, which fall as MNE does), and ``transitions``, all of them
        where there were several, None for MNE's;
        ``notch`` (Hz that were taken out); ``reference``; ``channels`` (UCS names);
        ``window_seconds``; ``typical``, for figures of a window the range of nearly all of them
        (``estimators/likeness.py``).
    saw : list of dict
        All data that influenced any weight: ``dataset``, ``subjects``, ``hours``;
        ``recordings``, a line each with the digests by which the data are known again under
        another name (``Recorded``), and ``held_out``, the same of the dataset's recordings that
        were at hand and not learned from; ``attribution`` where the data's terms ask for one.
        Cards of earlier versions have no digests.
    recipe : dict
        How to train it again: ``command``, ``settings``, ``seed``, ``versions``, ``commit``.
    simulated : bool
        Whether any of the signals were simulated.
    licence : str
        SPDX identifier.
    results : list of dict
        Measured scores: ``dataset, protocol, metric, model, score``, the ends ``low, high`` of a
        95 % interval, and a ``note``.
    use, limits : str
        What the model is meant for, and what it must not be used for.
    decision : dict
        What a fine-tuned one answers: ``classes``, names of its outputs; ``rule``, how they were
        made of labels, in words; ``decision_unit``, ``"window"`` or ``"trial"``; ``temperature``,
        by which logits are divided. Empty for a pre-trained one and in cards of earlier versions.
        ``config.json`` has the same, for it may go on its own way.
    format : int
        Version of the card's format.

    Raises
    ------
    DataError
        If a field has an invalid value.

    Examples
    --------
    >>> from omfa.zoo import load_card
    >>> card = load_card("omfa-tiny-openeeg")
    >>> card.preset, card.input["sfreq"], card.licence
    ('tiny', 128.0, 'BSD-3-Clause')
    """

    name: str
    preset: str
    stage: str
    ucs_version: int
    input: dict[str, Any]
    saw: list[dict[str, Any]]
    recipe: dict[str, Any]
    simulated: bool = False
    licence: str = "BSD-3-Clause"
    results: list[dict[str, Any]] = field(default_factory=list)
    use: str = ""
    limits: str = ""
    decision: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in ("input", "saw", "recipe", "results", "decision"):
            try:
                # Through JSON, so that a card equals itself read back: tuples become lists.
                plain = json.loads(json.dumps(getattr(self, name), allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                raise self._wrong(f"{name} is not JSON ({error})") from error
            if _is_deep(plain):
                raise self._wrong(f"{name} is nested more than {DEEPEST} times")
            object.__setattr__(self, name, plain)
        if found := self._problem():
            raise self._wrong(found)

    def _wrong(self, found: str) -> DataError:
        return DataError(
            f"Reading the card of the checkpoint {self.name!r:.80}", found, "Correct its card.json"
        )

    def _problem(self) -> str | None:
        if self.format != FORMAT:
            return f"it has format {self.format!r}, this omfa reads {FORMAT}"
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            return f"the name is not made of {_NAMED}"
        if self.stage not in STAGES:
            return f"stage is {self.stage!r}, not one of {', '.join(STAGES)}"
        if self.preset not in (presets := get_args(PresetName)):
            return f"preset is {self.preset!r}, not one of {', '.join(presets)}"
        # By type(): to isinstance() True is a number. So in _number.
        if type(self.ucs_version) is not int:
            return f"ucs_version is {self.ucs_version!r}, not a whole number"
        if type(self.simulated) is not bool:
            return f"simulated is {self.simulated!r}, neither true nor false"
        for name in ("licence", "use", "limits"):
            if not isinstance(getattr(self, name), str):
                return f"{name} is {getattr(self, name)!r}, not text"
        for name, kind in (("input", dict), ("recipe", dict), ("saw", list), ("results", list)):
            if not isinstance(getattr(self, name), kind):
                return f"{name} is not a {'table' if kind is dict else 'list'}"
        return (
            self._problem_of_input() or self._problem_of_lists() or decision_problem(self.decision)
        )

    def _problem_of_input(self) -> str | None:
        signal = self.input
        for name in ("sfreq", "scale", "window_seconds"):
            if signal.get(name) is not None and not _positive(signal[name]):
                return f"input.{name} is {signal[name]!r}, not a positive number"
        bands, falls = signal.get("bands", []), signal.get("transitions", [])
        if not isinstance(bands, list) or None in bands:
            return "input.bands is not a list of bands"
        for band in (signal.get("band"), *bands):
            if band is not None and not (
                isinstance(band, list)
                and len(band) == 2
                and all(edge is None or _positive(edge) for edge in band)
            ):
                return f"input.band is {band!r}, not two edges in Hz"
        if not isinstance(falls, list) or not all(hz is None or _positive(hz) for hz in falls):
            return "input.transitions is not a list of Hz"
        channels = signal.get("channels", [])
        if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
            return "input.channels is not a list of names"
        return None

    def _problem_of_lists(self) -> str | None:
        for part in self.saw:
            if not (
                isinstance(part, dict)
                and isinstance(part.get("dataset"), str)
                and isinstance(part.get("subjects"), list)
                and all(isinstance(subject, str) for subject in part["subjects"])
            ):
                return f"saw holds {part!r:.80}, not a dataset and its subjects"
            for name in ("recordings", "held_out"):
                lines = part.get(name, [])
                # A name and two digests.
                if not isinstance(lines, list) or not all(
                    isinstance(line, str) and len(line.split()) == 3 for line in lines
                ):
                    return f"saw.{name} of {part['dataset']} is not a list of 'NAME DIGEST DIGEST'"
        for result in self.results:
            if not isinstance(result, dict) or not _number(result.get("score")):
                return f"results holds {result!r:.80}, which has no score"
        return None

    def recorded(self, which: Literal["recordings", "held_out"] = "recordings") -> list[Recorded]:
        """Return the recordings that it saw, or was kept from, as far as the card lists them."""
        return [
            Recorded.of_line(part["dataset"], line)
            for part in self.saw
            for line in part.get(which, ())
        ]

    @property
    def undigested(self) -> list[str]:
        """The people, ``"dataset/subject"``, of whom the card has names and no digests."""
        known = {(one.dataset, bare(one.subject)) for one in self.recorded() if one.known}
        return [
            f"{part['dataset']}/{subject}"
            for part in self.saw
            for subject in part["subjects"]
            if (part["dataset"], bare(subject)) not in known
        ]

    def _repr_html_(self) -> str:
        import pandas as pd  # takes a third of a second, and commands read cards

        from omfa.pipeline import views

        facts = {
            "size": self.preset,
            "stage": self.stage,
            "saw": self.datasets,
            "band": self.input.get("bands") or self.input.get("band", ""),
            "rate": f"{self.input['sfreq']:g} Hz" if "sfreq" in self.input else "",
            "channels": views.listed(self.input.get("channels", ())),
            "classes": views.listed(self.decision.get("classes", ())),
            "licence": self.licence,
            "use": self.use,
            "limits": self.limits,
        }
        return views.cell(self.name, facts, pd.DataFrame(self.results) if self.results else None)

    @property
    def datasets(self) -> str:
        """The training data in words: each dataset with its subjects and hours."""
        parts = [
            f"{'simulated ' * self.simulated}{part['dataset']} ({len(part['subjects'])} subjects"
            + (f", {part['hours']:.3g} h)" if _number(part.get("hours")) else ")")
            for part in self.saw
        ]
        return ", ".join(parts) or "nothing"

    def to_json(self) -> str:
        """Return the card as JSON text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return its fields without an empty ``decision``, which earlier versions do not know."""
        card = asdict(self)
        return card if self.decision else {k: v for k, v in card.items() if k != "decision"}

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Read a card from JSON text.

        Raises
        ------
        DataError
            If the text is not JSON, or a field is missing, unknown or invalid.
        """
        try:
            card = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError("Reading a card", f"it is not JSON ({error})", _AGAIN) from error
        if not isinstance(card, dict):
            raise DataError("Reading a card", f"it is a {type(card).__name__}", _AGAIN)
        return cls.from_dict(card)

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> Card:
        """Make a card from its fields.

        Raises
        ------
        DataError
            If a field is missing, unknown or invalid.
        """
        known = [f.name for f in fields(cls)]
        needed = ("name", "preset", "stage", "ucs_version", "input", "saw", "recipe")
        doing = f"Reading the card of the checkpoint {card.get('name')!r:.80}"
        if card.get("format", FORMAT) != FORMAT:
            found = f"it has format {card['format']!r}, this omfa reads {FORMAT}"
            raise DataError(doing, found, "Install the omfa that wrote it")
        for what, names in (
            ("lacks", [name for name in needed if name not in card]),
            ("has unknown fields", [name for name in card if name not in known]),
        ):
            if names:
                raise DataError(doing, f"it {what} {some(names)}", _AGAIN)
        return cls(**card)


def source_commit() -> str | None:
    """Return the git commit of this omfa's source, None outside of git.

    A "+" is appended if tracked files have changed since.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
        # -uno: files that are not tracked are no part of the source.
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + "+" * bool(changed)


def decision_problem(stored: Any) -> str | None:
    """Say what is wrong with a stored decision; None if nothing is. An empty one says nothing."""
    if stored == {}:
        return None
    if not isinstance(stored, dict) or set(stored) != set(DECIDED):
        return f"{DECISION} is {stored!r:.80}, not classes, rule, decision_unit and temperature"
    classes, temperature = stored["classes"], stored["temperature"]
    if not isinstance(classes, list) or not all(isinstance(c, str) and c for c in classes):
        return f"{DECISION}.classes is not a list of names"
    if len(classes) < 2 or len(set(classes)) < len(classes):
        return f"{DECISION}.classes are {classes}, not two or more different names"
    if not isinstance(stored["rule"], str):
        return f"{DECISION}.rule is {stored['rule']!r}, not text"
    if stored["decision_unit"] not in get_args(DecisionUnit):
        return f"{DECISION}.decision_unit is {stored['decision_unit']!r}"
    # By type(): to isinstance() True is a number.
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        return f"{DECISION}.temperature is {temperature!r}, not a positive number"
    return None


_AGAIN = "Make the checkpoint again, or correct its card.json"


def _is_deep(value: Any) -> bool:
    """Return whether JSON is nested more than ``DEEPEST`` times, looking no deeper."""
    level = [value]
    for _ in range(DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for each in inner for one in each if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0
