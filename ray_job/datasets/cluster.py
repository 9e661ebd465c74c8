"""The connection of a run to a Ray cluster: the one that is named, or a local one."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import ray

from ray_job.bucket.errors import RayUnavailableError
from ray_job.datasets.local_ray import LocalRay

_WARM_UP_IMPORTS = ("ray_job.datasets.worker", "ray.data", "sklearn.ensemble")
_ABSENT = "no node has this"
"""The name of a resource that tasks and actors of Ray may ask for."""
_REACH_SECONDS = 20.0
_CONNECT_SECONDS = 30.0
"""Ray itself tries for minutes. A try of its own takes 41 s and cannot be interrupted."""


@contextmanager
def cluster(local: LocalRay | None = None) -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or to a local one, which ends at the exit.

    `local` is one that has begun to start. Ray sets the variable for the driver of a Ray job, and
    KubeRay sets it in its containers. A cluster that merely runs on this machine belongs to
    somebody else: it may lack our code, and may end at any time. Raises RayUnavailableError within
    a minute where the named cluster cannot be reached, and where a local one cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if in_main_thread else None
    # By default Ray Data starts an actor in each cluster that counts what its users do.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # By default a thread fetches what a finished task says of its block, and Ray Data's loop starts
    # the next task a step of 0.1 s later.
    os.environ.setdefault("RAY_DATA_METADATA_PREFETCH_ON_THREAD", "0")
    named = os.environ.get("RAY_ADDRESS")
    with ExitStack() as until_end:
        if local is None and not named:
            local = LocalRay()
        if local is None:
            _connect(str(named))
        else:
            until_end.callback(local.end)
            _connect_to_local(local.address())
        until_end.callback(ray.shutdown)
        if on_sigterm is not None:
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in its place
        if local is not None:
            _warm_up()
        yield


def _connect_to_local(address: str) -> None:
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:
        ray.shutdown()
        raise RayUnavailableError(f"a local Ray cannot be started: {_first_line(error)}") from error


def _connect(address: str) -> None:
    unreachable = (
        f"RAY_ADDRESS {address}: the Ray cluster cannot be reached: {{}}; name one that runs,"
        " or unset the variable for a local one"
    )
    _wait_for_port(address, unreachable)
    try:
        with _interrupted_after(_CONNECT_SECONDS):
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except _TooLateError as error:
        ray.shutdown()
        raise RayUnavailableError(unreachable.format("it does not answer")) from error
    except Exception as error:
        ray.shutdown()
        raise RayUnavailableError(unreachable.format(_first_line(error))) from error


def _wait_for_port(address: str, unreachable: str) -> None:
    """Return once something listens at `host:port`; other kinds of address are left to Ray."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    deadline = time.monotonic() + _REACH_SECONDS
    while True:
        left = deadline - time.monotonic()
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=max(left, 1)).close()
        except (OSError, OverflowError) as error:
            if left <= 1:
                raise RayUnavailableError(unreachable.format(_first_line(error))) from error
            time.sleep(1)
        else:
            return


class _TooLateError(BaseException):
    """No Exception: Ray would take one for a failed try, and try again."""


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise _TooLateError after some time. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLateError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def _warm_up() -> None:
    """Let every process of a local Ray import what it needs while the driver plans.

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
    _prepare_ray_data()


def _prepare_ray_data() -> None:
    """Make the actors of Ray Data, which otherwise makes them when a Dataset begins.

    Ray Data runs one task at a time until its coordinator answers, whose imports take as long as a
    plan. The other actor has statistics for Ray's dashboard, and a local Ray has no dashboard. In
    its place stands an actor that never begins, so that no process imports Ray Data for it.
    """
    # Imported once the workers have begun.
    from ray.data._internal import stats  # noqa: PLC0415
    from ray.data._internal.cluster_autoscaler import (  # noqa: PLC0415
        get_or_create_autoscaling_coordinator,
    )

    get_or_create_autoscaling_coordinator()  # type: ignore[no-untyped-call]

    class NoStatistics:
        def register_dataset(self, *_: object) -> None: ...

        def update_execution_metrics(self, *_: object) -> None: ...

        def update_iteration_metrics(self, *_: object) -> None: ...

    ray.remote(num_cpus=0)(NoStatistics).options(
        name=stats.STATS_ACTOR_NAME,
        namespace=stats.STATS_ACTOR_NAMESPACE,
        lifetime="detached",
        resources={_ABSENT: 1},
    ).remote()
