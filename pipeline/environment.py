"""Which omfa this is, and what it runs on: for a report of a fault."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

__version__ = version("omfa")

PACKAGES = (
    *("numpy", "scipy", "pandas", "mne", "zarr", "numcodecs", "dask", "distributed", "h5py"),
    *("matplotlib", "mne-bids", "moabb", "s3fs", "torch", "braindecode", "lightning"),
    *("scikit-learn", "pyriemann", "onnxruntime", "mne-lsl"),
)
"""What omfa's results depend on, as the registries spell it."""


def sys_info() -> str:
    """Return what a report of a fault needs, a line each, and print it.

    Returns
    -------
    str
        Versions of omfa, Python and the packages that it uses, the platform, cores, memory, and the
        GPUs that torch sees, where torch is imported already.

    Examples
    --------
    >>> from omfa.pipeline import sys_info
    >>> sys_info()  # doctest: +ELLIPSIS
    omfa ...
    """
    import psutil

    rows = {
        "omfa": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "cores": f"{os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }
    # Not imported for this: it takes seconds.
    if torch := sys.modules.get("torch"):
        found = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        rows["gpu"] = ", ".join(found) or "none"
    for package in PACKAGES:
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "not installed"
    width = max(map(len, rows))
    text = "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())
    print(text)
    return text
