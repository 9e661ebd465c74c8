"""What the service is measured against: the same bytes from a bare application and from FastAPI.

`python -m tests.benchmarks.api.ceilings bare|fastapi PORT FILE`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response


def bare(body: bytes) -> Any:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert receive
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


def fastapi(body: bytes) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/stores/{store_id}/forecast")
    async def forecast(store_id: str) -> Response:
        assert store_id
        return Response(body, media_type="application/json")

    return app


if __name__ == "__main__":
    which, port, file = sys.argv[1:]
    content = Path(file).read_bytes()
    uvicorn.run(
        bare(content) if which == "bare" else fastapi(content),
        port=int(port),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
    )
