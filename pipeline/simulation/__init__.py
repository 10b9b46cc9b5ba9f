"""Simulated corpora: folders as the corpora come, signals with a known answer.

For tests, for benchmarks at full size and for whoever has no licence yet. Names, orders, lengths,
types and quirks are those of the real releases; the signals are simulated, and every file says so
where its format has room for words. What was planted is written beside the folder as
``<root>.truth.json``.

The bytes depend only on the arguments: a seed gives the same tree again, and a smaller tree's
recordings are the larger one's.
"""

from omfa.pipeline.simulation.corpora import CORPORA
from omfa.pipeline.simulation.trees import WINDOWS, simulate
from omfa.pipeline.simulation.truth import Truth

__all__ = ["CORPORA", "WINDOWS", "Truth", "simulate"]
