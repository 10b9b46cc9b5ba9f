import numpy as np
import pytest

from omfa.models import OMFA
from omfa.pipeline.channels import UCS, UCS_VERSION
from omfa.zoo.checkpoints.cards import Card
from omfa.zoo.checkpoints.decision import as_stored, read_decision
from omfa.zoo.checkpoints.folder import save_checkpoint
from omfa.zoo.live.decoder import load_model

CHANNELS = ("Fp1", "F3", "Cz", "T8", "O1", "O2")
CLASSES = ("calm", "sad", "happy")
SFREQ = 160.0


def card(stage="finetuned"):
    return Card(
        name="live-test",
        preset="tiny",
        stage=stage,
        ucs_version=int(UCS_VERSION),
        input={
            "unit": "uV",
            "scale": 1.0,
            "sfreq": 128.0,
            "band": [0.5, 45.0],
            "transition": 4.0,
            "reference": "average",
            "channels": list(CHANNELS),
            "window_seconds": 1.0,
        },
        saw=[],
        recipe={},
        simulated=True,
        decision=as_stored(CLASSES, "emotion", temperature=1.5) if stage == "finetuned" else {},
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A fine-tuned checkpoint of weights that nothing trained; its answers differ by window."""
    import torch

    torch.manual_seed(0)
    places = np.zeros((len(CHANNELS), 12))
    places[:, :3] = UCS.positions(CHANNELS)
    model = OMFA(
        n_outputs=3,
        chs_info=[
            {"ch_name": name, "kind": "eeg", "loc": place}
            for name, place in zip(CHANNELS, places, strict=True)
        ],
        n_times=128,
        sfreq=128.0,
        preset="tiny",
    ).eval()
    folder = tmp_path_factory.mktemp("live")
    save_checkpoint(folder / "pretrained", model, card("pretrained"))
    return save_checkpoint(folder / "finetuned", model, card())


@pytest.fixture(scope="session")
def loaded(checkpoint):
    """The model and its decision."""
    decision = read_decision(checkpoint)
    return load_model(checkpoint, decision), decision


@pytest.fixture(scope="session")
def signal():
    """Simulated signals in microvolts, (6, 1600) at 160 Hz: noise that falls with frequency."""
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(0, 5, (len(CHANNELS), 1600)), axis=1)
