"""The schemas of the answers about past days."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, Field

from api.views.schemas import AnswerFields, Weekday


class HistoryDay(BaseModel):
    """A past day: the last forecast that was made before it ended, and what was sold."""

    target_date: date = Field(description="The day.", examples=["2026-11-22"])
    weekday: Weekday = Field(description="Its weekday, in English.", examples=["Sunday"])
    as_of: date = Field(description="The as-of of that forecast.", examples=["2026-11-21"])
    days_ahead: int = Field(description="target_date less as_of, in days.", examples=[1])
    predicted_sales: float | None = Field(
        description="In the unit of the delivered sales.", examples=[4758.4]
    )
    lower_80: float | None = Field(
        description="Lower bound of the interval that holds 80 % of outcomes.", examples=[4211.9]
    )
    upper_80: float | None = Field(
        description="Upper bound of the interval that holds 80 % of outcomes.", examples=[5373.2]
    )
    actual_sales: float | None = Field(
        description="What was sold; null: not delivered yet.", examples=[4647.5]
    )
    naive_sales: float | None = Field(
        description="The naive rule: what was sold on that weekday a week earlier.",
        examples=[4464.9],
    )
    error: float | None = Field(
        description="predicted_sales less actual_sales; null while that is not known.",
        examples=[110.9],
    )
    run_id: str | None = Field(
        description="The run that made the forecast.", examples=["20261121-20261122T001502Z-5f3a"]
    )


class HistorySummary(BaseModel):
    """Over the days whose sales are known; null where there are none.

    Days that were forecast as closed, and were, don't count.
    """

    days: int = Field(description="The days whose sales are known.", examples=[24])
    mae: float | None = Field(
        description="Mean absolute error, in the unit of the sales.", examples=[212.4]
    )
    wape: float | None = Field(
        description="Sum of absolute errors over sum of sales.", examples=[0.045]
    )
    bias: float | None = Field(
        description="Sum of errors over sum of sales; above 0: too high.", examples=[0.01]
    )
    coverage_80: float | None = Field(
        description="Share of days within the 80 % interval.", examples=[0.79]
    )
    naive_wape: float | None = Field(
        description="The naive rule's wape, on the compared days.", examples=[0.112]
    )
    compared_days: int = Field(
        description="Days for which the naive rule has a number, too.", examples=[24]
    )
    better_days: int = Field(
        description="Those of the compared days on which the forecast was nearer to the sales.",
        examples=[18],
    )


class History(AnswerFields):
    """How good a store's forecasts have been."""

    store_id: str = Field(description="The store's id, as it was delivered.", examples=["17"])
    summary: HistorySummary
    days: list[HistoryDay] = Field(description="Past days, oldest first.")
