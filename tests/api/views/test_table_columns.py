"""Every field of an answer is a column of its table, or is left out on purpose."""

from __future__ import annotations

from api.views.history_schemas import History, HistoryDay
from api.views.schemas import Forecast, TotalDay
from api.views.tables import FORECAST_SCHEMA, HISTORY_SCHEMA

NOT_IN_FORECASTS = {
    "deadline",  # a setting of the chain
    "today",  # the caller's moment, which is no property of a row
    "asked_as_of",  # the caller knows what was asked for
    "description",  # any number of fields of the stores table
    "days",  # a row for each of them
    "items",
    "items_total",  # how many rows there are, and the link to the next page
    "next_page_token",
}
NOT_IN_HISTORIES = {"days", "summary", "unread_since", "deadline", "today"}


def test_forecasts():
    fields = set(Forecast.model_fields) | set(TotalDay.model_fields)
    columns = set(FORECAST_SCHEMA.names)
    assert fields - columns == NOT_IN_FORECASTS
    assert columns - fields == {"level", "item_id"}


def test_histories():
    fields = set(History.model_fields) | set(HistoryDay.model_fields)
    assert fields - set(HISTORY_SCHEMA.names) == NOT_IN_HISTORIES
    assert set(HISTORY_SCHEMA.names) <= fields
