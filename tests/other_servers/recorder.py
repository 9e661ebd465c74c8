"""A proxy that writes down what real clients ask and what a server answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Exchange:
    """One request and its answer; names of headers are in lower case."""

    method: str
    path: str
    """With the query, as it was sent."""
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer_body: bytes = b""


def forwarded(exchange: Exchange, url: str) -> Exchange:
    """The exchange with the answer of the server at `url`. `Host` stays that of the client."""
    host = urlsplit(url).netloc
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.putrequest(
            exchange.method, exchange.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in exchange.headers.items():
            if name not in _HOP:
                connection.putheader(name, value)
        connection.putheader("content-length", str(len(exchange.body)))
        connection.endheaders(exchange.body)
        answer = connection.getresponse()
        exchange.answer_body = answer.read()
        exchange.status = answer.status
        exchange.answer_headers = {name.lower(): value for name, value in answer.getheaders()}
    return exchange


@contextmanager
def recorder(url: str) -> Iterator[tuple[str, list[Exchange]]]:
    """The proxy's address, and the exchanges in the order of their answers."""
    exchanges: list[Exchange] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def _content(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def forward(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            exchange = forwarded(Exchange(self.command, self.path, headers, self._content()), url)
            exchanges.append(exchange)
            self.send_response_only(exchange.status)
            for name, value in exchange.answer_headers.items():
                if name not in _HOP:
                    self.send_header(name, value)
            is_bodiless = exchange.status in {204, 304} or self.command == "HEAD"
            length = exchange.answer_headers.get("content-length", "0")
            self.send_header(
                "content-length", length if is_bodiless else str(len(exchange.answer_body))
            )
            self.end_headers()
            if not is_bodiless:
                self.wfile.write(exchange.answer_body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = forward  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", exchanges
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
