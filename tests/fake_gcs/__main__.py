"""The fake as a process of its own: prints its URL, and serves until it is told to end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import FakeGcs
from .server import listen, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_gcs", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", action="append", required=True)
    parser.add_argument("--directory", type=Path, help="put its files into the first bucket")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before every answer")
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
    sock = listen(asked.port)
    gcs.port = sock.getsockname()[1]
    sys.stdout.write(f"{gcs.url}\n")
    sys.stdout.flush()
    run(gcs.app, sock)


if __name__ == "__main__":
    main()
