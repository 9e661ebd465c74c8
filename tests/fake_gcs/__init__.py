"""A behavioural fake of Google Cloud Storage over HTTP.

It speaks the JSON API (google-cloud-storage, pyarrow) and the XML API (delta-rs) over the
same buckets, with generations, preconditions and checksums, and fails on request.

    with FakeGcs.serve("bucket") as gcs:
        gcs.faults.add(Fault("ack_lost", op="insert", key="results/current.json"))

`FakeGcs.serve` runs in a thread. pyarrow asks for an object while it holds the interpreter's
lock when a file comes from `GcsFileSystem.open_input_file` (its `closed` does), so that
function deadlocks against a thread of the same process; `open_input_stream` does not. Use
`spawned`, a process of its own, for what opens files that way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .app import App
from .clock import Clock
from .faults import TRANSIENT, Fault, Faults
from .log import Entry, Log
from .objects import LARGEST_PAGE, Conditions, Refusal, Store, Stored
from .server import ServerThread
from .service import Crash, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "TRANSIENT",
    "Clock",
    "Conditions",
    "Crash",
    "Entry",
    "FakeGcs",
    "Fault",
    "Faults",
    "Log",
    "Refusal",
    "Stored",
    "spawned",
]

# google-cloud-storage asks for the metadata of each bucket in a background thread, for traces that
# nobody reads. On a busy machine such a request arrives in the next test and meets its faults.
os.environ["DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"] = "true"


class FakeGcs(Service):
    """A `Service` with an address, and a test's short cuts into its buckets.

    The short cuts go past HTTP: no faults, hooks, latency or log.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(Store(self.clock.now))
        self.app = App(self)
        self.host = "127.0.0.1"
        self.port = 0

    @classmethod
    @contextmanager
    def serve(cls, *buckets: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[FakeGcs]:
        """Serve from a thread, with these buckets, by default on a port of its own."""
        gcs = cls()
        gcs.host = host
        for name in buckets:
            gcs.create_bucket(name)
        server = ServerThread(gcs.app, host, port)
        gcs.port = server.port
        server.start()
        try:
            yield gcs
        finally:
            server.stop()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def reset(self) -> None:
        """As new: no buckets, no objects, no faults, an empty log, the real time.

        Requests that came before are not carried out any more; their connections are closed.
        """
        self.epoch += 1
        for name in self.store.bucket_names():
            self.store.drop_bucket(name, with_objects=True)
        self.uploads.clear()
        self.calm()
        self.set_page_size(LARGEST_PAGE)
        self.clock.reset()
        self.log.clear()

    def create_bucket(self, name: str) -> None:
        self.store.create_bucket(name)

    def put(
        self, bucket: str, key: str, body: bytes, *, if_generation_match: int | None = None
    ) -> int:
        """Write an object and return its generation."""
        conditions = Conditions(generation_match=if_generation_match)
        return self.store.put(bucket, key, body, conditions).generation

    def get(self, bucket: str, key: str) -> bytes:
        """An object's bytes; raises Refusal (404) when there is none."""
        return self.store.get(bucket, key).body

    def stat(self, bucket: str, key: str) -> Stored | None:
        return self.store.find(bucket, key)

    def generation(self, bucket: str, key: str) -> int:
        """The object's generation, 0 when there is none."""
        stored = self.store.find(bucket, key)
        return stored.generation if stored else 0

    def delete(self, bucket: str, key: str) -> None:
        self.store.delete(bucket, key)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return self.store.keys(bucket, prefix)

    def snapshot(self, bucket: str, prefix: str = "") -> Mapping[str, bytes]:
        """All objects under a prefix, by key."""
        return {key: self.get(bucket, key) for key in self.keys(bucket, prefix)}


@contextmanager
def spawned(*buckets: str, directory: Path | None = None, latency_ms: float = 0.0) -> Iterator[str]:
    """The URL of a fake in a process of its own, its first bucket filled from a directory.

    It is reached over HTTP only: no faults, hooks or log.
    """
    command = [sys.executable, "-m", "tests.fake_gcs", "--latency-ms", str(latency_ms)]
    command += [word for name in buckets for word in ("--bucket", name)]
    if directory is not None:
        command += ["--directory", str(directory)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("The fake did not start.")
            yield url
        finally:
            process.terminate()
            process.wait()
