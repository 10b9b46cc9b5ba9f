"""Does it learn? OMFA on simulated corpora whose best achievable score the simulator knows.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_learning.py [--quick] [PART ...]

``power``: the effect lies in the power of rhythms. ``coupling``: in the phase between two
rhythms, which no channel shows by itself. ``waveform``: in bursts, which no spectrum shows; as they
are, and whitened, since each electrode hears the bursts of all sources.
``nil``: there is none. ``labels``: pre-trained against scratch with few labelled trials of an
effect in power, and ``waveform-labels`` of one in the waveform. ``spread``: the first of these on
three corpora, where what counts is how far seeds lie apart. ``clips``: other people under the same
clip as positives. ``content``: tokens placed by content, where little of a window matters. All
signals are simulated: that software learns what was planted says nothing about emotion.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring
import pandas as pd
import torch
from scipy.stats import wilcoxon

from omfa.models import make_encoder
from omfa.pipeline import Preprocessing, ingest, simulate
from omfa.zoo import Protocol, Result, compare, evaluate, open_dataset
from omfa.zoo.pretraining.run import pretrain_encoder
from omfa.zoo.pretraining.settings import Settings

WINDOW = 4.0
EFFECT = 2.0
TRIALS = Protocol("within-subject", n_folds=5)
FROZEN = {"preset": "tiny", "freeze": "encoder", "patience": None, "refit": True}
"""An encoder of random weights, and a head that is fitted for all epochs."""


def deap(
    scratch: Path, subjects: int, *, whiten: bool = False, **planted: Any
) -> tuple[Any, float]:
    """Simulate DEAP; return its dataset and the best balanced accuracy that windows allow."""
    name = "-".join(map(str, planted.values()))
    truth = simulate("deap", scratch / name, subjects=subjects, **planted)
    store = scratch / (f"{name}-whitened.zarr" if whiten else f"{name}.zarr")
    path = Preprocessing(whiten=whiten)
    ingest("deap", scratch / name, store, progress=False, preprocessing=path)
    # An effect as large as here looks like noise to quality control, and no channel is bad.
    how = {"cache": "memory", "mask_bad": False}
    data = open_dataset(store, WINDOW, target="valence>5", **how)
    return data, truth.best_accuracy["valence"][f"{WINDOW:g}"]["balanced"]


def planted(title: str, data: Any, best: float, rows: Sequence[tuple[str, str, dict]]) -> None:
    """Print what models reach of the best."""
    table = []
    for name, model, parameters in rows:
        started = time.perf_counter()
        # A checkpoint here has seen these signals, without their labels.
        saw = "checkpoint" in parameters
        result = evaluate(model, data, TRIALS, parameters=parameters, transductive=saw)
        score = float(result.summary()["mean"]["balanced_accuracy"])
        table.append([name, f"{score:.3f}", score / best, time.perf_counter() - started])
    measuring.show(
        f"{title}; simulated DEAP, within-subject, 5 folds, windows of {WINDOW:g} s; at best "
        f"{best:.3f}",
        ["model", "balanced accuracy", "of the best", "s"],
        table,
    )


def power(scratch: Path, quick: bool) -> None:
    """The effect is in the power of rhythms."""
    data, best = deap(scratch, 1 if quick else 4, effect=EFFECT)
    rows = [("OMFA", "omfa", FROZEN), ("relative band power", "relative-band-power+logistic", {})]
    planted("effect in power", data, best, rows)


def coupling(scratch: Path, quick: bool) -> None:
    """The effect is in the phase between rhythms."""
    data, best = deap(scratch, 1 if quick else 4, effect=EFFECT, effect_kind="connectivity")
    rows = [
        ("OMFA, GAT", "omfa", FROZEN),
        ("OMFA, GAT without connectivity", "omfa", {**FROZEN, "connectivity": False}),
        ("OMFA, mean over channels", "omfa", {**FROZEN, "head": "mean"}),
        ("relative band power", "relative-band-power+logistic", {}),
        ("tangent space", "tangent-space+logistic", {}),
    ]
    planted("effect in coupling", data, best, rows)


def waveform(scratch: Path, quick: bool) -> None:
    """The effect is in the waveform of single channels."""
    settings = Settings("tiny", steps=20 if quick else 300, batch_size=128, channels_per_window=4)
    frozen = {"freeze": "encoder", "epochs": 20, "patience": None, "refit": True}
    fitted = {"preset": "tiny", "freeze": "none", "epochs": 12, "patience": None, "refit": True}
    for whiten in (False, True):
        how = {"effect": 3.0, "effect_kind": "waveform"}
        data, best = deap(scratch, 1 if quick else 2, whiten=whiten, **how)
        name = "whitened" if whiten else "plain"
        start = {
            "checkpoint": str(pretrain_encoder(data.recipe["stores"], scratch / name, settings))
        }
        random = {"preset": "tiny"}
        rows = [
            ("OMFA pre-trained, frozen", "omfa", {**frozen, **start}),
            ("OMFA random weights, frozen", "omfa:random", {**frozen, **random}),
            ("the same, without bursts", "omfa:random", {**frozen, **random, "bursts": False}),
            ("OMFA pre-trained, linear probe", "omfa", {"head": "logistic", **start}),
            ("OMFA random weights, linear probe", "omfa:random", {"head": "logistic", **random}),
            ("OMFA from scratch, fitted", "omfa:scratch", fitted),
            ("coherency alone", "omfa", {"head": "coherency", "epochs": 20}),
            ("relative band power", "relative-band-power+logistic", {}),
            ("tangent space", "tangent-space+logistic", {}),
        ]
        planted(f"effect in the waveform, {name}", data, best, rows)


def nil(scratch: Path, quick: bool) -> None:
    """There is no effect."""
    data, best = deap(scratch, 1 if quick else 4, effect=0.0)
    rows = [("OMFA", "omfa", FROZEN), ("relative band power", "relative-band-power+logistic", {})]
    planted("no effect", data, best, rows)


def labels(scratch: Path, quick: bool) -> None:
    """Few labelled trials: from a pre-trained encoder, and from scratch."""
    fitted = {"epochs": 20}
    ways = {
        "pre-trained": ("omfa", fitted, "scratch"),
        "pre-trained, frozen": ("omfa", {**fitted, "freeze": "encoder"}, "scratch"),
        "scratch": ("omfa:scratch", fitted, None),
    }
    steps, pairs = (20, 128) if quick else (400, 256)
    few_labels(scratch, quick, ways, Settings("tiny", steps=steps, batch_size=pairs), seconds=30)


def waveform_labels(scratch: Path, quick: bool) -> None:
    """The same of an effect in the waveform, with the controls that learn as the first rows do."""
    frozen, probe = {"epochs": 20, "freeze": "encoder"}, {"head": "logistic"}
    fitted = {"epochs": 8}
    wholly = {**fitted, "freeze": "none", "encoder_lr_scale": 1.0}
    ways = {
        "pre-trained, linear probe": ("omfa", probe, "scratch"),
        "random weights, linear probe": ("omfa:random", probe, "pre-trained, linear probe"),
        "pre-trained, frozen": ("omfa", frozen, "scratch"),
        "random weights, frozen": ("omfa:random", frozen, "pre-trained, frozen"),
        "pre-trained": ("omfa", wholly, "scratch"),
        "scratch": ("omfa:scratch", fitted, None),
        "relative band power": ("relative-band-power+logistic", {}, None),
    }
    settings = Settings("tiny", steps=20 if quick else 600, batch_size=128, channels_per_window=4)
    how = {"seconds": 80, "effect": 3.0, "effect_kind": "waveform"}
    few_labels(scratch, quick, ways, settings, whiten=True, mask_bad=False, **how)


def spread(scratch: Path, quick: bool) -> None:
    """The paper's shape: pre-trained on three corpora, fitted wholly to few trials of each."""
    fitted = {"epochs": 20}
    ways = {
        "pre-trained": ("omfa", fitted, "scratch"),
        "scratch": ("omfa:scratch", fitted, None),
    }
    steps, pairs = (20, 128) if quick else (400, 256)
    settings = Settings("tiny", steps=steps, batch_size=pairs)
    few_labels(scratch, quick, ways, settings, corpora=TARGETS, subjects=6, seconds=30)


TARGETS = {"seed": "emotion", "deap": "valence>5", "dreamer": "valence>3"}
"""What is decoded of each corpus."""


def clips(scratch: Path, quick: bool) -> None:
    """Positives from other people under the same clip, who share the effect and no trial's own."""
    subjects, seeds, steps = (4, 1, 20) if quick else (8, 3, 300)
    truth = simulate("seed", scratch / "clips", subjects=subjects, sessions=1, seconds=60)
    store = scratch / "clips.zarr"
    ingest("seed", scratch / "clips", store, progress=False)
    data = open_dataset(store, WINDOW, target="emotion", cache="memory")
    across = Protocol("cross-subject", n_folds=4)
    rows = []
    for same_clip in (0.0, 0.5, 1.0):
        for seed in range(seeds):
            settings = Settings(
                "tiny", steps=steps, batch_size=128, channels_per_window=4, same_clip=same_clip,
                seed=seed,
            )  # fmt: skip
            run = scratch / f"clips-{same_clip}-{seed}"
            started = {
                "head": "logistic",
                "checkpoint": str(pretrain_encoder(store, run, settings)),
            }
            result = evaluate("omfa", data, across, parameters=started, transductive=True)
            score = float(result.summary()["mean"]["balanced_accuracy"])
            rows.append([f"{same_clip:.0%} of the steps", seed, score])
    power = evaluate("relative-band-power+logistic", data, across).summary()["mean"]
    rows.append(["relative band power", "", float(power["balanced_accuracy"])])
    measuring.show(
        f"positives under the same clip, linear probe; simulated SEED, {subjects} subjects, "
        f"cross-subject, windows of {WINDOW:g} s; at best "
        f"{truth.best_accuracy['emotion'][f'{WINDOW:g}']['balanced']:.3f}",
        ["same clip", "seed", "balanced accuracy"],
        rows,
    )


def content(scratch: Path, quick: bool) -> None:
    """Half a second in 16, somewhere, tells the class: which of two waves is in noise."""
    steps, seeds, levels = (20, 1, (3.0,)) if quick else (500, 3, (1.6, 2.0, 3.0))
    rows = []
    for level in levels:
        for mode in ("rate", "rate+content"):
            scores = [_of_content(mode, level, seed, steps) for seed in range(seeds)]
            rows.append([level, mode, " ".join(f"{score:.3f}" for score in scores)])
    measuring.show(
        f"ART tiny without its paths, a token for 4 s, from scratch, {steps} steps of 64 windows "
        "of 16 s; a wave of 9 or 13 Hz for half a second in noise",
        ["wave, in SD of the noise", "resampling", "accuracy, by seed"],
        rows,
    )


def _of_content(mode: str, level: float, seed: int, steps: int) -> float:
    """Fit an encoder and a linear layer to fresh windows; return the accuracy on 2,048 others."""
    torch.manual_seed(seed)
    plain: dict[str, Any] = {"spectral": False, "bursts": False}
    encoder = make_encoder(
        "art", "tiny", sfreq=128.0, resampling=mode, tokens_per_second=0.25, **plain
    )
    model = torch.nn.ModuleList([encoder, torch.nn.Linear(encoder.dim, 2)])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x, y = _waves(64, level, draw)
        loss = torch.nn.functional.cross_entropy(model[1](encoder(x).h), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    draw.manual_seed(10_000 + seed)  # none of those that it was fitted to
    with torch.no_grad():
        right = [
            (model[1](encoder(x).h).argmax(1) == y).float().mean()
            for x, y in (_waves(256, level, draw) for _ in range(8))
        ]
    return float(torch.stack(right).mean())


def _waves(n: int, level: float, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw pink noise of 16 s at 128 Hz, with a wave of half a second at some place."""
    n_times = 16 * 128
    white = torch.fft.rfft(torch.randn(n, n_times, generator=draw))
    freqs = torch.fft.rfftfreq(n_times, 1 / 128)
    noise = torch.fft.irfft(white / freqs.clamp(min=1).sqrt(), n_times)
    y = torch.randint(2, (n,), generator=draw)
    start, phase = torch.rand(2, n, 1, generator=draw)
    time = torch.arange(n_times) / 128 - 15.5 * start
    gate = ((time > 0) & (time < 0.5)) * torch.sin(2 * torch.pi * time) ** 2
    turns = torch.where(y == 0, 9.0, 13.0)[:, None] * time + phase
    wave = level * gate * torch.sin(2 * torch.pi * turns)
    return 10 * (noise / noise.std(-1, keepdim=True) + wave), y


def few_labels(
    scratch: Path,
    quick: bool,
    ways: Mapping[str, tuple[str, dict[str, Any], str | None]],
    settings: Settings,
    *,
    corpora: Collection[str] = ("dreamer",),
    subjects: int = 10,
    whiten: bool = False,
    mask_bad: bool = True,
    effect: float = EFFECT,
    **simulated: Any,
) -> None:
    """Print what ways of starting reach with nine labelled trials, and what more than controls."""
    subjects, seeds = (3, 1) if quick else (subjects, 5)
    name = simulated.get("effect_kind", "power")
    stores = []
    for corpus in corpora:
        raw, store = scratch / f"{corpus}-{name}", scratch / f"{corpus}-{name}.zarr"
        # One session of SEED, so that a person is as one of the others.
        one = {"sessions": 1} if corpus == "seed" else {}
        simulate(corpus, raw, subjects=subjects, effect=effect, **one, **simulated)
        ingest(corpus, raw, store, progress=False, preprocessing=Preprocessing(whiten=whiten))
        stores.append(store)
    started = time.perf_counter()
    checkpoint = pretrain_encoder(stores, scratch / f"run-{name}-{len(stores)}", settings)
    took = time.perf_counter() - started
    rows = []
    for corpus, store in zip(corpora, stores, strict=True):
        how = {"cache": "memory", "mask_bad": mask_bad}
        data = open_dataset(store, WINDOW, target=TARGETS[corpus], **how)
        few = Protocol("within-subject", train_trials=9)
        results = {}
        for way, (model, parameters, _) in ways.items():
            start: dict[str, Any] = {}
            if model == "omfa":
                start = {"checkpoint": str(checkpoint)}
            elif model.startswith("omfa"):
                start = {"preset": settings.preset}
            results[way] = [
                evaluate(
                    model,
                    data,
                    few,
                    seed=seed,
                    parameters={**parameters, **start},
                    transductive=model == "omfa",
                )
                for seed in range(seeds)
            ]
        for way, (_, _, control) in ways.items():
            score, apart = of_seeds(results[way])
            row: list[Any] = [corpus, way, score, apart.mean(), "", "", "", ""]
            if control is not None:
                told = compare(results[way], results[control])
                steadier = wilcoxon(apart, of_seeds(results[control])[1]).pvalue
                row[4:] = [control, told.difference, told.p, steadier]
            rows.append(row)
    measuring.show(
        f"effect in {name}; 9 labelled trials of a subject, {subjects} subjects of simulated "
        f"{', '.join(corpora)}, {seeds} seeds averaged by subject; pre-trained on the same signals "
        f"without labels ({took:.0f} s). SD: over seeds, of a subject, averaged over subjects",
        ["corpus", "start", "balanced accuracy", "SD", "control", "more than it", "p, Wilcoxon",
         "p of the SD"],
        rows,
    )  # fmt: skip


def of_seeds(runs: Sequence[Result]) -> tuple[float, pd.Series]:
    """Return the mean score, and each subject's standard deviation over the seeds."""
    scores = pd.concat([run.subjects["balanced_accuracy"] for run in runs], axis=1)
    return float(scores.to_numpy().mean()), scores.std(axis=1, ddof=len(runs) > 1)


PARTS: dict[str, Callable[[Path, bool], None]] = {
    "power": power,
    "coupling": coupling,
    "waveform": waveform,
    "nil": nil,
    "labels": labels,
    "waveform-labels": waveform_labels,
    "spread": spread,
    "clips": clips,
    "content": content,
}


def main() -> None:
    """Print the tables."""
    arguments = measuring.parser(__doc__)
    arguments.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all, if none is named")
    args = arguments.parse_args()
    measuring.heading(["numpy", "torch", "lightning"])
    with measuring.scratch(args.scratch) as scratch:
        for part in args.parts or PARTS:
            PARTS[part](scratch, args.quick)


if __name__ == "__main__":
    main()
