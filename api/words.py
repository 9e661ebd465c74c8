"""What people are told of a forecast, in plain words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from api import answers
from api.answers import View
from api.snapshot import StoreForecast


@dataclass(frozen=True, slots=True)
class Tone:
    """How a state is said: `name` is `calm` or `warning`, `short` a word or three."""

    name: str
    short: str
    text: str


def state(store: StoreForecast, view: View, *, is_silent: bool = False) -> Tone:
    """Whether the numbers can be relied on, in plain words. `is_silent`: its sales have stopped."""
    if store.as_of is None:
        said = store.reason or "nothing was ever delivered for this store"
        return Tone("warning", "No forecast", f"No forecast: {said}.")
    if not any(view.shows(day) for day in store.days):
        return Tone(
            "warning",
            "No forecast any more",
            f"No forecast any more: the last one ended with {answers.spoken(_last(store))}."
            f" {_why(store)}",
        )
    judged = answers.freshness(store, view)
    if judged["stale"]:
        return Tone(
            "warning",
            f"From {short(store.as_of)}",
            f"Not up to date: it was made from sales through {answers.spoken(store.as_of)} or"
            f" earlier. {_why(store)} The days are the right ones, forecast earlier than usual."
            + (f" No sales have arrived after {_through(store)}." if is_silent else ""),
        )
    if is_silent:
        days = (store.as_of - (store.data_through or store.as_of)).days
        return Tone(
            "warning",
            f"No sales for {days} days",
            f"No sales have arrived for {days} days: the newest are of {_through(store)}. The"
            " forecast is tonight's and knows nothing later.",
        )
    if store.data_through is not None and store.data_through < store.as_of:
        return Tone(
            "warning",
            "Sales are late",
            f"Up to date, but sales after {_through(store)} had not arrived.",
        )
    return Tone("calm", "Up to date", "Up to date.")


def _why(store: StoreForecast) -> str:
    if store.outcome == "failed" and store.reason:
        return f"The last run failed for this store: {store.reason}."
    return "No newer forecast has been published."


def _through(store: StoreForecast) -> str:
    return answers.spoken(store.data_through)


def _last(store: StoreForecast) -> date | None:
    return store.last_target_date or max((day.target_date for day in store.days), default=None)


def made(store: StoreForecast, zone: ZoneInfo) -> str | None:
    return moment(store.generated_at, zone) if store.generated_at else None


def moment(value: datetime, zone: ZoneInfo) -> str:
    return f"{value.astimezone(zone):%A %-d %B %Y, %H:%M}"


def named(store: StoreForecast) -> str:
    """What a store goes by in a list: its name, else its region; all else is on its own page."""
    name = store.description.get("name") or store.description.get("region")
    return "" if name is None else str(name)


def described(store: StoreForecast) -> str:
    """All that was delivered about a store."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in store.description.items() if value
    )


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.0f} %"


def short(day: date) -> str:
    return f"{day:%A %-d %b}"
