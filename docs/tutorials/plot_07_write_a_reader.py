"""
Write a reader
==============

A laboratory's own format becomes a store like any other: two methods, and ``check_reader``, which
says what is not kept yet. The recordings are simulated.
"""

# %%
# The files
# ---------
# A table for each person and emotion, ``7_happy.csv``: a column per electrode, a row per sample, in
# microvolts at 128 Hz.

import importlib.util
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lab import record

from omfa.pipeline import check_reader, ingest, open_store
from omfa.pipeline.reader_checks import CHECKS

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
(folder / "raw").mkdir()
for person in (7, 8):
    for i, emotion in enumerate(("happy", "sad")):
        raw = record(10 * person + i, trials=2).resample(128, verbose="error")
        table = pd.DataFrame(raw.get_data(units="uV").T.round(3), columns=raw.ch_names)
        table.to_csv(folder / "raw" / f"{person}_{emotion}.csv", index=False)
print(*sorted(path.name for path in (folder / "raw").iterdir()))

# %%
# A first try
# -----------
# A reader is a frozen dataclass in a module of its own, since workers import it. ``discover`` lists
# recordings by their names, ``read`` reads one. It cleans nothing.

FIRST = """
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from omfa.pipeline import Key, Recording
from omfa.pipeline.recording import TRIAL_COLUMNS


@dataclass(frozen=True)
class LabReader:
    name: str = field(default="lab", init=False)

    def discover(self, root):
        files = Path(root).rglob("*.csv")
        names = [(str(file.relative_to(root)), *file.stem.split("_")) for file in files]
        return [Key(who, run=what, files=(file,), root=str(root)) for file, who, what in names]

    def read(self, key):
        table = pd.read_csv(key.paths[0])
        trial = dict.fromkeys(TRIAL_COLUMNS, 0)
        trial |= {"length": len(table), "stimulus": "", "emotion": key.run}
        return Recording(key=key, channels=list(table.columns), sfreq=128.0,
                         segments=[table.to_numpy().T], trials=pd.DataFrame([trial]))
"""


def module(name, text):
    """Write a module and import it, as an installed package would be."""
    (folder / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


findings = check_reader(module("first_try", FIRST).LabReader(), folder / "raw")
for finding in findings:
    print(finding)

# %%
# A better one
# ------------
# What *must* be, ``ingest`` relies on; what *should* be are the conventions by which no recording
# is taken twice and none is lost without a word. ``omfa.pipeline.readers.folder`` has the pieces.

BETTER = """
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from omfa.pipeline import DataError, Key, Recording
from omfa.pipeline.readers import folder
from omfa.pipeline.recording import TRIAL_COLUMNS

FILE = re.compile(r"([0-9]+)_([a-z]+)[.]csv", re.IGNORECASE)


@dataclass(frozen=True)
class LabReader:
    name: str = field(default="lab", init=False)

    def discover(self, root):
        root, where = Path(root), f"lab reader: {root}"
        tables = [path for path in folder.walk(root) if path.suffix.lower() == ".csv"] \\
            if root.is_dir() else []
        named = [(path, FILE.fullmatch(path.name)) for path in folder.once(tables, where=where)]
        if others := [path.name for path, found in named if not found]:
            folder.left_out(where, others, "are not called SUBJECT_EMOTION.csv")
        keys = [Key(found[1], run=found[2].lower(), files=(str(path.relative_to(root)),),
                    root=str(root)) for path, found in named if found]
        if not keys:
            raise DataError(where, "there is no SUBJECT_EMOTION.csv", "Name another folder")
        return sorted(keys)

    def read(self, key):
        path = key.paths[0]
        where = f"lab reader: {path.name}"
        folder.check_there(path, where=where)
        try:
            table = pd.read_csv(path, dtype=np.float32)
        except (OSError, ValueError) as error:
            raise DataError(where, f"it is no table of numbers ({error})", "Correct it") from error
        trial = dict.fromkeys(TRIAL_COLUMNS, 0)
        trial |= {"length": len(table), "stimulus": "", "emotion": key.run}
        return Recording(key=key, channels=list(table.columns), sfreq=128.0,
                         segments=[np.ascontiguousarray(table.to_numpy().T)],
                         trials=pd.DataFrame([trial]))
"""
omfa_lab = module("omfa_lab", BETTER)
after = check_reader(omfa_lab.LabReader(), folder / "raw")
print(*after or ["nothing is left to mend"], sep="\n")
assert not after

# %%
# What was found of each.

broken = {finding.check for finding in findings}
kept = np.array([[name not in broken, True] for name in CHECKS])
fig, ax = plt.subplots(figsize=(6, 4.6), layout="constrained")
ax.imshow(~kept, cmap="Reds", vmin=0, vmax=1.4, aspect="auto")
for (row, column), good in np.ndenumerate(kept):
    ax.text(column, row, "kept" if good else "BROKEN", ha="center", va="center")
ax.set(
    xticks=[0, 1],
    xticklabels=["first try", "better"],
    yticks=range(len(CHECKS)),
    yticklabels=[f"{name} ({level})" for name, (level, _) in CHECKS.items()],
)

# %%
# Into a store
# ------------
# In Python the object is passed. For ``omfa-ingest lab RAW STORE`` its package names it by an entry
# point; its fields are then flags::
#
#     [project.entry-points."omfa.readers"]
#     lab = "omfa_lab:LabReader"
#
# In the tests of a package, ``assert check_reader(LabReader(), TREE) == []`` holds it to all of
# this.

ingest(omfa_lab.LabReader(), folder / "raw", folder / "lab.zarr", serial=True, progress=False)
store = open_store(folder / "lab.zarr")
figure = store[0].plot(trial=0, seconds=4.0)

# %%

store.recordings[["subject", "run", "n_chans", "sfreq", "n_trials"]]

# %%

temporary.cleanup()
plt.show()
