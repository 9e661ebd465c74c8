"""Managers who ask the API's Service all the time, and what became of their requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import httpx

from tests.cluster import objects, project

_THREADS = 4


class Callers:
    """Ask for a path until the block ends; half of them keep their connection, half open new ones.

    `lost` has one sentence for each request without the status 200, `slowest` the seconds of the
    slowest one. `pause`: seconds of each caller between two requests.
    """

    def __init__(self, path: str, *, pause: float = 0.0) -> None:
        self.requests = 0
        self.slowest = 0.0
        self.lost: list[str] = []
        self._pause = pause
        self._url = f"{objects.api_url()}{path}"
        self._headers = project.signed_in()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number % 2 == 0,))
            for number in range(_THREADS)
        ]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def figures(self) -> list[str]:
        return [
            f"requests: {self.requests}",
            f"lost: {dict(Counter(self.lost))}",
            f"slowest: {self.slowest:.2f} s",
        ]

    def _ask(self, keep: bool) -> None:
        headers = self._headers if keep else {**self._headers, "connection": "close"}
        kind = "kept connection" if keep else "new connection"
        with httpx.Client(headers=headers, timeout=30) as client:
            while not self._stopped.wait(self._pause):
                began = time.monotonic()
                try:
                    response = client.get(self._url)
                    lost = None
                    if response.status_code != httpx.codes.OK:
                        lost = f"{kind}: {response.status_code}: {response.text[:300]}"
                except httpx.HTTPError as error:
                    lost = f"{kind}: {type(error).__name__}: {error}"
                seconds = time.monotonic() - began
                with self._lock:
                    self.requests += 1
                    self.slowest = max(self.slowest, seconds)
                    if lost is not None:
                        self.lost.append(lost)
