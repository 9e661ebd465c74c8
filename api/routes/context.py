"""What a route knows of a request: the caller, the moment, and the state that is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from api.auth.grants import Access
from api.auth.rate_limits import IS_COUNTED
from api.auth.sign_in import SIGN_IN_OUTCOME, Caller
from api.problems import ForbiddenError, ProblemError, UnknownStoreError
from api.routes.page_tokens import PageToken, parameters_of
from api.routes.parameters import check_query
from api.service import Service
from api.store.snapshot import Snapshot, StoreForecast
from api.store.state import ServedState
from api.views.forecasts import AnswerBasis

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """`state` is read once, so that the whole answer comes from one state."""

    request: Request
    service: Service
    state: ServedState
    now: datetime
    caller: Caller
    access: Access

    @property
    def accept(self) -> str:
        return self.request.headers.get("accept", "")

    async def compute(self, function: Callable[[], Result]) -> Result:
        """The result of a function that takes longer than some milliseconds, from a thread.

        Raises what it raises, and TooManyRequestsError if too much of the caller's work waits, or
        was done already when its turn comes.
        """
        service, name = self.service, self.caller.name
        return await service.workers.run(
            name, function, lambda: service.rate_limiter.check_debt(name, service.clock())
        )

    def basis(self, snapshot: Snapshot, asked_as_of: date | None = None) -> AnswerBasis:
        return AnswerBasis.of(self.state, snapshot, self.now, asked_as_of)

    def page_token(self, list_name: str, release: str, position: int) -> str:
        """The token of the next page of a list, with the parameters of this request."""
        parameters = parameters_of(self.request.query_params.multi_items())
        return PageToken(list_name, release, position, parameters).encode()

    def store(self, snapshot: Snapshot, store_id: str) -> StoreForecast:
        """Raises ForbiddenError, or UnknownStoreError if the caller may see every store."""
        self.check_store(store_id)
        store = snapshot.store(store_id)
        if store is None:
            raise UnknownStoreError(
                f"there is no store {store_id} in release {snapshot.name}", store_id=store_id
            )
        return store

    def check_store(self, store_id: str) -> None:
        """Raise ForbiddenError for a store that the caller may not see, known or not."""
        if not self.access.may_see(store_id):
            raise ForbiddenError(
                f"store {store_id} is not among those that you may see", store_id=store_id
            )

    def check_operator(self) -> None:
        """Raise ForbiddenError unless the caller is an operator."""
        if not self.access.operator:
            raise ForbiddenError("this is for operators")


async def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def request_context(request: Request) -> RequestContext:
    """Sign the caller in and count the request.

    Raises SignInError, SignInUnavailableError, TooManyRequestsError, or InvalidError for parameters
    that the route does not have.
    """
    service = await service_of(request)
    now = service.clock()
    caller = request.scope.get(SIGN_IN_OUTCOME)
    if isinstance(caller, ProblemError):
        raise caller
    if not isinstance(caller, Caller):
        caller = await service.sign_in.caller(request.scope["headers"], now)
    if IS_COUNTED not in request.scope:
        service.rate_limiter.take(caller.name, now)
    check_query(request)
    state = service.state
    return RequestContext(request, service, state, now, caller, caller.access(state.grants))


TheService = Annotated[Service, Depends(service_of)]
Context = Annotated[RequestContext, Depends(request_context)]
