"""Stores as moabb datasets, and a paradigm for emotion, which moabb does not have.

moabb's evaluations split epochs. Here each window is an epoch and each trial a run of its own, so
that ``groups="run"`` keeps the windows of a trial on one side; ``trial_folds`` returns the
arguments for that.

    dataset = UCSStore("deap.zarr", target="valence>5", window_seconds=4)
    evaluation = WithinSessionEvaluation(
        paradigm=EmotionParadigm(), datasets=[dataset], **trial_folds(5)
    )
"""

from __future__ import annotations

import warnings
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

from omfa.pipeline.encoding import digest
from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.store import Store
from omfa.zoo.data.braindecode_datasets import StoredRaw
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.data.targets import TargetSpec


def _gaps(stored: npt.NDArray[np.floating], sfreq: float) -> mne.Annotations:
    """Return an annotation for each stretch of missing samples, by which moabb rejects windows.

    ``stored`` is (n_chans, n_times) at ``sfreq`` Hz.
    """
    missing = np.concatenate([[False], ~np.isfinite(stored).all(axis=0), [False]])
    edges = np.flatnonzero(np.diff(missing))
    onset, length = edges[::2] / sfreq, (edges[1::2] - edges[::2]) / sfreq
    return mne.Annotations(onset, length, "BAD_missing")


class UCSStore(BaseDataset):
    """A store as a moabb dataset: windows are events, trials are runs.

    Parameters
    ----------
    store : address or Store
    target : str, Rating or mapping
        A label's column or a rule, as ``open_dataset`` takes it; it must give classes.
    window_seconds, stride_seconds : float
        Length of a window, and time from one window's start to the next; by default windows do not
        overlap.
    **options
        Further arguments of ``open_dataset``: ``channels``, ``cache``, ``storage_options``, ...
        Channels that quality control marked are kept as they are unless ``mask_bad=True``: moabb
        has no masks, and stacks recordings of the same channels only.

    Attributes
    ----------
    subject_names : dict of int to str
        The name in the store for each of moabb's subject numbers: ``{1: "sub-01"}``.
    windows : StoreDataset
        The dataset that is evaluated.
    sfreq : float
        Hz.

    Notes
    -----
    Sessions are numbered in the order of the store, and a run is named by its number in the session
    and its trial: ``"3trial4"``. Signals are in volts, as moabb expects. Channels that a recording
    lacks are zeros and marked bad; windows with missing samples are rejected, with a warning that
    counts them.

    Raises
    ------
    DataError
        As ``open_dataset``, or if the target is a number.

    Examples
    --------
    >>> from omfa.zoo import UCSStore
    >>> dataset = UCSStore("dreamer.zarr", target="valence>3", window_seconds=2)
    >>> dataset.subject_list, dataset.event_id
    ([1, 2], {'low': 1, 'high': 2})
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
        options = {"mask_bad": False} | options
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
        # moabb caches results under this code: another target or window must have another one.
        mark = digest([self.windows.recipe, [source.digest for source in self.windows.sources]])
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
        """Return a subject's runs, a trial each, by session. moabb calls it."""
        metadata = self.windows.metadata
        mine = metadata[metadata["subject"] == self.subject_names[subject]]
        data: dict[str, dict[str, mne.io.BaseRaw]] = {}
        self._n_rejected = 0
        for number, (_, session) in enumerate(mine.groupby("session")):
            runs = session.groupby(["run", "trial"], sort=False)
            data[str(number)] = {
                f"{i}trial{trial}": self._trial(table.index.to_numpy())
                for i, ((_, trial), table) in enumerate(runs)
            }
        if self._n_rejected:
            warnings.warn(
                f"{self.subject_names[subject]} of {self.code}: {self._n_rejected} of {len(mine)} "
                "windows miss samples, and moabb rejects them",
                DataWarning,
                stacklevel=2,
            )
        return data

    def _trial(self, windows: npt.NDArray[np.int64]) -> StoredRaw:
        """Return a trial's signal in volts, with an annotation at each of its windows."""
        data = self.windows
        number = int(data.source[windows[0]])
        starts = data.cuts.start[windows]
        first, last = int(starts.min()), int(starts.max()) + data.n_times
        raw = StoredRaw.of(data, number, first, last).load_data(verbose="error")
        labels = [data.classes[int(y)] for y in data.y[windows]]
        onsets = (starts - first) / self.sfreq
        gaps = _gaps(data.tier.read(number, first, last), self.sfreq)
        # Half a sample of room, for onsets are in seconds.
        begin, end = gaps.onset - 0.5 / self.sfreq, gaps.onset + gaps.duration - 0.5 / self.sfreq
        inside = (begin < onsets[:, None] + (data.n_times - 1) / self.sfreq) & (
            end > onsets[:, None]
        )
        self._n_rejected += int(inside.any(axis=1).sum())
        raw.set_annotations(mne.Annotations(onsets, data.n_times / self.sfreq, labels) + gaps)
        return raw

    def data_path(
        self,
        subject: int,
        path: Any = None,
        force_update: bool = False,
        update_path: Any = None,
        verbose: Any = None,
    ) -> list[str]:
        """Return the store's address: there is nothing to download, and no argument is used."""
        return list(self.windows.recipe["stores"])


class EmotionParadigm(BaseParadigm):
    """A moabb paradigm: classes of emotion, or of ratings by a rule, from windows of trials.

    Parameters
    ----------
    filters : sequence of (float or None, float or None)
        Edges of bands in Hz. Stores are filtered already, so by default there is no filter.
    events : sequence of str, optional
        Classes to use; by default all.
    tmin, tmax : float
        Part of each window to use, in seconds from its start; by default all. Unlike elsewhere in
        moabb ``tmax`` is exclusive: 2 s at 128 Hz are 256 samples.
    channels : sequence of str, optional
        Channels to use; by default all.
    resample : float, optional
        New sampling rate in Hz.
    scorer : optional
        A scorer as moabb takes it; by default balanced accuracy, since classes of ratings are
        seldom of one size.

    Examples
    --------
    >>> from omfa.zoo import EmotionParadigm, UCSStore
    >>> dataset = UCSStore("dreamer.zarr", target="valence>3", window_seconds=2)
    >>> EmotionParadigm().is_valid(dataset)
    True
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
        """Return whether a dataset is of emotion and has the events of this paradigm."""
        return dataset.paradigm == "emotion" and set(self.events or ()) <= set(dataset.event_id)

    def used_events(self, dataset: BaseDataset) -> dict[str, int]:
        """Return the events that are used, with their codes in the dataset."""
        return {name: dataset.event_id[name] for name in self.events or dataset.event_id}

    @property
    def datasets(self) -> list[BaseDataset]:
        """An empty list: moabb ships no dataset of emotion. Pass a ``UCSStore``."""
        return []

    @property
    def scoring(self) -> Any:
        """The scorer, or the name of one."""
        return self.scorer or "balanced_accuracy"

    def make_process_pipelines(self, dataset: Any, *args: Any, **options: Any) -> Any:
        """As moabb's, but without the sample at ``tmax``, which MNE would include.

        That needs the rate, which of all datasets only a ``UCSStore`` names.
        """
        if self.tmax is None or not hasattr(dataset, "sfreq"):
            return super().make_process_pipelines(dataset, *args, **options)
        exclusive = copy(self)
        exclusive.tmax = self.tmax - 1 / dataset.sfreq
        return super(EmotionParadigm, exclusive).make_process_pipelines(dataset, *args, **options)


def trial_folds(n_splits: int = 5, *, seed: int = 0) -> dict[str, Any]:
    """Return arguments for moabb's ``WithinSessionEvaluation`` that keep trials whole.

    By default moabb shuffles windows, so that windows of one trial are on both sides of a split.
    Signals that hold nothing but an offset per trial then score near 1.

    Parameters
    ----------
    n_splits : int
        Number of folds, with trials whole and classes balanced as far as trials allow.
    seed : int
        Seed of the shuffle of trials.

    Returns
    -------
    dict
        ``cv_class``, ``cv_kwargs`` and ``groups``.

    Examples
    --------
    >>> from omfa.zoo import trial_folds
    >>> sorted(trial_folds(3))
    ['cv_class', 'cv_kwargs', 'groups']
    """
    return {
        "cv_class": StratifiedGroupKFold,
        "cv_kwargs": {"n_splits": n_splits, "shuffle": True, "random_state": seed},
        "groups": "run",
    }
