"""OMFA as a scikit-learn estimator."""

import pickle

import mne
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from omfa.pipeline.recording import DataError
from omfa.zoo import OMFAClassifier

CHANNELS = ["C3", "C4", "O1", "O2"]
SFREQ = 128.0


@pytest.fixture(scope="module")
def windows():
    """Simulated: more 10 Hz at the back with eyes shut."""
    rng = np.random.default_rng(0)
    y = np.tile(["open", "shut"], 24)
    t = np.arange(128) / SFREQ
    wave = np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6, (48, 1, 1)))
    strength = np.where(y == "shut", 30.0, 2.0)[:, None, None] * [[[0.2], [0.2], [1], [1]]]
    return 8 * rng.standard_normal((48, 4, 128)) + strength * wave, y


def small(**more):
    quick = {"preset": "tiny", "epochs": 12, "lr": 3e-3, "device": "cpu"}
    return OMFAClassifier(**({"sfreq": SFREQ, "ch_names": CHANNELS} | quick | more))


@pytest.fixture(scope="module")
def fitted(windows):
    return small().fit(*windows)


def test_it_learns_and_says_probabilities(windows, fitted):
    X, y = windows
    p = fitted.predict_proba(X)
    assert fitted.score(X, y) > 0.9
    assert fitted.classes_.tolist() == ["open", "shut"]
    assert np.allclose(p.sum(axis=1), 1)
    assert (fitted.classes_[p.argmax(axis=1)] == fitted.predict(X)).all()
    assert ((fitted.decision_function(X) > 0) == (p[:, 1] > 0.5)).all()


def test_units_are_the_same_signals_and_are_never_taken_for_one_another(windows, fitted):
    X, y = windows
    volts = small(unit="V").fit(X * 1e-6, y)
    assert np.allclose(volts.predict_proba(X * 1e-6), fitted.predict_proba(X), atol=1e-4)
    with pytest.raises(DataError, match="look like volts"):
        small().fit(X * 1e-6, y)
    for ask in (fitted.predict, fitted.predict_proba, fitted.decision_function):
        with pytest.raises(DataError, match=r"Predicting windows in uV.*look like volts"):
            ask(X * 1e-6)


def test_epochs_say_their_rate_channels_and_unit(windows, fitted):
    X, y = windows
    info = mne.create_info(CHANNELS, SFREQ, "eeg")
    epochs = mne.EpochsArray(X * 1e-6, info, verbose=0)
    model = small(sfreq=None, ch_names=None).fit(epochs, y)
    assert np.allclose(model.predict_proba(epochs), fitted.predict_proba(X), atol=1e-4)


def test_epochs_with_other_channels_and_spellings_are_read_again_in_any_order(windows, fitted):
    X, y = windows
    names = ["EEG C3-Ref", "C4.", "O1", "O2", "EOG"]
    info = mne.create_info(names, SFREQ, ["eeg"] * 4 + ["eog"])
    epochs = mne.EpochsArray(1e-6 * np.concatenate([X, X[:, :1]], axis=1), info, verbose=0)
    model = small(sfreq=None, ch_names=None).fit(epochs, y)
    p = model.predict_proba(epochs)
    assert np.allclose(p, fitted.predict_proba(X), atol=1e-4)
    other = epochs.copy().reorder_channels(["EOG", "O2", "EEG C3-Ref", "O1", "C4."])
    assert np.allclose(model.predict_proba(other), p, atol=1e-5)


def test_it_is_cloned_pickled_and_searched(windows, fitted):
    X, y = windows
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "model_")
    read = pickle.loads(pickle.dumps(fitted))
    assert (read.predict_proba(X) == fitted.predict_proba(X)).all()
    quick = small(epochs=1)
    search = GridSearchCV(quick, {"lr": [1e-3, 3e-3]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["lr"] in (1e-3, 3e-3)
    piped = make_pipeline(FunctionTransformer(np.asarray), quick)
    assert len(cross_val_score(piped, X, y, cv=2, error_score="raise", scoring="roc_auc")) == 2


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimators_unfitted",
        "check_get_params_invariance",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
    ],
)
def test_it_keeps_the_rules_of_scikit_learn(check):
    """Those that fit no table of features: X here has three axes."""
    getattr(estimator_checks, check)("OMFAClassifier", OMFAClassifier())


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        ({"sfreq": None}, DataError, "does not say its sampling rate"),
        ({"ch_names": ["C3"]}, DataError, "there are 1 names"),
        ({"unit": "kV"}, DataError, "is not known"),
        ({"head": "logistic", "epochs": 40}, DataError, "logistic"),
    ],
)
def test_what_cannot_be_fitted_is_refused(windows, change, error, found):
    with pytest.raises(error, match=found):
        small(**change).fit(*windows)


def test_shapes_and_classes_that_do_not_fit_are_refused(windows, fitted):
    X, y = windows
    with pytest.raises(DataError, match="one label for each window"):
        small().fit(X, y[:-1])
    with pytest.raises(ValueError, match="two or more classes"):
        small().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="Reshape your data"):
        small().fit(X[0], y)
    with pytest.raises(DataError, match="there are 4 names"):
        fitted.predict(X[:, :2])
    info = mne.create_info(["C3", "C4", "P3", "P4"], SFREQ, "eeg")
    others = mne.EpochsArray(1e-6 * X[:2], info, verbose="error")
    with pytest.raises(DataError, match=r"\(C3, C4, P3, P4\).*fitted to 4 channels \(C3, C4, O1"):
        fitted.predict(others)
