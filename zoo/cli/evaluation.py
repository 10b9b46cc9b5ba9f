"""``omfa-zoo evaluate`` and ``report``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omfa.pipeline import flags
from omfa.pipeline.progress import LOG
from omfa.pipeline.words import duration
from omfa.zoo.cli.flags import (
    STORES,
    TRUTH,
    add_parameters_flag,
    add_stage2_flags,
    add_window_flags,
    describe,
    open_stores,
    parameters_of,
    parameters_of_one,
    truths_of,
    wrong,
)
from omfa.zoo.estimators.settings import LOGISTIC, RANDOM, SCRATCH

if TYPE_CHECKING:
    import pandas as pd

    from omfa.zoo.evaluation.results import Result
    from omfa.zoo.evaluation.run import Plan
    from omfa.zoo.protocols.protocol import Protocol


EVALUATE = """\
models (--model, repeatable; the others are tested against the first):
  omfa                              from --checkpoint, or from scratch without one
  omfa:random                       its control: random weights in the encoder, the same recipe,
                                    frozen where it is frozen; beside --checkpoint it is added
  omfa:scratch                      its other control: fitted wholly, from random weights
  braindecode:EEGNet                any of braindecode's classification models
  relative-band-power+logistic, log-spectrum+logistic, tangent-space+logistic,
  differential-entropy+ridge, differential-entropy+svm
                                    features of a window and a linear model
  NAME+non-causal-lds               one of these, or omfa with --head logistic, whose features are
  NAME+non-causal-average           smoothed over the windows of a trial; --smooth does it to all
  clusters-without-labels           groups of a person's windows: what needs no label to be found
  majority                          the commonest class
  module:function                   one of your own, see docs/baselines.md

protocols (--protocol, repeatable):
  within-subject (default), cross-session, cross-subject, cross-subject-stimulus, cross-dataset,
  leave-one-subject-out, and leaky-window, whose results are labelled LEAKY; of one corpus each,
  seed-9-6, seed-iv-16-8, seed-v-thirds, seed-vii-quarters, deap-10-fold, faced-10-fold

examples:
  omfa-zoo evaluate deap.zarr --dry-run
  omfa-zoo evaluate dreamer.zarr --model omfa --model omfa:scratch --model braindecode:EEGNet \\
      --checkpoint runs/two/checkpoint --protocol cross-subject --seeds 3 --workers 8
  omfa-zoo evaluate seed.zarr --model omfa --protocol seed-9-6 --freeze encoder --epochs 20
  omfa-zoo evaluate dreamer.zarr --target 'valence<2.5|>3.5' --scheduler tcp://head:8786
  omfa-zoo evaluate deap.zarr --rerun results/cross-subject_omfa_0123456789.zip

All is checked before anything is trained. Finished folds are kept: run the same command again to go
on after an interruption. Results are one file each, from which they are run again.
"""


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo evaluate``."""
    describe(
        parser,
        _evaluate,
        "Train and test models on the same folds, with intervals and paired tests.",
        EVALUATE,
        usage="STORE [STORE ...] [options]",
    )
    parser.add_argument("stores", nargs="*", **STORES)
    add = parser.add_argument
    add("--model", action="append", metavar="NAME", help="see below; repeatable (default: omfa)")
    add("--checkpoint", metavar="NAME", help="name or folder that the model omfa starts from")
    add(
        "--no-control",
        action="store_true",
        help="do not add omfa:random, without which a table does not show what pre-training is "
        "worth",
    )
    add(
        "--transductive",
        action="store_true",
        help="allow a checkpoint that saw signals of tested subjects; the results say so",
    )
    add("--seeds", type=int, default=1, metavar="N", help="of the models: 0 to N-1 (default: 1)")
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--scheduler", metavar="ADDRESS", help="a running Dask cluster, such as tcp://head:8786")
    add("--dry-run", action="store_true", help="show folds, fits and measured time; train nothing")
    add(
        "--rerun",
        type=Path,
        metavar="RESULT",
        help="repeat a result's run from its file, on STORE or else on the stores that it names",
    )
    add(
        "--allow-code",
        action="store_true",
        help="with --rerun: also if RESULT names a function of anybody's, which is then imported "
        "and called; only for files whose author you trust",
    )
    _add_protocol_flags(parser.add_argument_group("protocols"))
    add_stage2_flags(parser)
    add_parameters_flag(
        parser,
        "what has no flag, or is for one model only: MODEL.KEY=VALUE, such as "
        "braindecode:CBraMod.sfreq=200, or JSON; KEY=VALUE is for all networks. It overrides flags",
    )
    add_window_flags(parser)


def _add_protocol_flags(group: flags.Adder) -> None:
    """Add the settings of a protocol.

    Imported here: pandas, which the protocols need, takes a third of a second.
    """
    from omfa.zoo.protocols.protocol import Protocol

    group.add_argument(
        "--protocol", action="append", metavar="NAME", help="repeatable (default: within-subject)"
    )
    group.add_argument(
        "--folds",
        metavar="N",
        help="of windows, trials or subjects; 'one' leaves one out at a time "
        f"(default: {Protocol.n_folds})",
    )
    flags.add_flags(
        group,
        Protocol,
        leave_out=("name", "n_folds"),
        names={"tested": "test", "n_stimulus_folds": "stimulus-folds", "seed": "split-seed"},
        repeatable=("skip", "tested"),
        metavars={
            "skip": "DATASET/SUBJECT[/SESSION]",
            "tested": "DATASET/SUBJECT",
            "target_dataset": "DATASET",
        },
    )


def _protocols(args: argparse.Namespace) -> list[Protocol]:
    from omfa.zoo.protocols.protocol import Protocol, as_protocol

    changes, folds = flags.given(args, Protocol), args.folds
    if folds is not None:
        if folds != "one" and not folds.isdigit():
            raise wrong(f"--folds {folds}", "Give a number, or 'one' to leave one out at a time")
        changes["n_folds"] = None if folds == "one" else int(folds)
    return [replace(as_protocol(name), **changes) for name in args.protocol or ["within-subject"]]


def _evaluate(args: argparse.Namespace) -> int:
    from omfa.zoo.estimators.names import causal_name
    from omfa.zoo.evaluation.results import compare_table
    from omfa.zoo.evaluation.run import evaluate, plan

    how = {"n_jobs": args.workers, "scheduler": args.scheduler, "progress": True}
    if args.rerun is not None:
        return _rerun(args, how)
    models = list(args.model or ["omfa"])
    starting = [model for model in models if causal_name(model) == "omfa"]
    if args.checkpoint and not starting:
        raise wrong(f"--checkpoint {args.checkpoint}", "Add --model omfa, which starts from it")
    for model in starting if args.checkpoint and not args.no_control else ():
        if (control := RANDOM + model.removeprefix("omfa")) in models:
            continue
        models.insert(models.index(model) + 1, control)
        LOG.info(
            f"Added: {control}, random weights under the same recipe (--no-control leaves it out)"
        )
    parameters = parameters_of(args, models)
    if args.checkpoint:
        _match_controls(args, starting, parameters)
    for model in starting:
        own = parameters[model]
        frozen = own.get("freeze") == "encoder" or own.get("head") == LOGISTIC
        if frozen and not (args.checkpoint or own.get("checkpoint")):
            LOG.warning(
                f"warning: {model} starts from no checkpoint, so that the encoder which is frozen "
                f"has random weights: name a checkpoint, or the model {RANDOM}"
            )
    protocols = _protocols(args)
    dataset = open_stores(args)
    runs = {
        (protocol, model, seed): {
            "seed": seed,
            "parameters": parameters[model],
            "transductive": args.transductive and model in starting,
            "out": args.out,
        }
        for protocol in protocols
        for model in models
        for seed in range(args.seeds)
    }
    # All of them before the first is run: what cannot be done ends the command at once.
    plans = [
        # One seed is timed, since each takes as long as the first.
        plan(model, dataset, protocol, n_jobs=args.workers, timed=args.dry_run and not seed, **run)
        for (protocol, model, seed), run in runs.items()
    ]
    if args.dry_run:
        _show_plans(plans, per_protocol=len(models) * args.seeds)
        return 0
    every = []
    for protocol in protocols:
        results = []
        for model in models:
            seeds = []
            for seed in range(args.seeds):
                LOG.info(f"{model} under {protocol}, seed {seed}")
                run = runs[protocol, model, seed]
                seeds.append(evaluate(model, dataset, protocol, **run, **how))
            results.append(seeds)
        print(_printed(compare_table(results, results[0])))
        print(_calibrations([seeds[0] for seeds in results]), end="")
        for result in (result for seeds in results for result in seeds):
            print(f"Result: {result.path}")
        every += results
    print(_inflated(compare_table(every)), end="")
    return 0


def _match_controls(
    args: argparse.Namespace, starting: Sequence[str], parameters: dict[str, dict[str, Any]]
) -> None:
    """Give controls of pre-trained models their architecture and recipe; say what is missing."""
    # Here, because baselines run without torch.
    from omfa.zoo.estimators.omfa_networks import controls

    for start in starting:
        own = parameters[start]
        own["checkpoint"] = args.checkpoint
        for control, matched in controls(own).items():
            model = control + start.removeprefix("omfa")
            if model in parameters:
                parameters[model] = matched | parameters_of_one(args, model)
        # A probe is fitted nowhere, and so has no such control.
        if SCRATCH not in parameters and own.get("head") != LOGISTIC and start == "omfa":
            LOG.warning(f"Not in the table: {SCRATCH}, fitted wholly (--model {SCRATCH})")


def _rerun(args: argparse.Namespace, how: dict[str, Any]) -> int:
    """Repeat a result's run, on the stores that are named or else on its own, and compare."""
    from omfa.zoo.evaluation.results import Result, compare_table, same_predictions
    from omfa.zoo.evaluation.run import rerun

    old = Result.load(args.rerun)  # before it may be replaced
    stores = args.stores or None
    result = rerun(args.rerun, stores, out=args.out, allow_code=args.allow_code, **how)
    print(_printed(compare_table([result])))
    print(_calibrations([result]), end="")
    same = same_predictions(old, result)
    n = len(result.predictions)
    print(f"Predictions are identical in {same} of {n} windows of {args.rerun.name}")
    print(f"Result: {result.path}")
    return 0


def _show_plans(plans: Sequence[Plan], per_protocol: int) -> None:
    """Print folds and fits of each protocol, and the time of all."""
    seconds = a_fit = 0.0
    for number, one in enumerate(plans):
        if number % per_protocol == 0:  # all models and seeds of a protocol have the same folds
            print(_first_folds(one.folds))
        if one.config["seed"] == 0:
            a_fit = one.seconds / max(1, one.n_fits)
            print(f"  {one}")
        seconds += one.n_fits * a_fit
    print(f"{sum(one.n_fits for one in plans)} fits in all, about {duration(seconds)}")


def _first_folds(table: pd.DataFrame, most: int = 3) -> str:
    names = table["fold"].unique()
    text = table[table["fold"].isin(names[:most])].to_string(index=False)
    return text + (f"\n... and {len(names) - most} folds more" if len(names) > most else "")


def _calibrations(results: Sequence[Result]) -> str:
    """Return what the probabilities of models are worth, of their first seed; nothing without."""
    import pandas as pd

    rows = {}
    for result in results:
        if len(found := result.calibration()):
            mean = found["mean"].copy()
            # Of a person there are too few windows for its bins.
            mean["calibration_error"] = found.loc["calibration_error", "pooled"]
            rows[result.estimator] = mean
    if not rows:
        return ""
    table = pd.DataFrame(rows).T.rename_axis("probabilities of")
    return table.dropna(axis=1, how="all").to_string(float_format="{:.3f}".format) + "\n"


def _printed(table: pd.DataFrame) -> str:
    """Write a table of results for the terminal."""
    from omfa.zoo.protocols.comparisons import least_p_in_words

    first = table.iloc[0]
    shown = table[["model", "balanced_accuracy", "per_trial", "majority"]]
    shown = shown.assign(**table[["accuracy", "macro_f1", "kappa"]])
    shown = shown.rename(columns={"balanced_accuracy": "balanced", "per_trial": "per trial"})
    shown.insert(2, "95 %", _intervals(table["low"], table["high"]))
    shown.insert(1, "pre-training", table["pretraining"])
    seeds = ""
    if (n := table["n_seeds"].max()) > 1:
        seeds = f", {n} seeds averaged"
    notes = [
        "Means over subjects with the 95 % interval of the balanced accuracy, over windows; per "
        "trial: of one decision",
        "per trial, the majority of its windows.",
    ]
    if (table["n_pretraining_seeds"] == 1).any():
        notes.append("One pre-training seed: what another would change is in no interval.")
    if "difference" in table and len(table) > 1:
        shown = shown.assign(**_shown_comparison(table))
        notes += [
            "Differences are from the first row, paired over subjects; p is of Wilcoxon's "
            "signed-rank test, Holm its",
            "correction over this table, effect the rank-biserial correlation, detectable what so "
            "many people would show",
            f"in four of five studies; {least_p_in_words(first['n_subjects'])}.",
        ]
    text = shown.to_string(index=False, float_format="{:.3f}".format, na_rep="")
    return (
        f"\n{first['protocol']}; {first['data']}, {first['n_subjects']} subjects{seeds}; "
        f"classes by {first['rule']}\n{text}\n" + "\n".join(notes)
    )


def _inflated(table: pd.DataFrame) -> str:
    """Write by how much leaky runs exceed their honest twins; empty where there are none."""
    if "inflation_over" not in table:
        return ""
    leaky = table[table["inflation_over"] != ""]
    columns = _shown_comparison(leaky, "inflation_")
    shown = leaky[["model"]].assign(over=leaky["inflation_over"], **columns)
    text = shown.to_string(index=False, float_format="{:.3f}".format, na_rep="")
    return f"\n{leaky.iloc[0]['protocol']}, less the honest runs\n{text}\n"


def _shown_comparison(table: pd.DataFrame, prefix: str = "") -> dict[str, Any]:
    of = table.filter(regex=f"^{prefix}").rename(columns=lambda name: name.removeprefix(prefix))
    tested = of["difference"].notna()
    # A dash: compared, but with too few people for a p.
    dash = ["-" if lacks else "" for lacks in tested & of["p"].isna()]
    return {
        "difference": of["difference"],
        "95 % ": _intervals(of["difference_low"], of["difference_high"], signed=True),
        "p": [f"{p:.3f}" if p == p else none for p, none in zip(of["p"], dash, strict=True)],
        "Holm": [
            f"{p:.3f}" if p == p else none for p, none in zip(of["p_holm"], dash, strict=True)
        ],
        "effect": of["effect"],
        "detectable": of["detectable"],
    }


def _intervals(low: pd.Series[Any], high: pd.Series[Any], *, signed: bool = False) -> list[str]:
    form = "{:+.3f} to {:+.3f}" if signed else "{:.3f}-{:.3f}"
    return ["" if a != a else form.format(a, b) for a, b in zip(low, high, strict=True)]


REPORT = """\
examples:
  omfa-zoo report results                            results.html beside the folder
  omfa-zoo report results runs/three --out all.html  with the learning curve of a pre-training
"""


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo report``."""
    describe(
        parser,
        _report,
        "Write results as one HTML file that holds its pictures: scores of every subject,\n"
        "intervals, paired tests, confusion matrices, learning curves. Beside it are its tables\n"
        "as CSV files: FILE-summary.csv, -subjects.csv, -pairs.csv, -calibration.csv.",
        REPORT,
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
    add("--truth", nargs="+", default=[], **TRUTH)


def _report(args: argparse.Namespace) -> int:
    from omfa.pipeline.report_page import beside
    from omfa.zoo.reports.page import PRETRAINING, curves, curves_table, write_report
    from omfa.zoo.reports.tables import read_entries

    runs = [path for path in args.paths if (path / "logs").is_dir()]
    results = [path for path in args.paths if path not in runs]
    out = args.out or args.paths[0].with_name(f"{args.paths[0].resolve().stem}.html")
    closing, tables = {}, {}
    if runs:
        from omfa.zoo.pretraining.run import learning_curve

        learned = {path.name: learning_curve(path) for path in runs}
        closing["pretraining"] = ("Pre-training", curves(learned, beside(out, PRETRAINING)))
        tables[PRETRAINING] = curves_table(learned)
    write_report(
        read_entries(results) if results else [],
        out,
        metric=args.metric,
        closing=closing,
        truths=truths_of(args),
        tables=tables,
    )
    print(f"Report: {out}")
    return 0
