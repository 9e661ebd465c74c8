"""Several requests of the JSON API in one, as `storage.Client.batch` sends them."""

from __future__ import annotations

from email.parser import BytesParser
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .answer import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .request import Request

_BOUNDARY: Final = b"batch_of_the_fake"


def requests(request: Request) -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """Method, raw path, query and body of each request inside."""
    head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
    for part in BytesParser().parsebytes(head + request.body).walk():
        if part.get_content_type() != "application/http":
            continue
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        first, _, rest = payload.replace(b"\r\n", b"\n").partition(b"\n")
        method, address, *_ = first.decode().split(" ")
        url = urlsplit(address)
        body = rest.partition(b"\n\n")[2]
        yield method, url.path.encode(), url.query.encode(), body


def answer(answers: Sequence[Answer]) -> Answer:
    """The answers, in the order of the requests."""
    parts = []
    for inner in answers:
        lines = [b"HTTP/1.1 %d %s" % (inner.status, HTTPStatus(inner.status).phrase.encode())]
        lines += [name + b": " + value for name, value in inner.headers]
        parts += [
            b"--" + _BOUNDARY,
            b"Content-Type: application/http",
            b"",
            *lines,
            b"",
            inner.body,
        ]
    body = b"\r\n".join([*parts, b"--" + _BOUNDARY + b"--", b""])
    return Answer(200, [(b"content-type", b"multipart/mixed; boundary=" + _BOUNDARY)], body)
