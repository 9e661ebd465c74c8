"""RBAC for the Roles of one namespace."""

from __future__ import annotations

from typing import Any


def allows(
    rules: list[dict[str, Any]], verb: str, group: str, resource: str, name: str | None
) -> bool:
    """Whether a rule of a Role grants `verb`. Group "" is the core group, no name a collection."""
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )
