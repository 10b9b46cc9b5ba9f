"""``omfa-zoo reproduce``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from omfa.zoo.cli.flags import add_parameter_flag, pairs, parameters_of, value_of
from omfa.zoo.data.targets import DEFAULT_TARGETS

REPRODUCE = """\
tables (--table, repeatable):
  within      pre-trained and from scratch, on each corpus
  transfer    to DREAMER, unseen in pre-training, by the union and the intersection of channels
  ablation    on DEAP: graphs, encoders, ART's modes, corpora to pre-train on
  all         (default)

examples:
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper --dry-run
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper --workers 8
  omfa-zoo reproduce --stores deap.zarr dreamer.zarr --table transfer --out paper \\
      --protocol within-subject --protocol cross-subject --seeds 3
  omfa-zoo reproduce --stores seed.zarr --table within --out paper --protocol seed=seed-9-6 \\
      --pretraining preset=base steps=50000 --parameters epochs=30
  omfa-zoo reproduce --stores *-simulated.zarr --quick --out try      whether all of it runs

Which corpus a store holds is read from it; rows that lack theirs are left out, and the report says
so. Every row is run under leaky-window, which is labelled LEAKY everywhere, and under the protocols
that are asked for. DIR gets report.html, subjects.csv (every cell, subject and metric), summary.csv
and run.json. Run the same command again to go on after an interruption; what is finished is read.
"""


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = REPRODUCE
    parser.description = (
        "Run the tables of arXiv 2511.08444 and put them beside what its abstract states."
    )
    add = parser.add_argument
    add("--stores", nargs="+", required=True, metavar="STORE", help="made by omfa-ingest")
    add("--table", action="append", choices=("within", "transfer", "ablation", "all"))
    add("--out", type=Path, default=Path("paper"), metavar="DIR", help="(default: paper)")
    add(
        "--protocol",
        action="append",
        metavar="[DATASET=]NAME",
        help="beside leaky-window, of all corpora or of one; repeatable (default: within-subject)",
    )
    add(
        "--datasets",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fine-tune on and test these only; all stores are pre-trained on (default: all)",
    )
    add("--folds", type=int, metavar="N", help="of each protocol that has folds (default: 5)")
    add("--skip", action="append", default=[], metavar="DATASET/SUBJECT", help="repeatable")
    add("--seeds", type=int, metavar="N", help="models for each fold (default: 1)")
    add("--window-seconds", type=float, metavar="S", help="(default: 4)")
    add(
        "--target",
        action="append",
        default=[],
        metavar="DATASET=TARGET",
        help="repeatable (default: "
        + ", ".join(f"{name}={target}" for name, target in DEFAULT_TARGETS.items())
        + ")",
    )
    add(
        "--pretraining",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings of stage 1: preset=base steps=50000 batch_size=2048 lr=5e-4 ...",
    )
    add_parameter_flag(parser)
    add("--quick", action="store_true", help="few steps, folds and epochs: does all of it run?")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--dry-run", action="store_true", help="show cells, fits and measured time; train nothing")
    parser.set_defaults(run=_reproduce)


def _reproduce(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from omfa.zoo.paper.grid import Grid, How, quick
    from omfa.zoo.paper.report import reproduce
    from omfa.zoo.paper.tables import TABLES
    from omfa.zoo.pretraining.module import with_changes

    how = quick() if args.quick else How()
    own = parameters_of(args.parameters, ["omfa"])["omfa"]
    stage1 = {key: value_of(value) for key, value in pairs(args.pretraining).items()}
    asked = {
        "protocols": tuple(args.protocol) if args.protocol else None,
        "n_folds": args.folds,
        "n_seeds": args.seeds,
        "window_seconds": args.window_seconds,
    }
    how = replace(
        how,
        settings=with_changes(how.settings, stage1),
        parameters={**how.parameters, **own},
        targets=pairs(args.target),
        skip=tuple(args.skip),
        datasets=tuple(args.datasets),
        **{name: value for name, value in asked.items() if value is not None},
    )
    tables = TABLES if "all" in (args.table or ["all"]) else args.table
    grid = Grid(
        args.stores,
        args.out,
        tables,
        how,
        workers=args.workers,
        say=lambda line: print(line, file=sys.stderr),
    )
    if args.dry_run:
        print(grid.plan())
        return 0
    report, cells = reproduce(
        grid,
        command=shlex.join(["omfa-zoo", *args.argv]),
        note="A quick run, which shows that all of it runs: its numbers mean nothing."
        if args.quick
        else "",
    )
    failed = [cell for cell in cells if cell.error]
    for cell in failed:
        print(f"{cell.row.name} on {cell.row.dataset}: {cell.error}", file=sys.stderr)
    for told in grid.missing:
        print(f"Left out: {told}")
    print(f"{len(cells) - len(failed)} of {len(cells)} cells. Report: {report}")
    return 1 if failed else 0
