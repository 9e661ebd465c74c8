"""The sentences and numbers of the page for managers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from api.store.snapshot import StoreForecast
from api.views.forecasts import AnswerBasis, freshness_fields, last_target_date, long_date


@dataclass(frozen=True, slots=True)
class StoreState:
    """Whether a store's numbers can be relied on.

    `tone` is `calm` or `warning`, `short` has a few words for a list, `text` is for the store's
    own page.
    """

    tone: str
    short: str
    text: str


def store_state(store: StoreForecast, basis: AnswerBasis, *, is_silent: bool = False) -> StoreState:
    """`is_silent`: the store has stopped sending sales."""
    if store.as_of is None:
        reason = store.reason or "nothing was ever delivered for this store"
        return StoreState("warning", "No forecast", f"No forecast: {reason}.")
    if not any(basis.includes(day) for day in store.days):
        return StoreState(
            "warning",
            "No forecast any more",
            "No forecast any more: the last one ended with"
            f" {long_date(last_target_date(store))}. {_cause(store)}",
        )
    data_through = long_date(store.data_through)
    if freshness_fields(store, basis)["stale"]:
        return StoreState(
            "warning",
            f"From {short_date(store.as_of)}",
            f"Not up to date: it was made from sales through {long_date(store.as_of)} or"
            f" earlier. {_cause(store)} The days are the right ones, forecast earlier than usual."
            + (f" No sales have arrived after {data_through}." if is_silent else ""),
        )
    if is_silent:
        days = (store.as_of - (store.data_through or store.as_of)).days
        return StoreState(
            "warning",
            f"No sales for {days} days",
            f"No sales have arrived for {days} days: the newest are of {data_through}. The"
            " forecast is tonight's and knows nothing later.",
        )
    if store.data_through is not None and store.data_through < store.as_of:
        return StoreState(
            "warning",
            "Sales are late",
            f"Up to date, but sales after {data_through} had not arrived.",
        )
    return StoreState("calm", "Up to date", "Up to date.")


def _cause(store: StoreForecast) -> str:
    """Why there is no newer forecast."""
    if store.outcome == "failed" and store.reason:
        return f"The last run failed for this store: {store.reason}."
    return "No newer forecast has been published."


def closed_because(store: StoreForecast) -> str | None:
    """Why weekdays are forecast as closed although nobody declared it. None if none are."""
    return store.reason if store.reason_code == "closed_weekday" else None


def made_at(store: StoreForecast, zone: ZoneInfo) -> str | None:
    """When the forecast was made. None without a forecast."""
    return local_time(store.generated_at, zone) if store.generated_at else None


def local_time(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%A %-d %B %Y, %H:%M}"


def store_label(store: StoreForecast) -> str:
    """The store's name, else its region, else an empty text: for a list of stores."""
    label = store.description.get("name") or store.description.get("region")
    return "" if label is None else str(label)


def store_description(store: StoreForecast) -> str:
    """All that was delivered about a store, as one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in store.description.items() if value
    )


def short_date(day: date) -> str:
    return f"{day:%A %-d %b}"


def percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{fraction * 100:.0f} %"


def number(value: float | None) -> str:
    """A number for people: without decimals from 100 on, else with one."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:,.1f}"  # noqa: PLR2004
