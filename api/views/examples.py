"""Whole answers as examples for the OpenAPI document. Each agrees with its schema."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from pydantic import BaseModel

from api.problems import ProblemKind
from api.views.access_schemas import Me, ReleaseEntry, ReleaseList
from api.views.formats import to_csv
from api.views.history_schemas import History, HistoryDay, HistorySummary
from api.views.problem_schemas import SCHEMAS, InvalidParameter, UnknownStoreProblem
from api.views.schemas import (
    Batch,
    Forecast,
    ItemDay,
    ItemForecast,
    PartialForecast,
    PartialStore,
    StoreList,
    StoreSummary,
    TotalDay,
)
from api.views.tables import FORECAST_SCHEMA, HISTORY_SCHEMA, forecast_rows, history_rows
from ray_job.bucket.receipts import Receipt


def _example(model: type[BaseModel], **values: Any) -> dict[str, Any]:
    """The example of each field, or its value in `values`. A field with neither is left out."""
    example = {
        name: field.examples[0] for name, field in model.model_fields.items() if field.examples
    }
    return {**example, **values}


_DESCRIPTION = {"name": "Market square", "region": "SL"}
_DAY = _example(TotalDay, missing=[])
_NEXT_DAY = _DAY | {
    "target_date": "2026-11-24",
    "weekday": "Tuesday",
    "days_ahead": 2,
    "predicted_sales": 4988.1,
    "special": [],
    "lower_80": 4420.6,
    "upper_80": 5590.3,
}
_STORE = _example(StoreSummary, description=_DESCRIPTION, days=[_DAY, _NEXT_DAY])
_ITEM_DAYS = [_example(ItemDay), {name: _NEXT_DAY[name] for name in ItemDay.model_fields}]
_FORECAST = _example(
    Forecast,
    description=_DESCRIPTION,
    days=[_DAY, _NEXT_DAY],
    items=[_example(ItemForecast, days=_ITEM_DAYS)],
)


_HISTORY = _example(History, summary=_example(HistorySummary), days=[_example(HistoryDay)])
_RECEIPT = Receipt(
    run_id="20261122-20261123T001502Z-5f3a",
    status="published",
    exit_code=0,
    as_of=date(2026, 11, 22),
    release="20261122-20261123T001502Z-5f3a-0",
    published=True,
    started_at=datetime(2026, 11, 23, 0, 15, 2, tzinfo=UTC),
    finished_at=datetime(2026, 11, 23, 0, 15, 41, tzinfo=UTC),
    seconds=39.0,
)


def problem_example(kind: ProblemKind) -> dict[str, Any]:
    """A problem of this kind with all members of its type."""
    schema = SCHEMAS[kind.slug]
    example = _example(schema, type=f"/problems/{kind.slug}", title=kind.title, status=kind.status)
    if "errors" in schema.model_fields:
        example["errors"] = [_example(InvalidParameter)]
    return example | {"instance": "/v1/stores/17/forecast"}


def _text(csv: bytes) -> str:
    return csv.decode()


EXAMPLES: dict[str, Any] = {
    "forecast": _FORECAST,
    "forecast.partial": {
        name: value
        for name, value in _FORECAST.items()
        if name in PartialForecast.model_fields or name == "days"
    },
    "stores": _example(StoreList, stores=[_STORE]),
    "stores.partial": _example(
        StoreList,
        stores=[
            {
                name: value
                for name, value in _STORE.items()
                if name in PartialStore.model_fields or name == "outcome"
            }
        ],
    ),
    "batch": _example(
        Batch,
        forecasts=[_STORE],
        problems=[
            {
                "type": "/problems/unknown-store",
                "title": "There is no such store",
                "status": 404,
                "detail": "there is no store 999 in release 20261122-20261123T001502Z-5f3a-0",
                **_example(UnknownStoreProblem),
            }
        ],
    ),
    "history": _HISTORY,
    "me": _example(Me),
    "releases": _example(ReleaseList, releases=[_example(ReleaseEntry)]),
    "run": _RECEIPT.model_dump(mode="json"),
    "forecast.csv": _text(to_csv(forecast_rows(_FORECAST), FORECAST_SCHEMA)),
    "stores.csv": _text(to_csv(forecast_rows(_STORE, _FORECAST), FORECAST_SCHEMA)),
    "batch.csv": _text(to_csv(forecast_rows(_STORE, _FORECAST), FORECAST_SCHEMA)),
    "history.csv": _text(to_csv(history_rows(_HISTORY), HISTORY_SCHEMA)),
}
