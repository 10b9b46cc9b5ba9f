"""Draws what the filters pass and how far they reach: ``python docs/pictures/filters.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from omfa.pipeline.preprocess import Preprocessing, kernel

SFREQ = 200.0
PATHS = {
    "the default, 0.5-45 Hz": (Preprocessing(), "#0072b2"),
    "--transition none, as MNE": (Preprocessing(transition=None), "#999999"),
}


def main() -> None:
    """Draw the picture."""
    mpl.rcParams["svg.hashsalt"] = "omfa"  # the same bytes each time
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    low, high, time = figure.subplots(1, 3, width_ratios=[1, 1.3, 1.3])
    for name, (settings, colour) in PATHS.items():
        taps = kernel(settings, SFREQ)
        gain = np.abs(np.fft.rfft(taps, 2**17))
        frequency = np.fft.rfftfreq(2**17, 1 / SFREQ)
        level = 20 * np.log10(gain.clip(1e-5))
        low.plot(frequency, level, color=colour, label=name)
        high.plot(frequency, level, color=colour)
        seconds = (np.arange(len(taps)) - len(taps) // 2) / SFREQ
        time.plot(seconds, taps / taps.max(), color=colour, linewidth=1)
    for mains in (50, 60):
        high.axvline(mains, color="#d55e00", linewidth=1, linestyle=":")
        high.text(mains + 0.3, 2, f"{mains} Hz", color="#d55e00", fontsize=8)
    low.set(xlim=(0, 1.5), ylim=(-70, 8), xlabel="Hz", ylabel="gain, dB", title="low edge")
    high.set(xlim=(40, 62), ylim=(-70, 8), xlabel="Hz", title="high edge and mains")
    low.legend(frameon=False, fontsize=8, loc="lower right")
    time.set(
        xlabel="seconds around a sample", title="weights of its neighbours", ylim=(-0.06, 0.06)
    )
    for axes in (low, high, time):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
