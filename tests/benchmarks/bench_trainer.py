"""Which loop should fit the networks of stage 2: ours, Lightning's, Fabric's or skorch's?

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_trainer.py [--quick] [CASE ...]

Each library drives the same fit, made as cheap for it as it allows: the same batches, loss,
optimizer, schedule and choice of the epoch (``Fit``); no logger, no files. The tables give the CPU
time of a fold and its ratio to ours; whether weights, losses and predictions have the same bits;
what a fit and a step cost above ours; what Ctrl-C does; imports. The folds are those of one
simulated subject of DEAP at real length. What is compared runs turn by turn in one process.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import measuring
import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from omfa.pipeline import ingest, simulate
from omfa.zoo import Protocol, open_dataset
from omfa.zoo.checkpoints.folder import digest
from omfa.zoo.estimators.braindecode_networks import braindecode
from omfa.zoo.estimators.network import Network, class_weights
from omfa.zoo.estimators.omfa_networks import omfa
from omfa.zoo.protocols.protocol import Fold
from omfa.zoo.protocols.splits import split
from omfa.zoo.protocols.windows import Windows, feature_name

WINDOW = 4.0


class _Linear(nn.Module):
    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.final_layer = nn.Linear(n_inputs, n_outputs)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.final_layer(x.nan_to_num(0.0).mean(1))


FROZEN: dict[str, Any] = {"preset": "tiny", "freeze": "encoder"}

CHOSEN: dict[str, Any] = {"patience": 10, "refit": False}
"""The epoch is chosen on validation, so that the loops differ in all that a loop can do."""


def linear() -> Network:
    """Make the least network on embeddings: nearly all that a step takes is the loop's."""
    frozen = omfa(**FROZEN, head="mean", connectivity=False, **CHOSEN)

    def build(windows: Windows) -> nn.Module:
        n_inputs = windows.at(np.arange(1)).features(frozen.features).shape[-1]
        return _Linear(n_inputs, len(windows.classes))

    return Network("linear", build, frozen.training, seed=0, features=frozen.features)


CASES: dict[str, Callable[[], Network]] = {
    "frozen, linear": linear,
    "frozen, mean": lambda: omfa(**FROZEN, head="mean", connectivity=False, epochs=15, **CHOSEN),
    "frozen, GAT": lambda: omfa(**FROZEN, epochs=3, **CHOSEN),
    "encoder fitted": lambda: omfa(preset="tiny", epochs=1, **CHOSEN),
    "EEGNet": lambda: braindecode(model="EEGNet", epochs=1, **CHOSEN),
}
"""The first three are fitted on embeddings, computed once: their epochs are the shortest."""

IMPORTS = {
    "omfa.zoo.estimators.network": "pass",
    "lightning.pytorch above it": "import omfa.zoo.estimators.network",
    "skorch above it": "import omfa.zoo.estimators.network",
}


# ---- one fit, and the loops that drive it ---------------------------------------------------


class Fit:
    """All of a fit that is not the loop; the same lines as in ``Network._train``."""

    def __init__(self, by: Network, train: Windows, validation: Windows | None, stop: int | None):
        self.by, self.how = by, by.training
        by.network_ = by.build(train).to(by.device)
        self.y = torch.from_numpy(train.y).to(by.device)
        self.weight = class_weights(self.y, len(train.classes))
        self.inputs = by.inputs_of(train)
        self.validation = validation if validation is not None and len(validation) else None
        self.held_out = by.inputs_of(validation) if self.validation is not None else None
        self.n_steps = math.ceil(len(self.y) / self.how.batch_size)
        self.stop, self.epochs = stop, min(self.how.epochs, stop or self.how.epochs)
        self.optimizer, self.schedule = by.optimizer(self.how.epochs * self.n_steps)
        self.order = np.random.default_rng(by.seed)
        self.best, self.best_loss, self.state = 0, math.inf, None
        self.history: list[dict[str, float]] = []

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Give the batches of the next epoch.

        The order is drawn with the first batch: Lightning calls ``iter`` once more to see whether
        it may, and an order drawn for that would shift all that follow.
        """
        for rows in self.rows():
            yield self[rows]

    def __getitem__(self, rows: Any) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return self.inputs(rows), self.y[rows]

    def rows(self) -> list[Any]:
        """Draw the rows of the batches of the next epoch."""
        return np.array_split(self.order.permutation(len(self.y)), self.n_steps)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, y, self.weight, label_smoothing=self.how.label_smoothing)
        self.total += loss.detach()
        return loss

    def clip(self) -> None:
        nn.utils.clip_grad_norm_(self.by.network_.parameters(), self.how.clip)

    def begin(self) -> None:
        """Begin an epoch."""
        self.by.freeze(len(self.history) < self.by.frozen_epochs)
        self.total = torch.zeros((), device=self.by.device)

    def end(self) -> bool:
        """End an epoch; say whether it was the last."""
        epoch = len(self.history) + 1
        found: dict[str, float] = {"epoch": epoch, "loss": self.total.item() / self.n_steps}
        if self.held_out is not None and self.validation is not None:
            found |= self.by.judge(self.held_out, self.validation)
        if self.held_out is None or self.how.patience is None:
            self.best = epoch
        elif found["validation_loss"] < self.best_loss:
            self.best, self.best_loss = epoch, found["validation_loss"]
            self.state = copy.deepcopy(self.by.network_.state_dict())
        self.history.append(found)
        return self.how.patience is not None and epoch - self.best >= self.how.patience

    def keep(self) -> int:
        """Keep the best epoch's weights; return its number."""
        if self.state is not None:
            self.by.network_.load_state_dict(self.state)
        if self.stop is None:
            self.by.history_, self.by.best_ = self.history, self.history[self.best - 1]
        return self.best


class Driven(Network):
    """A ``Network`` whose loop is a library's."""

    def _train(self, train: Windows, validation: Windows | None, stop: int | None = None) -> int:
        fit = Fit(self, train, validation, stop)
        self.drive(fit)
        return fit.keep()

    def drive(self, fit: Fit) -> None:
        raise NotImplementedError


class _Module(L.LightningModule):
    def __init__(self, fit: Fit) -> None:
        super().__init__()
        self.run, self.network = fit, fit.by.network_

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, y = batch
        return self.run.loss(self.network(*inputs), y)

    def configure_optimizers(self) -> Any:
        schedule = {"scheduler": self.run.schedule, "interval": "step"}
        return {"optimizer": self.run.optimizer, "lr_scheduler": schedule}

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch  # it is there already

    def on_train_epoch_start(self) -> None:
        self.run.begin()

    def on_train_epoch_end(self) -> None:
        if self.run.end():
            self.trainer.should_stop = True


class _OurClipping(_Module):
    """Lightning's own takes the optimizer's groups in turn: another order of sums, other bits."""

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        self.run.clip()


class Lightning(Driven):
    """Driven by ``lightning.Trainer``."""

    module: type[_Module] = _OurClipping

    def drive(self, fit: Fit) -> None:
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=fit.epochs,
            gradient_clip_val=fit.how.clip if self.module is _Module else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(self.module(fit), train_dataloaders=fit)


class LightningClipping(Lightning):
    """As ``Lightning``, gradients clipped by it."""

    module = _Module


class Fabric(Driven):
    """A loop of our own, whose precision and devices are those of ``lightning.Fabric``."""

    def drive(self, fit: Fit) -> None:
        fabric = L.Fabric(accelerator="cpu", devices=1)
        network, optimizer = fabric.setup(self.network_, fit.optimizer)
        for _ in range(fit.epochs):
            fit.begin()
            for inputs, y in fit:
                loss = fit.loss(network(*inputs), y)
                optimizer.zero_grad()
                fabric.backward(loss)
                fit.clip()
                optimizer.step()
                fit.schedule.step()
            if fit.end():
                break


class _Net(NeuralNet):
    _default_callbacks: ClassVar[list[Any]] = []  # skorch's: timers, printed tables

    def initialize_optimizer(self, triggered_directly: Any = None) -> Any:
        self.optimizer_ = self.run.optimizer
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        return X, None

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return dataset

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        return self.module_(*x)

    def get_loss(self, y_pred: Tensor, y_true: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.run.loss(y_pred, y_true)

    def _set_training(self, training: bool = True) -> None:
        """Leave it to ``Fit.begin``: skorch would wake a frozen encoder's dropout at each step."""


class _Epochs(Callback):
    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        net.run.begin()

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        net.run.schedule.step()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if net.run.end():
            raise KeyboardInterrupt  # skorch's way to stop; its own callback does the same


class Skorch(Driven):
    """Driven by ``skorch.NeuralNet``."""

    net: type[_Net] = _Net

    def drive(self, fit: Fit) -> None:
        net = self.net(
            self.network_,
            criterion=nn.Identity,
            max_epochs=fit.epochs,
            callbacks=[_Epochs(), GradientNormClipping(fit.how.clip)],
            train_split=None,
            verbose=0,
        )
        net.run = fit
        net.fit(fit)


class _Order:
    def __init__(self, fit: Fit) -> None:
        self.run = fit

    def __len__(self) -> int:
        return self.run.n_steps

    def __iter__(self) -> Iterator[Any]:
        return iter(self.run.rows())


class _LoadingNet(_Net):
    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        # A generator of its own: else each epoch takes a number from the process's, and dropout
        # has other bits.
        return DataLoader(
            dataset, batch_size=None, sampler=_Order(dataset), generator=torch.Generator()
        )


class SkorchLoading(Skorch):
    """With a data loader of torch's, which skorch's mixed precision and devices need."""

    net = _LoadingNet


LOOPS: dict[str, type[Network]] = {
    "ours": Network,
    "Lightning": Lightning,
    "Lightning, its clipping": LightningClipping,
    "Fabric": Fabric,
    "skorch": Skorch,
    "skorch, data loader": SkorchLoading,
}


BITS_ALONE = ("Lightning, its clipping",)
"""Loops that are not timed."""


def driven(loop: type[Network], network: Network, **training: Any) -> Network:
    """Make the same network under another loop, perhaps with other settings."""
    return loop(
        network.name,
        network.build,
        replace(network.training, **training),
        seed=network.seed,
        features=network.features,
        frozen_epochs=network.frozen_epochs,
        encoder_lr_scale=network.encoder_lr_scale,
        layer_decay=network.layer_decay,
    )


# ---- what is measured -----------------------------------------------------------------------


def subject(scratch: Path) -> tuple[Any, list[Fold]]:
    """Simulate a subject of DEAP; return its dataset and folds of its trials."""
    simulate("deap", scratch / "raw", subjects=1, effect=2.0)
    ingest("deap", scratch / "raw", scratch / "deap.zarr", progress=False)
    data = open_dataset(scratch / "deap.zarr", WINDOW, target="valence>5", cache="memory")
    y = data.metadata["target"].to_numpy(np.int64)
    return data, list(split(data.metadata, y, Protocol("within-subject", n_folds=5)))


def sides(data: Any, fold: Fold, network: Network) -> list[Windows]:
    """Give the sides of a fold, the embeddings of a frozen encoder computed before."""
    y = data.metadata["target"].to_numpy(np.int64)
    known: dict[str, Any] = {}
    if network.features is not None:
        whole = Windows(data, np.arange(len(y)), classes=data.classes)
        known = {feature_name(network.features): whole.features(network.features)}
    return [
        Windows(data, rows, classes=data.classes, y=y[rows], features=known)
        for rows in (fold.train, fold.validation, fold.test)
    ]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds that work takes, and what it returns."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def turns(repeats: int, works: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Time several works in turn, each turn in another order; all have run before."""
    names, found = list(works), {name: [] for name in works}
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(timed(works[name])[0])
    return found


def folds(case: str, data: Any, some: list[Fold], repeats: int) -> list[list[Any]]:
    """Fit folds through each loop: seconds, ratios and bits."""
    network = CASES[case]()
    train, validation, test = sides(data, some[0], network)
    seen: dict[str, list[Any]] = {}
    for name, loop in LOOPS.items():
        one = driven(loop, network).fit(train, validation)
        seen[name] = [digest(one.network_), one.history_, one.predict(test).tolist()]
    works = {
        name: lambda loop=loop: driven(loop, network).fit(train, validation)
        for name, loop in LOOPS.items()
        if name not in BITS_ALONE
    }
    found = turns(repeats, works)
    steps = math.ceil(len(train) / network.training.batch_size) * len(seen["ours"][1])
    rows = []
    for name in LOOPS:
        same = [a == b for a, b in zip(seen[name], seen["ours"], strict=True)]
        bits = ["equal" if one else "differ" for one in same]
        time_and_ratio: list[Any] = ["", ""]
        if name in found:
            ratios = [a / b for a, b in zip(found[name], found["ours"], strict=True)]
            spread = f"{statistics.median(ratios):.3f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            time_and_ratio = [min(found[name]), spread]
        rows.append([f"{case}, {steps} steps", name, *time_and_ratio, *bits])
        print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def overheads(data: Any, some: list[Fold], repeats: int) -> list[list[Any]]:
    """What a fit and a step cost, from fits of few and of many epochs of the least network."""
    network = linear()
    train, validation, _ = sides(data, some[0], network)
    few, many = 1, 11
    works = {
        f"{name} {epochs}": lambda loop=loop, epochs=epochs: driven(
            loop, network, patience=None, epochs=epochs
        ).fit(train, validation)
        for name, loop in LOOPS.items()
        if name not in BITS_ALONE
        for epochs in (few, many)
    }
    found = turns(repeats, works)
    steps = math.ceil(len(train) / network.training.batch_size)
    rows = []
    for name in dict.fromkeys(name.rsplit(" ", 1)[0] for name in found):
        pairs = list(zip(found[f"{name} {few}"], found[f"{name} {many}"], strict=True))
        epoch = statistics.median((b - a) / (many - few) for a, b in pairs)
        fixed = statistics.median(a for a, _ in pairs) - few * epoch
        rows.append([name, 1e3 * fixed, 1e3 * epoch / steps])
    return [[*row, row[1] - rows[0][1], row[2] - rows[0][2]] for row in rows]


def interrupted(data: Any, some: list[Fold]) -> list[list[str]]:
    """Press Ctrl-C in the second epoch: what does ``fit`` do?"""
    rows = []
    for name, loop in LOOPS.items():
        network = driven(loop, linear())
        train, validation, _ = sides(data, some[0], network)
        network.build = _pressing(
            network.build, math.ceil(len(train) / network.training.batch_size)
        )
        handler = signal.getsignal(signal.SIGINT)
        try:
            network.fit(train, validation)
            rows.append([name, "returns, as if the fit were done"])
        except BaseException as error:  # SystemExit and KeyboardInterrupt are what is looked for
            rows.append([name, f"raises {type(error).__name__}"])
        finally:
            signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    return rows


def _pressing(build: Callable[[Windows], nn.Module], n_steps: int) -> Callable[..., nn.Module]:
    def pressing(windows: Windows) -> nn.Module:
        taken = 0

        def press(module: nn.Module, *args: Any) -> None:
            nonlocal taken
            taken += module.training
            if taken > n_steps + 1:
                raise KeyboardInterrupt

        network = build(windows)
        network.register_forward_hook(press)
        return network

    return pressing


def imports(repeats: int) -> list[list[Any]]:
    """CPU seconds of imports, each in a new process."""
    rows = []
    for name, before in IMPORTS.items():
        code = f"{before}; import time; t = time.process_time(); import {name.split()[0]}"
        code += "; print(time.process_time() - t)"
        runs = [
            float(subprocess.check_output([sys.executable, "-W", "ignore", "-c", code]))
            for _ in range(repeats)
        ]
        rows.append([name, min(runs)])
    return rows


def main() -> None:
    """Print the tables."""
    parser = measuring.parser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    args = parser.parse_args()
    chosen = args.cases or list(CASES)
    repeats = 1 if args.quick else args.repeats
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    measuring.heading(["torch", "lightning", "skorch", "numpy"])
    with measuring.scratch(args.scratch) as scratch:
        data, some = subject(scratch)
        rows = []
        for case in chosen:
            rows += folds(case, data, some, repeats * (3 if case.startswith("frozen") else 1))
        measuring.show(
            f"A fold of one subject of simulated DEAP, {len(data)} windows of {WINDOW:g} s, "
            f"{len(some[0].train)} to train on; one thread; CPU seconds, the least; ratio within "
            "a turn, median [least, greatest]",
            ["case", "loop", "s", "of ours", "weights", "losses", "predictions"],
            rows,
        )
        measuring.show(
            "A linear network: CPU milliseconds of a fit apart from its epochs, and of a step with "
            "its share of validation",
            ["loop", "a fit", "a step", "a fit, less ours", "a step, less ours"],
            overheads(data, some, 5 * repeats),
        )
        measuring.show("Ctrl-C in a fit", ["loop", "fit"], interrupted(data, some))
    measuring.show("Imports, CPU seconds", ["what", "s"], imports(min(3, repeats)))


if __name__ == "__main__":
    main()
