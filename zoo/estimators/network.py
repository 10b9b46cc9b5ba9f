"""The trainer of any torch network: one fold of stage 2.

The loop is our own, after Lightning and skorch were tried in its place
(``tests/benchmarks/bench_trainer.py``, ``docs/performance.md``). Lightning gives the same bits only
with our line for clipping, since its own sums the norm in another order; it adds 8 ms to a fit and
0.35 ms to a step, and so takes 1.23 to 1.5 times as long for a small head on embeddings, where
folds are many. skorch gives the same bits at 0.99 to 1.07 of the time, but it takes Ctrl-C for the
end of training, so that a half-fitted fold would be kept as finished, and it replaces the two
nested loops alone: batches, class weights, freezing, schedule and the choice of the epoch must be
handed to it, by an adapter about as long as the code that it would replace. Mixed precision and
several GPUs come with neither as it stands, because judging an epoch and predicting lie outside the
loop; what runs in parallel here are folds.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omfa.pipeline.errors import DataError
from omfa.zoo.data.tiers import fits, onto
from omfa.zoo.estimators.device import ONE_AT_A_TIME, choose_device, threads
from omfa.zoo.estimators.embeddings import Embeddings, signal_arguments
from omfa.zoo.estimators.schedule import adamw_and_schedule
from omfa.zoo.estimators.settings import Training
from omfa.zoo.estimators.stacked import Stack, cross_entropies
from omfa.zoo.protocols.metrics import confusion_matrix, fit_temperature, scores, softmax
from omfa.zoo.protocols.windows import BATCH, Estimator, Windows

Build = Callable[[Windows], nn.Module]
"""Makes an untrained network for the training side; ``network(inputs, present) -> logits``."""


class Network(Estimator):
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
    at_once : int
        How many folds may be fitted as one network. Above 1 only if the network reads features, all
        of it learns at one rate, and sides of as many windows make networks that are alike but for
        the weights that learn.
    compiled : bool
        Whether the steps of a fit are compiled.

    Attributes
    ----------
    network_ : nn.Module
        Fitted.
    report : callable, optional
        Called after each epoch with its entry of ``history_``.
    history_ : list of dict
        Each epoch's number and training loss; validation's loss and balanced accuracy, where that
        side is kept out of training.
    calibrates : bool
        Whether ``fit`` also fits a temperature, on the validation side.
    temperature_ : float
        By which logits are divided before the softmax; 1 where none is fitted.
    best_ : dict
        The entry of the epoch whose weights were kept, or whose number a refit took.

    Examples
    --------
    >>> from omfa.zoo import Network
    >>> from omfa.zoo.estimators.omfa_networks import omfa
    >>> isinstance(omfa(seed=0, preset="tiny"), Network)
    True
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
        at_once: int = 1,
        compiled: bool = False,
    ) -> None:
        self.name, self.build, self.training, self.seed = name, build, training, seed
        self.features, self.reads_signals = features, features is None
        self.report: Callable[[dict[str, float]], None] | None = None
        self.calibrates, self.temperature_ = False, 1.0
        self.frozen_epochs = frozen_epochs
        self.encoder_lr_scale, self.layer_decay = encoder_lr_scale, layer_decay
        self._at_once, self.compiled = at_once, compiled

    def check(self, windows: Windows) -> None:
        """Try the network on two windows, before anything is trained.

        Raises
        ------
        DataError
            If it cannot be built for windows of this rate, length and montage, or cannot read them.
        """
        two = windows.at(np.arange(min(2, len(windows))))
        signal = signal_arguments(two)
        try:
            with self._at_work(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # braindecode warns of its own defaults
                self.network_ = self.build(two).to(self.device)
                shape = tuple(self.logits(self.inputs_of(two), len(two)).shape)
            if shape != (len(two), len(windows.classes)):
                raise ValueError(f"it gives {shape[1:]} numbers a window")
        except DataError:
            raise
        except Exception as error:  # any network may fail in any way
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"Trying {self.name} on windows of {len(windows.channels)} channels, "
                f"{signal['n_times']} samples at {signal['sfreq']:g} Hz and "
                f"{len(windows.classes)} classes",
                reason.rstrip("."),
                "Change its parameters, or the length, rate or channels of the windows",
            ) from error

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Fit on both sides, or on ``train`` for the number of epochs that is best on the other.

        ``training`` decides which: see ``Training``. With ``calibrates`` the temperature is that of
        a network that learned from ``train`` alone, since those of windows that were learned from
        would be too low; a fit on both follows where ``training`` asks for one.

        Raises
        ------
        DataError
            If its loss is no longer a number.
        """
        how = self.training
        with self._at_work():
            if not how.chooses and not self.calibrates and len(validation):
                self._train(train.joined(validation), None)
                return self
            epochs = self._train(train, validation)
            if self.calibrates and len(validation):
                logits = self.logits(self.inputs_of(validation), len(validation)).numpy()
                self.temperature_ = fit_temperature(logits, validation.y)
            if how.refit and len(validation):
                # The number of epochs was found from these first weights and in this order.
                self._seed()
                self._train(train.joined(validation), None, epochs)
        return self

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """How many folds are fitted as one network: one where an epoch is chosen."""
        return 1 if self.training.chooses or self.calibrates else self._at_once

    def fit_at_once(
        self, models: Sequence[Network], sides: Sequence[tuple[Windows, Windows]]
    ) -> list[Exception | None]:
        """Fit the heads of several folds as one network; return what failed of each.

        First weights, order of windows and clipping are each fold's own, as in ``fit``. What
        dropout draws is not: it is drawn for all, from the first one's seed.

        Raises
        ------
        DataError
            If the device has no room for so many.
        """
        joined = [train.joined(validation) for train, validation in sides]
        with self._at_work(), _room_for(len(models), self.device):
            return self._train_at_once(models, joined)

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return the class of each window."""
        with self._at_work():
            return self.logits(self.inputs_of(windows), len(windows)).argmax(1).numpy()

    def predict_proba(self, windows: Windows) -> npt.NDArray[np.float64]:
        """Return the softmax of the logits, at the fitted temperature where there is one."""
        with self._at_work():
            logits = self.logits(self.inputs_of(windows), len(windows)).numpy()
        return softmax(logits / self.temperature_)

    def _train(self, train: Windows, validation: Windows | None, stop: int | None = None) -> int:
        """Run the epochs, at most ``stop`` of them; return the best one's number, from 1."""
        how = self.training
        self.network_ = self.build(train).to(self.device)
        y = torch.from_numpy(train.y).to(self.device)
        weight = class_weights(y, len(train.classes))
        inputs = self.inputs_of(train)
        held_out = (
            self.inputs_of(validation) if validation is not None and len(validation) else None
        )
        # The epoch is dealt out evenly over these: a last batch of one window would be all noise,
        # and batch norm cannot take one.
        n_steps = math.ceil(len(y) / how.batch_size)
        # Of all epochs, even where `stop` ends a refit early: its rates are those of the first fit.
        optimizer, schedule = self.optimizer(how.epochs * n_steps)
        network = self._called
        order = np.random.default_rng(self.seed)
        best, best_loss, state = 0, math.inf, None
        history = []
        for epoch in range(1, min(how.epochs, stop or how.epochs) + 1):
            self.freeze(epoch <= self.frozen_epochs)
            # Summed on the device: reading each step's loss would make the CPU wait for a GPU.
            total = torch.zeros((), device=self.device)
            for rows in np.array_split(order.permutation(len(y)), n_steps):
                at = onto(rows, self.device)
                total += self._step(network, inputs(rows), y[at], weight, optimizer)
                schedule.step()
            row: dict[str, float] = {"epoch": epoch, "loss": total.item() / n_steps}
            if not math.isfinite(row["loss"]):
                raise _no_number(epoch, row["loss"], how.lr)
            if held_out is not None and validation is not None:
                row |= self.judge(held_out, validation)
            if held_out is None or how.patience is None:
                best = epoch
            elif row["validation_loss"] < best_loss:
                best, best_loss = epoch, row["validation_loss"]
                state = copy.deepcopy(self.network_.state_dict())
            history.append(row)
            if self.report is not None:
                self.report(row)
            if how.patience is not None and epoch - best >= how.patience:
                break
        if state is not None:
            self.network_.load_state_dict(state)
        if stop is None:
            self.history_, self.best_ = history, history[best - 1]
        return best

    def _train_at_once(
        self, models: Sequence[Network], sides: Sequence[Windows]
    ) -> list[Exception | None]:
        """Run the epochs of several folds, each of whose sides has as many windows."""
        how, n_windows = self.training, len(sides[0])
        n_steps = math.ceil(n_windows / how.batch_size)
        stack, step = self._stacked(models, sides, how.epochs * n_steps)
        orders = [np.random.default_rng(model.seed) for model in models]
        failed: list[Exception | None] = [None] * len(models)
        for model in models:
            model.history_ = []
        for epoch in range(1, how.epochs + 1):
            total = torch.zeros(len(models), device=self.device)
            dealt = [np.array_split(order.permutation(n_windows), n_steps) for order in orders]
            for rows in zip(*dealt, strict=True):
                total += step(np.stack(rows))
            for i, loss in enumerate((total / n_steps).tolist()):
                models[i].history_.append({"epoch": epoch, "loss": loss})
                models[i].best_ = models[i].history_[-1]
                if failed[i] is None and not math.isfinite(loss):
                    failed[i] = _no_number(epoch, loss, how.lr)
        stack.hand_back()
        return failed

    def _stacked(
        self, models: Sequence[Network], sides: Sequence[Windows], n_steps: int
    ) -> tuple[Stack, Callable[[npt.NDArray[np.int64]], Tensor]]:
        """Build the networks of folds, and what takes one of their ``n_steps`` steps.

        Returns
        -------
        Stack
        callable
            Takes the positions of windows on each side, shape (n_models, batch), and returns the
            losses, shape (n_models,).
        """
        how = self.training
        for model, side in zip(models, sides, strict=True):
            torch.manual_seed(model.seed)  # the first weights of a fit of its own
            model.network_ = model.build(side).to(self.device)
        self._seed()
        stack = Stack([model.network_ for model in models], compiled=self.compiled)
        assert self.features is not None
        features, places = sides[0].features_of_all(sides, self.features)
        inputs, place = FeatureBatches(features, self.device), np.stack(places)
        y = torch.stack([onto(side.y, self.device) for side in sides])
        weight = torch.stack([class_weights(each, len(sides[0].classes)) for each in y])
        optimizer, schedule = self.optimizer(n_steps, stack)

        def step(rows: npt.NDArray[np.int64]) -> Tensor:
            logits = stack(*inputs(np.take_along_axis(place, rows, axis=1)))
            target = y.gather(1, onto(rows, self.device))
            loss = cross_entropies(logits, target, weight, how.label_smoothing)
            optimizer.zero_grad()
            # Of the sum: a weight of one network has no part in the loss of another.
            loss.sum().backward()
            stack.clip(how.clip)
            optimizer.step()
            schedule.step()
            return loss.detach()

        return stack, step

    def _step(
        self,
        network: Callable[..., Tensor],
        inputs: tuple[Tensor, Tensor],
        y: Tensor,
        weight: Tensor,
        optimizer: torch.optim.Optimizer,
    ) -> Tensor:
        """Take a step; return the loss."""
        smoothing = self.training.label_smoothing
        loss = F.cross_entropy(network(*inputs), y, weight, label_smoothing=smoothing)
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
            inputs, weight = self.inputs_of(sample), class_weights(y, len(sample.classes))
            optimizer, _ = self.optimizer(1)
            network = self._called
            # Repeated to a full batch where the sample is smaller: a step's time follows its size.
            rows = np.resize(np.arange(len(y)), how.batch_size)

            def step() -> None:
                # .item() waits for a GPU; without it the time would be that of queueing the work.
                self._step(network, inputs(rows), y[rows], weight, optimizer).item()

            self.freeze(False)
            seconds = 0.0
            if self.compiled:
                began = time.perf_counter()
                step()
                seconds += time.perf_counter() - began
            a_step = _timed(step)
            a_window = _timed(lambda: self.logits(inputs, len(y))) / len(y)
            alike = Counter(train + validation for train, validation, _ in sizes)
            all_step, n = a_step, min(self.at_once, max(alike.values()))
            if n > 1:
                with _room_for(n, self.device):
                    _, together = self._stacked(
                        [copy.copy(self) for _ in range(n)], [sample] * n, 1
                    )
                    all_step = _timed(lambda: together(np.stack([rows] * n)).sum().item())
        for train, validation, test in sizes:
            # A refit learns from both sides, and comes after a fit on one where an epoch is chosen.
            steps = math.ceil((train + validation * how.refit) / how.batch_size)
            if how.refit and (how.chooses or self.calibrates):
                steps += math.ceil(train / how.batch_size)
            judged = validation * (how.chooses or self.calibrates)
            # Its share of a group's: one that is not full takes about as long as one that is.
            folds = alike[train + validation]
            a_fold = a_step if folds == 1 else all_step * math.ceil(folds / n) / folds
            seconds += how.epochs * (steps * a_fold + judged * a_window) + test * a_window
        return seconds

    def judge(self, inputs: Inputs, windows: Windows) -> dict[str, float]:
        """Return the loss and the balanced accuracy on a validation side."""
        logits, y = self.logits(inputs, len(windows)), torch.from_numpy(windows.y)
        n_outputs = len(windows.classes)
        # Classes count alike, as in the balanced accuracy beside it.
        loss = F.cross_entropy(logits, y, class_weights(y, n_outputs))
        confusion = confusion_matrix(windows.y, logits.argmax(1).numpy(), n_outputs)
        return {
            "validation_loss": loss.item(),
            "validation_balanced_accuracy": scores(confusion)["balanced_accuracy"],
        }

    @torch.no_grad()
    def logits(self, inputs: Inputs, n: int) -> Tensor:
        """Return the fitted network's logits of ``n`` windows, shape (n, n_outputs), on the CPU."""
        self.network_.eval()
        parts = [
            self.network_(*inputs(np.arange(start, min(start + BATCH, n)))).float().cpu()
            for start in range(0, n, BATCH)
        ]
        return torch.cat(parts)

    def inputs_of(self, windows: Windows) -> Inputs:
        """Return a function that gives the network's arguments for some windows of a side."""
        if self.features is not None:
            return FeatureBatches(windows.features(self.features), self.device)

        def inputs(rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            x, present = windows.take(rows)
            return onto(x, self.device), onto(present, self.device)

        return inputs

    def freeze(self, frozen: bool) -> None:
        """Set the network to training, but for a frozen encoder."""
        self.network_.train()
        if (encoder := getattr(self.network_, "encoder", None)) is not None:
            encoder.requires_grad_(not frozen)
            # A frozen one is in evaluation mode as well: drop-path would change what it gives.
            encoder.train(not frozen)

    def optimizer(
        self, n_steps: int, stack: Stack | None = None
    ) -> tuple[torch.optim.Optimizer, Any]:
        """Make the optimizer and the schedule of a fit, or of those of a stack."""
        how = self.training
        return adamw_and_schedule(
            self.rates() if stack is None else [(stack.weights.values(), 1.0)],
            lr=how.lr,
            weight_decay=how.weight_decay,
            n_steps=n_steps,
            warm_up=how.warm_up,
            stacked=stack is not None,
        )

    def rates(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return parameters with their share of the learning rate, the encoder's apart."""
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
            # What is below all blocks (the stem) counts as one layer more.
            rates.append(([p], self.layer_decay ** below_top.get(p, len(blocks) + 1)))
        return rates

    @property
    def _called(self) -> Callable[..., Tensor]:
        """What a step calls: the network, compiled where that is asked for."""
        return torch.compile(self.network_) if self.compiled else self.network_

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return choose_device(self.training.device)

    def _seed(self) -> None:
        torch.manual_seed(self.seed)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Seed, and leave the process's own random state and threads as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with ONE_AT_A_TIME, torch.random.fork_rng(devices), threads(self.training.threads):
            self._seed()
            yield


@contextmanager
def _room_for(n: int, device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DataError(
            f"Fitting {n} folds at once",
            f"{device} has no room for them",
            f"Set folds_at_once to {n // 2}, and lower where that is too many",
        ) from error


def _no_number(epoch: int, loss: float, lr: float) -> DataError:
    return DataError(
        f"Fitting a network, epoch {epoch}",
        f"the loss is {loss}",
        f"Lower lr ({lr:g}), or look for broken signals in the stores' report",
    )


class FeatureBatches:
    """Takes batches out of known features, which lie on the device where it has room for them.

    Parameters
    ----------
    features : ndarray of float, shape (n_windows, n_chans, ...)
        NaN throughout for an absent channel.
    device : torch.device
    """

    def __init__(self, features: npt.NDArray[Any], device: torch.device) -> None:
        self.features, self.device = torch.from_numpy(features), device
        if device.type == "cuda" and fits(features.nbytes, device):
            self.features = self.features.to(device)

    def __call__(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the features of ``rows``, of any shape, and which channels they have."""
        # To float32 where they are used: stored ones are half as large on their way there.
        x = onto(self.features[onto(rows, self.features.device)], self.device).float()
        # Of an absent channel all are NaN; the first one tells.
        return x, torch.isfinite(x[..., 0])


def _timed(work: Callable[[], Any], times: int = 3) -> float:
    """Return the seconds that work takes, once it has been done before."""
    work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


Inputs = Callable[[npt.NDArray[np.int64]], tuple[Tensor, Tensor]]
"""Gives a batch by its positions: windows (batch, n_chans, ...) and which channels exist."""


def class_weights(y: Tensor, n_outputs: int) -> Tensor:
    """Make classes count alike; one that does not occur counts nothing."""
    counts = torch.bincount(y, minlength=n_outputs).float()
    return torch.where(counts > 0, len(y) / (n_outputs * counts.clamp(min=1)), 0.0)
