"""The schemas of all answers. The OpenAPI document is made from them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ray_job.bucket.reasons import Outcome, ReasonCode

Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _FreshnessFields(_Answer):
    """How old an answer's numbers are, and why."""

    release: str = Field(
        description="The release that the whole answer comes from.",
        examples=["2026-11-22-20261123T001502Z-5f3a"],
    )
    as_of: date | None = Field(
        description="The last date whose sales the forecast may use; null without a forecast.",
        examples=["2026-11-22"],
    )
    generated_at: datetime | None = Field(description="When the forecast was made.")
    data_through: date | None = Field(
        description="The last date whose sales had been delivered.", examples=["2026-11-22"]
    )
    data_age_days: int | None = Field(
        description="Days from data_through to as_of; 0: nothing was late.", examples=[0]
    )
    run_id: str | None = Field(description="The run that made the forecast.")
    model_version: str | None = Field(description="The model that made the forecast.")
    stale: bool = Field(
        description="Whether a newer forecast should be live by now (or was due that night).",
        examples=[False],
    )
    stale_reason: str | None = Field(description="Why it is stale, in a sentence.")
    carried_since: date | None = Field(
        description=(
            "The first as-of whose release had to carry the store's last good forecast, because no"
            " newer one succeeded; null when the forecast is of the release's own as-of."
        )
    )
    outcome: Outcome = Field(description="What the last run made of this store.", examples=["ok"])
    reason_code: ReasonCode | None = Field(
        description=(
            "Why it failed, or why some of its days are forecast as they are, for machines."
        )
    )
    reason: str | None = Field(description="The reason of `reason_code`, in a sentence.")
    asked_as_of: date | None = Field(description="The as_of of the question.")
    unread_since: datetime | None = Field(
        description=(
            "Set while the bucket cannot be read: since then a newer release may exist unseen."
        )
    )


class ItemDay(_Answer):
    """One target date, in the unit of the delivered sales."""

    target_date: date = Field(description="The day that is forecast.", examples=["2026-11-23"])
    weekday: Weekday = Field(description="Its weekday, in English.", examples=["Monday"])
    days_ahead: int = Field(description="target_date less as_of, in days.", examples=[1])
    predicted_sales: float | None = Field(
        description="Expected sales, in the unit of the delivered sales.", examples=[5263.4]
    )
    lower_80: float | None = Field(
        description="Lower bound of the interval that holds 80 % of outcomes.", examples=[4711.9]
    )
    upper_80: float | None = Field(
        description="Upper bound of the interval that holds 80 % of outcomes.", examples=[5873.2]
    )
    method: str | None = Field(
        description=(
            "model, closed (0), ended (0: the item is no longer sold) or fallback (a simple rule);"
            " of totals, mixed may be said."
        ),
        examples=["model"],
    )


class TotalDay(ItemDay):
    """One target date of a whole store. Interval bounds are calibrated for the total."""

    missing: list[str] = Field(
        description="What is usually known ahead and nobody delivered for this day.",
        examples=[["promo"]],
    )


class ItemForecast(_Answer):
    item_id: str = Field(description="The item's id, as it was delivered.")
    days: list[ItemDay]


class StoreSummary(_FreshnessFields):
    """A store's totals by day."""

    store_id: str = Field(description="The store's id, as it was delivered.", examples=["17"])
    description: dict[str, Any] = Field(description="What the stores table tells of the store.")
    days: list[TotalDay] = Field(description="Totals of the store, by target date, oldest first.")
    items_total: int = Field(description="How many series the store has.")


class Forecast(StoreSummary):
    """A store's forecast: totals by day, and a page of its items."""

    items_total: int = Field(description="How many items the store has; 0: it has no items.")
    items: list[ItemForecast] = Field(description="A page of the store's items, by item id.")
    next_page_token: str | None = Field(description="For the next page of items; null: no more.")


class Problem(BaseModel):
    """RFC 9457. Further members depend on the type."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Tells kinds of problems apart.", examples=["/problems/no-data"])
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None


class StoreList(_Answer):
    """A page of stores."""

    release: str = Field(description="The release that every page of the list comes from.")
    as_of: date = Field(description="The as-of of that release.")
    unread_since: datetime | None = Field(description="Set while the bucket cannot be read.")
    stores_total: int = Field(description="How many stores all pages hold.")
    stores: list[StoreSummary] = Field(description="The stores of the page, by store id.")
    next_page_token: str | None = Field(description="For the next page; null: no more.")


class Batch(_Answer):
    """Several stores, of one release."""

    release: str = Field(description="The release that all forecasts come from.")
    as_of: date = Field(description="The as-of of that release.")
    unread_since: datetime | None = Field(description="Set while the bucket cannot be read.")
    forecasts: list[StoreSummary] = Field(description="In the order of the question.")
    problems: list[Problem] = Field(
        description="One for each store without a forecast to show; `store_id` says which."
    )


class HistoryDay(_Answer):
    """A past day: the last forecast that was made before it ended, and what was sold."""

    target_date: date
    weekday: Weekday
    as_of: date = Field(description="The as-of of that forecast.")
    days_ahead: int
    predicted_sales: float | None = Field(description="In the unit of the delivered sales.")
    lower_80: float | None
    upper_80: float | None
    actual_sales: float | None = Field(description="What was sold; null: not delivered yet.")
    naive_sales: float | None = Field(
        description="The naive rule: what was sold on that weekday a week earlier."
    )
    error: float | None = Field(description="predicted_sales less actual_sales.")
    run_id: str | None


class HistorySummary(_Answer):
    """Over the days whose sales are known; null where there are none.

    Days that were forecast as closed, and were, don't count.
    """

    days: int
    mae: float | None = Field(description="Mean absolute error, in the unit of the sales.")
    wape: float | None = Field(description="Sum of absolute errors over sum of sales.")
    bias: float | None = Field(description="Sum of errors over sum of sales; above 0: too high.")
    coverage_80: float | None = Field(description="Share of days within the 80 % interval.")
    naive_wape: float | None = Field(description="The naive rule's, on the same days.")
    compared_days: int = Field(description="Days for which the naive rule has a number, too.")
    better_days: int = Field(
        description="Those of the compared days on which the forecast was nearer to the sales."
    )


class History(_Answer):
    """How good a store's forecasts have been."""

    store_id: str
    release: str = Field(description="The release that is served.")
    unread_since: datetime | None = Field(description="Set while the bucket cannot be read.")
    summary: HistorySummary
    days: list[HistoryDay] = Field(description="Past days, oldest first.")


class ReleaseEntry(_Answer):
    """One publication."""

    release: str
    sha256: str
    as_of: date
    run_id: str
    published_at: datetime
    is_current: bool
    is_bad: bool = Field(description="It was given up by a rollback.")


class ReleaseList(_Answer):
    current: str | None
    hold_through: date | None = Field(
        description="No scheduled run publishes an as-of up to this one."
    )
    releases: list[ReleaseEntry] = Field(description="Newest first.")
    next_page_token: str | None
