"""KubeRay's schemas, closed: a field that they do not name is an error, as in strict creation."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "schemas"
RELEASES = ("v1.5.1", "v1.6.2", "v1.7.0")


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "properties"}
    if isinstance(schema.get("properties"), dict):
        closed["properties"] = {
            name: _closed(value) for name, value in schema["properties"].items()
        }
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def validator(kind: str, release: str) -> Draft202012Validator:
    path = SCHEMAS / f"{kind.lower()}-{release}.schema.json.gz"
    return Draft202012Validator(_closed(json.loads(gzip.decompress(path.read_bytes()))))


def problems(resource: dict[str, Any], release: str) -> list[str]:
    """The errors of a RayJob or RayCluster in a cluster with that release of KubeRay."""
    return [
        f"{'/'.join(str(step) for step in error.absolute_path)}: {error.message}"
        for error in validator(resource["kind"], release).iter_errors(resource)
    ]
