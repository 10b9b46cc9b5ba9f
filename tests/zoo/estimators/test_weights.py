"""Networks of braindecode's that start from weights in a file."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from omfa.pipeline import DataError
from omfa.zoo import ArrayDataset, Protocol, Result, Windows, evaluate, rerun
from omfa.zoo.estimators.names import factory_named


@pytest.fixture(scope="module")
def data(make_table):
    table = make_table(subjects=4, sessions=1, trials=4, windows=2)
    X = np.random.default_rng(0).normal(0, 20, (len(table), 4, 128)).astype(np.float32)
    return ArrayDataset(X, table, sfreq=128.0, channels=["O1", "O2", "P3", "P4"])


def network(n_outputs=2, **options):
    factory_named("braindecode:EEGNet")  # makes braindecode importable where its torchaudio is not
    from braindecode.models import EEGNet

    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # braindecode warns of its own defaults
        return EEGNet(n_chans=4, n_outputs=n_outputs, n_times=128, sfreq=128.0, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Weights of a network of five classes, as torch and as safetensors keep them."""
    folder = tmp_path_factory.mktemp("weights")
    state = network(5).state_dict()
    torch.save(state, folder / "eegnet.pt")
    save_file(state, folder / "eegnet.safetensors")
    return folder, state


@pytest.mark.parametrize("file", ["eegnet.pt", "eegnet.safetensors"])
def test_all_but_the_classifier_starts_from_the_file(data, saved, file):
    folder, state = saved
    model = factory_named("braindecode:EEGNet")(weights=str(folder / file))
    y = data.metadata["target"].to_numpy()
    model.check(Windows(data, np.arange(len(y)), classes=("a", "b"), y=y))
    own = model.network_.network.state_dict()
    kept = [name for name in own if not name.startswith("final_layer.")]
    assert len(kept) == len(own) - 2
    for name in kept:
        assert torch.equal(own[name], state[name]), name
    assert own["final_layer.conv_classifier.weight"].shape[0] == 2


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s: without(s, "bnorm_2.weight"), "18 of its 19 tensors .*bnorm_2.weight is"),
        (lambda s: s | {"mask_token": torch.ones(3)}, "19 of its 19 .*mask_token is none of"),
        (lambda s: s | {"bnorm_2.weight": torch.ones(3)}, r"18 of its 19 .*shape \(3,\), not \("),
        (lambda s: {"model": s}, "no table of tensors by name"),
    ],
)  # fmt: skip
def test_less_than_all_is_refused_before_anything_is_trained(data, saved, tmp_path, change, found):
    torch.save(change(dict(saved[1])), tmp_path / "other.pt")
    with pytest.raises(DataError, match=found):
        evaluate(
            "braindecode:EEGNet",
            data,
            Protocol("cross-subject", n_folds=2),
            parameters={"weights": str(tmp_path / "other.pt")},
        )


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="Get the file again"):
        factory_named("braindecode:EEGNet")(weights=str(tmp_path / "gone.pt"))
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="Get the file again"):
        factory_named("braindecode:EEGNet")(weights=str(tmp_path / "bad.safetensors"))


def test_a_result_says_which_weights_it_started_from(data, saved, tmp_path):
    """Its name depends on their content and not on where they lie."""
    folder, _ = saved
    how = {"epochs": 1}
    protocol = Protocol("cross-subject", n_folds=2)

    def run(weights):
        parameters = how if weights is None else {**how, "weights": str(weights)}
        return evaluate(
            "braindecode:EEGNet", data, protocol, out=tmp_path / "r", parameters=parameters
        )

    (tmp_path / "eegnet.pt").write_bytes((folder / "eegnet.pt").read_bytes())
    first, copied, scratch = run(tmp_path / "eegnet.pt"), run(folder / "eegnet.pt"), run(None)
    assert first.path == copied.path != scratch.path
    config = Result.load(first.path).config
    assert config["weights"]["tensors"] == 19
    assert config["weights"]["name"] == "eegnet.pt"
    assert config["pretraining"]["kind"] == "unknown"
    assert "weights" not in scratch.config
    assert str(folder) not in json.dumps(config)
    assert rerun(first.path, data).predictions.equals(first.predictions)
    torch.save(network(5, F1=4).state_dict(), tmp_path / "eegnet.pt")
    with pytest.raises(DataError, match="not those it was made with"):
        rerun(first.path, data)
