"""What a checkpoint answers: its classes, and the signals that its answers are for.

A model gives logits. What they are of, how they become probabilities, and what was done to the
signals that they were learned from is in the checkpoint's ``config.json`` and its card. A
``Decision`` is all of it together, read by whatever answers: prediction on recordings, live, an
exported model. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.preprocess import Preprocessing, Reference
from omfa.zoo.checkpoints.cards import CARD, CONFIG, DECISION, Card, DecisionUnit
from omfa.zoo.protocols.metrics import softmax


@dataclass(frozen=True)
class Decision:
    """What a fine-tuned checkpoint answers, and what its input has to be.

    Attributes
    ----------
    checkpoint : str
        The card's name.
    classes : tuple of str
        Names of the outputs, in their order.
    rule : str
        How the classes were made of labels or ratings, in words.
    decision_unit : {"window", "trial"}
        What one answer is of.
    temperature : float
        Logits are divided by it before the softmax; 1 where none was fitted.
    channels : tuple of str
        UCS names of the channels that it learned from, in the order of the model's rows.
    sfreq : float
        Hz.
    window_seconds : float
        Length of a window.
    unit : str
        Unit of the signals that the model expects: ``"uV"``.
    scale : float
        What the model's input is multiplied by, after it is in ``unit``.
    band : (float or None, float or None)
        Edges in Hz, None for an open one.
    transition : float or None
        Hz above the band in which the low-pass falls; None for MNE's.
    notch : tuple of float
        Hz that were taken out.
    reference : str or tuple of str
        ``"source"`` (whatever the recordings had), ``"average"`` or names of channels.
    whiten : bool
        Whether each recording was whitened over its channels, which takes all of it.
    simulated : bool
        Whether it learned from simulated signals.

    Examples
    --------
    >>> from omfa.zoo import read_decision
    >>> read_decision("mood").rule
    "the values of 'event'"
    """

    checkpoint: str
    classes: tuple[str, ...]
    rule: str
    decision_unit: DecisionUnit
    temperature: float
    channels: tuple[str, ...]
    sfreq: float
    window_seconds: float
    unit: str = "uV"
    scale: float = 1.0
    band: tuple[float | None, float | None] = (None, None)
    transition: float | None = None
    notch: tuple[float, ...] = ()
    reference: Reference = "source"
    whiten: bool = False
    simulated: bool = False

    @property
    def n_times(self) -> int:
        """Samples of a window."""
        return round(self.window_seconds * self.sfreq)

    @property
    def preprocessing(self) -> Preprocessing:
        """What brings a recording to the signal path that the model learned from."""
        band = None if self.band == (None, None) else self.band
        return Preprocessing(
            sfreq=self.sfreq,
            band=band,
            transition=self.transition,
            notch=self.notch,
            reference=self.reference,
            whiten=self.whiten,
        )

    @property
    def signal(self) -> dict[str, Any]:
        """The properties of the model's input, as OMFA takes them."""
        return {"chs_info": self.chs_info(), "n_times": self.n_times, "sfreq": self.sfreq}

    def chs_info(self) -> list[dict[str, Any]]:
        """Return ``ch_name``, ``kind`` and ``loc`` (metres) of each channel, as OMFA takes them."""
        from omfa.pipeline.channels import UCS

        places = np.zeros((len(self.channels), 12))
        places[:, :3] = UCS.positions(self.channels)
        return [
            {"ch_name": name, "kind": "eeg", "loc": loc}
            for name, loc in zip(self.channels, places, strict=True)
        ]

    def probabilities(self, logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Turn logits into probabilities, with the temperature (Guo et al. 2017, ICML).

        Parameters
        ----------
        logits : array, shape (..., n_classes)

        Returns
        -------
        ndarray of float64, shape (..., n_classes)
            Sums of 1 along the last axis.
        """
        return softmax(np.asarray(logits, np.float64) / self.temperature)


def as_stored(
    classes: tuple[str, ...] | list[str],
    rule: str,
    *,
    decision_unit: DecisionUnit = "window",
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Return what a card and a configuration store of a decision; JSON."""
    return {
        "classes": list(classes),
        "rule": rule,
        "decision_unit": decision_unit,
        "temperature": temperature,
    }


def decision_of(card: Card, config: Mapping[str, Any], *, command: str = "") -> Decision:
    """Return what a checkpoint decides, by its card and its configuration.

    Parameters
    ----------
    card : Card
    config : mapping
        The content of ``config.json``.
    command : str
        What to name in the error instead of the card's name: the folder or name that was given.

    Raises
    ------
    DataError
        If the checkpoint is only pre-trained, or does not say its classes, or card and
        configuration say different things, or the card lacks the rate, the channels or the length
        of windows.
    """
    name = command or card.name
    doing = f"Reading what the checkpoint {name} decides"
    if card.stage != "finetuned":
        raise DataError(
            doing,
            "it is only pre-trained, and its classifier has random weights",
            f"Fine-tune it first: omfa-zoo finetune STORE --checkpoint {name} --out DIR",
        )
    stored = card.decision or _of_recipe(card)
    if config.get(DECISION, stored) != stored:
        raise DataError(
            doing,
            f"its {CONFIG} and its card say different classes, rules or temperatures",
            "Do not use it: take it from its source",
        )
    classes = tuple(stored.get("classes", ()))
    if len(classes) != config.get("n_outputs"):
        raise DataError(
            doing,
            f"it has {config.get('n_outputs')} outputs and names {len(classes)} classes",
            "Fine-tune it again: omfa-zoo finetune stores the classes",
        )
    signal = card.input
    missing = [key for key in ("sfreq", "channels", "window_seconds") if not signal.get(key)]
    if missing:
        raise DataError(
            doing,
            f"its card does not say {', '.join('input.' + key for key in missing)}",
            "Complete its card.json, or fine-tune it again",
        )
    low, high = signal.get("band") or (None, None)
    return Decision(
        checkpoint=card.name,
        classes=classes,
        rule=str(stored["rule"]),
        decision_unit=stored["decision_unit"],
        temperature=float(stored["temperature"]),
        channels=tuple(signal["channels"]),
        sfreq=float(signal["sfreq"]),
        window_seconds=float(signal["window_seconds"]),
        unit=signal.get("unit") or "uV",
        scale=float(signal.get("scale") or 1.0),
        band=(low, high),
        transition=signal.get("transition"),
        notch=tuple(signal.get("notch") or ()),
        reference=_reference(signal.get("reference")),
        whiten=bool(signal.get("whiten")),
        simulated=card.simulated,
    )


def _of_recipe(card: Card) -> dict[str, Any]:
    """Return what cards of earlier versions say: classes and rule, among the recipe."""
    classes = card.recipe.get("classes")
    if not isinstance(classes, list) or not classes:
        return {}
    return as_stored([str(c) for c in classes], str(card.recipe.get("target", "not stated")))


def _reference(said: Any) -> Reference:
    if isinstance(said, list):
        return tuple(map(str, said))
    return "average" if said == "average" else "source"


def read_decision(name_or_folder: str | Path) -> Decision:
    """Read what a checkpoint decides; a name may be downloaded.

    Raises
    ------
    DataError
        As ``decision_of``, or if there is no such checkpoint.

    Examples
    --------
    >>> from omfa.zoo import read_decision
    >>> decision = read_decision("mood")
    >>> decision.classes, decision.sfreq, decision.window_seconds
    (('calm', 'tense'), 128.0, 2.0)
    """
    from omfa.zoo.checkpoints.folder import obtain

    return decision_in(obtain(name_or_folder), name_or_folder)


def decision_in(files: Mapping[str, bytes], name_or_folder: str | Path) -> Decision:
    """Read what a checkpoint decides from its files.

    Parameters
    ----------
    files : mapping of str to bytes
        What ``obtain`` returned.
    name_or_folder : str or path
        What was asked for, for the error.

    Raises
    ------
    DataError
        As ``decision_of``.
    """
    from omfa.zoo.checkpoints.folder import check_config

    doing = f"Reading what the checkpoint {name_or_folder} decides"
    try:
        config = json.loads(files[CONFIG])
    except (ValueError, RecursionError) as error:
        raise DataError(
            doing, f"its {CONFIG} is not JSON ({error})", "Take it from its source"
        ) from error
    check_config(config, doing=doing)
    return decision_of(Card.from_json(files[CARD]), config, command=str(name_or_folder))


def as_metadata(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON, for files that leave the zoo: exported models, streams."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(decision)))
    return plain
