"""``omfa-zoo pretrain`` and ``finetune``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omfa.pipeline import flags
from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG
from omfa.pipeline.words import nearest
from omfa.zoo.checkpoints.cards import CARD
from omfa.zoo.cli.flags import (
    STORES,
    add_parameters_flag,
    add_stage1_flags,
    add_stage2_flags,
    add_window_flags,
    describe,
    open_stores,
    parameters_of,
    stage1_of,
)
from omfa.zoo.pretraining.settings import RunSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


PRETRAIN = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr --preset small --out runs/two    to evaluate on dreamer
  omfa-zoo pretrain seed.zarr deap.zarr dreamer.zarr --out runs/three --hold-out 'deap/sub-3*'
  omfa-zoo pretrain *.zarr --preset base --devices 4 --out runs/base    four GPUs
  omfa-zoo pretrain *.zarr --out runs/try --dry-run                     what, and how long
  tensorboard --logdir runs/three/logs

DIR/checkpoint is what `omfa-zoo evaluate --checkpoint` and omfa.zoo.load read. Whom `evaluate` is
to test may not be learned from here: leave out their store, or hold them out (--hold-out); else it
asks for --transductive. After an interruption the same command goes on from the last multiple of
--checkpoint-every steps, and the loss as if nothing had been; before the first nothing is kept, and
it starts again.
"""


def add_pretrain(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo pretrain``."""
    describe(
        parser,
        _pretrain,
        "Pre-train an encoder on the single channels of stores, without labels: two views of one\n"
        "channel, up to 0.25 s apart (or --lag-seconds), are pulled together, others of the same\n"
        "dataset pushed away.",
        PRETRAIN,
        usage="STORE [STORE ...] --out DIR [options]",
    )
    parser.add_argument("stores", nargs="+", **STORES)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    add("--name", help="of the checkpoint (default: the folder's name)")
    add(
        "--hold-out",
        action="append",
        default=[],
        metavar="DATASET/SUBJECT",
        help="leave subjects out, * and ? as in file names; 'benchmark' for all that the benchmark "
        "holds out; repeatable",
    )
    add("--dry-run", action="store_true", help="show the plan and time a few steps; train nothing")
    add_stage1_flags(parser.add_argument_group("what is learned"))
    flags.add_flags(
        parser.add_argument_group("the run"),
        RunSettings,
        names={"probe_targets": "probe-target"},
        repeatable=("probe_targets",),
        metavars={
            "probe_targets": "DATASET=TARGET",
            "devices": "N",
            **dict.fromkeys(("checkpoint_every", "log_every", "probe_every"), "STEPS"),
        },
    )


def _pretrain(args: argparse.Namespace) -> int:
    from omfa.zoo.pretraining.run import going_on, plan, pretrain_encoder

    settings, how = stage1_of(args), flags.settings(args, RunSettings)
    run = asdict(how)
    if args.dry_run:
        print(plan(args.stores, settings, hold_out=args.hold_out, cache=run["cache"], run=how))
        return 0
    if str(run["devices"]).lstrip("-").isdigit():
        run["devices"] = int(run["devices"])
    finished = (args.out / "checkpoint" / CARD).exists()
    try:
        folder = pretrain_encoder(
            args.stores,
            args.out,
            settings,
            hold_out=args.hold_out,
            name=args.name,
            progress=True,
            command=shlex.join(["omfa-zoo", *args.argv]),
            **run,
        )
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(going_on(args.out)) from stop
    if finished:
        LOG.info("This run was finished before: nothing is trained.")
    print(f"Checkpoint: {folder}")
    return 0


FINETUNE = """\
examples:
  omfa-zoo finetune deap.zarr --checkpoint runs/three/checkpoint --out models/valence
  omfa-zoo finetune deap.zarr --checkpoint runs/three/checkpoint --out models/s01 --subject sub-01
  omfa-zoo finetune deap.zarr --out models/most --hold-out 'deap/sub-3*'    to be tested on
  omfa-zoo finetune dreamer.zarr --target 'arousal>3' --preset tiny --epochs 20 --out models/a
  omfa-zoo finetune seed.zarr --out models/emotion --dry-run       what, and how long

All given data are learned from, in all epochs. Before that a fifth is set apart, trials of one or
two subjects, subjects where there are more: a temperature is fitted on it, which makes
probabilities of logits (--no-calibrate leaves that fit out), and with --patience the number of
epochs is chosen on it. How good such a model is for new people is what `omfa-zoo evaluate`
measures. DIR is a checkpoint: omfa-zoo predict DIR RECORDING, OMFA.from_pretrained(DIR). It is
written at the end: after an interruption the same command starts again.
"""


def add_finetune(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo finetune``."""
    describe(
        parser,
        _finetune,
        "Train one OMFA on labelled stores, from a checkpoint or from scratch.",
        FINETUNE,
        usage="STORE [STORE ...] --out DIR [options]",
    )
    parser.add_argument("stores", nargs="+", **STORES)
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
        "--hold-out",
        action="append",
        default=[],
        metavar="DATASET/SUBJECT",
        help="leave subjects out, * and ? as in file names; 'benchmark' for all that the benchmark "
        "holds out; repeatable",
    )
    add(
        "--protocol",
        choices=("within-subject", "cross-subject"),
        help="what is set apart for the temperature and --patience: trials or subjects",
    )
    add(
        "--calibrate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fit a temperature, on a part that a first fit leaves out (default: yes)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of weights, order, dropout (default: 0)")
    add("--dry-run", action="store_true", help="show the plan and time a few steps; train nothing")
    add_stage2_flags(parser, leave_out=("folds_at_once",))  # it makes one fit
    add_parameters_flag(parser)
    add_window_flags(parser)


def _finetune(args: argparse.Namespace) -> int:
    from omfa.zoo.finetune import fine_tune, plan_fine_tuning
    from omfa.zoo.protocols.held_out import left_out

    dataset = open_stores(args)
    if args.subject:
        dataset = dataset.select(_of_subjects(dataset.metadata, args.subject))
    if args.hold_out:
        people = (
            dataset.metadata["dataset"].astype(str) + "/" + dataset.metadata["subject"].astype(str)
        )
        doing = f"Fine-tuning on {', '.join(args.stores)}"
        held = left_out(sorted(set(people)), args.hold_out, doing=doing)
        if len(held) == people.nunique():
            raise DataError(doing, "everybody is held out", "Hold out fewer")
        dataset = dataset.select(~people.isin(held).to_numpy())
    settings = {
        "checkpoint": args.checkpoint,
        "protocol": args.protocol,
        "seed": args.seed,
        "parameters": parameters_of(args)["omfa"],
        "calibrate": args.calibrate,
    }
    if args.dry_run:
        print(plan_fine_tuning(dataset, **settings))
        return 0
    command = shlex.join(["omfa-zoo", *args.argv])
    folder = fine_tune(
        dataset, args.out, name=args.name, command=command, report=_Epochs(), **settings
    )
    print(f"Checkpoint: {folder}")
    return 0


class _Epochs:
    """Tells each epoch, and before the first of a fit what that fit is for, where there are two."""

    def __init__(self) -> None:
        self.judged = False

    def __call__(self, epoch: dict[str, float]) -> None:
        line = f"epoch {epoch['epoch']:3}  loss {epoch['loss']:.3f}"
        if judged := "validation_loss" in epoch:
            line += f"  validation {epoch['validation_loss']:.3f}, balanced accuracy "
            line += f"{epoch['validation_balanced_accuracy']:.3f}"
        if epoch["epoch"] == 1 and judged:
            LOG.info(
                "A fit without what is set apart (for the temperature, or to choose an epoch):"
            )
        elif epoch["epoch"] == 1 and self.judged:
            LOG.info("The fit on all windows, from the start; this one is kept:")
        self.judged = judged
        LOG.info(line)


def _of_subjects(metadata: pd.DataFrame, asked: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Mark the windows of the subjects that are asked for, shape (n_windows,)."""
    import numpy as np

    datasets, subjects = metadata["dataset"].astype(str), metadata["subject"].astype(str)
    chosen = np.zeros(len(metadata), dtype=bool)
    for name in asked:
        dataset, _, subject = name.rpartition("/")
        here = subjects.isin([subject, f"sub-{subject}"]) & (datasets.eq(dataset) | (not dataset))
        if not here.any():
            known = sorted(set(datasets + "/" + subjects))
            found = f"there is none{nearest(name, known)}"
            raise DataError(f"Looking for the subject {name}", found, f"Use of {', '.join(known)}")
        chosen |= here.to_numpy()
    return chosen
