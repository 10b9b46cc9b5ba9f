"""Where a network is trained, and with how many threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Reentrant: a network at work asks for embeddings, which hold it too.
ONE_AT_A_TIME = threading.RLock()
"""Held while a network works. The random state and the number of threads belong to the process, and
a Dask worker may run folds in several of its threads.
"""


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is the first GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch use ``n`` threads of the CPU, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
