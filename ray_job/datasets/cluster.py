"""The Ray cluster of a run: the one that is named, or a local one for the time being."""

from __future__ import annotations

import gc
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

_LOCAL = "local"
_WARM_UP_IMPORTS = ("ray_job.datasets.worker", "ray.data", "sklearn.ensemble")


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start a local one until the exit.

    Ray sets the variable for the driver of a Ray job, and KubeRay sets it in its containers. A
    cluster that merely runs on this machine belongs to somebody else: it may lack our code, and may
    end at any time.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", _LOCAL)
    is_local = address == _LOCAL
    ray.init(
        address,
        logging_level=logging.ERROR,
        log_to_driver=False,
        # The dashboard takes seconds to start, and would end with this process.
        include_dashboard=False if is_local else None,
    )
    try:
        if is_local:
            _warm_up()
        yield
    finally:
        ray.shutdown()


def _warm_up() -> None:
    """Let every worker import what blocks need while the driver makes the Dataset.

    The function is nested so that Ray sends its code. For a function of the module a worker would
    import the whole module first, with the garbage collector on, which takes a sixth longer.
    """

    def import_libraries() -> None:
        gc.disable()
        try:
            for name in _WARM_UP_IMPORTS:
                importlib.import_module(name)
        finally:
            gc.enable()

    load = ray.remote(num_cpus=1, max_retries=0)(import_libraries)
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for _ in range(int(resources.get("CPU", 1))):
        load.remote()
