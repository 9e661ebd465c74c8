"""Grants: who may see which stores. Without a grant a caller may see none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from ray_job.bucket.records import Record

Role = Literal["manager", "operator"]


class Grant(Record):
    """What one caller may see, named by the `issuer` of his token.

    The caller is either the `subject` or whoever has the verified e-mail address `email`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    subject: str | None = Field(default=None, min_length=1)
    email: str | None = Field(default=None, min_length=3)
    stores: tuple[str, ...] | Literal["*"] = ()
    role: Role = "manager"

    @model_validator(mode="after")
    def _check_caller(self) -> Self:
        if (self.subject is None) == (self.email is None):
            raise ValueError("a grant names either a subject or an email")
        return self


class GrantsFile(Record):
    """`access/grants.json`. An unknown key is refused, because it could be meant as a limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may see: every store, or those in `stores`."""

    every_store: bool = False
    stores: frozenset[str] = frozenset()
    operator: bool = False

    def may_see(self, store_id: str) -> bool:
        return self.every_store or store_id in self.stores


_LOWER_ASCII = {ord(upper): upper.lower() for upper in ascii_uppercase}

EVERYTHING = Access(every_store=True, operator=True)
NOTHING = Access()


@dataclass(frozen=True, slots=True)
class Grants:
    """Access by (issuer, subject) and by (issuer, e-mail address). Grants of one caller add up."""

    by_subject: Mapping[tuple[str, str], Access] = field(default_factory=dict)
    by_email: Mapping[tuple[str, str], Access] = field(default_factory=dict)

    def access(self, issuer: str, subject: str, verified_email: str | None) -> Access:
        access = self.by_subject.get((issuer, subject), NOTHING)
        if verified_email is None:
            return access
        return _union(access, self.by_email.get((issuer, _folded(verified_email)), NOTHING))


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
            subject = (grant.issuer, grant.subject)
            by_subject[subject] = _union(by_subject.get(subject, NOTHING), access)
        elif grant.email is not None:
            email = (grant.issuer, _folded(grant.email))
            by_email[email] = _union(by_email.get(email, NOTHING), access)
    return Grants(by_subject, by_email)


def _folded(email: str) -> str:
    """The address in lower case, as far as it is ASCII.

    Unicode has letters that become ASCII in lower case, such as the Kelvin sign: they would make
    an address that somebody else owns equal to this one.
    """
    return email.translate(_LOWER_ASCII)


def _union(first: Access, second: Access) -> Access:
    return Access(
        first.every_store or second.every_store,
        first.stores | second.stores,
        first.operator or second.operator,
    )
