"""Stage 1: contrastive pre-training of one encoder on the single channels of many stores.

A step reads windows long enough for both views of a pair, chooses channels of each, cuts an anchor
and, close to it in the same channel, its positive, changes both (``augmentations``), and pulls them
together (``loss``). Band powers find such a positive among most negatives, and are given to the
graph anyway: negatives are therefore matched to the anchor in them.

Everything that is random in a step comes from the seed, the step's number and the process's rank,
so that a run that was killed goes on with the same loss curve. Lightning runs the loop.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import pandas as pd
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from omfa.models import OMFA
from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.progress import bar
from omfa.pipeline.words import duration, some
from omfa.pipeline.writing import set_aside, staged, write_whole
from omfa.zoo.data.dataset import StoreDataset
from omfa.zoo.pretraining.devices import check_run
from omfa.zoo.pretraining.module import Contrastive, check_batches, open_reads
from omfa.zoo.pretraining.probes import Probes, check_tasks
from omfa.zoo.pretraining.settings import RunSettings, Settings

if TYPE_CHECKING:
    from omfa.zoo.checkpoints.cards import Card


TIMED_STEPS = 8
"""Of a dry run."""


class _Bar(L.Callback):
    """Counts the steps of a run, beside its newest loss."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin where an earlier run ended."""
        self.counted = bar(
            total=trainer.max_steps,
            initial=trainer.global_step,
            what="pre-training",
            unit="step",
            shown=None if trainer.is_global_zero else False,
        )

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Count a step."""
        if trainer.global_step % self.every == 0:
            found = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
            self.counted.set_postfix(found, refresh=False)
        self.counted.update(trainer.global_step - self.counted.n)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave it."""
        self.counted.close()


def pretrain_encoder(
    stores: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: Settings | None = None,
    *,
    hold_out: Sequence[str] = (),
    channels: Literal["native", "intersection"] = "native",
    name: str | None = None,
    cache: str = RunSettings.cache,
    accelerator: str = RunSettings.accelerator,
    devices: int | str = RunSettings.devices,
    num_nodes: int = RunSettings.num_nodes,
    precision: str | None = RunSettings.precision,
    compile: bool = RunSettings.compile,
    checkpoint_every: int = RunSettings.checkpoint_every,
    log_every: int = RunSettings.log_every,
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
        ``"dataset/subject"`` of those left out, with ``*`` and ``?``; ``"benchmark"`` for all that
        the benchmark holds out.
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
    compile : bool
        Compile the encoder's layers, and in one process the loss.
    checkpoint_every, log_every : int
        Steps.
    probe_every : int
        Steps between linear probes of the encoder (``omfa.zoo.pretraining.probes``); 0 for none.
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
        If the stores do not fit together or to the settings, this machine lacks the accelerator, a
        probe has no task, ``out`` holds another run, or the loss is not finite.
    """
    from omfa.zoo.checkpoints.cards import checked_name

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
    name = checked_name(name or out.resolve().name, f"Pre-training into {out}")
    run = RunSettings(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        checkpoint_every=checkpoint_every,
        log_every=log_every,
        probe_every=probe_every,
    )
    check_run(run)
    data = open_reads(**reads)  # type: ignore[arg-type]
    check_batches(data, settings)
    check_tasks(addresses, settings.window_seconds, probe_targets, hold_out)
    _claim(out, settings, addresses, hold_out, channels, data)
    # A checkpoint's folder gets its name when it is whole, so this run is finished.
    if (done / "card.json").exists():
        return done
    model = Contrastive(settings, reads, compiled=compile)
    probes = Probes(addresses, settings.window_seconds, probe_every, probe_targets, hold_out)
    with _quiet():
        trainer = _trainer(out, settings.steps, run, [probes] if probe_every else [], progress)
        try:
            trainer.fit(model, ckpt_path=last_checkpoint(out / "checkpoints"))
        except SystemExit as error:  # how Lightning answers Ctrl-C; the caller is to decide
            raise KeyboardInterrupt from error
    if trainer.is_global_zero:
        card = _card(name, settings, data, hold_out, addresses, command)
        export(model.encoder, settings, card, done, sfreq=card.input["sfreq"])
    trainer.strategy.barrier()
    return done


def _trainer(
    out: Path, steps: int, run: RunSettings, callbacks: Sequence[L.Callback], progress: bool
) -> L.Trainer:
    on_gpu = run.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    usual = "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
    kept = ModelCheckpoint(
        out / "checkpoints",
        "{step}",
        # The last two: should one be damaged, the run goes on from the other.
        monitor="step",
        mode="max",
        save_top_k=2,
        every_n_train_steps=run.checkpoint_every,
        # What ended the run may be a loss that is not finite: the checkpoint before it stays.
        save_on_exception=False,
    )
    return L.Trainer(
        accelerator="cuda" if on_gpu else run.accelerator,
        devices=run.devices,
        num_nodes=run.num_nodes,
        strategy=_strategy(run.devices, run.num_nodes),
        precision=run.precision or usual,  # type: ignore[arg-type]
        max_steps=steps,
        gradient_clip_val=1.0,
        log_every_n_steps=min(run.log_every, steps),
        logger=[CSVLogger(out, "logs"), TensorBoardLogger(out, "logs")],
        # A number in the bar is waited for: on a GPU no more often than those of the logs.
        callbacks=[
            kept,
            *callbacks,
            *([_Bar(every=run.log_every if on_gpu else 1)] if progress else []),
        ],
        enable_progress_bar=False,  # ours is a line of the log where there is no terminal
        enable_model_summary=False,
        use_distributed_sampler=False,  # the loader deals out batches by rank itself
        num_sanity_val_steps=0,
        plugins=[_WholeFiles()],
    )


def plan(
    stores: Sequence[str | Path],
    settings: Settings,
    *,
    hold_out: Sequence[str] = (),
    cache: str = RunSettings.cache,
    run: RunSettings | None = None,
) -> str:
    """Describe a run and say how long it will take, from a few steps taken on this machine.

    Parameters
    ----------
    stores, settings, hold_out, cache
        As for ``pretrain_encoder``.
    run : RunSettings, optional
        What it would run on, and its probes, which are checked too. Steps are timed on one device.

    Raises
    ------
    DataError
        All that ``pretrain_encoder`` raises before its first step.
    """
    run = run or RunSettings()
    check_run(run)
    addresses = [str(store) for store in stores]
    data = open_reads(addresses, settings, hold_out=hold_out, cache=cache)
    check_batches(data, settings)
    check_tasks(addresses, settings.window_seconds, run.probe_targets, hold_out)
    pace = pairs_per_second(
        stores, settings, hold_out=hold_out, cache=cache, accelerator=run.accelerator
    )
    pairs = settings.steps * settings.batch_size
    lines = [
        f"encoder      {settings.encoder} {settings.preset}, {settings.resampling}, "
        f"{settings.tokens_per_second:g} tokens/s",
        *(
            f"{part['dataset']:12} {len(part['subjects'])} subjects, {part['hours']:g} hours"
            for part in data.subjects_and_hours()
        ),
        f"held out     {', '.join(hold_out) or 'nobody'}",
        f"signals      {data.tier.name}",
        f"steps        {settings.steps:,} of {settings.batch_size:,} pairs",
        f"expected     {duration(pairs / pace)}, {pace:,.0f} pairs/s on this machine",
    ]
    return "\n".join(lines)


def pairs_per_second(
    stores: Sequence[str | Path],
    settings: Settings,
    *,
    hold_out: Sequence[str] = (),
    cache: str = RunSettings.cache,
    accelerator: str = RunSettings.accelerator,
) -> float:
    """Measure the pace of this machine over a few steps."""
    few = replace(settings, steps=TIMED_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        pretrain_encoder(
            stores,
            folder,
            few,
            hold_out=hold_out,
            cache=cache,
            accelerator=accelerator,
            log_every=1,
            name="timed",
        )
        # The first steps also fill caches; the median, since other work may come between.
        return float(learning_curve(folder)["pairs_per_second"].iloc[2:].median())


_KNOWN = (
    # A step's batch follows from its number, so going on within an epoch is exact here.
    ".*resuming from a checkpoint that ended before the epoch ended.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back messages of Lightning that are expected here, or meant for its programmers."""
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
    """Record the run's settings in its folder; refuse a folder that holds another run."""
    about = {
        # Through JSON, so that tuples are lists as in the file that they are compared with.
        "settings": json.loads(json.dumps(asdict(settings))),
        "stores": list(stores),
        "hold_out": list(hold_out),
        "channels": channels,
        # By digest: a store that was ingested anew has other signals under the same address.
        "recordings": sorted({source.digest for source in data.sources}),
    }
    path = out / "run.json"
    if path.exists():
        old = json.loads(path.read_text())
        differ = [key for key in about if old.get(key) != about[key]]
        if differ:
            told = [f"{key}{_changes(key, old.get(key), about[key])}" for key in differ]
            raise DataError(
                f"Pre-training into {out}",
                f"it holds a run with other {', '.join(told)}",
                "Give another --out, or delete that folder to begin anew",
            )
        return
    write_whole(path, json.dumps(about, indent=1))


def _changes(key: str, old: Any, new: Any) -> str:
    """Write in brackets how a part of ``run.json`` differs; digests alone would say nothing."""
    if key == "recordings":
        gone, more = (len({*a} - {*b}) for a, b in ((old or (), new), (new, old or ())))
        return f" ({gone} of before are not here, {more} are new)"
    one, two = _flat(old), _flat(new)
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return f" ({one['']} before, {two['']} now)"
    told = [
        f"{name} {one.get(name, 'absent')} before, {two.get(name, 'absent')} now"
        for name in dict.fromkeys([*two, *one])
        if one.get(name) != two.get(name)
    ]
    return f" ({some(told, 8)})"


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Return each value of nested tables in words, by its own name."""
    if isinstance(value, dict):
        return {key: text for part in value for key, text in _flat(value[part], part).items()}
    if isinstance(value, list):
        return {name: " ".join(map(str, value)) or "none"}
    return {name: "none" if value is None else str(value)}


class _WholeFiles(TorchCheckpointIO):
    """Training checkpoints that are flushed to the disk before they take their name.

    Lightning writes to another folder, often on another disk, from which a killed process leaves
    half a file under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        with staged(path) as file:
            torch.save(checkpoint, file)


def _step(path: Path) -> int:
    """Read Lightning's names: step=500.ckpt, and step=500-v1.ckpt where that one was there."""
    return int(path.stem.split("=")[1].split("-")[0])


def last_checkpoint(folder: Path) -> Path | None:
    """Return the training checkpoint of the most steps, and set damaged ones aside.

    Parameters
    ----------
    folder : Path
        A run's ``checkpoints``.

    Returns
    -------
    Path or None
        None if there is no whole one.
    """
    found = [(_step(path), path) for path in folder.glob("*.ckpt")]
    for _, path in sorted(found, reverse=True):
        try:
            with zipfile.ZipFile(path) as archive:  # nothing of it is run or built to check it
                damaged = archive.testzip()
        except FileNotFoundError:  # set aside by another process of this run
            continue
        except Exception as error:  # a changed byte may break the zip in any way
            damaged = str(error)
        if damaged is None:
            return path
        aside = set_aside(path)
        warnings.warn(
            f"Going on with the run in {folder.parent}: {path.name} is damaged ({damaged}) and is "
            f"now {aside.name}. The run goes on from the one before, or begins anew.",
            DataWarning,
            stacklevel=3,
        )
    return None


def going_on(out: str | Path) -> str:
    """Say what the same command would go on from, after an interruption of the run in ``out``."""
    if (Path(out) / "checkpoint" / "card.json").exists():
        return "The run had finished."
    kept = last_checkpoint(Path(out) / "checkpoints")
    if kept is None:
        return "No step is kept yet (--checkpoint-every): the same command starts from the first."
    return f"Run the same command again to go on from step {_step(kept):,}, the last that is kept."


def _card(
    name: str,
    settings: Settings,
    data: StoreDataset,
    hold_out: Sequence[str],
    stores: Sequence[str],
    command: str,
) -> Card:
    from omfa.pipeline.store import open_store
    from omfa.zoo.checkpoints.cards import Card, source_commit
    from omfa.zoo.checkpoints.input import input_path

    opened = [open_store(store) for store in stores]
    # What the source had done before ingest counts too.
    references = dict.fromkeys(path.reference for path in data.paths)
    channels = sorted({int(i) for row in data.ids for i in row if i >= 0})
    return Card(
        name=name,
        licence="",  # whoever publishes it chooses
        preset=settings.preset,
        stage="pretrained",
        simulated=data.simulated,
        ucs_version=int(opened[0].settings["ucs_version"]),
        input={
            "unit": "uV",
            "scale": 1.0,
            "sfreq": float(data.rates[0]),
            **input_path(data.paths),
            "reference": " or ".join(references),
            "channels": [data.ucs.names[i] for i in channels],
            "window_seconds": settings.window_seconds,
        },
        saw=data.subjects_and_hours(),
        recipe={
            "command": command,
            "settings": asdict(settings),
            "hold_out": list(hold_out),
            "seed": settings.seed,
            "versions": {"omfa": version("omfa"), "torch": torch.__version__},
            "commit": source_commit(),
        },
    )


def export(
    encoder: nn.Module, settings: Settings, card: Card, folder: Path, *, sfreq: float
) -> Path:
    """Write an OMFA with this encoder, its head not trained, as a checkpoint."""
    from omfa.zoo.checkpoints.folder import save_checkpoint

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = OMFA(
            # The least: `load` puts a new classifier in its place.
            n_outputs=2,
            sfreq=sfreq,
            preset=settings.preset,
            encoder=settings.encoder,
            resampling=settings.resampling,
            tokens_per_second=settings.tokens_per_second,
            spectral=settings.spectral,
            bursts=settings.bursts,
        )
    assert model.encoder is not None  # one head alone reads none
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

    Examples
    --------
    >>> from omfa.zoo import learning_curve
    >>> learning_curve("run").columns.tolist()[:2]
    ['loss', 'chance_loss']
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
