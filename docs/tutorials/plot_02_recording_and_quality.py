"""
Look at a recording and at a quality report
===========================================

What is in a store, who is bad in it, and what the report says. The corpus is a simulated DREAMER in
which one or two channels of each person were spoiled on purpose.
"""

# %%
# A store
# -------

import html
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from omfa.pipeline import ingest, open_store, simulate, write_report

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
truth = simulate(
    "dreamer", folder / "DREAMER", subjects=4, seconds=12, bad_channels=2, progress=False
)
ingest("dreamer", folder / "DREAMER", folder / "dreamer.zarr", serial=True, progress=False)
store = open_store(folder / "dreamer.zarr")
store.recordings[["subject", "n_chans", "sfreq", "n_trials", "bad_channels"]]

# %%
# A recording
# -----------
# Its trials, its channels, its signal. Bad channels are marked and not repaired: they are orange
# here.

recording = store[0]
print(f"{recording.recording}: {len(recording.channels)} channels, {recording.sfreq:g} Hz")
print("bad:", ", ".join(recording.bad_channels))
recording.trials.head()

# %%

figure = recording.plot(trial=0, seconds=8.0)

# %%
# All of MNE follows from ``to_raw``, which is in volts, as MNE is. Bad channels are its
# ``info["bads"]``.

raw = recording.to_raw()
spectrum = raw.compute_psd(fmin=1, fmax=60, exclude="bads", verbose="error")
figure = spectrum.plot(show=False, amplitude=False)

# %%
# Why is it bad?
# --------------
# Every figure is in the store, beside the signal, so another limit needs no new ingest.
# :doc:`/quality` says what each of them is.

names = ["flat", "clipped", "variance_z", "line_ratio", "high_frequency_ratio"]
names += ["neighbour_correlation"]
values = np.array([recording.array(f"quality_{name}") for name in names])
for channel in recording.bad_channels:
    column = recording.channels.index(channel)
    said = [f"{name} {value:.3g}" for name, value in zip(names, values[:, column], strict=True)]
    print(f"{channel}: {', '.join(said)}")

# %%
# Over all recordings: stripes down are electrodes, stripes across are people.

bad = np.array([[name in one.bad_channels for name in store.channels] for one in store])
fig, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
ax.imshow(bad, cmap="Reds", vmin=0, vmax=1, aspect="auto")
ax.set(
    xticks=range(len(store.channels)),
    xticklabels=store.channels,
    yticks=range(len(bad)),
    yticklabels=store.recordings["subject"],
    title="bad channels (simulated)",
)

# %%
# The report
# ----------
# One HTML file that holds its pictures and loads nothing. ``omfa-ingest report dreamer.zarr``
# writes the same. :doc:`/report` says how to read each part.

page = folder / "quality.html"
write_report([store], page)


class Page:
    """A page within this one."""

    def __init__(self, file):
        self.text = html.escape(file.read_text(encoding="utf-8"))

    def _repr_html_(self):
        return (
            '<iframe title="quality report" style="width: 100%; height: 560px; '
            f'border: 1px solid #ccc" srcdoc="{self.text}"></iframe>'
        )


Page(page)

# %%
# Were they found?
# ----------------
# The simulator says what it spoiled.

planted = [(one["subject"], name) for one in truth.recordings for name in one["bad"]]
print(len(planted), "channels were spoiled;", int(bad.sum()), "are marked")

temporary.cleanup()
plt.show()
# sphinx_gallery_thumbnail_number = 1
