"""OMFA as an estimator: from a checkpoint or from scratch, fitted or as a probe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

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
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.settings import (
    ARCHITECTURE,
    LOGISTIC,
    OmfaSettings,
    Smooth,
    Training,
    omfa_and_training_from,
)
from omfa.zoo.protocols.windows import Windows

PRESET = "small"
"""The size of a model from scratch. It is also that of a pre-training, so that both compare."""

HEAD_AND_DROPS = (
    *("head", "connectivity"),
    *("drop_prob", "drop_path_prob", "channel_drop_prob", "edge_drop_prob"),
)
"""The settings that ``OMFA`` takes beside those of its encoder."""


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
        """Go on as ``OMFA.forward`` does behind its encoder; a test holds the two together."""
        model = self.model
        dim = int(model.encoder.dim)  # type: ignore[arg-type]
        h, side, pairs = encoded.nan_to_num(0.0).tensor_split([dim, dim + N_SIDE], -1)
        known = pairs.unflatten(-1, (present.shape[1], -1)) if model.connectivity else None
        if self.training and model.channel_drop_prob > 0:
            present = drop_channels(present, model.channel_drop_prob)
        nodes = model.nodes(h, side, present, model.positions)
        features = model.head(nodes, present, model.positions, known)
        return model.final_layer(model.dropout(features))


def _flat(known: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Lay the embeddings of all channels in a row, without the side input."""
    return known[..., :-N_SIDE].reshape(len(known), -1).astype(np.float32)


def omfa(
    *, seed: int = 0, checkpoint: str | None = None, **settings: Any
) -> Network | FeatureClassifier:
    """Make an OMFA to be fine-tuned, or trained from scratch.

    Parameters
    ----------
    seed : int
    checkpoint : str, optional
        Name or folder of a checkpoint whose encoder it starts from; from scratch if not given.
    **settings
        Fields of ``OmfaSettings`` (preset, head, freeze, ...) and ``Training`` (epochs, lr, ...).

    Returns
    -------
    Network or FeatureClassifier
        The second for ``head="logistic"``.

    Raises
    ------
    DataError
        If the checkpoint is of another architecture than asked for, or a setting is unknown, or is
        none of a linear probe.
    """
    own, how = omfa_and_training_from(settings)
    architecture, start = _architecture(checkpoint, own)
    if own.head == LOGISTIC:
        _check_probe(settings)
        return _probe(start or _random_encoder(**architecture), how, own.smooth)
    if own.smooth is not None:
        raise DataError(
            f"Setting omfa up with head={own.head}",
            f"smooth={own.smooth!r} given, and what a network reads is not smoothed",
            f"Leave it out, or use head={LOGISTIC}",
        )
    freeze = own.freeze or ("first-epoch" if checkpoint else "none")
    frozen = freeze == "encoder"
    if start is None and frozen:
        start = _random_encoder(**architecture)
    head_and_drops = {name: getattr(own, name) for name in HEAD_AND_DROPS}

    def build(windows: Windows) -> nn.Module:
        model = OMFA(**signal_arguments(windows), **architecture, **head_and_drops)
        if start is not None:
            model.encoder.load_state_dict(start.state_dict())
        return _OnEmbeddings(model) if frozen else _Whole(model)

    features = None
    if frozen and start is not None:
        with_pairs = own.connectivity and own.head == "gat"  # the other heads do not read them
        features = Embeddings(
            start, connectivity=with_pairs, device=how.device, threads=how.threads
        )
    return Network(
        "omfa",
        build,
        how,
        seed=seed,
        features=features,
        frozen_epochs=1 if freeze == "first-epoch" else 0,
        # An encoder that starts from nothing has as much to learn as the head.
        encoder_lr_scale=own.encoder_lr_scale if checkpoint else 1.0,
        layer_decay=own.layer_decay,
    )


def _check_probe(settings: Mapping[str, Any]) -> None:
    """Refuse settings that a logistic regression has no use for."""
    training = {field.name for field in fields(Training)} - {"device", "threads"}
    given = [name for name in settings if name in training]
    given += ["freeze"] * (settings.get("freeze") not in (None, "encoder"))
    if given:
        raise DataError(
            f"Setting omfa up with head={LOGISTIC}",
            f"{', '.join(given)} given, and nothing is trained but a logistic regression",
            "Leave them out, or choose a head that is a network",
        )


def _probe(encoder: nn.Module, how: Training, smooth: Smooth | None) -> FeatureClassifier:
    embeddings = Embeddings(encoder, device=how.device, threads=how.threads)
    prepare = make_pipeline(FunctionTransformer(_flat), filled_and_scaled())
    return FeatureClassifier(embeddings, prepare, logistic(), smooth=smooth)


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
    checkpoint: str | None, settings: OmfaSettings
) -> tuple[dict[str, Any], nn.Module | None]:
    """Return the arguments that decide the encoder, and the encoder of the checkpoint."""
    asked = {name: getattr(settings, name) for name in ARCHITECTURE}
    if checkpoint is None:
        usual = _defaults() | {"preset": PRESET}
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
    """Return the values of ``ARCHITECTURE`` that a model was made with."""
    config: dict[str, Any] = model.get_config()  # type: ignore[operator]
    return {name: config.get(name, default) for name, default in _defaults().items()}


def _defaults() -> dict[str, Any]:
    signature = inspect.signature(OMFA).parameters
    return {name: signature[name].default for name in ARCHITECTURE}


def _random_encoder(preset: str, encoder: str, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng([]):
        # One seed for all folds and runs: an encoder of random weights is the control of a
        # pre-trained one, and its embeddings are computed once for all folds.
        torch.manual_seed(0)
        try:
            return make_encoder(encoder, preset, **arguments)
        except ValueError as error:
            raise DataError("Making an encoder", str(error), "Change these parameters") from error
