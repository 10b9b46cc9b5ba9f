"""What a checkpoint saw is found out under any name, by the digests that its card keeps."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from omfa.pipeline import DataError
from omfa.pipeline import store as stores
from omfa.pipeline.errors import DataWarning
from omfa.pipeline.metadata import write_root
from omfa.zoo import Protocol, evaluate, load_card, open_dataset, rerun
from omfa.zoo.finetune import fine_tune
from omfa.zoo.pretraining.run import pretrain_encoder
from omfa.zoo.pretraining.settings import Settings

QUICK = Settings(
    preset="tiny",
    window_seconds=2,
    lag_seconds=(1, 2),
    steps=2,
    batch_size=16,
    channels_per_window=4,
)
SHORT = {"epochs": 1, "patience": None}
PROBE = {"head": "logistic"}
ALL = Protocol("cross-subject", n_folds=2)
HELD = Protocol("cross-subject", n_folds=2, tested=("*/sub-03", "*/sub-04"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("seen")


@pytest.fixture(scope="module")
def store(folder, lay_store):
    return lay_store(
        folder / "mine.zarr",
        source="mine",
        subjects=4,
        sfreq=128.0,
        n_times=3000,
        trials=[(i * 500, 500) for i in range(6)],
        labels={"emotion": np.arange(6) % 2},
    )


@pytest.fixture(scope="module")
def checkpoint(folder, store):
    return str(pretrain_encoder(store, folder / "run", QUICK, hold_out=["mine/sub-0[34]"]))


@pytest.fixture(scope="module")
def renamed(folder, store):
    """Open the store under another name."""

    def renamed(name):
        copy = folder / f"{name}.zarr"
        if not copy.exists():
            shutil.copytree(store, copy)
            settings = stores.open_store(copy).settings
            write_root(stores.locate(copy), {**settings, "source": name})
        return open_dataset(copy, 2.0, target="emotion")

    return renamed


@pytest.fixture(scope="module")
def undigested(folder, checkpoint):
    """A checkpoint of before there were digests."""
    copy = folder / "older"
    shutil.copytree(checkpoint, copy)
    card = json.loads((copy / "card.json").read_text())
    for part in card["saw"]:
        del part["recordings"], part["held_out"]
    (copy / "card.json").write_text(json.dumps(card))
    return str(copy)


def claim(dataset, checkpoint, protocol, **how):
    parameters = {**PROBE, "checkpoint": checkpoint}
    return evaluate("omfa", dataset, protocol, parameters=parameters, **how).config["pretraining"]


def test_a_card_keeps_digests_of_what_was_seen_and_of_what_was_held_out(checkpoint, store):
    card = load_card(checkpoint)
    assert {one.subject for one in card.recorded()} == {"sub-01", "sub-02"}
    assert {one.subject for one in card.recorded("held_out")} == {"sub-03", "sub-04"}
    attributes = json.loads((store / "sub-01_ses-1_run-1" / "zarr.json").read_text())["attributes"]
    assert card.recorded()[0].signal == attributes["signal_sha256"][:16]
    assert not card.undigested


def test_people_are_found_under_another_name(checkpoint, renamed):
    other = renamed("theirs")
    found = r"saw 2 of the tested subjects \(theirs/sub-01, which its card calls mine/sub-01, "
    with pytest.raises(DataError, match=found):
        claim(other, checkpoint, ALL)
    seen = claim(other, checkpoint, ALL, transductive=True)
    assert (seen["kind"], seen["compared"]) == ("transductive", "digests")
    assert {"theirs/sub-01", "mine/sub-02"} <= set(seen["seen"])
    assert [line.split()[0] for line in seen["recordings"]] == [
        "mine/sub-01_ses-1_run-1",
        "mine/sub-02_ses-1_run-1",
    ]


def test_a_dataset_is_not_held_out_because_it_has_another_name(
    checkpoint, renamed, lay_store, folder
):
    assert claim(renamed("theirs"), checkpoint, HELD)["kind"] == "inductive"
    # Nor if nobody who was seen is in it: the others were at hand.
    rest = renamed("theirs")
    rest = rest.select(rest.metadata["subject"].isin(["sub-03", "sub-04"]).to_numpy())
    assert claim(rest, checkpoint, "within-subject")["kind"] == "inductive"
    new = lay_store(
        folder / "new.zarr", source="new", subjects=4, sfreq=128.0, n_times=3000, seed=5,
        trials=[(i * 500, 500) for i in range(6)], labels={"emotion": np.arange(6) % 2},
    )  # fmt: skip
    dataset = open_dataset(new, 2.0, target="emotion")
    assert claim(dataset, checkpoint, ALL)["kind"] == "dataset held out"


def test_other_people_of_one_unnamed_dataset_are_not_the_same(folder, store, checkpoint, lay_store):
    card = load_card(checkpoint)
    unnamed = folder / "unnamed"
    shutil.copytree(checkpoint, unnamed)
    saw = [{**part, "dataset": "files"} for part in card.saw]
    (unnamed / "card.json").write_text(replace(card, saw=saw).to_json())
    others = lay_store(
        folder / "files.zarr", source="files", subjects=4, sfreq=128.0, n_times=3000, seed=6,
        trials=[(i * 500, 500) for i in range(6)], labels={"emotion": np.arange(6) % 2},
    )  # fmt: skip
    found = claim(open_dataset(others, 2.0, target="emotion"), str(unnamed), ALL)
    assert found["kind"] == "dataset held out"


def test_a_card_without_digests_says_that_only_names_were_compared(undigested, renamed):
    with pytest.warns(DataWarning, match="no digests of 2 of the 2 subjects .* only names"):
        found = claim(renamed("theirs"), undigested, ALL)
    assert (found["kind"], found["compared"]) == ("dataset held out", "names")


def test_an_older_result_is_run_again_with_the_claim_corrected(
    undigested, checkpoint, renamed, tmp_path
):
    other = renamed("theirs")
    parameters = {**PROBE, "checkpoint": undigested}
    with pytest.warns(DataWarning, match="only names"):
        old = evaluate("omfa", other, ALL, parameters=parameters, out=tmp_path)
    shutil.copy(f"{checkpoint}/card.json", f"{undigested}/card.json")
    with pytest.warns(DataWarning, match="called 'dataset held out', .* it is 'transductive'"):
        again = rerun(old.path, other)
    assert again.config["pretraining"]["kind"] == "transductive"
    assert (again.predictions["y_pred"] == old.predictions["y_pred"]).all()


def test_labels_that_a_fine_tuned_checkpoint_saw_are_found_under_another_name(
    folder, store, checkpoint, renamed
):
    mine = open_dataset(store, 2.0, target="emotion")
    mine = mine.select(mine.metadata["subject"].isin(["sub-01", "sub-03", "sub-04"]).to_numpy())
    tuned = str(
        fine_tune(
            mine,
            folder / "tuned",
            checkpoint=checkpoint,
            parameters=SHORT,
        )
    )
    (part,) = load_card(tuned).saw
    assert [len(part[name]) for name in ("subjects", "recordings", "held_out")] == [4, 4, 0]
    with pytest.raises(DataError, match="it may have seen their labels"):
        claim(renamed("theirs"), tuned, ALL, transductive=True)
    with pytest.warns(DataWarning, match=r"under other names \(theirs/sub-01 as mine/sub-01"):
        fine_tune(
            renamed("theirs"),
            folder / "tuned-theirs",
            checkpoint=checkpoint,
            parameters=SHORT,
        )
