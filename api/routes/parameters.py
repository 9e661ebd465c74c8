"""Parameters that several routes share."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import Path, Query
from pydantic import StringConstraints

from ray_job.bucket.keys import STORE_ID_PATTERN

_WHOLE_STORE_ID = f"^{STORE_ID_PATTERN}$"

StoreId = Annotated[
    str,
    Path(
        pattern=_WHOLE_STORE_ID,
        description="The store's id, as it was delivered.",
        examples=["17"],
    ),
]
ListedStoreId = Annotated[str, StringConstraints(pattern=_WHOLE_STORE_ID)]
AsOf = Annotated[
    date | None,
    Query(description="What was said on that night, past days included.", examples=["2026-11-22"]),
]
MaxAge = Annotated[
    int | None,
    Query(
        ge=0,
        le=10_000,
        description=(
            "409 instead of an answer that knows less: days between data through and the as-of"
            " that should be live by now."
        ),
    ),
]
PageSize = Annotated[int, Query(ge=1, le=1000, description="Entries on a page.")]
PageTokenText = Annotated[
    str | None,
    Query(
        max_length=512,
        description="`next_page_token` of the page before: the same release goes on.",
    ),
]
