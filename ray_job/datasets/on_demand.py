"""An executor that starts Ray while a run reads its inputs, and not where nothing is to be done.

A run that has a mistake in its request, or nothing left to do, ends without the seconds that the
start of Ray takes. Until then this module does not import the modules that import ray.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ray_job.execution.executor import Executor
    from ray_job.forecasting.task import ChunkResult, RunSpec, Task


class RayOnDemand:
    """A context that disconnects from Ray at its end, if it has connected."""

    def __init__(self) -> None:
        self._local: _LocalRay | None = None
        self._connection = ExitStack()
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._local is not None:
            self._local.end()
        return self._connection.__exit__(error_type, error, traceback)

    def start(self) -> None:
        """Begin to start a local Ray in the background; `run` waits for it.

        A cluster that `RAY_ADDRESS` names is there already, and `run` connects to it.
        """
        if self._local is None and not os.environ.get("RAY_ADDRESS"):
            self._local = _LocalRay()

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        """See `Executor.run`. The first call waits for Ray, connects to it, or starts it."""
        if self._local is not None:
            self._local.wait()
        if self._executor is None:
            from ray_job.datasets import cluster, executor  # noqa: PLC0415 - loads Ray: slow

            self._connection.enter_context(cluster.cluster())
            self._executor = executor.RayExecutor()
        yield from self._executor.run(tasks, spec)


class _LocalRay:
    """A local Ray that a thread starts and ends.

    The kernel ends Ray's processes with the thread that started them, so it waits until `end`.
    """

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="local-ray", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return once Ray is there. Raises what its start raised."""
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            from ray_job.datasets import cluster  # noqa: PLC0415 - loads Ray: slow

            with cluster.cluster():
                self._ready.set()
                self._over.wait()
        except BaseException as error:  # noqa: BLE001 - raised by `wait`, where it is seen
            self._error = error
        finally:
            self._ready.set()
