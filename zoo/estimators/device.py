"""Where a network is trained, and with how many threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from omfa.pipeline.errors import DataError

# Reentrant: a network at work asks for embeddings, which hold it too.
ONE_AT_A_TIME = threading.RLock()
"""Held while a network works. The random state and the number of threads belong to the process, and
a Dask worker may run folds in several of its threads.
"""


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is the first GPU where there is one.

    Raises
    ------
    DataError
        If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    doing, action = f"Choosing the device {name!r}", "Use auto, cpu, or cuda where there is a GPU"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DataError(doing, "torch has none of that name", action) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"torch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices here"
        raise DataError(doing, found, action)
    return device


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch use ``n`` threads of the CPU, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
