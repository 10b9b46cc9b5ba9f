"""Import braindecode where its torchaudio cannot load.

braindecode imports torchaudio. The registries' torchaudio is built for CUDA, and beside a CPU build
of torch its compiled part fails on a missing library, although what braindecode uses of it is plain
Python. Only when the plain import fails that way, this module imports torchaudio as a build without
a compiled part, which torchaudio supports.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def _refuse(function: Callable[..., Any]) -> Callable[..., Any]:
    def unavailable(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            f"torchaudio's {function.__name__} needs its compiled part, which does not load beside "
            "this build of torch. Install a torchaudio that matches it."
        )

    return unavailable


def _extension_without_library() -> types.ModuleType:
    # torchaudio has no public switch: these are the flags that its own builds without one set.
    extension = types.ModuleType("torchaudio._extension")
    flags = {"_IS_TORCHAUDIO_EXT_AVAILABLE": False, "_IS_ALIGN_AVAILABLE": False}
    vars(extension).update(flags, fail_if_no_align=_refuse)
    return extension


def make_torchaudio_importable() -> None:
    """Import torchaudio, without its compiled part if that does not load.

    Call it before the first import of braindecode. Without torchaudio installed it does nothing.
    """
    try:
        import_module("torchaudio")
    except ImportError:
        pass  # braindecode's own error names what is missing
    except OSError:
        # The import stopped half-way: what it left would be taken for the whole of torchaudio.
        for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension_without_library()


make_torchaudio_importable()
with warnings.catch_warnings():
    # What braindecode and its imports deprecate among themselves is not for our users to mend: MNE
    # montages under their old names, torch.jit.script inside torch_geometric.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    from braindecode.models.base import EEGModuleMixin

__all__ = ["EEGModuleMixin", "make_torchaudio_importable"]
