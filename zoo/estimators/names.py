"""A model's name to the function that makes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest
from omfa.zoo.estimators.settings import OMFA_MODELS, RANDOM, SCRATCH
from omfa.zoo.protocols.windows import Estimator

Factory = Callable[..., Estimator]


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
        Of a baseline, ``"omfa"``, ``"omfa:random"``, ``"omfa:scratch"``, ``"braindecode:MODEL"``
        or ``"module:function"``.
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
