"""How ``omfa-zoo live`` listens and answers. No torch and no LSL here: a command line shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omfa.pipeline.errors import DataError

StreamUnit = Literal["V", "mV", "uV", "nV"]


@dataclass(frozen=True)
class LiveSettings:
    """How a stream is listened to.

    Attributes
    ----------
    stride_seconds : float
        An answer every so many seconds, each of a whole window.
    unit : {"V", "mV", "uV", "nV"} or None
        Unit of the samples, where the stream does not say it or says it wrongly.
    channel_names : tuple of str
        Names of the stream's channels in its order, where it does not say them.
    source_id : str or None
        Which of several streams of one name.
    reconnect_seconds : float
        How long to wait for the stream, at the start and when it stops.
    seconds : float or None
        How long to listen. By default until Ctrl-C.

    Raises
    ------
    DataError
        If a number is not above 0.
    """

    stride_seconds: float = 0.5
    unit: StreamUnit | None = None
    channel_names: tuple[str, ...] = ()
    source_id: str | None = None
    reconnect_seconds: float = 30.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("stride_seconds", "reconnect_seconds", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DataError(
                    f"Setting {name} to {value}", "it is not above 0", "Give it in seconds"
                )
