"""The fake without its HTTP: admits a request, carries it out, and calls the write hooks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from . import batch
from .answer import XML, Answer, as_json
from .faults import Faults
from .json_api import JsonApi
from .log import Entry, Log
from .objects import Refusal, Store
from .request import read
from .uploads import Uploads
from .xml_api import XmlApi

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Request

_XML_CODES: Final = {
    "notFound": "NoSuchKey",
    "bucketNotFound": "NoSuchBucket",
    "noSuchUpload": "NoSuchUpload",
    "conditionNotMet": "PreconditionFailed",
    "forbidden": "AccessDenied",
    "invalidPart": "InvalidPart",
    "tooManyRequests": "SlowDown",
}


class Crash(Exception):  # noqa: N818 - an event that a test brings about
    """Raised by a write hook: the writing process is dead from here on."""


class Service:
    """One fake storage. Its attributes may be set at any time, from any thread.

    latency: seconds before every answer. token: what "Authorization: Bearer" must say, or
    None. denied: patterns of keys that are answered 403. before_write and after_write are
    called with the key of every write that comes over HTTP (after_write only if it
    landed), outside the store's lock and in a thread of their own, so they may use the
    store, the fake itself, or kill a process. One that raises Crash leaves the fake
    `crashed`: that request and all later ones are refused with 400, which no client
    retries, so that nothing the dead writer still tries can land.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log = Log()
        self.faults = Faults()
        self.uploads = Uploads()
        self.epoch = 0
        self._json = JsonApi(store, self.uploads)
        self._xml = XmlApi(store, self.uploads)
        self.calm()

    def serves(self, request: Request) -> bool:
        """Whether the request is for a bucket of this service, or for none.

        A stray request for another bucket must not meet the fault that a test has prepared.
        """
        return not request.bucket or request.bucket in self.store.bucket_names()

    def calm(self) -> None:
        """Back to a storage where nothing goes wrong; the objects and the log stay."""
        self.faults.clear()
        self.latency = 0.0
        self.token: str | None = None
        self.denied: list[str] = []
        self.recover()

    def recover(self) -> None:
        """After a crash: serve again, without hooks."""
        self.before_write: Callable[[str], object] | None = None
        self.after_write: Callable[[str], object] | None = None
        self.crashed = False

    def set_page_size(self, names: int) -> None:
        """List at most so many names at a time (1,000 is the real storage's limit)."""
        self._json.page_size = self._xml.page_size = names

    @property
    def hooked(self) -> bool:
        return self.before_write is not None or self.after_write is not None

    def carry_out(self, request: Request) -> Answer:
        """Do what is asked, with the hooks around it; refusals become answers."""
        if request.op == "batch":
            return self._each(request)
        try:
            self._admit(request)
            if request.is_write and self.before_write:
                self.before_write(request.key)
            answer = (self._json if request.api == "json" else self._xml).answer(request)
            if request.is_write and self.after_write:
                self.after_write(request.key)
        except Refusal as refusal:
            return refused(refusal, request)
        except Crash:
            self.crashed = True
            return refused(_dead(), request)
        return answer

    def note(self, request: Request, status: int, sent: int, fault: str = "") -> None:
        self.log.add(
            Entry(
                request.method,
                request.api,
                request.op,
                request.bucket,
                request.key,
                request.query,
                len(request.body),
                sent,
                status,
                fault,
            )
        )

    def _each(self, request: Request) -> Answer:
        answers = []
        for method, path, query, body in batch.requests(request):
            headers = [(k.encode(), v.encode()) for k, v in request.headers.items()]
            inner = read(method, path, query, headers, body, self.uploads)
            answer = self.carry_out(inner)
            self.note(inner, answer.status, len(answer.body))
            answers.append(answer)
        return batch.answer(answers)

    def _admit(self, request: Request) -> None:
        if self.crashed:
            raise _dead()
        sent = request.headers.get("authorization", "")
        if self.token is not None and sent != f"Bearer {self.token}":
            raise Refusal(403, "forbidden", "The caller does not have storage access.")
        if any(fnmatchcase(request.key, pattern) for pattern in self.denied):
            raise Refusal(403, "forbidden", f"The caller may not touch {request.key}.")


def refused(refusal: Refusal, request: Request) -> Answer:
    """A refusal in the words of the API that was asked."""
    if refusal.status == 304:
        return Answer(304)
    if request.api == "xml":
        code = _XML_CODES.get(refusal.reason, "InvalidArgument")
        body = f"<Error><Code>{code}</Code><Message>{escape(refusal.message)}</Message></Error>"
        return Answer(refusal.status, [XML], body.encode())
    reason = "notFound" if refusal.reason == "bucketNotFound" else refusal.reason
    error = {"message": refusal.message, "domain": "global", "reason": reason}
    document = {"code": refusal.status, "message": refusal.message, "errors": [error]}
    return as_json({"error": document}, refusal.status)


def _dead() -> Refusal:
    return Refusal(400, "invalid", "The fake refuses everything after a crash.")
