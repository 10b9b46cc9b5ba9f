"""How recordings are answered, as a command line asks for it; no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omfa.pipeline.errors import DataError

Unit = Literal["V", "mV", "uV", "nV"]


@dataclass(frozen=True)
class PredictionSettings:
    """How windows are cut from recordings and answered.

    Attributes
    ----------
    stride_seconds : float or None
        From one window's start to the next. By default windows do not overlap.
    unit : {"V", "mV", "uV", "nV"} or None
        The unit of the numbers in the files, where they declare none or a wrong one.
    mask_bad : bool
        Count channels that quality control marks as absent, as in training.
    device : str
        ``auto`` is the first GPU where there is one, else the CPU.
    threads : int
        Threads of the CPU.

    Examples
    --------
    >>> from omfa.zoo import PredictionSettings, Predictor
    >>> settings = PredictionSettings(stride_seconds=1.0)
    >>> len(Predictor.from_checkpoint("mood", settings=settings).predict("raw/S01_raw.fif").table)
    23
    """

    stride_seconds: float | None = None
    unit: Unit | None = None
    mask_bad: bool = True
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={value!r}"
            for name in ("stride_seconds", "threads")
            if (value := getattr(self, name)) is not None and not value > 0
        ]
        if wrong:
            raise DataError("Setting prediction up", ", ".join(wrong), "Give positive numbers")
