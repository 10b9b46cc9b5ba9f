"""One file per simulated corpus, found by name."""

from __future__ import annotations

from omfa.pipeline.simulation.corpora import (
    amigos,
    deap,
    dreamer,
    eav,
    faced,
    mahnob_hci,
    seed,
    seed_iv,
    seed_v,
    seed_vii,
    thu_ep,
)
from omfa.pipeline.simulation.plan import Corpus

CORPORA: dict[str, Corpus] = {
    "seed": seed.CORPUS,
    "seed-iv": seed_iv.CORPUS,
    "seed-v": seed_v.CORPUS,
    "seed-vii": seed_vii.CORPUS,
    "deap": deap.CORPUS,
    "dreamer": dreamer.CORPUS,
    "faced": faced.CORPUS,
    "mahnob-hci": mahnob_hci.CORPUS,
    "amigos": amigos.CORPUS,
    "eav": eav.CORPUS,
    "thu-ep": thu_ep.CORPUS,
}
"""What ``simulate`` can write; the names are those of the readers."""
