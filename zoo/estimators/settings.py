"""The settings of stage 2: how a network is fitted, and what an OMFA is made of.

No torch here, so that a command line can show them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from omfa.models.names import EncoderName, HeadName, PresetName, Resampling
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest

Head = HeadName | Literal["logistic"]
"""The graphs over the channels, and ``LOGISTIC``."""

Freeze = Literal["encoder", "first-epoch", "none"]

Smooth = Literal["average", "lds"]
"""How features are smoothed over a trial: a moving average, or a linear dynamical system."""

NON_CAUSAL = "+non-causal-"
"""Between the name of a model and how its features are smoothed: a name is in every table, file
and picture, so each of them says it."""

LOGISTIC = "logistic"
"""The head that is no network: logistic regression on the embeddings."""

COHERENCY = "coherency"
"""The head that reads no encoder: the readout of the coherency between channels alone."""

RANDOM, SCRATCH = "omfa:random", "omfa:scratch"
"""The two controls of a pre-trained OMFA: random weights under its own recipe, and fitted wholly
from random weights.
"""

OMFA_MODELS = ("omfa", RANDOM, SCRATCH)
"""The models that take ``OmfaSettings``."""

ARCHITECTURE = ("preset", "encoder", "resampling", "tokens_per_second", "spectral", "bursts")
"""The settings of an OMFA that its encoder's weights belong to, and that pre-training has too."""

OF_WEIGHTS = (*ARCHITECTURE, "stem_layers", "rotary_period")
"""All settings that an encoder's weights belong to."""

SPARING = ("freeze", "encoder_lr_scale", "layer_decay")
"""The settings that spare an encoder: one that is fitted wholly has nothing to spare."""

OF_STEPS = ("folds_at_once", "compile")
"""The settings that say how steps are taken, of which a logistic regression has none."""


@dataclass(frozen=True)
class OmfaSettings:
    """What an OMFA is made of, and how its encoder is trained.

    Attributes
    ----------
    preset : str or None
        Size of the model. By default the checkpoint's; from scratch small.
    encoder : str or None
        Encoder of single channels. By default the checkpoint's; from scratch art.
    resampling : str or None
        Whether signals are resampled to the encoder's rate, and whether tokens are also placed by
        content. By default the checkpoint's; from scratch rate.
    tokens_per_second : float or None
        Tokens for every second of signal. By default the checkpoint's; from scratch 2.
    spectral : bool or None
        Whether art also reads the spectrum of a window, in a path of its own. By default the
        checkpoint's; from scratch it does.
    bursts : bool or None
        Whether art also reads how unevenly the power of each band is spread over a window, in a
        path of its own. By default the checkpoint's; from scratch it does.
    stem_layers : int or None
        Convolutions of art's stem. By default the checkpoint's; from scratch 4.
    rotary_period : float or None
        Seconds per turn of art's fastest rotary phase. By default the checkpoint's; from scratch
        two tokens.
    head : str
        The graph over the channels. ``logistic`` has none: it is a linear probe, logistic
        regression on the embeddings that a frozen encoder makes of all channels, regularised as
        the baselines are. It says within seconds what an encoder has learned, and takes none of the
        settings of the training but device and threads. ``coherency`` is what ``connectivity``
        adds, alone, without an encoder.
    connectivity : bool
        Also read the coherency between channels out, beside any graph.
    smooth : {"average", "lds"} or None
        Smooth features over the windows of a trial before they are classified: with
        ``head=logistic``, and in baselines. The class of a window then needs those after it, and
        the model's name says ``non-causal``.
    freeze : {"encoder", "first-epoch", "none"} or None
        How long the encoder stays as it is. ``encoder``: always, so that it is run over every
        window once for all folds. ``first-epoch``, the default with a checkpoint: for one epoch,
        since the gradients of a head that is still random would spoil it. ``none`` is the default
        from scratch.
    encoder_lr_scale : float
        Learning rate of the encoder as a share of the head's; from scratch both are one.
    layer_decay : float or None
        Learning rate of each layer of the encoder as a share of that of the layer above it, in
        place of one share for the whole encoder.
    drop_prob : float
        Dropout in the head and before the classifier.
    drop_path_prob : float
        Chance, at the encoder's last layer, that a row skips a residual branch; less in earlier
        layers.
    channel_drop_prob : float
        Chance that a channel counts as absent in a training step.
    edge_drop_prob : float
        Chance that an edge of the graph is left out of a training step.
    folds_at_once : int or None
        Folds of equally many windows whose heads, on a frozen encoder, are fitted as one network
        where all epochs are run: on a GPU, where a step of one head is the starting of its kernels
        and little else. By default 8 on a GPU and 1 on a CPU, which gains nothing. It decides which
        random numbers a fold draws, and so the result.
    compile : bool
        Compile the steps of a fit (torch.compile), for which a C compiler must be there. For a GPU,
        where it joins small kernels; a CPU gains nothing. It takes a minute or two, once for all
        folds of a process.
    """

    preset: PresetName | None = None
    encoder: EncoderName | None = None
    resampling: Resampling | None = None
    tokens_per_second: float | None = None
    spectral: bool | None = None
    bursts: bool | None = None
    stem_layers: int | None = None
    rotary_period: float | None = None
    head: Head = "gat"
    connectivity: bool = True
    smooth: Smooth | None = None
    freeze: Freeze | None = None
    encoder_lr_scale: float = 0.1
    layer_decay: float | None = None
    drop_prob: float = 0.1
    drop_path_prob: float = 0.1
    # With none dropped simulated phase falls from .813 to .788, and .4 of the channels has .825;
    # on EEGMAT the differences are noise (docs/log.md).
    channel_drop_prob: float = 0.2
    edge_drop_prob: float = 0.1
    folds_at_once: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        n = self.folds_at_once
        if n is not None and not (isinstance(n, int) and n > 0):
            raise DataError("Setting omfa up", f"folds_at_once={n!r}", "Give a number from 1")
        if self.freeze is not None and self.freeze not in (known := get_args(Freeze)):
            raise DataError(
                "Setting omfa up",
                f"freeze={self.freeze!r}{nearest(str(self.freeze), known)}",
                "Use 'encoder', 'first-epoch' or 'none'",
            )


@dataclass(frozen=True)
class Training:
    """How a network is fitted; all of it is this project's choice.

    AdamW with a warm-up and a cosine, classes weighted to count alike, label smoothing, clipped
    gradients. By default all epochs are run on training and validation together, as the baselines
    learn from both. With ``patience`` the loss on the validation side is taken after each epoch,
    and the epoch of the least is kept: by loss, since the accuracy of a few validation trials has
    few values.

    Parameters
    ----------
    epochs : int
        Number of epochs; with ``patience`` the greatest.
    lr : float
        Greatest learning rate, reached after the warm-up; from there a cosine leads to 0.
    weight_decay : float
        Decay of matrices in a step; biases and norms have none.
    label_smoothing : float
        Share of a target's weight that is spread over all classes.
    batch_size : int
        Windows for each step.
    patience : int or None
        Epochs without a lower validation loss after which training stops; the best epoch's weights
        are kept. None, the default: all epochs are run, and the last one's weights are kept.
    warm_up : float
        Share of all steps in which the learning rate rises.
    clip : float
        Greatest norm of a gradient.
    refit : bool
        Learn from training and validation together, as the baselines do: with few subjects the
        validation side is a fifth of the data. With ``patience`` that is a second fit, for as many
        epochs as were best in the first.
    device : str
        ``auto`` is the first GPU where there is one, else the CPU.
    threads : int
        Threads of the CPU in a fit. They decide the order of sums, and so the result; folds are
        what runs in parallel.

    Examples
    --------
    >>> from omfa.zoo import Training
    >>> Training(epochs=10).batch_size
    32
    """

    epochs: int = 40
    # A third of lr, batches of 128, smoothing by .3, fewer epochs and more decay were no better
    # on EEGMAT (docs/log.md).
    lr: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    batch_size: int = 32
    # Chosen on three validation subjects an epoch costs more than it gives; on more it has not
    # been measured (docs/log.md).
    patience: int | None = None
    warm_up: float = 0.1
    clip: float = 1.0
    refit: bool = True
    device: str = "auto"
    threads: int = 1

    @property
    def chooses(self) -> bool:
        """Whether the validation side is kept out of training, to choose or to watch an epoch."""
        return self.patience is not None or not self.refit

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={getattr(self, name)!r}"
            for name in ("epochs", "lr", "batch_size", "patience", "clip", "threads")
            if (value := getattr(self, name)) is not None and not value > 0
        ]
        wrong += [
            f"{name}={getattr(self, name)!r}"
            for name in ("label_smoothing", "warm_up")
            if not 0 <= getattr(self, name) < 1
        ]
        if wrong:
            raise DataError(
                "Setting the training up",
                ", ".join(wrong),
                "Give positive numbers, and shares from 0 to below 1",
            )


def training_from(given: Mapping[str, Any]) -> Training:
    """Return the training with the settings that are given by name.

    Raises
    ------
    DataError
        If a name is not known, or a value is impossible.
    """
    _refuse_unknown("Setting the training up", given, _names(Training))
    return Training(**given)


def omfa_and_training_from(given: Mapping[str, Any]) -> tuple[OmfaSettings, Training]:
    """Return the model's and the training's settings out of one mapping by name.

    Raises
    ------
    DataError
        If a name is of neither, or a value is impossible.
    """
    own = _names(OmfaSettings)
    _refuse_unknown("Setting omfa up", given, [*_names(Training), *own])
    return (
        OmfaSettings(**{name: value for name, value in given.items() if name in own}),
        Training(**{name: value for name, value in given.items() if name not in own}),
    )


def _names(kind: type[OmfaSettings] | type[Training]) -> list[str]:
    return [field.name for field in fields(kind)]


def _refuse_unknown(doing: str, given: Iterable[str], known: list[str]) -> None:
    if unknown := [f"{name!r}{nearest(name, known)}" for name in given if name not in known]:
        raise DataError(
            doing, f"there is no setting {', '.join(unknown)}", f"Use some of {', '.join(known)}"
        )
