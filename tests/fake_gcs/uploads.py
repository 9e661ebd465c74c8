"""Uploads in several requests: resumable ones (JSON API) and ones in parts (XML API)."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .objects import ALWAYS, Conditions, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .objects import Stored

QUANTUM: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+|\*)|\*)/(\d+|\*)")


@dataclass(slots=True)
class Upload:
    """An upload that was begun; `done` is the object it made, told again to who asks again."""

    bucket: str
    key: str
    conditions: Conditions = ALWAYS
    fields: Mapping[str, Any] = field(default_factory=dict)
    received: bytearray = field(default_factory=bytearray)
    parts: dict[int, bytes] = field(default_factory=dict)
    done: Stored | None = None


class Uploads:
    """The uploads that were begun, by id; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, Upload] = {}
        self._count = 0

    def begin(self, upload: Upload) -> str:
        with self._lock:
            self._count += 1
            upload_id = f"upload-{self._count}"
            self._begun[upload_id] = upload
            return upload_id

    def get(self, upload_id: str) -> Upload:
        with self._lock:
            if upload_id not in self._begun:
                raise Refusal(404, "noSuchUpload", f"No such upload: {upload_id}")
            return self._begun[upload_id]

    def key_of(self, upload_id: str) -> str:
        return self.get(upload_id).key

    def drop(self, upload_id: str) -> None:
        with self._lock:
            self._begun.pop(upload_id, None)

    def clear(self) -> None:
        with self._lock:
            self._begun.clear()

    def pending(self) -> int:
        """How many were begun and neither finished nor aborted."""
        with self._lock:
            return sum(upload.done is None for upload in self._begun.values())

    @staticmethod
    def finishes(content_range: str | None) -> bool:
        """Whether a request with this Content-Range is the last of its resumable upload."""
        if content_range is None:
            return True
        first, last, total = _parsed(content_range)
        if total is None:
            return last is None and first is not None
        return first is None or (last is not None and last + 1 == total)

    @staticmethod
    def receive(upload: Upload, content_range: str | None, body: bytes) -> bool:
        """Take the bytes in, those that came before only once; True when it is complete."""
        if content_range is None:
            upload.received[:] = body
            return True
        first, last, total = _parsed(content_range)
        if first is not None:
            held = len(upload.received)
            if first > held or (last is not None and last + 1 - first != len(body)):
                raise Refusal(400, "invalid", f"{content_range} does not follow {held} bytes.")
            complete = Uploads.finishes(content_range)
            if not complete and len(body) % QUANTUM:
                raise Refusal(400, "invalid", f"{len(body)} bytes are no multiple of {QUANTUM}.")
            upload.received += body[held - first :]
        return total == len(upload.received) or (
            total is None and last is None and first is not None
        )


def _parsed(content_range: str) -> tuple[int | None, int | None, int | None]:
    """First and last byte and the total of "bytes 0-9/10", None for what is unknown."""
    match = _RANGE.fullmatch(content_range)
    if match is None:
        raise Refusal(400, "invalid", f"Content-Range cannot be read: {content_range}")
    first, last, total = (int(text) if text and text != "*" else None for text in match.groups())
    return first, last, total
