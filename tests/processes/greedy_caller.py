"""`python -m tests.processes.greedy_caller PORT PATH AUTHORIZATION` sends dear requests.

Sixteen connections ask for pages of a thousand entries, each time with other parameters. It prints
a line for each of the first answers, and goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys

CONNECTIONS = 16
NUMBERS = itertools.count()


async def send_requests(port: int, path: str, authorization: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    while True:
        query = f"page_size={1000 - next(NUMBERS) % 100}&max_age_days={next(NUMBERS) % 10_000}"
        request = (
            f"GET {path}?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n"
        )
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
        if next(NUMBERS) < CONNECTIONS * 3:
            print(head.split(b"\r\n", 1)[0].decode(), flush=True)  # noqa: T201
        if b" 429 " in head[:20]:
            await asyncio.sleep(0.02)


async def main() -> None:
    port, path, authorization = sys.argv[1:]
    await asyncio.gather(
        *(send_requests(int(port), path, authorization) for _ in range(CONNECTIONS))
    )


if __name__ == "__main__":
    asyncio.run(main())
