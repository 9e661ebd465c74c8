"""A question: who asks, when, and of what is served at that moment. Every /v1 route takes one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from api.grants import Access
from api.problems import ForbiddenError, UnknownStoreError
from api.served import Served
from api.service import Service
from api.sign_in import Caller
from api.snapshot import Snapshot, StoreForecast


@dataclass(frozen=True, slots=True)
class Question:
    """`served` is read once: an answer never looks at another release half-way."""

    request: Request
    service: Service
    served: Served
    now: datetime
    caller: Caller
    access: Access

    def store(self, snapshot: Snapshot, store_id: str) -> StoreForecast:
        """Raises ForbiddenError, the same for every store that the caller may not see."""
        self.require_store(store_id)
        found = snapshot.store(store_id)
        if found is None:
            raise UnknownStoreError(
                f"there is no store {store_id} in release {snapshot.name}", store_id=store_id
            )
        return found

    def require_store(self, store_id: str) -> None:
        if not self.access.may_see(store_id):
            raise ForbiddenError(f"store {store_id} is not among those that you may see")

    def require_operator(self) -> None:
        if not self.access.operator:
            raise ForbiddenError("this is for operators")


async def ask(request: Request) -> Question:
    service: Service = request.app.state.service
    now = service.clock()
    caller = await service.sign_in.caller(request.scope["headers"], now)
    service.limits.take(caller.name, now)
    served = service.served
    return Question(request, service, served, now, caller, caller.access(served.grants))


Ask = Annotated[Question, Depends(ask)]
