"""What goes wrong, and when: faults for chosen requests, and a rate of transient ones."""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .request import Request

Kind = Literal["status", "reset", "stall", "truncate", "corrupt", "ack_lost"]


@dataclass(slots=True)
class Fault:
    """Something that goes wrong with the `nth` to (`nth` + `times` - 1)th matching request.

    Kinds:
    - status: answered with `status` (and Retry-After), nothing is done;
    - reset: the connection is closed without an answer, nothing is done;
    - stall: `seconds` pass before the answer, or after `at` bytes of its body; a write lands
      even if its client has gone by then;
    - truncate: only the first `at` bytes (half by default) of the body are sent, under the
      Content-Length of the whole, then the connection is closed; `clean` declares the
      shorter length, so that only the checksum headers tell;
    - corrupt: the bits of byte `at` (the middle one by default) are flipped, the checksum
      headers are those of the true bytes;
    - ack_lost: the request is carried out, then the connection is closed without an answer,
      or `status` is answered where one is given.

    A request matches when its HTTP method, its op (one of `request.py`'s words, such as get,
    stat, list, insert, start, part, delete), and its key fit the patterns (`*` crosses
    slashes) and `when`, if given, says so. times=None goes on until `Faults.clear`.
    """

    kind: Kind
    method: str = "*"
    op: str = "*"
    key: str = "*"
    when: Callable[[Request], bool] | None = None
    nth: int = 1
    times: int | None = 1
    status: int | None = None
    retry_after: int | None = None
    seconds: float = 0.0
    at: int | None = None
    clean: bool = False
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def matches(self, request: Request) -> bool:
        return (
            fnmatchcase(request.method, self.method)
            and fnmatchcase(request.op, self.op)
            and fnmatchcase(request.key, self.key)
            and (self.when is None or self.when(request))
        )


TRANSIENT = (
    Fault("status", status=503),
    Fault("status", status=429),
    Fault("status", status=408),
    Fault("reset"),
)


class Faults:
    """The faults to come; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._rate = 0.0
        self._seed = 0
        self._mix: Sequence[Fault] = TRANSIENT
        self._asked: Counter[tuple[str, str]] = Counter()

    def add(self, fault: Fault) -> Fault:
        """Returns the fault, whose `fired` says how often it struck."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def transient(self, rate: float, seed: int, mix: Sequence[Fault] = TRANSIENT) -> None:
        """Let a share `rate` of the requests that match a fault of `mix` meet it.

        Whether a request does depends on the seed, its op, its key and how often that was
        asked before, and not on the order among different keys: the same run meets the
        same faults whatever its threads do.
        """
        with self._lock:
            self._rate, self._seed, self._mix = rate, seed, mix
            self._asked.clear()

    def clear(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()
            self._rate = 0.0

    def fired(self) -> int:
        """How often the chosen faults struck."""
        with self._lock:
            return sum(fault.fired for fault in self._faults)

    def strike(self, request: Request) -> Fault | None:
        """The fault that this request meets: a chosen one first, then a random one."""
        with self._lock:
            struck = None
            for fault in self._faults:
                if not fault.matches(request):
                    continue
                fault.seen += 1
                over = fault.times is not None and fault.seen >= fault.nth + fault.times
                if struck is None and fault.seen >= fault.nth and not over:
                    fault.fired += 1
                    struck = fault
            return struck or (self._random(request) if self._rate else None)

    def _random(self, request: Request) -> Fault | None:
        asked = request.op, request.key
        self._asked[asked] += 1
        word = f"{self._seed}:{request.op}:{request.key}:{self._asked[asked]}"
        number = zlib.crc32(word.encode())
        mix = [fault for fault in self._mix if fault.matches(request)]
        if not mix or number % 10_000 >= self._rate * 10_000:
            return None
        return replace(mix[(number // 10_000) % len(mix)])
