"""Grants: who may see which stores. Denied by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from ray_job.bucket.records import Record

Role = Literal["manager", "operator"]


class Grant(Record):
    """Who is `subject` or has the verified e-mail `email` at `issuer` may see `stores`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    subject: str | None = Field(default=None, min_length=1)
    email: str | None = Field(default=None, min_length=3)
    stores: tuple[str, ...] | Literal["*"] = ()
    role: Role = "manager"

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if (self.subject is None) == (self.email is None):
            raise ValueError("a grant names either a subject or an email")
        return self


class GrantsFile(Record):
    """`access/grants.json`. An unknown key could be a limit that is meant: it is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody may see: all stores, or these."""

    every_store: bool = False
    stores: frozenset[str] = frozenset()
    operator: bool = False

    def may_see(self, store_id: str) -> bool:
        return self.every_store or store_id in self.stores


EVERYTHING = Access(every_store=True, operator=True)
NOTHING = Access()


@dataclass(frozen=True, slots=True)
class Grants:
    """Grants of several lines add up."""

    by_subject: Mapping[tuple[str, str], Access] = field(default_factory=dict)
    by_email: Mapping[tuple[str, str], Access] = field(default_factory=dict)

    def access(self, issuer: str, subject: str, verified_email: str | None) -> Access:
        found = self.by_subject.get((issuer, subject), NOTHING)
        if verified_email is None:
            return found
        return _both(found, self.by_email.get((issuer, verified_email.lower()), NOTHING))


DENY_ALL = Grants()


def compile_grants(file: GrantsFile) -> Grants:
    by_subject: dict[tuple[str, str], Access] = {}
    by_email: dict[tuple[str, str], Access] = {}
    for grant in file.grants:
        stores = grant.stores
        access = Access(
            every_store=stores == "*",
            stores=frozenset() if stores == "*" else frozenset(stores),
            operator=grant.role == "operator",
        )
        if grant.subject is not None:
            who = (grant.issuer, grant.subject)
            by_subject[who] = _both(by_subject.get(who, NOTHING), access)
        elif grant.email is not None:
            who = (grant.issuer, grant.email.lower())
            by_email[who] = _both(by_email.get(who, NOTHING), access)
    return Grants(by_subject, by_email)


def _both(one: Access, other: Access) -> Access:
    return Access(
        one.every_store or other.every_store,
        one.stores | other.stores,
        one.operator or other.operator,
    )
