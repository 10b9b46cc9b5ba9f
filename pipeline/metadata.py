"""What a store's metadata say: its root with the list of recordings, and each recording's own.

The root's list is a cache that is compared with the folders present at every opening: what is there
decides, not the list. Metadata are sealed by a digest of themselves.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from omfa.pipeline.channels import UCS, UCS_VERSION, CerebellarRule
from omfa.pipeline.encoding import FORMAT, METADATA, digest, to_json
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Location, being_written
from omfa.pipeline.words import some

SHOWN = (
    dict.fromkeys(("subject", "session", "run"), str)
    | {"sfreq": float}
    | dict.fromkeys(("n_chans", "n_times", "n_trials"), int)
    | dict.fromkeys(("labels", "channels", "bad_channels"), list)
)
"""What the root's list shows of a recording, by the type that JSON has for it."""

_NAMES = frozenset(UCS.names)

LONGEST = 1 << 26
"""Bytes of metadata: a recording's or a root's row has about a thousand, a chunk's checksum 80."""

UNFINISHED = "a run began to write it and has not finished"
"""What is wrong with a recording that is still being written."""


class UnreadableRoot(ValueError):
    """The root's metadata are there and cannot be read: they are empty, cut or damaged."""


@dataclass(frozen=True)
class Root:
    """What the root's metadata say.

    Attributes
    ----------
    settings : dict
        How the store was made, with the list of its recordings.
    found : str
        What is wrong with the metadata; empty if they are as written.
    """

    settings: dict[str, Any]
    found: str


def read_root(location: Location) -> Root | None:
    """Return the root's metadata, or None where there is no store.

    Raises
    ------
    UnreadableRoot
        If there is a file and it holds no metadata.
    DataError
        If the folder holds something else, another format, or another channel schema version.
    """
    doing = f"Opening {location.address}"
    try:
        document = json.loads(location.read(METADATA, LONGEST))
        attributes = document["attributes"]
        settings = attributes.get("omfa")
    except FileNotFoundError:
        return None
    except (
        *(OSError, ValueError, LookupError, TypeError, AttributeError),
        RecursionError,
    ) as error:
        raise UnreadableRoot(f"its {METADATA} cannot be read ({error or 'it is empty'})") from error
    if not isinstance(settings, dict):
        raise DataError(
            doing,
            "it is a Zarr group that omfa did not write",
            "Choose another folder for the store",
        )
    for what, theirs, ours in (
        ("format", settings.get("format"), FORMAT),
        ("channel schema version", settings.get("ucs_version"), UCS_VERSION),
    ):
        if theirs != ours:
            raise DataError(
                doing,
                f"it was written with {what} {theirs}, this omfa reads {ours}",
                "Ingest it again with --rewrite, or install the omfa that wrote it",
            )
    if written := attributes.pop("digest", ""):
        whole = digest(document) == written
    else:  # written by an earlier omfa
        chosen = {name: value for name, value in settings.items() if name not in _NOT_SETTINGS}
        whole = digest(chosen) == settings.get("settings_digest")
    if not _is_settings(settings):
        raise UnreadableRoot(f"its {METADATA} has none of the settings that omfa writes")
    listed = settings.setdefault("recordings", {})
    if not isinstance(listed, dict) or not all(map(_is_row, listed.values())):
        settings["recordings"] = {}
        return Root(settings, "lists recordings as omfa does not")
    if whole and not all(set(row["channels"]) <= _NAMES for row in listed.values()):
        settings["recordings"] = {}
        return Root(settings, "lists channels that are not in the channel schema")
    return Root(settings, "" if whole else "was changed")


def _is_settings(settings: Mapping[str, Any]) -> bool:
    rules = settings.get("channels")
    return (
        all(isinstance(settings.get(name), str) for name in ("source", "settings_digest"))
        and isinstance(settings.get("reader", {}), dict)
        and isinstance(settings.get("failures", {}), dict)
        and isinstance(rules, dict)
        and rules.get("cerebellar") in get_args(CerebellarRule)
        and isinstance(aliases := rules.get("aliases"), dict)
        and all(isinstance(name, str) for name in aliases.values())
    )


_NOT_SETTINGS = ("settings_digest", "software", "recordings", "failures")


def root_damage(location: Location) -> str:
    """Return what is wrong with the root's metadata; empty if they are as written."""
    try:
        root = read_root(location)
    except ValueError as error:
        return str(error)
    if root is None:
        return "is missing"
    return root.found or misread(location, root.settings["recordings"])


def misread(location: Location, listed: Mapping[str, Any]) -> str:
    """Return which recording the root lists otherwise than its own metadata are; empty if none."""
    for name, row in listed.items():
        try:
            document, found = sealed(location, name)
        except OSError:
            continue
        if not found and _as_row(document) != row:
            return f"lists {name} otherwise than it is"
    return ""


def read_metadata(location: Location, recording: str) -> Any:
    """Return the document of a recording's metadata.

    Raises
    ------
    OSError, ValueError, RecursionError
        If there is none, or it is no JSON.
    """
    return json.loads(location.read(f"{recording}/{METADATA}", LONGEST))


def listed_row(location: Location, recording: str) -> dict[str, Any] | None:
    """Return the listing of a recording from its own metadata; None if it was never committed."""
    try:
        return _as_row(read_metadata(location, recording))
    except (OSError, ValueError, RecursionError):
        return None


def is_strange(location: Location, folder: str) -> bool:
    """Return whether a folder has metadata, of nobody who is still writing, and is no recording."""
    try:
        document = read_metadata(location, folder)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return True
    return not being_written(document) and _as_row(document) is None


def _as_row(document: Any) -> dict[str, Any] | None:
    """Return how the root lists a recording of these metadata; None if they are none of omfa's."""
    try:
        attrs = document["attributes"]
        row = {name: attrs[name] for name in SHOWN} | {
            "bytes_out": attrs["bytes"],
            "settings_digest": attrs["settings_digest"],
        }
    except (LookupError, TypeError):
        return None
    return row if _is_row(row) and set(row["channels"]) <= _NAMES else None


def _is_row(row: Any) -> bool:
    kinds = SHOWN | {"bytes_out": int, "settings_digest": str}
    return (
        isinstance(row, dict)
        and row.keys() == kinds.keys()
        and all(
            isinstance(row[name], kind) or (kind is float and isinstance(row[name], int))
            for name, kind in kinds.items()
        )
        and all(isinstance(x, str) for name in ("labels", "channels") for x in row[name])
    )


def write_root(
    location: Location, settings: Mapping[str, Any], *, leave_out: Collection[str] = ()
) -> None:
    """Write the root's metadata with a fresh list of the recordings that are there.

    Parameters
    ----------
    location : Location
    settings : mapping
        How the store is made.
    leave_out : collection of str
        Recordings not to list: those that are about to be replaced.
    """
    names = [name for name in location.folders() if name not in leave_out]
    rows = {name: row for name in names if (row := listed_row(location, name))}
    content = _root(settings, rows)
    try:
        if location.read(METADATA, LONGEST) == content:
            return  # a store that is whole can be of a disk that nobody may write
    except OSError:
        pass
    location.write(METADATA, content)


def settings_digests(location: Location) -> dict[str, str]:
    """Return, for each recording that is there, the digest of the settings it was made with."""
    rows = {name: listed_row(location, name) for name in location.folders()}
    return {name: row["settings_digest"] for name, row in rows.items() if row}


def is_store(location: Location) -> bool:
    """Return whether omfa, of any version, wrote what is there."""
    try:
        return "omfa" in json.loads(location.read(METADATA, LONGEST))["attributes"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def create(location: Location, settings: Mapping[str, Any]) -> bool:
    """Write the root of a new store; return False if there is one already."""
    return location.create(METADATA, _root(settings, {}))


def _root(settings: Mapping[str, Any], rows: Mapping[str, Any]) -> bytes:
    attributes: dict[str, Any] = {"omfa": {**settings, "recordings": rows}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    attributes["digest"] = digest(document)
    return to_json(document)


def sealed(location: Location, recording: str) -> tuple[dict[str, Any], str]:
    """Return a recording's metadata, and what is wrong with them."""
    try:
        document = read_metadata(location, recording)
        if being_written(document):
            return document, UNFINISHED
        attrs = document["attributes"]
        written, named = attrs["digest"], attrs["recording"]
        unsealed = {k: v for k, v in attrs.items() if k != "digest"}
        whole = digest({**document, "attributes": unsealed}) == written
        outside = [n for n, _ in attrs["checksums"].items() if not _is_inside(n)]
    except FileNotFoundError:
        return {}, f"{METADATA} is missing"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return {}, f"{METADATA} cannot be read ({error})"
    if not whole:
        return document, f"{METADATA} was changed"
    if outside:
        return document, f"its {METADATA} names a file outside of it ({some(outside)})"
    if named != recording:
        return document, f"it is {named} under another name"
    return document, ""


def _is_inside(name: str) -> bool:
    """Return whether a relative name stays in its folder; ``../../dev/zero`` never ends."""
    return not name.startswith("/") and ".." not in name.split("/")
