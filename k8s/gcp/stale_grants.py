# ruff: noqa: INP001 - a script beside the one that calls it
"""The bucket's grants to our accounts that setup does not want any more.

setup runs `stale_grants.py PRINCIPAL POLICY WANTED…`: PRINCIPAL is how the members of our accounts
begin, POLICY what `gcloud storage buckets get-iam-policy --format=json` gives, each WANTED
`MEMBER ROLE CONDITION`. Prints MEMBER, ROLE and CONDITION, with tabs between them, as
`remove-iam-policy-binding` takes them. Needs nothing but Python.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def stale(principal: str, policy: dict[str, Any], wanted: set[str]) -> list[tuple[str, str, str]]:
    """(member, role, condition) of each grant to our accounts that is not in `wanted`.

    Grants to anybody else are left alone. A grant without a condition has `None` as gcloud's word.
    """
    return [
        (member, binding["role"], _condition(binding) or "None")
        for binding in policy.get("bindings", [])
        for member in binding["members"]
        if member.startswith(principal)
        and f"{member} {binding['role']} {_condition(binding)}" not in wanted
    ]


def _condition(binding: dict[str, Any]) -> str:
    """The condition as setup writes it; empty where there is none."""
    condition = binding.get("condition", {})
    names = [name for name in ("title", "description", "expression") if condition.get(name)]
    return ",".join(f"{name}={condition[name]}" for name in names)


if __name__ == "__main__":
    for grant in stale(sys.argv[1], json.loads(sys.argv[2]), set(sys.argv[3:])):
        sys.stdout.write("\t".join(grant) + "\n")
