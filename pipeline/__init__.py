"""Raw EEG corpora to UCS-aligned Zarr stores.

``ingest`` makes a store, ``open_store`` reads one, ``simulate`` writes a corpus to try them on.
Names are listed in ``__init__.pyi`` and imported when first used: ``import omfa.pipeline`` is free.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
