"""``omfa-ingest``: the command line of the pipeline.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omfa.pipeline.console import Parser, add_output_flags, run_command
from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG, bar
from omfa.pipeline.words import duration, nearest, size

if TYPE_CHECKING:
    from omfa.pipeline.ingestion import Plan
    from omfa.pipeline.outcomes import Summary
    from omfa.pipeline.store import Store

CORPORA = {
    "seed": "SEED: Preprocessed_EEG/*.mat, or the .cnt files with --variant raw",
    "seed-iv": "SEED-IV: eeg_raw_data/{1,2,3}/*.mat",
    "seed-v": "SEED-V: EEG_raw/*.cnt",
    "seed-vii": "SEED-VII: EEG_preprocessed/*.mat, or the .cnt files with --variant raw",
    "deap": "DEAP: data_preprocessed_python/*.dat, or the .bdf files with --variant raw",
    "dreamer": "DREAMER: DREAMER.mat or its JSON edition",
    "faced": "FACED: Processed_data/*.pkl",
    "mahnob-hci": "MAHNOB-HCI: Sessions/*/session.xml and *.bdf",
    "amigos": "AMIGOS: Data_Preprocessed_P*.mat",
    "eav": "EAV: subject{N}/EEG/subject{N}_eeg.mat and its labels",
    "thu-ep": "THU-EP: EEG data/sub_{N}.mat and Ratings/ratings.mat, with the extra omfa[hdf5]",
}
"""The corpora with a reader of their own; each can be simulated."""

OWN_SOURCES = CORPORA | {
    "bids": "any BIDS dataset",
    "files": "any folder of recordings that MNE reads: EDF, BDF, BrainVision, FIF, ...",
    "moabb": "a dataset of MOABB; RAW is its class name",
}

EPILOG = """\
sources (SOURCE):
{sources}

examples:
  omfa-ingest seed SEED/ seed.zarr                   all of SEED, one process per core
  omfa-ingest deap DEAP/ deap.zarr --band 4 45 --sfreq 128 --workers 8
  omfa-ingest dreamer DREAMER/ s3://bucket/dreamer.zarr --scheduler tcp://head:8786
  omfa-ingest files EDF/ rest.zarr --name rest --pattern 'Subject{{subject}}_{{condition}}.edf'
  omfa-ingest seed SEED/ seed.zarr --dry-run         what would be done, how large, how long
  omfa-ingest corpora --open                         corpora of emotion that need no form
  omfa-ingest simulate deap DEAP-simulated/ --subjects 4
  omfa-ingest demo                                   all of it on small simulated corpora

Run the same command again to go on after an interruption or to repair what `verify` finds.
Exit code: 0 if all is well, 1 if a recording failed or is damaged, 2 for wrong use.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``omfa-ingest`` and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parse(argv)
    return run_command(
        "omfa-ingest", lambda: int(args.run(args)), interrupted=args.interrupted, told=args
    )


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = parser_for(argv)
    of_source = parser.get_default("source") is not None
    return parser.parse_args(argv[1:] if of_source else argv or ["--help"])


def parser_for(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line: of its source, or of the program with all its verbs."""
    sources = OWN_SOURCES | {
        entry.name: f"from {entry.value}" for entry in entry_points(group="omfa.readers")
    }
    if argv and argv[0] in sources:
        return _source_parser(argv[0], sources[argv[0]])
    width = max(map(len, sources))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in sources.items())
    parser = Parser(
        prog="omfa-ingest",
        usage="omfa-ingest SOURCE RAW STORE [options]\n"
        "       omfa-ingest {corpora,simulate,inspect,verify,report,demo} ...\n"
        "       omfa-ingest SOURCE --help      all options of a source",
        description="Turn raw EEG corpora into stores with one channel schema, in parallel.",
        epilog=EPILOG.format(sources=listing),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"omfa {version('omfa')}")
    parser.set_defaults(interrupted="")
    verbs = parser.add_subparsers(metavar="VERB", required=True, prog="omfa-ingest")
    simulator = verbs.add_parser(
        "simulate",
        help="write a simulated corpus in the real format",
        description="Write a simulated corpus in the file formats of the real one.",
    )
    simulator.add_argument(
        "source", choices=tuple(CORPORA), metavar="SOURCE", help=f"one of {', '.join(CORPORA)}"
    )
    simulator.add_argument(
        "raw",
        type=Path,
        metavar="RAW",
        help="a new or empty folder, or an earlier simulation of the same SOURCE, which is "
        "replaced",
    )
    simulator.set_defaults(run=_simulate, interrupted="Remove the folder and run it again.")
    if [*argv[:1]] == ["simulate"]:  # importing the simulator is not for every --help
        _simulate_flags(simulator)
    add_output_flags(simulator)
    for name, run, text in (
        ("inspect", _inspect, "show what a store holds and how it was made"),
        ("verify", _verify, "recompute every checksum and name what is damaged"),
        ("report", _report, "write the store's quality report, one HTML file"),
    ):
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        verb.add_argument(
            "store", metavar="STORE", help="a folder, or an address such as s3://b/x.zarr"
        )
        verb.set_defaults(run=run)
        add_output_flags(verb)
        if name == "report":
            verb.add_argument(
                "--out",
                metavar="FILE",
                help="a path or an address (default: STORE.html beside the store)",
            )
            verb.add_argument(
                "--recordings",
                nargs="+",
                metavar="NAME",
                help="of these alone, one by one; NAME may hold * and ?: 'sub-01_*'",
            )
    corpora = verbs.add_parser(
        "corpora",
        help="list the corpora of emotion that omfa reads: who gives them, the terms, the command",
        description="List the corpora of emotion that omfa reads, or tell of one.",
    )
    corpora.add_argument("name", nargs="?", metavar="NAME", help="tell all of this one")
    corpora.add_argument("--open", action="store_true", help="those that need no form")
    corpora.add_argument(
        "--markdown", action="store_true", help="print them as docs/corpora.md has them"
    )
    add_output_flags(corpora)
    corpora.set_defaults(run=_corpora, interrupted="")
    demo = verbs.add_parser(
        "demo",
        help="simulate, ingest, verify and report three small corpora",
        description="Simulate three small corpora (SEED, DEAP, DREAMER), turn each into a store, "
        "verify the stores and write one quality report, FOLDER/report.html.",
    )
    demo.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="where all of it is written (default: demo); the simulations of an earlier demo are "
        "written again",
    )
    demo.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    add_output_flags(demo)
    demo.set_defaults(run=_demo, interrupted="Run it again to go on.")
    if argv and not argv[0].startswith("-") and argv[0] not in verbs.choices:
        near = nearest(argv[0], (*sources, *verbs.choices))
        parser.error(
            f"there is no source or verb {argv[0]!r}{near}; sources are {', '.join(sources)}, "
            f"verbs are {', '.join(verbs.choices)}"
        )
    return parser


# ---------------------------------------------------------------------------------- ingesting


def _source_parser(source: str, text: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"omfa-ingest {source}",
        description=f"Read {text}. Turn it into a UCS store.",
        epilog="Run the same command again to go on where it ended.",
    )
    parser.set_defaults(
        source=source,
        run=_ingest,
        interrupted="What is stored stays and is whole. Run the same command again to go on.",
    )
    raw = "the dataset's class name" if source == "moabb" else "the folder with the source's files"
    parser.add_argument("raw", metavar="RAW", help=raw)
    parser.add_argument(
        "store", metavar="STORE", help="a folder, or an address such as s3://b/x.zarr"
    )
    _settings_flags(parser, source)
    add_output_flags(parser)
    return parser


RUN = ("subjects", "workers", "memory_limit", "scheduler", "serial", "rewrite")
"""The arguments of ``ingest`` that say how a run goes, and nothing about what comes out."""


def _settings_flags(parser: argparse.ArgumentParser, source: str) -> None:
    """Add the flags of what decides the store, of the run, and of the source's reader.

    Imported here: what the settings are defined in takes half a second.
    """
    from omfa.pipeline.align import recipe_for
    from omfa.pipeline.flags import add_flags
    from omfa.pipeline.ingestion import ingest
    from omfa.pipeline.preprocess import Preprocessing
    from omfa.pipeline.readers import reader_class

    reader = reader_class(source)
    add_flags(
        parser.add_argument_group("signal"),
        Preprocessing,
        metavars={"sfreq": "HZ", "band": ("LOW", "HIGH"), "notch": "HZ", "reference": "NAME"},
    )
    add_flags(
        parser.add_argument_group("channels and store"),
        recipe_for,
        only=(
            *("aliases", "exclude", "cerebellar", "names_by_position"),
            *("dtype", "keep_auxiliary"),
        ),
        names={"aliases": "alias"},
        metavars={"aliases": "RAW=NAME", "exclude": "RAW"},
    )
    group = parser.add_argument_group("run")
    add_flags(
        group,
        ingest,
        only=RUN,
        metavars={"subjects": "ID", "memory_limit": "SIZE", "scheduler": "ADDRESS"},
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="Show what would be done, how large and how long it is, and do none of it.",
    )
    # A reader's own option comes last: of a name that is taken it is --SOURCE-NAME.
    add_flags(
        parser.add_argument_group(f"{source} reader"),
        reader,
        leave_out=("auxiliary",),  # set by --keep-auxiliary
        prefix=source,
    )


def _ingest(args: argparse.Namespace) -> int:
    from inspect import signature

    from omfa.pipeline import flags
    from omfa.pipeline.align import reader_for, recipe_for
    from omfa.pipeline.ingestion import ingest, plan
    from omfa.pipeline.preprocess import Preprocessing
    from omfa.pipeline.readers import reader_class

    chosen = flags.given(args, recipe_for)
    # Made here, since an option of the reader may have the name of an argument of `ingest`.
    reader = reader_for(
        args.source,
        keep_auxiliary=chosen.get("keep_auxiliary", False),
        options=flags.given(args, reader_class(args.source)),
    )
    chosen["preprocessing"] = flags.settings(args, Preprocessing)
    run = flags.given(args, ingest)
    if args.dry_run:
        taken = signature(plan).parameters  # it has no use for workers
        run = {name: value for name, value in run.items() if name in taken}
        return _show_plan(plan(reader, args.raw, args.store, **run, **chosen))
    summary = ingest(reader, args.raw, args.store, apart=True, **run, **chosen)
    _show_summary(summary)
    return 0 if summary.complete else 1


def _show_plan(plan: Plan) -> int:
    states = list(plan.states.values())
    for state in dict.fromkeys(states):
        verb = "kept" if state == "current" else "made"
        print(f"{states.count(state):6d} recordings are {state} and would be {verb}")
    if plan.tried:
        print(
            f"{size(plan.bytes_in)} would be read and about {size(plan.bytes_out)} written, "
            f"in about {duration(plan.seconds)} of one worker "
            f"(scaled from {plan.tried}, which was processed and not stored)"
        )
    elif plan.failed:
        print("No recording could be processed to estimate size and time from:")
    for note in plan.notes:
        LOG.warning(f"  note: {note}")
    for reason in plan.failed.values():
        LOG.error(f"  failed: {reason}")
    return 1 if plan.failed else 0


def _show_summary(summary: Summary) -> None:
    stored, kept, failed = (summary.having(s) for s in ("stored", "kept", "failed"))
    print(
        f"{len(stored)} stored, {len(kept)} kept, {len(failed)} failed in "
        f"{duration(summary.seconds)}: {summary.store}"
    )
    for outcome in stored:
        if outcome.reason != "missing":
            print(f"  made again, {outcome.reason}: {outcome.recording}")
    for note in summary.notes:
        LOG.warning(f"  note: {note}")
    for outcome in summary.outcomes:
        for warning in outcome.warnings:
            LOG.warning(f"  warning: {warning}")
    for outcome in failed:
        LOG.error(f"  failed: {outcome.reason}")


# ---------------------------------------------------------------------------------- stores


def _inspect(args: argparse.Namespace) -> int:
    import json

    from omfa.pipeline.store import open_store

    store = open_store(args.store)
    print(_table([_row(store)]))
    shown = {k: v for k, v in store.settings.items() if k not in ("failures", "settings_digest")}
    print(f"\nchannels: {' '.join(store.channels)}")
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    for recording, reason in store.failures.items():
        LOG.error(f"failed: {recording}: {reason}")
    if lacking := store.without_checksums():
        LOG.warning(f"note: {lacking}")
    table = store.recordings
    if len(table):
        table = table.assign(bad=table["bad_channels"].map(" ".join))
        table = table.drop(columns=["channels", "bad_channels", "settings_digest", "bytes_out"])
        print(table.assign(labels=table["labels"].map(" ".join)).to_string())
    return 0


def _verify(args: argparse.Namespace) -> int:
    from omfa.pipeline.store import open_store

    store = open_store(args.store)
    found = [d for _, d in bar(store.verify(), total=len(store), unit="rec") if d]
    for damage in found:
        LOG.error(f"damaged: {damage.recording}: {damage.found}")
    if found:
        LOG.error("Run the ingest command again: it makes just these again.")
        return 1
    print(f"{len(store)} recordings are as they were written: {store.path}")
    if lacking := store.without_checksums():
        LOG.warning(f"  note: {lacking}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from omfa.pipeline.report import write_and_tell
    from omfa.pipeline.store import open_store

    store = open_store(args.store)
    if args.recordings:
        store = _some_of(store, args.recordings)
    path, (unreadable,) = write_and_tell([store], args.out or f"{args.store.rstrip('/')}.html")
    print(path)
    for name, found in sorted(unreadable.items()):
        LOG.error(f"damaged: {name}: {found}")
    if unreadable:
        LOG.error(
            "The report is without them. Run the ingest command again: it makes what is damaged "
            "again."
        )
    return 1 if unreadable else 0


def _some_of(store: Store, patterns: Sequence[str]) -> Store:
    """Return the store with the recordings that are asked for."""
    names = list(store.recordings.index)
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise DataError(
                f"Choosing recordings of {store.path}",
                f"none is called {pattern!r}{nearest(pattern, names)}",
                f"omfa-ingest inspect {store.path} lists them",
            )
    return store.keep({name for pattern in patterns for name in fnmatch.filter(names, pattern)})


def _row(store: Store) -> dict[str, Any]:
    table = store.recordings
    seconds = float((table["n_times"] / table["sfreq"]).sum()) if len(table) else 0.0
    return {
        "store": store.path.rpartition("/")[2],
        "recordings": len(store),
        "subjects": table["subject"].nunique() if len(table) else 0,
        "channels": len(store.channels),
        "trials": int(table["n_trials"].sum()) if len(table) else 0,
        "hours": f"{seconds / 3600:.2f}",
        "MB": f"{store.nbytes / 1e6:.1f}",
    }


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *rest in cells:
        right = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *right]))
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- simulation


def _simulate_flags(parser: argparse.ArgumentParser) -> None:
    from omfa.pipeline.flags import add_flags
    from omfa.pipeline.simulation import CORPORA, simulate

    add_flags(
        parser,
        simulate,
        leave_out=("source", "root", "progress"),
        metavars={"quirks": "NAME", "subjects": "N", "sessions": "N"},
    )
    lines = [
        f"  {source:10}  {variant:12}  {' '.join(corpus.quirks.get(variant, ())) or '-'}"
        for source, corpus in CORPORA.items()
        for variant in corpus.variants
    ]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["what --variant and --quirks take, by SOURCE; the first variant is the default:", *lines]
    )


def _simulate(args: argparse.Namespace) -> int:
    from omfa.pipeline.flags import given
    from omfa.pipeline.simulation import Truth, simulate

    simulate(args.source, args.raw, **given(args, simulate))
    print(f"Simulated {args.source.upper()}: {args.raw}")
    print(f"What was planted in it: {Truth.path(args.raw)}")
    return 0


def _corpora(args: argparse.Namespace) -> int:
    from omfa.pipeline import catalogue

    if args.markdown:
        print(catalogue.markdown(), end="")
        return 0
    known = {corpus.name: corpus for corpus in catalogue.CORPORA}
    if args.name is None:
        chosen = [corpus for corpus in known.values() if not (args.open and corpus.form)]
        print(catalogue.table(chosen))
        print("\nThe command of one, and what is to be known before: omfa-ingest corpora NAME")
        return 0
    if args.name not in known:
        raise DataError(
            f"Looking for the corpus {args.name!r}",
            f"there is none of that name{nearest(args.name, known)}",
            "List them by `omfa-ingest corpora`; `bids` and `files` read any other recordings",
        )
    corpus = known[args.name]
    print(f"{corpus.name}: {corpus.holds}")
    print(f"{corpus.giver}, {corpus.licence}: {corpus.address}")
    for line in (corpus.note, *corpus.commands):
        if line:
            print(line)
    return 0


DEMO: Mapping[str, Mapping[str, Any]] = {
    "seed": {"subjects": 2, "sessions": 2, "seconds": 20},
    "deap": {"subjects": 2, "seconds": 20},
    "dreamer": {"subjects": 4, "seconds": 30, "effect": 3.0},
}
"""What is simulated. In DREAMER, which `omfa-zoo demo` fine-tunes on, the effect is six times the
simulator's own: a smaller one is not learned from the 12 trials of a person that are left to train
on, and a first look should show a model that has learned.
"""


def _demo(args: argparse.Namespace) -> int:
    from omfa.pipeline.ingestion import ingest
    from omfa.pipeline.report import write_report
    from omfa.pipeline.simulation import simulate
    from omfa.pipeline.store import open_store

    rows, opened, complete = [], [], True
    for source, extent in DEMO.items():
        raw, store = args.folder / f"{source}-simulated", args.folder / f"{source}-simulated.zarr"
        simulate(source, raw, **extent)
        summary = ingest(source, raw, store, workers=args.workers)
        complete &= summary.complete
        _show_summary(summary)
        opened.append(open_store(store))
        complete &= not any(damage for _, damage in opened[-1].verify())
        size_in = sum(file.stat().st_size for file in raw.rglob("*") if file.is_file())
        row = _row(opened[-1])
        size_out = row.pop("MB")
        rows.append(
            row
            | {"s": f"{summary.seconds:.1f}", "MB in": f"{size_in / 1e6:.1f}", "MB out": size_out}
        )
    print(f"\n{_table(rows)}\n")
    print("Every checksum holds." if complete else "Something failed: see above.")
    print(f"Quality report (simulated data): {write_report(opened, args.folder / 'report.html')}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
