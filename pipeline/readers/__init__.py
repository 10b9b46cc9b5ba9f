"""One file per source of recordings, found by name."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.recording import Reader
from omfa.pipeline.words import nearest

READERS = {
    "seed": "omfa.pipeline.readers.corpora.seed:SeedReader",
    "seed-iv": "omfa.pipeline.readers.corpora.seed_iv:SeedIVReader",
    "seed-v": "omfa.pipeline.readers.corpora.seed_v:SeedVReader",
    "seed-vii": "omfa.pipeline.readers.corpora.seed_vii:SeedVIIReader",
    "deap": "omfa.pipeline.readers.corpora.deap:DeapReader",
    "dreamer": "omfa.pipeline.readers.corpora.dreamer:DreamerReader",
    "faced": "omfa.pipeline.readers.corpora.faced:FacedReader",
    "mahnob-hci": "omfa.pipeline.readers.corpora.mahnob_hci:MahnobHciReader",
    "amigos": "omfa.pipeline.readers.corpora.amigos:AmigosReader",
    "eav": "omfa.pipeline.readers.corpora.eav:EavReader",
    "thu-ep": "omfa.pipeline.readers.corpora.thu_ep:ThuEpReader",
    "bids": "omfa.pipeline.readers.bids:BidsReader",
    "files": "omfa.pipeline.readers.files:FilesReader",
    "moabb": "omfa.pipeline.readers.moabb_datasets:MoabbReader",
}
"""The readers that come with omfa; imported when asked for."""

UNNAMED = ("files", "bids", "moabb")
"""The readers of anybody's data, whose names are no dataset's own."""

ENTRY_POINTS = "omfa.readers"
"""The group in which another package registers a reader: ``name = "package.module:Class"``."""


def reader_names() -> list[str]:
    """List every reader that ``get_reader`` finds: omfa's own, then those of other packages."""
    others = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    return [*READERS, *sorted(others - set(READERS))]


def get_reader(source: str, /, **options: Any) -> Reader:
    """Make the reader of a source.

    Parameters
    ----------
    source : str
        One of ``reader_names()``.
    **options
        The reader's own fields.

    Raises
    ------
    DataError
        If there is no such reader, two packages register the name, or the reader lacks an option.
    """
    made = reader_class(source)
    if unknown := sorted(set(options) - set(known := reader_options(made))):
        each = ", ".join(f"{name}{nearest(name, known)}" for name in unknown)
        raise DataError(
            f"Making the reader {source!r}",
            f"it has no option {each}; it has {', '.join(known) or 'none'}",
            "Leave the option out, or spell it as listed",
        )
    return made(**options)


def reader_class(name: str) -> type[Reader]:
    """Import the class of a source's reader.

    Raises
    ------
    DataError
        If there is no such reader, or two packages register the name.
    """
    targets = {entry.value for entry in entry_points(group=ENTRY_POINTS) if entry.name == name}
    if name in READERS:
        targets.add(READERS[name])
    if not targets:
        raise DataError(
            f"Finding the reader {name!r}",
            f"there is none of that name{nearest(name, reader_names())}; "
            f"there are {', '.join(reader_names())}",
            "Choose one of them, or install the package that registers it",
        )
    if len(targets) > 1:
        raise DataError(
            f"Finding the reader {name!r}",
            f"it is registered twice: {', '.join(sorted(targets))}",
            "Uninstall one of the packages, or make the reader's object yourself",
        )
    module, _, attribute = targets.pop().partition(":")
    found: type[Reader] = getattr(import_module(module), attribute)
    return found


def reader_options(made: type) -> list[str]:
    """List the fields of a reader that a user may set."""
    fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
    return [field.name for field in fields if field.init]
