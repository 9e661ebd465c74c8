"""The answer of the history route: past days of a store and how accurate its forecasts were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from api.store.scores import ScoredDay
from api.views.forecasts import AnswerBasis, answer_fields


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Accuracy over the days whose sales are known.

    `wape` is Σ|error| / Σ actual, `bias` is Σ error / Σ actual. Days that were forecast as closed
    and were closed do not count. `naive_wape` is the wape of the naive rule: the sales of the same
    weekday one week earlier. `compared_days` are the days with a naive forecast; on `better_days`
    of them the forecast was nearer to the sales than the naive rule.
    """

    days: int
    mae: float | None
    wape: float | None
    bias: float | None
    coverage_80: float | None
    naive_wape: float | None
    compared_days: int
    better_days: int


def summarise(days: Sequence[ScoredDay]) -> ScoreSummary:
    known = [
        (day, day.predicted, day.actual)
        for day in days
        if day.predicted is not None
        and day.actual is not None
        and (day.predicted > 0 or day.actual > 0)
    ]
    total_actual = sum(actual for _, _, actual in known)
    total_error = sum(abs(predicted - actual) for _, predicted, actual in known)
    is_inside = [
        day.lower <= actual <= day.upper
        for day, _, actual in known
        if day.lower is not None and day.upper is not None
    ]
    compared = [
        (day.naive, predicted, actual) for day, predicted, actual in known if day.naive is not None
    ]
    compared_actual = sum(actual for _, _, actual in compared)
    naive_error = sum(abs(naive - actual) for naive, _, actual in compared)
    return ScoreSummary(
        days=len(known),
        mae=_ratio(total_error, len(known)),
        wape=_ratio(total_error, total_actual),
        bias=_ratio(sum(predicted - actual for _, predicted, actual in known), total_actual),
        coverage_80=_ratio(sum(is_inside), len(is_inside)),
        naive_wape=_ratio(naive_error, compared_actual),
        compared_days=len(compared),
        better_days=sum(
            abs(predicted - actual) < abs(naive - actual) for naive, predicted, actual in compared
        ),
    )


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def history_answer(store_id: str, basis: AnswerBasis, days: Sequence[ScoredDay]) -> dict[str, Any]:
    return {
        "store_id": store_id,
        **answer_fields(basis),
        "summary": asdict(summarise(days)),
        "days": [
            {
                "target_date": day.target_date,
                "weekday": f"{day.target_date:%A}",
                "as_of": day.as_of,
                "days_ahead": day.days_ahead,
                "predicted_sales": day.predicted,
                "lower_80": day.lower,
                "upper_80": day.upper,
                "actual_sales": day.actual,
                "naive_sales": day.naive,
                "error": day.error,
                "run_id": day.run_id,
            }
            for day in days
        ],
    }
