"""TorchEEG building its data set from DEAP's preprocessed files; prints what it cost as JSON.

``bench_ingest.py`` runs it in an environment of TorchEEG's own, which it cannot share with omfa:

    python3.11 -m venv torcheeg
    torcheeg/bin/pip install torch==2.13.0 numpy==1.26.4 scipy==1.10.1 "pandas<3" "lmdb<2" \
        torcheeg==1.1.3

numpy is named because scipy is held at 1.10.1, pandas because the wfdb of that time needs it below
3, lmdb because the splitters open one file twice. Imports are left out of what is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile

from torcheeg import transforms
from torcheeg.datasets import DEAPDataset


def cpu() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Build once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="data_preprocessed_python")
    parser.add_argument("--band", action="store_true", help="band-pass each window of 1 s")
    args = parser.parse_args()
    band = transforms.BandSignal(sampling_rate=128, band_dict={"eeg": [0.5, 45]})
    with tempfile.TemporaryDirectory() as folder:
        start = cpu()
        built = DEAPDataset(
            root_path=args.root,
            io_path=f"{folder}/built",
            offline_transform=band if args.band else None,
            num_worker=0,
            verbose=False,
        )
        print(json.dumps({"cpu": cpu() - start, "windows": len(built)}))


if __name__ == "__main__":
    main()
