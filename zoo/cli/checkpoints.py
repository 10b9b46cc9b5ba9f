"""``omfa-zoo list, show, download, verify, publish, export``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omfa.pipeline.errors import DataError
from omfa.pipeline.progress import LOG
from omfa.zoo.cli.flags import describe, pairs

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


def add_list(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo list``."""
    describe(
        parser,
        _list,
        "List the checkpoints that omfa.zoo.load, evaluate and finetune know.",
        LIST,
    )
    parser.add_argument(
        "--markdown",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print tables, or write them between the marks of a file",
    )


def _list(args: argparse.Namespace) -> int:
    from omfa.zoo.checkpoints.downloads import (
        PACKAGE,
        REGISTRY,
        entries,
        local_files,
        read_registry,
    )

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


def add_show(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo show``."""
    describe(
        parser,
        _show,
        "Tell what a checkpoint is, what it saw, what its input must be, and what it reached.\n"
        "Nothing is downloaded.",
        SHOW,
    )
    parser.add_argument("checkpoint", metavar="NAME", help="name or folder")
    parser.add_argument("--json", action="store_true", help="the card as it is stored")


def _show(args: argparse.Namespace) -> int:
    from omfa.zoo.checkpoints.folder import locate
    from omfa.zoo.publish import describe, entry_of

    entry = entry_of(args.checkpoint)
    at = None if locate(args.checkpoint) is None else args.checkpoint
    print(entry.card.to_json() if args.json else describe(entry, at), end="")
    return 0


DOWNLOAD = f"""\
examples:
  omfa-zoo download omfa-small-openeeg
  OMFA_HOME=/scratch/omfa omfa-zoo download omfa-small-openeeg    for machines without a network
  OMFA_ZOO_MIRROR=https://files.example.org/omfa omfa-zoo download omfa-small-openeeg

Size and SHA-256 of every file are checked; nothing else ever gets its name in the cache. A download
that broke off goes on where it ended.

{PLACES}"""


def add_download(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo download``."""
    describe(
        parser,
        _download,
        "Get checkpoints onto this machine, and print their folders.",
        DOWNLOAD,
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="see: omfa-zoo list")


def _download(args: argparse.Namespace) -> int:
    from omfa.zoo.checkpoints.downloads import download

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


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo verify``."""
    describe(
        parser,
        _verify,
        "Check digests, card, configuration, and the names, shapes and numbers of all weights.",
        VERIFY,
    )
    parser.add_argument(
        "checkpoints", nargs="*", metavar="NAME|FOLDER", help="(default: all that are here)"
    )


def _verify(args: argparse.Namespace) -> int:
    from omfa.zoo.checkpoints.downloads import entries
    from omfa.zoo.checkpoints.folder import verify

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
  omfa-zoo publish runs/three out/omfa-three --name omfa-three --licence cc-by-4.0 \\
      --source https://files.example.org/omfa/omfa-three
  hf upload OWNER/omfa-three out/omfa-three      then --source hf://OWNER/omfa-three@COMMIT
  omfa-zoo publish runs/three /shared/omfa/omfa-three --licence cc-by-4.0 \\
      --registry ~/.cache/omfa/checkpoints.toml              for those who share this disk
  omfa-zoo publish runs/three zoo/weights/omfa-three --licence bsd-3-clause
                                                             into the package's repository

OUT gets the checkpoint's three files, a README.md with Hugging Face's metadata, and
checkpoints.toml: the entry, with digests, that others put into theirs (in OMFA_HOME), after which
omfa.zoo.load("omfa-three") works for them. Publishing the same again writes the same bytes.
"""


def add_publish(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo publish``."""
    describe(
        parser,
        _publish,
        "Make a folder that any web server or a Hugging Face repository can serve, and print the\n"
        "entry of a checkpoints.toml that finds it.",
        PUBLISH,
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
    add("--licence", metavar="SPDX", help="needed for a run's (default: the card's)")
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


def _publish(args: argparse.Namespace) -> int:
    from omfa.zoo.publish import publish

    results = None
    if args.result:
        from omfa.zoo.evaluation.results import Result

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
        attributions=pairs(args.attribution),
        results=results,
    )
    print(entry, end="")
    LOG.info(f"Published: {args.out}")
    return 0


EXPORT = """\
examples:
  omfa-zoo export runs/mood                                 mood.onnx, in this folder
  omfa-zoo export runs/mood --format torch-export --out models/mood.pt2
  omfa-zoo export omfa-small-openeeg --encoder --out encoder.onnx

The file reads microvolts at the rate, in the windows and from the channels that the card names, any
number of windows at once, and says all of that itself. It needs the packages of omfa[onnx] to be
made, and onnxruntime alone to be run. It gets its name once its answers are those of torch.
"""


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo export``."""
    describe(
        parser,
        _export,
        "Write a fine-tuned model as one file that runs without omfa and torch.",
        EXPORT,
    )
    parser.add_argument("checkpoint", metavar="MODEL", help="name or folder")
    add = parser.add_argument
    add("--format", default="onnx", metavar="NAME", help="onnx (default) or torch-export")
    add("--out", type=Path, metavar="FILE", help="the file to write (default: named as MODEL)")
    add("--encoder", action="store_true", help="the encoder of single channels alone: embeddings")


def _export(args: argparse.Namespace) -> int:
    from omfa.zoo.exporting import export

    made = export(args.checkpoint, args.out, format=args.format, encoder=args.encoder)
    print(made.path)
    LOG.info(f"Exported: within {made.difference:.1g} of torch")
    return 0
