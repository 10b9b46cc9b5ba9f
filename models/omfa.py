"""OMFA: one encoder for every channel, a graph over the channels, a classifier.

The whole model, as a braindecode model: each channel of a window goes through the same encoder by
itself (``encoders.py``), its embedding and its power become a node with a place on the head, a
graph head mixes the nodes into one vector (``heads.py``), and a linear layer classifies. The method
is this project's reading of Li, Li & Zhang (2025), "One Model for All", arXiv 2511.08444;
``docs/models.md`` has the formulas and the reasons.

Annotations here are evaluated (there is no ``from __future__ import annotations``), because
TorchScript cannot read them as text.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from omfa.models.compat import EEGModuleMixin
from omfa.models.connectivity import N_CONNECTIVITY, Connectivity
from omfa.models.encoders import make_encoder, size_of
from omfa.models.front_end import (
    F0,
    PlaceWarning,
    UnitWarning,
    doubtful_unit,
    may_look,
    recorded,
)
from omfa.models.graph import electrode_positions
from omfa.models.heads import Nodes, drop_channels, make_head
from omfa.models.names import EncoderName, HeadName, PresetName, Resampling

_HUB_NOTES = """
    .. rubric:: Saving and loading

    ``save_pretrained(folder)`` writes the weights and every constructor argument;
    ``from_pretrained(folder)`` reads them back without a network, and raises where a weight is
    missing or of another shape. A different ``n_outputs`` loads the saved model and then replaces
    its head.

    .. code-block::

        from omfa.models import {name}

        model = {name}(n_outputs=3, chs_info=raw.info["chs"], n_times=800, sfreq=200.0)
        model.save_pretrained("my-{name_lower}")
        model = {name}.from_pretrained("my-{name_lower}", n_outputs=2)
        config = model.get_config()  # JSON
        same_without_weights = {name}.from_config(config)
"""


ACTIVATIONS = frozenset(
    f"{kind.__module__}.{kind.__name__}"
    for kind in vars(nn.modules.activation).values()
    if isinstance(kind, type) and kind.__module__ == nn.modules.activation.__name__
)
"""Activations that a saved configuration may name. braindecode would import any name it finds, and
importing runs code; these are torch's own.
"""


def _check_activation(arguments: dict[str, Any]) -> None:
    name = arguments.get("activation")
    if isinstance(name, str) and name not in ACTIVATIONS:
        raise ValueError(
            f"OMFA: the configuration names {name!r:.80} as activation, which is none of torch's "
            "own, and is not imported. Pass the class itself: activation=..."
        )


class OMFA(EEGModuleMixin, nn.Module):
    r"""OMFA from Li et al. (2025) [Li2025]_: one model for all EEG emotion corpora.

    :bdg-danger:`Foundation Model` :bdg-info:`Attention/Transformer` :bdg-success:`Convolution`
    :bdg-dark-line:`Channel` :bdg-light:`Graph Neural Network`

    .. rubric:: Architectural Overview

    One univariate encoder, ART, reads every channel by itself; a graph attention network mixes the
    channels; a linear layer classifies. Nothing depends on the number, the order or the names of
    the channels, on the length of the window or on the sampling rate, so that one set of weights
    serves all recordings. It was written from the paper's abstract alone: what that leaves
    open is this project's choice, and ``docs/models.md`` says which is which.

    .. rubric:: Macro Components

    - ``encoder`` (ART): rate resampler to 128 Hz, robust scaling that keeps the power aside,
      convolutional stem, adaptive resampler to a few tokens a second, rotary transformer, attention
      pooling; beside these, two layers that read the spectrum of the window, and two that read how
      unevenly power is spread over it.
    - ``nodes``: embedding, power, power relative to the other channels, and place on the head.
    - ``head`` (GATv2 by default): the graph over the channels, attention biased by the 3-D distance
      of the electrodes, and attention readout; beside any head a readout of the channels'
      coherency.
    - ``final_layer``: linear.

    .. rubric:: Temporal, Spatial, and Spectral Encoding

    - **Temporal:** convolutions over 0.25 s and 0.5 s; attention over all tokens, by their time in
      seconds.
    - **Spatial:** electrode positions in 3-D, in the node features and as attention bias; coherency
      between channels in five bands, weighed by the places of both.
    - **Spectral:** the stem's 33 taps at 128 Hz are a learned filter bank; paths of their own read
      log power in bins of 1 Hz, and bursts in five bands; log band powers reach the graph directly.

    .. rubric:: Additional Mechanisms

    A channel that holds a NaN or an infinity anywhere in the window, or does not vary, counts as
    absent; absent channels are masked, never zero-filled. In training whole channels and edges are
    dropped. With every channel absent the logits are finite but do not depend on the signal.

    .. rubric:: Usage and Configuration

    ``OMFA(n_outputs=3, chs_info=epochs.info["chs"], n_times=800, sfreq=200.0)``. Only ``n_outputs``
    is required. Without ``chs_info`` positions are unknown, and channels differ by their signals
    alone. Give microvolts: the log of a channel's spread is a feature.

    .. important::
       **Pre-trained Weights Available**

       ``omfa.zoo`` lists checkpoints and how each was made.

    Parameters
    ----------
    preset : {"tiny", "small", "base", "large"}
        Size: about 0.2, 1.2, 5.9 and 30 million parameters.
    head : {"gat", "gcn", "gcn_learned", "mean", "transformer", "coherency"}
        The graph over the channels. With ``"coherency"`` the readout of their coherency is all
        there is: no encoder, no nodes, no graph.
    encoder : {"art", "art_no_rotary", "patch", "cnn"}
        The encoder of single channels.
    resampling : {"off", "rate", "rate+content"}
        ART's mode: ``"off"`` feeds the samples as if they were at 128 Hz, ``"rate"`` resamples and
        spaces tokens evenly, ``"rate+content"`` also places them by a learned density.
    tokens_per_second : float
        ART's tokens for every second of signal.
    rotary_period : float, optional
        Seconds per turn of ART's fastest rotary phase; two tokens when None.
    stem_layers : int
        Convolutions of ART's stem, 2 to 4.
    spectral, bursts : bool
        Whether ART also reads the spectrum of a window, and how unevenly the power of each band is
        spread over it, each in a path of its own.
    connectivity : bool
        Also read the coherency between channels out, beside any head.
    activation : type of nn.Module
        Activation of the convolutions and the density network.
    drop_prob : float
        Dropout in the head and before the classifier.
    encoder_drop_prob : float
        Dropout in the encoder, which takes a tenth of a training step; ``drop_path_prob`` is free.
    drop_path_prob : float
        Chance, at the last layer, that a row skips a residual branch; less in earlier layers.
    channel_drop_prob : float
        Chance that a channel counts as absent in a training step.
    edge_drop_prob : float
        Chance that an edge of the graph is left out of a training step.

    Raises
    ------
    ValueError
        If a name is unknown, or signal arguments contradict each other.

    Notes
    -----
    If the sampling rate is neither given nor inferable, signals are read as 128 Hz, with a warning.

    References
    ----------
    .. [Li2025] Li, X., Li, Y., & Zhang, Y. (2025). One Model for All: Universal Pre-training for
       EEG based Emotion Recognition across Heterogeneous Datasets and Paradigms. arXiv:2511.08444.

    .. versionadded:: 0.1

    Examples
    --------
    >>> import torch
    >>> from omfa.models import OMFA
    >>> model = OMFA(n_outputs=3, n_chans=14, n_times=512, sfreq=128.0, preset="tiny").eval()
    >>> model(20 * torch.randn(2, 14, 512)).shape
    torch.Size([2, 3])
    """

    _HUB_NOTES_TEMPLATE = _HUB_NOTES

    positions: Tensor
    if TYPE_CHECKING:  # members of the mixin, which has no types
        n_outputs: int
        sfreq: float
        _chs_info: list[dict] | None
        _n_chans: int | None
        _input_window_seconds: float | None
        _set_n_outputs: Callable[[int], None]
        _deserialize_chs_info: Callable[[Any], Any]

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        *,
        preset: PresetName = "base",
        head: HeadName = "gat",
        encoder: EncoderName = "art",
        resampling: Resampling = "rate",
        tokens_per_second: float = 2.0,
        rotary_period: float | None = None,
        stem_layers: int = 4,
        spectral: bool = True,
        bursts: bool = True,
        connectivity: bool = True,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.1,
        encoder_drop_prob: float = 0.0,
        drop_path_prob: float = 0.1,
        channel_drop_prob: float = 0.2,
        edge_drop_prob: float = 0.1,
    ):
        for channel in chs_info or []:
            if not isinstance(channel, Mapping):
                raise ValueError(
                    f"OMFA: chs_info holds {channel!r}, which is no description of a channel. Give "
                    "dicts with a ch_name each, such as info['chs'] of MNE."
                )
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            # From JSON positions come as lists; the mixin would convert them too, with a warning.
            chs_info=self._deserialize_chs_info(chs_info),
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        self._record_signal_arguments()
        rate = self._rate()
        # With a known window length but no rate, the rate follows from the samples of each batch.
        self.window_seconds = (
            float(self._input_window_seconds)
            if rate is None and self._input_window_seconds is not None
            else 0.0
        )
        if rate is None and not self.window_seconds and resampling != "off":
            warnings.warn(
                f"OMFA: no sampling rate given; signals are read as {F0:g} Hz. Pass sfreq (with "
                "EEGClassifier on arrays or datasets: module__sfreq).",
                stacklevel=2,
            )
        self._unit_was_doubted = False
        self._looked_at = False
        self.channel_drop_prob = float(channel_drop_prob)
        size = size_of(preset)
        self.encoder: nn.Module | None = None
        self.nodes: Nodes | None = None
        if head != "coherency":
            self.encoder = make_encoder(
                encoder,
                preset,
                sfreq=rate,
                resampling=resampling,
                tokens_per_second=tokens_per_second,
                rotary_period=rotary_period,
                stem_layers=stem_layers,
                spectral=spectral,
                bursts=bursts,
                drop_prob=encoder_drop_prob,
                drop_path_prob=drop_path_prob,
                activation=activation,
            )
            self.nodes = Nodes(int(self.encoder.dim), size.node_dim)  # type: ignore[arg-type]
        self.register_buffer("positions", self._electrodes(), persistent=False)
        self.connectivity = Connectivity(rate) if connectivity else None
        self.head = make_head(
            head,
            size.node_dim,
            drop_prob=drop_prob,
            edge_drop_prob=edge_drop_prob,
            pair_dim=0 if self.connectivity is None else N_CONNECTIVITY,
        )
        self.dropout = nn.Dropout(drop_prob)
        self.final_layer = nn.Linear(size.node_dim, self.n_outputs)

    def forward(
        self,
        x: Tensor,
        return_features: bool = False,
        mask: Tensor | None = None,  # pass these by name; TorchScript knows no keyword-only ones
        positions: Tensor | None = None,
        sfreq: float | None = None,
    ) -> Tensor | dict[str, Tensor | None]:
        """Classify windows.

        Parameters
        ----------
        x : Tensor
            (batch, n_chans, n_times), microvolts. A signal that looks like another unit, or
            standardised, gives a ``UnitWarning``, once per model; on an accelerator the first
            batch in evaluation is looked at, and in training none.
        return_features : bool
            Return the input of the classifier instead of logits.
        mask : Tensor, optional
            (batch, n_chans) bool, True for channels that are present.
        positions : Tensor, optional
            (n_chans, 3) or (batch, n_chans, 3), metres in the head frame, NaN where unknown; for
            batches of another montage than that of ``chs_info``.
        sfreq : float, optional
            Sampling rate of this batch in Hz, if not that of the model.

        Returns
        -------
        Tensor or dict
            Logits (batch, n_outputs); or ``{"features": (batch, dim), "cls_token": None}``, of
            which a scripted model returns the features alone.

        Raises
        ------
        ValueError
            If the number of channels is not that of the positions, or the window is too short.
        """
        n_chans, n_times = x.shape[1], x.shape[2]
        if not torch.jit.is_scripting():
            self._doubt_unit(x)
        if positions is None:
            positions = self.positions
            if positions.shape[0] == 0:
                positions = torch.full([1, 3], math.nan, dtype=x.dtype, device=x.device)
                positions = positions.expand(n_chans, 3)
        if positions.shape[-2] != n_chans:
            raise ValueError(
                f"OMFA: the signal has {n_chans} channels, but positions are known for "
                f"{positions.shape[-2]}. Pass the positions of this montage, or build the model "
                "with its chs_info."
            )
        if sfreq is None and self.window_seconds > 0:
            sfreq = n_times / self.window_seconds
        present = recorded(x)
        if mask is not None:
            present = present & mask
        # Before anything is measured: a dropped channel is no neighbour that others are taken
        # against, as where a montage lacks it.
        if self.training and self.channel_drop_prob > 0:
            present = drop_channels(present, self.channel_drop_prob)
        pairs: Tensor | None = None
        if self.connectivity is not None:
            pairs = self.connectivity(x, present, positions, sfreq)
        nodes = x.new_zeros(x.shape[0], n_chans, 1)  # what a head without nodes does not read
        if self.encoder is not None and self.nodes is not None:
            encoded = self.encoder(x.flatten(0, 1), sfreq)  # a row per channel of every window
            h = encoded.h.view(x.shape[0], n_chans, -1)
            side = encoded.side.view(x.shape[0], n_chans, -1)
            nodes = self.nodes(h, side, present, positions)
        features = self.head(nodes, present, positions, pairs)
        if return_features:
            if torch.jit.is_scripting():
                return features
            else:
                return {"features": features, "cls_token": None}
        return self.final_layer(self.dropout(features))

    @torch.jit.unused
    def _doubt_unit(self, x: Tensor) -> None:
        """Warn once of a signal in another unit.

        On the CPU the first window of each batch decides, and elsewhere the first batch that
        ``may_look`` allows.
        """
        quiet = self._unit_was_doubted or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if quiet or not len(x):
            return
        kind = x.device.type
        if not may_look(kind, training=self.training, looked=self._looked_at):
            return
        if kind == "cuda" and torch.cuda.is_current_stream_capturing():
            return
        self._looked_at |= kind != "cpu"
        if found := doubtful_unit(x[0] if kind == "cpu" else x):
            self._unit_was_doubted = True
            warnings.warn(f"OMFA: {found}.", UnitWarning, stacklevel=4)

    def reset_head(self, n_outputs: int) -> None:
        """Replace the classifier by one with another number of outputs, also in the configuration.

        Parameters
        ----------
        n_outputs : int
            New number of outputs, positive.
        """
        self._set_n_outputs(int(n_outputs))
        old = self.final_layer
        self.final_layer = nn.Linear(old.in_features, self.n_outputs).to(old.weight)

    def _rate(self) -> float | None:
        try:
            return float(self.sfreq)
        except ValueError:
            return None

    def _electrodes(self) -> Tensor:
        """Return the positions (n_chans, 3) in metres; (0, 3) if even n_chans is unknown."""
        if self._chs_info is not None:
            positions = electrode_positions(self._chs_info)
            if lost := [
                str(ch.get("ch_name"))
                for ch, place in zip(self._chs_info, positions, strict=True)
                if not np.isfinite(place).all()
            ]:
                more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
                warnings.warn(
                    f"OMFA: the place of {', '.join(lost[:4])}{more} is not known: only the signal "
                    "distinguishes them. Name them as 10-05 does, or give each its loc.",
                    PlaceWarning,
                    stacklevel=3,
                )
        else:
            positions = np.full((self._n_chans or 0, 3), np.nan)
        return torch.as_tensor(positions, dtype=torch.get_default_dtype())

    def _record_signal_arguments(self) -> None:
        """Keep numbers that came from numpy, which braindecode would leave out of the config."""
        for name, kind in (
            ("n_outputs", int),
            ("n_chans", int),
            ("n_times", int),
            ("input_window_seconds", float),
            ("sfreq", float),
        ):
            value = getattr(self, f"_{name}")
            if isinstance(value, np.generic):
                setattr(self, f"_{name}", kind(value))
                for config in ("_braindecode_init_kwargs", "_hub_mixin_config"):
                    if hasattr(self, config):
                        getattr(self, config)[name] = kind(value)

    @classmethod
    def _serialize_chs_info(cls, chs_info: Any) -> Any:
        """As braindecode's, with 0 for NaN, which JSON does not have; both mean "no place"."""
        serialized = super()._serialize_chs_info(chs_info)
        for ch in serialized or []:
            if "loc" in ch:
                ch["loc"] = np.nan_to_num(np.asarray(ch["loc"], float)).tolist()
        return serialized

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """As braindecode's, but a configuration can name no code other than an activation."""
        _check_activation(config)
        return super().from_config(config)

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **kwargs: Any) -> Any:
        """As braindecode's, but weights that do not match raise instead of being left out."""
        _check_activation(kwargs)
        return super()._from_pretrained(strict=strict, **kwargs)

    @classmethod
    def _load_as_pickle(cls, *_: Any, **__: Any) -> Any:
        raise ValueError(
            "OMFA: there is no model.safetensors, and pickled weights are not read, since loading "
            "them can run code. Save the model with save_pretrained."
        )


# A row of braindecode's table of models, with the columns and the words that braindecode uses.
SUMMARY = {
    "Application": "Emotion Recognition",
    "Type": "Prediction",
    "Sampling Frequency (Hz)": 128,
    "Hyperparameters": "n_outputs",
    "Categorization": (
        "Foundation Model,Attention/Transformer,Convolution,Channel,Graph Neural Network"
    ),
    "Modality": "EEG",
}


def register_with_braindecode() -> None:
    """Register OMFA with braindecode by name, for ``EEGClassifier("OMFA", ...)`` and its configs.

    Calling it again does nothing.

    Examples
    --------
    >>> from omfa.models import register_with_braindecode
    >>> register_with_braindecode()
    >>> from braindecode.models.util import models_dict
    >>> "OMFA" in models_dict
    True
    """
    # braindecode has no public way to add a model, and none to its table, which it reads only once.
    from braindecode.models.util import _summary_table, models_dict, models_mandatory_parameters

    if "OMFA" in models_dict:
        return
    models_dict["OMFA"] = OMFA
    models_mandatory_parameters.append(("OMFA", ["n_outputs"], None))
    _summary_table.loc["OMFA"] = SUMMARY
