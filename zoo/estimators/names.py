"""A model's name to the function that makes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.estimators.settings import NON_CAUSAL, OMFA_MODELS, RANDOM, SCRATCH, Smooth
from omfa.zoo.protocols.windows import Estimator

Factory = Callable[..., Estimator]


def causal_name(name: str) -> str:
    """Return a model's name without what it says of smoothing."""
    return name.partition(NON_CAUSAL)[0]


def with_smoothing_in_its_name(
    name: str, parameters: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Move the parameter ``smooth`` into the name of a model that takes it.

    Results are listed by names, and none that smooths over a trial may be without its mark.

    Parameters
    ----------
    name : str
    parameters : mapping

    Returns
    -------
    name : str
        Such as ``"differential-entropy+ridge+non-causal-lds"``.
    parameters : dict
        The others.

    Raises
    ------
    DataError
        If there is no such smoothing, or the name says another.
    """
    given, plain = dict(parameters), causal_name(name)
    if not takes_smoothing(name) or (smooth := given.pop("smooth", None)) is None:
        return name, given
    said = name[len(plain) + len(NON_CAUSAL) :]
    if smooth not in get_args(Smooth) or said not in ("", smooth):
        also = f", and the name says {said!r}" * bool(said)
        raise DataError(
            f"Setting {name} up",
            f"smooth={smooth!r}{also}{nearest(str(smooth), get_args(Smooth))}",
            f"Use one of {', '.join(get_args(Smooth))}, in the name or as smooth",
        )
    return f"{plain}{NON_CAUSAL}{smooth}", given


def takes_smoothing(name: str) -> bool:
    """Return whether a model has features that can be smoothed."""
    from omfa.zoo.estimators.baselines import FEATURE_BASELINES

    return causal_name(name) in (*OMFA_MODELS, *FEATURE_BASELINES)


def resolve(estimator: str | Factory, *, needs_name: bool) -> tuple[str, Factory]:
    """Find the factory of a model, and the name by which it is found again.

    Parameters
    ----------
    estimator : str or callable
        A name, or the factory itself.
    needs_name : bool
        Refuse a factory that its name does not lead to.

    Raises
    ------
    DataError
        If there is no such model, or it has no name and needs one.
    """
    if isinstance(estimator, str):
        return estimator, factory_named(estimator)
    from omfa.zoo.estimators.baselines import BASELINES

    for name, factory in BASELINES.items():
        if factory is estimator:
            return name, factory
    name = f"{getattr(estimator, '__module__', '?')}:{getattr(estimator, '__qualname__', '?')}"
    if needs_name:
        try:
            found = factory_named(name)
        except DataError:
            found = None
        if found is not estimator:
            raise DataError(
                f"Naming the model {name}",
                "it cannot be imported by that name, so its result could not be run again",
                "Define it in a module as a function, its settings in parameters={...}; or leave "
                "out=... away",
            )
    return name, estimator


def factory_named(name: str, *, allow_code: bool = True) -> Factory:
    """Find a factory by a model's name.

    Parameters
    ----------
    name : str
        Of a baseline, ``"omfa"``, ``"omfa:random"``, ``"omfa:scratch"`` (with ``+non-causal-lds``
        for a smoothed probe), ``"braindecode:MODEL"`` or ``"module:function"``.
    allow_code : bool
        Import any function that is named. False where the name comes out of a file that somebody
        else may have written: the function would be called, with the arguments in that file.

    Raises
    ------
    DataError
        If there is none of that name, or it is a function and ``allow_code`` is False.
    """
    from omfa.zoo.estimators.baselines import BASELINES

    if name in BASELINES:
        return BASELINES[name]
    plain, mark, smooth = name.partition(NON_CAUSAL)
    if mark and plain in OMFA_MODELS and smooth in get_args(Smooth):
        return partial(factory_named(plain), smooth=smooth)
    module, _, function = name.partition(":")
    if name in OMFA_MODELS or module == "braindecode":
        # Here, because baselines run without torch.
        from omfa.zoo.estimators import braindecode_networks, omfa_networks

        if module == "braindecode":
            return partial(braindecode_networks.braindecode, model=function)
        own: dict[str, Factory] = {
            RANDOM: omfa_networks.omfa_of_random_weights,
            SCRATCH: omfa_networks.omfa_from_scratch,
        }
        return own.get(name, omfa_networks.omfa)
    if not allow_code:
        raise DataError(
            f"Looking for the model {name!r}",
            "it is none of omfa's own: the file names a function, which would be imported and "
            "called with the file's arguments",
            "If you trust whoever wrote the file, pass allow_code=True (--allow-code)",
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        near = nearest(name, (*OMFA_MODELS, *BASELINES))
        raise DataError(
            f"Looking for the model {name!r}",
            f"there is none of that name{near} ({error})",
            "Use 'omfa', 'omfa:random', 'omfa:scratch', 'braindecode:EEGNet' or another of "
            "braindecode's, "
            f"'module:function', or one of {', '.join(BASELINES)}",
        ) from error
    factory: Factory = found
    return factory
