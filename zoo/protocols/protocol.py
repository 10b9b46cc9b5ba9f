"""How windows are divided into training, validation and test.

A window is never on its own: its neighbours in the trial look like it whatever the label is. Every
protocol but ``leaky-window`` therefore moves whole trials, and ``check_fold`` proves it for the
folds that are used, wherever they came from. Validation, on which a model is chosen, always comes
out of what is left after the test side is taken, and is as far from training as the protocol says.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest, some
from omfa.zoo.protocols.identity import Recorded, doubles, same

Rows = npt.NDArray[np.int64]
"""Positions of windows in the metadata."""

LEAKY = "leaky-window"

LEAKY_LABEL = "leaky-window (LEAKY: windows of one trial on both sides)"

# The columns that together name a subject, a session, ...: names repeat across datasets.
SUBJECT = ("dataset", "subject")
SESSION = (*SUBJECT, "session")
RECORDING = (*SESSION, "run")
TRIAL = (*RECORDING, "trial")
STIMULUS = ("dataset", "stimulus")

SIDES = ("train", "validation", "test")

CENTRED_BY = {"subject": SUBJECT, "session": SESSION}
"""The columns that name the group over which features are centred."""

_APART: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    # all: what no two sides share. test: what only the test side shares with neither of the others.
    LEAKY: {"all": (), "test": ()},
    "within-subject": {"all": (TRIAL,), "test": ()},
    "cross-session": {"all": (TRIAL,), "test": (SESSION,)},
    "cross-subject": {"all": (TRIAL, SUBJECT), "test": ()},
    "cross-subject-stimulus": {"all": (TRIAL, SUBJECT, STIMULUS), "test": ()},
    "cross-dataset": {"all": (TRIAL, SUBJECT), "test": (("dataset",),)},
}

PROTOCOLS = tuple(_APART)


@dataclass(frozen=True)
class Protocol:
    """A way to split, with its settings.

    Parameters
    ----------
    name : str
        One of ``PROTOCOLS``.
    n_folds : int or None, default=5
        Folds of windows, trials or subjects; None leaves one trial or one subject out at a time.
        ``cross-session`` and ``cross-dataset`` leave out one session and one dataset at a time.
    n_stimulus_folds : int, default=3
        ``cross-subject-stimulus``: groups of clips; every group of subjects meets every group of
        clips once, so there are ``n_folds * n_stimulus_folds`` folds.
    train_trials : int or None
        ``within-subject``: train on that many first trials of a session and test on the others, in
        place of folds.
    validation : float, default=0.2
        Share of the trials (``cross-subject*`` and ``cross-dataset``: of the subjects, and of the
        clips) outside the test side that is set apart for choosing a model.
    target_dataset : str or None
        ``cross-dataset``: test on this dataset alone; None tests on each in turn.
    skip : tuple of str
        Subjects or sessions to leave out, as ``"dataset/subject"`` or
        ``"dataset/subject/session"``.
    centred : {"subject", "session"} or None
        Give models the features of a window less their mean over all windows of its subject or
        session on the same side. No label is used, and nothing crosses a split; but what is
        predicted of a window then depends on the others of its subject, of all classes, which have
        to be there first. The label says so.
    consecutive : bool, default=False
        ``within-subject`` and ``cross-subject``: a fold is a block of trials or subjects that
        follow one another, the last with what is left over, in place of folds drawn with each
        class in all of them. Of the trials of each session where ``sessions`` are together.
    sessions : {"apart", "together"}
        ``within-subject``: a model for each session, or one for all of a subject's sessions.
    tested : tuple of str
        ``cross-subject``: test on these alone, as ``"dataset/subject"`` with ``*`` and ``?``; all
        others learn in every fold. For figures on subjects on whom nothing was chosen. Empty: all.
        With ``n_folds=1`` they are tested in one fold, and none of them learns.
    train_subjects : int or None
        ``cross-subject``: as many subjects, drawn anew for every fold, learn in place of all; those
        of a smaller number are among those of a larger one. For curves of few labels.
    seed : int, default=0
        Of the split; a model has its own, so that seeds of a model meet the same folds.

    Examples
    --------
    >>> from omfa.zoo import Protocol
    >>> Protocol("within-subject", n_folds=3).n_folds
    3
    """

    name: str
    n_folds: int | None = 5
    n_stimulus_folds: int = 3
    train_trials: int | None = None
    validation: float = 0.2
    target_dataset: str | None = None
    skip: tuple[str, ...] = ()
    centred: typing.Literal["subject", "session"] | None = None
    consecutive: bool = False
    sessions: typing.Literal["apart", "together"] = "apart"
    tested: tuple[str, ...] = ()
    train_subjects: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        # A result's JSON gives lists, and a protocol is hashed.
        object.__setattr__(self, "skip", tuple(self.skip))
        object.__setattr__(self, "tested", tuple(self.tested))
        doing = f"Choosing the protocol {self.name!r}"
        if self.name not in PROTOCOLS:
            found = f"there is none of that name{nearest(self.name, PROTOCOLS)}"
            raise DataError(doing, found, f"Use {', '.join(PROTOCOLS)}")
        # One fold is enough where only those named are tested: all others learn in it.
        fewest = 1 if self.tested else 2
        if (self.n_folds is not None and self.n_folds < fewest) or self.n_stimulus_folds < 2:
            raise DataError(
                doing,
                f"n_folds={self.n_folds}, n_stimulus_folds={self.n_stimulus_folds}",
                "Use two folds or more, or n_folds=None to leave one out",
            )
        if not 0 < self.validation < 1:
            raise DataError(
                doing, f"validation={self.validation}", "Use a share between 0 and 1: 0.2"
            )
        if self.train_trials is not None and self.name != "within-subject":
            raise DataError(
                doing, f"train_trials={self.train_trials}", "Use it with 'within-subject' only"
            )
        if self.tested and self.name != "cross-subject":
            raise DataError(
                doing, f"tested={', '.join(self.tested)}", "Use it with 'cross-subject' only"
            )
        if (few := self.train_subjects) is not None and (few < 2 or self.name != "cross-subject"):
            raise DataError(
                doing,
                f"train_subjects={few}",
                "Use it with 'cross-subject' only; give two subjects or more, for one of them is "
                "set apart for validation",
            )
        if self.consecutive and self.name not in ("within-subject", "cross-subject"):
            raise DataError(
                doing, "consecutive=True", "Use it with 'within-subject' or 'cross-subject' only"
            )
        if self.sessions not in ("apart", "together") or (
            self.sessions == "together" and self.name != "within-subject"
        ):
            raise DataError(
                doing,
                f"sessions={self.sessions!r}",
                "Use 'apart', or 'together' with 'within-subject' only",
            )
        if self.centred not in (None, *CENTRED_BY):
            raise DataError(
                doing, f"centred={self.centred!r}", f"Use {' or '.join(CENTRED_BY)}, or None"
            )
        if self.leaky and self.n_folds is None:
            raise DataError(doing, "n_folds=None", "Give a number of folds: 5")

    @property
    def leaky(self) -> bool:
        """Whether windows of one trial may be on both sides."""
        return self.name == LEAKY

    @property
    def label(self) -> str:
        """What every table and figure calls the protocol."""
        name = LEAKY_LABEL if self.leaky else self.name
        if self.train_trials is not None:
            name += f", trained on the first {self.train_trials} trials"
        if self.consecutive:
            name += ", folds in order"
        if self.sessions == "together":
            name += ", sessions together"
        if self.train_subjects is not None:
            name += f", trained on {self.train_subjects} subjects"
        if self.tested and self.n_folds == 1:
            name += ", trained on those who are not tested"
        if self.centred is None:
            return name
        return f"{name} (centred by {self.centred}: tested windows are known without labels)"

    def __str__(self) -> str:
        return self.label


PROTOCOL_PRESETS = {
    "seed-9-6": Protocol("within-subject", train_trials=9),
    "seed-iv-16-8": Protocol("within-subject", train_trials=16),
    "seed-v-thirds": Protocol("within-subject", n_folds=3, consecutive=True, sessions="together"),
    "seed-vii-quarters": Protocol(
        "within-subject", n_folds=4, consecutive=True, sessions="together"
    ),
    "deap-10-fold": Protocol("within-subject", n_folds=10),
    "faced-10-fold": Protocol("cross-subject", n_folds=10, consecutive=True),
    "leave-one-subject-out": Protocol("cross-subject", n_folds=None),
}
"""Protocols that the field knows under a name of their own; docs/evaluation.md says whose."""


def as_protocol(protocol: str | Protocol) -> Protocol:
    """Look a protocol or a preset up by name.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in (known := (*PROTOCOLS, *PROTOCOL_PRESETS)):
        raise DataError(
            f"Choosing the protocol {protocol!r}",
            f"there is none of that name{nearest(protocol, known)}",
            f"Use {', '.join(known)}",
        )
    return PROTOCOL_PRESETS.get(protocol) or Protocol(protocol)


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the windows; rows in none of the three sides are not used.

    Attributes
    ----------
    name : str
        What is tested: ``"deap/sub-01/ses-1/fold-0"``.
    train, validation, test : ndarray of int
        Positions in the metadata, ascending.

    Examples
    --------
    >>> from omfa.zoo import open_dataset, split
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> fold = split(data.metadata, data.y, "within-subject")[0]
    >>> fold.name
    'dreamer/sub-01/ses-1/fold-0'
    """

    name: str
    train: Rows
    validation: Rows
    test: Rows

    def side(self, name: str) -> Rows:
        """Return the rows of a side by its name."""
        return typing.cast(Rows, getattr(self, name))


def codes(metadata: pd.DataFrame, columns: Sequence[str]) -> Rows:
    """Give each row the number of its ``columns`` values, counted in order of first occurrence.

    A row that lacks one has -1.
    """
    unit = np.zeros(len(metadata), dtype=np.int64)
    known = np.ones(len(metadata), dtype=bool)
    for column in columns:
        code, values = pd.factorize(metadata[column])
        known &= code >= 0
        # Numbered anew at each column, so that the product never outgrows 64 bits.
        unit = pd.factorize(unit * len(values) + code)[0]
    unit[known] = pd.factorize(unit[known])[0]
    return np.where(known, unit, -1)


def shared(
    metadata: pd.DataFrame, left: Rows, right: Rows, columns: Sequence[str] = TRIAL
) -> list[tuple[str, ...]]:
    """List what two sides have in common: trials, or subjects, sessions, stimuli, datasets.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window.
    left, right : ndarray of int, shape (n_left,) and (n_right,)
        Positions of the two sides' windows.
    columns : sequence of str
        The columns that together name what may be shared; a trial's by default.

    Returns
    -------
    list of tuple of str
        The values of ``columns`` that occur on both sides.
    """
    both = metadata[list(columns)].iloc[np.concatenate([left, right])]
    unit = codes(both, columns)
    common = np.isin(unit[: len(left)], unit[len(left) :])
    # The usual answer, and a quick one: names are looked up only where they are to be shown.
    if not common.any():
        return []
    names = both.iloc[: len(left)][common].drop_duplicates().astype(str)
    return sorted(names.itertuples(index=False, name=None))


def shared_samples(metadata: pd.DataFrame, left: Rows, right: Rows) -> int:
    """Count the windows of ``right`` that share a sample of signal with a window of ``left``.

    Samples are counted from the start of the recording, so trials that overlap are noticed too.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window, with ``i_start_in_trial`` and ``i_stop_in_trial``.
    left, right : ndarray of int, shape (n_left,) and (n_right,)
        Positions of the two sides' windows.

    Returns
    -------
    int
        Windows of ``right``.
    """
    columns = [*RECORDING, "i_start_in_trial", "i_stop_in_trial"]
    both = metadata[columns].iloc[np.concatenate([left, right])]
    start = both["i_start_in_trial"].to_numpy(dtype=np.int64)
    stop = both["i_stop_in_trial"].to_numpy(dtype=np.int64)
    # All recordings are laid on one line, each in a stretch of its own: one sort serves all.
    offset = codes(both, RECORDING) * (stop.max(initial=0) + 1)
    start, stop, n = start + offset, stop + offset, len(left)
    # A window overlaps none if as many of left begin before its end as end by its start.
    begun = np.searchsorted(np.sort(start[:n]), stop[n:], side="left")
    ended = np.searchsorted(np.sort(stop[:n]), start[n:], side="right")
    return int((begun > ended).sum())


def recordings_of(metadata: pd.DataFrame, rows: Rows) -> set[str]:
    """Return the recordings that windows are of, as ``Recorded.name`` has them.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window.
    rows : ndarray of int
        The windows.
    """
    names = metadata[list(RECORDING)].iloc[rows].drop_duplicates().astype(str)
    return {f"{d}/{s}_{session}_{run}" for d, s, session, run in names.to_numpy()}


def check_fold(
    metadata: pd.DataFrame,
    fold: Fold,
    protocol: str | Protocol,
    recorded: Sequence[Recorded] = (),
) -> None:
    """Prove that the sides of a fold share nothing that the protocol keeps apart.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window.
    fold : Fold
        From ``split``, from a file, or made by hand.
    protocol : str or Protocol
    recorded : sequence of Recorded
        The dataset's recordings, whose digests find one that has two names.

    Raises
    ------
    DataError
        If a window is on two sides; if a trial, or a sample of overlapping windows, is, or the same
        recording under two names, and the protocol is not ``leaky-window``; if a session, subject,
        stimulus or dataset is that the protocol keeps apart.

    Examples
    --------
    >>> from omfa.zoo import check_fold, open_dataset, split
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> fold = split(data.metadata, data.y, "within-subject")[0]
    >>> check_fold(data.metadata, fold, "within-subject")  # no error: the sides share nothing
    """
    protocol = as_protocol(protocol)
    twins = [] if protocol.leaky else doubles(recorded)
    apart = _APART[protocol.name]
    for one, other in combinations(SIDES, 2):
        # Test is the last of SIDES, so it is `other` and never `one`.
        left, right = fold.side(one), fold.side(other)
        doing = f"Checking fold {fold.name!r} of {protocol}: {one} against {other}"
        if common := len(np.intersect1d(left, right)):
            raise DataError(doing, f"{common} windows are on both sides", "Make the folds anew")
        for columns in apart["all"] + (apart["test"] if other == "test" else ()):
            if both := shared(metadata, left, right, columns):
                raise DataError(
                    doing,
                    f"{len(both)} times the same {columns[-1]} on both sides, first "
                    f"{'/'.join(both[0])}",
                    f"Make folds with split(); only '{LEAKY}' lets windows of one trial part",
                )
        here, there = (recordings_of(metadata, rows) if twins else set() for rows in (left, right))
        renamed = [
            f"{a.name} and {b.name}"
            for a, b in twins
            if (a.name in here and b.name in there) or (b.name in here and a.name in there)
        ]
        if renamed:
            raise DataError(
                doing,
                f"{len(renamed)} recordings are on both sides under two names, by their digests: "
                f"{some(renamed)}",
                "Open each corpus once",
            )
        if not protocol.leaky and (n := shared_samples(metadata, left, right)):
            raise DataError(
                doing,
                f"{n} windows share samples of a recording with the other side",
                "Cut trials that do not overlap; i_start_in_trial and i_stop_in_trial count from "
                "the start of the recording",
            )


def describe_folds(metadata: pd.DataFrame, folds: Sequence[Fold], y: Rows) -> pd.DataFrame:
    """Count what is on each side of each fold, before anything is trained.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window.
    folds : sequence of Fold
    y : ndarray of int, shape (n_windows,)
        Classes; -1 for windows that are left out.

    Returns
    -------
    pandas.DataFrame
        A row per fold and side: subjects, trials, windows, windows of each class, and how many
        test windows share a trial and a sample with training (all 0 but for ``leaky-window``).
    """
    trial, subject = codes(metadata, TRIAL), codes(metadata, SUBJECT)
    rows = []
    for fold in folds:
        for side in SIDES:
            here = fold.side(side)
            other = fold.train if side != "train" else np.empty(0, dtype=np.int64)
            rows.append(
                {
                    "fold": fold.name,
                    "side": side,
                    "subjects": len(np.unique(subject[here])),
                    "trials": len(np.unique(trial[here])),
                    "windows": len(here),
                    "windows_by_class": "/".join(map(str, np.bincount(y[here], minlength=2))),
                    "trial_in_training": int(np.isin(trial[here], trial[other]).sum()),
                    "samples_in_training": shared_samples(metadata, other, here),
                }
            )
    return pd.DataFrame(rows)


Kind = typing.Literal["none", "inductive", "transductive", "dataset held out", "unknown"]


@dataclass(frozen=True)
class Pretraining:
    """What a model's pre-training saw.

    Parameters
    ----------
    kind : {"none", "inductive", "transductive", "dataset held out", "unknown"}
        ``inductive``: nothing of the test side; ``transductive``: test signals without labels;
        ``dataset held out``: nothing of the datasets that are tested; ``unknown``: weights whose
        source does not say.
    seen : tuple of str
        ``"dataset/subject"`` of everybody whose signals were used, or ``"dataset"`` for all of
        it. Checked against the test sides, so a claim that does not hold is refused.
    recordings : tuple of str
        Those that were used, with their digests, as ``str`` of ``Recorded``. Checked likewise:
        people are found under another name too.
    compared : {"names", "digests"}
        What a claim of a checkpoint rests on: the digests of everybody's recordings, or names
        alone for some, who would not be found under another name.

    Examples
    --------
    >>> from omfa.zoo import Pretraining
    >>> Pretraining("dataset held out", seen=("seed", "deap")).kind
    'dataset held out'
    """

    kind: Kind = "none"
    seen: tuple[str, ...] = field(default=())
    recordings: tuple[str, ...] = field(default=())
    compared: typing.Literal["names", "digests"] = "names"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", tuple(self.seen))
        object.__setattr__(self, "recordings", tuple(self.recordings))
        kinds = typing.get_args(Kind)
        if self.kind not in kinds:
            raise DataError(
                "Saying what pre-training saw", f"kind={self.kind!r}", f"Use {', '.join(kinds)}"
            )
        if self.kind == "none" and self.seen:
            raise DataError(
                "Saying what pre-training saw",
                f"kind='none', but {len(self.seen)} subjects or datasets were seen",
                "Use another kind",
            )

    def check(
        self,
        metadata: pd.DataFrame,
        folds: Sequence[Fold],
        protocol: Protocol,
        recorded: Sequence[Recorded] = (),
    ) -> None:
        """Refuse the claim if the test sides contradict it.

        Parameters
        ----------
        metadata : pandas.DataFrame
            A row per window.
        folds : sequence of Fold
        protocol : Protocol
        recorded : sequence of Recorded
            The dataset's recordings with their digests.

        Raises
        ------
        DataError
            If a tested subject or dataset was seen, or the protocol is ``cross-dataset`` and
            pre-training was not without the dataset.
        """
        doing = f"Checking the pre-training ({self.kind}) against {protocol}"
        if protocol.name == "cross-dataset" and self.kind not in ("none", "dataset held out"):
            raise DataError(
                doing,
                "the tested dataset may have been seen",
                "Pre-train without it and say 'dataset held out'",
            )
        if self.kind in ("none", "transductive", "unknown"):
            return
        rows = np.unique(np.concatenate([fold.test for fold in folds]))
        pairs = metadata.iloc[rows][list(SUBJECT)].astype(str).drop_duplicates().to_numpy()
        used = [Recorded.of_text(text) for text in self.recordings]
        seen = {*self.seen, *(one.person for one, _ in same(recorded, used))}
        if self.kind == "dataset held out":
            seen = {name.split("/")[0] for name in seen}
        caught = [f"{d}/{s}" for d, s in pairs if d in seen or f"{d}/{s}" in seen]
        if caught:
            raise DataError(
                doing,
                f"it saw {len(caught)} of the tested subjects ({some(caught)})",
                "Say 'transductive', or pre-train without them",
            )
