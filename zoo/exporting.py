"""A checkpoint as one file that runs without omfa: ONNX, or a program of ``torch.export``.

The montage and the window are fixed, the number of windows is not. Nothing is left to do outside
but to give microvolts: resampling, scaling, coherency, softmax and the fitted temperature are in
the file, and what its answers mean is in its metadata, as JSON under the key ``omfa``. The file
gets its name only after its answers were compared with those of the model in torch.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.pipeline.writing import staged
from omfa.zoo.checkpoints.cards import CARD, WEIGHTS, Card
from omfa.zoo.checkpoints.decision import as_metadata, decision_in
from omfa.zoo.checkpoints.downloads import described
from omfa.zoo.checkpoints.folder import build, obtain

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
"""The formats, and how their files end."""

METADATA = "omfa"
"""The key of the metadata in a file, whose value is JSON."""

TOLERANCE = 1e-4
"""By how much an answer of the file may differ from torch's, absolutely or relatively."""

BATCHES = (1, 2, 5)
"""Numbers of windows with which both are compared: one, as live; the others to see any batch."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes
    ----------
    path : Path
        The file.
    difference : float
        The largest difference between its answers and torch's that the check found.
    metadata : dict
        What the file says of itself.

    Examples
    --------
    >>> from omfa.zoo import export
    >>> found = export("mood", "mood-again.onnx")
    >>> found.difference < 1e-3, found.metadata["classes"]
    (True, ['calm', 'tense'])
    """

    path: Path
    difference: float
    metadata: dict[str, Any]


class Answers(nn.Module):
    """A classifier as it is exported: windows and present channels in, logits, probabilities out.

    Parameters
    ----------
    model : OMFA
        In evaluation mode.
    scale : float
        What the signals are multiplied by first.
    temperature : float
        What logits are divided by before the softmax.
    """

    inputs = ("x", "mask")
    outputs = ("logits", "probabilities")

    def __init__(self, model: nn.Module, scale: float, temperature: float):
        super().__init__()
        self.model, self.scale, self.temperature = model, scale, temperature

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor
            (batch, n_chans, n_times), microvolts.
        mask : Tensor
            (batch, n_chans) bool, True for channels that are present.

        Returns
        -------
        tuple of Tensor
            Logits and probabilities, (batch, n_outputs) each.
        """
        logits = self.model(x * self.scale, mask=mask)
        return logits, torch.softmax(logits / self.temperature, -1)


class Embeddings(nn.Module):
    """An encoder as it is exported: windows of single channels in, embeddings and power out.

    Parameters
    ----------
    encoder : nn.Module
        In evaluation mode.
    scale : float
        What the signals are multiplied by first.
    """

    inputs = ("x",)
    outputs = ("embeddings", "power")

    def __init__(self, encoder: nn.Module, scale: float):
        super().__init__()
        self.encoder, self.scale = encoder, scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode windows.

        Parameters
        ----------
        x : Tensor
            (batch, n_times), microvolts, one channel per row.

        Returns
        -------
        tuple of Tensor
            Embeddings (batch, dim), and the power that scaling removed, (batch, 7): ``h`` and
            ``side`` of ``omfa.models.art.Encoded``.
        """
        encoded = self.encoder(x * self.scale)
        return encoded.h, encoded.side


def export(
    name_or_folder: str | Path,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    encoder: bool = False,
) -> Exported:
    """Write a checkpoint as one file that runs without omfa.

    Parameters
    ----------
    name_or_folder : str or path
        As for ``load``.
    out : path, optional
        The file; by default the checkpoint's name in the working directory, with ``.onnx`` or
        ``.pt2``.
    format : {"onnx", "torch-export"}
        ONNX for onnxruntime and others, or a program for ``torch.export.load``.
    encoder : bool
        The encoder of single channels alone, which gives embeddings. A checkpoint that is only
        pre-trained has nothing else to export.

    Returns
    -------
    Exported
        The file, how well it agrees with torch, and its metadata.

    Raises
    ------
    DataError
        If there is no such checkpoint or format, the checkpoint is only pre-trained, the file is
        there already, a package is missing, or the answers of the file are not those of torch.

    Examples
    --------
    >>> from omfa.zoo import export
    >>> export("mood", "mood.onnx").path.name
    'mood.onnx'
    """
    doing = f"Exporting the checkpoint {name_or_folder}"
    if format not in SUFFIXES:
        raise DataError(
            doing,
            f"there is no format {format!r}{nearest(format, SUFFIXES)}",
            f"Choose one of {', '.join(SUFFIXES)}",
        )
    _check_installed(format, doing)
    parts: Parts = _embeddings if encoder else _answers
    graph, shape, metadata = parts(name_or_folder, doing)
    path = Path(out or metadata["checkpoint"] + SUFFIXES[format])
    taken = DataError(doing, f"{path} is there already", "Name another --out, or remove it")
    if path.exists():
        raise taken
    with _quiet():
        program = _program(graph, shape)
        content = (_as_onnx if format == "onnx" else _as_program)(program, metadata)
        run = (_onnx_runner if format == "onnx" else _program_runner)(content)
        difference = float(np.max([_difference(run, graph, shape, n) for n in BATCHES]))
    if not difference <= TOLERANCE:  # not >: NaN is no agreement
        raise DataError(
            doing,
            f"the file's answers differ from torch's by {difference:.2g}, and {TOLERANCE:g} is "
            "allowed; it was not kept",
            "Report it as a bug, with the checkpoint's card",
        )
    try:
        with staged(path, replace=False) as file:
            file.write(content)
    except FileExistsError as error:  # since it was looked for, above
        raise taken from error
    return Exported(path, difference, metadata)


def _check_installed(format: str, doing: str) -> None:
    try:
        if format == "onnx":
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    except ImportError as error:
        raise DataError(
            doing, f"the package {error.name} is not installed", "Run: pip install 'omfa[onnx]'"
        ) from error


# ------------------------------------------------------------------------- what is to be exported


Parts = Callable[[str | Path, str], tuple[Answers | Embeddings, Shape, dict[str, Any]]]


def _answers(name_or_folder: str | Path, doing: str) -> tuple[Answers, Shape, dict[str, Any]]:
    """Return a classifier, the shape of one window, and what the file is to say of itself."""
    files = obtain(name_or_folder)
    decision = decision_in(files, name_or_folder)
    model = build(files, decision.signal, doing=doing)
    metadata = _metadata(files, as_metadata(decision), Answers, decision.n_times)
    graph = Answers(model, decision.scale, decision.temperature)
    return graph.eval(), (len(decision.channels), decision.n_times), metadata


def _embeddings(name_or_folder: str | Path, doing: str) -> tuple[Embeddings, Shape, dict[str, Any]]:
    """Return an encoder, the shape of one window, and what the file is to say of itself."""
    files = obtain(name_or_folder)
    card = Card.from_json(files[CARD])
    known: dict[str, Any] = {key: card.input.get(key) for key in ("sfreq", "window_seconds")}
    if missing := [key for key, value in known.items() if not value]:
        raise DataError(
            doing,
            f"its card does not say {', '.join(f'input.{key}' for key in missing)}",
            "Complete its card.json",
        )
    model = build(files, {"sfreq": known["sfreq"]}, doing=doing)
    if model.encoder is None:
        raise DataError(
            doing, "its head reads coherency alone, and has no encoder", "Export the whole model"
        )
    n_times = round(known["window_seconds"] * known["sfreq"])
    facts = {"checkpoint": card.name, "simulated": card.simulated, **card.input}
    metadata = _metadata(files, facts, Embeddings, n_times)
    graph = Embeddings(model.encoder, float(card.input.get("scale") or 1.0))
    return graph.eval(), (n_times,), metadata


def _metadata(
    files: Mapping[str, bytes],
    facts: Mapping[str, Any],
    graph: type[Answers] | type[Embeddings],
    n_times: int,
) -> dict[str, Any]:
    card = Card.from_json(files[CARD])
    # The file scales by itself.
    facts = {key: value for key, value in facts.items() if key != "scale"}
    return {
        **facts,
        "n_times": n_times,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "omfa": version("omfa"),
        "weights_sha256": described(files[WEIGHTS])[0],
        "licence": card.licence or "not stated",
    }


# ------------------------------------------------------------------------------- the two formats


def _program(graph: Answers | Embeddings, shape: Shape) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    # Three: of one window torch would take it that there is always one.
    inputs = tuple(signals(graph.inputs, shape, 3).values())
    with torch.no_grad():
        return torch.export.export(
            graph, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False
        )


def _as_onnx(program: torch.export.ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    import onnx

    made = torch.onnx.export(
        program,
        input_names=metadata["inputs"],
        output_names=metadata["outputs"],
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    model = made.model_proto
    onnx.helper.set_model_props(model, {METADATA: json.dumps(metadata, ensure_ascii=False)})
    content: bytes = model.SerializeToString()
    return content


def _as_program(program: torch.export.ExportedProgram, metadata: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    extra = {METADATA: json.dumps(metadata, ensure_ascii=False)}
    torch.export.save(program, file, extra_files=extra)
    return file.getvalue()


Run = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]


def _onnx_runner(content: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return [torch.from_numpy(value) for value in found]

    return run


def _program_runner(content: bytes) -> Run:
    module = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: Mapping[str, Tensor]) -> Sequence[Tensor]:
        found: Sequence[Tensor] = module(*inputs.values())
        return found

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says to those who write one."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# -------------------------------------------------------------------------------------- the check


def signals(inputs: Sequence[str], shape: Shape, n: int) -> dict[str, Tensor]:
    """Simulate windows in which much is wrong, to compare two ways of one computation.

    Parameters
    ----------
    inputs : sequence of str
        ``"x"``, and ``"mask"`` where channels can be masked.
    shape : tuple of int
        Of a window: ([n_chans,] n_times).
    n : int
        Number of windows. The first is whole; the others have an offset and an artefact, a NaN, an
        infinity, a flat channel, channels that are masked; the fifth has no channel.

    Returns
    -------
    dict of str to Tensor
        ``x`` (n, *shape) float32, noise of 10 microvolts; ``mask`` (n, n_chans) bool.
    """
    rng = np.random.default_rng(n)
    x = rng.normal(0, 10, (n, *shape)).astype(np.float32)
    mask = np.ones((n, *shape[:-1]), bool)
    rows = x.reshape(n, -1, shape[-1])
    if n > 1:
        rows[1] += 200.0
        rows[1, :, shape[-1] // 2] += 2000.0
    if n > 2:
        rows[2, 0, 5] = np.nan
    if n > 4:
        rows[3, 0, 7] = np.inf
        rows[3, -1] = 3.0
        mask[4] = False
        if mask.ndim > 1:
            mask[1, 0] = False
    made = {"x": torch.from_numpy(x), "mask": torch.from_numpy(mask)}
    return {name: made[name] for name in inputs}


def _difference(run: Run, graph: Answers | Embeddings, shape: Shape, n: int) -> float:
    """Return by how much a file's answers on ``n`` windows differ, absolutely or relatively."""
    inputs = signals(graph.inputs, shape, n)
    with torch.no_grad():
        expected = graph(*inputs.values())
    found = run(inputs)
    # Not Python's max, to which a NaN may be no difference.
    return float(
        np.max(
            [
                float(((b - a).abs() / a.abs().clamp(min=1.0)).max())
                for a, b in zip(expected, found, strict=True)
            ]
        )
    )
