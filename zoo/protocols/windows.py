"""What evaluation asks of datasets, extractors and models, and what a model gets to see.

``Dataset``, ``Extractor`` and ``Estimator`` declare all that evaluation uses, with defaults. One's
own may lack what has a default, and an extractor may be a plain function: ``as_dataset``,
``as_extractor`` and ``as_estimator`` fill the defaults in, each in one place.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.signal_path import SignalPath
from omfa.zoo.protocols.identity import Recorded
from omfa.zoo.protocols.protocol import CENTRED_BY, TRIAL, Rows, codes

COLUMNS = (*TRIAL, "stimulus", "i_window_in_trial", "i_start_in_trial", "i_stop_in_trial")
"""The columns of a dataset's metadata that are no labels."""

BATCH = 256
"""Windows that are read, or given to a model, at once."""


class Dataset(ABC):
    """Windows that can be taken by position.

    One's own needs ``metadata``, ``sfreq``, ``channels`` and ``take``; the rest has defaults.

    Attributes
    ----------
    metadata : pandas.DataFrame
        A row per window with the columns of ``COLUMNS``, ``target``, and labels and ratings.
        ``dataset, subject, session, run, trial`` together name a trial; ``i_start_in_trial`` and
        ``i_stop_in_trial`` are samples from the start of the recording, as braindecode has them.
    sfreq : float
        Hz.
    channels : sequence of str
    recipe : mapping or None
        JSON arguments with which ``open_dataset`` opens the same dataset again.
    classes : sequence of str or None
        Names of the classes that ``target`` numbers; empty if it numbers none, None if the values
        of ``target`` are the classes.
    rule : str
        How ``target`` was made, in words.
    paths : sequence of SignalPath
        What was done to the signals, each way once; empty where that is not known.
    simulated : bool
        Whether any of the signals are simulated.
    chs_info : list of dict or None
        ``ch_name``, ``kind`` and ``loc`` of each channel, as braindecode's models take them; None
        where the names alone are known.
    recorded : sequence of Recorded
        The recordings that it was made of, with their digests, by which data are known again under
        another name. Those that have windows are called as the metadata's ``dataset`` and
        ``subject_session_run``. Empty where no digests are known.
    known_features : KnownFeatures or None
        The features that were last computed of it. ``evaluate`` keeps them here if there is a
        recipe: signals of stores do not change.
    """

    recipe: Mapping[str, Any] | None = None
    known_features: KnownFeatures | None = None

    @property
    @abstractmethod
    def metadata(self) -> pd.DataFrame:
        """A row per window."""

    @property
    @abstractmethod
    def sfreq(self) -> float:
        """Hz."""

    @property
    @abstractmethod
    def channels(self) -> Sequence[str]:
        """The rows of a window."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes."""
        return None

    @property
    def rule(self) -> str:
        """How the target was made."""
        return "the dataset's target"

    @property
    def paths(self) -> Sequence[SignalPath]:
        """What was done to the signals; empty where that is not known."""
        return ()

    @property
    def simulated(self) -> bool:
        """Whether any of the signals are simulated."""
        return False

    @property
    def recorded(self) -> Sequence[Recorded]:
        """The recordings with their digests."""
        return ()

    @property
    def chs_info(self) -> list[dict[str, Any]] | None:
        """Names and places of the channels."""
        return None

    @abstractmethod
    def take(
        self, indices: npt.ArrayLike, /
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Any]:
        """Read windows.

        Parameters
        ----------
        indices : array of int, shape (batch,)

        Returns
        -------
        X : ndarray of float32, shape (batch, n_chans, n_times)
            Microvolts.
        present : ndarray of bool, shape (batch, n_chans)
            Which channels exist.
        y : sequence, shape (batch,)
            Labels.
        """


class KnownFeatures:
    """Features of some windows of a dataset, in a mapped file that is deleted with this object.

    Attributes
    ----------
    extract : Extractor or function
    rows : ndarray of int, shape (n_rows,)
        The windows that have features. They serve exactly these: batching other windows can change
        the last bit of a sum.
    path : Path
        A ``.npy`` file, shape (n_windows, ...).
    """

    def __init__(self, extract: Extract, rows: Rows) -> None:
        self.extract, self.rows = extract, rows
        folder = tempfile.mkdtemp(prefix="omfa-")
        # A file, not an array: worker processes map it, and get no copy each.
        self.path = Path(folder) / "features.npy"
        # At the latest when the process ends, where __del__ may never be called.
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # A dataset that is sent to workers leaves them behind: an extractor may hold an encoder,
        # and the file would be gone with this process.
        return type(None), ()


def _of_own(name: str) -> Any:
    """Make a property that reads a member of one's own dataset, or else ``Dataset``'s default."""
    return property(lambda self: getattr(self.own, name, getattr(super(_OwnDataset, self), name)))


class _OwnDataset(Dataset):
    """A dataset of one's own, which may lack what has a default."""

    metadata, sfreq, channels = map(_of_own, ("metadata", "sfreq", "channels"))
    recipe, classes, rule = map(_of_own, ("recipe", "classes", "rule"))
    simulated, recorded, chs_info, paths = map(
        _of_own, ("simulated", "recorded", "chs_info", "paths")
    )

    def __init__(self, own: Any) -> None:
        self.own = own

    def take(
        self, indices: npt.ArrayLike, /
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Any]:
        return self.own.take(indices)


def as_dataset(dataset: Any) -> Dataset:
    """Return a dataset with all that ``Dataset`` declares."""
    return dataset if isinstance(dataset, Dataset) else _OwnDataset(dataset)


def check_dataset(dataset: Dataset) -> None:
    """Refuse a dataset whose metadata cannot be split.

    Raises
    ------
    DataError
        If a column is missing, or a window's trial has no name.
    """
    metadata = dataset.metadata
    doing = f"Reading the metadata of {len(metadata)} windows"
    if missing := [name for name in COLUMNS if name not in metadata]:
        raise DataError(
            doing, f"it lacks {', '.join(missing)}", "Open the stores with open_dataset()"
        )
    for name in TRIAL:
        if metadata[name].isna().any():
            raise DataError(
                doing,
                f"{int(metadata[name].isna().sum())} windows have no {name}",
                "Give every recording and trial a name",
            )


PLAUSIBLE = (0.1, 5000.0)
"""Microvolts RMS that a channel may have, as the models have it; a test compares the two."""

EQUAL = 1e-3
"""How little the channels of standardised windows differ, as the models have it."""


def doubtful_unit(windows: Windows) -> str:
    """Say that signals are not in microvolts, if they look so; else return nothing.

    The median over 16 windows and their channels of the deviation from the mean decides; where all
    of three or more have mean 0 and deviation 1, windows were standardised.
    """
    some = np.unique(np.linspace(0, len(windows) - 1, 16).astype(np.int64))
    found = doubtful_amplitude(*windows.take(some))
    return f"{found[0].upper()}{found[1:]}. Scale them to microvolts." if found else ""


def doubtful_amplitude(X: npt.NDArray[np.floating], present: npt.NDArray[np.bool_]) -> str:
    """Say that signals are not in microvolts, if they look so; else return nothing.

    Parameters
    ----------
    X : ndarray of float, shape (n_windows, n_chans, n_times)
    present : ndarray of bool, shape (n_windows, n_chans)
    """
    deviation = X.std(axis=-1, dtype=np.float64)[present]
    mean = X.mean(axis=-1, dtype=np.float64)[present]
    recorded = np.isfinite(deviation) & (deviation > 0)
    deviation, mean = deviation[recorded], mean[recorded]
    if not deviation.size:
        return ""
    # A deviation over n - 1 samples is 1 where that over n is a little less: equal, and near 1.
    near = np.ptp(deviation) < EQUAL and abs(deviation[0] - 1) < 10 * EQUAL
    if len(deviation) >= 3 and near and np.abs(mean).max() < EQUAL:
        return (
            "The signals look standardised: all channels have mean 0 and deviation 1 within each "
            "window, which takes away their power. Give the microvolts from before."
        )
    low, high = PLAUSIBLE
    if low <= (typical := float(np.median(deviation))) <= high:
        return ""
    unit = "volts" if typical < 1e-3 else "millivolts" if typical < low else "nanovolts"
    return (
        f"the signals look like {unit}: a channel has {typical:.2g} RMS, and scalp EEG has some 1 "
        "to 100 microvolts"
    )


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

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from omfa.zoo import ArrayDataset
    >>> who = {"dataset": "mine", "subject": "01", "session": "1", "run": "1", "stimulus": ""}
    >>> window = {"i_start_in_trial": 0, "i_stop_in_trial": 256, "target": 0}
    >>> rows = pd.DataFrame([{**who, **window, "trial": i} for i in range(4)])
    >>> X = np.zeros((4, 2, 256), np.float32)
    >>> data = ArrayDataset(X, rows, sfreq=128.0, channels=["C3", "C4"])
    >>> data.take([0, 1])[0].shape
    (2, 2, 256)
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
        """Read windows, as ``Dataset.take`` does; the labels are the targets, shape (batch,)."""
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
        By ``feature_name``, features that have been computed already, a row per window of the
        dataset.
    centred : {"subject", "session"} or None
        The group over whose windows on this side features are centred; signals stay as they are.

    Examples
    --------
    >>> from omfa.zoo import Windows, open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> windows = Windows(data, data.y.argsort()[:4], classes=data.classes)
    >>> len(windows), windows.sfreq
    (4, 128.0)
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
        self.dataset, self.rows, self.classes = as_dataset(dataset), rows, classes
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
        """Read windows.

        Parameters
        ----------
        indices : ndarray of int, shape (batch,)
            Positions on this side.

        Returns
        -------
        X : ndarray of float32, shape (batch, n_chans, n_times)
            Microvolts.
        present : ndarray of bool, shape (batch, n_chans)
            Which channels exist.
        """
        X, present, _ = self.dataset.take(self.rows[indices])
        return X, present

    def at(self, indices: npt.NDArray[np.int64]) -> Windows:
        """Return the windows at some positions of this side, shape (n,), as a side of their own."""
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

    def features(self, extract: Extract) -> npt.NDArray[Any]:
        """Return ``extract`` of every window, from memory where it has been computed before.

        Centred over the windows of each subject or session, if the protocol says so.
        """
        extractor = as_extractor(extract)
        if (known := self._features.get(feature_name(extract))) is not None:
            values = known[self.rows]
        else:
            bound = extractor.for_windows(self)
            values = np.concatenate([bound(X, there, self.sfreq) for X, there in self.batches()])
        if self._centred is None:
            return values
        groups = codes(self.dataset.metadata.iloc[self.rows], CENTRED_BY[self._centred])
        return centred(values, groups, extractor.centre)

    def features_of_all(
        self, sides: Sequence[Windows], extract: Extract
    ) -> tuple[npt.NDArray[Any], list[Rows]]:
        """Return ``extract`` of several sides, of a window that several have once.

        Parameters
        ----------
        sides : sequence of Windows
            Of this dataset, centred as this side is. What is centred is each side's own.
        extract : Extractor or function

        Returns
        -------
        ndarray, shape (n_rows, ...)
        list of ndarray of int, shape (n_windows,)
            For each side the rows of its windows.
        """
        if self._centred is not None:
            ends = np.cumsum([len(side) for side in sides])
            rows = [np.arange(end - len(side), end) for end, side in zip(ends, sides, strict=True)]
            return np.concatenate([side.features(extract) for side in sides]), rows
        shared = np.unique(np.concatenate([side.rows for side in sides]))
        whole = Windows(self.dataset, shared, classes=self.classes, features=self._features)
        return whole.features(extract), [np.searchsorted(shared, side.rows) for side in sides]


def less_mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Subtract the mean over windows; NaN, which stands for an absent channel, is in no mean.

    Parameters
    ----------
    values : ndarray of float32, shape (n_windows, ...)

    Returns
    -------
    ndarray of float32, shape (n_windows, ...)
    """
    there = np.isfinite(values)
    # float64: a sum over thousands of windows in half or single precision loses digits.
    total = np.where(there, values, 0).sum(axis=0, dtype=np.float64)
    mean = total / np.maximum(there.sum(axis=0), 1)
    return (values - mean).astype(np.float32)


def centred(
    values: npt.NDArray[Any],
    groups: Rows,
    centre: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]] = less_mean,
) -> npt.NDArray[np.float32]:
    """Centre the rows of each group.

    Parameters
    ----------
    values : ndarray of float, shape (n_windows, ...)
    groups : ndarray of int, shape (n_windows,)
        The group of each row, 0, 1, ...
    centre : callable
        What centring one group's rows means; by default their mean is subtracted.

    Returns
    -------
    ndarray of float32, shape (n_windows, ...)
    """
    out = values.astype(np.float32)
    for group in range(groups.max(initial=-1) + 1):
        out[groups == group] = centre(out[groups == group])
    return out


def feature_name(extract: Extract) -> str:
    """Name an extractor, so that its features are computed once."""
    return f"{extract.__module__}:{getattr(extract, '__qualname__', repr(extract))}"


# ---- what evaluation asks of extractors and models ------------------------------------------


class Extractor(ABC):
    """Features of windows, computed once for all folds: they depend on each window alone."""

    @abstractmethod
    def __call__(
        self, X: npt.NDArray[Any], present: npt.NDArray[np.bool_], sfreq: float, /
    ) -> npt.NDArray[Any]:
        """Extract features.

        Parameters
        ----------
        X : ndarray of float32, shape (batch, n_chans, n_times)
            Microvolts.
        present : ndarray of bool, shape (batch, n_chans)
            Which channels exist.
        sfreq : float
            Hz.

        Returns
        -------
        ndarray, shape (batch, ...)
        """

    def for_windows(self, windows: Windows, /) -> Extractor:
        """Return a copy bound to the channels of ``windows``; by default the extractor itself."""
        return self

    def centre(self, features: npt.NDArray[np.float32], /) -> npt.NDArray[Any]:
        """Centre the features of one subject or session; by default subtract their mean."""
        return less_mean(features)


Extract = Extractor | Callable[[npt.NDArray[Any], npt.NDArray[np.bool_], float], npt.NDArray[Any]]
"""An extractor, or a function ``extract(X, present, sfreq)`` with an extractor's defaults."""


class _Function(Extractor):
    """A plain function as an extractor."""

    def __init__(self, extract: Extract) -> None:
        self.extract = extract

    def __call__(
        self, X: npt.NDArray[Any], present: npt.NDArray[np.bool_], sfreq: float, /
    ) -> npt.NDArray[Any]:
        return self.extract(X, present, sfreq)


def as_extractor(extract: Extract) -> Extractor:
    """Return an extractor; one made of a plain function has the defaults of ``Extractor``."""
    return extract if isinstance(extract, Extractor) else _Function(extract)


class Estimator(ABC):
    """A model that can be evaluated.

    One's own needs ``fit`` and ``predict``; the rest has defaults, which ``as_estimator`` fills in.

    Attributes
    ----------
    features : Extractor, function or None
        Its input, if that is features of each window; they are computed once for all folds. None
        for a model of signals, and for one that computes features only as it needs them.
    reads_signals : bool
        Whether it learns from signals, so that there are no features to centre.
    bands : mapping of str to (float, float), or None
        The frequency bands that its features measure, in Hz, by name. Signals that lack one are
        named before a run.
    at_once : int
        How many folds of equally many windows it fits in one go, with ``fit_at_once``.
    """

    features: Extract | None = None
    reads_signals: bool = False
    at_once: int = 1
    bands: Mapping[str, tuple[float, float]] | None = None

    @abstractmethod
    def fit(self, train: Windows, validation: Windows) -> Any:
        """Learn from ``train``; choose when to stop, how much to regularise, on ``validation``.

        Both have ``y``, the classes, shape (n_windows,).
        """

    def fit_at_once(
        self, models: Sequence[Any], sides: Sequence[tuple[Windows, Windows]]
    ) -> list[Exception | None]:
        """Fit several models, this one and others of other seeds, where ``at_once`` is above 1.

        Parameters
        ----------
        models : sequence of Estimator
        sides : sequence of (Windows, Windows)
            For each model its training and validation side; all of equally many windows.

        Returns
        -------
        list of Exception or None
            For each model why it could not be fitted.
        """
        raise NotImplementedError

    @abstractmethod
    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return a class for each window, shape (n_windows,)."""

    def predict_proba(self, windows: Windows) -> npt.NDArray[np.floating] | None:
        """Return the probability of every class, shape (n_windows, n_classes); None if it has none.

        Rows sum to 1. What ``predict`` returns is the decision, whatever these say.
        """
        return None

    def check(self, windows: Windows) -> None:  # noqa: B027 - by default nothing is refused
        """Refuse windows that the model cannot read, before anything is trained.

        Raises
        ------
        DataError
            By default never.
        """

    def expected_seconds(
        self, sample: Windows, sizes: Sequence[tuple[int, int, int]]
    ) -> float | None:
        """Return how long fits would take; by default None, and a fit of ``sample`` is timed.

        Parameters
        ----------
        sample : Windows
            Some labelled windows to take time on.
        sizes : sequence of (int, int, int)
            Windows for training, validation and test of each fit.
        """
        return None


# Looked for by name, so that a model of one's own need not import Estimator.
_OPTIONAL = ("features", "reads_signals", "bands", "predict_proba", "check", "expected_seconds")


class _Own(Estimator):
    """A model of one's own, which may lack what has a default."""

    def __init__(self, model: Any) -> None:
        self.model = model
        there = [name for name in _OPTIONAL if hasattr(model, name)]
        vars(self).update({name: getattr(model, name) for name in there})

    def fit(self, train: Windows, validation: Windows) -> Any:
        return self.model.fit(train, validation)

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        return self.model.predict(windows)


def as_estimator(model: Any) -> Estimator:
    """Return a model with all that ``Estimator`` declares."""
    return model if isinstance(model, Estimator) else _Own(model)
