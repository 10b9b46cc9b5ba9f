"""What evaluation asks of a dataset, and the side of a fold that a model gets to see."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.recording import DataError
from omfa.zoo.protocols.protocol import CENTRED_BY, Rows, codes

Extractor = Callable[[npt.NDArray[Any], npt.NDArray[np.bool_], float], npt.NDArray[Any]]
"""``features(X, present, sfreq)``: a batch of windows in, one row of features for each out. One
with a method ``for_windows(windows)`` is asked by it for the extractor that knows their channels;
one with a method ``centre(features)`` centres those of a subject by it, where the mean is not to be
subtracted.
"""

COLUMNS = (
    *("dataset", "subject", "session", "run", "trial", "stimulus"),
    *("i_window_in_trial", "i_start_in_trial", "i_stop_in_trial"),
)
"""What a dataset tells of each window beside its labels."""

BATCH = 256


@typing.runtime_checkable
class Dataset(typing.Protocol):
    """Windows that can be taken by position.

    Attributes
    ----------
    metadata : pandas.DataFrame
        A row per window with the columns of ``COLUMNS``, ``target``, and labels and ratings.
        ``dataset, subject, session, run, trial`` together name a trial; ``i_start_in_trial`` and
        ``i_stop_in_trial`` are samples from the start of the recording, as braindecode has them.
    sfreq : float
        Hz.
    channels : sequence of str
    recipe : mapping, optional
        JSON arguments with which ``open_dataset`` opens the same dataset again.
    classes : sequence of str, optional
        Names of the classes that ``target`` numbers; empty if it numbers none.
    target : optional
        Its ``rule`` says how ``target`` was made.
    """

    @property
    def metadata(self) -> pd.DataFrame:
        """A row per window."""

    @property
    def sfreq(self) -> float:
        """Hz."""

    @property
    def channels(self) -> Sequence[str]:
        """The rows of a window."""

    def take(
        self, indices: npt.ArrayLike, /
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Any]:
        """Return windows (batch, n_chans, n_times) in microvolts, which channels exist, labels."""


class ArrayDataset:
    """Windows held in memory.

    Parameters
    ----------
    X : ndarray of float, shape (n_windows, n_chans, n_times)
        Microvolts.
    metadata : pandas.DataFrame
        As ``Dataset`` has it, a row per window.
    sfreq : float
        Hz.
    channels : sequence of str
    present : ndarray of bool, shape (n_windows, n_chans), optional
        Which channels exist; all, if not given.
    """

    def __init__(
        self,
        X: npt.NDArray[np.floating],
        metadata: pd.DataFrame,
        *,
        sfreq: float,
        channels: Sequence[str],
        present: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.X, self.metadata = np.asarray(X, dtype=np.float32), metadata
        self.sfreq, self.channels = sfreq, list(channels)
        self.present = np.ones(X.shape[:2], dtype=bool) if present is None else present
        if X.shape[:2] != (len(metadata), len(channels)) or self.present.shape != X.shape[:2]:
            raise DataError(
                f"Holding windows of shape {X.shape}",
                f"there are {len(metadata)} rows of metadata, {len(channels)} channels, and "
                f"{self.present.shape} marks of presence",
                "Give a row of metadata for each window and a name for each channel",
            )

    def take(
        self, indices: npt.ArrayLike, /
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[Any]]:
        """Return windows, which channels exist, and targets."""
        rows = np.asarray(indices)
        return self.X[rows], self.present[rows], self.metadata["target"].to_numpy()[rows]


class Windows:
    """One side of a fold, as a model sees it: signals, and classes unless it is the test side.

    Parameters
    ----------
    dataset : Dataset
    rows : ndarray of int
        Positions of this side's windows in the dataset.
    classes : tuple of str
        Names of the classes 0, 1, ...
    y : ndarray of int or None
        Classes of ``rows``; None on the test side.
    features : mapping of str to ndarray, optional
        Features of all windows of the dataset that have been computed already, by ``feature_name``.
    centred : {"subject", "session"} or None
        Whose windows on this side the features are centred over; signals are given as they are.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Rows,
        *,
        classes: tuple[str, ...],
        y: Rows | None = None,
        features: Mapping[str, npt.NDArray[Any]] | None = None,
        centred: str | None = None,
    ) -> None:
        self.dataset, self.rows, self.classes = dataset, rows, classes
        self._y, self._features, self._centred = y, features or {}, centred

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def y(self) -> Rows:
        """Classes, shape (n_windows,); the test side has none to show."""
        if self._y is None:
            raise AttributeError("the classes of the test side are not for the model to see")
        return self._y

    @property
    def sfreq(self) -> float:
        """Hz."""
        return self.dataset.sfreq

    @property
    def channels(self) -> Sequence[str]:
        """The rows of a window."""
        return self.dataset.channels

    @property
    def metadata(self) -> pd.DataFrame:
        """Who, when and what was shown, a row per window; without labels."""
        return self.dataset.metadata.iloc[self.rows][list(COLUMNS)].reset_index(drop=True)

    def take(
        self, indices: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return windows by their position on this side, and which channels exist."""
        X, present, _ = self.dataset.take(self.rows[indices])
        return X, present

    def at(self, indices: npt.NDArray[np.int64]) -> Windows:
        """Return some windows of this side, by position."""
        return Windows(
            self.dataset,
            self.rows[indices],
            classes=self.classes,
            y=None if self._y is None else self._y[indices],
            features=self._features,
            centred=self._centred,
        )

    def joined(self, other: Windows) -> Windows:
        """Return this side and another as one."""
        return Windows(
            self.dataset,
            np.concatenate([self.rows, other.rows]),
            classes=self.classes,
            y=np.concatenate([self.y, other.y]),
            features=self._features,
            centred=self._centred,
        )

    def batches(
        self, size: int = BATCH
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
        """Yield windows (batch, n_chans, n_times), and which channels exist (batch, n_chans)."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def features(self, extract: Extractor) -> npt.NDArray[Any]:
        """Return ``extract`` of every window, from memory where it has been computed before.

        Centred over the windows of each subject or session, if the protocol says so.
        """
        if (known := self._features.get(feature_name(extract))) is not None:
            return self._centre(known[self.rows], extract)
        if (bind := getattr(extract, "for_windows", None)) is not None:
            extract = bind(self)
        found = [extract(X, there, self.sfreq) for X, there in self.batches()]
        return self._centre(np.concatenate(found), extract)

    def _centre(self, values: npt.NDArray[Any], extract: Extractor) -> npt.NDArray[Any]:
        if self._centred is None:
            return values
        of = codes(self.dataset.metadata.iloc[self.rows], CENTRED_BY[self._centred])
        return centred(values, of, getattr(extract, "centre", None))


def centred(
    values: npt.NDArray[Any],
    of: Rows,
    centre: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]] | None = None,
) -> npt.NDArray[np.float32]:
    """Centre the rows of each group: subtract their mean, or what else ``centre`` does.

    Parameters
    ----------
    values : ndarray of float, shape (n, ...)
    of : ndarray of int, shape (n,)
        Each row's group, 0, 1, ...
    centre : callable, optional

    Returns
    -------
    ndarray of float32, shape (n, ...)
    """
    out = values.astype(np.float32)
    for one in range(of.max(initial=-1) + 1):
        out[of == one] = (centre or _less_mean)(out[of == one])
    return out


def _less_mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Subtract the mean over windows; what is absent, NaN, is in none."""
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=0, dtype=np.float64)
    mean = total / np.maximum(there.sum(axis=0), 1)
    return (values - mean).astype(np.float32)


def feature_name(extract: Extractor) -> str:
    """Name an extractor, so that its features are computed once."""
    return f"{extract.__module__}:{getattr(extract, '__qualname__', repr(extract))}"


class Estimator(typing.Protocol):
    """A model that can be evaluated.

    ``fit`` learns from ``train`` and chooses (when to stop, how much to regularise) on
    ``validation``; ``predict`` returns a class per window. An attribute ``features``, an
    extractor, is computed once for all folds.
    """

    def fit(self, train: Windows, validation: Windows) -> Any:
        """Learn."""

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return a class for each window, shape (n_windows,)."""


def check_dataset(dataset: Dataset) -> None:
    """Refuse a dataset whose metadata cannot be split.

    Raises
    ------
    DataError
        If a column is missing, or a part of a trial's name is.
    """
    metadata = dataset.metadata
    doing = f"Reading the metadata of {len(metadata)} windows"
    if missing := [name for name in COLUMNS if name not in metadata]:
        raise DataError(
            doing, f"it lacks {', '.join(missing)}", "Open the stores with open_dataset()"
        )
    for name in COLUMNS[:5]:
        if metadata[name].isna().any():
            raise DataError(
                doing,
                f"{int(metadata[name].isna().sum())} windows have no {name}",
                "Give every recording and trial a name",
            )
