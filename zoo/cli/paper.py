"""``omfa-zoo reproduce``."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from omfa.pipeline import flags
from omfa.pipeline.progress import LOG
from omfa.zoo.cli.flags import (
    QUICK_NOTE,
    STORES,
    TARGETS_HELP,
    TRUTH,
    add_parameters_flag,
    add_stage1_flags,
    add_stage2_flags,
    describe,
    parameters_of,
    stage1_of,
    truths_of,
)
from omfa.zoo.estimators.settings import OF_WEIGHTS

REPRODUCE = """\
tables (--table, repeatable):
  within      pre-trained, with random weights and from scratch, on each corpus
  transfer    to DREAMER, unseen in pre-training, by the union and the intersection of channels
  ablation    on DEAP, without coherency: graphs, encoders, corpora to pre-train on
  coherency   on DEAP: the same graphs with coherency, and coherency alone
  resampling  ART's modes, on each corpus; for stores at the sources' own rates
  sources     on each corpus, pre-trained on each of the others, and on itself
  all         these six (default: all but sources)

examples:
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper --dry-run
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper --workers 8
  omfa-zoo reproduce --stores deap.zarr dreamer.zarr --table transfer --out paper \\
      --protocol within-subject --protocol cross-subject --seeds 3
  omfa-zoo reproduce --stores seed.zarr --table within --out paper --protocol seed=seed-9-6 \\
      --preset base --steps 50000 --epochs 30
  omfa-zoo reproduce --stores *-simulated.zarr --quick --out try      whether all of it runs

Which corpus a store holds is read from it; rows that lack theirs are left out, and the report says
so. Every row is run under leaky-window, which is labelled LEAKY everywhere, and under the protocols
that are asked for. DIR gets report.html, subjects.csv (every cell, subject and metric), summary.csv
and run.json. Run the same command again to go on after an interruption; what is finished is read.
"""


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo reproduce``.

    Imported here: pandas, which the protocols need, takes a third of a second.
    """
    from omfa.zoo.paper.settings import OF_THE_PAPER, TABLES, GridSettings

    describe(
        parser,
        _reproduce,
        "Run the tables of arXiv 2511.08444 and put them beside what its abstract states.",
        REPRODUCE,
        usage="--stores STORE [STORE ...] [options]",
    )
    add = parser.add_argument
    add("--stores", nargs="+", required=True, **STORES)
    add(
        "--table",
        action="append",
        choices=(*TABLES, "all"),
        help=f"repeatable (default: {', '.join(OF_THE_PAPER)})",
    )
    add("--out", type=Path, default=Path("paper"), metavar="DIR", help="(default: paper)")
    add("--truth", nargs="+", default=[], **TRUTH)
    add("--quick", action="store_true", help="few steps, folds and epochs: does all of it run?")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--dry-run", action="store_true", help="show cells and fits; train nothing")
    add("--timed", action="store_true", help="with --dry-run: measure a few steps of each, minutes")
    flags.add_flags(
        parser.add_argument_group("what all rows share", TARGETS_HELP),
        GridSettings,
        leave_out=("settings", "parameters"),
        names={
            "protocols": "protocol",
            "n_folds": "folds",
            "n_seeds": "seeds",
            "targets": "target",
        },
        repeatable=("protocols", "skip", "targets"),
        metavars={
            "window_seconds": "S",
            "protocols": "[DATASET=]NAME",
            "skip": "DATASET/SUBJECT",
            "targets": "DATASET=TARGET",
            "datasets": "NAME",
        },
    )
    stage1 = parser.add_argument_group("stage 1: pre-training")
    # A row's checkpoint decides these; stage 1's are what its checkpoint is made with.
    add_stage2_flags(parser, leave_out=OF_WEIGHTS, stage="stage 2: ")
    # Last, so that the flags of stage 2 are taken and those of stage 1 get their prefix. A row
    # decides on the encoder and its resampling.
    add_stage1_flags(stage1, names={"seed": "pretrain-seed"}, leave_out=("encoder", "resampling"))
    add("--pretraining", nargs="+", action="extend", default=[], help=argparse.SUPPRESS)
    add_parameters_flag(parser)


def _reproduce(args: argparse.Namespace) -> int:
    from omfa.zoo.paper.grid import Grid
    from omfa.zoo.paper.settings import OF_THE_PAPER, TABLES, GridSettings, quick

    how = flags.settings(args, GridSettings, quick() if args.quick else None)
    how = replace(
        how,
        settings=stage1_of(args, how.settings, args.pretraining),
        parameters={**how.parameters, **parameters_of(args)["omfa"]},
    )
    chosen = args.table or OF_THE_PAPER
    tables = TABLES if "all" in chosen else chosen
    grid = Grid(
        args.stores,
        args.out,
        tables,
        how,
        workers=args.workers,
        say=LOG.info,
    )
    truths = truths_of(args)  # before hours of work: one may be missing
    if args.dry_run:
        print(grid.plan(timed=args.timed))
        return 0
    from omfa.zoo.paper.report import reproduce  # its figures take seconds to import

    report, cells = reproduce(
        grid,
        command=shlex.join(["omfa-zoo", *args.argv]),
        note=QUICK_NOTE if args.quick else "",
        truths=truths,
    )
    failed = [cell for cell in cells if cell.error]
    for cell in failed:
        LOG.error(f"{cell.row.name} on {cell.row.dataset}: {cell.error}")
    for reason in grid.missing:
        print(f"Left out: {reason}")
    print(f"{len(cells) - len(failed)} of {len(cells)} cells. Report: {report}")
    return 1 if failed else 0
