"""Cloud Logging's query language, as far as our metrics and alerts use it.

A comparison is `field OPERATOR value`, with `=`, `!=`, `=~`, `!~` and `:` (has), and instead of a
value `(a OR b)`. A field that an entry lacks equals nothing, so that its negation is true.
Comparisons beside each other are joined by AND. As Cloud Logging has it, OR binds closer than AND.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|log_id\(|=~|!~|!=|[=:()]|[^\s=:()!"]+')

Entry = dict[str, Any]
Test = Callable[[Entry], bool]


def matches(expression: str, entry: Entry) -> bool:
    """Whether the log entry (as Cloud Logging stores it) is in the result of the query."""
    return _Parser(expression).whole()(entry)


class _Parser:
    def __init__(self, expression: str) -> None:
        self._tokens = _TOKENS.findall(expression)

    def whole(self) -> Test:
        test = self._all_of()
        if self._tokens:
            raise ValueError(f"nothing may follow at {' '.join(self._tokens)}")
        return test

    def _next(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _take(self, expected: str = "") -> str:
        if not self._tokens or (expected and self._tokens[0] != expected):
            raise ValueError(f"{expected or 'something'} is missing before {self._tokens}")
        return self._tokens.pop(0)

    def _all_of(self) -> Test:
        tests = [self._any_of()]
        while self._next() not in {"", ")"}:
            if self._next() == "AND":
                self._take()
            tests.append(self._any_of())
        return lambda entry: all(test(entry) for test in tests)

    def _any_of(self) -> Test:
        tests = [self._single()]
        while self._next() == "OR":
            self._take()
            tests.append(self._single())
        return lambda entry: any(test(entry) for test in tests)

    def _single(self) -> Test:
        if self._next() == "NOT":
            self._take()
            test = self._single()
            return lambda entry: not test(entry)
        if self._next() == "(":
            self._take()
            test = self._all_of()
            self._take(")")
            return test
        if self._next() == "log_id(":
            self._take()
            name = _text(self._take())
            self._take(")")
            return lambda entry: entry.get("logName", "").endswith(f"/logs/{name}")
        return self._comparison()

    def _comparison(self) -> Test:
        field, operator = self._take(), self._take()
        values = list(self._values())

        def compare(entry: Entry) -> bool:
            actual = field_of(entry, field)
            return any(_compares(operator, actual, value) for value in values)

        return compare

    def _values(self) -> Iterator[str]:
        if self._next() != "(":
            yield _text(self._take())
            return
        self._take()
        while True:
            yield _text(self._take())
            if self._take() == ")":
                return


def field_of(entry: Entry, path: str) -> Any:
    """The value at the path, None where there is none."""
    value: Any = entry
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(token: str) -> str:
    return token[1:-1].replace('\\"', '"') if token.startswith('"') else token


def _compares(operator: str, actual: Any, value: str) -> bool:
    texts = [str(item) for item in actual] if isinstance(actual, list) else [str(actual)]
    present = actual is not None
    if operator == "=":
        return present and value in texts
    if operator == "!=":
        return value not in texts
    if operator == ":":
        return present and any(value in text for text in texts)
    matched = present and any(re.search(value, text) for text in texts)
    return matched if operator == "=~" else not matched
