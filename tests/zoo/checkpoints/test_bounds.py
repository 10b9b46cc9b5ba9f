"""Hostile checkpoints are refused in bounded memory and time."""

import json
import shutil
import struct
import subprocess
import sys

import pytest
import torch

from omfa import zoo
from omfa.models import OMFA

resource = pytest.importorskip("resource")

LOAD = """
import resource, sys, warnings
from omfa import zoo
import omfa.models.omfa, safetensors.torch
warnings.simplefilter("ignore")
megabytes, seconds, *folders = sys.argv[1:]
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (int(megabytes) << 20),) * 2)
used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
resource.setrlimit(resource.RLIMIT_CPU, (int(used) + int(seconds),) * 2)
for folder in folders:
    try:
        zoo.load(folder)
        print("read")
    except ValueError as error:
        print(type(error).__name__, error)
"""


def bounded(folders, *, megabytes=600, seconds=60):
    """Load in a process of its own that is ended beyond either bound; return what it said."""
    command = [sys.executable, "-c", LOAD, str(megabytes), str(seconds), *map(str, folders)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, (run.returncode, run.stderr[-400:])
    return run.stdout.splitlines()


def of_config(**changes):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def of_card(**changes):
    def change(folder):
        path = folder / "card.json"
        text = json.dumps(json.loads(path.read_text()) | dict.fromkeys(changes, "HERE"))
        for value in changes.values():
            text = text.replace('"HERE"', value)
        path.write_text(text)

    return change


def of_size(name, size):
    def change(folder):
        with (folder / name).open("ab") as file:  # nothing is written: the file is sparse
            file.truncate(size)

    return change


def claiming(header, length=None):
    """Weights whose header claims more than there is."""

    def change(folder):
        text = json.dumps(header).encode()
        size = struct.pack("<Q", len(text) if length is None else length)
        (folder / "model.safetensors").write_bytes(size + text)

    return change


def nested(depth):
    return "[" * depth + "]" * depth


TERABYTES = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}

HOSTILE = {
    "a width of ten digits": (of_config(d_model=10**9), "argument 'd_model'"),
    "outputs without end": (of_config(n_outputs=10**9), "n_outputs=1000000000"),
    "other outputs than the weights": (of_config(n_outputs=10**6), "different numbers of outputs"),
    "samples without end": (of_config(n_times=10**12), "n_times=1000000000000"),
    "a rate that needs a large table": (of_config(sfreq=1.0003, n_times=None), "sfreq=1.0003"),
    "a high rate": (of_config(sfreq=999983.0, n_times=None), "sfreq=999983.0"),
    "a configuration of 100 MB": (of_size("config.json", 10**8), "is no card or configuration"),
    "a card of 100 MB": (of_size("card.json", 10**8), "is no card or configuration"),
    "a card that is nested 200,000 times": (of_card(recipe=nested(200_000)), "is not JSON"),
    "a card that is nested 900 times": (of_card(recipe=f'{{"a": {nested(900)}}}'), "card"),
    "a card that is nested 300 times": (of_card(recipe=f'{{"a": {nested(300)}}}'), "nested more"),
    "a card with a wide list": (of_card(saw=json.dumps([[]] * 300_000)), "saw holds [], not"),
    "weights of a terabyte": (of_size("model.safetensors", 1 << 40), "1,099,511,627,776 bytes"),
    "weights that claim terabytes": (claiming({"a": TERABYTES}), "no safetensors file"),
    "a header that claims terabytes": (claiming({}, 1 << 42), "no safetensors file"),
    "many channels": (
        of_config(n_chans=None, chs_info=[{"ch_name": f"E{i}"} for i in range(100_000)]),
        "read",
    ),
}


def test_a_hostile_checkpoint_is_refused(tmp_path):
    torch.manual_seed(0)
    model = OMFA(n_outputs=2, n_chans=3, n_times=512, sfreq=128.0, preset="tiny")
    card = zoo.Card("hostile", "tiny", "finetuned", 1, {}, [], {})
    whole = zoo.save_checkpoint(tmp_path / "whole", model, card)
    folders = []
    for name, (change, _) in HOSTILE.items():
        folders.append(tmp_path / name)
        shutil.copytree(whole, folders[-1])
        change(folders[-1])
    for (name, (_, found)), line in zip(HOSTILE.items(), bounded(folders), strict=True):
        assert found in line, (name, line[:400])
