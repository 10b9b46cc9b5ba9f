"""What every model has to beat, at no cost: classical features and linear models.

Features are functions of a window alone. Everything that is fitted (the means that fill absent
channels, scales, the reference point of the tangent space, the model, and its regularisation,
chosen on validation) is fitted on the training side.

All features come from one Hann-tapered Fourier transform of the window. Filtering a short window
would ring at its edges; summing the spectrum over a band does not.

- Differential entropy of a Gaussian signal in a band, 0.5 ln(2 pi e s^2) (Duan, Zhu, Lu 2013,
  NER 81-84), with ridge regression or a linear support vector machine.
- Log band power relative to the mean over channels, with logistic regression: what differs between
  channels is kept, what differs between people and days in all channels alike is not.
- Log power in bins of 1 Hz, with logistic regression: it tells rhythms apart that lie in one band.
- Covariance between channels in each band, shrunk to be invertible by the oracle-approximating
  estimate (Chen et al. 2010, IEEE TSP 58:5016-5029), mapped to the tangent space at the mean
  of the training side (Barachant et al. 2013, Neurocomputing 112:172-178), with logistic
  regression.

Each of them also with its features smoothed over a trial (``smoothing.py``), under a name that says
``non-causal``.

``clusters-without-labels`` learns nothing: it shows how far a score says no more than which of a
person's recordings a window is from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, get_args

import numpy as np
import numpy.typing as npt
import scipy.fft
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from omfa.pipeline.errors import DataError
from omfa.zoo.estimators.settings import NON_CAUSAL, Smooth
from omfa.zoo.estimators.smoothing import smoothed
from omfa.zoo.protocols.metrics import confusion_matrix, scores
from omfa.zoo.protocols.protocol import SUBJECT, Rows, codes
from omfa.zoo.protocols.windows import Estimator, Extract, Extractor, Windows

Floats = npt.NDArray[np.floating]

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 14), "beta": (14, 31), "gamma": (31, 50)}
"""Hz; SEED's five. A band is cut at 0.45 of the sampling rate, and measures no more than signals
hold: of a store that ends at 45 Hz, the default, gamma is 31-45 Hz and the fall to 49 Hz.
"""

SPECTRUM_ENDS_AT = 45
"""Hz; the last bin of the log spectrum, where the default band of a store ends."""

MEAN_OF_AT_MOST = 1000
"""Training windows, evenly spread, whose mean is the reference point of the tangent
space: each iteration of a Riemannian mean goes over all of them."""


def _spectrum(X: Floats) -> npt.NDArray[np.complexfloating]:
    """Return a Fourier transform whose squared magnitude, summed over a band, is its variance."""
    n_times = X.shape[-1]
    # The periodic Hann window, whose last point would repeat the first.
    taper = np.hanning(n_times + 1)[:-1].astype(np.float32)
    scale = np.sqrt(2 / (n_times * np.sum(taper**2)))  # 2: the negative frequencies
    # The offset, taken off before the taper would spread it into the delta band.
    centred = X - X.mean(axis=-1, keepdims=True)
    return scipy.fft.rfft(centred * taper, axis=-1) * np.float32(scale)


def _bins(
    n_times: int, sfreq: float, bands: Mapping[str, tuple[float, float]] = BANDS
) -> list[slice]:
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    bins = []
    for name, (low, high) in bands.items():
        # Half open, so that no bin counts in two bands. Up to 0.45 of its rate a store is flat even
        # where it was resampled without a band (docs/signal-path.md).
        inside = np.flatnonzero((freqs >= low) & (freqs < min(high, 0.45 * sfreq)))
        if not len(inside):
            raise DataError(
                f"Computing the power of the {name} band ({low}-{high} Hz)",
                f"windows of {n_times} samples at {sfreq:g} Hz have no frequency in it",
                "Cut longer windows, or ingest at a higher rate",
            )
        bins.append(slice(inside[0], inside[-1] + 1))
    return bins


def _log_variance(
    X: Floats, present: npt.NDArray[np.bool_], bins: Sequence[slice]
) -> npt.NDArray[np.float32]:
    """Return the log variance, shape (batch, n_bins, n_chans); NaN where a channel is absent."""
    power = np.abs(_spectrum(X)) ** 2
    variance = np.stack([power[..., part].sum(axis=-1) for part in bins], axis=1)
    # A flat channel has no power: a floor of (1e-3 uV)^2, far below any amplifier's noise.
    logarithm = np.log(np.maximum(variance, 1e-6))
    return np.where(present[:, None], logarithm, np.nan).astype(np.float32)


def differential_entropy(X: Floats, present: npt.NDArray[np.bool_], sfreq: float) -> Floats:
    """Compute the differential entropy of each band and channel.

    Parameters
    ----------
    X : ndarray of float, shape (batch, n_chans, n_times)
        Microvolts.
    present : ndarray of bool, shape (batch, n_chans)
    sfreq : float
        Hz.

    Returns
    -------
    ndarray of float32, shape (batch, n_bands * n_chans)
        In nats; NaN where a channel is absent.
    """
    log_variance = _log_variance(X, present, _bins(X.shape[-1], sfreq))
    return (0.5 * (np.log(2 * np.pi * np.e) + log_variance)).reshape(len(X), -1)


def relative_band_power(X: Floats, present: npt.NDArray[np.bool_], sfreq: float) -> Floats:
    """Compute log power by band and channel, less the band's mean over the channels present.

    Parameters
    ----------
    X : ndarray of float, shape (batch, n_chans, n_times)
    present : ndarray of bool, shape (batch, n_chans)
    sfreq : float
        Hz.

    Returns
    -------
    ndarray of float32, shape (batch, n_bands * n_chans)
        NaN where a channel is absent.
    """
    log_variance = _log_variance(X, present, _bins(X.shape[-1], sfreq))
    n_present = np.maximum(present.sum(axis=1), 1)[:, None, None]
    mean = np.nansum(log_variance, axis=2, keepdims=True) / n_present
    return (log_variance - mean).reshape(len(X), -1)


def log_spectrum(X: Floats, present: npt.NDArray[np.bool_], sfreq: float) -> Floats:
    """Compute the log power of each channel in bins of 1 Hz around 1, 2, ... 45 Hz.

    Bins lie around whole frequencies, so that a flicker of 13 Hz falls into the middle of one. They
    end at 45 Hz or below 0.45 of the sampling rate.

    Parameters
    ----------
    X : ndarray of float, shape (batch, n_chans, n_times)
        Microvolts.
    present : ndarray of bool, shape (batch, n_chans)
    sfreq : float
        Hz.

    Returns
    -------
    ndarray of float32, shape (batch, n_bins * n_chans)
        NaN where a channel is absent.
    """
    last = min(SPECTRUM_ENDS_AT, int(0.45 * sfreq - 0.5))
    bands = {f"{f} Hz": (f - 0.5, f + 0.5) for f in range(1, last + 1)}
    return _log_variance(X, present, _bins(X.shape[-1], sfreq, bands)).reshape(len(X), -1)


class BandCovariance(Extractor):
    """Extractor of the covariance between channels in each band, shrunk towards the identity."""

    def __repr__(self) -> str:
        return "BandCovariance()"

    def __call__(self, X: Floats, present: npt.NDArray[np.bool_], sfreq: float) -> Floats:
        """Measure windows.

        Parameters
        ----------
        X : ndarray of float, shape (batch, n_chans, n_times)
            Microvolts.
        present : ndarray of bool, shape (batch, n_chans)
        sfreq : float
            Hz.

        Returns
        -------
        ndarray of float32, shape (batch, n_bands, n_chans, n_chans)
            Microvolts squared; rows and columns of absent channels are NaN.
        """
        spectrum = _spectrum(np.where(present[..., None], X, 0))
        bands = _bins(X.shape[-1], sfreq)
        out = np.empty((len(X), len(bands), X.shape[1], X.shape[1]), dtype=np.float32)
        for k, band in enumerate(bands):
            part = spectrum[..., band]
            covariance = (part @ part.conj().swapaxes(-1, -2)).real
            # A bin holds a real and an imaginary sample.
            out[:, k] = _shrunk(covariance, present.sum(axis=1), 2 * part.shape[-1])
        absent = ~(present[:, :, None] & present[:, None, :])
        out[np.broadcast_to(absent[:, None], out.shape)] = np.nan
        return out

    def centre(self, covariances: Floats) -> Floats:
        """Bring the Riemannian mean of some windows to the identity in each band.

        Zanini et al. 2018, IEEE TBME 65:1107-1116.

        Parameters
        ----------
        covariances : ndarray of float, shape (n_windows, n_bands, n_chans, n_chans)
            A subject's or session's, in microvolts squared.

        Returns
        -------
        ndarray of float32
            The same shape. Channels that not all of the windows have are NaN; a window without any
            channel is in no mean.
        """
        from pyriemann.geometry.base import invsqrtm
        from pyriemann.geometry.mean import mean_riemann

        out = np.full_like(covariances, np.nan, dtype=np.float32)
        usable, channels = _usable(covariances)
        if not len(channels):
            return out
        known = _pick(covariances[usable], channels)
        some = known[:: max(1, len(usable) // MEAN_OF_AT_MOST)]
        for k in range(known.shape[1]):
            root = invsqrtm(mean_riemann(some[:, k]))
            # C -> M^-1/2 C M^-1/2: the mean M becomes the identity.
            known[:, k] = root @ known[:, k] @ root
        out[np.ix_(usable, np.arange(known.shape[1]), channels, channels)] = known
        return out


band_covariance = BandCovariance()

BAND_FEATURES: tuple[Extract, ...] = (differential_entropy, relative_band_power, band_covariance)
"""The features that are measured by band."""


def _usable(covariances: Floats) -> tuple[Rows, Rows]:
    """Return the windows that have a channel, and the channels that all of them have."""
    there = np.asarray(np.isfinite(np.diagonal(covariances, axis1=2, axis2=3)).all(axis=1))
    usable = np.flatnonzero(there.sum(axis=1))
    return usable, np.flatnonzero(there[usable].all(axis=0)) if len(usable) else usable


def _pick(covariances: Floats, channels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return covariances[..., channels[:, None], channels].astype(np.float64)


def _shrunk(covariance: Floats, n_present: npt.NDArray[np.int64], n_samples: int) -> Floats:
    """Shrink to (1 - rho) C + rho mu I (Chen et al. 2010, eq. 23); absent ones are rows of 0."""
    p = np.maximum(n_present, 1)
    mu = np.trace(covariance, axis1=1, axis2=2) / p
    squares = np.sum(covariance**2, axis=(1, 2)) / p**2  # tr(C^2) / p^2
    excess = (n_samples + 1) * (squares - mu**2 / p)
    rho = np.divide(squares + mu**2, excess, out=np.ones_like(mu), where=excess > 0).clip(0, 1)
    # A flat window would be singular: the same floor as for power.
    floor = np.maximum(rho * mu, 1e-6)[:, None, None]
    return (1 - rho)[:, None, None] * covariance + floor * np.eye(covariance.shape[1])


def _completed(covariances: Floats, mean: Floats) -> npt.NDArray[np.float64]:
    """Fill what absent channels lack from those present, as they go together in the mean.

    Absent channels m become what regression on the present ones p predicts, A = M_mp M_pp^-1, and
    keep the rest of their variance in the mean: C_mp = A C_pp, C_mm = M_mm - A M_pm + A C_pp A'. Of
    all completions it is the one by which m says nothing that p and the mean do not, and it is
    positive definite where both are.

    Parameters
    ----------
    covariances : ndarray of float, shape (n_windows, n_chans, n_chans)
        NaN in the rows and columns of absent channels.
    mean : ndarray of float, shape (n_chans, n_chans)
    """
    out = np.array(covariances, np.float64)
    there = np.isfinite(np.diagonal(out, axis1=1, axis2=2))
    for pattern in np.unique(there[~there.all(axis=1)], axis=0):
        rows = np.flatnonzero((there == pattern).all(axis=1))
        p, m = np.flatnonzero(pattern), np.flatnonzero(~pattern)
        predict = np.linalg.solve(mean[np.ix_(p, p)], mean[np.ix_(p, m)]).T
        across = predict @ _pick(out[rows], p)
        rest = mean[np.ix_(m, m)] - predict @ mean[np.ix_(p, m)]
        out[np.ix_(rows, m, p)] = across
        out[np.ix_(rows, p, m)] = across.swapaxes(-1, -2)
        out[np.ix_(rows, m, m)] = rest + across @ predict.T
    return out


def _mean_of_known(covariances: Floats) -> npt.NDArray[np.float64]:
    """Average each pair of channels over the windows that have both, made positive definite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a pair that no window has: unrelated
        mean = np.nan_to_num(np.nanmean(covariances, axis=0, dtype=np.float64))
    values, vectors = np.linalg.eigh(mean)
    # Pairs are averaged over different windows, which need not give a covariance.
    return np.asarray((vectors * np.maximum(values, 1e-6 * values.max())) @ vectors.T)


class BandTangentSpace(TransformerMixin, BaseEstimator):
    """Covariances of each band as vectors in the tangent space at the training mean.

    Uses the channels that at least three quarters of the training windows have. What a window lacks
    of them, such as bad channels, is completed from the others and the training mean. To lack more
    than half is an error: there is no honest value to put in its place. A window without any
    channel, such as a gap in a recording, says nothing: it is left out of the mean and mapped to
    it. Both shares are our choice.
    """

    def fit(self, X: Floats, y: object = None) -> Self:
        """Find the channels and the mean of ``X``, shape (n, n_bands, n_chans, n_chans)."""
        # Imported here: it takes five seconds.
        from pyriemann.tangentspace import TangentSpace

        there = np.isfinite(np.diagonal(X[:, 0], axis1=1, axis2=2))
        usable = np.flatnonzero(there.any(axis=1))
        self.channels_ = (
            np.flatnonzero(there[usable].mean(axis=0) >= 0.75) if len(usable) else usable
        )
        if not len(self.channels_):
            raise DataError(
                "Fitting the tangent space",
                "no channel is in three quarters of the training windows",
                "Open the dataset with channels='intersection'",
            )
        self._known(X[usable])
        some = _pick(X[usable][:: max(1, len(usable) // MEAN_OF_AT_MOST)], self.channels_)
        self.spaces_ = [
            TangentSpace().fit(_completed(part, _mean_of_known(part)))
            for part in (some[:, k] for k in range(X.shape[1]))
        ]
        return self

    def _known(self, X: Floats) -> npt.NDArray[np.bool_]:
        """Return which windows have a channel; refuse one that has some and too few."""
        there = np.isfinite(np.diagonal(X[:, 0], axis1=1, axis2=2))
        known = np.asarray(there.any(axis=1))
        if (2 * there[known][:, self.channels_].sum(axis=1) < len(self.channels_)).any():
            raise DataError(
                "Mapping covariances to the tangent space",
                "a window lacks more than half of the channels that the training windows have",
                "Open the dataset with channels='intersection', or skip that recording",
            )
        return known

    def transform(self, X: Floats) -> Floats:
        """Map (n, n_bands, n_chans, n_chans) to (n, n_bands * n_pairs)."""
        silent = ~self._known(X)
        picked = _pick(X[~silent], self.channels_)
        for k, space in enumerate(self.spaces_):
            picked[:, k] = _completed(picked[:, k], space.reference_)
        n_pairs = len(self.channels_) * (len(self.channels_) + 1) // 2
        # 0 is the mean's own place in the tangent space: where windows without a channel belong.
        out = np.zeros((len(X), len(self.spaces_) * n_pairs))
        if len(picked):
            maps = [space.transform(picked[:, k]) for k, space in enumerate(self.spaces_)]
            out[~silent] = np.concatenate(maps, axis=1)
        return out


class FeatureClassifier(Estimator):
    """Features of each window, a scikit-learn transformer and a scikit-learn classifier.

    Parameters
    ----------
    features : callable
        ``features(X, present, sfreq)`` of a batch of windows, first axis the batch. A function of
        each window alone, so that it is computed once for all folds.
    prepare : scikit-learn transformer
        Fitted without labels.
    candidates : sequence of scikit-learn classifiers
        From the most regularised on. The first whose balanced accuracy on validation is within one
        standard error of the best (Breiman et al. 1984) is fitted again on training and validation
        together; the best itself would be the luck of a few validation trials or subjects. The
        error is that of a mean over people where validation has three or more, for windows of one
        person are not independent; else the binomial one over windows.
    smooth : {"average", "lds"}, optional
        Smooth what ``prepare`` gives over the windows of each trial on a side (``smoothed``), in
        training and in prediction: then the class of a window needs those after it.

    Examples
    --------
    >>> from omfa.zoo import BASELINES, FeatureClassifier
    >>> isinstance(BASELINES["relative-band-power+logistic"](seed=0), FeatureClassifier)
    True
    """

    features: Extract

    def __init__(
        self,
        features: Extract,
        prepare: Any,
        candidates: Sequence[Any],
        *,
        smooth: Smooth | None = None,
    ) -> None:
        self.features, self.prepare, self.candidates = features, prepare, candidates
        self.smooth = smooth
        self.bands = BANDS if features in BAND_FEATURES else None

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Choose on ``validation`` and fit on both."""
        one, other = train.features(self.features), validation.features(self.features)
        with threadpool_limits(1, "blas"):  # matrices this small lose time to more threads
            best = self._choose(one, train, other, validation)
            whole = train.joined(validation)
            both = np.concatenate([one, other])
            self.prepare_ = clone(self.prepare).fit(both)
            self.classifier_ = clone(best).fit(
                self._smoothed(self.prepare_.transform(both), whole), whole.y
            )
        return self

    def _choose(self, one: Floats, train: Windows, other: Floats, validation: Windows) -> Any:
        if len(self.candidates) == 1:
            return self.candidates[0]
        prepare = clone(self.prepare)
        one = self._smoothed(prepare.fit_transform(one), train)
        other = self._smoothed(prepare.transform(other), validation)
        quality, error = np.transpose(
            [
                _recall(clone(candidate).fit(one, train.y).predict(other), validation)
                for candidate in self.candidates
            ]
        )
        enough = quality.max() - error[quality.argmax()]
        # argmax finds the first that is good enough: the most regularised.
        return self.candidates[int(np.argmax(quality >= enough))]

    def _smoothed(self, prepared: Floats, windows: Windows) -> Floats:
        """Smooth last: vectors in a tangent space can be averaged as covariances cannot."""
        if self.smooth is None:
            return prepared
        return smoothed(prepared, windows.metadata, self.smooth)

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return the class of each window."""
        return np.asarray(self.classifier_.predict(self._known(windows)), np.int64)

    def predict_proba(self, windows: Windows) -> Floats | None:
        """Return the classifier's probabilities, 0 for a class that it never saw; None without."""
        if not hasattr(self.classifier_, "predict_proba"):
            return None
        out = np.zeros((len(windows), len(windows.classes)))
        out[:, self.classifier_.classes_] = self.classifier_.predict_proba(self._known(windows))
        return out

    def _known(self, windows: Windows) -> Floats:
        prepared = self.prepare_.transform(windows.features(self.features))
        return self._smoothed(prepared, windows)


def _recall(predicted: npt.NDArray[np.int64], windows: Windows) -> tuple[float, float]:
    """Return balanced accuracy and its standard error: over people, or else over windows."""
    n_outputs = len(windows.classes)
    person = codes(windows.metadata, SUBJECT)
    people = np.unique(person)
    # Of two an error has one degree of freedom: it says next to nothing.
    if len(people) >= 3:
        recalls = [
            scores(confusion_matrix(windows.y[own], predicted[own], n_outputs))["balanced_accuracy"]
            for own in (person == one for one in people)
        ]
        return float(np.mean(recalls)), float(np.std(recalls, ddof=1) / np.sqrt(len(recalls)))
    confusion = confusion_matrix(windows.y, predicted, n_outputs)
    n = confusion.sum(axis=1)
    occurs = n > 0
    n, right = n[occurs], confusion.diagonal()[occurs]
    recall = right / n
    return float(recall.mean()), float(np.sqrt(np.sum(recall * (1 - recall) / n)) / len(n))


class Majority(Estimator):
    """The commonest class of training and validation, the first among equals."""

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Count the classes of both sides."""
        self.class_ = int(np.bincount(np.concatenate([train.y, validation.y])).argmax())
        return self

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return the same class for every window."""
        return np.full(len(windows), self.class_)


def majority(*, seed: int = 0) -> Majority:
    """Predict the commonest class."""
    return Majority()


class Clusters(Estimator):
    """The clusters of a person's tested windows, named by their sizes.

    k-means groups the relative band power of all windows of each tested person, k the number of
    classes. The largest group is called the commonest class of training and validation, the next
    the next, the first among equals first. No label of any window is used but for those counts, and
    where classes are equally common their order is arbitrary.

    Where classes are recordings, one of each for a person, this finds the recording. A model that
    does no better has shown nothing else.

    Parameters
    ----------
    seed : int
    """

    features: Extract

    def __init__(self, seed: int) -> None:
        self.features, self.seed = relative_band_power, seed

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Count the classes of both sides."""
        counts = np.bincount(np.concatenate([train.y, validation.y]), minlength=len(train.classes))
        self.classes_ = np.argsort(-counts, kind="stable")
        return self

    def predict(self, windows: Windows) -> npt.NDArray[np.int64]:
        """Return the class by which each window's cluster is called."""
        power = windows.features(self.features)
        person = codes(windows.metadata, SUBJECT)
        out = np.empty(len(windows), np.int64)
        for one in range(person.max(initial=-1) + 1):
            rows = np.flatnonzero(person == one)
            # Filled, but not scaled: all bands are in the same unit, nats.
            own = SimpleImputer(keep_empty_features=True).fit_transform(power[rows])
            k = min(len(self.classes_), len(np.unique(own, axis=0)))
            found = KMeans(k, n_init=10, random_state=self.seed).fit_predict(own)
            rank = np.argsort(np.argsort(-np.bincount(found, minlength=k), kind="stable"))
            out[rows] = self.classes_[rank[found]]
        return out


def clusters(*, seed: int = 0) -> Clusters:
    """Group the tested windows of each person, without labels."""
    return Clusters(seed)


def filled_and_scaled() -> Any:
    """Make a transformer that fills absent channels with means, and scales."""
    # An all-absent channel is filled by 0, so that all folds have the same features.
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())


def differential_entropy_ridge(*, seed: int = 0, smooth: Smooth | None = None) -> FeatureClassifier:
    """Make ridge regression on differential entropy."""
    # Strongest first, as FeatureClassifier asks. The strength is chosen on validation, because one
    # fixed in advance moves a score by more than most models differ (docs/results.md).
    strengths = (1e5, 1e4, 1e3, 1e2, 1e1)
    return FeatureClassifier(
        differential_entropy,
        filled_and_scaled(),
        [RidgeClassifier(alpha=a, class_weight="balanced") for a in strengths],
        smooth=smooth,
    )


def differential_entropy_svm(*, seed: int = 0, smooth: Smooth | None = None) -> FeatureClassifier:
    """Make a linear support vector machine on differential entropy."""
    machines = [
        LinearSVC(C=C, class_weight="balanced", dual=False, random_state=seed)
        for C in (1e-4, 1e-3, 1e-2, 1e-1)
    ]
    return FeatureClassifier(differential_entropy, filled_and_scaled(), machines, smooth=smooth)


def logistic() -> list[LogisticRegression]:
    """Make logistic regressions, the most regularised first."""
    return [
        # On EEGMAT relative band power has .710 at 1e-4 and .667 at 0.1 (docs/results.md).
        LogisticRegression(C=C, class_weight="balanced", max_iter=2000)
        for C in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]


def relative_band_power_logistic(
    *, seed: int = 0, smooth: Smooth | None = None
) -> FeatureClassifier:
    """Make logistic regression on relative band power."""
    return FeatureClassifier(relative_band_power, filled_and_scaled(), logistic(), smooth=smooth)


def log_spectrum_logistic(*, seed: int = 0, smooth: Smooth | None = None) -> FeatureClassifier:
    """Make logistic regression on log power in bins of 1 Hz."""
    return FeatureClassifier(log_spectrum, filled_and_scaled(), logistic(), smooth=smooth)


def tangent_space_logistic(*, seed: int = 0, smooth: Smooth | None = None) -> FeatureClassifier:
    """Make logistic regression on covariances in the tangent space."""
    prepare = make_pipeline(BandTangentSpace(), StandardScaler())
    return FeatureClassifier(band_covariance, prepare, logistic(), smooth=smooth)


FEATURE_BASELINES: dict[str, Callable[..., FeatureClassifier]] = {
    "differential-entropy+ridge": differential_entropy_ridge,
    "differential-entropy+svm": differential_entropy_svm,
    "relative-band-power+logistic": relative_band_power_logistic,
    "log-spectrum+logistic": log_spectrum_logistic,
    "tangent-space+logistic": tangent_space_logistic,
}
"""Features with a linear model; each takes ``seed`` and ``smooth``."""

BASELINES: dict[str, Callable[..., Any]] = {
    "majority": majority,
    "clusters-without-labels": clusters,
    **FEATURE_BASELINES,
    **{
        f"{name}{NON_CAUSAL}{smooth}": partial(factory, smooth=smooth)
        for name, factory in FEATURE_BASELINES.items()
        for smooth in get_args(Smooth)
    },
}
"""Factories by name; each takes ``seed``."""
