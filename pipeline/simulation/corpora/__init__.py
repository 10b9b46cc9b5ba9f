"""One file per simulated corpus, found by name."""

from __future__ import annotations

from omfa.pipeline.simulation.corpora import deap, dreamer, eav, seed, thu_ep
from omfa.pipeline.simulation.plan import Corpus

CORPORA: dict[str, Corpus] = {
    "seed": seed.CORPUS,
    "deap": deap.CORPUS,
    "dreamer": dreamer.CORPUS,
    "eav": eav.CORPUS,
    "thu-ep": thu_ep.CORPUS,
}
"""What ``simulate`` can write; the names are those of the readers."""
