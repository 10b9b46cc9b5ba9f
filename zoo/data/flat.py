"""The flat tier: decoded signals of whole recordings in rows, in memory or in mapped files.

All samples of all recordings of a stored type lie in one row, channel after channel. A window of C
channels is C short reads, wherever it starts; so it suits any stride, and the mapped file serves
datasets with other windows, channels and targets too. ``hold`` decodes to memory, ``map_sources``
to files below a cache folder, which are made once for each state of a store.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from omfa.pipeline.encoding import digest
from omfa.pipeline.errors import DataError
from omfa.zoo.data.sources import Ints, Source, has_gaps
from omfa.zoo.data.tiers import absent_zero, onto, stretches

CACHE_VERSION = 1
"""Number of the mapped files' layout. Raise it when that changes: old files are then made again."""


@dataclass(eq=False)
class Flat:
    """All samples of all sources in one row per stored type, in memory or mapped from a file.

    Attributes
    ----------
    name : {"memory", "memmap"}
    banks : list of Tensor, each of shape (n_samples,)
        One for each stored type, and for each store if mapped.
    bank, base : ndarray of int, shape (n_sources,)
        The bank that a source is in, and the place of its first sample there.
    n_times, n_rows : ndarray of int, shape (n_sources,)
        Samples of each channel of a source, and its channels.
    gappy : ndarray of bool, shape (n_sources,)
        Whether a source has missing samples.
    files : list of Path
        The files that the banks are mapped from; empty in memory.
    """

    name: str
    banks: list[torch.Tensor] = field(repr=False)
    bank: Ints
    base: Ints
    n_times: Ints
    n_rows: Ints
    gappy: npt.NDArray[np.bool_]
    files: list[Path] = field(default_factory=list)

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """See ``Tier``."""
        place = rows.clip(min=0) * self.n_times[source][:, None]
        place += (self.base[source] + start)[:, None]
        if len(self.banks) == 1:
            X = stretches(self.banks[0], torch.from_numpy(place), n_times)
        else:
            banks = self.bank[source]
            X = torch.empty((*place.shape, n_times), device=self.banks[0].device)
            for number in np.unique(banks).tolist():
                among = np.flatnonzero(banks == number)
                got = stretches(self.banks[number], torch.from_numpy(place[among]), n_times)
                X[onto(among, X.device)] = got
        return absent_zero(X, rows)

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """See ``Tier``: all orders are as fast."""
        return rng.permutation(len(source))

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """See ``Tier``."""
        first, n_times = int(self.base[source]), int(self.n_times[source])
        flat = self.banks[self.bank[source]][first : first + n_times * int(self.n_rows[source])]
        return flat.view(-1, n_times)[:, start:stop].cpu().numpy()

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """See ``Tier``."""
        return self.gappy[source]

    def __deepcopy__(self, memo: dict[int, Any]) -> Flat:
        return self  # nothing in it changes, and it is large

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the files again: their content is not sent to it.
        return {**self.__dict__, "banks": [] if self.files else self.banks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.files:
            self.banks = [_mapped(path) for path in self.files]


def _mapped(path: Path) -> torch.Tensor:
    # Mapped copy-on-write, since torch has no read-only memory; nothing is written.
    return torch.from_numpy(np.load(path, mmap_mode="c").view(np.ndarray))


def _flat(
    name: str,
    banks: list[torch.Tensor],
    bank: Ints,
    base: Ints,
    gappy: npt.NDArray[np.bool_],
    sources: Sequence[Source],
    files: Sequence[Path] = (),
) -> Flat:
    n_times = np.array([source.n_times for source in sources])
    n_rows = np.array([len(source.channels) for source in sources])
    return Flat(name, banks, bank, base, n_times, n_rows, gappy, list(files))


def _places(sources: Sequence[Source], stores: Sequence[int]) -> tuple[Ints, Ints, list[str]]:
    """Return each source's bank and place in it, and the type of each bank.

    There is a bank for each pair of a store, by its number in ``stores``, and a stored type.
    """
    keys = [(store, source.dtype) for store, source in zip(stores, sources, strict=True)]
    kinds = sorted(set(keys))
    bank = np.array([kinds.index(key) for key in keys])
    base = np.zeros(len(sources), np.int64)
    filled = [0] * len(kinds)
    for i, source in enumerate(sources):
        base[i] = filled[bank[i]]
        filled[bank[i]] += source.n_samples
    return bank, base, [dtype for _, dtype in kinds]


def _put(flat: npt.NDArray[Any], base: int, source: Source) -> bool:
    """Decode a source to its place in a bank, and return whether it has missing samples."""
    signal = source.read()
    flat[base : base + source.n_samples] = signal.reshape(-1)
    return has_gaps(signal)


def hold(sources: Sequence[Source], device: str | torch.device = "cpu") -> Flat:
    """Decode all of the sources into memory.

    Parameters
    ----------
    sources : sequence of Source
    device : str or torch.device
        Whose memory: that of the CPU, or of a CUDA device.
    """
    bank, base, dtypes = _places(sources, [0] * len(sources))
    banks = []
    gappy = np.zeros(len(sources), bool)
    for number, dtype in enumerate(dtypes):
        mine = np.flatnonzero(bank == number).tolist()
        total = sum(sources[i].n_samples for i in mine)
        # NumPy asks for huge pages, torch does not: short reads all over need fewer of them.
        flat = np.empty(total, dtype)
        for i in mine:
            gappy[i] = _put(flat, int(base[i]), sources[i])
        banks.append(torch.from_numpy(flat).to(device))
    return _flat("memory", banks, bank, base, gappy, sources)


def _whole(folder: Path, sources: Sequence[Source]) -> bool:
    """Return whether a folder of decoded signals is there, with files of the right length."""
    try:
        json.loads((folder / "cache.json").read_text())
        sizes: dict[str, int] = {}
        for source in sources:
            sizes[source.dtype] = sizes.get(source.dtype, 0) + source.n_samples
        return all(len(_mapped(folder / f"{dtype}.npy")) == n for dtype, n in sizes.items())
    except (OSError, ValueError):
        return False


def _sweep(home: Path) -> None:
    """Remove the files of earlier states of a store, and those of processes that were killed."""
    for folder in home.glob("*") if home.is_dir() else ():
        pid = folder.name.removeprefix(".building-").split("-")[0]
        if not (folder.name.startswith(".building-") and psutil.pid_exists(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)


def _decode_to(folder: Path, sources: Sequence[Source], base: Ints) -> None:
    gaps = [False] * len(sources)
    for dtype in sorted({source.dtype for source in sources}):
        mine = [i for i, source in enumerate(sources) if source.dtype == dtype]
        total = sum(sources[i].n_samples for i in mine)
        flat = np.lib.format.open_memmap(folder / f"{dtype}.npy", "w+", np.dtype(dtype), (total,))
        for i in mine:
            gaps[i] = _put(flat, int(base[i]), sources[i])
        flat.flush()
    described = {"cache": CACHE_VERSION, "gaps": gaps}
    described["recordings"] = [source.recording for source in sources]
    (folder / "cache.json").write_text(json.dumps(described))


def _decoded(address: str, sources: Sequence[Source], base: Ints, cache_dir: Path) -> Path:
    """Return the folder of a store's decoded signals, and make it if it is not there or damaged."""
    home = cache_dir / f"{Path(address).name}-{digest(address)[:12]}"
    parts = [[source.recording, source.digest] for source in sources]
    folder = home / digest([CACHE_VERSION, parts])[:24]
    if _whole(folder, sources):
        return folder
    _sweep(home)
    # Not ``staged_folder``: this name holds the process, so that others can remove the gigabytes
    # that a killed one left; and what another process finished meanwhile is used, not replaced.
    building = home / f".building-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        building.mkdir(parents=True)
        _decode_to(building, sources, base)
        shutil.rmtree(folder, ignore_errors=True)  # it is damaged, or it would have been returned
        try:
            building.rename(folder)
        except OSError:
            if not _whole(folder, sources):  # if it is whole, another process was first
                raise
    except OSError as error:
        raise DataError(
            f"Decoding {address} to {home}",
            str(error),
            "Free space there, name another folder by cache_dir, or use cache='stream'",
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def map_sources(sources: Sequence[Source], cache_dir: Path) -> Flat:
    """Map decoded signals from files, which are made if they are not there.

    Each store has a folder, and in it one that is named by the digest of its recordings. After a
    store has changed there is none of that name; the files of its old state are then removed. A
    folder is made under another name and renamed, so that it is whole or not there.

    Parameters
    ----------
    sources : sequence of Source
    cache_dir : Path
        A folder on a local disk, with room for the decoded size of all stores.

    Raises
    ------
    DataError
        If the files cannot be written, for instance for lack of room.
    """
    addresses = list(dict.fromkeys(source.address for source in sources))
    stores = [addresses.index(source.address) for source in sources]
    bank, base, dtypes = _places(sources, stores)
    gappy = np.zeros(len(sources), bool)
    files: list[Path] = []
    for number, address in enumerate(addresses):
        mine = np.flatnonzero(np.array(stores) == number).tolist()
        folder = _decoded(address, [sources[i] for i in mine], base[mine], cache_dir)
        gappy[mine] = json.loads((folder / "cache.json").read_text())["gaps"]
        files += [folder / f"{dtype}.npy" for dtype in sorted({sources[i].dtype for i in mine})]
    assert len(files) == len(dtypes)
    return _flat("memmap", [_mapped(path) for path in files], bank, base, gappy, sources, files)
