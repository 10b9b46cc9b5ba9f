"""``omfa-zoo predict``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omfa.pipeline import flags
from omfa.zoo.cli.flags import describe
from omfa.zoo.prediction.settings import PredictionSettings

PREDICT = """\
examples:
  omfa-zoo predict models/valence new.edf --out answers
  omfa-zoo predict models/valence recordings/ --out answers --stride-seconds 1
  omfa-zoo predict models/valence new.zarr --out answers         a store's recordings
  omfa-zoo predict models/valence lab.set --out answers --unit uV
  omfa-zoo predict models/valence egi.edf --out answers --montage GSN-HydroCel-128

MODEL is a checkpoint that `omfa-zoo finetune` made, or the name of one. Signals are brought to the
rate, band, reference and unit that its card names; channels that a recording lacks, and bad ones,
are masked. Each recording gets in DIR
  NAME.csv, NAME.parquet    time, class, probability of every class, share of channels, quality
  NAME_annotations.csv      the same for raw.set_annotations(mne.read_annotations(...));
  NAME-annot.fif            as FIF as well
  NAME.html                 the probabilities over time, and how much to trust them
and all together summary.csv. Parquet needs pyarrow. A recording that cannot be answered is named,
and the others go on: the exit code is then 1.
"""


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo predict``."""
    describe(
        parser,
        _predict,
        "Answer recordings without labels: what a fine-tuned checkpoint says of each window.",
        PREDICT,
        usage="MODEL RECORDING [RECORDING ...] --out DIR [options]",
    )
    parser.add_argument("model", metavar="MODEL", help="a checkpoint's name or folder")
    parser.add_argument(
        "recordings",
        nargs="+",
        type=Path,
        metavar="RECORDING",
        help="a file that MNE reads, a folder of them, or a store",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the answers")
    add("--overwrite", action="store_true", help="replace answers that are there")
    flags.add_flags(
        parser.add_argument_group("windows and signals"),
        PredictionSettings,
        names={"aliases": "alias"},
        metavars={"stride_seconds": "S", "aliases": "RAW=NAME", "eeg": "NAME", "not_eeg": "NAME"},
    )


def _predict(args: argparse.Namespace) -> int:
    from omfa.zoo.prediction.outputs import SUMMARY, predict_all
    from omfa.zoo.prediction.predictor import Predictor

    predictor = Predictor.from_checkpoint(
        args.model,
        settings=flags.settings(args, PredictionSettings),
        progress=sys.stderr.isatty(),
    )
    table = predict_all(
        predictor, args.recordings, args.out, overwrite=args.overwrite, progress=True
    )
    failed = int(table["error"].astype(bool).sum())
    if answered := len(table) - failed:
        print(f"Answers of {answered} recordings: {args.out}")
    if failed:
        print(f"{failed} recordings have none; {args.out / SUMMARY} says why")
    return 1 if failed else 0
