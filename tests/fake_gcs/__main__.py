"""The fake as a process of its own: prints its URL, and serves until it is told to end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from . import FakeGcs
from .server import listen, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_gcs", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", action="append", required=True)
    parser.add_argument("--directory", type=Path, help="put its files into the first bucket")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every answer")
    parser.add_argument(
        "--requests",
        type=Path,
        help="a file that gets the number of requests by operation at each SIGUSR1, and the"
        " processor time so far; the count then begins anew",
    )
    asked = parser.parse_args()
    gcs = FakeGcs()
    for name in asked.bucket:
        gcs.create_bucket(name)
    if asked.directory:
        for path in sorted(asked.directory.rglob("*")):
            if path.is_file():
                key = path.relative_to(asked.directory).as_posix()
                gcs.put(asked.bucket[0], key, path.read_bytes())
    gcs.latency = asked.latency_ms / 1000
    if asked.requests:
        _tell_requests(gcs, asked.requests)
    sock = listen(asked.port, asked.host)
    gcs.host, gcs.port = asked.host, sock.getsockname()[1]
    sys.stdout.write(f"{gcs.url}\n")
    sys.stdout.flush()
    run(gcs.app, sock)


def _tell_requests(gcs: FakeGcs, path: Path) -> None:
    def tell(_signal: int, _frame: Any) -> None:
        counted = Counter(entry.op for entry in gcs.log.entries)
        gcs.log.clear()
        document = {"requests": counted, "cpu_seconds": time.process_time()}
        written = path.with_suffix(".new")
        written.write_text(json.dumps(document))
        written.rename(path)

    signal.signal(signal.SIGUSR1, tell)


if __name__ == "__main__":
    main()
