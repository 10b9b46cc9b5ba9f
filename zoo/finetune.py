"""Stage 2: networks fitted to labels, as estimators that ``evaluate`` runs.

One trainer fits any network of windows: AdamW with warm-up and a cosine, classes weighted to count
alike, label smoothing, clipped gradients. After each epoch the loss on the validation side is
taken; training stops when it has not fallen for some epochs, and the best epoch's weights are kept.
The test side is seen once, by ``predict``.

``omfa`` is the model of the paper, from a pre-trained encoder or from scratch; ``braindecode`` is
any of braindecode's classification models, under the same trainer.

What the paper leaves open and is our choice here: all settings of ``Training``, the ways to freeze,
and that an epoch is chosen by loss, since the accuracy of a few validation trials has few values.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from omfa.models.art import N_SIDE, recorded, resample, resampling_kernel
from omfa.models.connectivity import Connectivity
from omfa.models.encoders import make_encoder
from omfa.models.graph import electrode_positions
from omfa.models.heads import drop_channels
from omfa.models.omfa import OMFA
from omfa.pipeline.recording import DataError
from omfa.zoo.baselines import FeatureClassifier, filled_and_scaled, logistic
from omfa.zoo.metrics import confusion_matrix, scores
from omfa.zoo.protocols import SUBJECT, Protocol, hold_out
from omfa.zoo.windows import BATCH, Windows

if TYPE_CHECKING:
    from omfa.zoo.checkpoints import Card
    from omfa.zoo.datasets import StoreDataset

Freeze = Literal["encoder", "first-epoch", "none"]

PRESET = "small"
"""Of a model from scratch."""

STATISTICS_OF_AT_MOST = 4096
"""Training windows, evenly spread, that channels are standardised by."""


@dataclass(frozen=True)
class Training:
    """How a network is fitted.

    Parameters
    ----------
    epochs : int
        At most.
    lr : float
        Highest learning rate, reached after the warm-up; from there a cosine leads to 0.
    weight_decay : float
        Of matrices; biases and norms have none.
    label_smoothing : float
    batch_size : int
        Windows.
    patience : int or None
        Epochs without a lower validation loss after which training stops; the best epoch's weights
        are kept. None: all epochs are run, and the last one's weights are kept.
    warm_up : float
        Share of all steps.
    clip : float
        Highest norm of a gradient.
    refit : bool
        Fit again on training and validation together, for as many epochs as were best: with few
        subjects the validation side is a fifth of the data, and the baselines learn from it too.
    device : str
        ``"auto"`` is the first GPU where there is one.
    threads : int
        Of the CPU, in a fit. It decides the order of sums, and so the result; folds are what runs
        in parallel.
    """

    epochs: int = 40
    lr: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    batch_size: int = 32
    patience: int | None = 10
    warm_up: float = 0.1
    clip: float = 1.0
    refit: bool = False
    device: str = "auto"
    threads: int = 1

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


def _training(settings: Mapping[str, Any]) -> Training:
    known = [field.name for field in fields(Training)]
    if unknown := [name for name in settings if name not in known]:
        raise DataError(
            "Setting the training up",
            f"there is no setting {', '.join(map(repr, unknown))}",
            f"Use some of {', '.join(known)}",
        )
    return Training(**settings)


# ---- the trainer ----------------------------------------------------------------------------


Build = Callable[[Windows], nn.Module]
"""Makes an untrained network for the training side; ``network(inputs, present) -> logits``."""


class Network:
    """A network that is fitted to labelled windows; an ``Estimator``.

    Parameters
    ----------
    name : str
        For errors.
    build : callable
        Makes the network when the training side is known. The network is called with a batch of
        inputs and ``present (batch, n_chans)`` and gives logits. If it has an ``encoder``, that
        part is trained as the next arguments say.
    training : Training
    seed : int
        Of the first weights, the order of windows, dropout.
    features : callable, optional
        An extractor whose features are the inputs, in place of the windows.
    frozen_epochs : int
        Epochs during which the encoder is left as it is.
    encoder_lr_scale : float
        The encoder's learning rate as a share of ``lr``.
    layer_decay : float, optional
        The learning rate of each layer of the encoder as a share of that of the layer above it;
        then ``encoder_lr_scale`` has no part.

    Attributes
    ----------
    network_ : nn.Module
        Fitted.
    report : callable, optional
        Called with what ``history_`` tells of an epoch, after each.
    history_ : list of dict
        An epoch each: training and validation loss, balanced accuracy on validation.
    best_ : dict
        The epoch of it whose weights were kept, or whose number a refit took.
    """

    def __init__(
        self,
        name: str,
        build: Build,
        training: Training,
        *,
        seed: int,
        features: Embeddings | None = None,
        frozen_epochs: int = 0,
        encoder_lr_scale: float = 1.0,
        layer_decay: float | None = None,
    ) -> None:
        self.name, self.build, self.training, self.seed = name, build, training, seed
        self.features = features
        self.report: Callable[[dict[str, float]], None] | None = None
        self.frozen_epochs = frozen_epochs
        self.encoder_lr_scale, self.layer_decay = encoder_lr_scale, layer_decay

    def check(self, windows: Windows) -> None:
        """Try the network on two windows, before anything is trained.

        Raises
        ------
        DataError
            If it cannot be built for windows of this rate, length and montage, or cannot read them.
        """
        two = windows.at(np.arange(min(2, len(windows))))
        told = signal_arguments(two)
        try:
            with self._at_work(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what braindecode tells of its defaults
                self.network_ = self.build(two).to(self.device)
                shape = tuple(self._logits(self._inputs(two), len(two)).shape)
            if shape != (len(two), len(windows.classes)):
                raise ValueError(f"it gives {shape[1:]} numbers a window")
        except Exception as error:  # any network may fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"Trying {self.name} on windows of {len(windows.channels)} channels, "
                f"{told['n_times']} samples at {told['sfreq']:g} Hz and "
                f"{len(windows.classes)} classes",
                reason.rstrip("."),
                "Change its parameters, or the length, rate or channels of the windows",
            ) from error

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Fit on ``train``, for the number of epochs that is best on ``validation``.

        Raises
        ------
        DataError
            If its loss is no longer a number.
        """
        how = self.training
        with self._at_work():
            if how.refit and how.patience is None and len(validation):
                self._train(train.joined(validation), None)  # there is nothing to choose
                return self
            epochs = self._train(train, validation)
            if how.refit and len(validation):
                self._seed()
                self._train(train.joined(validation), None, epochs)
        return self

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return the class of each window."""
        with self._at_work():
            return self._logits(self._inputs(windows), len(windows)).argmax(1).numpy()

    def _train(self, train: Windows, validation: Windows | None, stop: int | None = None) -> int:
        """Run the epochs, at most ``stop`` of them; return the best one's number, from 1."""
        how = self.training
        self.network_ = self.build(train).to(self.device)
        y = torch.from_numpy(train.y).to(self.device)
        weight = _class_weights(y, len(train.classes))
        inputs = self._inputs(train)
        held_out = self._inputs(validation) if validation is not None and len(validation) else None
        n_steps = math.ceil(len(y) / how.batch_size)
        optimizer, schedule = self._optimizer(how.epochs * n_steps)
        order = np.random.default_rng(self.seed)
        best, best_loss, state = 0, math.inf, None
        history = []
        for epoch in range(1, min(how.epochs, stop or how.epochs) + 1):
            self._freeze(epoch <= self.frozen_epochs)
            total = torch.zeros((), device=self.device)
            for rows in np.array_split(order.permutation(len(y)), n_steps):
                total += self._step(inputs(rows), y[rows], weight, optimizer)
                schedule.step()
            told: dict[str, float] = {"epoch": epoch, "loss": total.item() / n_steps}
            if not math.isfinite(told["loss"]):
                raise DataError(
                    f"Fitting a network, epoch {epoch}",
                    f"the loss is {told['loss']}",
                    f"Lower lr ({how.lr:g}), or look for broken signals in the stores' report",
                )
            if held_out is not None and validation is not None:
                told |= self._judge(held_out, validation)
            if held_out is None or how.patience is None:
                best = epoch
            elif told["validation_loss"] < best_loss:
                best, best_loss = epoch, told["validation_loss"]
                state = copy.deepcopy(self.network_.state_dict())
            history.append(told)
            if self.report is not None:
                self.report(told)
            if how.patience is not None and epoch - best >= how.patience:
                break
        if state is not None:
            self.network_.load_state_dict(state)
        if stop is None:
            self.history_, self.best_ = history, history[best - 1]
        return best

    def _step(
        self,
        inputs: tuple[Tensor, Tensor],
        y: Tensor,
        weight: Tensor,
        optimizer: torch.optim.Optimizer,
    ) -> Tensor:
        """Take a step; return the loss."""
        smoothing = self.training.label_smoothing
        loss = F.cross_entropy(self.network_(*inputs), y, weight, label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network_.parameters(), self.training.clip)
        optimizer.step()
        return loss.detach()

    def expected_seconds(self, sample: Windows, sizes: Sequence[tuple[int, int, int]]) -> float:
        """Take a few steps and say how long fits would take, should none stop early.

        Parameters
        ----------
        sample : Windows
            Labelled windows to take them on.
        sizes : sequence of (int, int, int)
            Windows for training, validation and test of each fit.

        Returns
        -------
        float
        """
        how = self.training
        with self._at_work():
            self.network_ = self.build(sample).to(self.device)
            y = torch.from_numpy(sample.y).to(self.device)
            inputs, weight = self._inputs(sample), _class_weights(y, len(sample.classes))
            optimizer, _ = self._optimizer(1)
            rows = np.resize(np.arange(len(y)), how.batch_size)

            def step() -> None:
                self._step(inputs(rows), y[rows], weight, optimizer).item()

            self._freeze(False)
            a_step = _timed(step)
            a_window = _timed(lambda: self._logits(inputs, len(y))) / len(y)
        seconds = 0.0
        for train, validation, test in sizes:
            steps = math.ceil((train + validation * how.refit) / how.batch_size)
            if how.refit and how.patience is not None:
                steps += math.ceil(train / how.batch_size)
            seconds += how.epochs * (steps * a_step + validation * a_window) + test * a_window
        return seconds

    def _judge(self, inputs: Inputs, windows: Windows) -> dict[str, float]:
        logits, y = self._logits(inputs, len(windows)), torch.from_numpy(windows.y)
        n_outputs = len(windows.classes)
        loss = F.cross_entropy(logits, y, _class_weights(y, n_outputs))
        confusion = confusion_matrix(windows.y, logits.argmax(1).numpy(), n_outputs)
        return {
            "validation_loss": loss.item(),
            "validation_balanced_accuracy": scores(confusion)["balanced_accuracy"],
        }

    @torch.no_grad()
    def _logits(self, inputs: Inputs, n: int) -> Tensor:
        self.network_.eval()
        parts = [
            self.network_(*inputs(np.arange(start, min(start + BATCH, n)))).float().cpu()
            for start in range(0, n, BATCH)
        ]
        return torch.cat(parts)

    def _inputs(self, windows: Windows) -> Inputs:
        """Return what gives the network's arguments for some windows of a side."""
        known = None if self.features is None else windows.features(self.features)

        def inputs(rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            if known is None:
                x, present = windows.take(rows)
            else:
                x = known[rows].astype(np.float32)
                present = np.isfinite(x[..., 0])
            return torch.from_numpy(x).to(self.device), torch.from_numpy(present).to(self.device)

        return inputs

    def _freeze(self, frozen: bool) -> None:
        """Set the network to training, but for a frozen encoder."""
        self.network_.train()
        if (encoder := getattr(self.network_, "encoder", None)) is not None:
            encoder.requires_grad_(not frozen)
            encoder.train(not frozen)

    def _optimizer(self, n_steps: int) -> tuple[torch.optim.Optimizer, Any]:
        how = self.training
        groups = [
            {
                "params": [p for p in parameters if (p.ndim > 1) is matrices],
                "lr": how.lr * scale,
                "weight_decay": how.weight_decay if matrices else 0.0,
            }
            for parameters, scale in self._rates()
            for matrices in (True, False)
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
        rising = max(1, round(how.warm_up * n_steps))

        def rate(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            done = (step - rising) / max(1, n_steps - rising)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def _rates(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return parameters with their share of the learning rate."""
        encoder = getattr(self.network_, "encoder", None)
        if encoder is None:
            return [([p for p in self.network_.parameters() if p.requires_grad], 1.0)]
        inside = set(encoder.parameters())
        rates = [([p for p in self.network_.parameters() if p not in inside], 1.0)]
        if self.layer_decay is None:
            return [*rates, (list(encoder.parameters()), self.encoder_lr_scale)]
        blocks = list(getattr(encoder, "blocks", []))
        below_top = {
            p: len(blocks) - depth for depth, block in enumerate(blocks) for p in block.parameters()
        }
        for name in ("norm", "readout"):
            if (part := getattr(encoder, name, None)) is not None:
                below_top |= dict.fromkeys(part.parameters(), 0)
        for p in encoder.parameters():
            rates.append(([p], self.layer_decay ** below_top.get(p, len(blocks) + 1)))
        return rates

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return _device(self.training.device)

    def _seed(self) -> None:
        torch.manual_seed(self.seed)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Seed, and leave the process's own random state and threads as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with _ONE_AT_A_TIME, torch.random.fork_rng(devices), _threads(self.training.threads):
            self._seed()
            yield


def _timed(work: Callable[[], Any], times: int = 3) -> float:
    """Return the seconds that work takes, once it has been done before."""
    work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


# The random state and the number of threads are the process's, and a Dask worker may run folds in
# several threads of it.
_ONE_AT_A_TIME = threading.RLock()

Inputs = Callable[[npt.NDArray[np.int64]], tuple[Tensor, Tensor]]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _class_weights(y: Tensor, n_outputs: int) -> Tensor:
    """Make classes count alike; one that does not occur counts nothing."""
    counts = torch.bincount(y, minlength=n_outputs).float()
    return torch.where(counts > 0, len(y) / (n_outputs * counts.clamp(min=1)), 0.0)


# ---- OMFA -----------------------------------------------------------------------------------


class Embeddings:
    """Extractor of what a frozen encoder says of every channel, so that it is computed once.

    Parameters
    ----------
    encoder : nn.Module
    connectivity : bool
        Also measure the connectivity between the channels, whose places ``for_windows`` knows.
    device : str
    threads : int
        Of the CPU.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        connectivity: bool = False,
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        self.encoder, self.device, self.threads = encoder.eval(), device, threads
        self.connectivity = Connectivity() if connectivity else None
        self.positions: Tensor | None = None
        self.digest = digest(encoder)

    def __repr__(self) -> str:
        beside = " and connectivity" if self.connectivity is not None else ""
        return f"Embeddings({self.digest}{beside})"

    def __eq__(self, other: object) -> bool:
        """Tell whether another extractor gives the same, to the last bit."""
        return isinstance(other, Embeddings) and self._state == other._state

    def __hash__(self) -> int:
        return hash(self._state)

    @property
    def _state(self) -> tuple[Any, ...]:
        places = None if self.positions is None else self.positions.numpy().tobytes()
        return repr(self), places, self.device, self.threads

    def for_windows(self, windows: Windows) -> Embeddings:
        """Return the extractor of windows with the channels of these."""
        bound = copy.copy(self)
        places = electrode_positions(signal_arguments(windows)["chs_info"])
        bound.positions = torch.from_numpy(places).float()
        return bound

    def __call__(
        self, X: npt.NDArray[Any], present: npt.NDArray[np.bool_], sfreq: float
    ) -> npt.NDArray[np.float16]:
        """Encode windows.

        Parameters
        ----------
        X : ndarray of float, shape (batch, n_chans, n_times)
            Microvolts.
        present : ndarray of bool, shape (batch, n_chans)
        sfreq : float
            Hz.

        Returns
        -------
        ndarray of float16, shape (batch, n_chans, dim + 7) or (..., dim + 7 + n_chans * 10)
            Embedding, side input and connectivity with all others of each channel; NaN where it is
            absent.
        """
        device = _device(self.device)
        encoder = self.encoder.to(device)
        x = torch.from_numpy(np.ascontiguousarray(X)).to(device)
        there = recorded(x) & torch.from_numpy(present).to(device)
        with _ONE_AT_A_TIME, torch.inference_mode(), _threads(self.threads):
            encoded = encoder(x[there], sfreq)
            parts = [encoded.h, encoded.side]
            if self.connectivity is not None and self.positions is not None:
                measure = self.connectivity.to(device)
                pairs = measure(x, there, self.positions.to(device), sfreq)
                parts.append(pairs.flatten(2)[there])
            known = torch.cat(parts, -1)
        out = known.new_full((*there.shape, known.shape[-1]), math.nan)
        out[there] = known
        return out.half().cpu().numpy()


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
    how = _training(training)
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
    from omfa.zoo.checkpoints import load

    model = load(checkpoint)
    own = _architecture_of(model)
    for name, value in asked.items():
        if value is not None and value != own[name]:
            raise DataError(
                f"Starting omfa from the checkpoint {checkpoint}",
                f"its {name} is {own[name]!r}, and {value!r} is asked for",
                f"Leave {name} out, or use another checkpoint",
            )
    return own, model.encoder


def _architecture_of(model: OMFA) -> dict[str, Any]:
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


def digest(module: nn.Module) -> str:
    """Digest the weights of a module, 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        found.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()[:16]


def signal_arguments(windows: Windows) -> dict[str, Any]:
    """Return what braindecode's models are told of signals: n_outputs, chs_info, n_times, sfreq."""
    X, _ = windows.take(np.zeros(1, np.int64))
    places = np.zeros((len(windows.channels), 12))
    places[:, :3] = np.nan_to_num(
        electrode_positions([{"ch_name": name} for name in windows.channels])
    )
    known = getattr(windows.dataset, "chs_info", None)
    return {
        "n_outputs": len(windows.classes),
        "n_times": int(X.shape[-1]),
        "sfreq": float(windows.sfreq),
        "chs_info": known
        or [
            {"ch_name": name, "kind": "eeg", "loc": loc}
            for name, loc in zip(windows.channels, places, strict=True)
        ],
    }


# ---- braindecode ----------------------------------------------------------------------------


class _Standardised(nn.Module):
    """A network of windows in which each channel has mean 0 and variance 1 over the training side.

    Not over the window, which would take away the differences in power that emotions are decoded
    from. Absent channels are 0. Values are held within 20 standard deviations, as in ART. If the
    network reads another rate, ``up`` samples are made of ``down`` of them; if it asks for the
    names of channels with each batch (Labram), it is given them.
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        sd: Tensor,
        *,
        channels: Sequence[str],
        up: int = 1,
        down: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.up, self.down = network, up, down
        named = "ch_names" in inspect.signature(network.forward).parameters
        self.arguments = {"ch_names": list(channels)} if named else {}
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        z = ((x - self.mean[:, None]) / self.sd[:, None]).clamp(-20, 20)
        z = torch.where(present[..., None], z, 0.0)
        if self.up != self.down:
            kernel, reach = resampling_kernel(self.up, self.down)
            rows = resample(z.flatten(0, 1), kernel.to(z), reach, self.up, self.down)
            z = rows.unflatten(0, z.shape[:2])
        return self.network(z, **self.arguments)


def _moments(windows: Windows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel where it is present; 0 and 1 if nowhere."""
    step = max(1, len(windows) // STATISTICS_OF_AT_MOST)
    some = np.arange(0, len(windows), step)
    count = total = squares = np.zeros(len(windows.channels))
    for rows in np.array_split(some, math.ceil(len(some) / BATCH)):
        X, present = windows.take(rows)
        X = np.where(present[..., None], X, 0).astype(np.float64)
        count = count + present.sum(0) * X.shape[-1]
        total, squares = total + X.sum((0, 2)), squares + (X**2).sum((0, 2))
    count = np.maximum(count, 1)
    mean = total / count
    sd = np.sqrt(np.maximum(squares / count - mean**2, 0))
    sd[sd < 1e-3] = 1.0  # uV: a channel without signal
    return torch.from_numpy(mean).float(), torch.from_numpy(sd).float()


def braindecode(
    *,
    seed: int = 0,
    model: str,
    options: Mapping[str, Any] | None = None,
    sfreq: float | None = None,
    **training: Any,
) -> Network:
    """Make one of braindecode's classification models, to be trained from scratch.

    It is told what its signature asks for of ``n_outputs, n_chans, n_times, sfreq, chs_info``.
    Its input is in standard deviations of each channel over the training side.

    Parameters
    ----------
    seed : int
    model : str
        Name in braindecode: ``"EEGNet"``.
    options : mapping, optional
        Further arguments of the model.
    sfreq : float, optional
        Hz to resample windows to, for models that are made for one rate: 200 for CBraMod.
    **training
        Fields of ``Training``.

    Returns
    -------
    Network

    Raises
    ------
    DataError
        If there is no such model or setting; from ``check``, if it cannot be built for the rate,
        length or channels of the windows.
    """
    kind, how = _braindecode_model(model), _training(training)

    def build(windows: Windows) -> nn.Module:
        signal = signal_arguments(windows)
        signal["n_chans"] = len(signal["chs_info"])
        ratio = Fraction((sfreq or windows.sfreq) / windows.sfreq).limit_denominator(1000)
        up, down = ratio.numerator, ratio.denominator
        # As many samples as resample() makes.
        signal["n_times"] = (2 * signal["n_times"] * up + down) // (2 * down)
        signal["sfreq"] *= up / down
        taken = inspect.signature(kind).parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what braindecode tells of its defaults
            network = kind(
                **{name: value for name, value in signal.items() if name in taken},
                **(options or {}),
            )
        return _Standardised(
            network, *_moments(windows), channels=windows.channels, up=up, down=down
        )

    return Network(f"braindecode's {model}", build, how, seed=seed)


def _braindecode_model(name: str) -> Callable[..., nn.Module]:
    from braindecode.models import util  # importable since omfa.models is

    if not util.models_dict:
        util._init_models_dict()
    if name not in util.models_dict:
        raise DataError(
            f"Looking for braindecode's model {name!r}",
            "there is none of that name",
            f"Use one of {', '.join(sorted(util.models_dict))}",
        )
    found: Callable[..., nn.Module] = util.models_dict[name]
    return found


# ---- a model to keep ------------------------------------------------------------------------


def fine_tune(
    dataset: StoreDataset,
    out: str | Path,
    *,
    checkpoint: str | None = None,
    protocol: str | Protocol | None = None,
    name: str | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    command: str = "",
    report: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Train one OMFA on all of a dataset and keep it as a checkpoint.

    Nothing is tested: how well such a model does is what ``evaluate`` says.

    Parameters
    ----------
    dataset : StoreDataset
        With classes for a target.
    out : path
        Folder of the checkpoint.
    checkpoint : str, optional
        Name or folder of the one to start from.
    protocol : str or Protocol, optional
        How validation, on which the epoch is chosen, is set apart: ``"within-subject"`` (trials)
        or ``"cross-subject"`` (subjects). By default subjects where there are three or more.
    name : str, optional
        Of the checkpoint; by default the folder's.
    seed : int
    parameters : mapping, optional
        Further arguments of ``omfa``.
    command : str
        With which this was started, for the card.
    report : callable, optional
        Called after each epoch with its losses.

    Returns
    -------
    Path
        The checkpoint's folder; ``OMFA.from_pretrained`` and ``omfa.zoo.load`` read it.

    Raises
    ------
    DataError
        If the dataset has no classes, validation cannot be set apart, the parameters do not fit,
        or the folder is taken.
    """
    from omfa.zoo.cards import source_commit
    from omfa.zoo.checkpoints import save_checkpoint

    out = Path(out)
    network, train, validation = _to_fine_tune(dataset, checkpoint, protocol, seed, parameters)
    if out.exists() and any(out.iterdir()):
        raise DataError(f"Fine-tuning into {out}", "the folder is not empty", "Name another --out")
    network.check(train)
    network.report = report
    network.fit(train, validation)
    model: OMFA = network.network_.model.cpu().eval()  # type: ignore[assignment, union-attr]
    card = _card(
        name or out.name,
        dataset,
        model,
        checkpoint,
        {
            "command": command,
            "settings": {**(parameters or {}), "checkpoint": checkpoint},
            "seed": seed,
            "target": dataset.target.rule,
            "classes": list(dataset.classes),
            "validation": {
                "subjects": sorted(validation.metadata["subject"].astype(str).unique()),
                "windows": len(validation),
                **network.best_,
            },
            "versions": {"omfa": version("omfa"), "torch": torch.__version__},
            "commit": source_commit(),
        },
    )
    return save_checkpoint(out, model, card)


def plan_fine_tuning(
    dataset: StoreDataset,
    *,
    checkpoint: str | None = None,
    protocol: str | Protocol | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> str:
    """Tell what ``fine_tune`` would do with these arguments, and the time it would take.

    Raises
    ------
    DataError
        All that ``fine_tune`` raises before it trains.
    """
    network, train, validation = _to_fine_tune(dataset, checkpoint, protocol, seed, parameters)
    network.check(train)
    from omfa.zoo.evaluation import duration

    sample = train.at(np.linspace(0, len(train) - 1, min(len(train), BATCH)).astype(np.int64))
    seconds = network.expected_seconds(sample, [(len(train), len(validation), 0)])
    return (
        f"{len(train)} windows of {train.metadata['subject'].nunique()} subjects to train on, "
        f"{len(validation)} of {validation.metadata['subject'].nunique()} to choose the epoch on; "
        f"classes {', '.join(train.classes)}; at most {network.training.epochs} epochs, about "
        f"{duration(seconds)}"
    )


def _to_fine_tune(
    dataset: StoreDataset,
    checkpoint: str | None,
    protocol: str | Protocol | None,
    seed: int,
    parameters: Mapping[str, Any] | None,
) -> tuple[Network, Windows, Windows]:
    from omfa.zoo.checkpoints import load_card
    from omfa.zoo.contract import check_input

    if not dataset.classes:
        raise DataError(
            f"Fine-tuning on {dataset!r}",
            "it was opened without a target, or with numbers for one",
            "Name a target: 'emotion', 'valence>5'",
        )
    if checkpoint is not None:
        check_input(load_card(checkpoint), dataset)
    y = dataset.metadata["target"].to_numpy(np.int64)
    subjects = dataset.metadata[list(SUBJECT)].drop_duplicates()
    usual = "cross-subject" if len(subjects) >= 3 else "within-subject"
    fold = hold_out(dataset.metadata, y, protocol or usual)
    train, validation = (
        Windows(dataset, rows, classes=dataset.classes, y=y[rows])
        for rows in (fold.train, fold.validation)
    )
    network = omfa(seed=seed, checkpoint=checkpoint, **(parameters or {}))
    if not isinstance(network, Network):
        raise DataError(
            f"Fine-tuning on {dataset!r}",
            f"head={LOGISTIC} is a probe of an encoder, not a model to keep",
            "Use it with evaluate, or choose a head that is a network",
        )
    return network, train, validation


def _card(
    name: str,
    dataset: StoreDataset,
    model: OMFA,
    checkpoint: str | None,
    recipe: dict[str, Any],
) -> Card:
    """Describe a fine-tuned model; what it saw includes what its checkpoint saw."""
    from omfa.pipeline.store import open_store
    from omfa.zoo.checkpoints import Card, load_card
    from omfa.zoo.pretrain import seen

    before = load_card(checkpoint) if checkpoint is not None else None
    saw: dict[str, dict[str, Any]] = {}
    for part in [*(before.saw if before else ()), *seen(dataset)]:
        known = saw.setdefault(part["dataset"], {**part, "subjects": [], "hours": 0.0})
        if set(part["subjects"]) - set(known["subjects"]):  # else the same hours again
            known["hours"] = round(known["hours"] + part["hours"], 3)
        known["subjects"] = sorted({*known["subjects"], *part["subjects"]})
    settings = open_store(dataset.recipe["stores"][0]).settings
    made = settings.get("preprocessing", {})
    return Card(
        name=name,
        preset=_architecture_of(model)["preset"],
        stage="finetuned",
        simulated=dataset.simulated or bool(before and before.simulated),
        ucs_version=int(settings["ucs_version"]),
        input={
            "unit": "uV",
            "scale": 1.0,
            "sfreq": dataset.sfreq,
            "band": made.get("band"),
            "reference": made.get("reference"),
            "channels": dataset.channels,
            "window_seconds": dataset.recipe["window_seconds"],
        },
        saw=list(saw.values()),
        recipe=recipe,
    )
