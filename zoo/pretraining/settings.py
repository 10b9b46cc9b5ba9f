"""The settings of stage 1: what is learned, from which views, and how a run goes.

No torch here, so that a command line can show them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from omfa.models.names import EncoderName, PresetName, Resampling
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.data.settings import Cache

LEARNING_RATE = {"tiny": 1e-3, "small": 1e-3, "base": 5e-4, "large": 3e-4}
"""Greatest learning rate by preset, where none is given; our choice."""

STRIDE = 2.0
"""Seconds between the long windows that a run reads; where in them views lie is random."""

NegativesFrom = Literal["dataset", "subject"]


@dataclass(frozen=True)
class Augmentations:
    """Chances that a view is changed, by each kind of change; 0 turns it off.

    Attributes
    ----------
    rereference : float
        Another channel of the window is subtracted.
    rate : float
        The view is resampled to another rate, which the encoder is given. One rate for a batch.
    stretch : float
        Time runs up to 3 % faster or slower. One factor for a batch.
    noise : float
        White noise up to ``noise_sd`` standard deviations of the row is added.
    noise_sd : float
        Not a chance: the greatest standard deviation of that noise.
    time_mask : float
        Up to 0.75 s are replaced by the row's mean.
    band_stop : float
        A band 3 to 5 Hz wide between 5 and 42 Hz is taken out.
    phase : float
        The phase of every frequency is turned by a random angle of 0.5 rad standard deviation.
    drift : float
        A slow wave, under 0.5 Hz, of up to one standard deviation is added.
    """

    # With half the noise and without rereference, stretch, band_stop, phase and drift a probe after
    # 1000 steps was that of random weights; with all, after 1500, it was better (docs/log.md).
    rereference: float = 0.2
    rate: float = 0.3
    stretch: float = 0.3
    noise: float = 0.5
    noise_sd: float = 0.2
    time_mask: float = 0.5
    band_stop: float = 0.3
    phase: float = 0.2
    drift: float = 0.2


@dataclass(frozen=True)
class Settings:
    """How to pre-train. The defaults are this project's choice.

    Attributes
    ----------
    preset : {"tiny", "small", "base", "large"}
        Size of the encoder: about 0.2, 1.2, 5.9 and 30 million parameters with a graph head.
    encoder : {"art", "art_no_rotary", "patch", "cnn"}
        The encoder of single channels.
    resampling : {"off", "rate", "rate+content"}
        Whether signals are resampled to the encoder's rate, and whether tokens are also placed by
        content.
    tokens_per_second : float
        Tokens for every second of signal.
    spectral : bool
        Whether art also reads the spectrum of a window, in a path of its own.
    bursts : bool
        Whether art also reads how unevenly the power of each band is spread over a window, in a
        path of its own.
    window_seconds : float
        Length of a view.
    lag_seconds : (float, float)
        Least and greatest time from the start of a view to that of its positive. 0 0 takes both
        from one window, moved by up to 0.25 s.
    steps : int
        Optimizer steps.
    batch_size : int
        Pairs for each step and process.
    match_width : float or None
        Negatives weigh by a Gaussian of how far their spread and band powers are from the anchor's,
        of this many standard deviations, so that what the graph is given anyway tells no positive.
        None: all weigh alike.
    channels_per_window : int
        Pairs that come from one window, of different channels as far as it has so many.
    negatives_from : {"dataset", "subject"}
        Where a batch's negatives come from. With ``dataset`` they include other people, so that
        identity helps to find the positive; with ``subject`` only channel and time do.
    same_clip : float
        Share of the steps whose positives are other people under the same clip at the same second,
        in corpora whose stores name the clips. In these steps all signals of the trials are read,
        so that decoded signals take twice the memory.
    lr : float or None
        Greatest learning rate. By default the preset's.
    weight_decay : float
        Decay of matrices in a step; biases and gains have none.
    temperature : float
        The contrastive loss divides similarities by it.
    warm_up : float
        Share of the steps in which the learning rate rises; then it falls along a cosine.
    drop_path_prob : float
        Chance, at the encoder's last layer, that a row skips a residual branch; less in earlier
        layers.
    augmentations : Augmentations
        Chances that a view is changed, by each kind of change.
    seed : int
        Decides the first weights, the order of windows and the views.
    """

    preset: PresetName = "small"
    encoder: EncoderName = "art"
    resampling: Resampling = "rate"
    # As many as frames of the stem (docs/models.md).
    tokens_per_second: float = 2.0
    # A probe gains .16 by it in flickers, and loses .01 in fists and .03 in sides (docs/log.md).
    spectral: bool = True
    # Without it bursts in single channels are not found; on real tasks it is worth nothing that
    # shows, and costs nothing (docs/log.md).
    bursts: bool = True
    window_seconds: float = 4.0
    # States last a few seconds: positives 4 to 10 s away taught nothing of a 5 s flicker, nor did
    # they of much beside band powers (docs/log.md).
    lag_seconds: tuple[float, float] = (0.0, 0.0)
    # Two million pairs, for corpora larger than those of the checkpoints that are shipped, where
    # 1.5 million told no more than 150,000 (docs/log.md).
    steps: int = 2_000
    batch_size: int = 1024
    # On fists and flickers the greatest single gain of all that was tried (docs/log.md).
    match_width: float | None = 0.7
    # No others are read of a window: when all 64 were, tiny waited 8.8 % of its time for data
    # (docs/performance.md).
    channels_per_window: int = 16
    # With `subject` the loss hardly leaves chance, and a probe is worse (docs/log.md).
    negatives_from: NegativesFrom = "dataset"
    # Not measured on real EEG: no corpus with clips was at hand.
    same_clip: float = 0.0
    lr: float | None = None
    weight_decay: float = 0.05
    # Half and twice of it, three times the steps and 8 tokens/s do no better (docs/log.md).
    temperature: float = 0.1
    warm_up: float = 0.05
    # Drop-path costs nothing; dropout in the encoder took a tenth of a step (docs/performance.md).
    drop_path_prob: float = 0.1
    augmentations: Augmentations = field(default_factory=Augmentations)
    seed: int = 0

    def __post_init__(self) -> None:
        doing = "Reading the settings of a pre-training"
        for name, known in (
            ("preset", get_args(PresetName)),
            ("negatives_from", get_args(NegativesFrom)),
        ):
            if (value := getattr(self, name)) not in known:
                raise DataError(
                    doing,
                    f"{name}={value!r}{nearest(str(value), known)}",
                    f"Use one of {', '.join(known)}",
                )
        positive = ("window_seconds", "steps", "batch_size", "channels_per_window", "temperature")
        for name in positive:
            if getattr(self, name) <= 0:
                raise DataError(doing, f"{name}={getattr(self, name)}", "Use a positive number")
        low, high = self.lag_seconds
        if not 0 <= low <= high:
            raise DataError(doing, f"lag_seconds={low}, {high}", "Give least and greatest: 0 1")
        if not 0 <= self.same_clip <= 1:
            raise DataError(doing, f"same_clip={self.same_clip}", "Use a share from 0 to 1")
        if self.match_width is not None and self.match_width <= 0:
            raise DataError(
                doing, f"match_width={self.match_width}", "Use a positive number, or none"
            )
        if self.same_clip and self.negatives_from == "subject":
            raise DataError(
                doing,
                f"same_clip={self.same_clip} with negatives_from='subject'",
                "Take negatives from the dataset: the positive is another person",
            )
        if self.batch_size % self.channels_per_window or self.batch_size < 4:
            raise DataError(
                doing,
                f"batch_size={self.batch_size}, channels_per_window={self.channels_per_window}",
                "Use a batch of at least 4 that is a multiple of the channels per window",
            )

    @property
    def n_windows(self) -> int:
        """Windows read for a batch."""
        return self.batch_size // self.channels_per_window

    @property
    def span_seconds(self) -> float:
        """Length of a window that is read: room for both views, anywhere."""
        # STRIDE more, the distance of two windows: so a view may start anywhere in a recording.
        return self.window_seconds + max(self.lag_seconds[1], 0.5) + STRIDE


@dataclass(frozen=True)
class RunSettings:
    """How a pre-training runs on this machine, what it keeps and what it reports.

    Attributes
    ----------
    cache : {"auto", "memory", "memmap", "stream"}
        Where decoded signals lie: in memory, in a mapped file, or nowhere, so that each epoch
        decodes them again. ``auto`` takes the first of these that fits.
    accelerator : str
        auto, cpu, gpu, cuda or mps; auto takes a GPU where there is one.
    devices : str or int
        Processes, one for each device.
    num_nodes : int
        Machines, under torchrun or SLURM.
    precision : str or None
        Lightning's: 32-true, bf16-mixed, ... By default bf16-mixed on a GPU that has it, else
        32-true.
    compile : bool
        Compile the encoder's layers and the loss before the first steps, which then are faster;
        their last digits differ.
    checkpoint_every : int
        Steps from one checkpoint, which a run that was killed goes on from, to the next.
    log_every : int
        Steps from one row of the logs to the next.
    probe_every : int
        Steps between linear probes of subject, dataset and task; 0 for none.
    probe_targets : mapping of str to str
        The task of a dataset's probe: deap=valence>5. Repeatable.
    """

    cache: Cache = "auto"
    accelerator: str = "auto"
    devices: str | int = 1
    num_nodes: int = 1
    precision: str | None = None
    # A minute or two of a run that may last minutes; and other last digits than without.
    compile: bool = False
    checkpoint_every: int = 500
    log_every: int = 20
    probe_every: int = 500
    probe_targets: Mapping[str, str] = field(default_factory=dict)


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with other values; those of augmentations are given by their own names.

    Raises
    ------
    DataError
        If a name is not known, or a value is impossible.
    """
    inner, outer = asdict(settings.augmentations), asdict(settings)
    known = [*outer, *inner]
    if unknown := [f"{name}{nearest(name, known)}" for name in changes if name not in known]:
        raise DataError(
            "Reading the settings of a pre-training",
            f"there is none called {', '.join(unknown)}",
            f"Use some of {', '.join(known)}",
        )
    return replace(
        settings,
        augmentations=replace(
            settings.augmentations, **{k: v for k, v in changes.items() if k in inner}
        ),
        **{k: v for k, v in changes.items() if k in outer},
    )
