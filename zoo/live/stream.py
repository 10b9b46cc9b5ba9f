"""A stream of the lab streaming layer (LSL) [1]_: found by its name, read block by block.

References
----------
.. [1] Kothe et al. The lab streaming layer for synchronized multimodal recording. Imaging
   Neuroscience 3 (2025) IMAG.a.136.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest, some
from omfa.zoo.checkpoints.input import UNITS

SPELLINGS = {
    **{unit.lower(): UNITS[unit] for unit in ("V", "uV", "µV", "μV", "nV")},
    # What XDF and MNE-LSL write; powers of ten are of a volt.
    **{"volts": 1e6, "volt": 1e6, "0": 1e6, "microvolts": 1.0, "microvolt": 1.0, "-6": 1.0},
    **{"millivolts": 1e3, "millivolt": 1e3, "-3": 1e3, "mv": 1e3},
    **{"nanovolts": 1e-3, "nanovolt": 1e-3, "-9": 1e-3},
}
"""Microvolts per unit, by the unit's name in lower case."""

LISTEN_SECONDS = 1.0
"""How long streams are given to answer a call; on one machine they take some milliseconds."""

MOST_SAMPLES = 4096
"""Samples that are taken at once at most."""


class StreamLost(Exception):
    """The stream has ended, or whoever sent it has gone."""


def _found(name: str, source_id: str | None, timeout: float) -> Any:
    """Return the description of the one stream of that name."""
    from mne_lsl.lsl import resolve_streams

    doing = f"Listening to the stream {name}"
    give_up = time.monotonic() + timeout
    while not (
        streams := resolve_streams(
            min(timeout, LISTEN_SECONDS), name=name, source_id=source_id or None
        )
    ):
        if time.monotonic() >= give_up:
            there = sorted({stream.name for stream in resolve_streams(LISTEN_SECONDS)})
            raise DataError(
                doing,
                f"there is none of that name{nearest(name, there)}; "
                + (f"there are {some(there, 8)}" if there else "there is no stream at all"),
                "Start it, or name another by --stream",
            )
    # One stream is heard on several network interfaces.
    if len({stream.uid for stream in streams}) > 1:
        ids = sorted({stream.source_id for stream in streams})
        raise DataError(doing, f"{len(ids)} have that name", f"Give --source-id: {some(ids, 8)}")
    return streams[0]


def _factors(
    said: Sequence[str] | None, names: Sequence[str], unit: str | None, doing: str
) -> npt.NDArray[np.float64]:
    """Return microvolts per unit of each channel; 1 where a channel's unit is no voltage."""
    if unit is not None:
        return np.full(len(names), UNITS[unit])
    # By MNE 0 means volts for EEG, and that there is no unit for anything else.
    factors = [SPELLINGS.get(str(each or "").strip().lower()) for each in said or [""] * len(names)]
    if not any(factors):
        words = some(sorted(set(said or ["nothing"])))
        raise DataError(
            doing,
            f"the unit of its samples is not known (it says {words})",
            "Give it by --unit: V, mV, uV or nV",
        )
    return np.array([factor or 1.0 for factor in factors])


class Stream:
    """A stream that is being read. A context manager, which lets go of the stream at its end.

    Parameters
    ----------
    name : str
        The stream's.
    source_id : str, optional
        Which of several of that name.
    channel_names : sequence of str
        Its channels, where it does not name them.
    unit : str, optional
        Unit of its samples, whatever it says.
    timeout : float
        Seconds to wait for it.

    Raises
    ------
    DataError
        If there is no such stream or there are several, its rate is irregular, or it names no
        channels or no unit.
    """

    def __init__(
        self,
        name: str,
        *,
        source_id: str | None = None,
        channel_names: Sequence[str] = (),
        unit: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        from mne_lsl.lsl import StreamInlet

        doing = f"Reading the stream {name}"
        found = _found(name, source_id, timeout)
        self._uid = found.uid
        # A stream that comes back is looked for anew: its channels may have another order.
        # "clocksync": timestamps of another machine, on this one's clock.
        self._inlet = StreamInlet(found, recover=False, processing_flags=["clocksync"])
        try:
            self._inlet.open_stream(timeout=timeout)
            info = self._inlet.get_sinfo(timeout=timeout)
            self.name = name
            self.sfreq = float(info.sfreq)
            """Hz."""
            if self.sfreq <= 0 or info.dtype == "string":
                raise DataError(
                    doing, "it has no constant rate, as events have", "Name a stream of EEG"
                )
            said = list(channel_names) or info.get_channel_names()
            if not said or len(said) != info.n_channels:
                raise DataError(
                    doing,
                    f"it has {info.n_channels} channels and {len(said or ())} names",
                    "Give all in their order by --channel-names",
                )
            self.channels: list[str] = [str(each) for each in said]
            units = info.get_channel_units()
            self._factors = _factors(units, self.channels, unit, doing)[:, np.newaxis]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the stream."""
        self._inlet.close_stream()

    def pull(self, wait: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return all samples that have come, and wait for one where there is none.

        Parameters
        ----------
        wait : float
            Seconds, at most.

        Returns
        -------
        samples : ndarray, shape (n_chans, n_times)
            Microvolts.
        times : ndarray, shape (n_times,)
            Timestamps, on the clock of ``mne_lsl.lsl.local_clock``, seconds.

        Raises
        ------
        StreamLost
            If LSL says that it has ended. Mostly it does not: see ``check``.
        """
        try:
            one, at = self._inlet.pull_sample(timeout=wait)
            if at is None:
                return np.zeros((len(self.channels), 0)), np.zeros(0)
            one = np.array(one, np.float64)[np.newaxis]  # LSL will write over its own
            more, times = self._inlet.pull_chunk(timeout=0, max_samples=MOST_SAMPLES)
        except RuntimeError as error:  # MNE-LSL's LostError, which it does not export
            raise StreamLost(self.name) from error
        samples = np.concatenate([one, more.astype(np.float64)]).T * self._factors
        return samples, np.concatenate([[at], times])

    def check(self) -> None:
        """Ask whether the stream is still there; an inlet that waits does not say it.

        Raises
        ------
        StreamLost
            If it has ended. One of its name may be there again.
        """
        from mne_lsl.lsl import resolve_streams

        there = resolve_streams(LISTEN_SECONDS, name=self.name)
        if self._uid not in {stream.uid for stream in there}:
            raise StreamLost(self.name)
