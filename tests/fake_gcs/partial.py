"""The JSON API's `fields` parameter: an answer holds what was asked for and nothing else."""

from __future__ import annotations

from typing import Any


def select(document: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The part of `document` that e.g. "items(name,size),nextPageToken" or "items/name" names."""
    chosen: dict[str, Any] = {}
    for name, inner in _split(wanted):
        if name == "*":
            return document
        if name not in document:
            continue
        value = document[name]
        if not inner:
            chosen[name] = value
        elif isinstance(value, list):
            chosen[name] = [select(item, inner) for item in value]
        else:
            chosen[name] = select(value, inner)
    return chosen


def _split(wanted: str) -> list[tuple[str, str]]:
    """The names at the outermost level, each with what is asked for inside it."""
    names = []
    depth = begin = 0
    for at, character in enumerate([*wanted, ","]):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            term = wanted[begin:at].strip()
            begin = at + 1
            if term.endswith(")"):
                name, _, inner = term[:-1].partition("(")
            else:
                name, _, inner = term.partition("/")
            names.append((name, inner))
    return names
