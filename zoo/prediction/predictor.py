"""A checkpoint that answers: windows of a recording, or of arrays, to probabilities of its classes.

The model is the checkpoint's, on the checkpoint's montage; a channel that a recording lacks is a
masked row. A window without any channel has no answer, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError
from omfa.pipeline.recording import Recording
from omfa.pipeline.words import some
from omfa.zoo.checkpoints.cards import CARD, Card
from omfa.zoo.checkpoints.decision import Decision, decision_in
from omfa.zoo.checkpoints.folder import build, obtain
from omfa.zoo.checkpoints.input import UNITS, scale_input
from omfa.zoo.estimators.device import ONE_AT_A_TIME, choose_device, threads
from omfa.zoo.estimators.likeness import figures, unlike
from omfa.zoo.prediction import recordings
from omfa.zoo.prediction.recordings import Prepared
from omfa.zoo.prediction.settings import PredictionSettings
from omfa.zoo.protocols.windows import BATCH, doubtful_amplitude

if TYPE_CHECKING:
    import mne

    from omfa.models.omfa import OMFA
    from omfa.pipeline.store import StoredRecording

OK, GAP, BAD_SPAN, FEW, HOLES = "ok", "gap", "bad span", "few channels", "missing samples"
"""The quality of a window: nothing to say of it; no channel, hence no answer; marked bad in the
file; fewer than ``ENOUGH`` of the checkpoint's channels; channels masked for samples they miss."""

ENOUGH = 0.5
"""Share of the checkpoint's channels below which an answer is marked; our choice."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answers about one recording.

    Attributes
    ----------
    name : str
    decision : Decision
    card : Card
    table : pandas.DataFrame
        A row per window: ``start`` and ``stop`` in seconds from the start of the recording;
        ``class``, empty without an answer; ``p_<class>`` for every class; ``share_present`` of the
        checkpoint's channels; ``quality``.
    channels : dict of str to str
        What became of each channel of the checkpoint.
    left_out : list of str
        Channels of the recording that are none of the checkpoint's.
    warnings : list of str
        In what the recording differs from what the model learned from.

    Examples
    --------
    >>> from omfa.zoo import Predictor
    >>> found = Predictor.from_checkpoint("mood").predict("raw/S01_raw.fif")
    >>> list(found.table.columns[:3]), len(found.annotations())
    (['start', 'stop', 'class'], 12)
    """

    name: str
    decision: Decision
    card: Card
    table: pd.DataFrame
    channels: dict[str, str]
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Probability of every class in every window, (n_windows, n_classes); NaN in a gap."""
        return self.table[[f"p_{name}" for name in self.decision.classes]].to_numpy(np.float64)

    @property
    def answered(self) -> int:
        """Windows that have an answer."""
        return int((self.table["quality"] != GAP).sum())

    @property
    def overall(self) -> dict[str, float]:
        """The mean probability of every class over all windows that have an answer; else NaN."""
        known = self.probabilities[(self.table["quality"] != GAP).to_numpy()]
        mean = known.mean(axis=0) if len(known) else np.full(len(self.decision.classes), np.nan)
        return dict(zip(self.decision.classes, map(float, mean), strict=True))

    def annotations(self) -> mne.Annotations:
        """Return the answers as MNE's annotations, for ``raw.set_annotations``.

        A window without an answer is called ``BAD_no_answer``.
        """
        import mne

        names = self.table["class"].where(self.table["quality"] != GAP, "BAD_no_answer")
        start = self.table["start"].to_numpy()
        return mne.Annotations(start, self.table["stop"].to_numpy() - start, names.to_numpy(str))


class Predictor:
    """A fine-tuned checkpoint, ready to answer.

    Parameters
    ----------
    model : OMFA
        In evaluation mode, on the montage of ``decision``.
    card : Card
    decision : Decision
    settings : PredictionSettings, optional

    Examples
    --------
    >>> from omfa.zoo import Predictor
    >>> found = Predictor.from_checkpoint("mood").predict("raw/S01_raw.fif")
    >>> found.table["class"].tolist()[:4]
    ['calm', 'calm', 'tense', 'tense']
    """

    def __init__(
        self,
        model: OMFA,
        card: Card,
        decision: Decision,
        settings: PredictionSettings | None = None,
    ) -> None:
        self.settings = settings or PredictionSettings()
        self.device = choose_device(self.settings.device)
        self.model = model.to(self.device).eval()
        self.card, self.decision = card, decision

    @classmethod
    def from_checkpoint(
        cls,
        name_or_folder: str | Path,
        *,
        settings: PredictionSettings | None = None,
        progress: bool = False,
    ) -> Self:
        """Make the predictor of a checkpoint.

        Parameters
        ----------
        name_or_folder : str or path
            A name of ``list_checkpoints()``, which may be downloaded, or a folder.
        settings : PredictionSettings, optional
        progress : bool
            Show a bar for each file that is downloaded.

        Raises
        ------
        DataError
            If there is no such checkpoint, or it is only pre-trained.
        """
        files = obtain(name_or_folder, progress=progress)
        card, decision = Card.from_json(files[CARD]), decision_in(files, name_or_folder)
        model = build(files, decision.signal, doing=f"Loading the checkpoint {name_or_folder}")
        scale_input(model, card, None)
        return cls(model, card, decision, settings)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.decision.classes

    def predict(
        self,
        recording: mne.io.BaseRaw | Recording | str | Path,
        *,
        name: str = "",
    ) -> Prediction:
        """Answer all windows of a recording.

        Parameters
        ----------
        recording : mne.io.BaseRaw, Recording, str or Path
            What MNE has opened, what a reader of the pipeline gives, or a file that MNE reads.
        name : str, optional
            What the answers call it.

        Returns
        -------
        Prediction

        Raises
        ------
        DataError
            If it cannot be read, is no EEG, has no channel in common with the checkpoint, is in an
            impossible unit, or is shorter than a window.
        """
        how = self.settings
        if isinstance(recording, str | Path):
            recording = recordings.read(Path(recording), how.rules, encoding=how.encoding)
        elif not isinstance(recording, Recording):
            recording = recordings.of_raw(recording, how.rules)
        return self.answer(
            recordings.prepare(
                recording,
                self.decision,
                self.card,
                name=name,
                mask_bad=how.mask_bad,
                schema=how.schema,
                names_by_position=how.names_by_position,
            )
        )

    def predict_stored(
        self, stored: StoredRecording, preprocessing: dict[str, Any], *, name: str = ""
    ) -> Prediction:
        """Answer all windows of a recording of a store.

        Parameters
        ----------
        stored : StoredRecording
        preprocessing : dict
            Of the store's ``settings``.
        name : str, optional
            What the answers call it.

        Raises
        ------
        DataError
            As ``predict``.
        """
        return self.answer(
            recordings.prepare_stored(
                stored,
                preprocessing,
                self.decision,
                self.card,
                name=name or stored.recording,
                mask_bad=self.settings.mask_bad,
            )
        )

    def predict_proba(
        self,
        X: npt.NDArray[np.floating],
        *,
        sfreq: float,
        ch_names: Sequence[str],
        unit: str = "uV",
    ) -> npt.NDArray[np.float64]:
        """Return the probabilities of windows that are cut and filtered already.

        Nothing is filtered here, for a window is too short: cut it from signals of the card's band
        and reference. The model itself resamples from ``sfreq``.

        Parameters
        ----------
        X : ndarray of float, shape (n_windows, n_chans, n_times)
            NaN where a sample is missing: that channel is then masked.
        sfreq : float
            Hz.
        ch_names : sequence of str
            Of the rows; any that the checkpoint did not learn from are left out.
        unit : {"uV", "V", "mV", "nV"}

        Returns
        -------
        ndarray of float64, shape (n_windows, n_classes)
            NaN for a window without any channel.

        Raises
        ------
        DataError
            If shapes and names differ, no channel is in common, or the signals cannot be in
            ``unit``.
        """
        X = np.asarray(X)
        doing = f"Predicting windows of shape {X.shape}"
        if X.ndim != 3 or X.shape[1] != len(ch_names) or not np.isfinite(sfreq) or sfreq <= 0:
            raise DataError(
                doing,
                f"there are {len(ch_names)} names of channels, and the rate is {sfreq:g} Hz",
                "Give an array (n_windows, n_chans, n_times), a name for each channel and the rate",
            )
        if unit not in UNITS:
            raise DataError(
                doing, f"the unit {unit!r} is not known", f"Use one of {', '.join(UNITS)}"
            )
        known = [i for i, name in enumerate(ch_names) if name in UCS]
        names = UCS.canonicalize((ch_names[i] for i in known), where=doing)  # refuses one twice
        row = dict(zip(names, known, strict=True))
        channels = self.decision.channels
        if not set(row) & set(channels):
            raise DataError(
                doing,
                f"none of {some(list(ch_names), 6)} is a channel that the model learned from",
                f"It knows {some(list(channels), 6)}",
            )
        windows = np.full((len(X), len(channels), X.shape[2]), np.nan, np.float32)
        for i, channel in enumerate(channels):
            if channel in row:
                windows[:, i] = X[:, row[channel]] * UNITS[unit]
        windows, present = masked(windows)
        if found := doubtful_amplitude(windows, present):
            raise DataError(
                f"{doing} in {unit}", found, "Give the unit that they are in: unit='V' for MNE's"
            )
        return self._answers(windows, present, sfreq)

    def answer(self, prepared: Prepared) -> Prediction:
        """Answer all windows of a recording that has been brought to the checkpoint's signals.

        Raises
        ------
        DataError
            If it is shorter than a window.
        """
        sfreq, n_times = self.decision.sfreq, self.decision.n_times
        stride = max(1, round((self.settings.stride_seconds or n_times / sfreq) * sfreq))
        places = [
            (i, start)
            for i, segment in enumerate(prepared.segments)
            for start in range(0, segment.shape[1] - n_times + 1, stride)
        ]
        if not places:
            longest = max(segment.shape[1] for segment in prepared.segments) / sfreq
            raise DataError(
                f"Predicting {prepared.name}",
                f"it has {longest:.3g} s without interruption, and a window is "
                f"{n_times / sfreq:g} s",
                "Record for longer, or fine-tune a checkpoint on shorter windows",
            )
        p = np.full((len(places), len(self.classes)), np.nan)
        share, holes = np.zeros(len(places)), np.zeros(len(places), bool)
        measured: dict[str, list[npt.NDArray[np.float64]]] = {}
        usable = np.array([state.startswith("used") for state in prepared.channels.values()])
        for first in range(0, len(places), BATCH):
            some_places = places[first : first + BATCH]
            windows, present = masked(
                np.stack([prepared.segments[i][:, at : at + n_times] for i, at in some_places])
            )
            rows = slice(first, first + len(some_places))
            p[rows] = self._answers(windows, present, sfreq)
            share[rows] = present.mean(axis=1)
            holes[rows] = (~present & usable).any(axis=1)
            for name, values in figures(windows, present, sfreq).items():
                measured.setdefault(name, []).append(values)
        start = np.array([prepared.onsets[i] + at / sfreq for i, at in places])
        stop = start + n_times / sfreq
        table = pd.DataFrame({"start": start.round(6), "stop": stop.round(6)})
        names = np.array(self.classes, object)
        table["class"] = names[np.nan_to_num(p, nan=-1).argmax(axis=1)]
        table[[f"p_{name}" for name in self.classes]] = p.round(6)
        table["share_present"] = share.round(4)
        in_bad = np.zeros(len(places), bool)
        for onset, lasting, _ in prepared.bad_spans:
            # A mark without extent is in the window that its moment is in.
            in_bad |= (start < onset + lasting) & (stop > onset)
            in_bad |= (start <= onset) & (onset < stop)
        table["quality"] = np.select(
            [share == 0, in_bad, share < ENOUGH, holes], [GAP, BAD_SPAN, FEW, HOLES], OK
        )
        table.loc[table["quality"] == GAP, "class"] = ""
        found = {name: np.concatenate(values) for name, values in measured.items()}
        said = [*prepared.warnings, *_about_channels(prepared)]
        said += unlike(self.card.input.get("typical") or {}, found)
        if n := int((table["quality"] == GAP).sum()):
            said.append(
                f"{n} of {len(table)} windows have no channel with a signal, and no answer."
            )
        return Prediction(
            prepared.name,
            self.decision,
            self.card,
            table,
            prepared.channels,
            prepared.left_out,
            said,
        )

    def _answers(
        self, windows: npt.NDArray[np.float32], present: npt.NDArray[np.bool_], sfreq: float
    ) -> npt.NDArray[np.float64]:
        logits = logits_of(
            self.model, windows, present, sfreq, device=self.device, n_threads=self.settings.threads
        )
        p = self.decision.probabilities(logits)
        p[~present.any(axis=1)] = np.nan
        return p


def masked(
    windows: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Mark channels that miss no sample and vary; zeros where others are, as datasets have them."""
    present = np.asarray(np.isfinite(windows).all(axis=-1))
    windows = np.where(present[..., None], windows, np.float32(0))
    return windows, present & (np.ptp(windows, axis=-1) > 0)


def _about_channels(prepared: Prepared) -> list[str]:
    states = prepared.channels
    missing = [channel for channel, state in states.items() if state == "missing"]
    bad = [f"{c} ({s[5:-1]})" for c, s in states.items() if s.startswith("bad (")]
    placed = [f"{c} is {s[6:-15]}" for c, s in states.items() if s.endswith(", by its place)")]
    return [
        f"{len(names)} of {len(states)} channels {what}: {some(names, 8)}."
        for names, what in (
            (missing, "are missing and masked"),
            (bad, "are bad and masked"),
            (placed, "are known by their place alone"),
        )
        if names
    ]


@torch.no_grad()
def logits_of(
    model: OMFA,
    windows: npt.NDArray[np.float32],
    present: npt.NDArray[np.bool_],
    sfreq: float,
    *,
    device: torch.device,
    n_threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Return the logits of windows, shape (n_windows, n_outputs).

    Parameters
    ----------
    model : OMFA
        In evaluation mode, on ``device``.
    windows : ndarray of float32, shape (n_windows, n_chans, n_times)
        Microvolts; 0 where a channel is absent.
    present : ndarray of bool, shape (n_windows, n_chans)
    sfreq : float
        Hz.
    device : torch.device
    n_threads : int
        Of the CPU.
    """
    parts = []
    with ONE_AT_A_TIME, threads(n_threads):
        for start in range(0, len(windows), BATCH):
            rows = slice(start, start + BATCH)
            x, mask = (torch.from_numpy(np.ascontiguousarray(a[rows])) for a in (windows, present))
            out = model(x.to(device), mask=mask.to(device), sfreq=sfreq)
            parts.append(out.float().cpu().numpy())
    return np.concatenate(parts)
