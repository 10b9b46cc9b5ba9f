import gc
import multiprocessing
import signal

import dask
import pytest
from hypothesis import settings

# What else a machine does decides how long one example takes; pytest-timeout ends what hangs.
settings.register_profile("omfa", deadline=None)
settings.load_profile("omfa")

# What a worker of Dask imports before it ingests: it takes longer than the work in a test.
WORKERS_IMPORT = [
    "distributed.nanny",
    "distributed.worker",
    "omfa.pipeline.cli",
    "omfa.pipeline.ingestion",
    "omfa.pipeline.readers.corpora.seed",
    "s3fs",
    "scipy.signal",
]


def pytest_configure() -> None:
    """Fork the workers of Dask from one process that has imported what they need.

    Dask starts a new interpreter for each worker. So do the commands that tests run as processes;
    clusters in a test's own process share the imports, as in Dask's own tests.
    """
    # A shell lets what it runs in the background ignore Ctrl-C, and what that starts inherits it:
    # tests that interrupt a command would wait for it to end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # a quarter of the time that importing takes
    if "forkserver" in multiprocessing.get_all_start_methods():
        from distributed.utils import get_mp_context

        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
        get_mp_context()  # sets Dask's own list, once
        multiprocessing.get_context("forkserver").set_forkserver_preload(WORKERS_IMPORT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow ones first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Collect garbage again, but for what was imported, which stays."""
    gc.freeze()
    gc.enable()
