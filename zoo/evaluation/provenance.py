"""How a result was made: data, checkpoint, what pre-training used, code, versions."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.readers import UNNAMED
from omfa.pipeline.words import some
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.estimators.names import Factory
from omfa.zoo.protocols.identity import bare, same
from omfa.zoo.protocols.protocol import SUBJECT, Fold, Pretraining
from omfa.zoo.protocols.windows import Dataset

_PACKAGES = ("omfa", "numpy", "scipy", "pandas", "scikit-learn", "pyriemann", "joblib", "torch")

_SHOWING = ("benchmark", "cli", "paper", "reports")
"""Folders of the zoo whose code decides no result."""


def describe_checkpoint(name: str) -> dict[str, Any]:
    """Describe a checkpoint by its name, digests of its weights and its recipe, and its seed.

    Checkpoints with one ``recipe`` differ by the seed of their training alone.
    """
    from omfa.zoo.checkpoints.folder import digest, load, load_card

    card = load_card(name)
    return {
        "name": card.name,
        "simulated": card.simulated,
        "weights": digest(load(name)),
        "recipe": _recipe_digest(card),
        "pretraining_seed": card.recipe.get("seed"),
    }


def _recipe_digest(card: Card) -> str:
    """Digest all that a card says of a training but its seed, its command and where it ran."""
    settings = {k: v for k, v in card.recipe.get("settings", {}).items() if k != "seed"}
    about = [
        *(card.preset, card.stage, card.ucs_version, card.input, card.saw),
        settings,
        # A fine-tuned model's is made of other parts, which are all told apart.
        {
            key: value
            for key, value in card.recipe.items()
            if key not in ("settings", "seed", "command", "versions", "commit")
        },
    ]
    # 64 bits are enough that no two recipes meet by chance.
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def describe_weights(file: str) -> dict[str, Any]:
    """Describe a file of weights that a network starts from: name, digest, tensors to match.

    Their number is that of the network's own tensors but for its classifier, all of which have to
    be in the file: otherwise the network is refused.
    """
    from omfa.zoo.estimators.braindecode_networks import read_weights

    tensors = len(read_weights(file))
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return {"name": Path(file).name, "sha256": digest, "tensors": tensors}


def pretraining_of(
    checkpoint: str, dataset: Dataset, folds: Sequence[Fold], *, transductive: bool
) -> Pretraining:
    """Derive from a checkpoint's card what pre-training used of the tested subjects.

    Subjects are found by name, and by the digests of their recordings under any name.

    Parameters
    ----------
    checkpoint : str
        Name or folder.
    dataset : Dataset
    folds : sequence of Fold
    transductive : bool
        Whether unlabelled signals of tested subjects are allowed.

    Raises
    ------
    DataError
        If it used signals of tested subjects and that is not allowed, or may have used labels.

    Warns
    -----
    DataWarning
        If the card has no digests of somebody that it saw.
    """
    from omfa.zoo.checkpoints.folder import load_card

    card, metadata = load_card(checkpoint), dataset.metadata
    doing = f"Evaluating the checkpoint {checkpoint}"
    used = card.recorded()
    twins: dict[str, dict[str, None]] = {}  # people of this dataset to what the card calls them
    for here, there in same(dataset.recorded, used):
        twins.setdefault(here.person, {})[there.person] = None
    saw = {
        (str(part["dataset"]), bare(subject)): str(subject)
        for part in card.saw
        for subject in part["subjects"]
    }
    subjects = metadata[list(SUBJECT)].astype(str).drop_duplicates().to_numpy().tolist()
    # As this dataset spells them, for the check against its test sides.
    spelt = {(dataset, bare(subject)): subject for dataset, subject in subjects}
    digested = {one.person for one in dataset.recorded if one.known}
    # The name of a general reader is no dataset's own: where all have digests, they alone tell.
    others = {
        d
        for d in UNNAMED
        if {f"{of}/{s}" for of, s in subjects if of == d} <= digested
        and not any(person.startswith(f"{d}/") for person in card.undigested)
    }
    names = {
        f"{d} of {card.name}/{name}" if d in others else f"{d}/{spelt.get((d, s), name)}"
        for (d, s), name in saw.items()
    }
    tested = metadata.iloc[np.unique(np.concatenate([fold.test for fold in folds]))]
    pairs = tested[list(SUBJECT)].astype(str).drop_duplicates().to_numpy().tolist()
    by_name = {f"{d}/{s}" for d, s in pairs if (d, bare(s)) in saw and d not in others}
    caught = [
        person + (f", which its card calls {some(twins[person])}" if person not in by_name else "")
        for person in (f"{d}/{s}" for d, s in pairs)
        if person in by_name or person in twins
    ]
    complete = not card.undigested and {f"{d}/{s}" for d, s in pairs} <= digested
    claim = partial(
        Pretraining,
        seen=tuple(sorted({*twins, *names})),
        recordings=tuple(map(str, used)),
        compared="digests" if complete else "names",
    )
    if card.undigested:
        warnings.warn(
            f"{doing}: its card has no digests of {len(card.undigested)} of the {len(saw)} "
            "subjects that it saw, so only names could be compared: under another name they would "
            "not be found. Make the checkpoint again, or see that no tested subject is among them",
            DataWarning,
            stacklevel=4,
        )
    if not caught:
        datasets = {d for d, _ in pairs}
        opened = [one for one in dataset.recorded if one.dataset in datasets]
        known = same(opened, [*used, *card.recorded("held_out")])
        apart = not known and datasets.isdisjoint({d for d, _ in saw} - others)
        return claim("dataset held out" if apart else "inductive")
    found = f"it saw {len(caught)} of the tested subjects ({some(caught)})"
    if card.stage != "pretrained":
        raise DataError(
            doing,
            f"{found}, and it is {card.stage}, so it may have seen their labels",
            "Start from a pre-trained checkpoint, or test on others: Protocol(..., skip=(...))",
        )
    if not transductive:
        raise DataError(
            doing,
            f"{found}, without their labels",
            "Pre-train without them, or pass transductive=True (--transductive), and the result "
            "will say so",
        )
    return claim("transductive")


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Describe a dataset as a result's configuration has it."""
    metadata = dataset.metadata
    return {
        "datasets": sorted(metadata["dataset"].astype(str).unique()),
        "simulated": dataset.simulated,
        # Only where they are: results of before are those of the same configuration.
        **({"whitened": True} if any(path.whiten for path in dataset.paths) else {}),
        "subjects": len(metadata[list(SUBJECT)].drop_duplicates()),
        "windows": len(metadata),
        "channels": list(dataset.channels),
        "sfreq": float(dataset.sfreq),
        "recipe": None if dataset.recipe is None else dict(dataset.recipe),
        "fingerprint": fingerprint(dataset),
    }


def without_author(config: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a configuration that names no folder of its author's machine.

    Stores and checkpoints on a disk are named as seen from the result's folder, so that a study
    that is moved or sent as a whole is found; where that would lead through the root of the disk or
    somebody's home, by their own name alone. URLs and names of published checkpoints stay.

    Parameters
    ----------
    config : mapping
        Of a result.
    home : Path
        The folder that the result is written to.
    """
    dataset, parameters = dict(config["dataset"]), dict(config["parameters"])
    if dataset.get("recipe"):
        stores = [_as_seen_from(home, store) for store in dataset["recipe"]["stores"]]
        dataset["recipe"] = {**dataset["recipe"], "stores": stores, "cache_dir": None}
    if (checkpoint := parameters.get("checkpoint")) is not None and Path(checkpoint).is_dir():
        parameters["checkpoint"] = _as_seen_from(home, checkpoint)
    if config.get("weights") is not None:
        parameters["weights"] = _as_seen_from(home, parameters["weights"])
    return {**config, "dataset": dataset, "parameters": parameters}


def _as_seen_from(home: Path, address: str) -> str:
    if "://" in address:
        return address
    path, home = Path(address).resolve(), home.resolve()
    relative = Path(os.path.relpath(path, home))
    down = [part for part in relative.parts if part != ".."]
    common = Path(os.path.commonpath([path, home]))
    # "/", "/home", "/data": below these begin the folders of whoever it is.
    if len(down) > 1 and (len(common.parts) <= 2 or common == Path.home().parent):
        return path.name
    return relative.as_posix()


def found_again(stores: Sequence[str], home: Path, *, doing: str) -> list[str]:
    """Return the addresses of a result's stores, relative ones as seen from its folder.

    Parameters
    ----------
    stores : sequence of str
        As the result has them.
    home : Path
        The result's folder.
    doing : str
        For the error.

    Raises
    ------
    DataError
        If one is not there.
    """
    found = []
    for store in stores:
        near = str(home / store)  # an absolute one stays as it is
        if "://" not in store and not Path(near).exists():
            raise DataError(
                doing,
                f"its store {store} is not there, as seen from {home}",
                "Name the stores: rerun(path, stores), omfa-zoo evaluate STORE --rerun RESULT",
            )
        found.append(store if "://" in store else near)
    return found


def fingerprint(dataset: Dataset) -> str:
    """Digest all metadata of a dataset, and 64 windows that are spread over it.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    metadata = dataset.metadata
    digest = hashlib.sha256(json.dumps([list(dataset.channels), float(dataset.sfreq)]).encode())
    for column in sorted(map(str, metadata.columns)):
        digest.update(column.encode())
        digest.update(pd.util.hash_array(metadata[column].astype(str).to_numpy(object)).tobytes())
    # A few: no store is read whole for this, and other settings of an ingest change every window.
    rows = np.unique(np.linspace(0, len(metadata) - 1, 64).astype(np.int64))
    X, present, _ = dataset.take(rows)
    digest.update(np.ascontiguousarray(X).tobytes() + np.ascontiguousarray(present).tobytes())
    return digest.hexdigest()


def versions(factory: Factory) -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result, and of the code."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["code"] = _code_digest(factory)
    return found


def _code_digest(factory: Factory) -> str:
    """Digest the sources that decide a result, so that an edit never passes for the old code.

    All of the zoo and the models but what only shows results; a model of one's own beside them.
    """
    zoo = Path(__file__).parents[1]
    files = {*zoo.rglob("*.py"), *zoo.parent.glob("models/*.py")}
    files = {file for file in files if file.relative_to(zoo.parent).parts[1] not in _SHOWING}
    function = factory.func if isinstance(factory, partial) else inspect.unwrap(factory)
    try:
        own = inspect.getsourcefile(function)
    except TypeError:  # a callable object
        own = inspect.getsourcefile(type(function))
    if own and Path(own).exists():
        files.add(Path(own).resolve())
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.read_bytes())
    # 64 bits are enough that no two codes meet by chance.
    return found.hexdigest()[:16]
