"""The OpenAPI document, the frontend's contract.

`python -m api.openapi` writes it to api/openapi.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

COMMITTED = Path(__file__).parent / "openapi.json"

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An OpenID Connect token of an issuer that the service trusts.",
    },
    "proxy": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Goog-IAP-JWT-Assertion",
        "description": "Set by Identity-Aware Proxy; callers do not set it.",
    },
}


def of_app(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is replaced by: made once."""
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            made.append(_make(app))
        return made[0]

    return openapi


def _make(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    document["components"]["securitySchemes"] = _SCHEMES
    document["security"] = [{name: []} for name in _SCHEMES]
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    for path in document["paths"].values():
        for parameter in path["get"].get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
    return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter in an address is there or not: it has no null."""
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**choices[0], **rest}


def text(app: FastAPI) -> str:
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    from api.main import compose  # noqa: PLC0415 - main imports this module

    COMMITTED.write_text(text(compose()), encoding="utf-8")


if __name__ == "__main__":
    main()
