"""The schemas of problem documents (RFC 9457), one for each type.

The docstring of a schema is what `/problems/<slug>` says about the type.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field

from ray_job.bucket.reasons import Outcome, ReasonCode


class Problem(BaseModel):
    """A problem document. Decide by `type`; `detail` is for people and may change."""

    type: str
    title: str = Field(description="The same for every problem of the type.")
    status: int = Field(description="The HTTP status.")
    detail: str | None = Field(
        default=None, description="What happened, in a sentence. Absent if there is no more to say."
    )
    instance: str | None = Field(default=None, description="The path of the request.")


class _ProblemOfStore(Problem):
    store_id: str = Field(description="The store's id.", examples=["17"])
    release: str = Field(
        description="The release that was read.", examples=["20261122-20261123T001502Z-5f3a-0"]
    )
    outcome: Outcome = Field(
        description="What the last run made of the store.", examples=["failed"]
    )
    as_of: date | None = Field(
        default=None,
        description="The as-of of the store's last forecast; absent if it has none.",
        examples=["2026-11-13"],
    )
    data_through: date | None = Field(
        default=None,
        description="The last date whose sales had been delivered.",
        examples=["2026-11-13"],
    )
    reason_code: ReasonCode | None = Field(
        default=None, description="Why the last run failed, for machines.", examples=["corrupt"]
    )
    reason: str | None = Field(
        default=None, description="The same, in a sentence.", examples=["row 7 has no date"]
    )


class SignInProblem(Problem):
    """The request has no token, or one that is not accepted or has expired.

    Get a new token from the issuer and send the request again.
    """

    type: Literal["/problems/sign-in"]
    status: Literal[401]


class ForbiddenProblem(Problem):
    """The caller is signed in, and has no grant for this store or this kind of answer.

    Whether the store exists is not said. An operator of the service can add a grant.
    """

    type: Literal["/problems/forbidden"]
    status: Literal[403]
    store_id: str | None = Field(
        default=None, description="The store that was asked for, if any.", examples=["17"]
    )


class UnknownStoreProblem(Problem):
    """The release has no store of that id. `GET /v1/stores` lists all ids."""

    type: Literal["/problems/unknown-store"]
    status: Literal[404]
    store_id: str = Field(description="The id that was asked for.", examples=["999"])


class UnknownItemProblem(Problem):
    """The store's forecast has no item of that id. Without `item_id` the forecast lists all."""

    type: Literal["/problems/unknown-item"]
    status: Literal[404]
    store_id: str = Field(description="The store's id.", examples=["17"])
    item_id: str = Field(description="The id that was asked for.", examples=["cake"])


class UnknownRunProblem(Problem):
    """There is no receipt of that run, or it was removed. `GET /v1/releases` names runs."""

    type: Literal["/problems/unknown-run"]
    status: Literal[404]
    run_id: str = Field(
        description="The run that was asked for.", examples=["20261122-20261123T001502Z-5f3a"]
    )


class UnknownAsOfProblem(Problem):
    """Nothing was published for that as-of, or it is older than what is kept."""

    type: Literal["/problems/unknown-as-of"]
    status: Literal[404]
    first_as_of: date | None = Field(
        default=None, description="The oldest as-of that is kept.", examples=["2026-10-01"]
    )
    last_as_of: date | None = Field(
        default=None, description="The newest as-of.", examples=["2026-11-22"]
    )


class UnknownTargetDateProblem(Problem):
    """The forecast does not hold that day. `target_dates` are the days that it holds."""

    type: Literal["/problems/unknown-target-date"]
    status: Literal[404]
    store_id: str = Field(description="The store's id.", examples=["17"])
    target_dates: list[date] = Field(
        description="The days that the forecast holds.", examples=[["2026-11-23", "2026-11-24"]]
    )


class NoDataProblem(_ProblemOfStore):
    """No sales were ever delivered for this store, so there is nothing to forecast from."""

    type: Literal["/problems/no-data"]
    status: Literal[404]


class NoForecastProblem(_ProblemOfStore):
    """Sales were delivered, but no run has made a forecast of this store. `reason` says why."""

    type: Literal["/problems/no-forecast"]
    status: Literal[404]


class ForecastExpiredProblem(_ProblemOfStore):
    """The store's last forecast has no day left, and no newer one was made.

    With `as_of` the days that are over can still be read.
    """

    type: Literal["/problems/forecast-expired"]
    status: Literal[404]
    last_target_date: date = Field(
        description="The last day of that forecast.", examples=["2026-11-20"]
    )
    expired_since: date = Field(
        description="The first day without a forecast.", examples=["2026-11-21"]
    )


class NotAcceptableProblem(Problem):
    """The Accept header excludes every format that is offered here."""

    type: Literal["/problems/not-acceptable"]
    status: Literal[406]
    offered: list[str] = Field(
        description="The media types that are offered.",
        examples=[["application/json", "text/csv", "application/vnd.apache.parquet"]],
    )


class TooOldProblem(_ProblemOfStore):
    """The forecast knows less than `max_age_days` asks for.

    Without the parameter the answer is the forecast, with its age.
    """

    type: Literal["/problems/too-old"]
    status: Literal[409]
    age_days: int = Field(
        description="Days from data through to the as-of that should be live.", examples=[4]
    )
    max_age_days: int = Field(description="What the request allows.", examples=[2])


class ReleaseGoneProblem(Problem):
    """The list that a page token belongs to comes from a release that does not exist any more.

    Begin again with the first page.
    """

    type: Literal["/problems/release-gone"]
    status: Literal[410]


class BodyTooLargeProblem(Problem):
    """The request has a body that is larger than any request needs. Send none."""

    type: Literal["/problems/body-too-large"]
    status: Literal[413]


class UrlTooLongProblem(Problem):
    """The URL is longer than any request needs."""

    type: Literal["/problems/url-too-long"]
    status: Literal[414]


class InvalidParameter(BaseModel):
    """A parameter, and what is wrong with it."""

    parameter: str = Field(description="The parameter's name.", examples=["as_of"])
    message: str = Field(
        description="What is wrong, for people.",
        examples=["Input should be a valid date in the format YYYY-MM-DD"],
    )


class InvalidProblem(Problem):
    """A parameter has a value that is not allowed, is missing or is not known."""

    type: Literal["/problems/invalid"]
    status: Literal[422]
    errors: list[InvalidParameter] | None = Field(
        default=None, description="Each parameter that is wrong. Absent if `detail` says all."
    )


class TooManyRequestsProblem(Problem):
    """This caller has sent more requests than allowed. Wait as long as `Retry-After` says."""

    type: Literal["/problems/too-many-requests"]
    status: Literal[429]


class HeadersTooLargeProblem(Problem):
    """The request's headers are larger than any request needs."""

    type: Literal["/problems/headers-too-large"]
    status: Literal[431]


class UnexpectedProblem(Problem):
    """The service has a fault. Its log has the reason. The same request may fail again."""

    type: Literal["/problems/unexpected"]
    status: Literal[500]


class NoReleaseProblem(Problem):
    """Nothing was published yet, or nothing that was published can be verified."""

    type: Literal["/problems/no-release"]
    status: Literal[503]


class SignInUnavailableProblem(Problem):
    """The keys of the issuer cannot be fetched, so no new token can be verified. Try again."""

    type: Literal["/problems/sign-in-unavailable"]
    status: Literal[503]


class TooSlowProblem(Problem):
    """The answer was not ready in time. Try again, or ask for less."""

    type: Literal["/problems/too-slow"]
    status: Literal[503]


class StorageProblem(Problem):
    """What is asked for is not in memory, and the storage does not answer. Try again."""

    type: Literal["/problems/storage"]
    status: Literal[503]


class CorruptProblem(Problem):
    """What is stored does not have the checksum that it should have, so it is not served."""

    type: Literal["/problems/corrupt"]
    status: Literal[503]


class BusyProblem(Problem):
    """The service has as many connections as it takes. Try again."""

    type: Literal["/problems/busy"]
    status: Literal[503]


class NotFoundProblem(Problem):
    """There is nothing at this address."""

    type: Literal["/problems/not-found"]
    status: Literal[404]


class MethodNotAllowedProblem(Problem):
    """Everything is read: the methods are GET and HEAD."""

    type: Literal["/problems/method-not-allowed"]
    status: Literal[405]


StoreProblem = Annotated[
    ForbiddenProblem
    | UnknownStoreProblem
    | NoDataProblem
    | NoForecastProblem
    | ForecastExpiredProblem
    | TooOldProblem,
    Field(discriminator="type"),
]
"""Why a store of a batch has no forecast to show."""


def slug_of(schema: type[Problem]) -> str:
    """The last segment of the type."""
    (problem_type,) = get_args(schema.model_fields["type"].annotation)
    return str(problem_type).removeprefix("/problems/")


def _leaves(schema: type[Problem]) -> list[type[Problem]]:
    below = [leaf for child in schema.__subclasses__() for leaf in _leaves(child)]
    return below or [schema]


SCHEMAS: dict[str, type[Problem]] = {slug_of(schema): schema for schema in _leaves(Problem)}
"""The schema of each type, by slug."""
