"""What the benchmark measures, as data: public datasets, the stores made of them, the tasks.

In the tasks that count every class occurs many times within every recording, so that a model
cannot tell classes by recognising recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PHYSIONET = "Goldberger et al., Circulation 2000;101(23):e215-e220"


@dataclass(frozen=True)
class Source:
    """A public dataset.

    Attributes
    ----------
    name : str
        What its stores are called, and what ``HELD_OUT`` calls it.
    title, licence, citation, url : str
    files : str
        What a folder of it holds.
    """

    name: str
    title: str
    licence: str
    citation: str
    url: str
    files: str


SOURCES = {
    source.name: source
    for source in (
        Source(
            "eegmmidb",
            "EEG Motor Movement/Imagery Dataset 1.0.0",
            "ODC-BY 1.0",
            f"Schalk et al., IEEE TBME 2004;51(6):1034-1043; {PHYSIONET}",
            "https://physionet.org/content/eegmmidb/1.0.0/",
            "S001R01.edf to S109R14.edf, in folders or not",
        ),
        Source(
            "ssvep",
            "SSVEP-based exoskeleton control, 12 people",
            "CC0 1.0",
            "Kalunga et al., Neurocomputing 2016;191:55-68",
            "https://github.com/sylvchev/dataset-ssvep-exoskeleton",
            "S01_1.edf to S12_3.edf: the authors' FIF files as EDF, with an annotation of 5 s "
            "(rest, 13, 17, 21) for each trial",
        ),
        Source(
            "eegmat",
            "EEG During Mental Arithmetic Tasks 1.0.0",
            "ODC-BY 1.0",
            f"Zyma et al., Data 2019;4(1):14; {PHYSIONET}",
            "https://physionet.org/content/eegmat/1.0.0/",
            "Subject00_1.edf to Subject35_2.edf",
        ),
    )
}


@dataclass(frozen=True)
class Recordings:
    """A store: which files of a dataset, and where their labels come from.

    Attributes
    ----------
    name : str
        The store's name without ``.zarr``.
    source : str
        The dataset.
    label : str
        The label that it has; a store of the dataset with this label is taken for it.
    reader : mapping
        Options of ``FilesReader``.
    """

    name: str
    source: str
    label: str
    reader: Mapping[str, object] = field(default_factory=dict)


# The 60 people on whom the split was made; the dataset has 109.
_PEOPLE = "|".join(f"{number:03d}" for number in range(1, 61))

RECORDINGS = {
    recordings.name: recordings
    for recordings in (
        Recordings(
            "fists",
            "eegmmidb",
            "event",
            {
                "pattern": f"S{{subject:{_PEOPLE}}}R{{run:04|08|12}}.edf",
                "events": {"T0": "rest", "T1": "left", "T2": "right"},
            },
        ),
        Recordings(
            "eyes",
            "eegmmidb",
            "condition",
            {"pattern": f"S{{subject:{_PEOPLE}}}R{{condition:01|02}}.edf"},
        ),
        Recordings(
            "ssvep",
            "ssvep",
            "event",
            {"pattern": "S{subject}_{run}.edf", "labels_from": "annotations"},
        ),
        Recordings(
            "eegmat", "eegmat", "condition", {"pattern": "Subject{subject}_{condition}.edf"}
        ),
    )
}


@dataclass(frozen=True)
class Task:
    """What is told apart, in which recordings.

    Attributes
    ----------
    name, title : str
    recordings : str
        The store.
    target : str
        The rule that makes the classes.
    window_seconds : float
    counts : bool
        Whether it is in the one test over tasks and people.
    warning : str
        What a reader of its figures has to know.
    """

    name: str
    title: str
    recordings: str
    target: str
    window_seconds: float = 4.0
    counts: bool = True
    warning: str = ""

    @property
    def source(self) -> str:
        """The dataset."""
        return RECORDINGS[self.recordings].source


_A_RECORDING_EACH = (
    "Each class is one recording of a person, so this measures recordings as well as states: two "
    "clusters without any label may part them. It is not in the test over tasks."
)

TASKS = {
    task.name: task
    for task in (
        Task("fists", "Imagined fist against rest", "fists", "event:left|right=fist,rest"),
        Task("sides", "Imagined left against right fist", "fists", "event:left,right"),
        Task("flicker", "Which flicker is attended to, Hz", "ssvep", "event:rest,13,17,21"),
        Task(
            "eyes",
            "Eyes open against closed",
            "eyes",
            "condition:01=open,02=closed",
            counts=False,
            warning=_A_RECORDING_EACH,
        ),
        Task(
            "arithmetic",
            "Rest against mental arithmetic",
            "eegmat",
            "condition:1=rest,2=arithmetic",
            # As in the earlier tables of this task.
            window_seconds=10.0,
            counts=False,
            warning=_A_RECORDING_EACH,
        ),
    )
}
