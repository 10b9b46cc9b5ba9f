"""Checkpoints: a folder with the weights, the model's arguments and a card."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omfa.models import OMFA
from omfa.pipeline.recording import DataError


@dataclass(frozen=True)
class Card:
    """What a checkpoint is, what it saw and what its input must be."""

    name: str
    preset: str
    stage: str
    ucs_version: int
    input: dict[str, Any]
    saw: list[dict[str, Any]]
    recipe: dict[str, Any]
    simulated: bool = False
    licence: str = "BSD-3-Clause"
    results: list[dict[str, Any]] = field(default_factory=list)
    use: str = ""
    limits: str = ""
    format: int = 1

    def to_json(self) -> str:
        """Write as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read from JSON."""
        return cls(**json.loads(text))


def save_checkpoint(folder: str | Path, model: OMFA, card: Card) -> Path:
    """Write a checkpoint: whole or not at all."""
    from safetensors.torch import save_file

    folder = Path(folder)
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    staged.mkdir(parents=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, staged / "model.safetensors")
    (staged / "config.json").write_text(json.dumps(model.get_config(), indent=1))
    (staged / "card.json").write_text(card.to_json())
    if folder.exists():
        shutil.rmtree(folder)
    staged.rename(folder)
    return folder


def load_card(folder: str | Path) -> Card:
    """Read a checkpoint's card."""
    try:
        return Card.from_json((Path(folder) / "card.json").read_text())
    except OSError as error:
        raise DataError(f"Reading the checkpoint {folder}", str(error), "Give its folder") from error


def load(folder: str | Path, **signal: Any) -> OMFA:
    """Build the model of a checkpoint."""
    load_card(folder)
    model: OMFA = OMFA.from_pretrained(str(folder), **signal)
    return model
