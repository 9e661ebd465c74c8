"""The OpenAPI document: the contract with the frontend."""

from __future__ import annotations

import asyncio
from functools import cache
from threading import Lock
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from api.problems import KINDS_BY_SLUG
from api.routes.documentation import EXAMPLE
from api.views.examples import EXAMPLES, problem_example
from api.views.formats import MEDIA_TYPES, to_json
from api.views.history_schemas import History, HistoryDay
from api.views.problem_schemas import SCHEMAS
from api.views.schemas import Forecast, ItemForecast, PartialForecast, PartialStoreList, TotalDay
from api.views.tables import FORECAST_SCHEMA, HISTORY_SCHEMA, row_schema

VERSION = "1.1.0"
"""The version of the contract. Its first number is that of the paths."""

_PATH = "/openapi.json"
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
_INFO = {
    "contact": {"name": "Storecast"},
    "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
}
_SERVERS = [{"url": "/", "description": "The service that serves this document."}]
_TAGS = [
    {"name": "forecasts", "description": "The coming days of a store, in all and by item."},
    {"name": "stores", "description": "Many stores at once: lists, search, batches."},
    {"name": "history", "description": "Past days: what was forecast and what was sold."},
    {"name": "caller", "description": "Who the caller is."},
    {"name": "operators", "description": "Runs and releases, for those who run the service."},
]
_LEVEL = {
    "level": "`store`: a total of the store. `item`: a series of it. Do not add up both.",
    "item_id": "The item's id, as it was delivered; empty for a total.",
}


def install(app: FastAPI) -> None:
    """Replace the document that FastAPI makes. It is made at the first request, once."""

    @cache
    def openapi() -> dict[str, Any]:
        return _document(app)

    app.openapi = openapi  # type: ignore[method-assign]
    lock = Lock()

    @cache
    def content() -> bytes:
        return to_json(openapi())

    def content_once() -> bytes:
        with lock:
            return content()

    async def get_document(_: Request) -> Response:
        # Making it takes most of a second, and callers need no token for it.
        is_made = content.cache_info().currsize > 0
        body = content() if is_made else await asyncio.to_thread(content_once)
        return Response(body, media_type=MEDIA_TYPES["json"])

    app.add_route(_PATH, get_document, include_in_schema=False)


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=_SERVERS,
        tags=_TAGS,
    )
    document["info"] |= _INFO
    components = document["components"]
    components["securitySchemes"] = _SECURITY_SCHEMES
    document["security"] = [{scheme: []} for scheme in _SECURITY_SCHEMES]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"] |= _further_schemas(document)
    components["schemas"] = dict(sorted(components["schemas"].items()))
    components["examples"] = _problem_examples(document)
    for path in document["paths"].values():
        for parameter in path["get"].get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
        _add_examples(path["get"]["responses"]["200"]["content"])
    return document


def _further_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """The schemas that no route has as its model: rows, problems and partial answers."""
    text = str(document)
    models: list[type[BaseModel]] = [PartialForecast, PartialStoreList]
    models += [schema for schema in SCHEMAS.values() if f"/{schema.__name__}'" in text]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    rows = {
        "ForecastRow": row_schema(
            FORECAST_SCHEMA,
            _descriptions(ItemForecast, TotalDay, Forecast) | _LEVEL,
            "A row of a forecast as CSV or Parquet. A store without a forecast has one row without"
            " numbers.",
        ),
        "HistoryRow": row_schema(
            HISTORY_SCHEMA,
            _descriptions(History, HistoryDay),
            "A row of a history as CSV or Parquet.",
        ),
    }
    return {**definitions["$defs"], **rows}


def _problem_examples(document: dict[str, Any]) -> dict[str, Any]:
    text = str(document["paths"])
    return {
        slug: {"summary": kind.title, "value": problem_example(kind)}
        for slug, kind in sorted(KINDS_BY_SLUG.items())
        if f"#/components/examples/{slug}'" in text
    }


def _descriptions(*models: type[BaseModel]) -> dict[str, str]:
    return {
        name: field.description or ""
        for model in models
        for name, field in model.model_fields.items()
    }


def _add_examples(content: dict[str, Any]) -> None:
    for documentation in content.values():
        name = documentation.pop(EXAMPLE, None)
        if name is not None:
            documentation["example"] = EXAMPLES[name]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter without the choice `null`: an address has no null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    other_keywords = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
    return {**choices[0], **other_keywords}
