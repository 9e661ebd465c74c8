"""Parameters that several routes share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import date
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import Depends, Path, Query, Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, StringConstraints

from api.problems import InvalidError
from api.views.formats import CsvDialect, Decimal, Delimiter, Format
from ray_job.bucket.keys import STORE_ID_PATTERN

_WHOLE_STORE_ID = f"^{STORE_ID_PATTERN}$"
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DEFAULT_PAGE = 100
_MAX_PAGE = 1000
MAX_TOKEN = 2048
"""Characters of a page token."""
QUERY_PROBLEM = "storecast.query_problem"
"""The key of the scope that holds what is wrong with a query beside its single parameters."""
MAX_TABLE = 2500
"""A CSV or Parquet file without `page_size` has at most so many entries."""

StoreId = Annotated[
    str,
    Path(
        pattern=_WHOLE_STORE_ID,
        description="The store's id, as it was delivered.",
        examples=["17"],
    ),
]
ListedStoreId = Annotated[str, StringConstraints(pattern=_WHOLE_STORE_ID)]


def _check_day(value: Any) -> Any:
    """Raise ValueError for what is no day. As a number it would be seconds since 1970."""
    if isinstance(value, str) and _DAY.fullmatch(value) is None:
        raise ValueError("a day is written as 2026-11-25")
    return value


Day = Annotated[date, BeforeValidator(_check_day)]
AsOf = Annotated[
    Day | None,
    Query(description="What was said on that night, past days included.", examples=["2026-11-22"]),
]
MaxAge = Annotated[
    int | None,
    Query(
        ge=0,
        le=10_000,
        description=(
            "409 instead of an answer that knows less: days between data through and the as-of"
            " that should be live by now."
        ),
        examples=[2],
    ),
]
PageSize = Annotated[
    int | None,
    Query(
        ge=1,
        description=(
            f"Entries on a page. More than {_MAX_PAGE} count as {_MAX_PAGE}. Without it a page of"
            f" JSON has {_DEFAULT_PAGE}, and a CSV or Parquet file has all of them, up to"
            f" {MAX_TABLE}."
        ),
        examples=[100],
    ),
]
PageTokenText = Annotated[
    str | None,
    Query(
        max_length=MAX_TOKEN,
        description=(
            "`next_page_token` of the page before: the same release goes on. It carries the"
            " parameters of the first page; they need not be given again, and must not change."
        ),
    ),
]


def page_limit(page_size: int | None, answer_format: Format) -> int:
    """The entries of a page. A size above the limit is lowered (AIP-158)."""
    if page_size is not None:
        return min(page_size, _MAX_PAGE)
    return _DEFAULT_PAGE if answer_format == "json" else MAX_TABLE


async def _csv_dialect(
    csv_delimiter: Annotated[
        Delimiter, Query(description="CSV only: what stands between two cells.")
    ] = "comma",
    csv_decimal: Annotated[
        Decimal, Query(description="CSV only: the decimal mark of numbers.")
    ] = "point",
    csv_bom: Annotated[
        bool,
        Query(description="CSV only: begin with a byte order mark, by which Excel knows UTF-8."),
    ] = False,
) -> CsvDialect:
    return CsvDialect(csv_delimiter, csv_decimal, csv_bom)


Dialect = Annotated[CsvDialect, Depends(_csv_dialect)]
"""How CSV is written. `semicolon`, `comma` and a byte order mark suit a German Excel, for example.
"""


def check_selection(fields: list[str] | None, answer_format: Format) -> None:
    """Raise InvalidError for a selection of fields in an answer that is no JSON."""
    if fields and answer_format != "json":
        message = "only JSON answers can be limited to some fields"
        raise InvalidError(
            f"fields: {message}", errors=[{"parameter": "fields", "message": message}]
        )


def check_query(request: Request) -> None:
    """Raise InvalidError for a parameter that the route does not have, or that is given twice.

    A misspelt parameter would otherwise be ignored without a word, and one that means nothing would
    make a new key of the cached replies each time.
    """
    problem = request.scope.get(QUERY_PROBLEM)
    if isinstance(problem, InvalidError):
        raise problem
    given = Counter(name for name, _ in request.query_params.multi_items())
    if not given:
        return
    is_list = _parameters_of(request.scope["route"])
    errors = [
        {
            "parameter": name,
            "message": (
                "this may be given once only"
                if name in is_list
                else f"there is no such parameter; there are {', '.join(sorted(is_list)) or 'none'}"
            ),
        }
        for name, count in given.items()
        if name not in is_list or (count > 1 and not is_list[name])
    ]
    if errors:
        first = errors[0]
        raise InvalidError(f"{first['parameter']}: {first['message']}", errors=errors)


_parameters: dict[Callable[..., Any], dict[str, bool]] = {}
"""The query parameters of each route's function, and whether they may be repeated."""


def _parameters_of(route: APIRoute) -> dict[str, bool]:
    parameters = _parameters.get(route.endpoint)
    if parameters is None:
        parameters = _parameters[route.endpoint] = {
            field.alias: _is_list(field.field_info.annotation)
            for field in get_flat_params(route.dependant)
            if isinstance(field.field_info, params.Query)
        }
    return parameters


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_is_list(member) for member in get_args(annotation))
    return origin is list
