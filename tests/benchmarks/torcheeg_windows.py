"""TorchEEG reading shuffled windows of DEAP from its warm LMDB; prints windows per second as JSON.

``bench_datasets.py`` runs it in an environment of TorchEEG's own; ``torcheeg_deap.py`` says how to
make one. Windows of 1 s with a label, one process, imports and the build left out. Each figure is
the best of some passes: by CPU seconds and by the clock.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable

from torch.utils.data import DataLoader
from torcheeg import transforms
from torcheeg.datasets import DEAPDataset


def rates(work: Callable[[], int], repeats: int) -> tuple[float, float]:
    """Return windows per CPU second and per second."""
    cpu, wall = [], []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        count = work()
        cpu.append(count / (time.process_time() - start[0]))
        wall.append(count / (time.perf_counter() - start[1]))
    return max(cpu), max(wall)


def main() -> None:
    """Build once, read some times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="data_preprocessed_python")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    label = transforms.Compose([transforms.Select("valence"), transforms.Binary(5.0)])
    with tempfile.TemporaryDirectory() as folder:
        built = DEAPDataset(
            root_path=args.root,
            io_path=f"{folder}/built",
            online_transform=transforms.ToTensor(),
            label_transform=label,
            num_worker=0,
            verbose=False,
        )
        order = random.sample(range(len(built)), len(built))
        loader = DataLoader(built, batch_size=256, shuffle=True)

        def one_by_one() -> int:
            return sum(1 for i in order if built[i] is not None)

        def batched() -> int:
            return sum(len(y) for _, y in loader)

        found = {"items": rates(one_by_one, args.repeats), "batches": rates(batched, args.repeats)}
        print(json.dumps(found | {"windows": len(built)}))


if __name__ == "__main__":
    main()
