"""Open stores as one dataset of windows.

``open_dataset`` reads the trial tables, gives each trial its target, cuts windows, joins the
channels of the recordings and chooses the tier that decoded signals lie in.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from omfa.pipeline.channels import UCS
from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.signal_path import SignalPath, differences
from omfa.pipeline.store import Store, open_store
from omfa.pipeline.words import nearest, some
from omfa.zoo.data.dataset import StoreDataset, rates_in_words
from omfa.zoo.data.flat import hold, map_sources
from omfa.zoo.data.settings import Cache, Channels, WindowSettings
from omfa.zoo.data.sources import Source
from omfa.zoo.data.streamed import stream
from omfa.zoo.data.targets import TargetSpec, make_target, target_to_json
from omfa.zoo.data.tiers import Tier, choose, default_cache_dir
from omfa.zoo.data.tiled import SHORTEST, hold_tiles, tile_length
from omfa.zoo.data.trials import Cuts, TrialsLeftOut, cut, left_out, read_trials

Rates = Literal["one", "native"]
CutFrom = Literal["trials", "recordings"]
Stores = str | Path | Store | Sequence["str | Path | Store"]
"""One store or several, opened or by their addresses."""


def _opened(stores: Stores, options: Mapping[str, Any] | None) -> list[Store]:
    given = [stores] if isinstance(stores, (str, Path, Store)) else list(stores)
    if not given:
        raise DataError("Opening a dataset", "no store was given", "Name at least one")
    return [
        store if isinstance(store, Store) else open_store(store, storage_options=options)
        for store in given
    ]


def _check_rates(stores: Sequence[Store], sfreq: npt.NDArray[np.float64], rates: Rates) -> None:
    """Refuse recordings of different rates, unless ``rates`` is ``"native"``."""
    if rates == "native" or len(np.unique(sfreq)) == 1:
        return
    each = [
        f"{store.path} {rates_in_words(np.unique(store.recordings['sfreq'].to_numpy(float)))}"
        for store in stores
    ]
    raise DataError(
        "Opening stores as one dataset",
        f"the recordings are sampled at different rates ({'; '.join(each)})",
        "Ingest them again with one --sfreq, or pass rates='native' for batches of one rate each",
    )


class SignalPathWarning(DataWarning):
    """Recordings of one dataset went different ways from the electrodes to the store.

    Examples
    --------
    >>> import warnings
    >>> from omfa.zoo import SignalPathWarning, open_dataset
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", SignalPathWarning)
    ...     data = open_dataset("dreamer.zarr", 2.0)  # one path: no error
    """


def _check_paths(sources: Sequence[Source], where: str, allow_mixed: bool) -> None:
    """Refuse recordings that ingest treated differently; name what their sources did differently.

    Models and features would learn to tell stores by band and reference, and no comparison between
    them would be of the same signal.
    """
    stores: dict[SignalPath, list[str]] = {}
    for source in sources:
        having = stores.setdefault(source.path, [])
        if source.address not in having:
            having.append(source.address)
    chosen, given = differences(list(stores))
    if not chosen and not given:
        return
    each = "; ".join(f"{some(homes)}: {path}" for path, homes in stores.items())
    if chosen and not allow_mixed:
        raise DataError(
            f"Opening {where} as one dataset",
            f"the recordings went different ways: they differ in {' and '.join(chosen + given)} "
            f"({each})",
            "Ingest them again with the same settings, or pass allow_mixed=True (--allow-mixed)",
        )
    warnings.warn(
        f"Opening {where} as one dataset: the recordings differ in "
        f"{' and '.join(chosen + given)} ({each})",
        SignalPathWarning,
        stacklevel=3,
    )


def _montages(
    sources: Sequence[Source],
    channels: Channels,
    union: list[str],
    common: list[str],
    where: str,
    mask_bad: bool,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Join the channels of recordings to the rows of a window.

    Returns
    -------
    rows, ids : ndarray of int64, shape (n_sources, n_chans)
        For each recording and each row of a window, the row of the stored signal, -1 where the
        recording lacks the channel or it is bad, and the channel's UCS id, -1 where the row only
        pads the recording's montage.
    """
    if channels == "intersection" and not common:
        raise DataError(
            f"Joining the channels of {where}",
            "no channel is in all recordings",
            "Use channels='union'",
        )
    lists = {
        "union": [union] * len(sources),
        "intersection": [common] * len(sources),
        "native": [list(source.channels) for source in sources],
    }
    if channels not in lists:
        raise DataError(
            f"Opening {where}",
            f"channels={channels!r}{nearest(str(channels), lists)}",
            f"Use one of {', '.join(map(repr, lists))}",
        )
    width = max(map(len, lists[channels]))
    rows = np.full((len(sources), width), -1)
    ids = np.full((len(sources), width), -1)
    for i, (source, names) in enumerate(zip(sources, lists[channels], strict=True)):
        row = {name: number for number, name in enumerate(source.channels)}
        for name in source.bad_channels if mask_bad else ():
            row.pop(name, None)
        rows[i, : len(names)] = [row.get(name, -1) for name in names]
        ids[i, : len(names)] = UCS.ids(names)
    return rows, ids


def _tier(
    cache: Cache,
    sources: Sequence[Source],
    source: npt.NDArray[np.int64],
    cuts: Cuts,
    stride_seconds: float,
    device: torch.device,
    folder: Path,
    buffer_bytes: float,
) -> Tier:
    """Make the tier that ``cache`` names, or the first that fits."""
    if cache == "auto":
        cache = choose(sum(one.nbytes for one in sources), device, folder)
    match cache:
        case "memory":
            # Tiles are the faster layout, unless some windows would be many short ones.
            steps = [round(stride_seconds * one.sfreq) for one in sources]
            stride = np.array(steps, np.int64)[source]
            shortest = min(
                tile_length(*pair)
                for pair in set(zip(cuts.n_times.tolist(), stride.tolist(), strict=True))
            )
            if shortest < SHORTEST:
                return hold(sources, device)
            return hold_tiles(sources, source, cuts.start, cuts.n_times, stride, device)
        case "memmap":
            return map_sources(sources, folder)
        case "stream":
            return stream(sources, source, cuts.start, cuts.n_times, buffer_bytes)
    raise DataError(
        "Opening a dataset", f"cache={cache!r}", "Use 'auto', 'memory', 'memmap' or 'stream'"
    )


def open_dataset(
    stores: Stores,
    window_seconds: float,
    stride_seconds: float | None = None,
    *,
    channels: Channels = WindowSettings.channels,
    target: TargetSpec = None,
    cache: Cache = WindowSettings.cache,
    rates: Rates = "one",
    cut_from: CutFrom = "trials",
    mask_bad: bool = WindowSettings.mask_bad,
    allow_mixed: bool = WindowSettings.allow_mixed,
    device: str | torch.device = "cpu",
    cache_dir: str | Path | None = None,
    buffer_bytes: float = 256e6,
    storage_options: Mapping[str, Any] | None = None,
) -> StoreDataset:
    """Open stores as one dataset of windows.

    Parameters
    ----------
    stores : address, Store, or sequence of these
        One store or several; an address is a local path or an fsspec URL.
    window_seconds : float
        Length of a window. Windows are cut from trials, whole ones only, from each trial's first
        sample on.
    stride_seconds : float, optional
        From one window's start to the next; by default windows do not overlap.
    channels : {"union", "intersection", "native"}
        Rows of a window: every channel of any recording, with a presence mask; those that all
        recordings have; or each recording's own, for batches of one montage.
    target : str, Rating, Merged, mapping or None
        A label's column (``"emotion"``), a rule on a rating (``"valence>5"``, ``"valence>=5"``,
        ``"valence<4.5|>5.5"``, which leaves the middle out), or one of these for each dataset by
        name. None for windows without a target.
    cache : {"auto", "memory", "memmap", "stream"}
        The tier. ``"memory"``: signals are decoded to the device, in the stored precision.
        ``"memmap"``: they are decoded once to a file, which is mapped. ``"stream"``: they are
        decoded from the store in every epoch. ``"auto"``: the first of these that fits.
    rates : {"one", "native"}
        Whether recordings of different rates are refused, or kept apart in batches.
    cut_from : {"trials", "recordings"}
        ``"recordings"`` cuts windows from all of the signal, between the trials too; they have no
        labels. Pre-training uses it.
    mask_bad : bool
        Whether channels that quality control marked count as absent.
    allow_mixed : bool
        Whether stores that were ingested with different bands, transitions, notches, references,
        interpolation or bounds of the filters may be joined; a warning then names what differs.
        Differences that the sources made, such as DEAP's release beginning at 4 Hz, are always
        named and never refused.
    device : str or torch.device
        The device of the batches, and of the memory tier.
    cache_dir : path, optional
        Folder of the memmap tier, on a local disk; by default ``omfa`` in the user's cache folder.
    buffer_bytes : float
        Memory for decoded signal when streaming. Shuffling is limited to what fits, so larger mixes
        better.
    storage_options : mapping, optional
        What fsspec's file system takes, for addresses that are URLs.

    Returns
    -------
    StoreDataset

    Raises
    ------
    DataError
        If a store is of another channel schema version or of other channel rules than another, two
        hold the same recordings, rates or signal paths differ, a label or its values are missing,
        or no trial is as long as a window.

    Warns
    -----
    TrialsLeftOut
        If some trials are shorter than a window; ``left_out`` of the dataset has the figures. Of
        windows cut from recordings, if all pieces of some are.
    SignalPathWarning
        If recordings differ in what was done to them, at their sources or at ingest.

    Examples
    --------
    >>> from omfa.zoo import open_dataset
    >>> data = open_dataset("dreamer.zarr", 2.0, target="valence>3")
    >>> X, present, y = data.take([0, 1])
    >>> X.shape, present.all(axis=1), data.classes
    ((2, 14, 256), array([ True,  True]), ('low', 'high'))
    """
    opened = _opened(stores, storage_options)
    where = ", ".join(store.path for store in opened)
    stride_seconds = window_seconds if stride_seconds is None else stride_seconds
    union, common = UCS.union(opened), UCS.intersection(opened)
    if cut_from not in get_args(CutFrom) or (cut_from == "recordings" and target is not None):
        raise DataError(
            f"Opening {where}",
            f"cut_from={cut_from!r} with target={target!r}",
            "Use cut_from='trials', or 'recordings' without a target",
        )
    trials, sources = read_trials(opened, whole=cut_from == "recordings")
    made = make_target(trials, target, where=where)
    sfreq = np.array([source.sfreq for source in sources])
    _check_rates(opened, sfreq, rates)
    _check_paths(sources, where, allow_mixed)
    rate = sfreq[trials["recording"].to_numpy()]
    cuts = cut(
        trials,
        rate,
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        where=where,
    )
    without = left_out(trials, rate, cuts, made.keep, window_seconds)
    # Between trials are breaks of every length: what is too short there is no trial that is lost.
    if without.too_short and cut_from == "trials":
        warnings.warn(f"Opening {where}: {without}", TrialsLeftOut, stacklevel=2)
    if cut_from == "recordings":
        heard = set(trials["recording"].to_numpy()[np.unique(cuts.trial)])
        if silent := [one for i, one in enumerate(sources) if i not in heard]:
            named = [f"{one.recorded.dataset}/{one.recording}" for one in silent]
            warnings.warn(
                f"Opening {where}: {len(silent)} of {len(sources)} recordings have no piece of "
                f"{window_seconds:g} s and give no windows: {some(named)}.",
                TrialsLeftOut,
                stacklevel=2,
            )
    cuts = cuts[made.keep[cuts.trial]]  # without the trials that the target's rule leaves out
    rows, ids = _montages(sources, channels, union, common, where, mask_bad)
    folder = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    chosen = torch.device(device)
    source = trials["recording"].to_numpy(np.int64)[cuts.trial]
    tier = _tier(cache, sources, source, cuts, stride_seconds, chosen, folder, buffer_bytes)
    recipe = {
        "stores": [store.path for store in opened],
        "window_seconds": window_seconds,
        "stride_seconds": stride_seconds,
        "channels": channels,
        "target": target_to_json(target),
        "cache": cache,
        "rates": rates,
        "cut_from": cut_from,
        "mask_bad": mask_bad,
        "allow_mixed": allow_mixed,
        "cache_dir": str(cache_dir) if cache_dir else None,
        "buffer_bytes": buffer_bytes,
    }
    return StoreDataset(
        tier=tier,
        target=made,
        recipe=recipe,
        device=chosen,
        sources=sources,
        trials=trials,
        cuts=cuts,
        rows=rows,
        ids=ids,
        ucs=opened[0].ucs,  # the same for all: UCS.union refuses stores of other rules
        left_out=without,
    )


RECIPE = (
    "stores",
    "window_seconds",
    "stride_seconds",
    "channels",
    "target",
    "rates",
    "cut_from",
    "mask_bad",
    "allow_mixed",
)
"""The arguments of ``open_dataset`` that decide a dataset."""


def checked_recipe(recipe: Any, *, doing: str) -> dict[str, Any]:
    """Return what of a recipe out of a file decides the dataset.

    The tier, its folder and its memory are a matter of the machine that reads, and where a file of
    somebody else's may write is not for that file to say.

    Parameters
    ----------
    recipe : mapping
        ``StoreDataset.recipe`` as a result has it.
    doing : str
        For the error.

    Raises
    ------
    DataError
        If it is no table, or has an argument that no recipe has.
    """
    machine = ("cache", "cache_dir", "buffer_bytes")
    if not isinstance(recipe, dict) or (set(recipe) - {*RECIPE, *machine}):
        raise DataError(
            doing,
            "it says in a way that is not omfa's how its dataset is opened",
            "Pass the dataset: rerun(path, dataset)",
        )
    return {name: value for name, value in recipe.items() if name in RECIPE}
