"""
OMFA in a moabb benchmark
=========================

A store as a moabb dataset, OMFA as a scikit-learn estimator beside a classic, and moabb's own
plots. The corpus is a simulated DREAMER. This needs ``pip install 'omfa[zoo]'``.
"""

# %%
# A dataset and a paradigm
# ------------------------
# moabb has no paradigm of emotion; ``EmotionParadigm`` is one. moabb wants a folder for downloads,
# even for data that are here.

import os
import tempfile
import warnings
from pathlib import Path

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
os.environ["MNE_DATA"] = str(folder)

import matplotlib.pyplot as plt

from omfa.pipeline import ingest, simulate
from omfa.zoo import EmotionParadigm, OMFAClassifier, UCSStore, trial_folds

simulate("dreamer", folder / "DREAMER", subjects=3, seconds=12, effect=3.0, progress=False)
ingest("dreamer", folder / "DREAMER", folder / "dreamer.zarr", serial=True, progress=False)
dataset = UCSStore(folder / "dreamer.zarr", target="valence>3", window_seconds=2)
print(dataset.code, dataset.event_id)

# %%
# Pipelines
# ---------
# OMFA takes arrays in microvolts, which moabb's paradigms give, or Epochs. Its encoder is the
# checkpoint's and stays as it is; the graph and the classifier are fitted in each fold.

import numpy as np
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

pipelines = {
    "OMFA": make_pipeline(
        OMFAClassifier(
            "omfa-tiny-openeeg",
            sfreq=128.0,
            ch_names=dataset.windows.channels,
            freeze="encoder",
            epochs=10,
            device="cpu",
        )
    ),
    "tangent space": make_pipeline(
        Covariances("oas"), TangentSpace(), LogisticRegression(max_iter=1000)
    ),
}

# %%
# The evaluation
# --------------
# ``trial_folds()`` keeps trials whole. Without it moabb shuffles windows into folds, which scores
# far above chance on labels that mean nothing: the leak of :doc:`plot_04_leaky_and_honest`.

import moabb
from moabb.evaluations import WithinSessionEvaluation

moabb.set_log_level("error")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    evaluation = WithinSessionEvaluation(
        paradigm=EmotionParadigm(),
        datasets=[dataset],
        hdf5_path=str(folder / "results"),
        **trial_folds(3),
    )
    results = evaluation.process(pipelines)
results.groupby("pipeline")["score"].agg(["mean", "std", "count"]).round(3)

# %%
# moabb's plots
# -------------

import moabb.analysis.plotting as moabb_plt

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    fig, color_dict = moabb_plt.score_plot(results)
fig.suptitle("simulated: this compares software, and nothing about emotion")

# %%

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    fig = moabb_plt.paired_plot(results, "OMFA", "tangent space")

assert np.isfinite(results["score"]).all()
temporary.cleanup()
plt.show()
