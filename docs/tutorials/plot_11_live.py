"""
Answers while it records
========================

A fine-tuned model listens to a stream of the lab streaming layer (LSL) and answers twice a second.
The amplifier is MNE-LSL's player, which sends a simulated recording in real time.
This needs ``pip install 'omfa[live]'``.
"""

# %%
# A model, as in the first tutorial.

import json
import tempfile
import uuid
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from lab import TRIAL, learn, record
from mne_lsl.player import PlayerLSL

from omfa.zoo import read_decision
from omfa.zoo.live.decoder import Decoder, load_model
from omfa.zoo.live.outputs import JsonLines
from omfa.zoo.live.run import run
from omfa.zoo.live.settings import LiveSettings

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
model = learn(folder)
raw = record(seed=99)

# %%
# From a stream
# -------------
# In a terminal this is ``omfa-zoo live mood --stream NAME --out answers.jsonl``. It listens for six
# seconds here; the first answer comes with the first whole window of two seconds.

name = f"tutorial-{uuid.uuid4().hex[:8]}"
settings = LiveSettings(seconds=6.0)
output = JsonLines(folder / "answers.jsonl")
with PlayerLSL(raw, chunk_size=16, name=name, source_id=name, annotations=False):
    session = run(model, name, settings, [output])
output.close()
print(session)

# %%
# Each line of the file is an answer or, in words, an event. Latency counts from the stamp of the
# newest sample; the player's stamps can be ahead of the clock, and it is then below 0.

for line in (folder / "answers.jsonl").read_text().splitlines():
    said = json.loads(line)
    if "event" in said:
        print(said["event"])
    else:
        print(f"{said['class']:5} {said['p'][said['class']]:.3f}, {said['latency_ms']:.0f} ms")
assert session.answers

# %%
# From anywhere else
# ------------------
# A ``Decoder`` takes blocks of samples in microvolts, of any length, and returns the answers that
# they complete. How the signal is cut into blocks changes no answer.

decision = read_decision(model)
decoder = Decoder(
    load_model(model, decision),
    decision,
    channels=raw.ch_names,
    sfreq=raw.info["sfreq"],
    stride_seconds=0.5,
)
signal = raw.get_data(units="uV")
answers = []
for block in np.array_split(np.arange(signal.shape[1]), 50):
    answers += decoder.push(signal[:, block], raw.times[block])

# %%
# Answers follow what was simulated, later: a window looks back over two seconds.

fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for start in np.arange(0, raw.times[-1], 2 * TRIAL):
    ax.axvspan(start, start + TRIAL, color="0.9", label="simulated calm" if start == 0 else "")
calm = [answer.probabilities["calm"] for answer in answers]
ax.plot([answer.time for answer in answers], calm, ".-", label="p(calm) of the last 2 s")
ax.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1))
ax.legend(loc="upper right")

temporary.cleanup()
plt.show()
