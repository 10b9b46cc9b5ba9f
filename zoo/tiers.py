"""Where decoded signals lie while a model trains: in memory, in a mapped file, or nowhere for long.

Each tier gives the same windows of the same stored samples. ``Flat`` holds every sample once, row
after row, in the stored type, so that a window is as many short reads as it has channels, wherever
it starts: no stride costs memory. ``Streamed`` decodes pieces of recordings when a window in them
is asked for, and keeps the last few; its ``order`` mixes the windows of as many pieces as it keeps.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import psutil
import torch

from omfa.pipeline.location import locate
from omfa.pipeline.recording import DataError
from omfa.pipeline.store import StoredRecording, digest

Cache = Literal["auto", "memory", "memmap", "stream"]
Ints = npt.NDArray[np.int64]

CACHE_VERSION = 1
"""Raised when the files of ``map_sources`` are laid out in another way."""

MEMORY_SHARE = 0.5
"""Share of the free memory, of RAM or of the device, that ``auto`` fills with signals."""

CONVERTED_BYTES = 2**21
"""Of samples that are converted at a time: they fit into a processor's cache."""

PIECE_BYTES = 16e6
"""Decoded size of a piece that is streamed: long against a chunk, small against the buffer."""


@dataclass(frozen=True)
class Source:
    """A stored recording, and what is needed to read it without asking again.

    Attributes
    ----------
    address, options, recording
        Where it lies.
    digest : str
        Of its metadata, the signal's checksum included.
    dtype : str
        Of the stored signal.
    sfreq : float
        Hz.
    channels, bad_channels : tuple of str
    n_times : int
    simulated : bool
        Whether its source says so, or the store's name.
    """

    address: str
    options: tuple[tuple[str, Any], ...] = field(repr=False)
    recording: str
    digest: str
    dtype: str
    sfreq: float
    channels: tuple[str, ...]
    bad_channels: tuple[str, ...]
    n_times: int
    simulated: bool = False

    @property
    def n_samples(self) -> int:
        """Samples of all channels."""
        return len(self.channels) * self.n_times

    @property
    def nbytes(self) -> int:
        """Decoded size."""
        return self.n_samples * np.dtype(self.dtype).itemsize

    def read(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.floating]:
        """Decode from the store, shape (n_chans, n_times)."""
        location = locate(self.address, dict(self.options))
        return StoredRecording(location, self.recording).signal(start, stop)


class Tier(Protocol):
    """Gives windows of the sources' signals."""

    name: str

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """Return windows.

        Parameters
        ----------
        source : ndarray, shape (batch,)
        rows : ndarray, shape (batch, n_chans)
            For each window the rows of its source's signal; -1 for an absent channel.
        start : ndarray, shape (batch,)
        n_times : int

        Returns
        -------
        Tensor of float32, shape (batch, n_chans, n_times)
            0 where absent.
        """

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """Return a random order of windows that the tier can serve fast."""

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Return a piece of a recording, shape (n_chans, stop - start)."""

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """Return which sources have missing samples, so far as they have been decoded."""


# ------------------------------------------------------------------------- memory and memmap


@dataclass(eq=False)
class Flat:
    """All samples of all sources in one row per stored type, in memory or mapped from a file.

    Attributes
    ----------
    name : {"memory", "memmap"}
    banks : list of Tensor, each 1-D
    bank, base, n_times : ndarray, shape (n_sources,)
        Which bank a source is in, the first sample's place there, the length of its rows.
    gappy : ndarray of bool, shape (n_sources,)
    files : list of Path
        What the banks are mapped from; empty in memory.
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
                X[torch.from_numpy(among).to(X.device)] = got
        return absent_zero(X, rows)

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """See ``Tier``: any order."""
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
        return {**self.__dict__, "banks": [] if self.files else self.banks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.files:
            self.banks = [_mapped(path) for path in self.files]


def stretches(flat: torch.Tensor, place: torch.Tensor, n_times: int) -> torch.Tensor:
    """Return stretches of a row of samples as float32.

    Parameters
    ----------
    flat : Tensor, shape (n_samples,)
    place : Tensor of int64
        Where each begins.
    n_times : int

    Returns
    -------
    Tensor, shape (*place.shape, n_times)
    """
    return selected(_every(flat, n_times), place.reshape(-1)).view(*place.shape, n_times)


def _every(flat: torch.Tensor, n_times: int) -> torch.Tensor:
    """View every stretch there is, a row each, which takes no memory."""
    return flat.as_strided((len(flat) - n_times + 1, n_times), (1, 1))


def selected(
    table: torch.Tensor,
    rows: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    at: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return rows of a table of samples as float32.

    In RAM fresh memory can cost more than the copying. So the stored type passes through a piece
    that a thread uses again and again.

    Parameters
    ----------
    table : Tensor, shape (n_rows, width)
    rows : Tensor of int64, shape (n,)
    out : Tensor of float32, shape (n_out, width), optional
        What to write to, in RAM as the table is.
    at : Tensor of int64, shape (n,), optional
        Rows of ``out``.

    Returns
    -------
    Tensor, shape (n, width), or ``out``
    """
    if table.device.type != "cpu":
        return table.index_select(0, rows.to(table.device)).float()
    n, width = len(rows), table.shape[1]
    X = fresh(n, width) if out is None else out
    if table.dtype == torch.float32 and at is None:
        return torch.index_select(table, 0, rows, out=X)
    step = max(1, min(n, CONVERTED_BYTES // (width * table.element_size())))
    for i in range(0, n, step):
        some = slice(i, i + step)
        stored = _STORED.rows(len(rows[some]), width, table.dtype)
        torch.index_select(table, 0, rows[some], out=stored)
        if at is None:
            X[some].copy_(stored)
        else:
            X.index_copy_(0, at[some], _CONVERTED.rows(len(stored), width).copy_(stored))
    return X


class _Scratch(threading.local):
    """Memory of a thread that is used again."""

    def __init__(self) -> None:
        # NumPy's: a tensor made in torch's inference mode could not be written to outside it.
        self.content = np.empty(0, np.uint8)

    def rows(self, n: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        size = n * width * dtype.itemsize
        if len(self.content) < size:
            self.content = np.empty(size, np.uint8)
        return torch.from_numpy(self.content[:size]).view(dtype).view(n, width)


_STORED, _CONVERTED = _Scratch(), _Scratch()


def fresh(*shape: int) -> torch.Tensor:
    """Return memory for samples. NumPy asks for huge pages, torch does not."""
    return torch.from_numpy(np.empty(shape, np.float32))


def absent_zero(X: torch.Tensor, rows: Ints) -> torch.Tensor:
    """Set windows' absent channels, whose row is -1, to zero in place."""
    absent = rows < 0
    if absent.any():
        X[torch.from_numpy(absent).to(X.device)] = 0
    return X


def hold(sources: Sequence[Source], device: str | torch.device = "cpu") -> Flat:
    """Decode all sources into memory: RAM, or a device's."""
    bank, base, dtypes = _places(sources, [0] * len(sources))
    banks = []
    gappy = np.zeros(len(sources), bool)
    for number, dtype in enumerate(dtypes):
        mine = np.flatnonzero(bank == number).tolist()
        total = sum(sources[i].n_samples for i in mine)
        # NumPy asks for huge pages, torch does not: short reads all over miss fewer of them.
        flat = np.empty(total, dtype)
        for i in mine:
            gappy[i] = _put(flat, int(base[i]), sources[i])
        banks.append(torch.from_numpy(flat).to(device))
    return _flat("memory", banks, bank, base, gappy, sources)


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
    """Return each source's bank and place in it, a bank for each store and stored type."""
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
    """Decode a source to its place; return whether it has missing samples."""
    signal = source.read()
    flat[base : base + source.n_samples] = signal.reshape(-1)
    return has_gaps(signal)


def has_gaps(signal: npt.NDArray[np.floating]) -> bool:
    """Return whether a sample is missing: NaN, or infinite."""
    # NaN and infinity have every bit of the exponent set. NumPy's isfinite of float16 is slow.
    top = {2: 0x7C00, 4: 0x7F800000, 8: 0x7FF0000000000000}[signal.itemsize]
    bits = signal.view(f"u{signal.itemsize}")
    return any(bool((row & top).max(initial=0) == top) for row in bits)


def map_sources(sources: Sequence[Source], cache_dir: Path) -> Flat:
    """Map decoded signals from files, which are made when they are not there.

    There is a folder for each store, and in it one named by the digest of its recordings: a store
    that has changed finds none of that name, and what the old one left is removed. A folder is
    made under another name and renamed, so that it is whole or not there.

    Parameters
    ----------
    sources : sequence of Source
    cache_dir : Path
        On a local disk; needs the decoded size.
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


def _decoded(address: str, sources: Sequence[Source], base: Ints, cache_dir: Path) -> Path:
    """Return the folder of a store's decoded signals, made if need be."""
    home = cache_dir / f"{Path(address).name}-{digest(address)[:12]}"
    parts = [[source.recording, source.digest] for source in sources]
    folder = home / digest([CACHE_VERSION, parts])[:24]
    if _whole(folder, sources):
        return folder
    _sweep(home)
    building = home / f".building-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        building.mkdir(parents=True)
        _decode_to(building, sources, base)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, else it would have been returned
        try:
            building.rename(folder)
        except OSError:
            if not _whole(folder, sources):  # another process was first, if it is
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


def _whole(folder: Path, sources: Sequence[Source]) -> bool:
    try:
        json.loads((folder / "cache.json").read_text())
        sizes: dict[str, int] = {}
        for source in sources:
            sizes[source.dtype] = sizes.get(source.dtype, 0) + source.n_samples
        return all(len(_mapped(folder / f"{dtype}.npy")) == n for dtype, n in sizes.items())
    except (OSError, ValueError):
        return False


def _sweep(home: Path) -> None:
    """Remove what an earlier state of the store, or a run that was killed, has left."""
    for folder in home.glob("*") if home.is_dir() else ():
        pid = folder.name.removeprefix(".building-").split("-")[0]
        if not (folder.name.startswith(".building-") and psutil.pid_exists(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)


def _mapped(path: Path) -> torch.Tensor:
    # Mapped copy-on-write: torch knows no read-only memory, and nothing is written.
    return torch.from_numpy(np.load(path, mmap_mode="c").view(np.ndarray))


# ---------------------------------------------------------------------------------- stream


@dataclass(eq=False)
class Streamed:
    """Pieces of recordings, decoded when asked for; the last used are kept.

    Attributes
    ----------
    sources : list of Source
    source, start, stop : ndarray, shape (n_pieces,)
        Where the pieces lie, ordered by source and start; no window reaches beyond one.
    buffer_bytes : float
        Of decoded pieces to keep.
    """

    sources: list[Source]
    source: Ints
    start: Ints
    stop: Ints
    buffer_bytes: float = 256e6
    name: str = "stream"
    gappy: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.gappy = np.zeros(len(self.sources), bool)
        self._kept: OrderedDict[int, npt.NDArray[np.floating]] = OrderedDict()
        self._lock = threading.RLock()

    @cached_property
    def _keys(self) -> Ints:
        return window_key(self.source, self.start)

    @cached_property
    def n_kept(self) -> int:
        """Pieces that fit into the buffer, at least one."""
        sizes = [self._nbytes(i) for i in range(len(self.source))]
        return max(1, int(self.buffer_bytes / max(sizes, default=1)))

    def _nbytes(self, piece: int) -> int:
        source = self.sources[self.source[piece]]
        length = int(self.stop[piece] - self.start[piece])
        return len(source.channels) * length * np.dtype(source.dtype).itemsize

    def pieces(self, source: Ints, start: Ints) -> Ints:
        """Return the piece that each window lies in."""
        return np.searchsorted(self._keys, window_key(source, start), side="right") - 1

    def gather(self, source: Ints, rows: Ints, start: Ints, n_times: int) -> torch.Tensor:
        """See ``Tier``."""
        n_chans = rows.shape[1]
        X = fresh(len(source) * n_chans, n_times)
        pieces = self.pieces(source, start)
        order = np.argsort(pieces, kind="stable")
        found, first = np.unique(pieces[order], return_index=True)
        parts = list(zip(found.tolist(), np.split(order, first[1:]), strict=True))
        # Those that are kept first: a piece that enters must push out one that is done with.
        parts.sort(key=lambda part: part[0] not in self._kept)
        for piece, among in parts:
            signal = self._signal(piece)
            place = rows[among].clip(min=0) * signal.shape[1]
            place += (start[among] - self.start[piece])[:, None]
            at = among[:, None] * n_chans + np.arange(n_chans)
            every = _every(torch.from_numpy(signal.reshape(-1)), n_times)
            where = torch.from_numpy(place.reshape(-1))
            selected(every, where, out=X, at=torch.from_numpy(at.reshape(-1)))
        return absent_zero(X.view(len(source), n_chans, n_times), rows)

    def _signal(self, piece: int) -> npt.NDArray[np.floating]:
        with self._lock:
            if piece in self._kept:
                self._kept.move_to_end(piece)
                return self._kept[piece]
            while len(self._kept) >= self.n_kept:
                self._kept.popitem(last=False)
            number = int(self.source[piece])
            signal = self.sources[number].read(int(self.start[piece]), int(self.stop[piece]))
            signal = np.ascontiguousarray(signal)
            self.gappy[number] |= has_gaps(signal)
            self._kept[piece] = signal
            return signal

    def order(self, source: Ints, start: Ints, rng: np.random.Generator) -> Ints:
        """Shuffle so that few pieces are in use at a time.

        Pieces take turns in random order. The p-th of P is in use for K turns around p, moved
        inside [0, P), and each of its windows comes at a random time in them. So K/2 pieces are
        mixed at the epoch's ends, up to 3K/2 near them and K elsewhere, and each piece is decoded
        once, if a batch is small against the windows of a piece.
        """
        pieces = self.pieces(source, start)
        used, piece = np.unique(pieces, return_inverse=True)
        turns = max(1, int((self.n_kept - 2) / 1.5))
        turn = rng.permutation(len(used))
        first = np.clip(turn - turns / 2, 0, max(0, len(used) - turns))
        return np.argsort(first[piece] + turns * rng.random(len(piece)), kind="stable")

    def read(self, source: int, start: int, stop: int) -> npt.NDArray[np.floating]:
        """See ``Tier``."""
        return self.sources[source].read(start, stop)

    def gaps(self, source: Ints) -> npt.NDArray[np.bool_]:
        """See ``Tier``."""
        return self.gappy[source]

    def __deepcopy__(self, memo: dict[int, Any]) -> Streamed:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_kept", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kept = OrderedDict()
        self._lock = threading.RLock()


def window_key(source: Ints, start: Ints) -> Ints:
    """Return one number for each place, ordered by source and start."""
    return source.astype(np.int64) << 40 | start.astype(np.int64)


def stream(
    sources: Sequence[Source], source: Ints, start: Ints, n_times: Ints, buffer_bytes: float
) -> Streamed:
    """Make the streamed tier for windows that are ordered by source and start."""
    pieces = list(_pieces(sources, source, start, start + n_times))
    columns = np.array(pieces, np.int64).T
    return Streamed(list(sources), columns[0], columns[1], columns[2], buffer_bytes)


def _pieces(
    sources: Sequence[Source], source: Ints, start: Ints, stop: Ints
) -> Iterator[tuple[int, int, int]]:
    """Join neighbouring windows to pieces of about ``PIECE_BYTES``."""
    for number in np.unique(source).tolist():
        one = sources[number]
        limit = PIECE_BYTES / (len(one.channels) * np.dtype(one.dtype).itemsize)
        among = np.flatnonzero(source == number)
        first = 0
        starts, stops = start[among], np.maximum.accumulate(stop[among])
        while first < len(among):
            # The windows that end within the limit, and one at least. Of equal starts all: a
            # window finds its piece by its start.
            end = max(int(np.searchsorted(stops, starts[first] + limit, side="right")), first + 1)
            end = int(np.searchsorted(starts, starts[end - 1], side="right"))
            yield number, int(starts[first]), int(stops[end - 1])
            first = end


# ---------------------------------------------------------------------------------- choice


def default_cache_dir() -> Path:
    """Return the folder of decoded signals: ``omfa`` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "omfa"


def choose(nbytes: int, device: str | torch.device, cache_dir: Path) -> Cache:
    """Return the first tier that decoded signals fit into: memory, memmap, stream."""
    device = torch.device(device)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return "memory" if nbytes <= MEMORY_SHARE * free else "stream"
    if nbytes <= MEMORY_SHARE * psutil.virtual_memory().available:
        return "memory"
    there = next(folder for folder in (cache_dir, *cache_dir.parents) if folder.exists())
    return "memmap" if nbytes <= 0.8 * shutil.disk_usage(there).free else "stream"
