"""OMFA as an estimator: from a checkpoint or from scratch, fitted or as a probe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import Tensor, nn

from omfa.models.encoders import make_encoder
from omfa.models.front_end import N_SIDE
from omfa.models.heads import drop_channels
from omfa.models.omfa import OMFA
from omfa.pipeline.errors import DataError
from omfa.zoo.estimators.baselines import FeatureClassifier, filled_and_scaled, logistic
from omfa.zoo.estimators.embeddings import Embeddings, signal_arguments
from omfa.zoo.estimators.network import Network, training_from
from omfa.zoo.protocols.windows import Windows

Freeze = Literal["encoder", "first-epoch", "none"]

PRESET = "small"
"""Of a model from scratch."""


class _Whole(nn.Module):
    """An OMFA as ``Network`` calls it."""

    def __init__(self, model: OMFA) -> None:
        super().__init__()
        self.model = model

    @property
    def encoder(self) -> nn.Module:
        return self.model.encoder

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.model(x, mask=present)


class _OnEmbeddings(nn.Module):
    """An OMFA whose encoder has done its part."""

    def __init__(self, model: OMFA) -> None:
        super().__init__()
        self.model = model
        model.encoder.requires_grad_(False)

    def forward(self, encoded: Tensor, present: Tensor) -> Tensor:
        """As ``OMFA.forward`` goes on from there; a test holds the two together."""
        model = self.model
        dim = int(model.encoder.dim)  # type: ignore[arg-type]
        h, side, pairs = encoded.nan_to_num(0.0).tensor_split([dim, dim + N_SIDE], -1)
        known = pairs.unflatten(-1, (present.shape[1], -1)) if model.connectivity else None
        if self.training and model.channel_drop_prob > 0:
            present = drop_channels(present, model.channel_drop_prob)
        nodes = model.nodes(h, side, present, model.positions)
        features = model.head(nodes, present, model.positions, known)
        return model.final_layer(model.dropout(features))


LOGISTIC = "logistic"


def _flat(known: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Lay the embeddings of all channels in a row, without the side input."""
    return known[..., :-N_SIDE].reshape(len(known), -1).astype(np.float32)


ARCHITECTURE = ("preset", "encoder", "resampling", "tokens_per_second")
"""Arguments of OMFA that its encoder's weights belong to."""


def omfa(
    *,
    seed: int = 0,
    checkpoint: str | None = None,
    preset: str | None = None,
    head: str = "gat",
    encoder: str | None = None,
    resampling: str | None = None,
    tokens_per_second: float | None = None,
    connectivity: bool = True,
    freeze: Freeze | None = None,
    encoder_lr_scale: float = 0.1,
    layer_decay: float | None = None,
    drop_prob: float = 0.1,
    drop_path_prob: float = 0.1,
    channel_drop_prob: float = 0.2,
    edge_drop_prob: float = 0.1,
    **training: Any,
) -> Network | FeatureClassifier:
    """Make an OMFA to be fine-tuned, or trained from scratch.

    Parameters
    ----------
    seed : int
    checkpoint : str, optional
        Name or folder of a checkpoint whose encoder it starts from; from scratch if not given.
    preset, encoder, resampling, tokens_per_second : optional
        As in ``OMFA``. By default the checkpoint's; from scratch ``"small"``, ``"art"``,
        ``"rate"``, 2.
    head : str
        The graph over the channels. ``"logistic"``: none, but logistic regression on the embeddings
        of all channels of a frozen encoder, regularised as the baselines are; a linear probe, which
        tells in seconds what an encoder has learned. It has no settings of its own.
    connectivity : bool
        As in ``OMFA``.
    freeze : {"encoder", "first-epoch", "none"}, optional
        ``"encoder"``: it stays as it is, and is run over every window once for all folds.
        ``"first-epoch"`` (with a checkpoint the default): it stays as it is while the head finds
        its feet. ``"none"``: from scratch the default. ``"encoder"`` from scratch is an encoder of
        random weights, the same in all folds: the control.
    encoder_lr_scale : float
        Learning rate of a pre-trained encoder as a share of the head's.
    layer_decay : float, optional
        In place of that, the rate of each layer as a share of that of the layer above it.
    drop_prob, drop_path_prob, channel_drop_prob, edge_drop_prob : float
        As in ``OMFA``.
    **training
        Fields of ``Training``: epochs, lr, weight_decay, label_smoothing, batch_size, patience,
        warm_up, clip, refit, device, threads.

    Returns
    -------
    Network or FeatureClassifier

    Raises
    ------
    DataError
        If the checkpoint is of another architecture than asked for, or a setting is unknown, or is
        none of a linear probe.
    """
    how = training_from(training)
    asked = dict(zip(ARCHITECTURE, (preset, encoder, resampling, tokens_per_second), strict=True))
    architecture, start = _architecture(checkpoint, asked)
    kind = freeze or ("first-epoch" if checkpoint else "none")
    if kind not in ("encoder", "first-epoch", "none"):
        raise DataError(
            "Setting omfa up", f"freeze={freeze!r}", "Use 'encoder', 'first-epoch' or 'none'"
        )
    head_and_drops: dict[str, Any] = {
        "head": head,
        "connectivity": connectivity,
        "drop_prob": drop_prob,
        "drop_path_prob": drop_path_prob,
        "channel_drop_prob": channel_drop_prob,
        "edge_drop_prob": edge_drop_prob,
    }
    if head == LOGISTIC:
        given = [name for name in training if name not in ("device", "threads")]
        given += ["freeze"] * (freeze not in (None, "encoder"))
        if given:
            raise DataError(
                f"Setting omfa up with head={LOGISTIC}",
                f"{', '.join(given)} given, and nothing is trained but a logistic regression",
                "Leave them out, or choose a head that is a network",
            )
        embeddings = Embeddings(
            start or _random_encoder(**architecture), device=how.device, threads=how.threads
        )
        prepare = make_pipeline(FunctionTransformer(_flat), filled_and_scaled())
        return FeatureClassifier(embeddings, prepare, logistic())
    if start is None and kind == "encoder":
        start = _random_encoder(**architecture)

    def build(windows: Windows) -> nn.Module:
        model = OMFA(**signal_arguments(windows), **architecture, **head_and_drops)
        if start is not None:
            model.encoder.load_state_dict(start.state_dict())
        return _OnEmbeddings(model) if kind == "encoder" else _Whole(model)

    return Network(
        "omfa",
        build,
        how,
        seed=seed,
        features=Embeddings(
            start,
            connectivity=connectivity and head == "gat",
            device=how.device,
            threads=how.threads,
        )
        if kind == "encoder" and start is not None
        else None,
        frozen_epochs=1 if kind == "first-epoch" else 0,
        encoder_lr_scale=encoder_lr_scale if checkpoint else 1.0,
        layer_decay=layer_decay,
    )


def omfa_from_scratch(*, seed: int = 0, **parameters: Any) -> Network | FeatureClassifier:
    """Make an OMFA to be trained from scratch, to compare a pre-trained one with.

    Parameters
    ----------
    seed : int
    **parameters
        As for ``omfa``.
    """
    if parameters.get("checkpoint") is not None:
        raise DataError(
            "Setting omfa:scratch up",
            f"checkpoint={parameters['checkpoint']!r}",
            "Leave it out, or use the model 'omfa'",
        )
    return omfa(seed=seed, **parameters)


def _architecture(
    checkpoint: str | None, asked: Mapping[str, Any]
) -> tuple[dict[str, Any], nn.Module | None]:
    """Return the arguments that decide the encoder, and the encoder of the checkpoint."""
    if checkpoint is None:
        usual = {"preset": PRESET, "encoder": "art", "resampling": "rate", "tokens_per_second": 2.0}
        return {name: usual[name] if v is None else v for name, v in asked.items()}, None
    from omfa.zoo.checkpoints.folder import load

    model = load(checkpoint)
    own = architecture_of(model)
    for name, value in asked.items():
        if value is not None and value != own[name]:
            raise DataError(
                f"Starting omfa from the checkpoint {checkpoint}",
                f"its {name} is {own[name]!r}, and {value!r} is asked for",
                f"Leave {name} out, or use another checkpoint",
            )
    return own, model.encoder


def architecture_of(model: OMFA) -> dict[str, Any]:
    config: dict[str, Any] = model.get_config()  # type: ignore[operator]
    signature = inspect.signature(OMFA).parameters
    return {name: config.get(name, signature[name].default) for name in ARCHITECTURE}


def _random_encoder(preset: str, encoder: str, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        try:
            return make_encoder(encoder, preset, **arguments)
        except ValueError as error:
            raise DataError("Making an encoder", str(error), "Change these parameters") from error
