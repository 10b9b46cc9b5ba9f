"""How recordings are answered, as a command line asks for it; no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omfa.pipeline.channels import UCS, ChannelSchema
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.channel_types import ChannelRules
from omfa.pipeline.readers.tables import Pairs, pairs

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
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns.
    eeg : tuple of str
        Channels that are EEG whatever type the file gives them, as names or patterns.
    aliases : mapping of str to str
        Names that the channel schema does not know, each with the name that it stands for.
    montage : str or None
        Where electrodes are, in place of what the files say: one of MNE's montages, such as
        "GSN-HydroCel-128", or a file.
    names_by_position : bool
        Name channels that the schema does not know by their places, as omfa-ingest does; at least 8
        others need a name of the schema or an alias, and a place. Without it such a channel stands
        for one that is missing within 2 cm.
    encoding : str or None
        Of the texts in EDF and BDF files, where they are not in UTF-8.
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
    not_eeg: tuple[str, ...] = ()
    eeg: tuple[str, ...] = ()
    aliases: Pairs = ()
    montage: str | None = None
    names_by_position: bool = False
    encoding: str | None = None
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
        object.__setattr__(self, "aliases", pairs(self.aliases))
        self.rules, self.schema  # noqa: B018 - they check themselves

    @property
    def rules(self) -> ChannelRules:
        """Which channels of a file are EEG, and where they are."""
        return ChannelRules(self.not_eeg, self.unit, self.eeg, montage=self.montage)

    @property
    def schema(self) -> ChannelSchema:
        """The channel schema with the aliases."""
        return UCS.with_options(aliases=dict(self.aliases))
