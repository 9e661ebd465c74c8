"""Which stores a list shows, and in which order: for `GET /v1/stores` and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from api.routes.context import RequestContext
from api.store.directory import Sort
from api.store.snapshot import Snapshot
from api.views.forecasts import AnswerBasis
from ray_job.bucket.reasons import Outcome

StoreOrder = Literal[
    "store_id", "-store_id", "name", "-name", "region", "-region",
    "predicted_sales", "-predicted_sales", "data_through", "-data_through", "problems",
]  # fmt: skip
"""A minus sign means descending. `problems`: stores that need attention come first."""


@dataclass(frozen=True, slots=True)
class StoreSelection:
    """`search` has words that a store's id, name and region together hold. `stale` None: both."""

    search: str = ""
    outcome: Outcome | None = None
    stale: bool | None = None
    order: StoreOrder = "store_id"

    @property
    def list_name(self) -> str:
        """The name of the list, for its page tokens."""
        filters = (self.outcome or "", "" if self.stale is None else self.stale)
        name = f"stores/{filters[0]}/{filters[1]}"
        if self.search or self.order != "store_id":
            name += f"/{self.order}/{self.search}"
        return name

    async def rows(
        self, context: RequestContext, snapshot: Snapshot, basis: AnswerBasis
    ) -> Sequence[int]:
        """The rows of the release that the selection and the caller's grants leave, in order."""
        expected_as_of = basis.schedule.expected_as_of(basis.now)
        rows = _visible(
            context,
            snapshot,
            snapshot.rows_where(
                self.outcome, expected_as_of if self.stale is not None else None, self.stale is True
            ),
        )
        if not self.search and self.order == "store_id":
            return rows
        return await context.compute(lambda: self._searched(snapshot, basis, rows))

    def _searched(
        self, snapshot: Snapshot, basis: AnswerBasis, rows: Sequence[int]
    ) -> Sequence[int]:
        rows = snapshot.directory.matching(rows, self.search)
        if self.order == "problems":
            wanting = snapshot.rows_with_problems(basis.schedule.expected_as_of(basis.now))
            return [row for row in rows if row in wanting] + [
                row for row in rows if row not in wanting
            ]
        return snapshot.directory.sorted(
            rows,
            cast("Sort", self.order.removeprefix("-")),
            descending=self.order.startswith("-"),
            first_day=basis.schedule.today(basis.now),
        )


def _visible(context: RequestContext, snapshot: Snapshot, matching: Sequence[int]) -> Sequence[int]:
    if context.access.every_store:
        return matching
    if isinstance(matching, range):
        # All rows of the release.
        return snapshot.visible_rows(context.access)
    matching_rows = set(matching)
    return [row for row in snapshot.visible_rows(context.access) if row in matching_rows]
