"""A dataset of windows as braindecode's ``BaseConcatDataset``.

Each recording becomes an MNE Raw that reads samples from the dataset's tier on demand, in volts,
the unit of MNE and its files, and an ``EEGWindowsDataset`` over it that returns microvolts, the
unit in which braindecode returns ``mne.Epochs`` and which omfa's models expect.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Literal

import mne
import numpy as np
import numpy.typing as npt
import pandas as pd
from mne.io import BaseRaw

from omfa.models.compat import make_torchaudio_importable  # also imports braindecode
from omfa.pipeline.errors import DataError
from omfa.zoo.data.tiers import Tier
from omfa.zoo.data.trials import TrialsLeftOut

if TYPE_CHECKING:
    from omfa.zoo.data.dataset import StoreDataset

make_torchaudio_importable()
from braindecode.datasets import BaseConcatDataset, EEGWindowsDataset  # noqa: E402

_DESCRIBED = ("dataset", "subject", "session", "run")


def to_microvolts(X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Convert volts to microvolts: the ``transform`` of the datasets that are made here.

    braindecode does not save transforms. After ``load_concat_dataset`` set it again:
    ``loaded.transform = to_microvolts``.

    Parameters
    ----------
    X : ndarray of float32, any shape
        Volts.

    Returns
    -------
    ndarray of float32, of the same shape
        Microvolts.

    Examples
    --------
    >>> import numpy as np
    >>> from omfa.zoo import to_microvolts
    >>> to_microvolts(np.float32([[2e-5]])).round(3)
    array([[20.]], dtype=float32)
    """
    return X * np.float32(1e6)


class StoredRaw(BaseRaw):
    """A stored recording, or a stretch of it, as an MNE Raw that reads samples on demand.

    Samples are in volts; missing ones are zero.

    Parameters
    ----------
    info : mne.Info
        Names, rate and positions of ``n_chans`` channels.
    tier : Tier
        What reads the signal.
    source : int
        Number of the recording in the tier.
    rows : ndarray of int, shape (n_chans,)
        The row of the stored signal for each channel; -1 for zeros.
    start, stop : int
        First sample, and the one after the last, in the stored signal.
    """

    def __init__(
        self,
        info: mne.Info,
        tier: Tier,
        source: int,
        rows: npt.NDArray[np.int64],
        start: int,
        stop: int,
    ) -> None:
        # MNE's rule: _read_segment_file uses nothing of the object but raw_extras.
        extras = {"tier": tier, "source": source, "rows": rows, "start": start}
        super().__init__(info, preload=False, last_samps=(stop - start - 1,), raw_extras=(extras,))

    @classmethod
    def of(cls, dataset: StoreDataset, source: int, start: int, stop: int) -> StoredRaw:
        """Return a stretch of a dataset's recording; channels that it lacks are marked bad.

        Parameters
        ----------
        dataset : StoreDataset
            A dataset of one rate and one montage.
        source : int
            Position of the recording in ``dataset.sources``.
        start, stop : int
            First sample, and the one after the last, in the stored signal.
        """
        names, rows = dataset.channels, dataset.rows[source]
        info = mne.create_info(names, dataset.sfreq, "eeg")
        places = dict(zip(names, dataset.ucs.positions(names), strict=True))
        info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
        info["bads"] = [name for name, row in zip(names, rows, strict=True) if row < 0]
        return cls(info, dataset.tier, source, rows, start, stop)

    def _read_segment_file(
        self,
        data: npt.NDArray[np.float64],
        idx: Any,
        fi: int,
        start: int,
        stop: int,
        cals: npt.NDArray[np.float64],
        mult: npt.NDArray[np.float64] | None,
    ) -> None:
        """Fill ``data`` with samples ``start`` to ``stop - 1``, in volts. MNE calls it."""
        own = self._raw_extras[fi]
        first, rows = own["start"], own["rows"]
        stored = own["tier"].read(own["source"], first + start, first + stop)
        volts = np.multiply(stored[np.maximum(rows, 0)], 1e-6, dtype=np.float64)
        volts[rows < 0] = 0
        np.nan_to_num(volts, copy=False, posinf=0, neginf=0)
        data[:] = volts[idx] if mult is None else mult @ volts


def _description(first: pd.Series, several: bool, per: str) -> dict[str, str]:
    """Describe a record by the first row of its metadata."""
    description = {name: str(first[name]) for name in _DESCRIBED}
    if several:
        description["subject"] = f"{first['dataset']}-{first['subject']}"
    if per == "trial":
        trial = f"trial-{first['trial']}"
        description |= {
            "run": f"{first['run']}-{trial}",
            "trial": trial,
            # load_concat_dataset guesses types: "1" would come back as a number.
            "stimulus": f"stimulus-{first['stimulus']}",
        }
    return description


def _check_starts(windows: pd.DataFrame, description: dict[str, str]) -> None:
    if not (np.diff(windows["i_start_in_trial"]) > 0).all():
        raise DataError(
            f"Making a braindecode dataset of {' '.join(description.values())}",
            "two windows start at the same sample, as its trials overlap",
            "Use per='trial'",
        )


def _windows_dataset(
    raw: StoredRaw, windows: pd.DataFrame, description: dict[str, str], dataset: StoreDataset
) -> EEGWindowsDataset:
    record = EEGWindowsDataset(
        raw, windows, description=pd.Series(description, dtype=object), transform=to_microvolts
    )
    # load_concat_dataset needs it to read what save writes.
    record.window_kwargs = [("open_dataset", json.loads(json.dumps(dataset.recipe)))]
    return record


def to_braindecode(
    dataset: StoreDataset, *, per: Literal["recording", "trial"] = "recording"
) -> BaseConcatDataset:
    """Convert a dataset of windows to braindecode's.

    Parameters
    ----------
    dataset : StoreDataset
        A dataset of one rate and one montage. Absent channels are zeros, and bad in the Raw.
    per : {"recording", "trial"}
        What becomes a record of its own. braindecode's ``split`` splits between records: by
        subject, session and run, and with ``"trial"`` also by ``trial`` and ``stimulus``. A trial's
        windows are then counted from its first sample, and ``run`` names the trial too.

    Returns
    -------
    BaseConcatDataset of EEGWindowsDataset
        Items are (n_chans, n_times) in microvolts. ``description`` has ``dataset``, ``subject``,
        ``session`` and ``run``; with several datasets the name of the dataset stands before that of
        the subject, so that subject, session and run together name a recording.

    Raises
    ------
    DataError
        If two windows of a recording start at the same sample, or rates or montages differ.

    Warns
    -----
    TrialsLeftOut
        How many trials of the stores are in no window, and why, if some are too short for one.

    Examples
    --------
    >>> from omfa.zoo import open_dataset, to_braindecode
    >>> windows = to_braindecode(open_dataset("dreamer.zarr", 2.0, target="valence>3"))
    >>> len(windows.datasets)
    2
    """
    if dataset.left_out.too_short:
        warnings.warn(
            f"Making a braindecode dataset: {dataset.left_out}", TrialsLeftOut, stacklevel=2
        )
    dataset.n_times, dataset.channels  # noqa: B018  # raise if they differ, before any work
    metadata = dataset.metadata
    several = metadata["dataset"].nunique() > 1
    keys = [*_DESCRIBED, "trial"] if per == "trial" else list(_DESCRIBED)
    made = []
    for _, table in metadata.groupby(keys, sort=False):
        rows = table.index.to_numpy()
        number = int(dataset.source[rows[0]])
        start, stop = 0, dataset.sources[number].n_times
        if per == "trial":
            row = dataset.trials.iloc[dataset.cuts.trial[rows[0]]]
            start, stop = int(row["onset"]), int(row["onset"] + row["length"])
        description = _description(table.iloc[0], several, per)
        windows = table.drop(columns=[c for c in description if c in table])
        windows = windows.dropna(axis=1, how="all").reset_index(drop=True)
        windows[["i_start_in_trial", "i_stop_in_trial"]] -= start
        _check_starts(windows, description)
        raw = StoredRaw.of(dataset, number, start, stop)
        made.append(_windows_dataset(raw, windows, description, dataset))
    return BaseConcatDataset(made)
