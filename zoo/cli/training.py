"""``omfa-zoo pretrain`` and ``finetune``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omfa.pipeline.errors import DataError
from omfa.zoo.cli.flags import (
    add_data_flags,
    add_parameter_flag,
    number,
    open_stores,
    pairs,
    parameters_of,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


PRETRAIN = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr dreamer.zarr --preset small --out runs/three
  omfa-zoo pretrain seed.zarr deap.zarr --out runs/two --hold-out 'deap/sub-0*'
  omfa-zoo pretrain *.zarr --preset base --devices 4 --out runs/base    four GPUs
  omfa-zoo pretrain *.zarr --out runs/try --dry-run                     what, and how long
  tensorboard --logdir runs/three/logs

DIR/checkpoint is what `omfa-zoo evaluate --checkpoint` and omfa.zoo.load read. Run the same command
again to go on after an interruption; the loss goes on as if nothing had been.
"""


def add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = PRETRAIN
    parser.description = (
        "Pre-train an encoder on the single channels of stores, without labels: two views some\n"
        "seconds apart of one channel are pulled together, all else is pushed away."
    )
    parser.add_argument("stores", nargs="+", metavar="STORE", help="made by omfa-ingest")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    add("--name", help="of the checkpoint (default: the folder's name)")
    add("--dry-run", action="store_true", help="show the plan and time a few steps; train nothing")
    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--preset", default="small", help="tiny, small, base or large (default: small)")
    add("--encoder", default="art", help="art, art_no_rotary, patch or cnn (default: art)")
    add("--resampling", default="rate", help="off, rate or rate+content (default: rate)")
    add("--tokens-per-second", type=float, default=2.0, metavar="N", help="(default: 2)")
    views = parser.add_argument_group("views")
    add = views.add_argument
    add("--window-seconds", type=float, default=4.0, metavar="S", help="of a view (default: 4)")
    add(
        *("--lag-seconds", "--lag"),
        type=float,
        nargs=2,
        default=(4.0, 10.0),
        metavar=("LEAST", "MOST"),
        help="from a view to its positive; 0 0 takes both from one window (default: 4 10)",
    )
    add(
        "--augmentation",
        action="append",
        default=[],
        metavar="NAME=CHANCE",
        help="rereference, rate, stretch, noise, time_mask, band_stop, phase or drift; repeatable",
    )
    add(
        "--hold-out",
        action="append",
        default=[],
        metavar="DATASET/SUBJECT",
        help="leave subjects out, * and ? as in file names; repeatable",
    )
    loop = parser.add_argument_group("training")
    add = loop.add_argument
    add("--steps", type=int, default=20_000, metavar="N", help="(default: 20000)")
    add("--batch-size", type=int, default=1024, metavar="N", help="pairs a step (default: 1024)")
    add("--channels-per-window", type=int, default=16, metavar="N", help="(default: 16)")
    add(
        "--negatives-from",
        default="dataset",
        help="dataset, or subject: what a positive is told from (default: dataset)",
    )
    add("--lr", type=float, help="greatest learning rate (default: the preset's)")
    add("--seed", type=int, default=0, metavar="N")
    add("--checkpoint-every", type=int, default=500, metavar="STEPS", help="(default: 500)")
    add("--log-every", type=int, default=20, metavar="STEPS", help="(default: 20)")
    add(
        "--probe-every",
        type=int,
        default=2000,
        metavar="STEPS",
        help="linear probes of subject, dataset and task; 0 for none (default: 2000)",
    )
    add(
        "--probe-target",
        action="append",
        default=[],
        metavar="DATASET=TARGET",
        help="the task of a dataset's probe: deap=valence>5; repeatable",
    )
    machine = parser.add_argument_group("machine")
    add = machine.add_argument
    add("--cache", default="auto", help="auto, memory, memmap or stream (default: auto)")
    add("--accelerator", default="auto", help="auto, cpu or gpu (default: auto)")
    add("--devices", default="1", metavar="N", help="processes, one per device (default: 1)")
    add("--num-nodes", type=int, default=1, metavar="N", help="machines, under torchrun or SLURM")
    add("--precision", help="32-true, bf16-mixed, ... (default: bf16-mixed where a GPU has it)")
    parser.set_defaults(run=_pretrain)


def _pretrain(args: argparse.Namespace) -> int:
    from omfa.zoo.pretraining.module import Settings, with_changes
    from omfa.zoo.pretraining.run import plan, pretrain_encoder

    names = (
        *("preset", "encoder", "resampling", "tokens_per_second", "window_seconds", "steps"),
        *("batch_size", "channels_per_window", "negatives_from", "lr", "seed"),
    )
    changes = {name: getattr(args, name) for name in names}
    changes["lag_seconds"] = tuple(args.lag_seconds)
    chances = {name: number(chance) for name, chance in pairs(args.augmentation).items()}
    settings = with_changes(Settings(), changes | chances)
    if args.dry_run:
        print(plan(args.stores, settings, hold_out=args.hold_out, cache=args.cache))
        return 0
    folder = pretrain_encoder(
        args.stores,
        args.out,
        settings,
        hold_out=args.hold_out,
        name=args.name,
        cache=args.cache,
        accelerator=args.accelerator,
        devices=int(args.devices) if args.devices.lstrip("-").isdigit() else args.devices,
        num_nodes=args.num_nodes,
        precision=args.precision,
        checkpoint_every=args.checkpoint_every,
        log_every=args.log_every,
        probe_every=args.probe_every,
        probe_targets=pairs(args.probe_target),
        progress=True,
        command=shlex.join(["omfa-zoo", *args.argv]),
    )
    print(f"Checkpoint: {folder}")
    return 0


FINETUNE = """\
examples:
  omfa-zoo finetune deap.zarr --checkpoint runs/three/checkpoint --out models/valence
  omfa-zoo finetune deap.zarr --checkpoint runs/three/checkpoint --out models/s01 --subject sub-01
  omfa-zoo finetune dreamer.zarr --target 'arousal>3' --parameters freeze=encoder --out models/a
  omfa-zoo finetune seed.zarr --out models/emotion --dry-run       what, and how long

All given data are learned from, but for a fifth that the number of epochs is chosen on: trials of
one or two subjects, subjects where there are more. How good such a model is for new people is what
`omfa-zoo evaluate` measures. DIR is a checkpoint: OMFA.from_pretrained(DIR).
"""


def add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FINETUNE
    parser.description = "Train one OMFA on labelled stores, from a checkpoint or from scratch."
    parser.add_argument("stores", nargs="+", metavar="STORE", help="made by omfa-ingest")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the new checkpoint")
    add("--checkpoint", metavar="NAME", help="name or folder (default: from scratch)")
    add("--name", help="of the new checkpoint (default: the folder's name)")
    add(
        "--subject",
        action="append",
        default=[],
        metavar="[DATASET/]SUBJECT",
        help="learn from this one only; repeatable (default: all)",
    )
    add(
        "--protocol",
        choices=("within-subject", "cross-subject"),
        help="what is held apart to choose the epoch on: trials, or subjects",
    )
    add("--seed", type=int, default=0, metavar="N")
    add_parameter_flag(parser)
    add("--dry-run", action="store_true", help="show the plan and time a few steps; train nothing")
    add_data_flags(parser)
    parser.set_defaults(run=_finetune)


def _finetune(args: argparse.Namespace) -> int:
    from omfa.zoo.finetune import fine_tune, plan_fine_tuning

    dataset = open_stores(args)
    if args.subject:
        dataset = dataset.select(_of_subjects(dataset.metadata, args.subject))
    settings = {
        "checkpoint": args.checkpoint,
        "protocol": args.protocol,
        "seed": args.seed,
        "parameters": parameters_of(args.parameters, ["omfa"])["omfa"],
    }
    if args.dry_run:
        print(plan_fine_tuning(dataset, **settings))
        return 0

    def report(told: dict[str, float]) -> None:
        print(
            f"epoch {told['epoch']:3}  loss {told['loss']:.3f}  validation "
            f"{told['validation_loss']:.3f}, balanced accuracy "
            f"{told['validation_balanced_accuracy']:.3f}",
            file=sys.stderr,
        )

    command = shlex.join(["omfa-zoo", *args.argv])
    folder = fine_tune(
        dataset, args.out, name=args.name, command=command, report=report, **settings
    )
    print(f"Checkpoint: {folder}")
    return 0


def _of_subjects(metadata: pd.DataFrame, asked: Sequence[str]) -> npt.NDArray[np.bool_]:
    import numpy as np

    names = metadata["dataset"].astype(str), metadata["subject"].astype(str)
    chosen = np.zeros(len(metadata), dtype=bool)
    for name in asked:
        dataset, _, subject = name.rpartition("/")
        here = names[1].isin([subject, f"sub-{subject}"]) & (names[0].eq(dataset) | (not dataset))
        if not here.any():
            known = ", ".join(sorted(set(names[0] + "/" + names[1])))
            raise DataError(f"Looking for the subject {name}", "there is none", f"Use of {known}")
        chosen |= here.to_numpy()
    return chosen
