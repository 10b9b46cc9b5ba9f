"""moabb's evaluations over stores."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Creating a dataset without passing data"),
]

from omfa.pipeline import DataError, ingest, simulate  # noqa: E402
from omfa.pipeline.errors import DataWarning  # noqa: E402
from omfa.zoo import EmotionParadigm, OMFAClassifier, UCSStore, trial_folds  # noqa: E402


def log_power(X):
    return np.log1p(X.var(axis=-1))  # a bad channel may be flat


def offset(X):
    return X.mean(axis=-1)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    import mne
    import moabb

    moabb.set_log_level("error")
    mne.set_log_level("ERROR")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Simulated SEED, DEAP and DREAMER, two subjects of each, trials of some seconds."""
    root = tmp_path_factory.mktemp("corpora")
    for name, options in (("seed", {"sessions": 2}), ("deap", {}), ("dreamer", {})):
        simulate(name, root / name, subjects=2, seconds=4, progress=False, **options)
        ingest(name, root / name, root / f"{name}.zarr", serial=True, progress=False)
    return root


TARGETS = {"seed": "emotion", "deap": "valence>5", "dreamer": "valence>3"}


@pytest.mark.parametrize("name", TARGETS)
def test_epochs_are_the_stores_windows_in_microvolts(corpora, name):
    dataset = UCSStore(corpora / f"{name}.zarr", target=TARGETS[name], window_seconds=2)
    X, y, meta = EmotionParadigm().get_data(dataset, [2])
    table = dataset.windows.metadata
    mine = np.flatnonzero(table["subject"] == dataset.subject_names[2])
    expected = dataset.windows.take(mine)[0]
    assert X.shape == expected.shape == (len(mine), len(dataset.windows.channels), X.shape[2])
    assert X.shape[2] == dataset.windows.n_times == 2 * dataset.sfreq
    np.testing.assert_allclose(X, expected, rtol=1e-4, atol=1e-3)
    assert [dataset.windows.classes.index(label) for label in y] == table["target"][mine].tolist()
    trials = meta.groupby(["session", "run"], sort=False).ngroup()
    expected = table.iloc[mine].groupby(["session", "run", "trial"], sort=False).ngroup()
    assert trials.tolist() == expected.tolist()


def test_windows_with_missing_samples_are_rejected(lay_store, tmp_path):
    folder = lay_store(tmp_path / "n.zarr", missing=[(2, 140)], dtype="float32")
    dataset = UCSStore(folder, target="emotion", window_seconds=1)
    with pytest.warns(
        DataWarning, match="sub-01 of .*: 1 of 11 windows miss samples, and moabb rej"
    ):
        X, _, _ = EmotionParadigm().get_data(dataset, [1])
    present = dataset.windows.take(np.arange(len(dataset.windows) // 2))[1].all(axis=1)
    assert len(X) == present.sum() == len(present) - 1
    assert np.isfinite(X).all()


def test_a_paradigms_end_is_exclusive_and_resampling_exact(corpora):
    dataset = UCSStore(corpora / "deap.zarr", target="valence>5", window_seconds=4)
    assert EmotionParadigm(tmax=2).get_data(dataset, [1])[0].shape[2] == 256
    assert EmotionParadigm(resample=64).get_data(dataset, [1])[0].shape[2] == 256
    picked = EmotionParadigm(channels=["Cz", "Pz"], filters=[(4, 30)]).get_data(dataset, [1])
    assert picked[0].shape[1:] == (2, 512)


@pytest.mark.filterwarnings("ignore:.*miss samples:omfa.pipeline.errors.DataWarning")
# scikit-learn before 1.8, of a small test side without one of the classes.
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_all_three_evaluations_run(corpora, tmp_path):
    from moabb.evaluations import (
        CrossSessionEvaluation,
        CrossSubjectEvaluation,
        WithinSessionEvaluation,
    )

    datasets = [
        UCSStore(corpora / f"{name}.zarr", target=target, window_seconds=2)
        for name, target in TARGETS.items()
    ]
    pipelines = {"power": make_pipeline(FunctionTransformer(log_power), KNeighborsClassifier(5))}
    for evaluation, expected, options in (
        (WithinSessionEvaluation, {"seed": 4, "deap": 2, "dreamer": 2}, trial_folds(3)),
        (CrossSubjectEvaluation, {"seed": 4, "deap": 2, "dreamer": 2}, {}),
        (CrossSessionEvaluation, {"seed": 4}, {}),
    ):
        run = evaluation(
            paradigm=EmotionParadigm(),
            datasets=[d for d in datasets if d.windows.metadata["dataset"][0] in expected],
            hdf5_path=str(tmp_path / evaluation.__name__),
            overwrite=True,
            **options,
        )
        # moabb gives results again with each later dataset whose processing is the same.
        found = run.process(pipelines).drop_duplicates(["dataset", "subject", "session"])
        counts = found["dataset"].str.split("-").str[1].value_counts().to_dict()
        assert counts == expected
        assert found["score"].between(0, 1).all()


def test_trial_folds_keep_windows_of_a_trial_together(lay_store, tmp_path):
    """An offset per trial and coin-flip labels: windows in folds give it away, trials do not."""
    from moabb.evaluations import WithinSessionEvaluation

    rng = np.random.default_rng(0)
    folder = lay_store(
        tmp_path / "o.zarr",
        trials=[(i * 600, 600) for i in range(24)],
        n_times=24 * 600,
        labels={"coin": rng.permutation(24) % 2},
        offsets=50.0 * rng.permutation(24),
    )
    dataset = UCSStore(folder, target="coin", window_seconds=1)
    pipelines = {"offset": make_pipeline(FunctionTransformer(offset), KNeighborsClassifier(1))}
    scores = {}
    for name, options in (("windows", {}), ("trials", trial_folds(4))):
        run = WithinSessionEvaluation(
            paradigm=EmotionParadigm(),
            datasets=[dataset],
            hdf5_path=str(tmp_path / name),
            overwrite=True,
            **options,
        )
        scores[name] = run.process(pipelines)["score"].mean()
    assert scores["windows"] > 0.9
    assert scores["trials"] < 0.75


def test_what_moabb_cannot_evaluate(corpora):
    with pytest.raises(DataError, match="not a class"):
        UCSStore(corpora / "deap.zarr", target="valence", window_seconds=2)
    dataset = UCSStore(corpora / "deap.zarr", target="valence>5", window_seconds=2)
    paradigm = EmotionParadigm(events=["low", "sideways"])
    assert not paradigm.is_valid(dataset)
    assert EmotionParadigm(events=["low", "high"]).is_valid(dataset)
    other = UCSStore(corpora / "deap.zarr", target="valence>=5", window_seconds=2)
    assert dataset.code != other.code  # moabb finds results by it


def test_omfa_is_evaluated_as_other_classifiers_are(lay_store, tmp_path):
    from moabb.evaluations import WithinSessionEvaluation

    folder = lay_store(
        tmp_path / "m.zarr",
        subjects=1,
        trials=[(i * 500, 500) for i in range(6)],
        n_times=3000,
        labels={"coin": [0, 1] * 3},
    )
    dataset = UCSStore(folder, target="coin", window_seconds=1)
    model = OMFAClassifier(
        sfreq=100.0,
        ch_names=list(dataset.windows.channels),
        preset="tiny",
        epochs=1,
        device="cpu",
    )
    run = WithinSessionEvaluation(
        paradigm=EmotionParadigm(),
        datasets=[dataset],
        hdf5_path=str(tmp_path / "found"),
        overwrite=True,
        error_score="raise",
    )
    found = run.process({"omfa": make_pipeline(model)})
    assert found["score"].between(0, 1).all()
    assert len(found) == 1
