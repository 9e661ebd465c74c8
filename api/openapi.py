"""`python -m api.openapi` writes the service's OpenAPI document to api/openapi.json."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import FastAPI

from api.main import compose

COMMITTED = Path(__file__).parent / "openapi.json"


def text(app: FastAPI) -> str:
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    COMMITTED.write_text(text(compose()), encoding="utf-8")


if __name__ == "__main__":
    main()
