"""What do features tell of a task to a linear model, on real EEG and across subjects?

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_probes.py eegmat.zarr --target condition \
        --window-seconds 10 --subjects 'sub-0?' 'sub-1[0-8]' --checkpoints omfa-tiny-openeeg

Logistic regression with a ridge penalty, groups of subjects held out, the mean of some shuffles of
the groups, at the best of five strengths of the penalty, and so a little too high for all features
alike. Each is probed as it is and less its mean over the subject's windows, which needs a person's
whole recording, without labels, before its first window is classified.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch

import measuring
import numpy as np
import numpy.typing as npt
import torch
from pyriemann.geometry.base import logm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from omfa.models.connectivity import N_CONNECTIVITY
from omfa.models.encoders import make_encoder
from omfa.zoo import load, open_dataset
from omfa.zoo.data.dataset import StoreDataset
from omfa.zoo.estimators.baselines import band_covariance, differential_entropy, relative_band_power
from omfa.zoo.estimators.embeddings import Embeddings
from omfa.zoo.protocols.protocol import SUBJECT, codes
from omfa.zoo.protocols.windows import Windows, centred

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Features = npt.NDArray[np.float32]


def features(
    data: StoreDataset, checkpoints: list[str], preset: str, tokens_per_second: float
) -> Iterator[tuple[str, Features]]:
    """Yield each kind of features, shape (n_windows, n_features), with its name."""
    windows = Windows(data, np.arange(len(data)), classes=data.classes)
    power = windows.features(relative_band_power)
    yield "relative band power", power
    yield "differential entropy", windows.features(differential_entropy)
    logarithm = logm(windows.features(band_covariance).astype(np.float64))
    above = np.triu_indices(len(data.channels))
    half = logarithm[..., above[0], above[1]].reshape(len(data), -1)
    yield "logarithm of the covariance, by band", half.astype(np.float32)
    torch.manual_seed(0)
    random = make_encoder("art", preset, tokens_per_second=tokens_per_second)  # type: ignore[arg-type]
    encoders = {"random weights": random} | {name: load(name).encoder for name in checkpoints}
    embeddings = {}
    for name, encoder in encoders.items():
        extract = Embeddings(encoder, connectivity=True)
        known = windows.features(extract).astype(np.float32)
        h, _, pairs = np.split(
            known, [encoder.dim, known.shape[2] - N_CONNECTIVITY * len(data.channels)], 2
        )
        embeddings[name] = h.reshape(len(h), -1)
    pairs = pairs.reshape(*pairs.shape[:2], pairs.shape[1], N_CONNECTIVITY)
    above = np.triu_indices(pairs.shape[1], 1)
    coherency = pairs[:, above[0], above[1], : N_CONNECTIVITY // 2].reshape(len(pairs), -1)
    yield "coherency against neighbours, real part", coherency
    beside = np.concatenate([coherency, power], 1)
    yield "coherency and relative band power", beside
    for name, h in embeddings.items():
        yield f"embeddings, {name}", h
    for name, h in embeddings.items():
        yield (
            f"embeddings, {name}, coherency and relative band power",
            np.concatenate([h, beside], 1),
        )


def score(
    X: Features, y: npt.NDArray[np.int64], subject: npt.NDArray[np.int64], folds: int, shuffles: int
) -> float:
    """Return the balanced accuracy, averaged over subjects and shuffles, at the best strength."""
    found = np.zeros(len(STRENGTHS))
    for i, strength in enumerate(STRENGTHS):
        for seed in range(shuffles):
            predicted = np.empty_like(y)
            cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            for train, test in cut.split(X, y, subject):
                model = LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
                fitted = make_pipeline(StandardScaler(), model).fit(X[train], y[train])
                predicted[test] = fitted.predict(X[test])
            each = [
                balanced_accuracy_score(y[subject == one], predicted[subject == one])
                for one in np.unique(subject)
            ]
            found[i] += np.mean(each) / shuffles
    return float(found.max())


def main() -> None:
    """Print the table."""
    arguments = measuring.parser(__doc__)
    arguments.add_argument("store")
    arguments.add_argument("--target", required=True)
    arguments.add_argument("--window-seconds", type=float, default=10)
    arguments.add_argument("--subjects", nargs="*", default=["*"], help="patterns of those used")
    arguments.add_argument("--checkpoints", nargs="*", default=[])
    arguments.add_argument("--preset", default="tiny", help="of the encoder of random weights")
    arguments.add_argument("--tokens-per-second", type=float, default=4)
    arguments.add_argument("--folds", type=int, default=6)
    arguments.add_argument("--shuffles", type=int, default=4)
    args = arguments.parse_args()
    measuring.heading(["numpy", "torch", "scikit-learn"])
    data = open_dataset(args.store, args.window_seconds, target=args.target, cache="memory")
    names = data.metadata["subject"].astype(str)
    data = data.select(names.map(lambda name: any(fnmatch(name, p) for p in args.subjects)))
    subject = codes(data.metadata, SUBJECT)
    shuffles = 1 if args.quick else args.shuffles
    rows = []
    for name, X in features(data, args.checkpoints, args.preset, args.tokens_per_second):
        X = np.nan_to_num(X)
        asked = (data.y, subject, args.folds, shuffles)
        scores = score(X, *asked), score(centred(X, subject), *asked)
        rows.append([name, *(f"{one:.3f}" for one in scores)])
    measuring.show(
        f"{data.target.rule}: {len(data)} windows of {args.window_seconds:g} s of "
        f"{subject.max() + 1} subjects, {args.folds} folds of them, {shuffles} shuffles",
        ["features", "balanced accuracy", "less the subject's mean"],
        rows,
    )


if __name__ == "__main__":
    main()
