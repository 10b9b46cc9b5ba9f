"""Stores as windows: from a recording on disk to a batch on a device.

Read in this order: ``sources`` (a stored recording), ``trials`` (the trial tables of stores, and
the windows cut from them), ``targets`` (what each window is to be decoded as), ``tiers`` with
``flat``, ``tiled`` and ``streamed`` (where decoded signals lie), ``dataset`` (windows by position,
and in batches), ``opening`` (all of these for one call, ``open_dataset``); then
``braindecode_datasets`` and ``moabb_datasets``, which give the same windows to these libraries.
"""
