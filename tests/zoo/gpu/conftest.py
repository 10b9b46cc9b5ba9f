"""Tests that run on the CPU everywhere, and on a CUDA device where there is one."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from omfa.zoo.pretraining.module import Contrastive
from omfa.zoo.pretraining.settings import Settings

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    """A device that there is: the same test on the CPU shows that the test itself is sound."""
    return request.param


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def store(lay_store, tmp_path_factory):
    """A store of noise: 6 people, 6 channels, 128 Hz, two trials of 20 s each."""
    return lay_store(
        tmp_path_factory.mktemp("gpu") / "noise.zarr",
        subjects=6,
        sfreq=128.0,
        n_times=6000,
        trials=((0, 2560), (3000, 2560)),
        labels={"emotion": np.array([0, 1])},
    )


SMALL = Settings(preset="tiny", window_seconds=2, lag_seconds=(1, 2), batch_size=64,
                 channels_per_window=4, steps=50)  # fmt: skip


@pytest.fixture
def stage1(store):
    """Make what takes steps of stage 1, as a run of Lightning would have it."""

    def build(device, settings=SMALL):
        module = Contrastive(settings, {"stores": [str(store)], "settings": settings})
        strategy = SimpleNamespace(root_device=torch.device(device))
        module.trainer = SimpleNamespace(strategy=strategy, world_size=1)
        module.setup("fit")
        return module.to(device)

    return build


@pytest.fixture
def keep():
    """Write what was found into the folder that ``OMFA_TABLES`` names, if it does."""

    def write(name, text):
        if folder := os.environ.get("OMFA_TABLES"):
            Path(folder, name).write_text(text)

    return write
