"""``omfa-zoo``: the command line of the zoo.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

EPILOG = """\
examples:
  omfa-zoo pretrain seed.zarr deap.zarr dreamer.zarr --preset small --out runs/three
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model omfa --checkpoint runs/three
  omfa-zoo evaluate deap.zarr --target 'valence>5' --model braindecode:EEGNet

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
    import logging

    from omfa.zoo.pretrain import Settings, plan, pretrain_encoder, with_changes

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    names = (
        *("preset", "encoder", "resampling", "tokens_per_second", "window_seconds", "steps"),
        *("batch_size", "channels_per_window", "lr", "seed"),
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
