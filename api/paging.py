"""Page tokens: where the next page begins, in which release. They carry no authority."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from api.problems import InvalidError

_MOST = 512


@dataclass(frozen=True, slots=True)
class PageToken:
    """`of` names what is paged, so that no token is taken for another list's."""

    of: str
    release: str
    position: int

    def encode(self) -> str:
        text = json.dumps([self.of, self.release, self.position], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, of: str) -> PageToken:
    """Raises InvalidError for what is not a token of that list."""
    if len(text) > _MOST:
        raise _invalid()
    try:
        padded = text + "=" * (-len(text) % 4)
        found, release, position = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _invalid() from None
    if not (
        found == of and isinstance(release, str) and type(position) is int and 0 <= position < 2**53
    ):
        raise _invalid()
    return PageToken(of, release, position)


def _invalid() -> InvalidError:
    return InvalidError("page_token: this is not a page token of this list")
