"""The names of what an OMFA can be made of. No torch here, so that command lines can show them."""

from typing import Literal

PresetName = Literal["tiny", "small", "base", "large"]
"""The sizes of an encoder: ``omfa.models.encoders.PRESETS``."""

EncoderName = Literal["art", "art_no_rotary", "patch", "cnn"]
"""The encoders of single channels: ``omfa.models.encoders.ENCODERS``."""

Resampling = Literal["off", "rate", "rate+content"]
"""The ways to bring any rate to the encoder's."""

HeadName = Literal["gat", "gcn", "gcn_learned", "mean", "transformer", "coherency"]
"""What reads the channels out: ``omfa.models.HEADS``."""
