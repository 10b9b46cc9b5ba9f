"""OMFA as an estimator: from a checkpoint, from random weights or from scratch.

What pre-training is worth shows against two controls (``controls``): ``omfa:random``, whose encoder
has random weights and is treated as the pre-trained one is, frozen where that is frozen; and
``omfa:scratch``, which is fitted wholly.
"""

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
from omfa.zoo.estimators.device import ONE_AT_A_TIME, choose_device
from omfa.zoo.estimators.embeddings import Embeddings, signal_arguments
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.settings import (
    COHERENCY,
    LOGISTIC,
    OF_STEPS,
    OF_WEIGHTS,
    RANDOM,
    SCRATCH,
    SPARING,
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
    def encoder(self) -> nn.Module | None:
        return self.model.encoder

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.model(x, mask=present)


class _OnEmbeddings(nn.Module):
    """An OMFA whose encoder, if it has one, has done its part."""

    def __init__(self, model: OMFA) -> None:
        super().__init__()
        self.model = model
        if model.encoder is not None:
            model.encoder.requires_grad_(False)

    def forward(self, encoded: Tensor, present: Tensor) -> Tensor:
        """Go on as ``OMFA.forward`` does behind its encoder; a test holds the two together."""
        model = self.model
        dim = 0 if model.encoder is None else int(model.encoder.dim)  # type: ignore[arg-type]
        n_side = 0 if model.encoder is None else N_SIDE
        h, side, pairs = encoded.nan_to_num(0.0).tensor_split([dim, dim + n_side], -1)
        known = pairs.unflatten(-1, (present.shape[1], -1)) if model.connectivity else None
        if self.training and model.channel_drop_prob > 0:
            present = drop_channels(present, model.channel_drop_prob)
        nodes = h
        if model.nodes is not None:
            nodes = model.nodes.of_normalised(h, side, present, model.positions)
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
        If the checkpoint is of another architecture than asked for, or a setting is unknown, is
        none of a linear probe, or is of an encoder where none is read.
    """
    own, how = omfa_and_training_from(settings)
    _check_head(checkpoint, settings)
    architecture, start = _architecture(checkpoint, own)
    return _omfa(own, how, architecture, start, seed=seed)


def omfa_of_random_weights(
    *, seed: int = 0, run_seed: int = 0, **parameters: Any
) -> Network | FeatureClassifier:
    """Make the control of a pre-trained OMFA: random weights in the encoder, the same recipe.

    The encoder is treated as a pre-trained one: frozen for an epoch or always, at its own rate of
    learning. ``controls`` gives the parameters that go with a checkpoint.

    Parameters
    ----------
    seed : int
    run_seed : int
        Of the encoder's weights. All folds of a run start from one encoder, as they do from one
        checkpoint, and each run from another.
    **parameters
        As for ``omfa``.
    """
    _refuse_checkpoint(RANDOM, parameters)
    own, how = omfa_and_training_from(parameters)
    _check_head(None, parameters)
    if own.head == COHERENCY:
        raise DataError(
            f"Setting {RANDOM} up", f"head={COHERENCY}, which has no encoder", f"Use {SCRATCH}"
        )
    architecture, _ = _architecture(None, own)
    return _omfa(own, how, architecture, _random_encoder(run_seed, **architecture), seed=seed)


def _omfa(
    own: OmfaSettings,
    how: Training,
    architecture: Mapping[str, Any],
    start: nn.Module | None,
    *,
    seed: int,
) -> Network | FeatureClassifier:
    """Make an OMFA whose encoder starts from ``start``, or is fitted wholly if there is none."""
    spared = start is not None
    freeze = own.freeze or ("first-epoch" if spared else "none")
    alone = own.head == COHERENCY
    frozen = freeze == "encoder" or alone
    if start is None and not alone and (frozen or own.head == LOGISTIC):
        # One draw for all folds and runs, so that its embeddings are computed once.
        start = _random_encoder(0, **architecture)
    if own.head == LOGISTIC:
        assert start is not None
        return _probe(start, how, own.smooth)
    if own.smooth is not None:
        raise DataError(
            f"Setting omfa up with head={own.head}",
            f"smooth={own.smooth!r} given, and what a network reads is not smoothed",
            f"Leave it out, or use head={LOGISTIC}",
        )
    head_and_drops = {name: getattr(own, name) for name in HEAD_AND_DROPS}

    def build(windows: Windows) -> nn.Module:
        model = OMFA(**signal_arguments(windows), **architecture, **head_and_drops)
        if start is not None and model.encoder is not None:
            model.encoder.load_state_dict(start.state_dict())
        return _OnEmbeddings(model) if frozen else _Whole(model)

    features = None
    if frozen:
        features = Embeddings(
            start,
            normalised=True,
            connectivity=own.connectivity,
            device=how.device,
            threads=how.threads,
        )
    return Network(
        "omfa",
        build,
        how,
        seed=seed,
        features=features,
        frozen_epochs=1 if freeze == "first-epoch" else 0,
        # An encoder that starts from nothing has as much to learn as the head.
        encoder_lr_scale=own.encoder_lr_scale if spared else 1.0,
        layer_decay=own.layer_decay,
        at_once=_at_once(own, how) if frozen else 1,
        compiled=own.compile,
    )


def _at_once(own: OmfaSettings, how: Training) -> int:
    """Return how many folds are fitted as one network."""
    if own.folds_at_once is not None:
        return own.folds_at_once
    # On every GPU the same, or a result would depend on the card. Eight of small's graphs over 62
    # channels keep 3 GiB of batches of 32 for their backward pass.
    return 8 if choose_device(how.device).type == "cuda" else 1


def _check_head(checkpoint: str | None, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a head has no use for."""
    if settings.get("head") == COHERENCY:
        given = [name for name in (*OF_WEIGHTS[1:], *SPARING) if settings.get(name) is not None]
        given += ["checkpoint"] * (checkpoint is not None)
        given += ["connectivity=False"] * (settings.get("connectivity") is False)
        if given:
            raise DataError(
                f"Setting omfa up with head={COHERENCY}",
                f"{', '.join(given)} given, and it reads the coherency alone, without an encoder",
                "Leave them out, or choose another head",
            )
    if settings.get("head") == LOGISTIC:
        _check_probe(settings)


def _check_probe(settings: Mapping[str, Any]) -> None:
    """Refuse settings that a logistic regression has no use for."""
    training = {field.name for field in fields(Training)} - {"device", "threads"}
    given = [name for name in settings if name in training]
    given += [name for name in OF_STEPS if settings.get(name)]
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

    With ``freeze="encoder"`` or as a probe its encoder has random weights, the same in all runs.

    Parameters
    ----------
    seed : int
    **parameters
        As for ``omfa``.
    """
    _refuse_checkpoint(SCRATCH, parameters)
    return omfa(seed=seed, **parameters)


def _refuse_checkpoint(model: str, parameters: Mapping[str, Any]) -> None:
    if parameters.get("checkpoint") is not None:
        raise DataError(
            f"Setting {model} up",
            f"checkpoint={parameters['checkpoint']!r}",
            "Leave it out, or use the model 'omfa'; omfa.zoo.controls gives the settings of the "
            "checkpoint without its weights",
        )


def controls(parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the two controls of a pre-trained OMFA: models, with parameters that match its own.

    Parameters
    ----------
    parameters : mapping
        Those of the model ``"omfa"``, with the ``checkpoint`` that it starts from.

    Returns
    -------
    dict of str to dict
        ``"omfa:random"``, with the same recipe, and ``"omfa:scratch"``, fitted wholly; both with
        the checkpoint's architecture.

    Raises
    ------
    DataError
        If there is no checkpoint, or it is of another architecture than asked for.

    Examples
    --------
    >>> from omfa.zoo import controls
    >>> sorted(controls({"checkpoint": "omfa-tiny-openeeg", "freeze": "encoder"}))
    ['omfa:random', 'omfa:scratch']
    """
    shared = dict(parameters)
    checkpoint = shared.pop("checkpoint", None)
    if checkpoint is None:
        raise DataError(
            "Looking for the controls of an omfa",
            "it starts from no checkpoint",
            "Name one: parameters={'checkpoint': ...}",
        )
    own, _ = omfa_and_training_from(shared)
    decided = _architecture(checkpoint, own)[0]
    shared |= {name: value for name, value in decided.items() if value is not None}
    fitted = {name: value for name, value in shared.items() if name not in SPARING}
    return {RANDOM: shared, SCRATCH: fitted}


def _architecture(
    checkpoint: str | None, settings: OmfaSettings
) -> tuple[dict[str, Any], nn.Module | None]:
    """Return the arguments that decide the encoder, and the encoder of the checkpoint."""
    asked = {name: getattr(settings, name) for name in OF_WEIGHTS}
    if checkpoint is None:
        usual = _defaults() | {"preset": PRESET}
        return {name: usual[name] if v is None else v for name, v in asked.items()}, None
    from omfa.zoo.checkpoints.folder import load

    model = load(checkpoint)
    if model.encoder is None:
        raise DataError(
            f"Starting omfa from the checkpoint {checkpoint}",
            f"its head is {COHERENCY!r}, and it has no encoder",
            "Use another checkpoint",
        )
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
    """Return the values of ``OF_WEIGHTS`` that a model was made with."""
    config: dict[str, Any] = model.get_config()  # type: ignore[operator]
    return {name: config.get(name, default) for name, default in _defaults().items()}


def _defaults() -> dict[str, Any]:
    signature = inspect.signature(OMFA).parameters
    return {name: signature[name].default for name in OF_WEIGHTS}


def _random_encoder(seed: int, *, preset: str, encoder: str, **arguments: Any) -> nn.Module:
    with ONE_AT_A_TIME, torch.random.fork_rng([]):
        torch.manual_seed(seed)
        try:
            return make_encoder(encoder, preset, **arguments)
        except ValueError as error:
            raise DataError("Making an encoder", str(error), "Change these parameters") from error
