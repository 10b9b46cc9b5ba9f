"""Positives from other people under the same clip: who is paired with whom, when and where."""

import numpy as np
import pytest
import torch

from omfa.pipeline import DataError
from omfa.zoo.checkpoints.folder import load_card
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.pretraining.clips import SharedClips, is_clip
from omfa.zoo.pretraining.run import learning_curve, pretrain_encoder
from omfa.zoo.pretraining.settings import STRIDE, Settings

RATE, VIEW = 50.0, 2.0
N, GAP = 600, 70  # samples of a clip, and of what is before it


@pytest.fixture(scope="module")
def lay(lay_store):
    """Lay a store whose samples say whose they are, where, of which clip, and when."""

    def laid(folder, *, people, clips, n_chans=3):
        def order(person):  # everyone sees them in another one
            return [clips[(i + person) % len(clips)] for i in range(len(clips))]

        def signals(person):
            told = [int(clip) * 1000 + np.arange(-GAP, N) for clip in order(person)]
            channel = np.arange(n_chans)[:, None]
            return (np.concatenate(told) + 10_000 * channel + 100_000 * person).astype(np.float32)

        return lay_store(
            folder, source=folder.stem, subjects=people, channels=("Cz", "O1", "O2")[:n_chans],
            sfreq=RATE, trials=[(i * (N + GAP) + GAP, N) for i in range(len(clips))],
            n_times=len(clips) * (N + GAP), dtype="float32", labels={}, stimuli=order,
            signals=signals,
        )  # fmt: skip

    return laid


@pytest.fixture(scope="module")
def stores(tmp_path_factory, lay):
    """Two corpora of other montages."""
    folder = tmp_path_factory.mktemp("clips")
    return [
        str(lay(folder / "one.zarr", people=4, clips="123")),
        str(lay(folder / "two.zarr", people=3, clips="12", n_chans=2)),
    ]


def opened(stores):
    return open_dataset(
        stores, VIEW + STRIDE, STRIDE, channels="native", rates="native", mask_bad=True
    )


def read(x):
    """Return person, channel, clip and second of every sample, as the store was written."""
    whole = x.double().round().long()
    return whole // 100_000, whole // 10_000 % 10, whole // 1000 % 10, whole % 1000


def test_pairs_are_two_people_one_channel_one_clip_one_second(stores):
    shared = SharedClips(opened(stores), VIEW)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        pairs = shared.draw(6, 2, rng)
        assert pairs.x.shape == pairs.other.shape == (2, 12, round(VIEW * RATE))
        person, channel, clip, sample = read(pairs.x)
        assert (person[0] != person[1]).all()
        for same in (channel, clip, sample):
            assert (same[0] == same[1]).all()
        assert (channel == channel[..., :1]).all()
        torch.testing.assert_close(sample[..., 0] / RATE, pairs.start)
        beside = read(pairs.other)
        assert (beside[0] == person).all()
        assert (beside[1] != channel).all()
        assert (beside[3] == sample).all()
        # One number of the loss for each clip, and no dataset but one in a batch.
        assert len(pairs.unit.unique()) == 1
        of = {int(c): int(n) for c, n in zip(clip[0, :, 0], pairs.clip, strict=True)}
        assert len(set(of.values())) == len(of)
        seen |= {(int(pairs.unit[0]), c) for c in of}
    assert seen == {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)}


@pytest.mark.parametrize(("people", "clips"), [(3, "11"), (1, "12")])
def test_without_a_clip_that_two_people_watched_it_is_refused(lay, tmp_path, people, clips):
    with pytest.raises(DataError, match="no two people watched one"):
        SharedClips(opened([lay(tmp_path / "few.zarr", people=people, clips=clips)]), VIEW)


def test_what_a_recording_shows_twice_is_no_clip(lay, tmp_path):
    data = opened([lay(tmp_path / "cues.zarr", people=3, clips="112")])
    assert set(data.metadata["stimulus"][is_clip(data.metadata)]) == {"2"}


def test_a_run_reads_clips_of_those_who_are_not_held_out(stores, tmp_path):
    settings = Settings(
        preset="tiny", window_seconds=VIEW, lag_seconds=(1, 2), steps=3, batch_size=12,
        channels_per_window=3, same_clip=1.0,
    )  # fmt: skip
    runs = [
        pretrain_encoder(stores[0], tmp_path / name, settings, log_every=1, hold_out=["one/sub-01"])
        for name in ("run", "again")
    ]
    assert load_card(runs[0]).saw[0]["subjects"] == ["sub-02", "sub-03", "sub-04"]
    loss = [learning_curve(tmp_path / name)["loss"].to_numpy() for name in ("run", "again")]
    assert np.isfinite(loss[0]).all()
    np.testing.assert_array_equal(*loss)
    with pytest.raises(DataError, match="no two people watched one"):
        pretrain_encoder(stores[0], tmp_path / "nobody", settings, hold_out=["one/sub-0[123]"])


def test_other_people_as_positives_need_other_people_among_the_negatives():
    with pytest.raises(DataError, match="negatives_from='subject'"):
        Settings(same_clip=0.5, negatives_from="subject")
    with pytest.raises(DataError, match="same_clip=2"):
        Settings(same_clip=2)
