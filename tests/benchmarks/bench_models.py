"""How long the models take: ``python tests/benchmarks/bench_models.py``.

Prints ratios of forward-and-backward times, two CPU threads, batch 64. What is compared runs turn
by turn in one process, so that a ratio is taken under one load; each ratio is the median over the
turns of the quotient within a turn. On a machine with other work, ``--clock cpu --threads 1``
counts this process's own time. ``bench_gpu.py`` measures a GPU.
"""

import argparse
import statistics
import time
import warnings

import torch

from omfa.models import OMFA
from omfa.models.heads import GATv2

warnings.filterwarnings("ignore")
BATCH = 64
CASES = ((62, 800, 200.0, 200), (14, 512, 128.0, 128))  # channels, samples, Hz, LaBraM's patch


def step(model, *inputs, **options):
    """One forward and backward pass."""
    model.zero_grad(set_to_none=True)
    model(*inputs, **options).square().mean().backward()


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


def seconds(function):
    start = clock()
    function()
    return clock() - start


def turn_by_turn(functions, turns):
    """Return for each name its times, after one unmeasured turn."""
    for function in functions.values():
        function()
    return [{name: seconds(function) for name, function in functions.items()} for _ in range(turns)]


def report(title, times, reference, targets):
    print(f"\n{title}")
    for name in times[0]:
        median = statistics.median(t[name] for t in times)
        ratio = statistics.median(t[name] / t[reference] for t in times)
        spread = [round(f(t[name] / t[reference] for t in times), 2) for f in (min, max)]
        target = f", target {targets[name]}" if name in targets else ""
        print(f"  {name:28s} {median:8.3f} s   {ratio:6.3f} x {reference} {spread}{target}")


def labram(n_chans, n_times, patch):
    """LaBraM by its own channel names, with one-second patches as it was made for."""
    from braindecode.models import Labram
    from braindecode.models.labram import _LABRAM_TARGET_CHS_INFO as canonical

    names = [ch["ch_name"] for ch in canonical][:n_chans]
    model = Labram(n_outputs=3, n_times=n_times, chs_info=canonical, patch_size=patch)
    return model, {"ch_names": names}


def whole_models(turns, n_chans, n_times, sfreq, patch):
    x = 10 * torch.randn(BATCH, n_chans, n_times)
    reference, options = labram(n_chans, n_times, patch)
    functions = {"labram": lambda: step(reference, x, **options)}
    for preset in ("small", "base"):
        model = OMFA(n_outputs=3, n_chans=n_chans, n_times=n_times, sfreq=sfreq, preset=preset)
        functions[f"omfa {preset}"] = lambda model=model: step(model, x)
    targets = {"omfa small": "<= 0.5", "omfa base": "<= 2.0"} if n_chans == 62 else {}
    targets = targets or {"omfa small": "<= 1.0"}
    seconds_long = n_times / sfreq
    report(
        f"{n_chans} channels x {seconds_long:g} s at {sfreq:g} Hz, batch {BATCH}",
        turn_by_turn(functions, turns),
        "labram",
        targets,
    )


def graph_layers(turns, n_chans=62, dim=128, n_heads=4):
    """GATv2 on complete graphs: ours on dense batches, torch_geometric's on an edge list."""
    from torch_geometric.nn import GATv2Conv

    x = torch.randn(BATCH, n_chans, dim)
    edges = torch.ones(BATCH, n_chans, n_chans, dtype=torch.bool)
    i, j = torch.meshgrid(torch.arange(n_chans), torch.arange(n_chans), indexing="ij")
    one = torch.stack((j.flatten(), i.flatten()))
    index = torch.cat([one + n_chans * b for b in range(BATCH)], 1)
    dense = GATv2(dim, dim, n_heads)
    sparse = GATv2Conv(dim, dim // n_heads, heads=n_heads, add_self_loops=False)
    functions = {
        "torch_geometric": lambda: step(sparse, x.flatten(0, 1), index),
        "dense": lambda: step(dense, x, edges),
    }
    report(
        f"GATv2, complete graph of {n_chans} nodes, {dim} features, {n_heads} heads, batch {BATCH}",
        turn_by_turn(functions, turns),
        "torch_geometric",
        {"dense": "<= 0.2"},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", choices=("62", "14", "graph"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    global clock
    clock = CLOCKS[options.clock]
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    # First, while no other case's freed memory serves the large edge tensors of torch_geometric.
    if options.only in (None, "graph"):
        graph_layers(options.turns)
    for case in CASES:
        if options.only in (None, str(case[0])):
            whole_models(options.turns, *case)


if __name__ == "__main__":
    main()
