import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from omfa.models import OMFA
from omfa.pipeline import DataError
from omfa.zoo import Protocol, Result, compare_table, evaluate, plan, rerun
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.checkpoints.folder import digest, save_checkpoint
from omfa.zoo.estimators.braindecode_networks import braindecode
from omfa.zoo.estimators.embeddings import Embeddings
from omfa.zoo.estimators.names import factory_named
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.omfa_networks import controls, omfa, omfa_of_random_weights
from omfa.zoo.protocols.protocol import SUBJECT, TRIAL, codes
from omfa.zoo.protocols.windows import ArrayDataset, Windows

SFREQ = 128.0
CHANNELS = ["Fp1", "Fp2", "C3", "C4", "O1", "O2"]
THREE = Protocol("cross-subject", n_folds=3)
TINY = {"preset": "tiny", "epochs": 12, "lr": 3e-3, "device": "cpu"}
FROZEN = {**TINY, "freeze": "encoder"}


def simulated(metadata, gain, *, n_times=192, seed=0):
    """Noise in which class 1 has ``gain`` times the 10 Hz amplitude in half of the channels."""
    rng = np.random.default_rng(seed)
    shape = len(metadata), len(CHANNELS), 1
    wave = np.sin(2 * np.pi * 10 * np.arange(n_times) / SFREQ + rng.uniform(0, 6.28, shape))
    strength = np.ones(shape)
    strength[metadata["target"].to_numpy() == 1, :3] = gain
    X = 10 * (rng.standard_normal((*shape[:2], n_times)) + strength * wave)
    return ArrayDataset(X, metadata, sfreq=SFREQ, channels=CHANNELS)


@pytest.fixture(scope="module")
def easy(make_table):
    return simulated(make_table(sessions=1), 3.0)


def sides(dataset, *edges):
    """Cut the windows at ``edges`` into sides."""
    y = dataset.metadata["target"].to_numpy()
    rows = np.split(np.arange(len(y)), edges)
    return [Windows(dataset, some, classes=("0", "1"), y=y[some]) for some in rows]


@pytest.fixture
def save(tmp_path):
    def save(name="one", saw=(("elsewhere", "01"),), *, stage="pretrained", seed=0, **arguments):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = OMFA(n_outputs=2, sfreq=SFREQ, **{"preset": "tiny", **arguments})
        seen = [
            {
                "dataset": d,
                "subjects": [s],
                "hours": 1.0,
                "recordings": [f"sub-{s.removeprefix('sub-')}_ses-1_run-1 {d}{s} {d}{s}"],
            }
            for d, s in saw
        ]
        card = Card(name, "tiny", stage, 1, {}, seen, {})
        return str(save_checkpoint(tmp_path / name, model, card))

    return save


PROBE = {"preset": "tiny", "head": "logistic", "encoder": "cnn"}


# ---- learning -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("omfa", FROZEN),
        ("omfa", {**TINY, "epochs": 12}),
        ("omfa", PROBE),
        ("braindecode:DGCNN", {"epochs": 20, "lr": 3e-3}),
    ],
    ids=["frozen", "scratch", "probe", "DGCNN"],
)
def test_a_planted_effect_is_learned_and_permuted_labels_are_not(make_table, model, parameters):
    metadata = make_table(sessions=1)
    # To random weights that nobody trains three times the amplitude is little.
    dataset = simulated(metadata, 10.0 if parameters is PROBE else 3.0)
    learned = evaluate(model, dataset, THREE, parameters=parameters)
    assert learned.summary()["mean"]["balanced_accuracy"] > 0.9
    trial = codes(metadata, TRIAL)
    coins = np.tile(np.random.default_rng(3).permutation([0, 1] * 4), 6)
    assert len(coins) == trial.max() + 1
    metadata["target"] = coins[trial] ^ (metadata["subject"].str[-1].astype(int) % 2)
    chance = evaluate(model, dataset, THREE, parameters=parameters)
    assert 0.3 < chance.summary()["mean"]["balanced_accuracy"] < 0.7


def test_a_seed_gives_the_same_again_and_leaves_the_process_as_it_was(easy):
    train, validation, test = sides(easy, 120, 160)
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = [omfa(seed=seed, **{**TINY, "epochs": 2}).fit(train, validation) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert found[0].history_ == found[1].history_ != found[2].history_
    assert np.array_equal(found[0].predict(test), found[1].predict(test))


def test_the_best_epoch_is_kept_and_patience_ends_training(easy):
    train, validation = sides(easy, 120, 160)[:2]
    told = []
    network = omfa(**{**FROZEN, "epochs": 30, "lr": 0.1, "patience": 2, "refit": False})
    network.report = told.append
    network.fit(train, validation)
    assert told == network.history_
    losses = [one["validation_loss"] for one in network.history_]
    best = int(np.argmin(losses))
    assert len(losses) == min(30, best + 1 + 2)
    logits = network.logits(network.inputs_of(validation), len(validation))
    weighted = torch.nn.functional.cross_entropy(logits, torch.from_numpy(validation.y))
    assert float(weighted) == pytest.approx(losses[best], rel=1e-3)  # the classes are as many


def test_refit_learns_from_both_sides(easy):
    train, validation = sides(easy, 120, 160)[:2]
    counted = []

    class Counting(torch.nn.Linear):
        def forward(self, x, present):
            counted.append(len(x))
            return super().forward(x.mean(-1))

    def build(windows):
        counted.append(-len(windows))
        return Counting(6, 2)

    for patience, built in ((None, [160]), (3, [120, 160])):
        counted.clear()
        training = omfa(epochs=3, patience=patience).training
        Network("counting", build, training, seed=0).fit(train, validation)
        assert [-n for n in counted if n < 0] == built


def test_without_validation_all_epochs_are_run(easy):
    train, nothing = sides(easy, 120)[0], sides(easy, 0)[0]
    network = omfa(**{**FROZEN, "epochs": 3}).fit(train, nothing)
    assert len(network.history_) == 3


def test_without_patience_the_last_epoch_is_kept_and_a_refit_needs_no_choice(easy):
    train, validation, test = sides(easy, 120, 160)
    how = {**FROZEN, "epochs": 4, "refit": False}
    last = omfa(seed=1, **how).fit(train, validation)
    assert [one["epoch"] for one in last.history_] == [1, 2, 3, 4]
    assert last.best_ is last.history_[-1]
    alone = omfa(seed=1, **how).fit(train, sides(easy, 120, 120)[1])
    assert np.array_equal(last.predict(test), alone.predict(test))
    both = omfa(seed=1, **{**how, "refit": True}).fit(train, validation)
    joined = omfa(seed=1, **how).fit(train.joined(validation), sides(easy, 120, 120)[1])
    assert np.array_equal(both.predict(test), joined.predict(test))
    assert both.history_ == joined.history_


def test_classes_count_alike(easy):
    """Nine windows of ten are of one class, yet signals without an effect are no case for it."""
    y = easy.metadata["target"].to_numpy()
    rows = np.concatenate([np.flatnonzero(y == 0)[:90], np.flatnonzero(y == 1)[:10]])
    rng = np.random.default_rng(0)
    noise = ArrayDataset(rng.standard_normal(easy.X.shape), easy.metadata, sfreq=SFREQ,
                         channels=CHANNELS)  # fmt: skip
    train = Windows(noise, rows, classes=("0", "1"), y=y[rows])
    network = omfa(**{**FROZEN, "epochs": 1}).fit(train, sides(noise, 0)[0])
    assert network.history_[0]["loss"] > 0.5  # the majority's log loss is 0.33


@pytest.mark.filterwarnings("ignore:.*overflow.*")
def test_a_loss_that_is_no_number_says_so(easy):
    train, validation = sides(easy, 120, 160)[:2]
    with pytest.raises(DataError, match=r"the loss is .*Lower lr"):
        omfa(**{**FROZEN, "lr": 1e30, "warm_up": 0.0}).fit(train, validation)


# ---- the encoder ----------------------------------------------------------------------------


def test_a_frozen_encoder_reads_every_window_once(easy, monkeypatch):
    read = []
    real = Embeddings.__call__

    def reading(self, X, *rest):
        read.append(len(X))
        return real(self, X, *rest)

    monkeypatch.setattr(Embeddings, "__call__", reading)
    evaluate("omfa", easy, THREE, parameters={**FROZEN, "epochs": 1})
    assert sum(read) == len(easy.metadata) + 2  # two that the network is tried on


def test_what_is_learned_on_embeddings_is_an_omfa(easy):
    dataset = ArrayDataset(easy.X.copy(), easy.metadata, sfreq=SFREQ, channels=CHANNELS)
    dataset.present[::3, 4] = False
    dataset.X[::3, 4] = np.nan
    train, validation, test = sides(dataset, 120, 160)
    network = omfa(**{**FROZEN, "epochs": 2}).fit(train, validation)
    X, present = test.take(np.arange(len(test)))
    model = network.network_.model.eval()
    with torch.no_grad():
        whole = model(torch.from_numpy(X), mask=torch.from_numpy(present))
        parts = network.logits(network.inputs_of(test), len(test))
    assert torch.allclose(whole, parts, atol=0.02)


def test_a_linear_probe_is_logistic_regression_on_the_embeddings_of_all_channels(make_table, save):
    checkpoint = save(encoder="cnn")
    dataset = simulated(make_table(sessions=1), 10.0)
    train, validation, test = sides(dataset, 120, 160)
    probe = omfa(checkpoint=checkpoint, head="logistic").fit(train, validation)
    encoder = OMFA.from_pretrained(checkpoint).encoder.eval()

    def embedded(side):
        X, _ = side.take(np.arange(len(side)))
        with torch.no_grad():
            return encoder(torch.from_numpy(X).flatten(0, 1), SFREQ).h.reshape(len(X), -1).numpy()

    learned = np.concatenate([embedded(train), embedded(validation)])
    mean, sd = learned.mean(0), learned.std(0)
    y = np.concatenate([train.y, validation.y])
    golden = LogisticRegression(C=probe.classifier_.C, class_weight="balanced", max_iter=2000)
    golden.fit((learned - mean) / sd, y)
    expected = golden.predict((embedded(test) - mean) / sd)
    assert (probe.predict(test) == expected).mean() > 0.98  # embeddings are kept in half precision
    assert (expected == test.y).mean() > 0.9


@pytest.mark.parametrize("name", ["omfa", "omfa:scratch"])
def test_a_probe_is_smoothed_by_its_name(name):
    probe = {"head": "logistic", "preset": "tiny"}
    assert factory_named(f"{name}+non-causal-lds")(seed=0, **probe).smooth == "lds"
    assert factory_named(name)(seed=0, **probe).smooth is None


def test_what_is_frozen_when(easy, save):
    checkpoint = save()
    start = digest(OMFA.from_pretrained(checkpoint).encoder)
    train, validation = sides(easy, 120, 160)[:2]

    def encoder_after(epochs, **how):
        network = omfa(checkpoint=checkpoint, epochs=epochs, device="cpu", **how)
        return digest(network.fit(train, sides(easy, 0)[0]).network_.model.encoder)

    assert len(validation) == 40
    assert encoder_after(2, freeze="encoder") == start
    assert encoder_after(1) == start  # the default: the first epoch
    assert encoder_after(2) != start
    assert encoder_after(1, freeze="none") != start
    assert encoder_after(1, freeze="none", encoder_lr_scale=0.0) == start
    assert encoder_after(1, freeze="none", layer_decay=0.65) != start


def test_layers_further_down_learn_more_slowly(easy, save):
    network = omfa(checkpoint=save(), freeze="none", layer_decay=0.5, device="cpu")
    network.network_ = network.build(sides(easy, 120)[0])
    scale = {}
    for parameters, share in network.rates():
        scale |= dict.fromkeys(parameters, share)
    model = network.network_.model
    assert set(scale) == set(model.parameters())
    assert scale[model.final_layer.weight] == 1
    encoder = model.encoder
    for part, share in (
        (encoder.readout, 1.0),
        (encoder.blocks[1], 0.5),
        (encoder.blocks[0], 0.25),
        (encoder.stem, 0.125),
    ):
        assert {scale[p] for p in part.parameters()} == {share}


def test_centred_embeddings_no_longer_tell_persons_apart(make_table):
    """Where persons differ more in the rhythm than classes do, it is seen from their means."""
    metadata = make_table(sessions=1)
    person = np.random.default_rng(1).uniform(0, 6, (6, 6))[codes(metadata, SUBJECT)]
    dataset = simulated(metadata, 1.0)
    strength = person + 2 * metadata["target"].to_numpy()[:, None] * (np.arange(6) < 3)
    dataset.X += 10 * strength[..., None] * np.sin(2 * np.pi * 10 * np.arange(192) / SFREQ)
    centred = replace(THREE, centred="subject")
    accuracy = [
        evaluate("omfa", dataset, protocol, parameters=FROZEN).summary()["mean"]["accuracy"]
        for protocol in (THREE, centred)
    ]
    assert accuracy[0] < 0.8
    assert accuracy[1] > 0.9
    with pytest.raises(DataError, match="reads signals, not features"):
        evaluate("omfa", dataset, centred, parameters=TINY)
    with pytest.raises(DataError, match="reads signals, not features"):
        plan("braindecode:EEGNet", dataset, centred)


def test_settings_that_do_not_fit_are_refused(easy, save):
    checkpoint = save()
    for parameters, found in (
        ({"checkpoint": checkpoint, "preset": "small"}, "preset is 'tiny', and 'small'"),
        ({"checkpoint": checkpoint, "resampling": "off"}, "resampling is 'rate', and 'off'"),
        ({"preset": "huge"}, "preset 'huge' is unknown"),
        ({"head": "tail"}, "head 'tail' is unknown"),
        ({"freeze": "half"}, "freeze='half'"),
        ({"learning_rate": 1}, r"no setting 'learning_rate'.* Use some of epochs, lr"),
        ({"head": "logistic", "epochs": 3}, "epochs given, and nothing is trained but a logistic"),
        ({"head": "logistic", "freeze": "none"}, "freeze given, and nothing is trained"),
        ({"smooth": "lds"}, "what a network reads is not smoothed"),
        ({"epochs": 0}, "epochs=0"),
        ({"warm_up": 1.5}, "warm_up=1.5"),
    ):
        with pytest.raises(DataError, match=found):
            evaluate("omfa", easy, THREE, parameters=parameters)
    with pytest.raises(
        DataError, match=r"unexpected keyword argument 'lr'\. It takes no parameters"
    ):
        evaluate("majority", easy, THREE, parameters={"lr": 1})
    for control in ("omfa:scratch", "omfa:random"):
        with pytest.raises(DataError, match="use the model 'omfa'"):
            evaluate(control, easy, THREE, parameters={"checkpoint": checkpoint})
    for given in ({"checkpoint": checkpoint}, {"freeze": "encoder"}, {"connectivity": False}):
        with pytest.raises(DataError, match="given, and it reads the coherency alone"):
            evaluate("omfa", easy, THREE, parameters={"head": "coherency", **given})
    with pytest.raises(DataError, match="starts from no checkpoint"):
        controls(FROZEN)


def test_a_result_of_before_means_what_it_meant_when_it_is_run_again(easy, tmp_path):
    """Defaults have changed since: what its file left unsaid is said by the reader."""
    given = {**FROZEN, "epochs": 2, "head": "mean"}
    then = {"patience": 10, "refit": False, "connectivity": False, "spectral": False}
    then["bursts"] = False
    result = evaluate("omfa", easy, THREE, parameters={**given, **then})
    of_3 = {name: value for name, value in {**given, **then}.items() if name != "bursts"}
    of_2 = {name: value for name, value in of_3.items() if name != "spectral"}
    for number, said in ((1, given), (2, of_2), (3, of_3)):
        config = {**result.config, "format": number, "parameters": said}
        path = replace(result, config=config).save(tmp_path / f"old-{number}.zip")
        assert Result.load(path).config["parameters"] == {**given, **then}
        assert rerun(path, easy).predictions.equals(result.predictions)


# ---- controls -------------------------------------------------------------------------------


def test_controls_have_the_architecture_of_the_checkpoint(easy, save):
    checkpoint = save(tokens_per_second=4.0, encoder="patch", stem_layers=3)
    given = {"checkpoint": checkpoint, "freeze": "encoder", "encoder_lr_scale": 0.5, "epochs": 1}
    own = {"preset": "tiny", "encoder": "patch", "resampling": "rate", "tokens_per_second": 4.0}
    own |= {"spectral": True, "bursts": True, "stem_layers": 3}
    matched = controls(given)
    assert matched == {
        "omfa:random": {**own, "freeze": "encoder", "encoder_lr_scale": 0.5, "epochs": 1},
        "omfa:scratch": {**own, "epochs": 1},
    }
    train = sides(easy, 40)[0]

    def sizes(name, parameters):
        network = factory_named(name)(**parameters)
        parts = network.build(train).model.state_dict()
        return {part: value.shape for part, value in parts.items()}

    assert len({str(sizes(name, how)) for name, how in {"omfa": given, **matched}.items()}) == 1


def test_random_weights_are_treated_as_pretrained_ones_are(easy):
    """Frozen where these are, from one encoder in all folds, and from another in another run."""
    train, nothing = sides(easy, 40)[0], sides(easy, 0)[0]

    def encoder(**how):
        network = omfa_of_random_weights(**{**TINY, "epochs": 1, **how})
        return digest(network.fit(train, nothing).network_.model.encoder)

    assert encoder(seed=1) == encoder(seed=2) == encoder(freeze="encoder")  # the first epoch
    assert encoder(run_seed=1) != encoder(run_seed=0)
    assert encoder(freeze="none", encoder_lr_scale=0.0) == encoder()
    assert encoder(freeze="none") != encoder()


def test_a_run_of_random_weights_reads_every_window_once(easy, monkeypatch):
    drawn = []
    real = Embeddings.__call__

    def reading(self, X, *rest):
        drawn.extend([self.digest] * len(X))
        return real(self, X, *rest)

    monkeypatch.setattr(Embeddings, "__call__", reading)
    for seed in (0, 1):
        evaluate("omfa:random", easy, THREE, seed=seed, parameters={**FROZEN, "epochs": 1})
    assert len(set(drawn)) == 2
    assert len(drawn) == 2 * (len(easy.metadata) + 2)  # two that the network is tried on


def test_coherency_alone_has_no_encoder_and_learns_from_the_pairs(easy):
    how = {**TINY, "epochs": 2, "head": "coherency"}
    train, validation, test = sides(easy, 120, 160)
    network = omfa(**how).fit(train, validation)
    model = network.network_.model.eval()
    assert model.encoder is None
    X, present = test.take(np.arange(len(test)))
    with torch.no_grad():
        whole = model(torch.from_numpy(X), mask=torch.from_numpy(present))
    parts = network.logits(network.inputs_of(test), len(test))
    assert torch.allclose(whole, parts, atol=0.02)


# ---- what pre-training saw ------------------------------------------------------------------


def test_the_card_says_what_pretraining_saw(easy, save):
    def kind(checkpoint, **how):
        parameters = {**FROZEN, "preset": None, "epochs": 1, "checkpoint": checkpoint}
        return evaluate("omfa", easy, THREE, parameters=parameters, **how).config["pretraining"]

    assert kind(save())["kind"] == "dataset held out"
    assert kind(save("two", [("set0", "77")]))["kind"] == "inductive"
    tested = save("three", [("set0", "01")])  # "sub-01" in the dataset
    with pytest.raises(DataError, match=r"saw 1 of the tested subjects \(set0/sub-01\)"):
        kind(tested)
    seen = kind(tested, transductive=True)
    assert (seen["kind"], seen["seen"]) == ("transductive", ("set0/sub-01",))
    # The dataset itself has no digests.
    assert seen["compared"] == "names"
    labelled = save("four", [("set0", "sub-01")], stage="finetuned")
    with pytest.raises(DataError, match="it may have seen their labels"):
        kind(labelled, transductive=True)
    skip = Protocol("cross-subject", n_folds=3, skip=("set0/sub-01",))
    parameters = {**FROZEN, "preset": None, "epochs": 1, "checkpoint": labelled}
    assert "inductive" in repr(evaluate("omfa", easy, skip, parameters=parameters))


def test_a_changed_checkpoint_is_another_result(easy, save, tmp_path):
    checkpoint = save()
    parameters = {**FROZEN, "preset": None, "epochs": 1, "checkpoint": checkpoint}
    out = tmp_path / "out"
    first = evaluate("omfa", easy, THREE, parameters=parameters, out=out)
    assert evaluate("omfa", easy, THREE, parameters=parameters, out=out).path == first.path
    moved = {**parameters, "checkpoint": str(tmp_path / "moved")}
    shutil.copytree(checkpoint, moved["checkpoint"])
    assert evaluate("omfa", easy, THREE, parameters=moved, out=out).path == first.path
    save(seed=1)
    second = evaluate("omfa", easy, THREE, parameters=parameters, out=out)
    assert second.path != first.path
    assert second.config["checkpoint"]["weights"] != first.config["checkpoint"]["weights"]


# ---- braindecode ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["EEGNet", "Labram", "CBraMod", "DGCNN", "TSception", "EEGConformer"]
)
def test_braindecode_models(make_table, name):
    dataset = simulated(make_table(subjects=3, sessions=1, trials=4, windows=3), 2.0, n_times=256)
    parameters = {"epochs": 1, "sfreq": 200.0 if name in ("CBraMod", "Labram") else None}
    result = evaluate(f"braindecode:{name}", dataset, THREE, parameters=parameters)
    assert result.estimator == f"braindecode:{name}"
    assert len(result.predictions) == len(dataset.metadata)


def test_braindecode_models_that_cannot_be(make_table):
    dataset = simulated(make_table(), 1.0, n_times=16)
    with pytest.raises(DataError, match=r"Trying braindecode's EEGNet on windows of 6 ch"):
        evaluate("braindecode:EEGNet", dataset)
    with pytest.raises(DataError, match=r"'EEGNot': there is none .* EEGNet, "):
        evaluate("braindecode:EEGNot", dataset)


def test_channels_are_standardised_by_the_training_side(easy):
    dataset = ArrayDataset(easy.X * 3 + 7, easy.metadata, sfreq=SFREQ, channels=CHANNELS)
    dataset.present[:, 5] = False
    dataset.X[:, 5] = np.nan
    dataset.X[120:] += 1e4
    train, validation, _ = sides(dataset, 120, 160)
    how = {"epochs": 1, "patience": 1, "refit": False}  # else validation is learnt from too
    network = braindecode(model="DGCNN", **how).fit(train, validation).network_
    used = dataset.X[:120, :5].astype(float)
    assert np.allclose(network.mean[:5], used.mean((0, 2)), rtol=1e-4)
    assert np.allclose(network.sd[:5], used.std((0, 2)), rtol=1e-4)
    assert (float(network.mean[5]), float(network.sd[5])) == (0, 1)


# ---- running --------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_and_dask_give_the_same_as_one(easy):
    from distributed import Client, LocalCluster
    from joblib.externals.loky import get_reusable_executor

    parameters = {**FROZEN, "epochs": 3}
    one = evaluate("omfa", easy, THREE, parameters=parameters)
    two = evaluate("omfa", easy, THREE, parameters=parameters, n_jobs=2)
    get_reusable_executor().shutdown(wait=True)
    assert one.predictions.equals(two.predictions)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        with Client(cluster) as client:
            on_dask = evaluate("omfa", easy, THREE, parameters=parameters, scheduler=client)
        again = evaluate("majority", easy, THREE, scheduler=cluster.scheduler_address)
    assert one.predictions.equals(on_dask.predictions)
    assert again.predictions.equals(evaluate("majority", easy, THREE).predictions)


def test_a_plan_counts_what_is_left_and_takes_the_time(easy, tmp_path):
    parameters = {**FROZEN, "epochs": 2}
    ahead = plan("omfa", easy, THREE, parameters=parameters, out=tmp_path)
    assert ahead.n_fits == 3
    assert ahead.seconds > 0
    assert "3 fits" in str(ahead)
    assert set(ahead.folds["side"]) == {"train", "validation", "test"}
    assert not list(tmp_path.iterdir())
    evaluate("omfa", easy, THREE, parameters=parameters, out=tmp_path)
    assert plan("omfa", easy, THREE, parameters=parameters, out=tmp_path).n_fits == 0
    for other in ("differential-entropy+ridge", "braindecode:DGCNN"):
        assert plan(other, easy, THREE).seconds > 0


def test_seeds_are_averaged_by_subject(easy):
    results = [
        evaluate("omfa", easy, THREE, seed=seed, parameters={**FROZEN, "epochs": 1})
        for seed in (0, 1)
    ]
    majority = evaluate("majority", easy, THREE)
    table = compare_table([majority, results], majority)
    assert table["n_seeds"].tolist() == [1, 2]
    mean = np.mean([result.summary()["mean"]["accuracy"] for result in results])
    assert table["accuracy"].iloc[1] == pytest.approx(mean)
