import numpy as np
import pandas as pd
import pytest

from omfa.pipeline import store as stores
from omfa.pipeline.channels import UCS_VERSION
from omfa.pipeline.encoding import FORMAT
from omfa.pipeline.metadata import write_root


def table(*, datasets=1, subjects=6, sessions=2, trials=8, windows=5, classes=2, overlap=0):
    """Metadata: in every session the classes take turns; clips are the same for all subjects."""
    length, step = 64, 64 - overlap
    rows = [
        {
            "dataset": f"set{d}",
            "subject": f"sub-{s:02d}",
            "session": f"ses-{e}",
            "run": "run-1",
            "trial": f"trial-{t + 1}",
            "stimulus": f"clip-{e * trials + t}",
            "i_window_in_trial": w,
            # From the start of the recording, where trials follow one another.
            "i_start_in_trial": t * (windows * step + overlap) + w * step,
            "i_stop_in_trial": t * (windows * step + overlap) + w * step + length,
            "target": t % classes,
            "valence": [2.0, 5.0, 8.0][t % 3],
        }
        for d in range(datasets)
        for s in range(subjects)
        for e in range(sessions)
        for t in range(trials)
        for w in range(windows)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def make_table():
    """Make the metadata of a regular dataset."""
    return table


DEAP_SOME = ("Fp1", "F3", "Cz", "T8", "O1", "O2")  # in UCS order, as stores have them


@pytest.fixture(scope="session")
def lay_store():
    """Lay a store of noise, recordings of which every property can be chosen."""

    def lay(
        folder,
        *,
        source="tiny",
        subjects=2,
        sessions=1,
        channels=DEAP_SOME,
        sfreq=100.0,
        trials=((30, 500), (560, 430), (990, 200)),
        n_times=1300,
        dtype="float16",
        missing=(),
        labels=None,
        offsets=None,
        seed=0,
        simulated=False,
        stimuli=None,
        signals=None,
        files=None,
        repeated=False,
        bad=(),
        preprocessing=None,
        history=None,
    ):
        table = pd.DataFrame(list(trials), columns=["onset", "length"])
        table = table.assign(baseline_onset=0, baseline_length=0)
        table["stimulus"] = [f"{i + 1}" for i in range(len(table))]
        default = {"emotion": np.arange(len(table)) % 3 - 1}
        for name, values in (default if labels is None else labels).items():
            table[name] = values
        rng = np.random.default_rng(seed)
        for subject in range(1, subjects + 1):
            if stimuli is not None:
                table["stimulus"] = stimuli(subject)
            for session in range(1, sessions + 1):
                if repeated:
                    rng = np.random.default_rng(seed)
                signal = rng.normal(0, 20, (len(channels), n_times)).astype(np.float32)
                if signals is not None:
                    signal = signals(subject)
                for i, (onset, length) in enumerate(trials if offsets is not None else ()):
                    signal[:, onset : onset + length] += offsets[i]
                for row, sample in missing:
                    signal[row, sample] = np.nan
                names = f"{subject:02d}", f"{session}", "1"
                name = "sub-{}_ses-{}_run-{}".format(*names)
                segments = np.array([[0, n_times]])
                quality = {"bad": np.array([c in bad for c in channels])}
                facts = {"source": ({"simulated": True} if simulated else {}) | (history or {})}
                if files is not None:
                    sha256 = f"{files}{subject}{session}".ljust(64, "0")
                    facts["source_files"] = [{"name": "a.edf", "size": 9, "sha256": sha256}]
                recording = stores.AlignedRecording(
                    *(name, *names, list(channels), sfreq, signal, segments, table, quality),
                    facts=facts,
                )
                for file, content in stores.encode(recording, dtype, "settings").items():
                    (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name / file).write_bytes(content)
        settings = {
            "format": FORMAT,
            "ucs_version": UCS_VERSION,
            "settings_digest": "settings",
            "source": source,
            "channels": {"cerebellar": "PO9/PO10", "aliases": {}},
            "preprocessing": {"band": [0.5, 45.0], "reference": "source"} | (preprocessing or {}),
        }
        write_root(stores.locate(folder), settings)
        return folder

    return lay
