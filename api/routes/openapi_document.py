"""The OpenAPI document: the contract with the frontend."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_SECURITY_SCHEMES = {
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


def install(app: FastAPI) -> None:
    """Replace the document that FastAPI makes. It is made at the first request, once."""

    @cache
    def openapi() -> dict[str, Any]:
        return _document(app)

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    document["security"] = [{scheme: []} for scheme in _SECURITY_SCHEMES]
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    for path in document["paths"].values():
        for parameter in path["get"].get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
    return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter without the choice `null`: an address has no null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    other_keywords = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return {**choices[0], **other_keywords}
