"""One file per simulated corpus, found by name."""

from __future__ import annotations

from omfa.pipeline.simulation.corpora import amigos, deap, dreamer, faced, mahnob_hci, seed
from omfa.pipeline.simulation.plan import Corpus

CORPORA: dict[str, Corpus] = {
    "seed": seed.CORPUS,
    "deap": deap.CORPUS,
    "dreamer": dreamer.CORPUS,
    "faced": faced.CORPUS,
    "mahnob-hci": mahnob_hci.CORPUS,
    "amigos": amigos.CORPUS,
}
"""What ``simulate`` can write; the names are those of the readers."""
