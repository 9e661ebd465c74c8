"""The schemas of the answers about the caller and about what was published."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field


class Me(BaseModel):
    """Who the caller is, and what he may see."""

    sign_in: bool = Field(
        description="Whether the service asks for tokens. Without it everybody may see everything.",
        examples=[True],
    )
    issuer: str | None = Field(
        description="The issuer of the token.", examples=["https://accounts.google.com"]
    )
    subject: str | None = Field(description="The subject of the token.", examples=["1083"])
    email: str | None = Field(
        description="The e-mail address, if the issuer has verified it.",
        examples=["manager@example.com"],
    )
    expires_at: datetime | None = Field(
        description="Until when the token is accepted.", examples=["2026-11-23T12:00:00Z"]
    )
    role: Literal["manager", "operator"] = Field(
        description="Operators may also see runs and releases.", examples=["manager"]
    )
    every_store: bool = Field(
        description="Whether the caller may see all stores.", examples=[False]
    )
    stores: list[str] | None = Field(
        description="The stores that the caller was granted; null: every store.",
        examples=[["17", "42"]],
    )
    stores_total: int = Field(
        description="How many stores of the current release the caller may see.", examples=[2]
    )


class ReleaseEntry(BaseModel):
    """A publication."""

    release: str = Field(
        description="The release's name.", examples=["20261122-20261123T001502Z-5f3a-0"]
    )
    sha256: str = Field(
        description="The digest of its object.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    as_of: date = Field(
        description="The last date whose sales it may use.", examples=["2026-11-22"]
    )
    run_id: str = Field(
        description="The run that made it.", examples=["20261122-20261123T001502Z-5f3a"]
    )
    published_at: datetime = Field(
        description="When it was published.", examples=["2026-11-23T00:15:40Z"]
    )
    is_current: bool = Field(description="Whether it is what callers get.", examples=[True])
    is_bad: bool = Field(description="Whether a rollback gave it up.", examples=[False])


class ReleaseList(BaseModel):
    """A page of publications."""

    current: str | None = Field(
        description="The release that the pointer names; null before the first publication.",
        examples=["20261122-20261123T001502Z-5f3a-0"],
    )
    hold_through: date | None = Field(
        description="No scheduled run publishes an as-of up to this one; null: no hold.",
        examples=[None],
    )
    today: date = Field(description="Today's date where the stores are.", examples=["2026-11-23"])
    time_zone: str = Field(description="The stores' time zone.", examples=["Europe/Berlin"])
    deadline: str = Field(
        description="By this local time, HH:MM, the forecast of a night should be live.",
        examples=["06:00"],
    )
    releases: list[ReleaseEntry] = Field(description="Newest first.")
    next_page_token: str | None = Field(
        description="For the next page; null: no more.", examples=[None]
    )
