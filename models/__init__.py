"""ART, the graph heads and OMFA: tensors and ``chs_info`` in, logits out.

Read ``front_end`` (any rate and amplitude to one), ``art`` (the encoder of one channel),
``encoders`` (its ablations and sizes), ``graph`` and ``connectivity`` (places and coherency of the
channels), ``heads`` (the graph over the channels), then ``omfa`` (the whole model, a braindecode
model) and ``explain`` (pictures of it).

Names are imported when they are first used: ``import omfa.models`` is cheap, ``ART`` needs torch
alone, and only ``OMFA`` imports braindecode.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omfa.models.art import ART, Encoded
    from omfa.models.encoders import PRESETS, make_encoder
    from omfa.models.explain import attention_topomap, channel_attention, token_density
    from omfa.models.front_end import PlaceWarning, UnitWarning
    from omfa.models.heads import HEADS, make_head
    from omfa.models.omfa import OMFA, register_with_braindecode

_HOMES = {
    "ART": "art",
    "Encoded": "art",
    "PRESETS": "encoders",
    "make_encoder": "encoders",
    "HEADS": "heads",
    "make_head": "heads",
    "PlaceWarning": "front_end",
    "UnitWarning": "front_end",
    "OMFA": "omfa",
    "register_with_braindecode": "omfa",
    "attention_topomap": "explain",
    "channel_attention": "explain",
    "token_density": "explain",
}

__all__ = [
    "ART",
    "HEADS",
    "OMFA",
    "PRESETS",
    "Encoded",
    "PlaceWarning",
    "UnitWarning",
    "attention_topomap",
    "channel_attention",
    "make_encoder",
    "make_head",
    "register_with_braindecode",
    "token_density",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
