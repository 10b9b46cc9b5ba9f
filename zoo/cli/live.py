"""``omfa-zoo live``."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, suppress
from pathlib import Path

from omfa.pipeline import flags
from omfa.pipeline.progress import LOG
from omfa.zoo.cli.flags import describe
from omfa.zoo.live.settings import LiveSettings

LIVE = """\
examples:
  omfa-zoo live runs/deap --stream eegoSports
  omfa-zoo live runs/deap --stream eegoSports --stride-seconds 0.25 --out answers.jsonl
  omfa-zoo live runs/deap --stream eegoSports --outlet emotion     to whoever listens over LSL

MODEL is a fine-tuned checkpoint. The stream's channels are found by their names, whatever their
order; what it lacks is masked and named. Ctrl-C ends it. Needs the extra: pip install 'omfa[live]'
"""


def add_live(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``omfa-zoo live``."""
    describe(
        parser,
        _live,
        "Answer on an amplifier's LSL stream while it is being recorded.",
        LIVE,
        usage="MODEL --stream NAME [--out FILE] [--outlet NAME] [options]",
    )
    parser.add_argument("model", metavar="MODEL", help="name or folder of a fine-tuned checkpoint")
    add = parser.add_argument
    add("--stream", required=True, metavar="NAME", help="the LSL stream to listen to")
    add("--out", type=Path, metavar="FILE", help="answers as JSON lines, in place of the terminal")
    add("--outlet", metavar="NAME", help="send the probabilities as an LSL stream of this name")
    flags.add_flags(parser, LiveSettings)


def _live(args: argparse.Namespace) -> int:
    settings = flags.settings(args, LiveSettings)
    from omfa.zoo.checkpoints.decision import read_decision
    from omfa.zoo.live.outputs import JsonLines, Outlet, Output, Terminal
    from omfa.zoo.live.run import Session, run

    decision = read_decision(args.model)
    session = Session()
    with ExitStack() as stack:
        outputs: list[Output] = [JsonLines(args.out) if args.out else Terminal()]
        if args.outlet:
            outputs.append(Outlet(args.outlet, decision.classes, settings.stride_seconds))
        stack.callback(lambda: LOG.info(f"omfa-zoo: {session}"))
        for output in outputs:
            stack.callback(output.close)
        with suppress(KeyboardInterrupt):  # how a session ends
            run(args.model, args.stream, settings, outputs, session=session)
    return 0
