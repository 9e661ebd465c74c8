"""RBAC, as far as Roles of one namespace go."""

from __future__ import annotations

from typing import Any


def allows(
    rules: list[dict[str, Any]], verb: str, group: str, resource: str, name: str | None
) -> bool:
    """Whether any rule of a Role grants `verb`; "" is the core group, `name` None a collection."""
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )
