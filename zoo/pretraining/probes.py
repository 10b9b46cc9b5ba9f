"""Linear probes: what a frozen encoder's embeddings tell beside what a model is told anyway.

A probe is logistic regression on the mean over a window's channels, scored by balanced accuracy on
held-out subjects for the task, held-out trials for the subject, and held-out recordings for the
dataset. Band powers reach the graph as side features whatever the encoder does, so that a task that
they tell says nothing of the encoder. Its probe is therefore the gain over side features alone, and
what an embedding tells without all that a quadratic of its side features explains. Pre-training is
to raise these and not the subject's or dataset's; a dataset at 100 % means that the encoder
recognises the amplifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from itertools import chain, pairwise
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_only
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from omfa.models.front_end import N_SIDE
from omfa.pipeline.errors import DataError
from omfa.pipeline.store import Store, open_store
from omfa.pipeline.words import nearest
from omfa.zoo.data.dataset import StoreDataset
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.estimators.embeddings import Embeddings
from omfa.zoo.protocols.held_out import BENCHMARK, held_out_names
from omfa.zoo.protocols.protocol import RECORDING, SUBJECT, TRIAL, codes

Features = npt.NDArray[np.float32]

N_WINDOWS = 400
"""Windows of a dataset, evenly spread, that its probes are made of."""


def embed(
    encoder: nn.Module, data: StoreDataset, rows: npt.NDArray[np.int64]
) -> tuple[Features, Features]:
    """Embed windows.

    Returns
    -------
    h : ndarray of float32, shape (n_windows, n_chans, dim)
        Embeddings; NaN where a channel is absent.
    side : ndarray of float32, shape (n_windows, n_chans, 6)
        Side features but the rate, which is the same within a recording.
    """
    # As many as the training has: more than there are cores free wait for each other.
    extract = Embeddings(encoder, threads=torch.get_num_threads())
    found: Features = np.empty((len(rows), 0, 0), np.float32)
    rate = data.rates[data.source[rows]]
    for sfreq in np.unique(rate):
        of_rate = np.flatnonzero(rate == sfreq)
        for among in np.array_split(of_rate, max(1, len(of_rate) // 64)):
            X, present, _ = data.take(rows[among])
            features = extract(X, present, float(sfreq)).astype(np.float32)
            if not found.size:
                found = np.full((len(rows), *features.shape[1:]), np.nan, np.float32)
            found[among] = features
    return found[..., :-N_SIDE], found[..., -N_SIDE:-1]


def residual(h: Features, side: Features) -> Features:
    """Take out of embeddings what a quadratic of the same channel's side features explains.

    Parameters
    ----------
    h, side : ndarray, shape (..., dim) and (..., n_side)
        NaN where a channel is absent.

    Returns
    -------
    ndarray of float32, shape (..., dim)
        What least squares over all channels leaves.
    """
    there = np.isfinite(h).all(-1) & np.isfinite(side).all(-1)
    s = side[there].astype(np.float64)
    s = (s - s.mean(0)) / (s.std(0) + 1e-6)
    first, second = np.triu_indices(s.shape[1])
    known = np.column_stack([np.ones(len(s)), s, s[:, first] * s[:, second]])
    left = np.full_like(h, np.nan)
    left[there] = h[there] - known @ np.linalg.lstsq(known, h[there], rcond=None)[0]
    return left


def _mean(features: Features) -> Features:
    """Average over a window's channels, shape (n_windows, dim); 0 for one without any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nan_to_num(np.nanmean(features, axis=1))


def probe(
    encoder: nn.Module,
    stores: Sequence[str],
    window_seconds: float,
    *,
    targets: Mapping[str, Any] | None = None,
    hold_out: Sequence[str] = (),
) -> dict[str, float]:
    """Probe an encoder.

    Parameters
    ----------
    encoder : nn.Module
    stores : sequence of address
    window_seconds : float
    targets : mapping, optional
        For each dataset by name what its task is, as ``open_dataset`` takes it. A dataset that is
        not named has no probe of a task.
    hold_out : sequence of str
        ``"dataset/subject"`` of those whose recordings are not opened, with ``*`` and ``?``,
        or ``"benchmark"``: those that pre-training leaves out are for tables, and nobody chooses
        anything by them.

    Returns
    -------
    dict of str to float
        Balanced accuracy: ``"probe_side/DATASET"`` is the task's from side features alone,
        ``"probe_gain/DATASET"`` what embeddings beside them add to it,
        ``"probe_residual/DATASET"`` the task's from what side features do not explain of the
        embeddings; ``"probe_subject/DATASET"`` and ``"probe_dataset"`` are of the embeddings. What
        a store cannot tell, having one subject or one class, is left out.
    """
    was_training = encoder.training
    device = next(encoder.parameters()).device
    scores: dict[str, float] = {}
    parts: list[tuple[npt.NDArray[np.float32], pd.DataFrame]] = []
    for store in _without(stores, hold_out):
        target = (targets or {}).get(store.name)
        data = open_dataset(store, window_seconds, **_NATIVE, target=target)
        rows = np.unique(np.linspace(0, len(data) - 1, N_WINDOWS).astype(np.int64))
        names = data.metadata.iloc[rows].reset_index(drop=True)
        each, side_each = embed(encoder, data, rows)
        h, side, rest = _mean(each), _mean(side_each), _mean(residual(each, side_each))
        name = str(names["dataset"].iloc[0])
        subject = codes(names, SUBJECT)
        scores[f"probe_subject/{name}"] = _score(h, subject, codes(names, TRIAL))
        if data.classes:
            y = names["target"].to_numpy(np.int64)
            scores[f"probe_side/{name}"] = alone = _score(side, y, subject)
            scores[f"probe_gain/{name}"] = _score(h, y, subject, beside=side) - alone
            scores[f"probe_residual/{name}"] = _score(rest, y, subject)
        parts.append((h, names))
    names = pd.concat([part[1] for part in parts], ignore_index=True)
    scores["probe_dataset"] = _score(
        np.concatenate([part[0] for part in parts]),
        codes(names, ("dataset",)),
        codes(names, RECORDING),
    )
    # Embeddings left it in evaluation mode, and on the device of its own choice.
    encoder.to(device).train(was_training)
    return {key: value for key, value in scores.items() if np.isfinite(value)}


def check_tasks(
    stores: Sequence[str],
    window_seconds: float,
    targets: Mapping[str, Any] | None,
    hold_out: Sequence[str] = (),
) -> None:
    """Refuse targets of probes that would tell nothing, before the training that they watch.

    Parameters
    ----------
    stores, window_seconds, targets, hold_out
        As for ``probe``.

    Raises
    ------
    DataError
        If a dataset is not among the stores, or all of it is held out, or a target makes no classes
        there.
    """
    if not targets:
        return
    opened: dict[str, list[Store]] = {}
    for store in _without(stores, hold_out):
        opened.setdefault(store.name, []).append(store)
    for name, target in targets.items():
        doing = f"Preparing the probe {name}={target}"
        if name not in opened:
            raise DataError(
                doing,
                f"{name!r} is no dataset of these stores that is learned from"
                f"{nearest(name, opened)}",
                f"Name one of {', '.join(opened) or 'none: all are held out'}",
            )
        for store in opened[name]:
            data = open_dataset(store, window_seconds, **_NATIVE, target=target)
            if not data.classes:
                raise DataError(doing, "it makes numbers, no classes", "Cut them: valence>5")


_NATIVE: dict[str, Any] = {"channels": "native", "rates": "native", "cache": "stream"}
"""How a probe opens a store: as it is, decoding what it reads."""


def _without(stores: Sequence[str], hold_out: Sequence[str]) -> Iterator[Store]:
    """Open stores without the recordings of those held out; a store that is all held out not."""
    named = [held_out_names() if one == BENCHMARK else [one] for one in hold_out]
    patterns = list(chain.from_iterable(named))
    for address in stores:
        store = open_store(address)
        who = f"{store.name}/sub-" + store.recordings["subject"].astype(str)
        held = who.map(lambda name: any(fnmatch(name, pattern) for pattern in patterns))
        if len(kept := store.keep(store.recordings.index[~held.astype(bool)])):
            yield kept


def _score(
    h: Features,
    y: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    *,
    beside: Features | None = None,
) -> float:
    """Score logistic regression with whole groups held out; NaN if that cannot be."""
    per_class = [len(np.unique(groups[y == value])) for value in np.unique(y)]
    if len(per_class) < 2 or min(per_class) < 2:
        return np.nan
    kinds = [h] if beside is None else [beside, h]
    edges = np.cumsum([0, *(kind.shape[1] for kind in kinds)]).tolist()
    scaled = [(str(edge), StandardScaler(), slice(edge, end)) for edge, end in pairwise(edges)]
    # Each kind of feature weighs alike, however many numbers it has.
    weights = {name: (at.stop - at.start) ** -0.5 for name, _, at in scaled}
    model = make_pipeline(
        ColumnTransformer(scaled, transformer_weights=weights),
        # As strong as C=0.1 on 64 features that are not scaled down.
        LogisticRegression(C=6.4, class_weight="balanced", max_iter=1000),
    )
    with warnings.catch_warnings():
        # Few groups: a fold without a class, or a fit cut short, costs precision and no more.
        warnings.simplefilter("ignore")
        # As few as the rarest class has groups, so that each fold can have one of them.
        folds = StratifiedGroupKFold(min(5, *per_class))
        found = cross_val_predict(model, np.hstack(kinds), y, groups=groups, cv=folds)
        return float(balanced_accuracy_score(y, found))


class Probes(L.Callback):
    """Probes the encoder of a pre-training every so many steps.

    Parameters
    ----------
    stores, window_seconds, targets, hold_out
        As for ``probe``.
    every : int
        Steps.
    """

    def __init__(
        self,
        stores: Sequence[str],
        window_seconds: float,
        every: int,
        targets: Mapping[str, Any] | None = None,
        hold_out: Sequence[str] = (),
    ) -> None:
        self.stores, self.window_seconds = list(stores), window_seconds
        self.every, self.targets, self.hold_out = every, targets, tuple(hold_out)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        """Probe on the first process and log."""
        step = trainer.global_step
        if step and step % self.every == 0:
            self._probe(trainer, pl_module)
            trainer.strategy.barrier()

    @rank_zero_only
    def _probe(self, trainer: L.Trainer, pl_module: Any) -> None:
        found = probe(
            pl_module.encoder,
            self.stores,
            self.window_seconds,
            targets=self.targets,
            hold_out=self.hold_out,
        )
        for logger in trainer.loggers:
            # The step has been counted by now: less 1, its probes stand in the row of its loss.
            logger.log_metrics(found, step=trainer.global_step - 1)
