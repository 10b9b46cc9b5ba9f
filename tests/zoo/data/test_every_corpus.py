"""All corpora that have a reader, small and simulated: ingested, and opened as one dataset."""

import numpy as np
import pytest

from omfa.pipeline import UCS, ingest, open_store, simulate
from omfa.pipeline.readers import READERS
from omfa.pipeline.simulation import CORPORA, Truth
from omfa.zoo import Pretraining, Protocol, evaluate, load_card, open_dataset
from omfa.zoo.data.common import COMMON, VALENCE
from omfa.zoo.data.opening import SignalPathWarning
from omfa.zoo.pretraining.run import pretrain_encoder
from omfa.zoo.pretraining.settings import Settings

SECONDS = 4
TONE = 120.0  # microvolts: above the rhythms
SIZES = {name: {"subjects": 2, "sessions": 1} for name in CORPORA}
SIZES["seed-vii"]["sessions"] = 4  # all are in one file
WINDOW = 2.0


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every")
    for name, size in SIZES.items():
        simulate(
            name, folder / name, seconds=SECONDS, bad_channels=0, tones=TONE, progress=False, **size
        )
    return folder


@pytest.fixture(scope="module")
def stores(trees):
    made = {}
    for name in CORPORA:
        made[name] = trees / f"{name}.zarr"
        summary = ingest(name, trees / name, made[name], serial=True, progress=False)
        assert summary.complete, summary.having("failed")
    return made


def test_every_corpus_that_has_a_reader_is_simulated_and_has_a_common_valence():
    corpora = {name for name, path in READERS.items() if ".corpora." in path}
    assert set(CORPORA) == corpora == set(COMMON["valence"])


@pytest.mark.parametrize("name", CORPORA)
def test_each_channel_of_a_store_has_the_tone_of_its_electrode(trees, stores, name):
    planted = {}
    for recording in Truth.load(trees / name).recordings:
        for channel, tone in recording["tones"].items():
            assert planted.setdefault(channel, tone) == tone
    tones = dict(zip(UCS.canonicalize(list(planted)), planted.values(), strict=True))
    assert len(set(tones.values())) == len(tones)
    assert max(tones.values()) < 45  # all in the pass band
    store = open_store(stores[name])
    for recording in store:
        n_times = int(WINDOW * recording.sfreq)
        onset = int(recording.trials["onset"].iloc[0])
        signal = recording.signal(onset, onset + n_times)
        power = np.abs(np.fft.rfft(signal * np.hanning(n_times)))
        first = int(5 * WINDOW)  # where the tones begin
        heard = np.fft.rfftfreq(n_times, 1 / recording.sfreq)[power[:, first:].argmax(1) + first]
        assert dict(zip(recording.channels, heard.tolist(), strict=True)) == {
            channel: tones[channel] for channel in recording.channels
        }


@pytest.fixture(scope="module")
def together(stores):
    with pytest.warns(SignalPathWarning, match="lower edge of the band and reference"):
        return open_dataset(
            list(stores.values()), WINDOW, channels="union", target="common:valence"
        )


def test_one_dataset_of_all_has_the_classes_that_each_corpus_planted(trees, together):
    assert together.classes == VALENCE
    assert set(together.metadata["dataset"]) == set(CORPORA)
    assert set(together.channels) >= {"A1", "A2", "PO9", "PO10", "CB1", "CB2"}
    metadata = together.metadata
    for name in CORPORA:
        of_it = (metadata["dataset"] == name).to_numpy()
        planted = {
            row["class_valence"]
            for row in Truth.load(trees / name).trials
            if row.get("emotion") != "surprise" and "class_valence" in row
        }
        if name in ("seed", "deap", "dreamer", "amigos"):  # codes and ratings, of other thresholds
            assert set(together.y[of_it]) == {0, 1, 2}
        else:
            assert {int(code) - 1 for code in set(together.y[of_it])} == planted


def test_corpora_are_tested_on_one_another(together):
    result = evaluate("majority", together, Protocol("cross-dataset"))
    assert len(result.subjects) == 2 * len(CORPORA)
    assert set(result.predictions["dataset"]) == set(CORPORA)
    assert np.isfinite(result.subjects["accuracy"]).all()


def test_one_encoder_is_pretrained_on_all_but_one_and_tuned_to_that(stores, together, tmp_path):
    quick = Settings(preset="tiny", window_seconds=1, lag_seconds=(0, 0), steps=2, batch_size=16,
                     channels_per_window=8)  # fmt: skip
    paths = list(stores.values())
    with pytest.warns(SignalPathWarning):
        folder = pretrain_encoder(paths, tmp_path / "run", quick, hold_out=["thu-ep/*"])
    assert {saw["dataset"] for saw in load_card(folder).saw} == set(CORPORA) - {"thu-ep"}
    new = together.select((together.metadata["dataset"] == "thu-ep").to_numpy())
    result = evaluate(
        "omfa",
        new,
        Protocol("within-subject", n_folds=2),
        pretraining=Pretraining("dataset held out", str(folder)),
        parameters={"preset": "tiny", "epochs": 1, "patience": None, "device": "cpu"},
    )
    assert len(result.subjects) == 2
