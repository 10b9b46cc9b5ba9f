"""Checkpoints: folders with weights, the model's arguments and a card, which are safe to read.

A checkpoint is ``model.safetensors``, ``config.json`` and ``card.json``. Reading one never runs
code from it: weights are safetensors and never pickles, an argument can name one of torch's own
activations and nothing else, and the weights must have the names and shapes of the model's. The
files of a named checkpoint (``checkpoints/downloads.py``) are read only if their digests are the
published ones.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest, some
from omfa.pipeline.writing import staged_folder
from omfa.zoo.checkpoints.cards import (
    CARD,
    CONFIG,
    DECISION,
    FILES,
    NAME,
    README,
    WEIGHTS,
    decision_problem,
)
from omfa.zoo.checkpoints.cards import Card as Card
from omfa.zoo.checkpoints.downloads import REGISTRY, described, download, entries, find, local_files
from omfa.zoo.checkpoints.input import InputWarning, check_signal, scale_input

if TYPE_CHECKING:
    from torch import Tensor, nn

    from omfa.models.omfa import OMFA

LONGEST_JSON = 4_000_000
"""Largest size of a configuration or a card in bytes; real ones have thousands."""

LARGEST_WEIGHTS = 1 << 30
"""Largest size of the weights in bytes; those of the largest preset have a tenth."""

BOUNDS = {
    "n_outputs": (1, 1e6),
    "n_chans": (1, 1e5),
    "n_times": (1, 1e9),
    "input_window_seconds": (1e-3, 1e6),
    "sfreq": (32, 1e5),  # the resampler's table has gigabytes at 1.0003 Hz, the spectrum's at 1 MHz
    "tokens_per_second": (1e-3, 1e3),
    "rotary_period": (1e-3, 1e6),
    "stem_layers": (2, 4),
}
"""Allowed range of each number in a configuration, so that a malformed one cannot request unbounded
memory. Arguments not listed are probabilities in [0, 1].
"""

BEFORE = {"rotary_period": 0.5, "stem_layers": 2, "spectral": False, "bursts": False}
"""What a configuration that lacks an argument was made with, if that is not its default now."""

# ------------------------------------------------------------------------------------- a folder


def save_checkpoint(folder: str | Path, model: OMFA, card: Card) -> Path:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    folder : path
        Where to write it. A checkpoint that is there already is replaced.
    model : OMFA
        The model, whose weights and arguments are written.
    card : Card
        The checkpoint's card.

    Returns
    -------
    Path
        The folder, which ``load`` and ``OMFA.from_pretrained`` read.

    Raises
    ------
    DataError
        If the folder holds something else, or ``load`` would refuse the model's arguments.

    Examples
    --------
    >>> from omfa.zoo import load, load_card, save_checkpoint
    >>> save_checkpoint("copy", load("mood"), load_card("mood")).name
    'copy'
    """
    from safetensors.torch import save

    folder = Path(folder)
    doing = f"Writing the checkpoint {folder}"
    config: dict[str, Any] = model.get_config()  # type: ignore[operator]
    if card.decision:
        config[DECISION] = card.decision
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
    """Write a folder of files, which gets its name only when it is whole.

    Parameters
    ----------
    folder : Path
        A checkpoint that is there already is replaced.
    files : mapping of str to bytes
        The content of each file, by its name.

    Raises
    ------
    DataError
        If the folder holds anything else than a checkpoint.
    """
    doing = f"Writing the checkpoint {folder}"
    if folder.exists():
        inside = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name]
        if other := sorted({*inside} - {*FILES, README, REGISTRY}):
            raise DataError(doing, f"something else is there ({other[0]})", "Name another folder")
    with staged_folder(folder) as draft:
        for name, content in files.items():
            (draft / name).write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    """Read a checkpoint's files, once, so that the bytes that are checked are those that are used.

    Returns
    -------
    dict of str to bytes
        The content of each file, by its name.

    Raises
    ------
    DataError
        If a file is missing, or larger than any real one.
    """
    doing = f"Reading the checkpoint {folder}"
    if not folder.is_dir():
        raise _no_folder(doing, folder)
    if not (folder / CARD).exists() and (folder / "run.json").exists():
        found = "this run has no checkpoint yet: its pre-training has not ended"
        raise DataError(doing, found, "Run the command that began it once more")
    files = {}
    for name in FILES:
        path = folder / name
        try:
            size = path.stat().st_size
            if name != WEIGHTS and size > LONGEST_JSON:
                raise DataError(doing, f"its {name} is no card or configuration", _ANOTHER)
            if size > LARGEST_WEIGHTS:
                raise DataError(
                    doing, f"its {name} has {size:,} bytes, and is of no OMFA", _ANOTHER
                )
            files[name] = path.read_bytes()
        except OSError as error:
            found = f"it has no {name}" if isinstance(error, FileNotFoundError) else str(error)
            raise DataError(doing, found, _ANOTHER) from error
    return files


_ANOTHER = "Give the folder of a whole checkpoint"


def _no_folder(doing: str, folder: Path) -> DataError:
    """Return the error for a folder that is not there; it names those beside it that are near."""
    if folder.exists():
        return DataError(doing, "it is a file, and a checkpoint is a folder", _ANOTHER)
    try:
        beside = [each.name for each in folder.parent.iterdir() if each.is_dir()]
    except OSError:
        beside = []
    places = {name: str(folder.parent / name) for name in beside}
    known = {name: name for name in entries()} | places
    return DataError(
        doing,
        f"there is no such folder or name{nearest(folder.name, known, known)}",
        f"{_ANOTHER} or of the run that made it, or a name of: omfa-zoo list",
    )


# -------------------------------------------------------------------------------- arguments, safely


def check_config(config: Any, *, doing: str) -> None:
    """Refuse arguments that ``OMFA`` does not have, or that would import something.

    braindecode imports whatever an argument names by a dotted path. Here an argument can name one
    of torch's own activations and nothing else.

    Parameters
    ----------
    config : Any
        The content of a ``config.json``.
    doing : str
        What is being done to which checkpoint, for the error message.

    Raises
    ------
    DataError
        If an argument is unknown or invalid.
    """
    from omfa.models.omfa import ACTIVATIONS, OMFA

    def wrong(found: str) -> DataError:
        return DataError(doing, f"its {CONFIG} {found}", "Do not use it: take it from its source")

    if not isinstance(config, dict):
        raise wrong("is no table of arguments")
    hints = get_type_hints(OMFA.__init__)
    known = set(inspect.signature(OMFA).parameters)
    for name, value in config.items():
        # What braindecode's own models write beside their arguments.
        if name == "braindecode_version":
            continue
        # No argument either: what the outputs mean.
        if name == DECISION:
            if found := decision_problem(value):
                raise wrong(f"says that {found}")
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
            # By type(): to isinstance() True is a number. JSON has 128 where the argument is 128.0.
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
    """Build a model from a checkpoint's files.

    Parameters
    ----------
    files : mapping of str to bytes
        The content of each file, as ``read_files`` returns it.
    signal : mapping
        Signal arguments that replace the saved ones; None keeps the saved one.
    doing : str
        What is being done to which checkpoint, for the error message.

    Returns
    -------
    OMFA
        In evaluation mode. Another ``n_outputs`` than the saved one gives a new classifier.

    Raises
    ------
    DataError
        If an argument is unknown or invalid, or the weights are not exactly the model's.
    """
    from omfa.models.front_end import PlaceWarning
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
    # Until every head read the coherency, "gat" alone had weights for it whatever its config says.
    if config.get("head", "gat") != "gat" and not any("pair_readout" in name for name in weights):
        config = {**config, "connectivity": False}
    # Checked before the model is built: a false number of outputs could request any memory.
    if saved is None or head is None or head.shape[0] != saved:
        raise DataError(
            doing, f"its {CONFIG} and {WEIGHTS} have different numbers of outputs", again
        )
    given = {name: value for name, value in signal.items() if value is not None}
    # With the saved classifier, so that all weights fit; another one is put in its place below.
    arguments = {**BEFORE, **_without(config, given), **given, "n_outputs": saved}
    try:
        with warnings.catch_warnings():  # `check_signal` says it with the card's name
            warnings.simplefilter("ignore", PlaceWarning)
            model: OMFA = OMFA.from_config(arguments)
    except Exception as error:  # any combination of arguments may fail in any way
        found = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(doing, found, "Change the arguments of load") from error
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
        raise DataError(doing, f"in its {WEIGHTS} {some(problems)}", again)
    model.load_state_dict(weights)
    wanted = given.get("n_outputs", saved)
    if wanted != saved:
        model.reset_head(wanted)
    return model.eval()


def _without(config: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the saved arguments that the given ones replace or imply."""
    decided = {"braindecode_version", DECISION}
    if {"n_chans", "chs_info"} & given.keys():
        decided |= {"n_chans", "chs_info"}
    time = {"n_times", "input_window_seconds", "sfreq"} & given.keys()
    if time:
        decided |= {"n_times", "input_window_seconds"}
    # Two of samples, seconds and rate decide the third.
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


# ------------------------------------------------------------------------------- by name or folder


def locate(name_or_folder: str | Path) -> Path | None:
    """Return the folder of a checkpoint, inside a run its ``checkpoint``; None for a name."""
    folder = Path(name_or_folder)
    if (folder / "checkpoint" / CARD).exists() and not (folder / CARD).exists():
        return folder / "checkpoint"
    # A registered name wins over a folder of that name in the working directory: otherwise what
    # `load(NAME)` reads would depend on where a program was started.
    by_name = isinstance(name_or_folder, str) and NAME.fullmatch(name_or_folder)
    if by_name and (not folder.is_dir() or name_or_folder in entries()):
        return None
    return folder


def obtain(name_or_folder: str | Path, *, progress: bool = False) -> dict[str, bytes]:
    """Return the files of a checkpoint, given by folder or by name; a name may be downloaded.

    Returns
    -------
    dict of str to bytes
        The content of each file, by its name.

    Raises
    ------
    DataError
        If there is no such checkpoint, or no source has all of its published files.
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
    """Read a checkpoint's card. The card of a name is read from the registry, without a download.

    Raises
    ------
    DataError
        If there is no such checkpoint, or its card is invalid.

    Examples
    --------
    >>> from omfa.zoo import load_card
    >>> load_card("omfa-tiny-openeeg").stage
    'pretrained'
    """
    folder = locate(name_or_folder)
    if folder is None:
        return find(str(name_or_folder)).card
    return Card.from_json(read_files(folder)[CARD])


def list_checkpoints() -> dict[str, Card]:
    """Return the cards of the checkpoints that can be loaded by name.

    Examples
    --------
    >>> from omfa.zoo import list_checkpoints
    >>> "omfa-tiny-openeeg" in list_checkpoints()
    True
    """
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
    """Load a model from a checkpoint.

    Parameters
    ----------
    name_or_folder : str or path
        A name of ``list_checkpoints()``, or the folder of a checkpoint or of the run that made it.
        A name is downloaded if its files are not on this machine.
    n_outputs : int, optional
        Number of classes. Another number than the checkpoint's gives a new classifier, with a
        warning if the old one was trained.
    n_chans, chs_info, n_times, input_window_seconds, sfreq : optional
        Properties of the signals that the model will read, as OMFA takes them. By default the
        checkpoint's.
    unit : str, optional
        Unit of the signals, such as ``"uV"`` or ``"V"``. If it is not the card's, the model scales
        its input itself. By default the card's.
    band : (float or None, float or None), optional
        Edges in Hz that the signals were filtered to, None for an open one.
    progress : bool
        Show a bar for each file that is downloaded, on standard error.

    Returns
    -------
    OMFA
        In evaluation mode. A pre-trained one has a trained encoder, and a classifier of random
        weights.

    Raises
    ------
    DataError
        If there is no such checkpoint, its files are not those that were written or published, or
        the model cannot read such signals.

    Warns
    -----
    InputWarning
        If the signals differ from those of its training, and the model can read them still.

    Examples
    --------
    >>> from omfa.zoo import load
    >>> model = load("mood")
    >>> model.n_outputs, model.training
    (2, False)
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
    saved = json.loads(files[CONFIG])["n_outputs"]
    if card.stage != "pretrained" and n_outputs not in (None, saved):
        warnings.warn(
            f"Checkpoint {card.name}: its classifier was trained for {saved} classes; for "
            f"{n_outputs} a new one of random weights takes its place.",
            InputWarning,
            stacklevel=2,
        )
    return model


def verify(name_or_folder: str | Path) -> str:
    """Check a checkpoint as ``load`` does, and for a name the digests of its files.

    Nothing is downloaded.

    Parameters
    ----------
    name_or_folder : str or path
        As for ``load``.

    Returns
    -------
    str
        One line: the number of weights, and whether the files are published ones.

    Raises
    ------
    DataError
        If a file is missing, changed or invalid, or a name has no files on this machine.

    Examples
    --------
    >>> from omfa.zoo import verify
    >>> verify("omfa-tiny-openeeg")  # doctest: +ELLIPSIS
    'omfa-tiny-openeeg: ... weights in their places; its files are those published'
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
            # As bytes, for NumPy has no bfloat16.
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()[:16]
