"""OMFA as a scikit-learn classifier: arrays or ``mne.Epochs`` in, classes out.

For pipelines, grid searches and moabb's evaluations, where ``EEGClassifier`` of braindecode stands
too. It is fitted by the trainer of ``evaluate``. Folds are the caller's: nothing here knows which
windows belong to one trial or person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some
from omfa.zoo.checkpoints.decision import softmax
from omfa.zoo.checkpoints.input import UNITS
from omfa.zoo.estimators.device import choose_device
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.omfa_networks import omfa
from omfa.zoo.prediction.predictor import logits_of, masked
from omfa.zoo.protocols.protocol import TRIAL
from omfa.zoo.protocols.windows import (
    COLUMNS,
    ArrayDataset,
    Windows,
    as_dataset,
    doubtful_amplitude,
)

if TYPE_CHECKING:
    import mne

    from omfa.models import OMFA


class OMFAClassifier(ClassifierMixin, BaseEstimator):
    """An OMFA that is fitted to windows with labels, as a scikit-learn estimator.

    Parameters
    ----------
    checkpoint : str, optional
        Name or folder of the checkpoint to start from; from scratch if not given.
    sfreq : float, optional
        Hz of arrays. ``mne.Epochs`` say theirs.
    ch_names : sequence of str, optional
        Of the rows of arrays. Without them places are unknown and only the signal tells channels
        apart. ``mne.Epochs`` say theirs.
    unit : {"uV", "V", "mV", "nV"}
        Of arrays: moabb's are microvolts. ``mne.Epochs`` are converted whatever is said here.
    preset : {"tiny", "small", "base", "large"}, optional
        Size; by default the checkpoint's, or small.
    head : str
        The graph over the channels.
    freeze : {"encoder", "first-epoch", "none"}, optional
        How long the encoder stays as it is.
    epochs : int
    lr : float
        Greatest learning rate.
    batch_size : int
    random_state : int
        Of the first weights, the order of windows and dropout.
    device : str
        ``"auto"``: the first GPU where there is one.
    parameters : mapping, optional
        Further fields of ``OmfaSettings`` and ``Training``.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    model_ : OMFA
        Fitted.

    Examples
    --------
    >>> from omfa.zoo import OMFAClassifier
    >>> OMFAClassifier(preset="tiny", sfreq=128.0, ch_names=["C3", "C4"]).get_params()["epochs"]
    40
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        *,
        sfreq: float | None = None,
        ch_names: Sequence[str] | None = None,
        unit: str = "uV",
        preset: str | None = None,
        head: str = "gat",
        freeze: str | None = None,
        epochs: int = 40,
        lr: float = 1e-3,
        batch_size: int = 32,
        random_state: int = 0,
        device: str = "auto",
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        # As they are: scikit-learn's clone compares them with what was given.
        self.checkpoint, self.sfreq, self.ch_names, self.unit = checkpoint, sfreq, ch_names, unit
        self.preset, self.head, self.freeze = preset, head, freeze
        self.epochs, self.lr, self.batch_size = epochs, lr, batch_size
        self.random_state, self.device, self.parameters = random_state, device, parameters

    def fit(self, X: npt.NDArray[Any] | mne.BaseEpochs, y: npt.ArrayLike) -> Self:
        """Fit to labelled windows.

        Parameters
        ----------
        X : ndarray of float, shape (n_windows, n_chans, n_times), or mne.Epochs
        y : array, shape (n_windows,)
            Labels of any kind.

        Raises
        ------
        DataError
            If shapes do not fit, the rate is unknown, or the signals cannot be in ``unit``.
        ValueError
            If ``y`` is not of two or more classes.
        """
        windows, sfreq, names = self._windows(X, first=True)
        labels = np.asarray(y)
        check_classification_targets(labels)
        if labels.shape != (len(windows),):
            raise DataError(
                f"Fitting OMFA to {len(windows)} windows",
                f"y has the shape {labels.shape}",
                "Give one label for each window",
            )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"OMFAClassifier needs two or more classes, and y has {self.classes_}")
        windows, present = masked(windows)
        self._check_amplitude(windows, present, "Fitting OMFA to")
        metadata = pd.DataFrame(dict.fromkeys(COLUMNS, "1"), index=range(len(windows)))
        metadata[TRIAL[-1]] = [str(i) for i in range(len(windows))]
        metadata["target"] = codes
        own = ArrayDataset(windows, metadata, sfreq=sfreq, channels=names, present=present)
        dataset = as_dataset(own)
        rows, texts = np.arange(len(windows)), tuple(map(str, self.classes_))
        side = Windows(dataset, rows, classes=texts, y=codes.astype(np.int64))
        network = omfa(seed=self.random_state, checkpoint=self.checkpoint, **self._settings())
        if not isinstance(network, Network):
            raise DataError(
                "Setting OMFAClassifier up",
                f"head={self.head} is a probe, not a network",
                "Choose another head, or scikit-learn's LogisticRegression on embeddings",
            )
        network.check(side)
        network.fit(side, side.at(rows[:0]))
        # The whole model, for the network of a frozen encoder reads embeddings.
        self.model_ = network.network_.model.cpu().eval()  # type: ignore[union-attr]
        self.sfreq_, self.ch_names_, self.n_times_ = sfreq, names, windows.shape[-1]
        return self

    def decision_function(self, X: npt.NDArray[Any] | mne.BaseEpochs) -> npt.NDArray[np.float64]:
        """Return logits, shape (n_windows, n_classes); of two classes their difference."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: npt.NDArray[Any] | mne.BaseEpochs) -> npt.NDArray[np.float64]:
        """Return the probability of every class, shape (n_windows, n_classes)."""
        return softmax(self._logits(X))

    def predict(self, X: npt.NDArray[Any] | mne.BaseEpochs) -> npt.NDArray[Any]:
        """Return a label for each window, shape (n_windows,)."""
        logits = self._logits(X)
        found: npt.NDArray[Any] = self.classes_[logits.argmax(axis=1)]
        return found

    def _settings(self) -> dict[str, Any]:
        own = {
            "preset": self.preset,
            "head": self.head,
            "freeze": self.freeze,
            "epochs": self.epochs,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "device": self.device,
        }
        return own | dict(self.parameters or {})

    def _logits(self, X: npt.NDArray[Any] | mne.BaseEpochs) -> npt.NDArray[np.float64]:
        check_is_fitted(self, "model_")
        windows, sfreq, names = self._windows(X, first=False)
        if names != self.ch_names_ or sfreq != self.sfreq_:
            raise DataError(
                f"Predicting windows of {len(names)} channels ({some(names, 8)}) at {sfreq:g} Hz",
                f"it was fitted to {len(self.ch_names_)} channels ({some(self.ch_names_, 8)}) at "
                f"{self.sfreq_:g} Hz",
                "Give windows of the same channels in the same order, and of the same rate",
            )
        windows, present = masked(windows)
        self._check_amplitude(windows, present, "Predicting")
        device = choose_device(self.device)
        model = cast("OMFA", self.model_.to(device))
        logits = logits_of(model, windows, present, sfreq, device=device)
        self.model_ = model.cpu()  # so that it can be pickled and read anywhere
        return logits.astype(np.float64)

    def _check_amplitude(
        self, windows: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], doing: str
    ) -> None:
        """Refuse signals that are in another unit."""
        if found := doubtful_amplitude(windows, present):
            raise DataError(
                f"{doing} windows in {self.unit}", found, "Give the unit that they are in: unit='V'"
            )

    def _windows(self, X: Any, *, first: bool) -> tuple[npt.NDArray[np.float32], float, list[str]]:
        """Return windows in microvolts, their rate and the names of their rows."""
        if hasattr(X, "get_data") and hasattr(X, "info"):
            X = X.copy().pick("eeg")
            if not first and set(self.ch_names_) <= set(_known(X.ch_names)):
                row = dict(zip(_known(X.ch_names), X.ch_names, strict=True))
                X = X.pick([row[name] for name in self.ch_names_])
            values = X.get_data(units="uV")
            return values.astype(np.float32), float(X.info["sfreq"]), _known(X.ch_names)
        values = np.asarray(X)
        if values.ndim != 3 or not np.issubdtype(values.dtype, np.number) or not len(values):
            raise ValueError(
                f"OMFAClassifier reads arrays (n_windows, n_chans, n_times) of numbers, and X is "
                f"{values.dtype} {values.shape}. Reshape your data"
            )
        if self.sfreq is None:
            raise DataError(
                f"Reading windows of shape {values.shape}",
                "an array does not say its sampling rate",
                "Give it: OMFAClassifier(sfreq=...), or mne.Epochs (moabb: return_epochs=True)",
            )
        if self.unit not in UNITS:
            raise DataError(
                "Setting OMFAClassifier up",
                f"the unit {self.unit!r} is not known",
                f"Use one of {', '.join(UNITS)}",
            )
        names = self.ch_names or [f"channel {i + 1}" for i in range(values.shape[1])]
        if len(names) != values.shape[1]:
            raise DataError(
                f"Reading windows of {values.shape[1]} channels",
                f"there are {len(names)} names",
                "Name each row",
            )
        scaled = (values * UNITS[self.unit]).astype(np.float32)
        return scaled, float(self.sfreq), _known(names)


def _known(names: Sequence[str]) -> list[str]:
    """Return UCS names where there are; the others have no place, and stay."""
    return [UCS.name(name) if name in UCS else str(name) for name in names]
