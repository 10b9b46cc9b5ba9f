"""Training omfa models against UCS stores: datasets, protocols, results, checkpoints.

Names are listed in ``__init__.pyi`` and imported when first used: ``import omfa.zoo`` is free.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
