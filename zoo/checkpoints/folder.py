"""Checkpoints: a folder with weights, the model's arguments and a card, safe to read.

A checkpoint is ``model.safetensors``, ``config.json`` and ``card.json``. Reading one runs nothing
that lies in it: weights are safetensors and never pickles, an argument may name an activation of
torch and nothing else, names and shapes of weights must be those of the model. One that has a name
(``omfa.zoo.checkpoints.downloads``) is read only if its files have the published digests.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from omfa.pipeline.recording import DataError
from omfa.zoo.checkpoints.cards import CARD, CONFIG, FILES, NAME, README, WEIGHTS
from omfa.zoo.checkpoints.cards import Card as Card
from omfa.zoo.checkpoints.downloads import REGISTRY, described, download, entries, find, local_files
from omfa.zoo.checkpoints.input import check_signal, scale_input

if TYPE_CHECKING:
    from torch import Tensor, nn

    from omfa.models.omfa import OMFA


LONGEST_JSON = 4_000_000
"""Bytes of a configuration or a card that are read; real ones have thousands."""

BOUNDS = {
    "n_outputs": (1, 1e6),
    "n_chans": (1, 1e5),
    "n_times": (1, 1e9),
    "input_window_seconds": (1e-3, 1e6),
    "sfreq": (1, 1e6),
    "tokens_per_second": (1e-3, 1e3),
}
"""Of numbers in a configuration, so that none asks for any amount of memory; others are chances."""


def save_checkpoint(folder: str | Path, model: OMFA, card: Card) -> Path:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    folder : path
        A checkpoint that is there already is replaced.
    model : OMFA
    card : Card

    Returns
    -------
    Path
        The folder, which ``load`` and ``OMFA.from_pretrained`` read.

    Raises
    ------
    DataError
        If the folder holds something else, or the model would not be read back.
    """
    from safetensors.torch import save

    folder = Path(folder)
    doing = f"Writing the checkpoint {folder}"
    config: dict[str, Any] = model.get_config()  # type: ignore[operator]
    check_config(config, doing=doing)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    write_files(
        folder,
        {
            CONFIG: (json.dumps(config, indent=2, allow_nan=False) + "\n").encode(),
            WEIGHTS: save(weights),
            CARD: card.to_json().encode(),
        },
    )
    return folder


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files, in place of a checkpoint; it has its name when it is whole.

    Raises
    ------
    DataError
        If the folder holds something else than a checkpoint.
    """
    doing = f"Writing the checkpoint {folder}"
    if folder.exists():
        inside = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name]
        if other := sorted({*inside} - {*FILES, README, REGISTRY}):
            raise DataError(doing, f"something else is there ({other[0]})", "Name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    staged.mkdir()
    try:
        for name, content in files.items():
            (staged / name).write_bytes(content)
        if folder.exists():
            old = staged.with_suffix(".old")
            folder.rename(old)
            staged.rename(folder)
            shutil.rmtree(old)
        else:
            staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def read_files(folder: Path) -> dict[str, bytes]:
    """Read a checkpoint's files once, so that what is checked is what is used.

    Raises
    ------
    DataError
        If one is missing, or is larger than any real one.
    """
    doing = f"Reading the checkpoint {folder}"
    files = {}
    for name in FILES:
        path = folder / name
        try:
            if name != WEIGHTS and path.stat().st_size > LONGEST_JSON:
                raise DataError(doing, f"its {name} is no card or configuration", _ANOTHER)
            files[name] = path.read_bytes()
        except OSError as error:
            found = f"it has no {name}" if isinstance(error, FileNotFoundError) else str(error)
            raise DataError(doing, found, _ANOTHER) from error
    return files


_ANOTHER = "Give the folder of a whole checkpoint"


def check_config(config: Any, *, doing: str) -> None:
    """Refuse arguments of a model that ``OMFA`` does not have, or that would import something.

    braindecode imports what an argument names by a dotted path. Here only torch's own activations
    may be named.

    Raises
    ------
    DataError
    """
    from omfa.models.omfa import ACTIVATIONS, OMFA

    def wrong(found: str) -> DataError:
        return DataError(doing, f"its {CONFIG} {found}", "Do not use it: take it from its source")

    if not isinstance(config, dict):
        raise wrong("is no table of arguments")
    hints = get_type_hints(OMFA.__init__)
    known = set(inspect.signature(OMFA).parameters)
    for name, value in config.items():
        if name == "braindecode_version":
            continue
        if name not in known:
            raise wrong(f"has an argument {name!r}, which OMFA does not")
        hint = hints[name]
        if name == "activation":
            fine = value in ACTIVATIONS
        elif name == "chs_info":
            fine = value is None or _is_chs_info(value)
        elif get_origin(hint) is Literal:
            fine = value in get_args(hint)
        else:
            kinds = get_args(hint) or (hint,)
            fine = type(value) in kinds or (float in kinds and type(value) is int)
            low, high = BOUNDS.get(name, (0, 1))
            fine = fine and (value is None or low <= value <= high)
        if not fine:
            raise wrong(f"has {name}={value!r:.80}, which cannot be")


def _is_chs_info(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(ch, dict)
        and isinstance(ch.get("ch_name"), str)
        and all(
            isinstance(entry, str | int | float | None)
            or (isinstance(entry, list) and all(isinstance(x, int | float) for x in entry))
            for entry in ch.values()
        )
        for ch in value
    )


def build(files: Mapping[str, bytes], signal: Mapping[str, Any], *, doing: str) -> OMFA:
    """Build the model of a checkpoint's files.

    Parameters
    ----------
    files : mapping
        As ``read_files`` gives them.
    signal : mapping
        Signal arguments in place of the saved ones; None where not given.
    doing : str
        For errors.

    Raises
    ------
    DataError
        If an argument or a weight is not one of OMFA's.
    """
    from omfa.models.omfa import OMFA

    again = "Do not use it: take it from its source"
    try:
        config = json.loads(files[CONFIG])
    except (ValueError, RecursionError) as error:
        raise DataError(doing, f"its {CONFIG} is not JSON ({error})", again) from error
    check_config(config, doing=doing)
    weights = _weights(files[WEIGHTS], doing)
    saved = config.get("n_outputs")
    head = weights.get("final_layer.weight")
    # Before a number in a file can ask for any amount of memory.
    if saved is None or head is None or head.shape[0] != saved:
        raise DataError(
            doing, f"its {CONFIG} and {WEIGHTS} have different numbers of outputs", again
        )
    given = {name: value for name, value in signal.items() if value is not None}
    arguments = {**_without(config, given), **given, "n_outputs": saved}
    try:
        model: OMFA = OMFA.from_config(arguments)
    except ValueError as error:
        raise DataError(doing, str(error).rstrip("."), "Change the arguments of load") from error
    expected = model.state_dict()
    problems = [
        f"{name} {what}"
        for what, names in (
            ("is missing", expected.keys() - weights.keys()),
            ("is not of this model", weights.keys() - expected.keys()),
            (
                "has another shape or kind",
                {
                    name
                    for name in expected.keys() & weights.keys()
                    if expected[name].shape != weights[name].shape
                    or expected[name].is_floating_point() != weights[name].is_floating_point()
                },
            ),
            ("is not finite", {n for n, value in weights.items() if not value.isfinite().all()}),
        )
        for name in sorted(names)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(doing, f"in its {WEIGHTS} {', '.join(problems[:3])}{more}", again)
    model.load_state_dict(weights)
    wanted = given.get("n_outputs", saved)
    if wanted != saved:
        model.reset_head(wanted)
    return model.eval()


def _without(config: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the saved arguments that those given decide."""
    decided = {"braindecode_version"}
    if {"n_chans", "chs_info"} & given.keys():
        decided |= {"n_chans", "chs_info"}
    time = {"n_times", "input_window_seconds", "sfreq"} & given.keys()
    if time:
        decided |= {"n_times", "input_window_seconds"}
    if "sfreq" in time or len(time) == 2:
        decided.add("sfreq")
    return {name: value for name, value in config.items() if name not in decided}


def _weights(content: bytes, doing: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(
            doing,
            f"its {WEIGHTS} is not whole, or no safetensors file ({error})",
            "Do not use it: take it from its source",
        ) from error


def locate(name_or_folder: str | Path) -> Path | None:
    """Return the folder of a checkpoint, which a run has as ``checkpoint``; None for a name."""
    folder = Path(name_or_folder)
    if (folder / "checkpoint" / CARD).exists() and not (folder / CARD).exists():
        return folder / "checkpoint"
    # What has a name is found by it, whatever lies in the folder that a program was started in.
    by_name = isinstance(name_or_folder, str) and NAME.fullmatch(name_or_folder)
    if by_name and (not folder.is_dir() or name_or_folder in entries()):
        return None
    return folder


def obtain(name_or_folder: str | Path, *, progress: bool = False) -> dict[str, bytes]:
    """Return a checkpoint's files: of a folder, or of a name, downloaded if they must be.

    Raises
    ------
    DataError
        If there is no such checkpoint, or it cannot be had whole and as it was published.
    """
    folder = locate(name_or_folder)
    if folder is not None:
        return read_files(folder)
    entry = find(str(name_or_folder))
    files = local_files(entry)
    if files is None:
        download(entry.card.name, progress=progress)
        files = local_files(entry)
    if files is None:
        raise DataError(
            f"Loading the checkpoint {name_or_folder}",
            "its files changed while they were read",
            "Load it again",
        )
    return files


def load_card(name_or_folder: str | Path) -> Card:
    """Read a checkpoint's card; that of a name without downloading anything.

    Raises
    ------
    DataError
        If there is no such checkpoint, or it has no readable card.
    """
    folder = locate(name_or_folder)
    if folder is None:
        return find(str(name_or_folder)).card
    return Card.from_json(read_files(folder)[CARD])


def list_checkpoints() -> dict[str, Card]:
    """Return the cards of the checkpoints that can be loaded by name."""
    return {name: entry.card for name, entry in entries().items()}


def load(
    name_or_folder: str | Path,
    *,
    n_outputs: int | None = None,
    n_chans: int | None = None,
    chs_info: list[dict[str, Any]] | None = None,
    n_times: int | None = None,
    input_window_seconds: float | None = None,
    sfreq: float | None = None,
    unit: str | None = None,
    band: tuple[float | None, float | None] | None = None,
    progress: bool = False,
) -> OMFA:
    """Load a model.

    Parameters
    ----------
    name_or_folder : str or path
        A name of ``list_checkpoints()``, or the folder of a checkpoint or of the run that made it.
        A name is downloaded if it is not here.
    n_outputs : int, optional
        Classes. Another number than the checkpoint's replaces its classifier by a new one.
    n_chans, chs_info, n_times, input_window_seconds, sfreq : optional
        Of the signals to be read, as for OMFA; by default the checkpoint's.
    unit : str, optional
        Of the signals: ``"uV"``, ``"V"``, ... In another unit than the card's the model scales its
        input by itself. By default the card's.
    band : (float or None, float or None), optional
        Hz that the signals were filtered to.
    progress : bool
        Show the download on standard error.

    Returns
    -------
    OMFA
        In evaluation mode. After stage 1 its encoder is trained and its classifier is not.

    Raises
    ------
    DataError
        If there is no such checkpoint, it is not whole and as it was written, or the signals are
        not what it can read.

    Warns
    -----
    InputWarning
        If the signals differ from those it learned from, and it can read them all the same.
    """
    files = obtain(name_or_folder, progress=progress)
    card = Card.from_json(files[CARD])
    check_signal(card, sfreq=sfreq, chs_info=chs_info, unit=unit, band=band)
    signal = {
        "n_outputs": n_outputs,
        "n_chans": n_chans,
        "chs_info": chs_info,
        "n_times": n_times,
        "input_window_seconds": input_window_seconds,
        "sfreq": sfreq,
    }
    model = build(files, signal, doing=f"Loading the checkpoint {name_or_folder}")
    scale_input(model, card, unit)
    return model


def verify(name_or_folder: str | Path) -> str:
    """Check a checkpoint as ``load`` does, and its digests where it has a name.

    Parameters
    ----------
    name_or_folder : str or path

    Returns
    -------
    str
        What was found, in a line.

    Raises
    ------
    DataError
        If something about it is wrong, or a name is not on this machine.
    """
    folder = locate(name_or_folder)
    doing = f"Verifying the checkpoint {name_or_folder}"
    if folder is None:
        entry = find(str(name_or_folder))
        problems: list[str] = []
        here = local_files(entry, problems=problems)
        if problems or here is None:
            found = "; ".join(problems) or "it is not on this machine"
            raise DataError(doing, found, f"Run: omfa-zoo download {entry.card.name}")
        files = here
    else:
        files = read_files(folder)
    card = Card.from_json(files[CARD])
    model = build(files, {"sfreq": card.input.get("sfreq")}, doing=doing)
    known = entries().get(card.name)
    published = known and all(described(files[file]) == known.files[file] for file in FILES)
    n_weights = sum(value.numel() for value in model.state_dict().values())
    return f"{card.name}: {n_weights} weights in their places; its files are " + (
        "those published" if published else "of no published checkpoint"
    )


def digest(module: nn.Module) -> str:
    """Digest the weights of a module, 16 hexadecimal digits."""
    import torch

    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        found.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()[:16]
