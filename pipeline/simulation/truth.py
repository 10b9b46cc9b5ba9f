"""What was planted in a simulated tree, beside it on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omfa.pipeline.errors import DataError
from omfa.pipeline.simulation.signals import EffectKind
from omfa.pipeline.writing import write_whole


@dataclass(frozen=True)
class Truth:
    """What was planted in a simulated tree.

    Attributes
    ----------
    source, variant : str
    seed : int
    effect : float
        Shift of a planted rhythm's natural-log power (or of the inverse hyperbolic tangent of a
        pair's coherency or of the depth of bursts) from a middle label to an extreme one.
    effect_kind : {"power", "connectivity", "waveform"}
    quirks : tuple of str
    sfreq : float
        Hz.
    channels : tuple of str
        The EEG channels, canonical names, in the order of the first recording.
    files : tuple of str
        Every file written, below the root.
    targets : dict
        Per target what its classes mean.
    trials : list of dict
        Per trial ``subject``, ``session``, ``trial`` (its place in the file, from 1), ``stimulus``,
        ``seconds``, every label, and per target ``code_...`` (-1 to 1) and ``class_...``.
    recordings : list of dict
        Per recording ``subject``, ``session``, ``file``, ``bad`` (channel to ``"flat"`` or
        ``"noisy"``), ``blinks`` (trial, seconds from its onset), ``missing`` (trial, channels,
        first sample, length), ``sites`` (rhythms' places, metres, head frame) and ``tones``
        (channel to the frequency of its own sine, Hz).
    sources : list of dict
        The rhythms: ``anchor``, ``band``, ``hz``, ``target``, ``gain``; in a connectivity tree
        each even and the next odd one are coupled.
    best_accuracy : dict
        Per target and window (seconds, or ``"trial"``) the ``accuracy`` and ``balanced`` accuracy
        of a decoder that sees the true sources and knows how they were made.

    Examples
    --------
    >>> from omfa.pipeline import simulate
    >>> truth = simulate("dreamer", "planted", subjects=1, seconds=4, progress=False)
    >>> truth.source, truth.effect_kind, sorted(truth.targets)
    ('dreamer', 'power', ['arousal', 'valence'])
    """

    source: str
    variant: str
    seed: int
    effect: float
    effect_kind: EffectKind
    quirks: tuple[str, ...] = ()
    sfreq: float = 0.0
    channels: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)
    targets: dict[str, str] = field(default_factory=dict, repr=False)
    trials: list[dict[str, Any]] = field(default_factory=list, repr=False)
    recordings: list[dict[str, Any]] = field(default_factory=list, repr=False)
    sources: list[dict[str, Any]] = field(default_factory=list, repr=False)
    best_accuracy: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict, repr=False)

    @staticmethod
    def path(root: str | Path) -> Path:
        """Return where a tree's truth is: beside it."""
        root = Path(root)
        return root.with_name(root.name + ".truth.json")

    @classmethod
    def load(cls, root: str | Path) -> Truth:
        """Read the truth of a simulated tree.

        Raises
        ------
        DataError
            If there is none, or it is not of this version.
        """
        path = cls.path(root)
        try:
            stored = json.loads(path.read_text())
            for name in ("quirks", "channels", "files"):
                stored[name] = tuple(stored[name])
            return cls(**stored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"Reading the truth of {root}",
                f"{path} is missing or damaged ({error})",
                "Simulate the tree again; a real corpus has no truth",
            ) from error

    def save(self, root: str | Path) -> None:
        """Write the truth beside a tree."""
        write_whole(self.path(root), json.dumps(asdict(self), indent=1))
