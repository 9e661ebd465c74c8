"""The headers of pages, and problems as pages.

They stand here because a caller who asks for too many pages gets one before the routes.
"""

from __future__ import annotations

from cachetools import LRUCache
from starlette.responses import Response

from api.problems import NO_SNIFFING, ProblemError, kind_of
from api.views.language import Language
from api.views.pages import ListQuery, problem_page

HTML = "text/html; charset=utf-8"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
}
"""Headers of every page: no script runs, and nothing of another host is loaded."""
VARY = "Accept, Accept-Encoding, Authorization, X-Goog-IAP-JWT-Assertion"
PAGE_VARY = {"Vary": f"{VARY}, Accept-Language"}
_MAX_PAGES = 256

_pages: LRUCache[tuple[str, str, str, ListQuery], bytes] = LRUCache(_MAX_PAGES)


def page_problem(error: ProblemError, language: Language, query: ListQuery) -> Response:
    """The problem as a page. Raises `error` if it is not in the table of problems."""
    kind = kind_of(error)
    if kind is None:
        raise error
    key = (kind.slug, str(error), language.name, query)
    html = _pages.get(key)
    if html is None:
        html = _pages[key] = problem_page(kind, error, language, query).encode()
    headers = {
        **PAGE_HEADERS,
        **PAGE_VARY,
        **NO_SNIFFING,
        **error.headers,
        "Content-Type": HTML,
        "Cache-Control": "no-store",
        "Content-Language": language.name,
    }
    return Response(html, kind.status, headers)
