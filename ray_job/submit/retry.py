"""Repeating a call of the Kubernetes API while its failure may pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ray_job.bucket.errors import TransientError
from ray_job.events import emit
from ray_job.submit.cluster import Pace

T = TypeVar("T")


def retry_transient(call: Callable[[], T], pace: Pace) -> T:
    """The result of `call`, which is repeated after each TransientError.

    Raises the TransientError once `pace.patience` seconds have passed, and every other error at
    once. Each method of Cluster may be called again after a TransientError.
    """
    end = time.monotonic() + pace.patience
    while True:
        try:
            return call()
        except TransientError as error:
            if time.monotonic() > end:
                raise
            emit("submit_retrying", "WARNING", reason=str(error))
            time.sleep(pace.retry)
