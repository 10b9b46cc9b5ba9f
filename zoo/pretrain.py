"""Stage 1: contrastive pre-training of one encoder on the single channels of many stores.

A step reads windows long enough for both views of a pair, chooses channels of each, cuts an anchor
and, some seconds later in the same channel, its positive, changes both (``augmentations``), and
pulls them together (``contrastive``). A positive that overlaps its anchor would teach the waveform;
a neighbour teaches what stays for seconds, such as the state that is to be decoded.

Everything that is random in a step comes from the seed, the step's number and the process's rank,
so that a run that was killed goes on with the same loss curve. Lightning runs the loop.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from omfa.models import OMFA
from omfa.models.encoders import PRESETS, make_encoder
from omfa.pipeline.recording import DataError
from omfa.zoo.augmentations import Augmentations, augment
from omfa.zoo.contrastive import alignment, effective_rank, nt_xent, uniformity
from omfa.zoo.datasets import Batch, Loader, StoreDataset, open_dataset
from omfa.zoo.probes import Probes
from omfa.zoo.protocols import RECORDING, SUBJECT, codes
from omfa.zoo.tiers import stretches

if TYPE_CHECKING:
    from omfa.zoo.checkpoints import Card

LEARNING_RATE = {"tiny": 1e-3, "small": 1e-3, "base": 5e-4, "large": 3e-4}

STRIDE = 2.0
"""Seconds between the long windows that a run reads; where in them views lie is random."""

TIMED_STEPS = 8
"""Of a dry run."""

_UNITS = {"dataset": ("dataset",), "subject": SUBJECT}

N_WATCHED = 512
"""Rows of a batch that alignment, uniformity and effective rank are taken of."""


@dataclass(frozen=True)
class Settings:
    """How to pre-train. The defaults are this project's choice.

    Attributes
    ----------
    preset : {"tiny", "small", "base", "large"}
    encoder : {"art", "art_no_rotary", "patch", "cnn"}
    resampling : {"off", "rate", "rate+content"}
    tokens_per_second : float
    window_seconds : float
        Of a view.
    lag_seconds : (float, float)
        Least and greatest time from an anchor's start to its positive's. (0, 0): the same window,
        moved by up to 0.25 s.
    steps : int
        Optimizer steps.
    batch_size : int
        Pairs per step and process.
    channels_per_window : int
        Pairs that come from one window, of different channels as far as it has so many.
    negatives_from : {"dataset", "subject"}
        Whose windows a batch holds, and so what a positive is told from. Other subjects are told
        apart by who they are; one subject's windows by the channel and by what changes with time.
    lr : float or None
        Greatest learning rate; None takes the preset's (1e-3, 1e-3, 5e-4, 3e-4).
    weight_decay, temperature : float
    warm_up : float
        Share of the steps in which the learning rate rises; then it falls along a cosine.
    drop_path_prob : float
    augmentations : Augmentations
    seed : int
    """

    preset: str = "small"
    encoder: str = "art"
    resampling: str = "rate"
    tokens_per_second: float = 2.0
    window_seconds: float = 4.0
    lag_seconds: tuple[float, float] = (4.0, 10.0)
    steps: int = 20_000
    batch_size: int = 1024
    channels_per_window: int = 16
    negatives_from: Literal["dataset", "subject"] = "dataset"
    lr: float | None = None
    weight_decay: float = 0.05
    temperature: float = 0.1
    warm_up: float = 0.05
    drop_path_prob: float = 0.1
    augmentations: Augmentations = field(default_factory=Augmentations)
    seed: int = 0

    def __post_init__(self) -> None:
        doing = "Reading the settings of a pre-training"
        if self.preset not in PRESETS:
            raise DataError(doing, f"preset={self.preset!r}", f"Use one of {', '.join(PRESETS)}")
        positive = ("window_seconds", "steps", "batch_size", "channels_per_window", "temperature")
        for name in positive:
            if getattr(self, name) <= 0:
                raise DataError(doing, f"{name}={getattr(self, name)}", "Use a positive number")
        if self.negatives_from not in _UNITS:
            raise DataError(
                doing, f"negatives_from={self.negatives_from!r}", f"Use {' or '.join(_UNITS)}"
            )
        low, high = self.lag_seconds
        if not 0 <= low <= high:
            raise DataError(doing, f"lag_seconds={low}, {high}", "Give least and greatest: 4 10")
        if self.batch_size % self.channels_per_window or self.batch_size < 4:
            raise DataError(
                doing,
                f"batch_size={self.batch_size}, channels_per_window={self.channels_per_window}",
                "Use a batch of at least 4 that is a multiple of the channels per window",
            )

    @property
    def n_windows(self) -> int:
        """Windows read for a batch."""
        return self.batch_size // self.channels_per_window

    @property
    def span_seconds(self) -> float:
        """Length of a window that is read: room for both views, anywhere."""
        return self.window_seconds + max(self.lag_seconds[1], 0.5) + STRIDE


class Contrastive(L.LightningModule):
    """Encoder and projector, and a step of stage 1.

    Parameters
    ----------
    settings : Settings
    reads : mapping
        Arguments of ``open_reads``.
    """

    def __init__(self, settings: Settings, reads: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings, self.reads = settings, dict(reads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = make_encoder(
                settings.encoder,
                settings.preset,
                resampling=settings.resampling,  # type: ignore[arg-type]
                tokens_per_second=settings.tokens_per_second,
                drop_path_prob=settings.drop_path_prob,
            )
            dim = int(self.encoder.dim)  # type: ignore[arg-type]
            self.projector = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 128))

    def setup(self, stage: str) -> None:
        """Open the stores in this process."""
        self.data = open_reads(device=self.trainer.strategy.root_device, **self.reads)
        check_batches(self.data, self.settings, self.trainer.world_size)
        names = self.data.metadata
        start = names["i_start_in_trial"].to_numpy(np.float64)
        self._recording = torch.from_numpy(codes(names, RECORDING))
        self._unit = torch.from_numpy(codes(names, _UNITS[self.settings.negatives_from]))
        self._start = torch.from_numpy(start)

    def train_dataloader(self) -> _Steps:
        """Return this process's batches from the present step to the last."""
        loader = self.data.loader(
            self.settings.n_windows,
            shuffle=True,
            drop_last=True,
            by=self.settings.negatives_from,
            seed=self.settings.seed,
            shard=(self.global_rank, self.trainer.world_size),
            channels_per_window=self.settings.channels_per_window,
        )
        return _Steps(loader, self.trainer.global_step, self.settings.steps)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Cut a pair of views for each chosen channel of each window.

        Returns
        -------
        x, other : Tensor, shape (2, batch_size, n_times)
            Microvolts; the views, and another channel of the window at the same times.
        start : Tensor, shape (2, batch_size)
            Of the views, in seconds from the start of the window.
        """
        settings, k = self.settings, self.settings.channels_per_window
        n_windows, n_chans, span = batch.X.shape
        n_times = round(settings.window_seconds * batch.sfreq)
        weights = batch.present.float().clamp(min=1e-9)
        again = int(batch.present.sum(1).min()) < k
        channel = torch.multinomial(weights, k, replacement=again)
        beside = channel.roll(1, 1)
        low, high = (round(seconds * batch.sfreq) for seconds in settings.lag_seconds)
        draw = torch.rand(3, n_windows, k, device=batch.X.device)
        lag = low + (draw[0] * (high - low + 1)).long().clamp(max=high - low)
        if high == 0:
            lag = ((2 * draw[0] - 1) * 0.25 * batch.sfreq).long()
        first = (-lag).clamp(min=0)
        room = span - n_times - lag.abs()
        first = first + (draw[1] * (room + 1)).long().clamp(max=int(room.max())).minimum(room)
        start = torch.stack((first, first + lag))  # (2, n_windows, k)
        start = torch.where(draw[2] < 0.5, start, start.flip(0))  # no arrow of time
        row = torch.arange(n_windows, device=batch.X.device)[:, None] * n_chans
        flat = batch.X.reshape(-1)
        x = stretches(flat, (row + channel) * span + start, n_times)
        other = stretches(flat, (row + beside) * span + start, n_times)
        other = other * (beside != channel)[..., None]
        return x.flatten(1, 2), other.flatten(1, 2), start.flatten(1) / batch.sfreq

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        settings, step = self.settings, self.trainer.global_step
        torch.manual_seed(hash((settings.seed, step, self.global_rank)) % 2**63)
        x, other, start = self.views(batch)
        h = []
        for view, beside in zip(x, other, strict=True):
            seen, sfreq = augment(view, batch.sfreq, beside, settings.augmentations)
            h.append(self.encoder(seen, sfreq=sfreq).h)
        z = torch.stack([self.projector(each) for each in h])
        window = batch.windows.cpu()
        each = window.repeat_interleave(settings.channels_per_window)
        begun = (self._start[each] / batch.sfreq).to(start.device, torch.float32)
        loss, accuracy, negatives = nt_xent(
            z,
            unit=self._unit[each].to(z.device),
            recording=self._recording[each].to(z.device),
            time=begun + start,
            temperature=settings.temperature,
        )
        if not torch.isfinite(loss.detach()):
            raise self._not_finite(loss.item(), window)
        self.log("loss", loss, prog_bar=True)
        self.log("accuracy", accuracy, prog_bar=True)
        if step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._watch(z.detach(), h[0].detach(), negatives)
        return loss

    def _watch(self, z: Tensor, h: Tensor, negatives: Tensor) -> None:
        """Log what tells a collapse, and how long data are waited for."""
        few = z[:, :N_WATCHED]
        steps: _Steps = self.trainer.train_dataloader  # type: ignore[assignment]
        self.log_dict(
            {
                "alignment": alignment(few),
                "uniformity": uniformity(few[0]),
                "effective_rank": effective_rank(h[:N_WATCHED]),
                "negatives": negatives,
                "chance_loss": (negatives + 1).log(),
                "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
                **steps.speed(self.settings.batch_size * self.trainer.world_size),
            }
        )

    def _not_finite(self, loss: float, windows: Tensor) -> DataError:
        rows = self.data.metadata.iloc[windows.numpy()][list(RECORDING)].drop_duplicates()
        names = ["/".join(row) for row in rows.astype(str).to_numpy()]
        return DataError(
            f"Pre-training, step {self.trainer.global_step}",
            f"the loss is {loss} (windows of {', '.join(names[:3])}"
            f"{', ...' if len(names) > 3 else ''})",
            "Run again with a lower --lr; the last checkpoint is kept",
        )

    def configure_optimizers(self) -> Any:
        """AdamW, no decay of biases and gains; warm-up and cosine."""
        settings = self.settings
        named = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in named if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
        ]
        lr = settings.lr or LEARNING_RATE[settings.preset]
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
        rising = max(1, round(settings.warm_up * settings.steps))

        def scale(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            done = (step - rising) / max(1, settings.steps - rising)
            return float(0.5 * (1 + np.cos(np.pi * min(1.0, done))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Bar(TQDMProgressBar):
    def get_metrics(self, *args: Any) -> dict[str, int | str | float | dict[str, float]]:
        """Leave out which log is written."""
        return {key: value for key, value in super().get_metrics(*args).items() if key != "v_num"}


class _Steps:
    """The batches of steps ``start`` to ``stop``, epoch after epoch; knows how long it took."""

    def __init__(self, loader: Loader, start: int, stop: int) -> None:
        self.loader, self.start, self.stop = loader, start, stop
        self.waited, self.taken, self.since = 0.0, 0, time.perf_counter()

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[Batch]:
        self.loader.epoch, self.loader.skip = divmod(self.start, len(self.loader))
        batches: Iterator[Batch] = iter(())
        for _ in range(self.start, self.stop):
            begun = time.perf_counter()
            if (batch := next(batches, None)) is None:
                batches = iter(self.loader)
                batch = next(batches)
            self.waited += time.perf_counter() - begun
            self.taken += 1
            yield batch

    def speed(self, pairs: int) -> dict[str, float]:
        """Return pairs and channel-windows a second, and the share of waiting, since last asked."""
        now = time.perf_counter()
        rate, share = self.taken / (now - self.since), self.waited / (now - self.since)
        self.waited, self.taken, self.since = 0.0, 0, now
        return {"pairs_per_second": pairs * rate, "data_wait_share": share}


# ------------------------------------------------------------------------------------ the data


def open_reads(
    stores: Sequence[str],
    settings: Settings,
    *,
    hold_out: Sequence[str] = (),
    channels: Literal["native", "intersection"] = "native",
    device: str | torch.device = "cpu",
    **options: Any,
) -> StoreDataset:
    """Open stores for pre-training: all signal, good channels, each recording's own rate.

    Parameters
    ----------
    stores : sequence of address
    settings : Settings
    hold_out : sequence of str
        ``"dataset/subject"`` of those left out; ``*`` and ``?`` as in file names.
    channels : {"native", "intersection"}
        Each recording's own, or those that all recordings have, of those left out too.
    device : str or torch.device
    **options
        Of ``open_dataset``.

    Raises
    ------
    DataError
        As ``open_dataset``; if a name in ``hold_out`` is nobody's, or nobody is left.
    """
    data = open_dataset(
        list(stores),
        settings.span_seconds,
        STRIDE,
        channels=channels,
        rates="native",
        cut_from="recordings",
        mask_bad=True,
        device=device,
        **options,
    )
    if not hold_out:
        return data
    who = data.metadata["dataset"].astype(str) + "/" + data.metadata["subject"].astype(str)
    known = who.unique()
    held: set[str] = set()
    for pattern in hold_out:
        found = [name for name in known if fnmatch(name, pattern)]
        if not found:
            raise DataError(
                "Leaving subjects out of pre-training",
                f"nobody is called {pattern!r}; there are {', '.join(known[:3])}, ...",
                "Write DATASET/SUBJECT; * stands for anything",
            )
        held.update(found)
    if len(held) == len(known):
        raise DataError(
            "Leaving subjects out of pre-training",
            f"nobody of {len(known)} subjects is left",
            "Leave fewer out",
        )
    return data.select(~who.isin(held).to_numpy())


def check_batches(data: StoreDataset, settings: Settings, world_size: int = 1) -> None:
    """Refuse a batch that a dataset or subject has too few windows for: it would never be seen."""
    names = data.metadata[list(_UNITS[settings.negatives_from])].astype(str).agg("/".join, axis=1)
    for name, count in names.value_counts().items():
        if count < settings.n_windows * world_size:
            raise DataError(
                f"Making batches of {settings.n_windows} windows for {world_size} process(es)",
                f"{name} has {count} windows of {settings.span_seconds:g} s",
                "Lower --batch-size, or raise --channels-per-window",
            )


def seen(data: StoreDataset) -> list[dict[str, Any]]:
    """List who was seen: for each dataset its subjects, and the hours of signal."""
    recordings = {int(i): source for i, source in enumerate(data._sources)}
    index = pd.Series(data._source)
    first = ~index.duplicated().to_numpy()
    names = data.metadata.loc[first, list(SUBJECT)].reset_index(drop=True)
    seconds = [recordings[i].n_times / recordings[i].sfreq for i in index[first]]
    table = names.assign(hours=np.array(seconds) / 3600).astype({"dataset": str, "subject": str})
    return [
        {
            "dataset": str(dataset),
            "subjects": sorted(part["subject"].unique()),
            "hours": round(float(part["hours"].sum()), 3),
        }
        for dataset, part in table.groupby("dataset")
    ]


# ------------------------------------------------------------------------------------- the run


def pretrain_encoder(
    stores: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: Settings | None = None,
    *,
    hold_out: Sequence[str] = (),
    channels: Literal["native", "intersection"] = "native",
    name: str | None = None,
    cache: str = "auto",
    accelerator: str = "auto",
    devices: int | str = 1,
    num_nodes: int = 1,
    precision: str | None = None,
    checkpoint_every: int = 500,
    log_every: int = 20,
    probe_every: int = 0,
    probe_targets: Mapping[str, Any] | None = None,
    progress: bool = False,
    command: str = "",
) -> Path:
    """Pre-train an encoder; go on where an earlier call with the same arguments ended.

    Parameters
    ----------
    stores : address or sequence of address
    out : path
        The run's folder: ``run.json``, ``checkpoints/`` to go on from, ``logs/`` (CSV and
        TensorBoard), and at the end ``checkpoint/``, which ``omfa.zoo.load`` reads.
    settings : Settings, optional
    hold_out : sequence of str
        ``"dataset/subject"`` of those left out, with ``*`` and ``?``.
    channels : {"native", "intersection"}
        Each recording's own, or those that all recordings have, of those left out too.
    name : str, optional
        Of the checkpoint; the folder's name if not given.
    cache : {"auto", "memory", "memmap", "stream"}
        See ``open_dataset``.
    accelerator, devices, num_nodes
        As for Lightning's Trainer. With several devices, or under ``torchrun``, each process takes
        its share of the batches and all see the negatives of all.
    precision : str, optional
        Lightning's; by default ``"bf16-mixed"`` on a GPU that has it, else ``"32-true"``.
    checkpoint_every, log_every : int
        Steps.
    probe_every : int
        Steps between linear probes of the encoder (``omfa.zoo.probes``); 0 for none.
    probe_targets : mapping, optional
        For each dataset by name what its task is for the probes.
    progress : bool
        Show a bar.
    command : str
        The command line, for the card.

    Returns
    -------
    Path
        The checkpoint's folder.

    Raises
    ------
    DataError
        If the stores do not fit together or to the settings, ``out`` holds another run, or the
        loss is not finite.
    """
    settings = settings or Settings()
    given = [stores] if isinstance(stores, (str, Path)) else list(stores)
    addresses = [str(store) for store in given]
    out = Path(out)
    done = out / "checkpoint"
    reads = {
        "stores": addresses,
        "settings": settings,
        "hold_out": tuple(hold_out),
        "channels": channels,
        "cache": cache,
    }
    data = open_reads(**reads)  # type: ignore[arg-type]
    check_batches(data, settings)
    _claim(out, settings, addresses, hold_out, channels, data)
    if (done / "card.json").exists():
        return done
    model = Contrastive(settings, reads)
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if precision is None:
        precision = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    probes = Probes(addresses, settings.window_seconds, probe_every, probe_targets)
    with _quiet():
        trainer = L.Trainer(
            accelerator="cuda" if on_gpu else accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=_strategy(devices, num_nodes),
            precision=precision,  # type: ignore[arg-type]
            max_steps=settings.steps,
            gradient_clip_val=1.0,
            log_every_n_steps=min(log_every, settings.steps),
            logger=[CSVLogger(out, "logs"), TensorBoardLogger(out, "logs")],
            callbacks=[
                ModelCheckpoint(
                    out / "checkpoints",
                    "{step}",
                    every_n_train_steps=checkpoint_every,
                    save_on_exception=False,
                ),
                *([probes] if probe_every else []),
                *([_Bar()] if progress else []),
            ],
            enable_progress_bar=progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, ckpt_path=_last(out / "checkpoints"))
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        card = _card(name or out.resolve().name, settings, data, hold_out, addresses, command)
        export(model.encoder, settings, card, done, sfreq=card.input["sfreq"])
    trainer.strategy.barrier()
    return done


def plan(
    stores: Sequence[str | Path],
    settings: Settings,
    *,
    hold_out: Sequence[str] = (),
    cache: str = "auto",
) -> str:
    """Describe a run and say how long it will take, from a few steps taken on this machine.

    Raises
    ------
    DataError
        All that ``pretrain_encoder`` raises before its first step.
    """
    data = open_reads([str(store) for store in stores], settings, hold_out=hold_out, cache=cache)
    check_batches(data, settings)
    pace = pairs_per_second(stores, settings, hold_out=hold_out, cache=cache)
    pairs = settings.steps * settings.batch_size
    lines = [
        f"encoder      {settings.encoder} {settings.preset}, {settings.resampling}, "
        f"{settings.tokens_per_second:g} tokens/s",
        *(
            f"{part['dataset']:12} {len(part['subjects'])} subjects, {part['hours']:g} hours"
            for part in seen(data)
        ),
        f"held out     {', '.join(hold_out) or 'nobody'}",
        f"signals      {data.tier.name}",
        f"steps        {settings.steps:,} of {settings.batch_size:,} pairs",
        f"expected     {pairs / pace / 3600:.1f} hours, {pace:,.0f} pairs/s on this machine",
    ]
    return "\n".join(lines)


def pairs_per_second(
    stores: Sequence[str | Path],
    settings: Settings,
    *,
    hold_out: Sequence[str] = (),
    cache: str = "auto",
) -> float:
    """Take a few steps on this machine, and tell its pace."""
    few = replace(settings, steps=TIMED_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        pretrain_encoder(
            stores, folder, few, hold_out=hold_out, cache=cache, log_every=1, name="timed"
        )
        return float(learning_curve(folder)["pairs_per_second"].iloc[2:].median())


_KNOWN = (
    # A step's batch follows from its number, so going on within an epoch is exact here.
    ".*resuming from a checkpoint that ended before the epoch ended.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what Lightning tells that is known, or is not for the user of this program."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, PossibleUserWarning):
                warnings.filterwarnings("ignore", category=category)
            for text in _KNOWN:
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        logger.setLevel(level)


def _strategy(devices: int | str, num_nodes: int) -> str:
    """Start processes here, or join those that torchrun or SLURM has started."""
    if num_nodes > 1 or {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & set(os.environ):
        return "ddp"
    return "auto" if str(devices) == "1" else "ddp_spawn"


def _claim(
    out: Path,
    settings: Settings,
    stores: Sequence[str],
    hold_out: Sequence[str],
    channels: str,
    data: StoreDataset,
) -> None:
    """Write what the run is; refuse a folder that holds another one."""
    about = {
        "settings": json.loads(json.dumps(asdict(settings))),
        "stores": list(stores),
        "hold_out": list(hold_out),
        "channels": channels,
        "recordings": sorted({source.digest for source in data._sources}),
    }
    path = out / "run.json"
    if path.exists():
        old = json.loads(path.read_text())
        differ = [key for key in about if old.get(key) != about[key]]
        if differ:
            raise DataError(
                f"Pre-training into {out}",
                f"it holds a run with other {', '.join(differ)}",
                "Give another --out, or delete that folder to begin anew",
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}.part")
    staged.write_text(json.dumps(about, indent=1))
    staged.replace(path)


def _last(folder: Path) -> Path | None:
    """Find the checkpoint of the most steps."""
    found = [(int(path.stem.split("=")[1].split("-")[0]), path) for path in folder.glob("*.ckpt")]
    return max(found)[1] if found else None


def _card(
    name: str,
    settings: Settings,
    data: StoreDataset,
    hold_out: Sequence[str],
    stores: Sequence[str],
    command: str,
) -> Card:
    from omfa.pipeline.store import open_store
    from omfa.zoo.cards import Card, source_commit

    opened = [open_store(store) for store in stores]
    made = [store.settings["preprocessing"] for store in opened]
    references = list(dict.fromkeys(str(each["reference"]) for each in made))
    channels = sorted({int(i) for row in data._ids for i in row if i >= 0})
    return Card(
        name=name,
        preset=settings.preset,
        stage="pretrained",
        simulated=data.simulated,
        ucs_version=int(opened[0].settings["ucs_version"]),
        input={
            "unit": "uV",
            "scale": 1.0,
            "sfreq": float(data._rate[0]),
            "band": _common_band([each["band"] for each in made], float(data._rate.min())),
            "reference": " or ".join(references),
            "channels": [data._ucs.names[i] for i in channels],
            "window_seconds": settings.window_seconds,
        },
        saw=seen(data),
        recipe={
            "command": command,
            "settings": asdict(settings),
            "hold_out": list(hold_out),
            "seed": settings.seed,
            "versions": {"omfa": version("omfa"), "torch": torch.__version__},
            "commit": source_commit(),
        },
    )


def _common_band(bands: Sequence[Sequence[float | None]], sfreq: float) -> list[float]:
    """Return what all pass; an open side reaches to 0, or to half of the rate."""
    low = max(0.0 if band[0] is None else float(band[0]) for band in bands)
    return [low, min(sfreq / 2 if band[1] is None else float(band[1]) for band in bands)]


def export(
    encoder: nn.Module, settings: Settings, card: Card, folder: Path, *, sfreq: float
) -> Path:
    """Write an OMFA with this encoder, its head not trained, as a checkpoint."""
    from omfa.zoo.checkpoints import save_checkpoint

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = OMFA(
            n_outputs=2,
            sfreq=sfreq,
            preset=settings.preset,  # type: ignore[arg-type]
            encoder=settings.encoder,  # type: ignore[arg-type]
            resampling=settings.resampling,  # type: ignore[arg-type]
            tokens_per_second=settings.tokens_per_second,
        )
    model.encoder.load_state_dict(encoder.state_dict())
    return save_checkpoint(folder, model, card)


def learning_curve(run: str | Path) -> pd.DataFrame:
    """Read the logs of a run, those of a run that was interrupted joined.

    Parameters
    ----------
    run : path
        The folder given as ``out``.

    Returns
    -------
    pandas.DataFrame
        A row per logged step, by ``step``.
    """
    files = sorted(
        Path(run).glob("logs/version_*/metrics.csv"),
        key=lambda file: int(file.parent.name.split("_")[1]),
    )
    if not files:
        raise DataError(
            f"Reading the learning curve of {run}", "there are no logs", "Give the run's folder"
        )
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    # What was logged after the last checkpoint was done again: the later row counts.
    return rows.groupby("step").last().drop(columns="epoch", errors="ignore")


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with other values; those of augmentations are given by their own names."""
    known, own = asdict(settings.augmentations), asdict(settings)
    if unknown := [name for name in changes if name not in known and name not in own]:
        raise DataError(
            "Reading the settings of a pre-training",
            f"there is none called {', '.join(unknown)}",
            f"Use some of {', '.join([*own, *known])}",
        )
    inner = {name: value for name, value in changes.items() if name in known}
    outer = {name: value for name, value in changes.items() if name in own}
    augmentations = replace(settings.augmentations, **inner)
    return replace(settings, augmentations=augmentations, **outer)
