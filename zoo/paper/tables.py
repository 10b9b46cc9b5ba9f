"""The rows of the paper's tables, and what the paper claims of each row: data, as code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from omfa.models.front_end import F0
from omfa.models.names import HeadName, Resampling
from omfa.zoo.estimators.settings import COHERENCY, RANDOM, SCRATCH, OmfaSettings
from omfa.zoo.paper.settings import TABLES as TABLES

CORPORA = ("seed", "deap", "dreamer")
"""The corpora of the paper, in its order."""

UNSEEN = "dreamer"
"""The corpus that the paper transfers to."""

ABLATED = "deap"
"""The corpus on which the paper compares graphs."""

GRAPHS: Mapping[HeadName, str] = {
    "gat": "GAT",
    "gcn": "GCN, distances",
    "gcn_learned": "GCN, learned",
    "transformer": "transformer",
    "mean": "none, mean",
}
"""The graphs that are compared, the paper's own first, and their names in the table."""

RESAMPLING: Mapping[Resampling, str] = {
    "rate": "rate",
    "rate+content": "rate and content",
    "off": "off",
}
"""ART's modes, the default first, and their names in the table."""

BASELINES = (
    "majority",
    "clusters-without-labels",
    "differential-entropy+ridge",
    "differential-entropy+ridge+non-causal-lds",
    "relative-band-power+logistic",
    "log-spectrum+logistic",
    "tangent-space+logistic",
)
"""Models that every corpus of a table is also run with: without them an accuracy says little."""

SOURCE = "arXiv 2511.08444, abstract"

_LONGEST = 30
"""Letters of the corpora's names in that of a pre-training: a card's name has 64 in all."""


@dataclass(frozen=True)
class Claim:
    """What the paper states about a row.

    Attributes
    ----------
    accuracy : float or None
        Within-subject accuracy in percent.
    difference : float or None
        From the row of ``first``, in points of accuracy.
    words : str
        What it states where it gives no number.
    source : str
        Where it states that.
    """

    accuracy: float | None = None
    difference: float | None = None
    words: str = ""
    source: str = SOURCE

    def __str__(self) -> str:
        """Return the claim in a few characters."""
        parts = [] if self.accuracy is None else [f"{self.accuracy:.2f} %"]
        parts += [] if self.difference is None else [f"{self.difference:+.2f} points"]
        return ", ".join([*parts, *([self.words] if self.words else [])])


PAPER: Mapping[tuple[str, str, str], Claim] = {
    ("within", "pre-trained", "seed"): Claim(99.27),
    ("within", "pre-trained", "deap"): Claim(93.69),
    ("within", "pre-trained", "dreamer"): Claim(93.93),
    ("within", "from scratch", "seed"): Claim(words="collapses"),
    ("within", "from scratch", "deap"): Claim(difference=-7.65),
    ("within", "from scratch", "dreamer"): Claim(difference=-3.55),
    ("transfer", "unseen, channel intersection", "dreamer"): Claim(94.08),
    ("transfer", "unseen, channel union (UCS)", "dreamer"): Claim(93.05),
    ("ablation", "graph: GCN, distances", "deap"): Claim(difference=-22.19),
    ("ablation", "graph: none, mean", "deap"): Claim(difference=-16.44),
}
"""The claims by table, row and corpus. It is our reading that the GCN has edges by distance, that
the mean is taken where there is no GAT, and that the graph of the paper is given no coherency."""


@dataclass(frozen=True)
class Stage1:
    """A pre-training that rows start from.

    Attributes
    ----------
    corpora : tuple of str
        The corpora whose signals it learns from.
    encoder, resampling, spectral, bursts
        As in ``omfa.zoo.pretraining.settings.Settings``.
    channels : {"native", "intersection"}
        All channels, or those that every corpus of the grid has.
    """

    corpora: tuple[str, ...]
    encoder: str = "art"
    resampling: str = "rate"
    spectral: bool = True
    bursts: bool = True
    channels: str = "native"

    @property
    def architecture(self) -> dict[str, Any]:
        """What it changes of the encoder that is pre-trained by default."""
        names = ("encoder", "resampling", "spectral", "bursts")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """Return its name in folders, cards and tables."""
        kind = [self.encoder, self.resampling.replace("+", "_")]
        kind += [] if self.spectral else ["no_spectrum"]
        kind += [] if self.bursts else ["no_bursts"]
        kind += ["intersection"] if self.channels == "intersection" else []
        sources = "_".join(self.corpora)
        if len(sources) > _LONGEST:
            digest = hashlib.sha256(sources.encode()).hexdigest()[:8]
            sources = f"{len(self.corpora)}_corpora_{digest}"
        return "-".join([sources, *kind])


@dataclass(frozen=True)
class Row:
    """A row of a table, on one corpus.

    Attributes
    ----------
    table, name, dataset : str
        One of ``TABLES``, the row's name in it, and the corpus that is trained and tested on.
    model : str
        The model's name for ``evaluate``.
    stage1 : Stage1 or None
        The pre-training whose checkpoint the model starts from.
    parameters : mapping
        Parameters of the model beside those that all rows share.
    """

    table: str
    name: str
    dataset: str
    model: str = "omfa"
    stage1: Stage1 | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def claim(self) -> Claim | None:
        """What the paper states about it."""
        return PAPER.get((self.table, self.name, self.dataset))


def rows_of(
    table: str, corpora: Sequence[str], rates: Mapping[str, float] | None = None
) -> tuple[list[Row], list[str]]:
    """Return a table's rows, and what is left out because its corpus is not there.

    Parameters
    ----------
    table : str
        One of ``TABLES``.
    corpora : sequence of str
        The corpora whose stores are there.
    rates : mapping of str to float, optional
        The rate of each store in Hz, by corpus. By default they differ from the model's own.

    Returns
    -------
    rows : list of Row
        The first row on a corpus is the one that the others are compared with.
    missing : list of str
        A sentence for each thing that is left out.
    """
    # In the paper's order, whatever the stores': pre-trainings are named, and found, by it.
    known = tuple(name for name in CORPORA if name in corpora)
    rows, missing = _ROWS[table]((*known, *(name for name in corpora if name not in known)))
    if rates is not None and all(rates[name] == F0 for name in corpora):
        kept = [row for row in rows if row.name != RESAMPLING["off"]]
        if len(kept) < len(rows):
            missing.append(
                f"{table}: no row without resampling, for all stores have the model's own rate of "
                f"{F0:g} Hz, at which it is the same as resampling; ingest at the sources' rates "
                "(omfa-ingest --sfreq none)"
            )
        rows = kept
    datasets = dict.fromkeys(row.dataset for row in rows)
    rows += [Row(table, name, dataset, model=name) for dataset in datasets for name in BASELINES]
    return rows, missing


def control_of(row: Row, rows: Iterable[Row]) -> str:
    """Return the name of the row of random weights that a pre-trained one is matched with.

    It is of the same table, corpus, recipe and architecture; empty where none is, as for the
    encoders that an ablation tries.
    """
    made = Stage1(()) if row.stage1 is None else row.stage1
    alike = made.architecture == Stage1(()).architecture
    for other in rows if alike else ():
        same = (other.table, other.dataset) == (row.table, row.dataset)
        if same and other.model == RANDOM and _recipe(other) == _recipe(row):
            return other.name
    return ""


def _recipe(row: Row) -> dict[str, Any]:
    """Return a row's parameters, with the graph that it has where it names none."""
    return {"head": OmfaSettings.head, **row.parameters}


def _not_given(table: str, what: str, corpora: Sequence[str]) -> list[str]:
    """Say which of the paper's corpora is missing, where the others are its own."""
    gone = [name for name in CORPORA if name not in corpora] if set(corpora) <= {*CORPORA} else []
    return [f"{table}: {what} {', '.join(gone)}, whose store is not given"] if gone else []


def _controls(table: str, dataset: str, **parameters: Any) -> list[Row]:
    """Return the rows without which no table shows what pre-training is worth."""
    return [
        Row(table, "random weights, same recipe", dataset, RANDOM, parameters=parameters),
        Row(table, "from scratch", dataset, SCRATCH, parameters=parameters),
    ]


def _within(corpora: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    rows = []
    for name in corpora:
        rows.append(Row("within", "pre-trained", name, stage1=Stage1(corpora)))
        rows += _controls("within", name)
    return rows, _not_given("within", "no rows on", corpora)


def _transfer(corpora: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Return the rows on the paper's unseen corpus, or, among other corpora, on each in turn."""
    papers = set(corpora) <= set(CORPORA)
    if len(corpora) < 2 and not papers:
        return [], ["transfer: left out, for it takes the stores of two corpora or more"]
    if papers and (UNSEEN not in corpora or len(corpora) < 2):
        return [], [f"transfer: left out, for it takes the store of {UNSEEN} and of another corpus"]
    rows = []
    for unseen in (UNSEEN,) if papers else corpora:
        others = tuple(name for name in corpora if name != unseen)
        common = Stage1(others, channels="intersection")
        rows += [
            Row("transfer", "unseen, channel union (UCS)", unseen, stage1=Stage1(others)),
            Row("transfer", "unseen, channel intersection", unseen, stage1=common),
            Row("transfer", "seen, with the others", unseen, stage1=Stage1(corpora)),
            Row("transfer", "seen alone", unseen, stage1=Stage1((unseen,))),
            *_controls("transfer", unseen),
        ]
    return rows, _not_given("transfer", "pre-trained without", corpora)


def _sources(corpora: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Return for each corpus what pre-training on each of the others is worth to it."""
    if len(corpora) < 2:
        return [], ["sources: left out, for it takes the stores of two corpora or more"]
    rows = []
    for dataset in corpora:
        others = tuple(name for name in corpora if name != dataset)
        for name in dict.fromkeys([others, *((other,) for other in others)]):
            source = "all others" if name == others else name[0]
            rows.append(Row("sources", f"from {source}", dataset, stage1=Stage1(name)))
        rows.append(Row("sources", "from itself", dataset, stage1=Stage1((dataset,))))
        rows += _controls("sources", dataset)
    return rows, []


def _graphs(table: str, stage1: Stage1, *, connectivity: bool) -> list[Row]:
    """Return a row for each graph and the controls, all with coherency or all without."""
    shared = {"connectivity": connectivity}
    return [
        Row(table, f"graph: {name}", ABLATED, "omfa", stage1, {"head": head, **shared})
        for head, name in GRAPHS.items()
    ] + _controls(table, ABLATED, **shared)


def _ablation(corpora: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Return what is compared with the paper's own model, whose graph has no coherency."""
    if ABLATED not in corpora:
        return [], [f"ablation: left out, for it takes the store of {ABLATED}"]
    every = Stage1(corpora)
    rows = _graphs("ablation", every, connectivity=False)
    others = {
        "encoder: ART without its path of the spectrum": replace(every, spectral=False),
        "encoder: ART without its path of bursts": replace(every, bursts=False),
        "encoder: ART without rotary positions": replace(every, encoder="art_no_rotary"),
        "encoder: patches": replace(every, encoder="patch"),
        "encoder: convolutions": replace(every, encoder="cnn"),
    }
    # Of the paper's own: subsets of a dozen corpora are thousands.
    for sources in _subsets(tuple(name for name in corpora if name in CORPORA)):
        others[f"pre-trained on {'+'.join(sources)}"] = replace(every, corpora=sources)
    for name, stage1 in others.items():
        shared = {"head": "gat", "connectivity": False}
        rows.append(Row("ablation", name, ABLATED, "omfa", stage1, shared))
    return rows, _not_given("ablation", "no pre-training on", corpora)


def _coherency(corpora: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Return the graphs with coherency, in a table of their own: differences are like for like."""
    if ABLATED not in corpora:
        return [], [f"coherency: left out, for it takes the store of {ABLATED}"]
    every = Stage1(corpora)
    rows = _graphs("coherency", every, connectivity=True)
    # It reads no encoder, and so starts from none.
    alone = {"head": COHERENCY, "connectivity": True}
    rows.append(Row("coherency", "coherency alone", ABLATED, SCRATCH, parameters=alone))
    without = {"head": "gat", "connectivity": False}
    rows.append(Row("coherency", "GAT without coherency", ABLATED, "omfa", every, without))
    return rows, []


def _resampling(corpora: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    every = Stage1(corpora)
    rows = [
        Row("resampling", name, dataset, stage1=replace(every, resampling=mode))
        for dataset in corpora
        for mode, name in RESAMPLING.items()
    ]
    for dataset in corpora:
        rows += _controls("resampling", dataset)
    return rows, _not_given("resampling", "no rows on", corpora)


_ROWS = {
    "within": _within,
    "transfer": _transfer,
    "ablation": _ablation,
    "coherency": _coherency,
    "resampling": _resampling,
    "sources": _sources,
}


def _subsets(corpora: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the proper subsets, the smallest first."""
    for size in range(1, len(corpora)):
        yield from combinations(corpora, size)
