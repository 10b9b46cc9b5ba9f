"""Stores as moabb datasets, and a paradigm for emotion, which moabb does not have.

moabb's evaluations split epochs. Here each window is an epoch and each trial a run of its own, so
that ``groups="run"`` keeps the windows of a clip on one side; ``trial_folds`` gives the arguments.

    dataset = UCSStore("deap.zarr", target="valence>5", window_seconds=4)
    evaluation = WithinSessionEvaluation(
        paradigm=EmotionParadigm(), datasets=[dataset], **trial_folds(5)
    )
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import mne
import numpy as np
import numpy.typing as npt
from moabb.datasets.base import BaseDataset
from moabb.paradigms.base import BaseParadigm
from sklearn.model_selection import StratifiedGroupKFold

from omfa.pipeline.errors import DataError
from omfa.pipeline.store import Store
from omfa.zoo.data.braindecode_datasets import StoredRaw
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.data.targets import TargetSpec
from omfa.zoo.data.trials import json_digest


class UCSStore(BaseDataset):
    """A store as a moabb dataset: windows are events, trials are runs.

    Parameters
    ----------
    store : address or Store
    target : str, Rating or mapping
        A label's column or a rule, as ``open_dataset`` takes it; it must give classes.
    window_seconds, stride_seconds : float
        The stride is by default the window.
    **options
        Further arguments of ``open_dataset``: ``channels``, ``cache``, ``storage_options``, ...

    Attributes
    ----------
    subject_names : dict of int to str
        The store's name of each of moabb's subject numbers: ``{1: "sub-01"}``.
    windows : StoreDataset
    sfreq : float
        Hz.

    Notes
    -----
    Sessions are numbered in the order of the store's, and a run is called by its number in the
    session and its trial: ``"3trial4"``. Signals are in volts, as moabb has them. Channels that a
    recording lacks are zeros and marked bad; windows with missing samples are rejected.

    Raises
    ------
    DataError
        As ``open_dataset``, or if the target is a number.
    """

    def __init__(
        self,
        store: str | Path | Store,
        *,
        target: TargetSpec,
        window_seconds: float,
        stride_seconds: float | None = None,
        **options: Any,
    ) -> None:
        self.windows = open_dataset(store, window_seconds, stride_seconds, target=target, **options)
        if not self.windows.classes:
            raise DataError(
                f"Making a moabb dataset of {self.windows!r}",
                "its target is not a class, and moabb classifies",
                "Give a rule such as target='valence>5'",
            )
        self.sfreq = self.windows.sfreq
        metadata = self.windows.metadata
        self.subject_names = dict(enumerate(sorted(metadata["subject"].unique()), start=1))
        sessions = metadata.groupby("subject")["session"].nunique()
        name = str(metadata["dataset"].iloc[0])
        # moabb keeps results by the code: another target or window must not find them.
        mark = json_digest([self.windows.recipe, [s.digest for s in self.windows.sources]])
        super().__init__(
            subjects=list(self.subject_names),
            sessions_per_subject=int(sessions.min()),
            events={label: i for i, label in enumerate(self.windows.classes, start=1)},
            code=f"UCSStore-{''.join(c for c in name if c.isalnum())}-{mark[:8]}",
            # moabb's intervals include their last sample.
            interval=[0, (self.windows.n_times - 1) / self.sfreq],
            paradigm="emotion",
        )

    def _get_single_subject_data(self, subject: int) -> dict[str, dict[str, mne.io.BaseRaw]]:
        metadata = self.windows.metadata
        mine = metadata[metadata["subject"] == self.subject_names[subject]]
        data: dict[str, dict[str, mne.io.BaseRaw]] = {}
        for number, (_, session) in enumerate(mine.groupby("session")):
            runs = session.groupby(["run", "trial"], sort=False)
            data[str(number)] = {
                f"{i}trial{trial}": self._trial(table.index.to_numpy())
                for i, ((_, trial), table) in enumerate(runs)
            }
        return data

    def _trial(self, windows: npt.NDArray[np.int64]) -> StoredRaw:
        """Return a trial's signal in volts, an annotation at each window."""
        data = self.windows
        number = int(data.source[windows[0]])
        starts = data.cuts.start[windows]
        first, last = int(starts.min()), int(starts.max()) + data.n_times
        raw = StoredRaw.of(data, number, first, last).load_data(verbose="error")
        labels = [data.classes[int(y)] for y in data.y[windows]]
        onsets = (starts - first) / self.sfreq
        raw.set_annotations(
            mne.Annotations(onsets, data.n_times / self.sfreq, labels)
            + _gaps(data.tier.read(number, first, last), self.sfreq)
        )
        return raw

    def data_path(
        self,
        subject: int,
        path: Any = None,
        force_update: bool = False,
        update_path: Any = None,
        verbose: Any = None,
    ) -> list[str]:
        """Return the store's address; there is nothing to download."""
        return list(self.windows.recipe["stores"])


def _gaps(stored: npt.NDArray[np.floating], sfreq: float) -> mne.Annotations:
    """Return an annotation, by which moabb rejects windows, at each stretch of missing samples."""
    missing = np.concatenate([[False], ~np.isfinite(stored).all(axis=0), [False]])
    edges = np.flatnonzero(np.diff(missing))
    onset, length = edges[::2] / sfreq, (edges[1::2] - edges[::2]) / sfreq
    return mne.Annotations(onset, length, "BAD_missing")


class EmotionParadigm(BaseParadigm):
    """Classes of emotion, or of ratings by a rule, from windows of trials.

    Parameters
    ----------
    filters : sequence of (float or None, float or None)
        Bands in Hz. Stores are filtered already, so by default none.
    events : sequence of str, optional
        Classes to use; by default all.
    tmin, tmax : float
        Seconds of a window to use. Unlike elsewhere in moabb ``tmax`` is exclusive: 2 s at 128 Hz
        are 256 samples. By default the whole window.
    channels : sequence of str, optional
    resample : float, optional
        Hz.
    scorer : optional
        What moabb takes; by default balanced accuracy, as classes of ratings are seldom even.
    """

    def __init__(
        self,
        filters: Sequence[tuple[float | None, float | None]] = ((None, None),),
        *,
        events: Sequence[str] | None = None,
        tmin: float = 0.0,
        tmax: float | None = None,
        channels: Sequence[str] | None = None,
        resample: float | None = None,
        scorer: Any = None,
    ) -> None:
        super().__init__(
            filters=list(filters),
            events=list(events) if events else None,
            tmin=tmin,
            tmax=tmax,
            channels=list(channels) if channels else None,
            resample=resample,
            scorer=scorer,
        )

    def is_valid(self, dataset: BaseDataset) -> bool:
        """Whether a dataset is of emotion and has the events asked for."""
        return dataset.paradigm == "emotion" and set(self.events or ()) <= set(dataset.event_id)

    def used_events(self, dataset: BaseDataset) -> dict[str, int]:
        """Return the events in use, with their codes."""
        return {name: dataset.event_id[name] for name in self.events or dataset.event_id}

    @property
    def datasets(self) -> list[BaseDataset]:
        """None: moabb ships no dataset of emotion. Pass a ``UCSStore``."""
        return []

    @property
    def scoring(self) -> Any:
        """The scorer."""
        return self.scorer or "balanced_accuracy"

    def _get_epochs_pipeline(self, return_epochs: bool, return_raws: bool, dataset: Any) -> Any:
        """Cut to ``tmax`` without its last sample, which MNE would include."""
        if self.tmax is None or not hasattr(dataset, "sfreq"):
            return super()._get_epochs_pipeline(return_epochs, return_raws, dataset)
        exclusive = copy(self)
        exclusive.tmax = self.tmax - 1 / dataset.sfreq
        return BaseParadigm._get_epochs_pipeline(exclusive, return_epochs, return_raws, dataset)


def trial_folds(n_splits: int = 5, *, seed: int = 0) -> dict[str, Any]:
    """Return arguments for moabb's ``WithinSessionEvaluation`` that keep trials whole.

    Without them moabb shuffles windows, and windows of one clip come to lie on both sides: on
    signals that carry nothing but an offset per trial that scores near 1.

    Parameters
    ----------
    n_splits : int
        Folds of trials, their classes balanced as far as trials allow.
    seed : int
    """
    return {
        "cv_class": StratifiedGroupKFold,
        "cv_kwargs": {"n_splits": n_splits, "shuffle": True, "random_state": seed},
        "groups": "run",
    }
