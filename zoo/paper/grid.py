"""The paper's tables, run again: a grid of evaluations that resumes.

Each row of a table is run under ``leaky-window`` and under protocols that hold, and stands beside
what the paper states. A cell is a row under a protocol: a call of ``evaluate`` on one corpus, most
often from a checkpoint of ``pretrain_encoder``. Both keep what they finish, so the same call goes
on after an interruption and reads what is done. The abstract of arXiv 2511.08444 is all that is
publicly readable, so the folds, the windows, the rule that makes classes of ratings and how a row
is meant are this project's choice.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omfa.pipeline.catalogue import USUAL_TARGETS
from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.store import Store, open_store
from omfa.pipeline.words import duration, nearest
from omfa.pipeline.writing import write_whole
from omfa.zoo.checkpoints.input import InputWarning
from omfa.zoo.data.dataset import StoreDataset
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.data.settings import Cache, WindowSettings
from omfa.zoo.data.targets import labels_of
from omfa.zoo.estimators.settings import ARCHITECTURE, COHERENCY, SCRATCH, SPARING
from omfa.zoo.evaluation.results import Result
from omfa.zoo.evaluation.run import evaluate, plan
from omfa.zoo.paper.settings import OF_THE_PAPER
from omfa.zoo.paper.settings import GridSettings as GridSettings
from omfa.zoo.paper.tables import BASELINES, TABLES, Row, Stage1, rows_of
from omfa.zoo.pretraining.settings import RunSettings, Settings
from omfa.zoo.protocols.protocol import Protocol
from omfa.zoo.protocols.splits import split

if TYPE_CHECKING:
    from omfa.zoo.evaluation.run import Plan


@dataclass(frozen=True, eq=False)
class Cell:
    """A row that was run under a protocol: a result for each seed, or why there is none."""

    row: Row
    protocol: Protocol
    results: tuple[Result, ...] = ()
    error: str = ""


class Grid:
    """The paper's tables over the stores that are there: what to run, and running it.

    Parameters
    ----------
    stores : sequence of address
        One for each corpus; a store names its own.
    out : path
        Folder of the results, the pre-trainings and the report.
    tables : sequence of str
        Some of ``TABLES``.
    how : GridSettings, optional
        What all rows share.
    workers : int
        Processes that folds run in.
    say : callable, optional
        Called with a line of text for each step.

    Attributes
    ----------
    stores : dict of str to str
        Address by corpus.
    rows : list of Row
    missing : list of str
        What is left out, and why; a sentence each.

    Raises
    ------
    DataError
        If an address holds no store, a corpus has no target, two stores are of one corpus, or
        nothing is left to run.
    """

    def __init__(
        self,
        stores: Sequence[str | Path],
        out: str | Path,
        tables: Sequence[str] = OF_THE_PAPER,
        how: GridSettings | None = None,
        *,
        workers: int = 1,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        doing = "Reproducing the paper's tables"
        self.out, self.how = Path(out), how or GridSettings()
        self.workers, self.say = workers, say
        if unknown := [table for table in tables if table not in TABLES]:
            found = f"there is no table {unknown[0]!r}{nearest(unknown[0], TABLES)}"
            raise DataError(doing, found, f"Use {', '.join(TABLES)}")
        opened = [open_store(store) for store in stores]
        names = [store.name for store in opened]
        rates = dict(zip(names, map(_rate, opened), strict=True))
        self.stores = {name: str(given) for name, given in zip(names, stores, strict=True)}
        if double := [name for name in names if names.count(name) > 1]:
            raise DataError(doing, f"two stores are of {double[0]}", "Give one for each corpus")
        self.targets = {name: {**USUAL_TARGETS, **self.how.targets}.get(name, "") for name in names}
        if unnamed := [name for name, target in self.targets.items() if not target]:
            raise DataError(
                doing,
                f"there is no usual target for {', '.join(unnamed)}",
                f"Name one: --target {unnamed[0]}=COLUMN",
            )
        self.rows: list[Row] = []
        self.missing: list[str] = []
        for table in TABLES:
            rows, missing = rows_of(table, names, rates) if table in tables else ([], [])
            self.rows += [row for row in rows if row.dataset in (self.how.datasets or names)]
            self.missing += missing
        if unknown := [name for name in self.how.datasets if name not in names]:
            found = f"there is no store of {unknown[0]}{nearest(unknown[0], names)}"
            raise DataError(doing, found, f"Use {', '.join(names)}")
        if not self.rows:
            found = "; ".join(self.missing) or "no table that is asked for has rows on the datasets"
            raise DataError(doing, found, "Give more stores, or other tables or datasets")
        joined = any(stage1.channels == "intersection" for stage1 in self.stage1s)
        if joined and not UCS.intersection(opened):
            raise DataError(doing, "no channel is in all stores", "Leave transfer out")
        self.cells = [(row, one) for row in self.rows for one in self.how.splits(row.dataset)]
        self._datasets: dict[tuple[str, Cache], StoreDataset] = {}

    def dataset(self, name: str, cache: Cache = WindowSettings.cache) -> StoreDataset:
        """Return the windows of a corpus, which are opened once."""
        if (name, cache) not in self._datasets:
            self._datasets[name, cache] = open_dataset(
                self.stores[name], self.how.window_seconds, target=self.targets[name], cache=cache
            )
        return self._datasets[name, cache]

    @cached_property
    def digests(self) -> dict[str, str]:
        """A digest of all recordings of each corpus, by its name."""
        return {name: self.dataset(name).digest for name in self.stores}

    # ---- pre-training

    @property
    def stage1s(self) -> list[Stage1]:
        """The pre-trainings that the rows start from, each once."""
        return list(dict.fromkeys(row.stage1 for row in self.rows if row.stage1 is not None))

    def settings(self, stage1: Stage1) -> Settings:
        """Return the settings of a pre-training."""
        return replace(self.how.settings, **stage1.architecture)

    def folder(self, stage1: Stage1) -> Path:
        """Return the folder of a pre-training; other settings or stores have another."""
        about = [asdict(self.settings(stage1)), *self._reads(stage1)]
        return self.out / "pretraining" / f"{stage1}-{_digest(about)}"

    def done(self, stage1: Stage1) -> bool:
        """Whether a pre-training is finished."""
        return (self.folder(stage1) / "checkpoint" / "card.json").exists()

    def _reads(self, stage1: Stage1) -> tuple[list[str], dict[str, Any]]:
        """Return the stores of a pre-training, and what is left out of them."""
        if stage1.channels == "native":
            return [self.stores[name] for name in stage1.corpora], {}
        # The channels that the unseen corpus has too: it is opened, and nobody of it is read.
        apart = [f"{name}/*" for name in self.stores if name not in stage1.corpora]
        return list(self.stores.values()), {"hold_out": apart, "channels": stage1.channels}

    def pretrain(self, stage1: Stage1) -> Path:
        """Pre-train, or find what was pre-trained; return the checkpoint's folder."""
        from omfa.zoo.pretraining.run import pretrain_encoder

        settings = self.settings(stage1)
        stores, options = self._reads(stage1)
        return pretrain_encoder(
            stores,
            self.folder(stage1),
            settings,
            name=str(stage1),
            # Short runs log more often, so that their curve has about 50 points.
            log_every=max(1, min(RunSettings.log_every, settings.steps // 50)),
            **options,
        )

    # ---- cells

    def parameters(self, row: Row) -> dict[str, Any]:
        """Return the parameters of a row's model, but for the checkpoint."""
        if row.model in BASELINES:
            return {}
        shared = {**self.how.parameters, **row.parameters}
        if row.stage1 is not None:
            return shared
        if row.model == SCRATCH:
            shared = {name: value for name, value in shared.items() if name not in SPARING}
        if shared.get("head") == COHERENCY:  # of an architecture it has the width of the readout
            return {"preset": self.how.settings.preset} | shared
        return _architecture(self.how.settings) | shared

    def check(self) -> None:
        """Refuse, before hours are spent, what cannot be run.

        Raises
        ------
        DataError
            All that ``pretrain_encoder`` and ``evaluate`` raise before they train.
        """
        # Here and where it runs: Lightning takes seconds to import, and a plan does without.
        from omfa.zoo.pretraining.module import check_batches, open_reads

        for stage1 in self.stage1s:
            if not self.done(stage1):
                stores, options = self._reads(stage1)
                settings = self.settings(stage1)
                check_batches(open_reads(stores, settings, **options), settings)
        for row, protocol in self._kinds:
            self._plan(row, protocol, timed=False)

    @property
    def _kinds(self) -> list[tuple[Row, Protocol]]:
        """The fewest cells that cover every model and protocol on each corpus.

        They are enough to validate the whole grid before it runs.
        """
        found, known = [], set()
        for row, protocol in self.cells:
            stage1 = row.stage1 and row.stage1.architecture
            model = (row.model, row.dataset, json.dumps([stage1, self.parameters(row)]))
            split = (row.dataset, protocol)
            if model not in known or split not in known:
                found.append((row, protocol))
                known |= {model, split}
        return found

    def run(self) -> list[Cell]:
        """Check, then run every row under every protocol; read those that are finished."""
        self.check()
        checkpoints = {}
        for number, stage1 in enumerate(self.stage1s, 1):
            self.say(f"pre-training {number} of {len(self.stage1s)}: {stage1}")
            checkpoints[stage1] = self.pretrain(stage1)
        cells = []
        with warnings.catch_warnings():
            # Corpora differ from those of a pre-training in channels and bands: that is the table.
            warnings.simplefilter("ignore", InputWarning)
            for number, (row, protocol) in enumerate(self.cells, 1):
                self.say(
                    f"cell {number} of {len(self.cells)}: {row.table}, {row.name} on {row.dataset} "
                    f"under {protocol}"
                )
                parameters = self.parameters(row)
                if row.stage1 is not None:
                    parameters["checkpoint"] = str(checkpoints[row.stage1])
                cells.append(self._cell(row, protocol, parameters))
            for name, (stage1, folder) in self.attended.items():
                self.say(
                    f"fine-tuning on all of {name}, to see which channels its graph attends to"
                )
                attend(self.dataset(name), folder, checkpoints[stage1], self.how.parameters)
        return cells

    def _cell(self, row: Row, protocol: Protocol, parameters: dict[str, Any]) -> Cell:
        results = []
        try:
            for seed in range(self.how.n_seeds):
                result = evaluate(
                    row.model,
                    self.dataset(row.dataset),
                    protocol,
                    seed=seed,
                    parameters=parameters,
                    # The paper pre-trains on test signals too; a result says if it did.
                    transductive=row.stage1 is not None,
                    out=self.out / "results",
                    n_jobs=self.workers,
                )
                results.append(result)
        except DataError as error:  # one that fails leaves the others alone
            return Cell(row, protocol, error=str(error))
        return Cell(row, protocol, tuple(results))

    @property
    def attended(self) -> dict[str, tuple[Stage1, Path]]:
        """For each corpus the pre-training of its first row, and the folder of ``attend``."""
        found: dict[str, tuple[Stage1, Path]] = {}
        for row in self.rows:
            if row.stage1 is not None and row.dataset not in found:
                about = {
                    "stage1": self.folder(row.stage1).name,
                    "parameters": dict(self.how.parameters),
                    "window_seconds": self.how.window_seconds,
                    "target": self.targets[row.dataset],
                }
                folder = self.out / "attention" / f"{row.dataset}-{_digest(about)}"
                found[row.dataset] = row.stage1, folder
        return found

    # ---- the plan

    def plan(self, *, timed: bool = False) -> str:
        """Describe what ``run`` would do: pre-trainings, cells and fits.

        Parameters
        ----------
        timed : bool
            Say how long it would take too, from a few steps of each kind of work on this machine.
            Otherwise the tables of the stores are read and no signal.
        """
        lines = [f"{name:12} {store}" for name, store in self.stores.items()]
        lines += [f"left out     {reason}" for reason in self.missing]
        undone = [stage1 for stage1 in self.stage1s if not self.done(stage1)]
        lines += [
            f"pre-training {stage1}{'' if stage1 in undone else ' (done)'}"
            for stage1 in self.stage1s
        ]
        if undone and timed:
            from omfa.zoo.pretraining import run as pretrain

            largest = max(undone, key=lambda stage1: len(stage1.corpora))
            self.say(f"timing a few steps of the pre-training {largest}")
            text = pretrain.plan(
                [self.stores[name] for name in largest.corpora], self.settings(largest)
            )
            lines += [f"  {line}" for line in (f"{largest}, the largest:", *text.splitlines())]
        n_fits: dict[tuple[str, Protocol], int] = {}
        a_fit: dict[tuple[str, str, str | None, int], float] = {}
        for row, protocol in self.cells:
            kind = row.dataset, protocol
            if kind not in n_fits:
                self.say(f"folds of {row.dataset} under {protocol}")
                n_fits[kind] = self._n_folds(row.dataset, protocol)
            like = self._like(row, n_fits[kind])
            if timed and like not in a_fit:
                self.say(f"timing {row.model} on {row.dataset}")
                one = self._plan(row, protocol, timed=True)
                a_fit[like] = one.seconds / one.n_fits
        fits, seconds = 0, 0.0
        counted = set()  # tables share rows
        for row, protocol in self.cells:
            n_folds = n_fits[row.dataset, protocol]
            own = n_folds * self.how.n_seeds
            took = own * a_fit[self._like(row, n_folds)] if timed else 0.0
            run = (row.model, row.dataset, row.stage1, str(dict(row.parameters)), protocol)
            if run not in counted:
                counted.add(run)
                fits += own
                seconds += took
            claim = f"; the paper: {row.claim}" if row.claim else ""
            about = f", about {duration(took)}" if timed else ""
            lines.append(
                f"{row.table:9} {row.dataset:8} {row.name:40} {own:4} fits{about}, "
                f"{protocol}{claim}"
            )
        after = f", about {duration(seconds)} after the pre-training" if timed else ""
        lines.append(
            f"{len(undone)} pre-trainings, {len(self.cells)} cells of {fits} fits{after}; what is "
            "finished is read"
        )
        if not timed:
            lines.append(
                "--timed measures how long it takes on this machine, by a few steps of each"
            )
        return "\n".join(lines)

    def _like(self, row: Row, n_folds: int) -> tuple[str, str, str | None, int]:
        """Return what rows share whose fits take about as long."""
        return row.model, row.dataset, self.parameters(row).get("head"), n_folds

    def _n_folds(self, name: str, protocol: Protocol) -> int:
        """Count the folds of a corpus from its trial tables: a stream decodes nothing by itself."""
        data = self.dataset(name, "stream")
        labels = labels_of(data, None)
        return len(split(data.metadata, labels.codes, protocol, classes=labels.classes))

    def _plan(self, row: Row, protocol: Protocol, *, timed: bool) -> Plan:
        """Plan a row as if from scratch: its checkpoint may not exist yet, and changes no work."""
        parameters = self.parameters(row)
        if row.stage1 is not None:
            parameters |= _architecture(self.settings(row.stage1))
        return plan(
            row.model,
            self.dataset(row.dataset),
            protocol,
            parameters=parameters,
            n_jobs=self.workers,
            timed=timed,
        )


def _rate(store: Store) -> float:
    """Return the rate of a store's recordings in Hz; NaN if they have several, or there is none."""
    rates = store.recordings["sfreq"].dropna().unique()
    return float(rates[0]) if len(rates) == 1 else math.nan


def _architecture(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ARCHITECTURE}


def _digest(about: Any) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]


ATTENDED = 256
"""Windows, spread over a corpus, that attention is averaged over."""


def attend(
    dataset: StoreDataset, folder: Path, checkpoint: Path, parameters: Mapping[str, Any]
) -> None:
    """Fine-tune a model on all of a dataset; write its history and which channels it attends to.

    Nothing is tested. ``folder`` gets ``checkpoint/``, ``history.csv`` (a row for each epoch) and
    ``attention.csv``: for each channel the attention that it receives, where 1 is an even share,
    as the mean over ``ATTENDED`` windows spread over the dataset.
    """
    # The last file to be written: the others are there too.
    if (folder / "attention.csv").exists():
        return
    import torch

    from omfa.models.explain import channel_attention
    from omfa.zoo.checkpoints.folder import load
    from omfa.zoo.finetune import fine_tune

    tuned = folder / "checkpoint"
    if not (tuned / "card.json").exists():
        history: list[dict[str, float]] = []
        fine_tune(
            dataset,
            tuned,
            checkpoint=str(checkpoint),
            parameters=parameters,
            calibrate=False,  # its attention is what is read
            report=history.append,
        )
        write_whole(folder / "history.csv", pd.DataFrame(history).to_csv(index=False))
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(ATTENDED, len(dataset))).astype(int))
    X, present, _ = dataset.take(rows)
    heard = channel_attention(load(tuned), torch.from_numpy(X), mask=torch.from_numpy(present))
    share = (heard * torch.from_numpy(present).sum(1, keepdim=True)).mean(0)
    table = pd.DataFrame({"channel": dataset.channels, "attention": share.numpy()})
    write_whole(folder / "attention.csv", table.to_csv(index=False))
