"""Page tokens: the release of a list and the position of the next page.

A token is not signed and gives no rights: a forged one leads only to what the caller may see.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from api.problems import InvalidError

_MAX_CHARACTERS = 512
_MAX_POSITION = 2**53


@dataclass(frozen=True, slots=True)
class PageToken:
    """`list_name` names the list, so that a token of another list is refused."""

    list_name: str
    release: str
    position: int

    def encode(self) -> str:
        text = json.dumps([self.list_name, self.release, self.position], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, list_name: str) -> PageToken:
    """Raises InvalidError for a text that is not a token of that list."""
    if len(text) > _MAX_CHARACTERS:
        raise _invalid()
    try:
        padded = text + "=" * (-len(text) % 4)
        name, release, position = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _invalid() from None
    is_position = type(position) is int and 0 <= position < _MAX_POSITION
    if name != list_name or not isinstance(release, str) or not is_position:
        raise _invalid()
    return PageToken(list_name, release, position)


def _invalid() -> InvalidError:
    return InvalidError("page_token: this is not a page token of this list")
