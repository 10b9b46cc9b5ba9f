"""``omfa-zoo``: the command line of the zoo.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from omfa.zoo.datasets import StoreDataset
    from omfa.zoo.protocols import Protocol

EPILOG = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr dreamer.zarr --preset small --out runs/three
  omfa-zoo evaluate deap.zarr --target 'valence>5' --checkpoint runs/three/checkpoint
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model braindecode:EEGNet
  omfa-zoo reproduce --stores seed.zarr deap.zarr dreamer.zarr --out paper

Every command takes --dry-run or ends within seconds. Run the same command again to go on after an
interruption. Exit code: 0 if all is well, 1 if something failed, 2 for wrong use or bad input.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``omfa-zoo`` and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv or ["--help"])
    args.argv = argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is ours
    try:
        return int(args.run(args))
    except BrokenPipeError:  # the reader of a pipe, such as head, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
    except ValueError as error:
        if type(error).__name__ != "DataError":
            raise
        print(f"omfa-zoo: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="omfa-zoo",
        description="Pre-train, fine-tune and evaluate models against UCS stores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"omfa {version('omfa')}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    _pretrain_parser(verbs.add_parser("pretrain", help="stage 1: one encoder from many stores"))
    _finetune_parser(verbs.add_parser("finetune", help="stage 2: a classifier, to keep"))
    _evaluate_parser(verbs.add_parser("evaluate", help="train and test models on folds"))
    _list_parser(verbs.add_parser("list", help="checkpoints that load by name"))
    _show_parser(verbs.add_parser("show", help="a checkpoint's card"))
    _download_parser(verbs.add_parser("download", help="get a checkpoint into the cache"))
    _verify_parser(verbs.add_parser("verify", help="check checkpoints in full"))
    _publish_parser(verbs.add_parser("publish", help="make a folder for others to download"))
    _demo_parser(verbs.add_parser("demo", help="all of it on the stores of `omfa-ingest demo`"))
    _report_parser(verbs.add_parser("report", help="results as one HTML file"))
    _reproduce_parser(verbs.add_parser("reproduce", help="the paper's tables, run again"))
    return parser


# ------------------------------------------------------------------------------------ pretrain


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


def _pretrain_parser(parser: argparse.ArgumentParser) -> None:
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
    from omfa.zoo.pretrain import Settings, plan, pretrain_encoder, with_changes

    names = (
        *("preset", "encoder", "resampling", "tokens_per_second", "window_seconds", "steps"),
        *("batch_size", "channels_per_window", "negatives_from", "lr", "seed"),
    )
    changes = {name: getattr(args, name) for name in names}
    changes["lag_seconds"] = tuple(args.lag_seconds)
    chances = {name: _number(chance) for name, chance in _pairs(args.augmentation).items()}
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
        probe_targets=_pairs(args.probe_target),
        progress=True,
        command=shlex.join(["omfa-zoo", *args.argv]),
    )
    print(f"Checkpoint: {folder}")
    return 0


# ------------------------------------------------------------------------------------ finetune


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


def _finetune_parser(parser: argparse.ArgumentParser) -> None:
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
    _parameter_flag(parser)
    add("--dry-run", action="store_true", help="show the plan and time a few steps; train nothing")
    _data_flags(parser)
    parser.set_defaults(run=_finetune)


def _finetune(args: argparse.Namespace) -> int:
    from omfa.zoo.finetune import fine_tune, plan_fine_tuning

    dataset = _open(args)
    if args.subject:
        dataset = dataset.select(_of_subjects(dataset.metadata, args.subject))
    settings = {
        "checkpoint": args.checkpoint,
        "protocol": args.protocol,
        "seed": args.seed,
        "parameters": _parameters(args.parameters, ["omfa"])["omfa"],
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

    from omfa.pipeline.recording import DataError

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


# ------------------------------------------------------------------------------------ evaluate


EVALUATE = """\
models (--model, repeatable; the others are tested against the first):
  omfa                              from --checkpoint, or from scratch without one
  omfa:scratch                      from scratch in any case, to compare with
  braindecode:EEGNet                any of braindecode's classification models
  relative-band-power+logistic, tangent-space+logistic, differential-entropy+ridge,
  differential-entropy+svm, majority
  module:function                   one of your own, see docs/evaluation.md

protocols (--protocol, repeatable):
  within-subject (default), cross-session, cross-subject, cross-subject-stimulus, cross-dataset,
  seed-9-6, leave-one-subject-out, and leaky-window, whose results are labelled LEAKY

examples:
  omfa-zoo evaluate deap.zarr --dry-run
  omfa-zoo evaluate deap.zarr --model omfa --model omfa:scratch --model braindecode:EEGNet \\
      --checkpoint runs/three/checkpoint --protocol cross-subject --seeds 3 --workers 8
  omfa-zoo evaluate seed.zarr --model omfa --protocol seed-9-6 --parameters freeze=encoder epochs=20
  omfa-zoo evaluate dreamer.zarr --target 'valence<2.5|>3.5' --scheduler tcp://head:8786
  omfa-zoo evaluate --rerun results/cross-subject_omfa_0123456789.zip

All is checked before anything is trained. Finished folds are kept: run the same command again to go
on after an interruption. Results are one file each, from which they are run again.
"""


def _evaluate_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EVALUATE
    parser.description = "Train and test models on the same folds, with intervals and paired tests."
    parser.add_argument("stores", nargs="*", metavar="STORE", help="made by omfa-ingest")
    add = parser.add_argument
    add("--model", action="append", metavar="NAME", help="see below; repeatable (default: omfa)")
    add("--checkpoint", metavar="NAME", help="name or folder that the model omfa starts from")
    add(
        "--transductive",
        action="store_true",
        help="allow a checkpoint that saw signals of tested subjects; the results say so",
    )
    add("--protocol", action="append", metavar="NAME", help="repeatable (default: within-subject)")
    add("--folds", metavar="N", help="of each protocol; 'one' leaves one out (default: 5)")
    add(
        "--skip",
        action="append",
        default=[],
        metavar="DATASET/SUBJECT",
        help="leave out, also DATASET/SUBJECT/SESSION; repeatable; the results say so",
    )
    add(
        "--test",
        action="append",
        default=[],
        metavar="DATASET/SUBJECT",
        help="cross-subject: test on these alone, * and ? as in file names; the others learn in "
        "every fold; repeatable",
    )
    add(
        "--train-subjects",
        type=int,
        metavar="N",
        help="cross-subject: only N of those who are not tested learn, drawn anew for every fold; "
        "shows what is reached with few labels",
    )
    add(
        "--centred",
        choices=("subject", "session"),
        help="give models features less their mean over the windows of the subject or session; "
        "needs all of a tested person's windows, without labels; the results say so",
    )
    add("--seeds", type=int, default=1, metavar="N", help="of the models: 0 to N-1 (default: 1)")
    _parameter_flag(
        parser,
        "; head=logistic is a linear probe of the encoder, in seconds; braindecode's models take "
        "theirs, such as lr; MODEL.KEY=VALUE is for one model only",
    )
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--scheduler", metavar="ADDRESS", help="a running Dask cluster, such as tcp://head:8786")
    add("--dry-run", action="store_true", help="show folds, fits and measured time; train nothing")
    add("--rerun", type=Path, metavar="RESULT", help="repeat a result's run from its file")
    _data_flags(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from omfa.zoo.evaluation import compare_table, duration, evaluate, plan, rerun

    how = {
        "n_jobs": args.workers,
        "scheduler": args.scheduler,
        "progress": True,
    }
    if args.rerun is not None:
        result = rerun(args.rerun, out=args.out, **how)
        print(_printed(compare_table([result])))
        print(f"Result: {result.path}")
        return 0
    models = args.model or ["omfa"]
    parameters = _parameters(args.parameters, models)
    if args.checkpoint and "omfa" not in models:
        raise _wrong(f"--checkpoint {args.checkpoint}", "Add --model omfa, which starts from it")
    if args.checkpoint:
        parameters["omfa"]["checkpoint"] = args.checkpoint
    names = args.protocol or ["within-subject"]
    protocols = [_protocol(name, args) for name in names]
    dataset = _open(args)
    runs = {
        (protocol, model, seed): {
            "seed": seed,
            "parameters": parameters[model],
            "transductive": args.transductive and model == "omfa",
            "out": args.out,
        }
        for protocol in protocols
        for model in models
        for seed in range(args.seeds)
    }
    plans = [
        # A seed more takes as long as the first.
        plan(model, dataset, protocol, n_jobs=args.workers, timed=args.dry_run and not seed, **run)
        for (protocol, model, seed), run in runs.items()
    ]
    if args.dry_run:
        seconds = a_fit = 0.0
        for number, one in enumerate(plans):
            if number % (len(models) * args.seeds) == 0:  # models and seeds meet the same folds
                print(_first_folds(one.folds))
            if one.config["seed"] == 0:
                a_fit = one.seconds / max(1, one.n_fits)
                print(f"  {one}")
            seconds += one.n_fits * a_fit
        print(f"{sum(one.n_fits for one in plans)} fits in all, about {duration(seconds)}")
        return 0
    for protocol in protocols:
        results = []
        for model in models:
            seeds = []
            for seed in range(args.seeds):
                print(f"{model} under {protocol}, seed {seed}", file=sys.stderr)
                run = runs[protocol, model, seed]
                seeds.append(evaluate(model, dataset, protocol, **run, **how))
            results.append(seeds)
        print(_printed(compare_table(results, results[0])))
        for result in (result for seeds in results for result in seeds):
            print(f"Result: {result.path}")
    return 0


def _first_folds(table: pd.DataFrame, most: int = 3) -> str:
    names = table["fold"].unique()
    text = table[table["fold"].isin(names[:most])].to_string(index=False)
    return text + (f"\n... and {len(names) - most} folds more" if len(names) > most else "")


def _printed(table: pd.DataFrame) -> str:
    """Write a table of results for the terminal."""
    first = table.iloc[0]
    shown = table[["model", "balanced_accuracy", "majority", "accuracy", "macro_f1", "kappa"]]
    shown = shown.rename(columns={"balanced_accuracy": "balanced"})
    interval = [f"{low:.3f}-{high:.3f}" for low, high in table[["low", "high"]].to_numpy()]
    shown.insert(2, "95 %", interval)
    shown.insert(1, "pre-training", table["pretraining"])
    if "difference" in table and len(table) > 1:
        shown = shown.assign(difference=table["difference"], p=table["p"])
    text = shown.to_string(index=False, float_format="{:.3f}".format, na_rep="")
    seeds = f", {first['n_seeds']} seeds averaged" if first["n_seeds"] > 1 else ""
    return (
        f"\n{first['protocol']}; {first['data']}, {first['n_subjects']} subjects{seeds}; "
        f"classes by {first['rule']}\n{text}\n"
        "Means over subjects, with a bootstrap interval of the balanced accuracy; differences are "
        "from the first row,\np is of Wilcoxon's signed-rank test, paired over subjects."
    )


def _protocol(name: str, args: argparse.Namespace) -> Protocol:
    from dataclasses import replace

    from omfa.zoo.protocols import as_protocol

    settings = {
        "skip": tuple(args.skip),
        "tested": tuple(args.test),
        "train_subjects": args.train_subjects,
        "centred": args.centred,
    }
    protocol, folds = replace(as_protocol(name), **settings), args.folds
    if folds is None:
        return protocol
    if folds != "one" and not folds.isdigit():
        raise _wrong(f"--folds {folds}", "Give a number, or 'one' to leave one out at a time")
    return replace(protocol, n_folds=None if folds == "one" else int(folds))


# ------------------------------------------------------------------------------------ demo


def _demo_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Pre-train on the simulated stores that `omfa-ingest demo` made, fine-tune on the smallest "
        "under within-subject and leaky-window, and write the report."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"), metavar="FOLDER")
    add = parser.add_argument
    add("--workers", type=int, default=-1, metavar="N", help="processes (default: one per core)")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    stores = [args.folder / f"{name}-simulated.zarr" for name in ("seed", "deap", "dreamer")]
    if gone := [store for store in stores if not store.exists()]:
        raise _wrong(f"there is no {gone[0]}", f"Run omfa-ingest demo {args.folder}")
    # The command in the report, so that whoever reads it can change it.
    command = ["reproduce", "--table", "within", "--stores", *map(str, stores)]
    command += ["--datasets", "dreamer", "--out", str(args.folder / "tables")]
    command += ["--workers", str(args.workers), *DEMO]
    print(shlex.join(["omfa-zoo", *command]), file=sys.stderr)
    return main(command)


DEMO = shlex.split(
    "--folds 3 --pretraining preset=tiny steps=200 batch_size=128 channels_per_window=8 "
    "--parameters epochs=30 patience=8 lr=3e-3 freeze=encoder"
)


# ------------------------------------------------------------------------------------ report


REPORT = """\
examples:
  omfa-zoo report results                            results.html beside the folder
  omfa-zoo report results runs/three --out all.html  with the learning curve of a pre-training
"""


def _report_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = REPORT
    parser.description = (
        "Write results as one HTML file that holds its pictures: scores of every subject,\n"
        "intervals, paired tests, confusion matrices, learning curves."
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="results or folders of them (evaluate --out), and folders of pre-trainings",
    )
    add = parser.add_argument
    add("--out", type=Path, metavar="FILE", help="(default: PATH.html beside the first)")
    add(
        "--metric",
        default="balanced_accuracy",
        choices=("balanced_accuracy", "accuracy", "macro_f1"),
        help="what is drawn and compared (default: balanced_accuracy)",
    )
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from omfa.zoo.report import curves, read_entries, write_report

    runs = [path for path in args.paths if (path / "logs").is_dir()]
    results = [path for path in args.paths if path not in runs]
    closing = {}
    if runs:
        from omfa.zoo.pretrain import learning_curve

        content = curves({path.name: learning_curve(path) for path in runs})
        closing["pretraining"] = ("Pre-training", content)
    out = args.out or args.paths[0].with_name(f"{args.paths[0].resolve().stem}.html")
    write_report(read_entries(results) if results else [], out, metric=args.metric, closing=closing)
    print(f"Report: {out}")
    return 0


# ----------------------------------------------------------------------------------- reproduce


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


def _reproduce_parser(parser: argparse.ArgumentParser) -> None:
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
        + ", ".join(f"{name}={target}" for name, target in TARGETS.items())
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
    _parameter_flag(parser)
    add("--quick", action="store_true", help="few steps, folds and epochs: does all of it run?")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--dry-run", action="store_true", help="show cells, fits and measured time; train nothing")
    parser.set_defaults(run=_reproduce)


def _reproduce(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from omfa.zoo.pretrain import with_changes
    from omfa.zoo.reproduce import TABLES, Grid, How, quick, reproduce

    how = quick() if args.quick else How()
    own = _parameters(args.parameters, ["omfa"])["omfa"]
    stage1 = {key: _value(value) for key, value in _pairs(args.pretraining).items()}
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
        targets=_pairs(args.target),
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


# ------------------------------------------------- list, show, download, verify, publish


PLACES = """\
Checkpoints come with the package, or are downloaded into the cache when they are first loaded.
  OMFA_HOME         folder of the cache (default: omfa in the platform's folder for caches); a
                    checkpoints.toml in it adds checkpoints of your own
  OMFA_ZOO_MIRROR   a web server or folder that is asked first, for NAME/model.safetensors
"""

LIST = f"""\
examples:
  omfa-zoo list
  omfa-zoo list --markdown docs/checkpoints.md    write the table into the documentation

{PLACES}"""


def _list_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = LIST
    parser.description = "List the checkpoints that omfa.zoo.load, evaluate and finetune know."
    parser.add_argument(
        "--markdown",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print tables, or write them between the marks of a file",
    )
    parser.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    from omfa.zoo.downloads import PACKAGE, REGISTRY, entries, local_files, read_registry

    if args.markdown is not None:
        from omfa.zoo.publish import table, write_table

        own = read_registry(PACKAGE / REGISTRY)
        if args.markdown == "-":
            print(table(own), end="")
        else:
            write_table(args.markdown, own)
        return 0
    known = entries()
    if not known:
        print("There are none yet. Make one: omfa-zoo pretrain --help")
        return 0
    width = max(map(len, known))
    for name, entry in known.items():
        card = entry.card
        where = "here" if local_files(entry) is not None else "to download"
        print(
            f"{name:{width}}  {card.preset}, {card.stage}, {entry.size / 1e6:.1f} MB, {where}; "
            f"saw {card.datasets}"
        )
    return 0


SHOW = """\
examples:
  omfa-zoo show omfa-small-openeeg
  omfa-zoo show runs/three            of a run, or of a checkpoint's folder
  omfa-zoo show runs/three --json     the card as it is stored
"""


def _show_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = SHOW
    parser.description = (
        "Tell what a checkpoint is, what it saw, what its input must be, and what it reached.\n"
        "Nothing is downloaded."
    )
    parser.add_argument("checkpoint", metavar="NAME", help="name or folder")
    parser.add_argument("--json", action="store_true", help="the card as it is stored")
    parser.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    from omfa.zoo.publish import describe, entry_of

    entry = entry_of(args.checkpoint)
    print(entry.card.to_json() if args.json else describe(entry), end="")
    return 0


DOWNLOAD = f"""\
examples:
  omfa-zoo download omfa-small-openeeg
  OMFA_HOME=/scratch/omfa omfa-zoo download omfa-small-openeeg    for machines without a network
  OMFA_ZOO_MIRROR=https://files.example.org/omfa omfa-zoo download omfa-small-openeeg

Size and SHA-256 of every file are checked; nothing else ever gets its name in the cache. A download
that broke off goes on where it ended.

{PLACES}"""


def _download_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = DOWNLOAD
    parser.description = "Get checkpoints onto this machine, and print their folders."
    parser.add_argument("names", nargs="+", metavar="NAME", help="see: omfa-zoo list")
    parser.set_defaults(run=_download)


def _download(args: argparse.Namespace) -> int:
    from omfa.zoo.downloads import download

    for name in args.names:
        print(download(name, progress=sys.stderr.isatty()))
    return 0


VERIFY = """\
examples:
  omfa-zoo verify                        all checkpoints that are on this machine
  omfa-zoo verify omfa-small-openeeg
  omfa-zoo verify runs/three             a folder; of a published one its own digests too

Digests are those of the installed omfa, and the network is not needed. Nothing that lies in a
checkpoint is run: pickles and configurations that name foreign code are refused.
"""


def _verify_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = VERIFY
    parser.description = (
        "Check digests, card, configuration, and the names, shapes and numbers of all weights."
    )
    parser.add_argument(
        "checkpoints", nargs="*", metavar="NAME|FOLDER", help="(default: all that are here)"
    )
    parser.set_defaults(run=_verify)


def _verify(args: argparse.Namespace) -> int:
    from omfa.pipeline.recording import DataError
    from omfa.zoo.checkpoints import verify
    from omfa.zoo.downloads import entries

    here = [name for name, entry in entries().items() if any(f.is_dir() for f in entry.folders)]
    failed = 0
    for checkpoint in args.checkpoints or here:
        try:
            print(f"OK      {verify(checkpoint)}")
        except DataError as error:
            print(f"FAILED  {error}")
            failed += 1
    if not (args.checkpoints or here):
        print("No checkpoint that has a name is on this machine.")
    return 1 if failed else 0


PUBLISH = """\
examples:
  omfa-zoo publish runs/three out/omfa-three --name omfa-three \\
      --source https://files.example.org/omfa/omfa-three
  hf upload OWNER/omfa-three out/omfa-three      then --source hf://OWNER/omfa-three@COMMIT
  omfa-zoo publish runs/three /shared/omfa/omfa-three --registry ~/.cache/omfa/checkpoints.toml
                                                             for those who share this disk
  omfa-zoo publish runs/three zoo/weights/omfa-three         into the package, in omfa's repository

OUT gets the checkpoint's three files, a README.md with Hugging Face's metadata, and
checkpoints.toml: the entry, with digests, that others put into theirs (in OMFA_HOME), after which
omfa.zoo.load("omfa-three") works for them. Publishing the same again writes the same bytes.
"""


def _publish_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = PUBLISH
    parser.description = (
        "Make a folder that any web server or a Hugging Face repository can serve, and print the\n"
        "entry of a checkpoints.toml that finds it."
    )
    parser.add_argument("checkpoint", metavar="DIR", help="a run's or checkpoint's folder, or name")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    add = parser.add_argument
    add("--name", help="another name for it")
    add(
        "--source",
        action="append",
        default=[],
        metavar="URL",
        help="where OUT will be found: https://..., hf://OWNER/REPO@REVISION; repeatable, in order",
    )
    add("--registry", type=Path, metavar="FILE", help="a checkpoints.toml to enter it in")
    add("--licence", metavar="SPDX", help="(default: the card's)")
    add("--use", metavar="TEXT", help="what it is meant for")
    add("--limits", metavar="TEXT", help="what it must not be trusted with")
    add(
        "--attribution",
        action="append",
        default=[],
        metavar="DATASET=TEXT",
        help="how data that it saw ask to be named; repeatable",
    )
    add(
        "--result",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a result of omfa-zoo evaluate, for the card; repeatable, in order",
    )
    parser.set_defaults(run=_publish)


def _publish(args: argparse.Namespace) -> int:
    from omfa.zoo.publish import publish

    results = None
    if args.result:
        from omfa.zoo.evaluation import Result

        results = [Result.load(path) for path in args.result]
    entry = publish(
        args.checkpoint,
        args.out,
        name=args.name,
        sources=args.source,
        registry=args.registry,
        licence=args.licence,
        use=args.use,
        limits=args.limits,
        attributions=_pairs(args.attribution),
        results=results,
    )
    print(entry, end="")
    print(f"Published: {args.out}", file=sys.stderr)
    return 0


# -------------------------------------------------------------------------------- what they share


TARGETS = {"seed": "emotion", "deap": "valence>5", "dreamer": "valence>3"}
"""By dataset, where --target is not given. Ties at the middle of the scale are low; our choice."""


def _data_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("windows and labels")
    add = data.add_argument
    add(
        "--target",
        metavar="TARGET",
        help="a label's column, or a rule on a rating: 'valence>5', 'valence>=5', "
        "'valence<4.5|>5.5'; or DATASET=TARGET,... (default: "
        + ", ".join(f"{name} {target!r}" for name, target in TARGETS.items())
        + ")",
    )
    add("--window-seconds", type=float, default=4.0, metavar="S", help="(default: 4)")
    add("--stride-seconds", type=float, metavar="S", help="(default: windows do not overlap)")
    add("--channels", default="union", help="union or intersection (default: union)")
    add("--mask-bad", action="store_true", help="leave out channels that quality control marked")
    add("--cache", default="auto", help="auto, memory, memmap or stream (default: auto)")


def _parameter_flag(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--parameters",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help=f"of omfa: lr=1e-3 epochs=20 freeze=encoder head=gcn ..., or JSON{more}",
    )


def _open(args: argparse.Namespace) -> StoreDataset:
    """Open the stores with their targets, and say which were taken by default."""
    from omfa.pipeline.store import open_store
    from omfa.zoo.datasets import open_dataset

    if not args.stores:
        raise _wrong("no store", "Name at least one that omfa-ingest made")
    target: str | dict[str, str] | None = args.target
    names = sorted({open_store(store).name for store in args.stores})
    if target is None:
        if unknown := [name for name in names if name not in TARGETS]:
            raise _wrong(
                f"no --target, and there is no usual one for {', '.join(unknown)}",
                "Name a column of labels or a rule on a rating",
            )
        target = {name: TARGETS[name] for name in names}
        told = ", ".join(f"{name} {target[name]}" for name in names)
        print(f"Target, as none was given: {told}", file=sys.stderr)
    elif all(part.partition("=")[0] in names for part in args.target.split(",")):
        target = _pairs(args.target.split(","))
    return open_dataset(
        args.stores,
        args.window_seconds,
        args.stride_seconds,
        channels=args.channels,
        target=target,
        cache=args.cache,
        mask_bad=args.mask_bad,
    )


def _parameters(given: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, object]]:
    """Read KEY=VALUE, MODEL.KEY=VALUE and JSON; baselines have no parameters."""
    found: dict[str, dict[str, object]] = {model: {} for model in models}
    pairs: list[tuple[str, object]] = []
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                pairs += json.loads(text).items()
            except ValueError as error:
                raise _wrong(f"--parameters {text!r} ({error})", "Write JSON") from error
        else:
            pairs += [(key, _value(value)) for key, value in _pairs([text]).items()]
    for key, value in pairs:
        model, _, name = key.rpartition(".")
        of = [model] if model else [m for m in models if m.startswith(("omfa", "braindecode:"))]
        if not of or not set(of) <= set(found):
            raise _wrong(f"the parameter {key}", f"Models that take one: {', '.join(models)}")
        for one in of:
            found[one][name] = value
    return found


def _value(text: str) -> object:
    """Read a value as JSON where it is some, else as text."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text


def _wrong(found: str, action: str) -> ValueError:
    from omfa.pipeline.recording import DataError

    return DataError("Reading the command line", found, action)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        from omfa.pipeline.recording import DataError

        raise DataError("Reading the command line", f"{text!r}", "Give a number") from error


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    found = dict(text.partition("=")[::2] for text in given)
    if wrong := [name for name, value in found.items() if not value]:
        from omfa.pipeline.recording import DataError

        raise DataError("Reading the command line", f"{wrong[0]!r}", "Write it as NAME=VALUE")
    return found


if __name__ == "__main__":
    sys.exit(main())
