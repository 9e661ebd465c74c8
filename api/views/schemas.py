"""The schemas of answers with forecasts. The OpenAPI document is made from them.

Answers are open: a later version may add fields, and values of enumerations.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.views.problem_schemas import StoreProblem
from ray_job.bucket.reasons import Method, Outcome, ReasonCode

Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


class StoreDescription(BaseModel):
    """What the stores table tells of a store. Further columns are further members.

    A column that the table lacks is absent here.
    """

    model_config = ConfigDict(extra="allow")

    name: str | None = Field(
        default=None, description="The store's name.", examples=["Market square"]
    )
    region: str | None = Field(
        default=None,
        description="The region, which also chooses weather and holidays.",
        examples=["SL"],
    )


class AnswerFields(BaseModel):
    """What every number of an answer is based on."""

    release: str = Field(
        description="The release that the whole answer comes from.",
        examples=["20261122-20261123T001502Z-5f3a-0"],
    )
    published_at: datetime = Field(
        description="When that release was published.", examples=["2026-11-23T00:15:40Z"]
    )
    today: date = Field(
        description="Today's date where the stores are, by the clock of the service.",
        examples=["2026-11-23"],
    )
    time_zone: str = Field(
        description="The stores' time zone, a name of the tz database. Dates are days there.",
        examples=["Europe/Berlin"],
    )
    deadline: str = Field(
        description="By this local time, HH:MM, the forecast of a night should be live.",
        examples=["06:00"],
    )
    unit: str | None = Field(
        description="What a number of sales counts; null: the settings name no unit.",
        examples=["pieces"],
    )
    currency: str | None = Field(
        description=(
            "The currency of the sales (ISO 4217) if they are money; null: the settings name none."
        ),
        examples=["EUR"],
    )
    unread_since: datetime | None = Field(
        description=(
            "Set while the bucket cannot be read: since then a newer release may exist unseen."
        ),
        examples=[None],
    )


class FreshnessFields(BaseModel):
    """How old a store's numbers are, and why."""

    release: str = Field(
        description="The release that the numbers come from.",
        examples=["20261122-20261123T001502Z-5f3a-0"],
    )
    as_of: date | None = Field(
        description="The last date whose sales the forecast may use; null without a forecast.",
        examples=["2026-11-22"],
    )
    generated_at: datetime | None = Field(
        description="When the forecast was made; null without a forecast.",
        examples=["2026-11-23T00:15:02Z"],
    )
    data_through: date | None = Field(
        description="The last date whose sales had been delivered; null: none ever were.",
        examples=["2026-11-22"],
    )
    data_age_days: int | None = Field(
        description="Days from data_through to as_of; 0: nothing was late.", examples=[0]
    )
    run_id: str | None = Field(
        description="The run that made the forecast.", examples=["20261122-20261123T001502Z-5f3a"]
    )
    model_version: str | None = Field(
        description="The model that made the forecast.", examples=["20261115-20261116T120000Z"]
    )
    stale: bool = Field(
        description="Whether a newer forecast should be live by now (or was due that night).",
        examples=[False],
    )
    stale_reason: str | None = Field(
        description="Why it is stale, in a sentence; null if it is not.", examples=[None]
    )
    carried_since: date | None = Field(
        description=(
            "The first as-of whose release had to carry the store's last good forecast, because no"
            " newer one succeeded; null when the forecast is of the release's own as-of."
        ),
        examples=[None],
    )
    outcome: Outcome = Field(description="What the last run made of this store.", examples=["ok"])
    reason_code: ReasonCode | None = Field(
        description=(
            "Why it failed, or why some of its days are forecast as they are, for machines."
        ),
        examples=[None],
    )
    reason: str | None = Field(
        description="The reason of `reason_code`, in a sentence.", examples=[None]
    )
    asked_as_of: date | None = Field(description="The as_of of the request.", examples=[None])
    unread_since: datetime | None = Field(
        description=(
            "Set while the bucket cannot be read: since then a newer release may exist unseen."
        ),
        examples=[None],
    )


class ItemDay(BaseModel):
    """A target date of a series, in the unit of the delivered sales."""

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
    method: Method | None = Field(
        description="How the number was made. Of totals, the first method that a series has.",
        examples=["model"],
    )
    last_week_sales: float | None = Field(
        description="What was sold on the newest same weekday; null: not known.", examples=[5011.0]
    )


class TotalDay(ItemDay):
    """A target date of a whole store. Interval bounds are calibrated for the total."""

    missing: list[str] = Field(
        description="What is usually known ahead and nobody delivered for this day.",
        examples=[["promo"]],
    )
    last_year_sales: float | None = Field(
        description="What was sold 52 weeks before the day; null: not known.", examples=[4890.5]
    )
    special: list[str] = Field(
        description=(
            "What is special about the day, as codes; it is not said to be the cause of anything."
            " `holiday`; a known-ahead column that is 1 and usually is not, as `promo`, with the"
            " number of items if not all have it, as `promo=12`; `weather_high:COLUMN=DIFFERENCE`"
            " and `weather_low:…` for weather far from usual."
        ),
        examples=[["promo", "weather_high:temperature=8.3"]],
    )


class ItemForecast(BaseModel):
    """The days of an item."""

    item_id: str = Field(description="The item's id, as it was delivered.", examples=["bread"])
    days: list[ItemDay] = Field(description="By target date, oldest first.")


class StoreSummary(FreshnessFields):
    """A store's totals by day."""

    store_id: str = Field(description="The store's id, as it was delivered.", examples=["17"])
    description: StoreDescription = Field(description="What the stores table tells of the store.")
    days: list[TotalDay] = Field(description="Totals of the store, by target date, oldest first.")
    items_total: int = Field(description="How many series the store has.", examples=[1])


class Forecast(AnswerFields, StoreSummary):
    """A store's forecast: totals by day, and a page of its items."""

    items_total: int = Field(
        description="How many items the store has; 0: it has no items.", examples=[1]
    )
    items: list[ItemForecast] = Field(description="A page of the store's items, by item id.")
    next_page_token: str | None = Field(
        description="For the next page of items; null: no more.", examples=[None]
    )


class StoreList(AnswerFields):
    """A page of stores."""

    as_of: date = Field(description="The as-of of that release.", examples=["2026-11-22"])
    stores_total: int = Field(description="How many stores all pages hold.", examples=[40])
    stores: list[StoreSummary] = Field(description="The stores of the page, in the order asked.")
    next_page_token: str | None = Field(
        description="For the next page; null: no more.", examples=[None]
    )


class Batch(AnswerFields):
    """Several stores, of one release."""

    as_of: date = Field(description="The as-of of that release.", examples=["2026-11-22"])
    forecasts: list[StoreSummary] = Field(description="In the order of the request.")
    problems: list[StoreProblem] = Field(
        description="One for each store without a forecast to show; `store_id` says which."
    )


class PartialForecast(BaseModel):
    """The selected fields of a Forecast. `store_id`, `release` and `stale` are always there."""

    model_config = ConfigDict(extra="allow")

    store_id: str
    release: str
    stale: bool
    next_page_token: str | None = Field(description="For the next page of items; null: no more.")


class PartialStore(BaseModel):
    """The selected fields of a StoreSummary. `store_id` and `stale` are always there."""

    model_config = ConfigDict(extra="allow")

    store_id: str
    stale: bool


class PartialStoreList(AnswerFields):
    """A page of stores with the selected fields of each."""

    as_of: date
    stores_total: int
    stores: list[PartialStore]
    next_page_token: str | None


def fields_of(model: type[BaseModel]) -> Any:
    """The names of a model's fields as a type for a parameter that selects among them."""
    return Literal[tuple(model.model_fields)]
