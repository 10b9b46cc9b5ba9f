"""The datasets of MOABB, by the name of their class.

Aristimunha et al., Mother of All BCI Benchmarks, doi:10.5281/zenodo.10034223. MOABB downloads,
names the sessions and runs, and finds the trials; the recordings come out as MOABB gives them,
before any of its own filtering.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.channel_types import ChannelRules
from omfa.pipeline.readers.events import annotation_events
from omfa.pipeline.readers.raw import to_recording
from omfa.pipeline.readers.tables import Pairs, pairs, plain
from omfa.pipeline.recording import Key, Recording
from omfa.pipeline.words import nearest, some

if TYPE_CHECKING:
    import mne
    from moabb.datasets.base import BaseDataset


@dataclass(frozen=True)
class MoabbReader:
    """Reads a MOABB dataset, one recording per subject, session and run.

    What other sources call a folder is here the name of the dataset's class. Listing the
    recordings loads every subject once, and downloads it if it is not there: MOABB knows a
    subject's sessions and runs only then. A trial is the interval that the dataset declares, its
    label the column ``event``.

    Attributes
    ----------
    dataset : moabb.datasets.base.BaseDataset or None
        A dataset that is no class of MOABB's, or is made already; it stands for the name.
    arguments : mapping
        What the dataset's class is made with: ``{"subjects": "[1, 2]"}``; text is read as a
        Python literal.
    not_eeg : tuple of str
        Channels to keep apart from the EEG, as names or patterns.
    name : str
        What the store calls the data, in place of the name of the dataset's class. Datasets opened
        together need names that differ.
    eeg : tuple of str
        Channels that are EEG whatever type they are given, as names or patterns.
    ignore_positions : bool
        Take no measured positions.
    """

    dataset: Any = None
    arguments: Pairs = ()
    not_eeg: tuple[str, ...] = ()
    name: str = "moabb"
    eeg: tuple[str, ...] = field(default=(), metadata={"quiet": True})
    ignore_positions: bool = field(default=False, metadata={"quiet": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", pairs(self.arguments))

    def discover(self, root: str | Path) -> list[Key]:
        """List the recordings of a dataset.

        Parameters
        ----------
        root : str
            The name of the dataset's class.

        Raises
        ------
        DataError
            If MOABB has no such dataset, or cannot load it.
        """
        dataset = self._dataset(str(root))
        keys = [
            _key(dataset, subject, session, run, str(root))
            for subject in dataset.subject_list
            for session, runs in _load(dataset, subject).items()
            for run in runs
        ]
        names = {plain(str(subject)): str(subject) for subject in reversed(dataset.subject_list)}
        if len(names) < len(set(dataset.subject_list)):
            raise DataError(
                f"moabb reader: {dataset.code}",
                "two of its subjects would have one name, since names keep letters and digits only "
                f"({some(map(str, dataset.subject_list), 6)})",
                "Take one of them only, by --arguments subjects=...",
            )
        return sorted(keys)

    def title(self, root: str | Path) -> str | None:
        """Return the name of the dataset's class in lower case, unless there is a ``name``."""
        if self.name != type(self).name:
            return None
        return str(root).lower().replace("_", "-")

    def read(self, key: Key) -> Recording:
        """Read one recording.

        Raises
        ------
        DataError
            If MOABB cannot load it, or it has no trials.
        """
        ((_, found),) = self.read_each([key])
        if isinstance(found, DataError):
            raise found
        return found

    def read_each(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Recording | DataError]]:
        """Read recordings, each subject loaded once."""
        dataset = self._dataset(keys[0].root)
        subjects = {plain(str(subject)): subject for subject in dataset.subject_list}
        # Each once, in the keys' order: loading a subject may download it.
        for subject in dict.fromkeys(key.subject for key in keys):
            runs = _load(dataset, subjects[subject])
            for key in keys:
                if key.subject != subject:
                    continue
                try:
                    raw = runs[key.session][key.run]
                    yield key, self._recording(dataset, raw, key)
                except DataError as error:
                    yield key, error

    def _recording(self, dataset: BaseDataset, raw: mne.io.BaseRaw, key: Key) -> Recording:
        where = f"moabb reader: {dataset.code} {key.recording}"
        notes: list[str] = []
        events = annotation_events(
            raw, where=where, events={name: name for name in dataset.event_id}, notes=notes
        )
        return to_recording(
            raw,
            key,
            where=where,
            events=events,
            rules=ChannelRules(self.not_eeg, eeg=self.eeg, ignore_positions=self.ignore_positions),
            unit_factor=dataset.unit_factor,
            source={
                "dataset": dataset.code,
                "paradigm": dataset.paradigm,
                "interval": [float(at) for at in dataset.interval],
                **({"simulated": True} if _is_fake(dataset) else {}),
            },
            notes=notes,
        )

    def _dataset(self, name: str) -> BaseDataset:
        if self.dataset is not None:
            return self.dataset
        with _quiet():
            import moabb.datasets  # takes seconds to import, and needs an extra
            import moabb.datasets.fake
            from moabb.datasets.base import BaseDataset

            places = (moabb.datasets, moabb.datasets.fake)
            known = {
                found.__name__: found
                for place in places
                for found in vars(place).values()
                if isinstance(found, type)
                and issubclass(found, BaseDataset)
                and not inspect.isabstract(found)
            }
            if name not in known:
                raise DataError(
                    f"moabb reader: {name}",
                    f"MOABB has no dataset of that name{nearest(name, known)}",
                    "Give the name of its class, such as 'BNCI2014_001'",
                )
            try:
                return known[name](**{k: _literal(v) for k, v in dict(self.arguments).items()})
            except TypeError as error:
                raise DataError(
                    f"moabb reader: {name}",
                    f"its class cannot be made so ({error})",
                    "Change --arguments",
                ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the warnings of MOABB and of MNE below it, which speak to their authors."""
    import mne

    with warnings.catch_warnings(), mne.utils.use_log_level("error"):
        warnings.simplefilter("ignore")
        yield


def _load(dataset: BaseDataset, subject: Any) -> dict[str, dict[str, mne.io.BaseRaw]]:
    """Return a subject's runs, by session and run."""
    where = f"moabb reader: {dataset.code} subject {subject}"
    try:
        with _quiet():
            sessions = dataset.get_data(subjects=[subject])[subject]
    except Exception as error:  # each dataset has its own code to download and parse
        raise DataError(
            where,
            f"MOABB cannot load it ({type(error).__name__}: {' '.join(str(error).split())[:300]})",
            "See that it can be downloaded from here, or choose other subjects by --arguments",
        ) from error
    return {
        session: _plainly(runs, "run", where)
        for session, runs in _plainly(sessions, "session", where).items()
    }


def _plainly(named: Mapping[Any, Any], what: str, where: str) -> dict[str, Any]:
    """Return a mapping with plain names, if they stay as many as they are."""
    found = {plain(str(name)): value for name, value in named.items()}
    if len(found) < len(named):
        raise DataError(
            where,
            f"two {what}s of {', '.join(map(str, named))} would have one name, since names keep "
            "letters and digits only",
            "Choose other subjects by --arguments",
        )
    return found


def _key(dataset: BaseDataset, subject: Any, session: str, run: str, root: str) -> Key:
    """Return a recording's key, with the subject's files where the dataset names them."""
    with _quiet():
        paths = dataset.data_path(subject) or []
    files = tuple(str(path) for path in paths if Path(path).is_file())
    return Key(subject=plain(str(subject)), session=session, run=run, files=files, root=root)


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _is_fake(dataset: BaseDataset) -> bool:
    """Return whether MOABB makes the signals up: its FakeDataset, or a class derived from it."""
    return any(kind.__module__ == "moabb.datasets.fake" for kind in type(dataset).__mro__)
