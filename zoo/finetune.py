"""Stage 2 for good: one OMFA, trained on all of a dataset and kept as a checkpoint.

``evaluate`` measures how well such a model does on people or trials that it has not seen; here
nothing is tested. The trainer is that of ``evaluate``, so that the model which is kept is made like
those that were measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from omfa.models.omfa import OMFA
from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.words import duration, some
from omfa.zoo.estimators.likeness import ranges
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.omfa_networks import architecture_of, omfa
from omfa.zoo.estimators.settings import LOGISTIC
from omfa.zoo.protocols.identity import same
from omfa.zoo.protocols.protocol import SUBJECT, Protocol
from omfa.zoo.protocols.splits import hold_out
from omfa.zoo.protocols.windows import BATCH, Windows

if TYPE_CHECKING:
    from omfa.zoo.checkpoints.cards import Card
    from omfa.zoo.data.dataset import StoreDataset


def fine_tune(
    dataset: StoreDataset,
    out: str | Path,
    *,
    checkpoint: str | None = None,
    protocol: str | Protocol | None = None,
    name: str | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    calibrate: bool = True,
    command: str = "",
    report: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Train one OMFA on all of a dataset and keep it as a checkpoint.

    Nothing is tested: ``evaluate`` measures how well such a model does. Before the fit on all
    windows, one on a part fits a temperature on the rest, so that probabilities can be believed
    (Guo et al. 2017); it is kept with the classes in the card and in ``config.json``.

    Parameters
    ----------
    dataset : StoreDataset
        Its target must have classes.
    out : path
        Folder of the checkpoint.
    checkpoint : str, optional
        Name or folder of the checkpoint to start from.
    protocol : str or Protocol, optional
        How validation is set apart, on which the temperature is fitted and, where ``parameters``
        ask for it (``patience``), an epoch chosen: ``"within-subject"`` (trials) or
        ``"cross-subject"`` (subjects). By default subjects where there are three or more. With
        ``refit=False`` it stays apart; else a second fit learns from all windows.
    calibrate : bool
        Fit a temperature. Without, there is one fit less unless an epoch is chosen.
    name : str, optional
        Name of the new checkpoint; by default the folder's.
    seed : int
        Decides the first weights, the order of windows and dropout.
    parameters : mapping, optional
        Fields of ``OmfaSettings`` and of ``Training``.
    command : str
        The command line that started this, for the card.
    report : callable, optional
        Called after each epoch with its number, its losses and its balanced accuracy.

    Returns
    -------
    Path
        The checkpoint's folder; ``OMFA.from_pretrained`` and ``omfa.zoo.load`` read it.

    Raises
    ------
    DataError
        If the dataset has no classes, validation cannot be set apart, the parameters do not fit,
        or the folder is taken.

    Examples
    --------
    >>> from omfa.zoo import fine_tune, open_dataset
    >>> data = open_dataset("lab.zarr", 2.0, target="event")
    >>> small = {"preset": "tiny", "epochs": 1}
    >>> fine_tune(data, "calm", parameters=small, calibrate=False).name
    'calm'
    """
    from omfa.zoo.checkpoints.cards import checked_name, source_commit
    from omfa.zoo.checkpoints.decision import as_stored
    from omfa.zoo.checkpoints.folder import save_checkpoint

    out = Path(out)
    name = checked_name(name or out.resolve().name, f"Fine-tuning into {out}")
    if checkpoint is not None:
        _say_renamed(dataset, checkpoint)
    network, train, validation = _to_fine_tune(
        dataset, checkpoint, protocol, seed, parameters, calibrate
    )
    if out.exists() and any(out.iterdir()):
        raise DataError(f"Fine-tuning into {out}", "the folder is not empty", "Name another --out")
    network.check(train)
    network.report = report
    network.fit(train, validation)
    model: OMFA = network.network_.model.cpu().eval()  # type: ignore[assignment, union-attr]
    card = _card(
        name,
        dataset,
        model,
        checkpoint,
        {
            "command": command,
            "settings": {**(parameters or {}), "checkpoint": checkpoint},
            "seed": seed,
            "target": dataset.target.rule,
            "classes": list(dataset.classes),
            "validation": {  # what a network reached there that had not learned from it
                "subjects": sorted(validation.metadata["subject"].astype(str).unique()),
                "windows": len(validation),
                "apart": _apart(train, validation),
                **network.best_,
            },
            "versions": {"omfa": version("omfa"), "torch": torch.__version__},
            "commit": source_commit(),
        },
        as_stored(dataset.classes, dataset.target.rule, temperature=network.temperature_),
        ranges(train),
    )
    return save_checkpoint(out, model, card)


def plan_fine_tuning(
    dataset: StoreDataset,
    *,
    checkpoint: str | None = None,
    protocol: str | Protocol | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    calibrate: bool = True,
) -> str:
    """Describe what ``fine_tune`` would do with these arguments, and the time it would take.

    Raises
    ------
    DataError
        All that ``fine_tune`` raises before it trains.
    """
    network, train, validation = _to_fine_tune(
        dataset, checkpoint, protocol, seed, parameters, calibrate
    )
    network.check(train)
    sample = train.at(np.linspace(0, len(train) - 1, min(len(train), BATCH)).astype(np.int64))
    seconds = network.expected_seconds(sample, [(len(train), len(validation), 0)])
    apart, how = "", network.training
    if len(validation):
        purposes = ["to judge each epoch on"] * how.chooses + ["for the temperature"] * calibrate
        apart = (
            f", {len(validation)} of {validation.metadata['subject'].nunique()} "
            f"{' and '.join(purposes)}{', then all of them to learn from' * how.refit}"
        )
    most = "at most " * (network.training.patience is not None)
    return (
        f"{len(train)} windows of {train.metadata['subject'].nunique()} subjects to train on"
        f"{apart}; classes {', '.join(train.classes)}; {most}{network.training.epochs} epochs, "
        f"about {duration(seconds)}"
    )


def _to_fine_tune(
    dataset: StoreDataset,
    checkpoint: str | None,
    protocol: str | Protocol | None,
    seed: int,
    parameters: Mapping[str, Any] | None,
    calibrate: bool,
) -> tuple[Network, Windows, Windows]:
    from omfa.zoo.checkpoints.folder import load_card
    from omfa.zoo.checkpoints.input import check_input

    if not dataset.classes:
        raise DataError(
            f"Fine-tuning on {dataset!r}",
            "it was opened without a target, or with numbers for one",
            "Name a target: 'emotion', 'valence>5'",
        )
    if checkpoint is not None:
        check_input(load_card(checkpoint), dataset)
    network = omfa(seed=seed, checkpoint=checkpoint, **(parameters or {}))
    if not isinstance(network, Network):
        raise DataError(
            f"Fine-tuning on {dataset!r}",
            f"head={LOGISTIC} is a probe of an encoder, not a model to keep",
            "Use it with evaluate, or choose a head that is a network",
        )
    y = dataset.metadata["target"].to_numpy(np.int64)
    rows = np.flatnonzero(y >= 0), np.zeros(0, np.int64)
    if network.training.chooses or calibrate:
        subjects = dataset.metadata[list(SUBJECT)].drop_duplicates()
        # Of two subjects, validation would leave one to train on.
        usual = "cross-subject" if len(subjects) >= 3 else "within-subject"
        try:
            fold = hold_out(dataset.metadata, y, protocol or usual)
            rows = fold.train, fold.validation
            network.calibrates = calibrate
        except DataError as error:
            if network.training.chooses or protocol is not None:
                raise
            warnings.warn(
                f"Fine-tuning on {dataset!r}: nothing can be set apart to fit a temperature on "
                f"({error.args[1]}); probabilities are as the network gives them.",
                DataWarning,
                stacklevel=3,
            )
    elif protocol is not None:
        raise DataError(
            f"Fine-tuning on {dataset!r}",
            f"validation is to be set apart by {protocol}, and all windows are learned from",
            "Leave the protocol out, fit a temperature, or choose the epoch: patience=10",
        )
    train, validation = (
        Windows(dataset, side, classes=dataset.classes, y=y[side]) for side in rows
    )
    return network, train, validation


def _apart(train: Windows, validation: Windows) -> str:
    """Return what was set apart: ``"subjects"``, ``"trials"`` of the same ones, or nothing."""
    if not len(validation):
        return ""
    one, other = (
        set(side.metadata[list(SUBJECT)].itertuples(index=False)) for side in (train, validation)
    )
    return "trials" if one & other else "subjects"


def _say_renamed(dataset: StoreDataset, checkpoint: str) -> None:
    """Warn if the checkpoint saw recordings that have another name here."""
    from omfa.zoo.checkpoints.folder import load_card

    mine = [dataset.sources[i].recorded for i in dataset.recordings.index]
    pairs = same(mine, load_card(checkpoint).recorded())
    renamed = {f"{a.person} as {b.person}": None for a, b in pairs if a.person != b.person}
    if renamed:
        warnings.warn(
            f"Fine-tuning from {checkpoint}: it saw people of this dataset under other names "
            f"({some(renamed)}). The new card lists them under both.",
            DataWarning,
            stacklevel=3,
        )


def _card(
    name: str,
    dataset: StoreDataset,
    model: OMFA,
    checkpoint: str | None,
    recipe: dict[str, Any],
    decision: dict[str, Any],
    typical: dict[str, Any],
) -> Card:
    """Describe a fine-tuned model; what it saw includes what its checkpoint saw."""
    from omfa.pipeline.store import open_store
    from omfa.zoo.checkpoints.cards import Card
    from omfa.zoo.checkpoints.folder import load_card
    from omfa.zoo.checkpoints.input import input_path

    before = load_card(checkpoint) if checkpoint is not None else None
    saw: dict[str, dict[str, Any]] = {}
    for part in [*(before.saw if before else ()), *dataset.subjects_and_hours()]:
        new = {"subjects": [], "hours": 0.0, "recordings": [], "held_out": []}
        known = saw.setdefault(part["dataset"], {**part, **new})
        if set(part["subjects"]) - set(known["subjects"]):  # else the same hours again
            known["hours"] = round(known["hours"] + part["hours"], 3)
        for what in ("subjects", "recordings", "held_out"):
            known[what] = sorted({*known[what], *part.get(what, ())})
        known["held_out"] = [one for one in known["held_out"] if one not in known["recordings"]]
    settings = open_store(dataset.recipe["stores"][0]).settings
    made = settings.get("preprocessing", {})
    return Card(
        name=name,
        licence="",  # whoever publishes it chooses
        preset=architecture_of(model)["preset"],
        stage="finetuned",
        simulated=dataset.simulated or bool(before and before.simulated),
        ucs_version=int(settings["ucs_version"]),
        input={
            "unit": "uV",
            "scale": 1.0,
            "sfreq": dataset.sfreq,
            **input_path(dataset.paths),
            "reference": made.get("reference"),
            "channels": dataset.channels,
            "window_seconds": dataset.recipe["window_seconds"],
            "typical": typical,
        },
        saw=list(saw.values()),
        recipe=recipe,
        decision=decision,
    )
