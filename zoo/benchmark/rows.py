"""The rows of the benchmark: which models, and which of them are matched, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omfa.zoo.estimators.settings import LOGISTIC, RANDOM, SCRATCH


@dataclass(frozen=True)
class Row:
    """A model in every task's table.

    Attributes
    ----------
    name : str
    model : str
        Its name for ``evaluate``.
    parameters : mapping
        Beside those that all of its kind share.
    kind : {"omfa", "features", "network"}
        OMFA; features with a linear model; a network of braindecode's.
    pretrained : bool
        Whether it starts from the checkpoint.
    trained : bool
        Whether it is trained by steps, and so has epochs and seeds.
    """

    name: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "omfa"
    pretrained: bool = False
    trained: bool = True


PROBE, FROZEN, FITTED = {"head": LOGISTIC}, {"freeze": "encoder"}, dict[str, Any]()

# The first row is the one that reports compare the others with.
OMFA = (
    Row("OMFA pre-trained, fitted", "omfa", FITTED, pretrained=True),
    Row("OMFA from scratch, fitted", SCRATCH, FITTED),
    Row("OMFA pre-trained, frozen", "omfa", FROZEN, pretrained=True),
    Row("OMFA random weights, frozen", RANDOM, FROZEN),
    Row("OMFA pre-trained, linear probe", "omfa", PROBE, pretrained=True, trained=False),
    Row("OMFA random weights, linear probe", RANDOM, PROBE, trained=False),
)

PAIRS = tuple((OMFA[k].name, OMFA[k + 1].name) for k in range(0, len(OMFA), 2))
"""Each pre-trained row and its control, which differs only in the encoder's first weights."""

FEATURES = tuple(
    Row(name, name, kind="features", trained=False)
    for name in (
        "relative-band-power+logistic",
        "differential-entropy+ridge",
        "log-spectrum+logistic",
        "tangent-space+logistic",
    )
)

NETWORKS = tuple(
    Row(f"{model}, from scratch", f"braindecode:{model}", parameters, kind="network")
    for model, parameters in (
        ("EEGNet", {}),
        ("EEGConformer", {}),
        # Both read patches of one second at the 200 Hz that they were made for.
        ("Labram", {"sfreq": 200}),
        ("CBraMod", {"sfreq": 200}),
    )
)


def peer(model: str, weights: str) -> Row:
    """Return the row of a network of braindecode's that starts from weights in a file."""
    own = next((dict(r.parameters) for r in NETWORKS if r.model == f"braindecode:{model}"), {})
    parameters = {**own, "weights": weights}
    return Row(f"{model}, pre-trained", f"braindecode:{model}", parameters, kind="network")
