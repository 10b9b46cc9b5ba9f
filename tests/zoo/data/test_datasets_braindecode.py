"""Stores as braindecode datasets, and all that braindecode does with them."""

import pickle

import numpy as np
import pytest
import torch

pytestmark = [
    # What braindecode, skorch and MNE deprecate among themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
]

from omfa.models import OMFA, UnitWarning  # noqa: E402
from omfa.pipeline import DataError  # noqa: E402
from omfa.zoo import TrialsLeftOut, open_dataset, to_braindecode, to_microvolts  # noqa: E402


@pytest.fixture(scope="module")
def store(lay_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "a.zarr"
    trials = ((30, 500), (560, 430), (990, 200), (1200, 500))
    return lay_store(folder, subjects=3, sessions=2, trials=trials, n_times=1800)


@pytest.fixture(scope="module", params=["memory", "stream"])
def data(request, store):
    return open_dataset(store, 1.0, 0.5, target="emotion", cache=request.param)


def test_trials_too_short_for_a_window_are_said_of_the_braindecode_dataset(store):
    with pytest.warns(TrialsLeftOut):
        data = open_dataset(store, 4.5, target="emotion", cache="stream")
    with pytest.warns(TrialsLeftOut, match="braindecode.*12 of 24 trials left out: 12 shorter"):
        to_braindecode(data)


def test_items_are_the_datasets_own_in_microvolts(data):
    converted = to_braindecode(data)
    assert len(converted) == len(data)
    assert len(converted.datasets) == 6
    for i in (0, 7, len(data) - 1):
        X, y, place = converted[i]
        expected, target, own = data[i]
        assert X.dtype == np.float32
        np.testing.assert_allclose(X, expected, rtol=1e-5)
        assert (y, place) == (target, own)
        assert type(y) is int
    raw = converted.datasets[0].raw
    assert set(raw.get_channel_types()) == {"eeg"}
    assert np.abs(raw[0, :100][0]).max() < 1e-3  # volts


def test_metadata_and_splits(data):
    converted = to_braindecode(data)
    for _ in range(2):  # get_metadata writes into what it reads
        table = converted.get_metadata()
        assert table["target"].tolist() == data.y.tolist()
        assert table["i_start_in_trial"].tolist() == data.metadata["i_start_in_trial"].tolist()
        assert [converted[i][1] for i in range(0, 30, 7)] == data.y[0:30:7].tolist()
    assert list(converted.split("subject")) == ["sub-01", "sub-02", "sub-03"]
    assert list(converted.split("session")) == ["ses-1", "ses-2"]
    described = converted.description[["subject", "session", "run"]]
    assert not described.duplicated().any()
    for dataset in converted.datasets:
        assert (np.diff(dataset.metadata["i_start_in_trial"]) > 0).all()


def test_a_record_for_each_trial(data):
    converted = to_braindecode(data, per="trial")
    assert len(converted.datasets) == 24
    assert len(converted.split("trial")) == 4
    assert not converted.description[["subject", "session", "run"]].duplicated().any()
    np.testing.assert_allclose(converted[20][0], data[20][0], rtol=1e-5)
    assert converted.datasets[1][0][2] == [0, 0, 100]


def test_two_datasets_keep_their_subjects_apart(lay_store, store, tmp_path):
    other = lay_store(tmp_path / "b.zarr", source="other", channels=("Cz", "Pz"))
    data = open_dataset([store, other], 1.0, target="emotion", cache="stream")
    converted = to_braindecode(data)
    assert set(converted.split("subject")) == {
        *(f"tiny-sub-0{i}" for i in (1, 2, 3)),
        *(f"other-sub-0{i}" for i in (1, 2)),
    }
    last = converted.datasets[-1]
    assert last.raw.info["bads"] == ["Fp1", "F3", "T8", "O1", "O2"]
    np.testing.assert_allclose(last[0][0], data.take([len(data) - last.__len__()])[0][0], rtol=1e-5)


def test_overlapping_trials_need_a_record_each(lay_store, tmp_path):
    folder = lay_store(tmp_path / "o.zarr", trials=((0, 300), (0, 200), (400, 200)))
    data = open_dataset(folder, 1.0, target="emotion", cache="memory")
    with pytest.raises(DataError, match=r"start at the same sample.*per='trial'"):
        to_braindecode(data)
    assert len(to_braindecode(data, per="trial")) == len(data)


# braindecode leaves the files open that it reads.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_save_and_load(data, tmp_path):
    from braindecode.datautil import load_concat_dataset

    converted = to_braindecode(data)
    converted.save(str(tmp_path))
    loaded = load_concat_dataset(str(tmp_path), preload=False)
    model = OMFA(n_outputs=2, n_chans=len(data.channels), sfreq=data.sfreq, preset="tiny").eval()
    with pytest.warns(UnitWarning, match="looks like volts"):
        model(torch.as_tensor(loaded[9][0])[None].float())
    loaded.transform = to_microvolts
    assert list(loaded.split("subject")) == ["sub-01", "sub-02", "sub-03"]
    assert loaded.get_metadata()["target"].tolist() == data.y.tolist()
    X, y, place = loaded[9]
    np.testing.assert_allclose(X, data[9][0], rtol=1e-4)
    assert [y, place] == list(data[9][1:])
    assert loaded.datasets[0].window_kwargs[0][1]["window_seconds"] == 1.0


def test_pickle_and_workers(data):
    converted = to_braindecode(data)
    again = pickle.loads(pickle.dumps(converted))
    assert np.array_equal(again[5][0], converted[5][0])
    loader = torch.utils.data.DataLoader(converted, batch_size=16, num_workers=2)
    assert torch.cat([batch[1] for batch in loader]).tolist() == data.y.tolist()


def test_samplers_of_self_supervised_learning(data):
    from braindecode.samplers.ssl import RelativePositioningSampler

    converted = to_braindecode(data)
    sampler = RelativePositioningSampler(
        converted.get_metadata(), tau_pos=200, tau_neg=400, n_examples=50, random_state=0
    )
    rows = data.metadata
    for first, second, near in sampler:
        one, two = rows.iloc[first], rows.iloc[second]
        same = (one[["subject", "session"]] == two[["subject", "session"]]).all()
        distance = abs(one["i_start_in_trial"] - two["i_start_in_trial"])
        assert near == (same and distance <= 200)
    assert converted[[1, 5]][0].shape == (2, 6, 100)


@pytest.mark.filterwarnings("ignore:Applying preprocessors")
def test_preprocess_reads_the_signal(data):
    from braindecode.preprocessing import Preprocessor, preprocess

    converted = to_braindecode(data)
    preprocess(converted, [Preprocessor("pick", picks=["Cz", "O1"], apply_on_array=False)])
    assert converted[0][0].shape == (2, 100)


def test_a_classifier_fits(data):
    from braindecode import EEGClassifier
    from braindecode.models import EEGNet
    from skorch.helper import predefined_split

    parts = to_braindecode(data).split("subject")
    net = EEGClassifier(
        EEGNet,
        classes=list(range(3)),
        train_split=predefined_split(parts["sub-03"]),
        batch_size=16,
        max_epochs=1,
        verbose=0,
        module__chs_info=data.chs_info,
    )
    net.fit(parts["sub-01"], y=None)
    assert net.predict(parts["sub-02"]).shape == (len(parts["sub-02"]),)
    assert "valid_acc" in net.history[-1]


def test_omfa_learns_from_the_loader(data):
    from omfa.models import OMFA

    model = OMFA(3, chs_info=data.chs_info, n_times=data.n_times, sfreq=data.sfreq, preset="tiny")
    batch = next(iter(data.loader(8, shuffle=True)))
    assert model(batch.X, mask=batch.present).shape == (8, 3)
