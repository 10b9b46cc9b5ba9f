"""What becomes of the recordings in a run, and errors of every kind in words."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

from omfa.pipeline.cluster import WorkerLost
from omfa.pipeline.errors import DataError
from omfa.pipeline.location import Location
from omfa.pipeline.recording import Key


@dataclass(frozen=True)
class Outcome:
    """What became of one recording in a run.

    Attributes
    ----------
    recording : str
    status : {"stored", "kept", "failed"}
    reason : str
        Why it had to be made: ``missing``, ``damaged``, ``source changed``...; or the error.
    bytes_in : int
        Size of its source files; a file's share where it holds several recordings.
    warnings : tuple of str

    Examples
    --------
    >>> from omfa.pipeline import ingest
    >>> again = ingest("dreamer", "DREAMER", "dreamer.zarr", serial=True, progress=False)
    >>> again.outcomes[0].status
    'kept'
    """

    recording: str
    status: Literal["stored", "kept", "failed"]
    reason: str = ""
    bytes_in: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    store : str
        The store's address.
    outcomes : tuple of Outcome
        One per recording of the source, in order.
    seconds : float
        Wall time.
    notes : tuple of str
        What is so of the source as a whole: files that were left out, recordings of the store whose
        files are gone.

    Examples
    --------
    >>> from omfa.pipeline import ingest
    >>> summary = ingest("dreamer", "DREAMER", "dreamer.zarr", serial=True, progress=False)
    >>> [outcome.status for outcome in summary.outcomes]
    ['kept', 'kept']
    """

    store: str
    outcomes: tuple[Outcome, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def having(self, status: str) -> list[Outcome]:
        """Return the outcomes with a status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def complete(self) -> bool:
        """Whether every recording is in the store."""
        return not self.having("failed")


def failed(key: Key, error: Exception, location: Location, bytes_in: int = 0) -> Outcome:
    """Return the outcome of a recording whose processing or writing raised an error.

    Parameters
    ----------
    key : Key
    error : Exception
    location : Location
        Where the store is.
    bytes_in : int
        Size of the source files.
    """
    return Outcome(key.recording, "failed", _explain(key, error, location), bytes_in)


def _explain(key: Key, error: Exception, location: Location) -> str:
    """Return what went wrong, as a sentence of three parts."""
    doing = f"Ingesting {key}"
    match error:
        case DataError():
            return str(error)
        case MemoryError():
            return str(
                DataError(doing, "there was not enough memory", "Use fewer --workers or --serial")
            )
        case WorkerLost(times=1):
            return str(
                DataError(
                    doing,
                    "the process that read it died, of what is in the file or for want of memory",
                    "Get the file again, or leave it out",
                )
            )
        case WorkerLost(memory_limit=limit):
            within = f" (limit {limit / 1e9:.1f} GB)" if limit else ""
            return str(
                DataError(
                    doing,
                    f"the worker that had it died twice, most often for want of memory{within}",
                    "Use fewer --workers, a higher --memory-limit, or --serial",
                )
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return str(
                DataError(
                    f"Writing {key.recording} to {location.address}",
                    f"the disk is full ({error.strerror})",
                    "Free some space and run the same command again; what is stored stays",
                )
            )
        case PermissionError():
            return str(
                DataError(
                    doing,
                    f"there is no permission for {error.filename}",
                    "Change the permissions and run the same command again",
                )
            )
        case _:
            return str(
                DataError(
                    doing,
                    f"{type(error).__name__}: {error}",
                    "Compare the file with the source's own copy; if it is whole, report this",
                )
            )
