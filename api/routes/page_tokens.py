"""Page tokens: the release of a list, the position of the next page, and the list's parameters.

A request with a token alone gets the page that the list's own parameters lead to. A token is not
signed and gives no rights: a forged one leads only to what the caller may see.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth.sign_in import SIGN_IN_OUTCOME, Caller
from api.problems import InvalidError
from api.routes.parameters import MAX_TOKEN, QUERY_PROBLEM

_MAX_POSITION = 2**53
_TOKEN, _SIZE = "page_token", "page_size"

Parameters = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PageToken:
    """`list_name` names the list, so that a token of another list is refused.

    `parameters` are those of the list's first page, with `page_size`.
    """

    list_name: str
    release: str
    position: int
    parameters: Parameters = ()

    def encode(self) -> str:
        content = [self.list_name, self.release, self.position, self.parameters]
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        data = text.encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


def parameters_of(query: Sequence[tuple[str, str]]) -> Parameters:
    """The parameters of a query that a token carries."""
    return tuple((name, value) for name, value in query if name != _TOKEN)


def decode(text: str, list_name: str) -> PageToken:
    """Raises InvalidError for a text that is not a token of that list."""
    token = _decode(text)
    if token is None or token.list_name != list_name:
        raise InvalidError("page_token: this is not a page token of this list")
    return token


def _decode(text: str) -> PageToken | None:
    if len(text) > MAX_TOKEN:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        data = base64.b64decode(padded, b"-_", validate=True).decode()
        name, release, position, *further = json.loads(data)
        parameters = tuple((key, value) for key, value in (further[0] if further else ()))
        # JSON can write halves of characters, which no address can hold.
        for text_in_token in (name, release, *(part for pair in parameters for part in pair)):
            text_in_token.encode()
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        return None
    is_position = type(position) is int and 0 <= position < _MAX_POSITION
    if not is_position or len(further) > 1:
        return None
    return PageToken(name, release, position, parameters)


class PageTokenMiddleware:
    """Gives a request with a page token the parameters that the token carries.

    A parameter of the request that contradicts the token is a problem, which the route raises when
    the caller is signed in. Only `page_size` may change from page to page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A query is not parsed for nobody, since that takes milliseconds.
        if b"page_token=" in scope.get("query_string", b"") and _is_signed_in(scope):
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            tokens = [value for name, value in query if name == _TOKEN]
            token = _decode(tokens[0]) if len(tokens) == 1 else None
            if token is not None:
                scope = {**scope, **_with_parameters(query, token)}
        await self._app(scope, receive, send)


def _is_signed_in(scope: Scope) -> bool:
    return isinstance(scope.get(SIGN_IN_OUTCOME), Caller)


def _with_parameters(
    query: list[tuple[str, str]], token: PageToken
) -> dict[str, bytes | InvalidError]:
    """The changes of the scope: the whole query string, or the problem with it."""
    given = {name for name, _ in query} - {_TOKEN, _SIZE}
    for name in sorted(given):
        if _values(query, name) != _values(token.parameters, name):
            message = "it contradicts the page token, which carries the parameters of its list"
            errors = [{"parameter": name, "message": message}]
            return {QUERY_PROBLEM: InvalidError(f"{name}: {message}", errors=errors)}
    carried = [
        pair
        for pair in token.parameters
        if pair[0] not in given and not (pair[0] == _SIZE and _values(query, _SIZE))
    ]
    return {"query_string": urlencode([*query, *carried]).encode("ascii")}


def _values(pairs: Sequence[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in pairs if key == name]
