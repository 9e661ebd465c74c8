"""`/problems/<slug>`: the pages that explain the types of problems. They need no token."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.problems import KINDS_BY_SLUG
from api.transport.page_problems import HTML, PAGE_HEADERS
from api.views.problem_pages import ProblemText, problem_type_page, problem_types_page
from api.views.problem_schemas import SCHEMAS

router = APIRouter(include_in_schema=False)

_CACHE = {"Cache-Control": "public, max-age=3600", "Content-Type": HTML}


@router.get("/problems")
async def get_problem_types() -> Response:
    texts = [_text(slug) for slug in sorted(SCHEMAS)]
    return Response(problem_types_page(texts), headers={**PAGE_HEADERS, **_CACHE})


@router.get("/problems/{slug}")
async def get_problem_type(request: Request, slug: str) -> Response:
    if slug not in SCHEMAS:
        raise HTTPException(404, "no problem has this type; /problems lists all")
    operations = _operations(await asyncio.to_thread(request.app.openapi), slug)
    html = problem_type_page(_text(slug), operations)
    return Response(html, headers={**PAGE_HEADERS, **_CACHE})


def _text(slug: str) -> ProblemText:
    return ProblemText.of(KINDS_BY_SLUG[slug], SCHEMAS[slug])


def _operations(document: dict[str, object], slug: str) -> list[str]:
    """The operations that can give the problem, as `GET /path`."""
    paths = document["paths"]
    assert isinstance(paths, dict)  # noqa: S101
    status = str(KINDS_BY_SLUG[slug].status)
    return [
        f"GET {path}"
        for path, operations in paths.items()
        for media in operations["get"]["responses"].get(status, {}).get("content", {}).values()
        if slug in media.get("examples", {})
    ]
