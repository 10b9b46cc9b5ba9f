"""Stage 1 as a Lightning module: views, loss, optimizer."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from omfa.models.encoders import make_encoder
from omfa.models.front_end import full_precision
from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some
from omfa.zoo.data.dataset import Batch, Loader, StoreDataset
from omfa.zoo.data.opening import CutFrom, open_dataset
from omfa.zoo.data.settings import WindowSettings
from omfa.zoo.data.tiers import stretches
from omfa.zoo.estimators.schedule import adamw_and_schedule
from omfa.zoo.pretraining.augmentations import augment
from omfa.zoo.pretraining.clips import SharedClips
from omfa.zoo.pretraining.loss import alignment, effective_rank, nt_xent, uniformity
from omfa.zoo.pretraining.settings import LEARNING_RATE, STRIDE, Settings
from omfa.zoo.protocols.held_out import left_out
from omfa.zoo.protocols.protocol import RECORDING, SUBJECT, codes

_UNITS = {"dataset": ("dataset",), "subject": SUBJECT}

COMPILED = ("stem", "layers", "embed", "blocks", "readout", "spectral", "bursts")
"""Parts of encoders that ``compile_layers`` compiles, as far as an encoder has them."""

# Few, since uniformity is over all pairs of them.
N_WATCHED = 512
"""Rows of a batch that alignment, uniformity and effective rank are taken of."""


class Compared(NamedTuple):
    """What a step of stage 1 computed.

    Attributes
    ----------
    loss, accuracy, negatives : Tensor, shape ()
        As ``nt_xent`` returns them.
    z : Tensor, shape (n_parts, 2, batch_size, 128)
        Projections of both views, of each part of the embedding.
    h : Tensor, shape (batch_size, dim)
        Embeddings of the first.
    data : StoreDataset
        What the windows were read from.
    windows : Tensor of int64
        Their positions there.
    """

    loss: Tensor
    accuracy: Tensor
    negatives: Tensor
    z: Tensor
    h: Tensor
    data: StoreDataset
    windows: Tensor


class Projector(nn.Module):
    """What is compared instead of the embedding: each of its parts, through two layers.

    Parameters
    ----------
    parts : sequence of int
        Widths of the parts.
    """

    def __init__(self, parts: Sequence[int]) -> None:
        super().__init__()
        self.parts = list(parts)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 128)) for dim in parts
        )

    def forward(self, h: Tensor) -> Tensor:
        """Project (..., dim) to (n_parts, ..., 128)."""
        parts = h.split(self.parts, -1)
        return torch.stack([layer(part) for layer, part in zip(self.layers, parts, strict=True)])


class Contrastive(L.LightningModule):
    """Encoder and projector, and a step of stage 1.

    Parameters
    ----------
    settings : Settings
    reads : mapping
        Arguments of ``open_reads``.
    compiled : bool
        Compile the encoder's layers, and in one process the loss.
    """

    def __init__(
        self, settings: Settings, reads: Mapping[str, Any], *, compiled: bool = False
    ) -> None:
        super().__init__()
        self.settings, self.reads, self.compiled = settings, dict(reads), compiled
        # Losses that were not looked at: the event of their coming, on a CUDA device.
        self._expected: deque[tuple[Any, Tensor, int, StoreDataset, Tensor]] = deque()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = make_encoder(
                settings.encoder,
                settings.preset,
                resampling=settings.resampling,
                tokens_per_second=settings.tokens_per_second,
                spectral=settings.spectral,
                bursts=settings.bursts,
                drop_path_prob=settings.drop_path_prob,
            )
            self.projector = Projector(self.encoder.parts)  # type: ignore[arg-type]
        self.loss: Callable[..., tuple[Tensor, Tensor, Tensor]] = nt_xent

    def compile_layers(self, **options: Any) -> None:
        """Compile the encoder's layers and the loss, each when it is first run.

        Not the encoder as a whole: views come at a dozen rates, and each would be compiled again.
        Behind the front end they differ in length alone, and from the tokens on in nothing. The
        weights keep their names.

        Parameters
        ----------
        **options
            Of ``torch.compile``.
        """
        for name in COMPILED:
            part = getattr(self.encoder, name, None)
            for layer in part if isinstance(part, nn.ModuleList) else [part] if part else []:
                layer.compile(**options)
        self.projector.compile(**options)
        if self.trainer.world_size == 1:  # in several, the loss gathers what the others have
            self.loss = torch.compile(nt_xent, **options)

    def setup(self, stage: str) -> None:
        """Open the stores in this process, and compile."""
        if self.compiled:
            self.compile_layers()
        self.data = open_reads(device=self.trainer.strategy.root_device, **self.reads)
        check_batches(self.data, self.settings, self.trainer.world_size)
        names = self.data.metadata
        start = names["i_start_in_trial"].to_numpy(np.float64)
        device = self.data.device
        self.recording_of = torch.from_numpy(codes(names, RECORDING)).to(device)
        self.unit_of = torch.from_numpy(codes(names, _UNITS[self.settings.negatives_from])).to(
            device
        )
        # Samples in float64: float32 counts up to 2**24 of them, 4.7 hours at 1000 Hz.
        seconds = torch.from_numpy(start / self.data.rates[self.data.source])
        self.start_of = seconds.to(device, torch.float32)
        self.clips: SharedClips | None = None
        if self.settings.same_clip:
            of_trials = open_reads(
                device=self.trainer.strategy.root_device, cut_from="trials", **self.reads
            )
            self.clips = SharedClips(of_trials, self.settings.window_seconds)

    def train_dataloader(self) -> _Steps:
        """Return this process's batches from the present step to the last."""
        loader = self.data.loader(
            self.settings.n_windows,
            shuffle=True,
            drop_last=True,
            by=self.settings.negatives_from,
            seed=self.settings.seed,
            shard=(self.global_rank, self.trainer.world_size),
            channels_per_window=self.settings.channels_per_window,
        )
        return _Steps(loader, self.trainer.global_step, self.settings.steps)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Cut a pair of views for each chosen channel of each window.

        Returns
        -------
        x, other : Tensor, shape (2, batch_size, n_times)
            Microvolts; the views, and another channel of the window at the same times.
        start : Tensor, shape (2, batch_size)
            Of the views, in seconds from the start of the window.
        """
        settings, k = self.settings, self.settings.channels_per_window
        n_windows, n_chans, span = batch.X.shape
        n_times = round(settings.window_seconds * batch.sfreq)
        # Not 0: multinomial refuses a row of zeros, which a window without any channel would be.
        weights = batch.present.float().clamp(min=1e-9)
        # With repeats where a window has fewer channels, so that small montages are used as well.
        if batch.n_present < k:
            channel = torch.multinomial(weights, k, replacement=True)
        else:
            # What multinomial does without repeats; but it looks at the weights before, and the
            # host would wait for them.
            channel = (weights / torch.empty_like(weights).exponential_()).topk(k).indices
        # The next of those drawn is the other channel of each: no more is read than is trained on.
        beside = channel.roll(1, 1)
        low, high = (round(seconds * batch.sfreq) for seconds in settings.lag_seconds)
        draw = torch.rand(3, n_windows, k, device=batch.X.device)
        # Clamped: just below 1, a draw times a number may round up to the number.
        lag = low + (draw[0] * (high - low + 1)).long().clamp(max=high - low)
        if high == 0:
            lag = ((2 * draw[0] - 1) * 0.25 * batch.sfreq).long()
        first = (-lag).clamp(min=0)
        room = span - n_times - lag.abs()
        first = first + (draw[1] * (room + 1)).long().minimum(room)
        start = torch.stack((first, first + lag))  # (2, n_windows, k)
        start = torch.where(draw[2] < 0.5, start, start.flip(0))  # no arrow of time
        row = torch.arange(n_windows, device=batch.X.device)[:, None] * n_chans
        flat = batch.X.reshape(-1)
        x = stretches(flat, (row + channel) * span + start, n_times)
        other = stretches(flat, (row + beside) * span + start, n_times)
        # A channel that was drawn twice in a row would be subtracted from itself.
        other = other * (beside != channel)[..., None]
        return x.flatten(1, 2), other.flatten(1, 2), start.flatten(1) / batch.sfreq

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        step = self.trainer.global_step
        self._stop_if_not_finite(wait=False)
        done = self.compare(batch, step, self.global_rank)
        self._expect(done, step)
        self.log("loss", done.loss, prog_bar=True)
        self.log("accuracy", done.accuracy, prog_bar=True)
        if step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._watch(done)
        return done.loss

    def compare(self, batch: Batch, step: int, rank: int = 0) -> Compared:
        """Make views of a batch, encode and compare them; on an accelerator nothing is waited for.

        Parameters
        ----------
        batch : Batch
            On the module's device.
        step, rank : int
            With the seed they decide all that is random.
        """
        settings = self.settings
        # In every step, so that a run that was killed goes on with the same views. Python's hash of
        # numbers, unlike that of text, is the same in every process.
        torch.manual_seed(hash((settings.seed, step, rank)) % 2**63)
        # Not by rank: all processes compare views of one kind.
        if self.clips and random.Random(hash((settings.seed, step))).random() < settings.same_clip:
            rng = np.random.default_rng(torch.randint(2**31, (2,)).tolist())
            drawn = self.clips.draw(settings.n_windows, settings.channels_per_window, rng)
            data, windows = self.clips.data, torch.from_numpy(drawn.windows.ravel())
            x, other, sfreq, time = drawn.x, drawn.other, drawn.sfreq, drawn.start
            # Other people at a near second of a clip are no negatives either.
            unit, recording = drawn.unit, drawn.clip
        else:
            x, other, start = self.views(batch)
            data, windows, sfreq = self.data, batch.windows, batch.sfreq
            unit, recording, time = (
                # One after another, since repeat_interleave by a number needs no look at values.
                table[windows].repeat_interleave(settings.channels_per_window)
                for table in (self.unit_of, self.recording_of, self.start_of)
            )
            time = time + start
        h, side = [], []
        for view, beside in zip(x, other, strict=True):
            seen, rate = augment(view, sfreq, beside, settings.augmentations)
            encoded = self.encoder(seen, sfreq=rate)
            h.append(encoded.h)
            side.append(encoded.side[:, :-1])  # but the rate, which is one for the batch
        z = torch.stack([self.projector(each) for each in h], 1)
        with full_precision(z):
            loss, accuracy, negatives = self.loss(
                z,
                unit=unit.to(z.device),
                recording=recording.to(z.device),
                time=time,
                temperature=settings.temperature,
                side=torch.stack(side),
                match_width=settings.match_width,
            )
        return Compared(loss, accuracy, negatives, z.detach(), h[0].detach(), data, windows)

    def _expect(self, done: Compared, step: int) -> None:
        """Ask for the value of a loss; on a CUDA device it is looked at when it has come."""
        loss = done.loss.detach()
        came: Any = None
        if loss.is_cuda:
            here = torch.empty((), dtype=loss.dtype, pin_memory=True)
            loss, came = here.copy_(loss, non_blocking=True), torch.cuda.Event()
            came.record()
        self._expected.append((came, loss, step, done.data, done.windows))
        self._stop_if_not_finite(wait=False)

    def _stop_if_not_finite(self, *, wait: bool) -> None:
        """Stop the run at a loss that is not finite, of those that have come or of all."""
        while self._expected:
            came, loss, step, data, windows = self._expected[0]
            if came is not None:
                if not (wait or came.query()):
                    return
                came.synchronize()
            self._expected.popleft()
            if not torch.isfinite(loss):
                raise self._not_finite(loss.item(), step, data.metadata.iloc[windows.cpu().numpy()])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to keep weights of which a loss was not finite."""
        self._stop_if_not_finite(wait=True)

    def on_train_end(self) -> None:
        """Look at the last losses."""
        self._stop_if_not_finite(wait=True)

    def _watch(self, done: Compared) -> None:
        """Log figures that show a collapse, and the share of time that data are waited for."""
        # One row for the parts of an embedding, so that each figure is of them together.
        few = torch.cat(list(done.z[:, :, :N_WATCHED]), -1)
        h, negatives = done.h, done.negatives
        steps: _Steps = self.trainer.train_dataloader  # type: ignore[assignment]
        self.log_dict(
            {
                "alignment": alignment(few),
                "uniformity": uniformity(few[0]),
                "effective_rank": effective_rank(h[:N_WATCHED]),
                "negatives": negatives,
                # Cross-entropy where no candidate, the positive among them, is nearer than another.
                "chance_loss": (negatives + 1).log(),
                "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
                **steps.speed(self.settings.batch_size * self.trainer.world_size),
            }
        )

    @staticmethod
    def _not_finite(loss: float, step: int, windows: pd.DataFrame) -> DataError:
        rows = windows[list(RECORDING)].drop_duplicates().astype(str).to_numpy()
        return DataError(
            f"Pre-training, step {step}",
            f"the loss is {loss} (windows of {some(['/'.join(row) for row in rows])})",
            "Run again with a lower --lr; the last checkpoint is kept",
        )

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule; the projector learns at the encoder's rate."""
        settings = self.settings
        optimizer, schedule = adamw_and_schedule(
            [([p for p in self.parameters() if p.requires_grad], 1.0)],
            lr=settings.lr or LEARNING_RATE[settings.preset],
            weight_decay=settings.weight_decay,
            n_steps=settings.steps,
            warm_up=settings.warm_up,
            betas=(0.9, 0.95),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Steps:
    """The batches of steps ``start`` to ``stop``, epoch after epoch; knows how long it took."""

    def __init__(self, loader: Loader, start: int, stop: int) -> None:
        self.loader, self.start, self.stop = loader, start, stop
        self.waited, self.taken, self.since = 0.0, 0, time.perf_counter()

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[Batch]:
        self.loader.epoch, self.loader.skip = divmod(self.start, len(self.loader))
        batches: Iterator[Batch] = iter(())
        for _ in range(self.start, self.stop):
            begun = time.perf_counter()
            if (batch := next(batches, None)) is None:
                batches = iter(self.loader)
                batch = next(batches)
            self.waited += time.perf_counter() - begun
            self.taken += 1
            yield batch

    def speed(self, pairs: int) -> dict[str, float]:
        """Return pairs and channel-windows a second, and the share of waiting, since last asked."""
        now = time.perf_counter()
        rate, share = self.taken / (now - self.since), self.waited / (now - self.since)
        self.waited, self.taken, self.since = 0.0, 0, now
        return {"pairs_per_second": pairs * rate, "data_wait_share": share}


def open_reads(
    stores: Sequence[str],
    settings: Settings,
    *,
    hold_out: Sequence[str] = (),
    channels: Literal["native", "intersection"] = "native",
    device: str | torch.device = "cpu",
    cut_from: CutFrom = "recordings",
    **options: Any,
) -> StoreDataset:
    """Open stores for pre-training: all signal, good channels, each recording's own rate.

    Parameters
    ----------
    stores : sequence of address
    settings : Settings
    hold_out : sequence of str
        ``"dataset/subject"`` of those left out; ``*`` and ``?`` as in file names. ``"benchmark"``
        names all that the benchmark holds out.
    channels : {"native", "intersection"}
        Each recording's own, or those that all recordings have, of those left out too.
    device : str or torch.device
    cut_from : {"recordings", "trials"}
        All signal, in windows that hold both views of a pair; or the trials, in windows that hold
        one view, anywhere.
    **options
        Of ``open_dataset``.

    Raises
    ------
    DataError
        As ``open_dataset``; if a name in ``hold_out`` is nobody's, or nobody is left.
    """
    data = open_dataset(
        list(stores),
        settings.span_seconds if cut_from == "recordings" else settings.window_seconds + STRIDE,
        STRIDE,
        channels=channels,
        rates="native",
        # Without labels all signal can be used, between the trials too.
        cut_from=cut_from,
        mask_bad=WindowSettings.mask_bad,  # as in stage 2
        # Views are compared within a recording's own store; what differs is named in a warning.
        allow_mixed=True,
        device=device,
        **options,
    )
    if not hold_out:
        return data
    who = data.metadata["dataset"].astype(str) + "/" + data.metadata["subject"].astype(str)
    known, doing = who.unique().tolist(), "Leaving subjects out of pre-training"
    held = left_out(known, hold_out, doing=doing)
    if len(held) == len(known):
        raise DataError(
            doing,
            f"nobody of {len(known)} subjects is left",
            "Leave fewer out",
        )
    return data.select(~who.isin(held).to_numpy())


def check_batches(data: StoreDataset, settings: Settings, world_size: int = 1) -> None:
    """Refuse a batch that a dataset or subject has too few windows for: it would never be seen."""
    names = data.metadata[list(_UNITS[settings.negatives_from])].astype(str).agg("/".join, axis=1)
    for name, count in names.value_counts().items():
        if count < settings.n_windows * world_size:
            raise DataError(
                f"Making batches of {settings.n_windows} windows for {world_size} process(es)",
                f"{name} has {count} windows of {settings.span_seconds:g} s",
                "Lower --batch-size, or raise --channels-per-window",
            )
