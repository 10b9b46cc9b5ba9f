"""What a GPU does with omfa: one Markdown table, of which a row is kept as soon as it is measured.

``python tests/benchmarks/bench_gpu.py STORE... --out DIR --time-limit 240``

Stage 1 in pairs a second, for each preset, eager and compiled, in float32 (with TF32) and bfloat16:
the share of the card's peak by counted operations, memory, and how long a step waits for data.
Stage 2 beside braindecode's networks at 62 and 14 channels; heads on a frozen encoder, one, eight
and sixteen folds at once; windows a second from the device's memory; how long one window takes.
What matters most comes first, so that a run that is cut off has measured it. ``--device cpu
--rehearse`` runs all of it in tiny sizes, whose figures mean nothing; ``--count`` measures nothing
and counts the operations and bytes of steps, on no device at all.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from omfa.models import OMFA
from omfa.pipeline.channels import UCS
from omfa.zoo.data.dataset import Batch
from omfa.zoo.data.opening import open_dataset
from omfa.zoo.estimators.network import Network
from omfa.zoo.estimators.omfa_networks import omfa
from omfa.zoo.estimators.stacked import Stack, cross_entropies
from omfa.zoo.pretraining import module as pretraining
from omfa.zoo.pretraining.module import Contrastive
from omfa.zoo.pretraining.settings import Settings
from omfa.zoo.protocols.windows import COLUMNS, ArrayDataset, Windows

PEAK = {
    # TFLOP/s without sparsity, of the makers' data sheets: (bfloat16, TF32).
    "H100 PCIe": (756.0, 378.0),
    "H100 NVL": (835.0, 417.0),
    "H100": (989.0, 494.5),
    "H200 NVL": (835.0, 417.0),
    "H200": (989.0, 494.5),
    "A100": (312.0, 156.0),
}
HEADER = ("what", "how", "batch", "a second", "of peak", "GB", "waits for data", "ms a step")


class Table:
    """Rows of a Markdown table that are on the disk, and on the screen, as soon as they are known.

    Parameters
    ----------
    path : Path or None
    until : float
        When there is no time left, in seconds of ``time.monotonic``.
    """

    def __init__(self, path: Path | None, until: float) -> None:
        self.file = None if path is None else path.open("a")
        self.until = until
        self.rows: list[tuple[str, ...]] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        if self.file is not None:
            self.file.write(line + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def add(self, *cells: Any) -> None:
        row = tuple(text(cell) for cell in cells)
        row += ("",) * (len(HEADER) - len(row))
        self.rows.append(row)
        self.say(f"| {' | '.join(row)} |")

    def begin(self) -> None:
        self.say(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")

    @property
    def left(self) -> float:
        return self.until - time.monotonic()


def text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if cell >= 100 else f"{cell:.3g}"
    return str(cell)


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


@dataclass
class Where:
    """The device, and how long a row is measured.

    Attributes
    ----------
    device : torch.device
    seconds : float
        Of a row.
    rehearse : bool
    peak : (float, float) or None
        TFLOP/s in bfloat16 and TF32, where the card is known.
    """

    device: torch.device
    seconds: float
    rehearse: bool
    peak: tuple[float, float] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.cuda:
            name = torch.cuda.get_device_name()
            self.peak = next((peak for key, peak in PEAK.items() if key in name), None)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def finish(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def precision(self, name: str) -> Any:
        """Set how matrices are multiplied; return the context of a forward pass."""
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        bf16 = name == "bf16"
        return lambda: torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()

    def of_peak(self, flops: float, seconds: float, precision: str) -> str:
        if self.peak is None or not flops:
            return ""
        return share(flops / seconds / 1e12 / self.peak[0 if precision == "bf16" else 1])

    def memory(self) -> str:
        return text(torch.cuda.max_memory_allocated() / 1e9) if self.cuda else ""

    def reset(self) -> None:
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def timed(where: Where, step: Callable[[], Any], warm: int = 3) -> float:
    """Return the seconds of a step, the host's queueing and the device's work together."""
    for _ in range(1 if where.rehearse else warm):
        step()
    where.finish()
    started, taken = time.perf_counter(), 0
    while True:
        for _ in range(1 if where.rehearse else 5):
            step()
            taken += 1
        where.finish()
        if (spent := time.perf_counter() - started) > where.seconds:
            return spent / taken


def attempt(table: Table, what: str, how: str, batch: int, work: Callable[[], None]) -> None:
    """Measure a row; where it fails, say why in its place and go on."""
    try:
        work()
    except torch.cuda.OutOfMemoryError:
        table.add(what, how, batch, "out of memory")
    except Exception as error:  # whatever a compiler or a driver says: the next row may work
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160].replace("|", "/")
        table.add(what, how, batch, f"failed: {reason}")


# ---- stage 1 --------------------------------------------------------------------------------


@cache
def opened_once() -> None:
    """Open the stores for the first module alone: others of a run read the same windows."""
    open_reads, found = pretraining.open_reads, []

    def once(**reads: Any) -> Any:
        if not found:
            found.append(open_reads(**reads))
        return found[0]

    pretraining.open_reads = once


def module_of(stores: list[str], preset: str, batch: int, where: Where) -> Contrastive:
    """Make what takes steps of stage 1, as a run would have it."""
    opened_once()
    settings = Settings(preset=preset, batch_size=batch, channels_per_window=4)  # type: ignore[arg-type]
    module = Contrastive(settings, {"stores": stores, "settings": settings, "cache": "memory"})
    strategy = SimpleNamespace(root_device=where.device)
    module.trainer = SimpleNamespace(strategy=strategy, world_size=1)  # type: ignore[assignment]
    module.setup("fit")
    return module.to(where.device).train()


def endless(module: Contrastive) -> Iterator[Batch]:
    """Give batches, epoch after epoch."""
    settings = module.settings
    loader = module.data.loader(
        settings.n_windows, shuffle=True, drop_last=True, by="dataset", channels_per_window=4
    )
    if not len(loader):
        raise ValueError(f"the stores have no batch of {settings.n_windows} windows")
    while True:
        yield from loader


def stage1(
    table: Table, where: Where, stores: list[str], preset: str, how: str, precision: str, batch: int
) -> None:
    """Measure pairs a second of a preset."""
    where.reset()
    module, step, waits = steps_of_stage1(stores, preset, batch, where, precision)
    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    warm = 3
    if how == "compiled":
        torch.compiler.reset()
        module.compile_layers(**({"backend": "aot_eager"} if where.rehearse else {}))
        warm = 16  # views of every rate, whose shapes are compiled for
    waits.clear()
    seconds = timed(where, step, warm)
    name = f"stage 1, {preset}, pairs"
    table.add(
        name,
        f"{how}, {precision}",
        batch,
        batch / seconds,
        where.of_peak(flops, seconds, precision),
        where.memory(),
        share(statistics.mean(waits) / seconds),
        1000 * seconds,
    )


def steps_of_stage1(
    stores: list[str], preset: str, batch: int, where: Where, precision: str
) -> tuple[Contrastive, Callable[[], None], list[float]]:
    """Return what takes a step of stage 1, and the seconds that each waited for its batch."""
    module = module_of(stores, preset, batch, where)
    mixed = where.precision(precision)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    batches, waits = endless(module), list[float]()

    def step() -> None:
        begun = time.perf_counter()
        there = next(batches)
        waits.append(time.perf_counter() - begun)
        with mixed():
            loss = module.compare(there, len(waits)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    return module, step, waits


# ---- stage 2 --------------------------------------------------------------------------------


def networks(n_chans: int) -> dict[str, Callable[[], tuple[torch.nn.Module, dict[str, Any]]]]:
    """Return what is compared, at 200 Hz, which Labram and CBraMod are made for, and 4 s."""
    from bench_models import labram
    from braindecode.models import CBraMod, EEGConformer, EEGNet

    signal = {"n_outputs": 3, "n_chans": n_chans, "n_times": 800, "sfreq": 200.0}
    return {
        "OMFA small": lambda: (OMFA(**signal, preset="small"), {}),
        "Labram": lambda: labram(n_chans, 800, 200),
        "OMFA base": lambda: (OMFA(**signal, preset="base"), {}),
        "CBraMod": lambda: (CBraMod(**signal), {}),
        "EEGConformer": lambda: (EEGConformer(**signal), {}),
        "EEGNet": lambda: (EEGNet(**signal), {}),
    }


def stage2(
    table: Table, where: Where, name: str, n_chans: int, how: str, precision: str, batch: int
) -> None:
    """Measure training windows a second of a network."""
    where.reset()
    warm, options = 3, None
    if how != "eager":
        torch.compiler.reset()
        options = {"mode": "reduce-overhead"} if how == "CUDA graph" else {}
        warm = 6  # a graph is recorded in the steps after the first
    step, flops = steps_of_stage2(name, n_chans, batch, where, precision, compiled=options)
    seconds = timed(where, step, warm)
    table.add(
        f"stage 2, {name}, {n_chans} channels, windows",
        f"{how}, {precision}",
        batch,
        batch / seconds,
        where.of_peak(flops, seconds, precision),
        where.memory(),
        "",
        1000 * seconds,
    )


def steps_of_stage2(
    name: str,
    n_chans: int,
    batch: int,
    where: Where,
    precision: str,
    *,
    compiled: dict[str, Any] | None = None,
) -> tuple[Callable[[], None], int]:
    """Return what takes a training step of a network, and its floating-point operations."""
    network, options = networks(n_chans)[name]()
    network = network.to(where.device).train()
    mixed = where.precision(precision)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    x = 20 * torch.randn(batch, n_chans, 800, device=where.device)
    y = torch.arange(batch, device=where.device) % 3
    run: Any = network

    def step() -> None:
        with mixed():
            loss = F.cross_entropy(run(x, **options).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        step()
    if compiled is not None:
        run = torch.compile(network, **compiled)
    return step, counter.get_total_flops()


def heads(table: Table, where: Where, preset: str, n_chans: int, at_once: int) -> None:
    """Measure fits of a head on a frozen encoder, so many folds at once."""
    where.reset()
    where.precision("highest")
    few = 2 if where.rehearse else 64
    model, sample = head_and_windows(preset, n_chans, few, at_once, str(where.device))
    # As in a session of SEED under five folds: 4 s windows of 15 trials of four minutes.
    sizes = [(few, 0, few) if where.rehearse else (680, 0, 170)] * at_once
    seconds = model.expected_seconds(sample, sizes) / at_once
    table.add(
        f"a head on embeddings, {preset}, {n_chans} channels, fits",
        f"{at_once} at once, float32",
        model.training.batch_size,
        1 / seconds,
        "",
        where.memory(),
    )


def head_and_windows(
    preset: str, n_chans: int, n: int, at_once: int, device: str
) -> tuple[Network, Windows]:
    """Make an omfa whose encoder is frozen, and labelled windows of noise."""
    rows = pd.DataFrame({name: ["1"] * n for name in COLUMNS}).assign(target=np.arange(n) % 2)
    X = 20 * np.random.default_rng(0).standard_normal((n, n_chans, 512))
    channels = UCS.names[:n_chans]
    data = ArrayDataset(X, rows, sfreq=128.0, channels=channels)
    windows = Windows(data, np.arange(n), classes=("0", "1"), y=np.arange(n) % 2)
    model = omfa(preset=preset, freeze="encoder", folds_at_once=at_once, device=device)
    assert isinstance(model, Network)
    return model, windows


# ---- data and latency -----------------------------------------------------------------------


def windows_from_memory(table: Table, where: Where, stores: list[str], batch: int) -> None:
    """Measure shuffled windows a second from the device's memory, all channels."""
    where.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = open_dataset(
            stores[0], 4.0, 1.0, cut_from="recordings", cache="memory", device=where.device
        )
    seconds, taken, started = max(where.seconds, 0.1), 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        for each in data.loader(batch, shuffle=True):
            taken += len(each.X)
            if time.perf_counter() - started > seconds:
                break
        where.finish()
    what = f"windows of {data.rows.shape[1]} channels x 4 s from the device's memory"
    table.add(what, "shuffled", batch, taken / spent, "", where.memory())


def latency(table: Table, where: Where, preset: str, n_chans: int, how: str) -> None:
    """Measure how long one window takes, from the host's memory to its logits there."""
    where.reset()
    where.precision("highest")
    model = OMFA(n_outputs=3, n_chans=n_chans, n_times=800, sfreq=200.0, preset=preset)  # type: ignore[arg-type]
    model = model.to(where.device).eval()
    model(torch.randn(1, n_chans, 800, device=where.device))
    run = torch.compile(model, mode="reduce-overhead") if how == "CUDA graph" else model
    x, times = 20 * torch.randn(1, n_chans, 800), []
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3 if where.rehearse else 120):
            begun = time.perf_counter()
            run(x.to(where.device)).cpu()
            times.append(1000 * (time.perf_counter() - begun))
    times = times[len(times) // 6 :]
    what = f"one window, {preset}, {n_chans} channels: p50 {statistics.median(times):.2f} ms, "
    what += f"p99 {np.percentile(times, 99):.2f} ms"
    table.add(what, f"{how}, float32", 1, 1000 / statistics.median(times), "", where.memory())


# ---- where the time goes ----------------------------------------------------------------------


def profiled(table: Table, where: Where, stores: list[str], out: Path | None) -> None:
    """Write which kernels a step of each stage takes its time in."""
    ours, n_chans, precision = "OMFA small", 62, "bf16"
    preset, batches, of_stage1 = "base", (64, 512), 4096
    if where.rehearse:
        preset, batches, of_stage1, n_chans, precision = "tiny", (2,), 16, 3, "tf32"
    steps = {
        f"stage 1, {preset}, {of_stage1}": steps_of_stage1(
            stores, preset, of_stage1, where, precision
        )[1]
    } | {
        f"stage 2, {ours}, {n_chans} channels, {batch}": steps_of_stage2(
            ours, n_chans, batch, where, precision
        )[0]
        for batch in batches
    }
    for name, step in steps.items():
        for _ in range(3):
            step()
        where.finish()
        with torch.profiler.profile() as found:
            step()
            where.finish()
        told = found.key_averages().table(
            sort_by="self_device_time_total" if where.cuda else "self_cpu_time_total",
            row_limit=25,
            max_name_column_width=60,
        )
        if out is not None:
            with (out / "profile.txt").open("a") as file:
                file.write(f"{name}\n{told}\n")
    table.add("kernels of a step of each stage", f"eager, {precision}", "", "see profile.txt")


# ---- counting -------------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Counts operations that are a kernel or more, and the bytes of what they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.ops, self.bytes, self.looks = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1]
        if name in ("_local_scalar_dense", "nonzero"):
            self.looks += 1
        elif not func.is_view and name not in ("detach", "empty", "empty_like", "_unsafe_view"):
            self.ops += 1
            for one in tree_leaves((args, kwargs, made)):
                if isinstance(one, torch.Tensor):
                    # Of views that overlap or repeat, what there is of them.
                    size = one.numel() * one.element_size()
                    self.bytes += min(size, one.untyped_storage().nbytes())
        return made


def counted(part: Callable[[], Any]) -> tuple[Any, tuple[int, float, float]]:
    """Return what a part of a step gives, and its operations, GFLOP and MB."""
    with FlopCounterMode(display=False) as flops, Counted() as counter:
        made = part()
    return made, (counter.ops, flops.get_total_flops() / 1e9, counter.bytes / 1e6)


def count_stage1(preset: str, batch: int) -> list[tuple[Any, ...]]:
    """Count a step of stage 1 by its parts, on the device ``meta``."""
    from omfa.zoo.pretraining.augmentations import augment
    from omfa.zoo.pretraining.loss import nt_xent

    settings = Settings(preset=preset, batch_size=batch)  # type: ignore[arg-type]
    module = Contrastive(settings, {}).to("meta")
    shape = (batch // 16, 16)
    x = torch.empty(*shape, round(settings.span_seconds * 128), device="meta")
    there = torch.empty(shape, dtype=torch.bool, device="meta")
    none = torch.empty(shape[0], dtype=torch.long, device="meta")
    windows = Batch(x, there, none, none, none, 128.0, 16)
    rows: list[tuple[Any, ...]] = []

    def part(name: str, work: Callable[[], Any]) -> Any:
        made, figures = counted(work)
        rows.append((f"{preset}, {name}", batch, *figures))
        return made

    views, other, _ = part("views", lambda: module.views(windows))
    seen = part(
        "augmentations of both views",
        lambda: [augment(*one, settings.augmentations) for one in zip(
            views, (128.0, 128.0), other, strict=True)],
    )  # fmt: skip
    front = module.encoder.front_end
    part("front end of both views", lambda: [front(v, rate) for v, rate in seen])
    encoded = part(
        "encoder of both views, front end too",
        lambda: [module.encoder(v, sfreq=rate) for v, rate in seen],
    )
    z = part("projector", lambda: torch.stack([module.projector(e.h) for e in encoded], 1))
    number = torch.empty(batch, dtype=torch.long, device="meta")
    loss, *_ = part(
        "NT-Xent",
        lambda: nt_xent(
            z,
            unit=number,
            recording=number,
            time=torch.empty(2, batch, device="meta"),
            side=torch.stack([e.side[:, :-1] for e in encoded]),
            match_width=settings.match_width,
        ),
    )
    part("backward", loss.backward)
    total = [sum(row[i] for row in rows if "front end of" not in row[0]) for i in (2, 3, 4)]
    rows.append((f"{preset}, a step of stage 1 but the optimizer", batch, *total))
    return rows


def count_stage2(preset: str, n_chans: int, batch: int = 64) -> list[tuple[Any, ...]]:
    """Count a step of stage 2 by its parts, on the device ``meta``."""
    from omfa.models.front_end import recorded

    names = ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3"]
    info = [{"ch_name": names[i % 14], "kind": "eeg"} for i in range(n_chans)]
    model = OMFA(n_outputs=3, chs_info=info, n_times=800, sfreq=200.0, preset=preset)  # type: ignore[arg-type]
    model = model.to("meta").train()
    x = torch.empty(batch, n_chans, 800, device="meta")
    rows: list[tuple[Any, ...]] = []
    what = f"{preset}, {n_chans} channels"

    def part(name: str, work: Callable[[], Any]) -> Any:
        made, figures = counted(work)
        rows.append((f"{what}, {name}", batch, *figures))
        return made

    present = recorded(x)
    assert model.encoder is not None
    assert model.connectivity is not None
    assert model.nodes is not None
    pairs = part("coherency", lambda: model.connectivity(x, present, model.positions))
    encoded = part("encoder", lambda: model.encoder(x.flatten(0, 1)))
    h, side = (t.view(batch, n_chans, -1) for t in (encoded.h, encoded.side))
    nodes = part("nodes", lambda: model.nodes(h, side, present, model.positions))
    part("graph head", lambda: model.head(nodes, present, model.positions, pairs))
    out = part("forward, all", lambda: model(x))
    part("backward, all", lambda: out.square().mean().backward())
    return rows


def count_heads(preset: str, n_chans: int, at_once: int, batch: int = 32) -> tuple[Any, ...]:
    """Count a step of heads on embeddings, all but the optimizer, on the device ``meta``."""
    model, windows = head_and_windows(preset, n_chans, 2, at_once, "cpu")
    stack = Stack([model.build(windows).to("meta") for _ in range(at_once)])
    n_features = windows.features(model.features).shape[-1]
    x = torch.empty(at_once, batch, n_chans, n_features, device="meta")
    there = torch.empty(at_once, batch, n_chans, dtype=torch.bool, device="meta")
    y = torch.empty(at_once, batch, dtype=torch.long, device="meta")
    weight = torch.empty(at_once, 2, device="meta")

    def step() -> None:
        if at_once == 1:
            network = stack.networks[0].train()
            loss = F.cross_entropy(network(x[0], there[0]), y[0], weight[0], label_smoothing=0.1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        else:
            cross_entropies(stack(x, there), y, weight, 0.1).sum().backward()
            stack.clip(1.0)

    _, figures = counted(step)
    return f"{preset}, {n_chans} channels, heads of {at_once} on embeddings", batch, *figures


def count() -> None:
    """Print operations and bytes of a step of both stages."""
    print("| part | batch | operations | GFLOP | MB read and written |\n|---|---|---|---|---|")
    rows = [*count_stage1("small", 1024), *count_stage1("base", 4096)]
    rows += [*count_stage2("small", 62), *count_stage2("small", 14)]
    rows += [count_heads("small", n_chans, n) for n_chans in (62, 14) for n in (1, 8, 16)]
    for name, batch, ops, gflop, megabytes in rows:
        print(f"| {name} | {batch:,} | {ops:,} | {gflop:,.3g} | {megabytes:,.0f} |")


# ---- the run --------------------------------------------------------------------------------


def cases(where: Where) -> list[tuple[Any, ...]]:
    """Return what is measured, what matters most first."""
    if where.rehearse:
        made: list[tuple[Any, ...]] = [
            ("stage1", "tiny", how, precision, 16)
            for how, precision in (("eager", "bf16"), ("compiled", "tf32"), ("eager", "tf32"))
        ]
        # bfloat16 is slow on most CPUs.
        made += [("stage2", name, 3, "eager", "tf32", 2) for name in networks(3)]
        made += [("heads", "tiny", 3, n) for n in (1, 2)]
        return [*made, ("windows", 16), ("profile",), ("latency", "tiny", 3, "eager")]
    both = ("OMFA small", "Labram")
    made = [("stage1", "base", "eager", "bf16", batch) for batch in (1024, 4096, 8192)]
    made += [("stage2", name, 62, "eager", "bf16", batch) for batch in (64, 512) for name in both]
    made += [("stage1", "small", "eager", "bf16", batch) for batch in (1024, 4096, 8192)]
    made += [("heads", "small", n_chans, n) for n_chans in (62, 14) for n in (1, 8, 16)]
    made += [("windows", 1024)]
    made += [("stage2", name, 62, "compiled", "bf16", 512) for name in both]
    made += [("stage1", "base", "compiled", "bf16", batch) for batch in (4096, 1024)]
    made += [("stage1", "tiny", "eager", "bf16", batch) for batch in (1024, 8192)]
    made += [("stage1", "large", "eager", "bf16", batch) for batch in (1024, 4096)]
    made += [("profile",)]
    made += [("stage2", name, 62, "CUDA graph", "bf16", 64) for name in both]
    made += [("latency", "small", 62, how) for how in ("eager", "CUDA graph")]
    made += [("stage1", preset, "eager", "tf32", 4096) for preset in ("base", "small")]
    others = ("OMFA base", "CBraMod", "EEGConformer", "EEGNet")
    made += [("stage2", name, 62, "eager", "bf16", 64) for name in others]
    made += [("stage2", name, 14, "eager", "bf16", 64) for name in networks(14)]
    made += [("latency", "base", 62, "eager")]
    made += [("stage2", name, 62, "compiled", "bf16", 64) for name in both]
    made += [("stage1", "small", "compiled", "bf16", 4096)]
    made += [("stage2", name, 62, "eager", "tf32", 64) for name in both]
    made += [("stage1", preset, "eager", "tf32", 4096) for preset in ("tiny", "large")]
    made += [("stage1", preset, "compiled", "bf16", 4096) for preset in ("tiny", "large")]
    made += [("stage1", "base", "compiled", "bf16", 8192)]
    return [*made, ("stage1", "base", "compiled", "tf32", 4096)]


def goals(table: Table) -> list[str]:
    """Say of each goal what was found."""
    said = []

    def rate(what: str, *how: str) -> list[tuple[float, str]]:
        found = []
        for row in table.rows:
            number = row[3].replace(",", "")
            if row[0].startswith(what) and all(h in row[1] for h in how):
                try:
                    found.append((float(number), row[6]))
                except ValueError:
                    continue
        return found

    if base := rate("stage 1, base"):
        pairs, wait = max(base)
        said.append(f"base: {pairs:,.0f} pairs/s at best (goal 50,000), waits {wait} (goal < 5 %)")
    for how in ("eager, bf16", "compiled, bf16"):
        ours, theirs = (rate(f"stage 2, {n}, 62", how) for n in ("OMFA small", "Labram"))
        # In the order of their batches.
        for (one, _), (other, _) in zip(ours, theirs, strict=False):
            said.append(f"small at 62 channels, {how}: {one / other:.2f} x Labram (goal 3)")
    return said


def describe(where: Where) -> str:
    """Say what machine this is."""
    card = "no GPU"
    if where.cuda:
        about = torch.cuda.get_device_properties(where.device)
        card = f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    told = f"{date.today()}: {card}, torch {torch.__version__}, Python {platform.python_version()}"
    return f"{told}, {os.cpu_count()} cores. `{' '.join(['python', *sys.argv])}`"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", nargs="*", help="made by omfa-ingest, all signals in memory")
    parser.add_argument("--out", type=Path, help="folder of gpu.md (default: only the screen)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes; figures mean nothing")
    parser.add_argument("--time-limit", type=float, default=240.0, metavar="SECONDS")
    parser.add_argument("--count", action="store_true", help="count operations, measure nothing")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    if args.count:
        count()
        return
    if not args.stores:
        parser.error("name the stores to train on")
    until = time.monotonic() + args.time_limit
    where = Where(torch.device(args.device), 0.0 if args.rehearse else 1.2, args.rehearse)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    table = Table(None if args.out is None else args.out / "gpu.md", until)
    table.say(describe(where))
    if args.rehearse:
        table.say("\nA rehearsal in tiny sizes: these figures mean nothing.")
    table.say("")
    table.begin()
    torch.manual_seed(0)
    todo = cases(where)
    for number, (kind, *of) in enumerate(todo):
        # Compiling takes half a minute, all else seconds.
        if table.left < (40 if "compiled" in of and not where.rehearse else 3):
            table.say(f"\nOut of time: {len(todo) - number} of {len(todo)} rows not measured.")
            break
        if kind == "stage1":
            preset, how, precision, batch = of
            attempt(
                table,
                f"stage 1, {preset}, pairs",
                f"{how}, {precision}",
                batch,
                lambda of=of: stage1(table, where, args.stores, *of),
            )
        elif kind == "stage2":
            name, n_chans, how, precision, batch = of
            attempt(
                table,
                f"stage 2, {name}, {n_chans} channels, windows",
                f"{how}, {precision}",
                batch,
                lambda of=of: stage2(table, where, *of),
            )
        elif kind == "heads":
            preset, n_chans, n = of
            attempt(
                table,
                f"a head on embeddings, {preset}, {n_chans} channels, fits",
                f"{n} at once, float32",
                0,
                lambda of=of: heads(table, where, *of),
            )
        elif kind == "profile":
            attempt(
                table,
                "kernels",
                "eager, bf16",
                0,
                lambda: profiled(table, where, args.stores, args.out),
            )
        elif kind == "windows":
            what = "windows from the device's memory"
            attempt(
                table,
                what,
                "shuffled",
                of[0],
                lambda of=of: windows_from_memory(table, where, args.stores, *of),
            )
        else:
            attempt(
                table,
                f"one window, {of[0]}, {of[1]} channels",
                of[2],
                1,
                lambda of=of: latency(table, where, *of),
            )
    table.say("")
    for line in goals(table):
        table.say(line)


if __name__ == "__main__":
    main()
