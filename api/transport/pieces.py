"""Large bodies in pieces.

What is written at once is copied to the connection at once, while everybody else waits, and what
its caller does not read yet stays in memory. Between two pieces others have their turn, and the
next one waits until this one is sent.
"""

from __future__ import annotations

from starlette.types import Send

_PIECE_BYTES = 131_072


async def send_in_pieces(send: Send, body: bytes, *, is_last: bool = True) -> None:
    """Send a body, or a part of one. The pieces share the memory of `body`."""
    if len(body) > _PIECE_BYTES:
        whole = memoryview(body)
        last = (len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES
        for start in range(0, last, _PIECE_BYTES):
            piece = whole[start : start + _PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = whole[last:]  # type: ignore[assignment]
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})
