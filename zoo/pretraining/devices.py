"""Whether this machine has what a pre-training is asked to run on.

Lightning finds out when its trainer is made, by when the run's folder has been written, and answers
in errors of its own.
"""

from __future__ import annotations

import torch

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.pretraining.settings import RunSettings

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
"""Those that a run may be asked for; ``gpu`` is whichever of the last two there is."""

PRECISIONS = (
    *("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"),
    *("32", "16", "bf16", "64"),
)
"""Lightning's, of those that need no package beside torch."""


def check_run(run: RunSettings) -> None:
    """Refuse a run that this machine cannot do.

    Parameters
    ----------
    run : RunSettings

    Raises
    ------
    DataError
        If the accelerator or the precision is not known, the accelerator or as many devices are not
        there, or a number of steps is impossible.
    """
    doing = "Choosing what to pre-train on"
    for what, value, known in (
        ("accelerator", run.accelerator, ACCELERATORS),
        ("precision", run.precision, PRECISIONS),
    ):
        if value is not None and str(value) not in known:
            raise DataError(
                doing,
                f"{what}={value!r}{nearest(str(value), known)}",
                f"Use one of {', '.join(known)}",
            )
    for name, least in (("checkpoint_every", 1), ("log_every", 1), ("probe_every", 0)):
        if (steps := getattr(run, name)) < least:
            raise DataError(doing, f"{name}={steps}", f"Give steps, at least {least}")
    there = {"cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    there["mps"] = int(torch.backends.mps.is_available())
    wanted = run.accelerator
    if wanted in ("auto", "gpu"):
        wanted = next((name for name, count in there.items() if count), wanted)
    if wanted in ("gpu", "cuda", "mps") and not there.get(wanted):
        found = f"accelerator={run.accelerator!r}, and torch {torch.__version__} finds none here"
        raise DataError(doing, found, "Use auto or cpu, or install a torch for your GPU")
    _check_devices(doing, str(run.devices).strip(), there.get(wanted))


def _check_devices(doing: str, asked: str, most: int | None) -> None:
    """Refuse devices that are not there; of processes on the CPU (None) there may be any number."""
    numbers = [part.strip() for part in asked.split(",") if part.strip()]
    whole = bool(numbers) and all(number.isdecimal() for number in numbers)
    if asked == "auto" or (asked == "-1" and most is not None):
        return
    if most is None:
        if not (whole and "," not in asked and int(asked) > 0):
            raise DataError(
                doing, f"devices={asked!r} on the CPU", "Give the number of processes: 1, 2, ..."
            )
    elif not whole or asked == "0":
        raise DataError(
            doing, f"devices={asked!r}", "Give their number, their indices as in 0,2, or auto"
        )
    elif ("," in asked and max(map(int, numbers)) >= most) or (
        "," not in asked and int(asked) > most
    ):
        raise DataError(
            doing,
            f"devices={asked}, and there {'is' if most == 1 else 'are'} {most} here",
            "Ask for fewer; indices begin at 0",
        )
