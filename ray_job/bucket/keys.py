"""Every key of the bucket is made here. Pure: text in, text out."""

from __future__ import annotations

import re
from datetime import date

RAW_DATA = "raw_data/"
BATCH_DATA = "batch_data"
CONTEXT_KINDS = ("weather", "holidays", "stores")

PARTS = "results/parts/"
RECEIPTS = "results/receipts/"
RELEASES = "results/releases/"
ACCURACY = "results/accuracy/"
POINTER = "results/current.json"
CURRENT_MODEL = "models/current.json"
GRANTS = "access/grants.json"

STORE_ID_PATTERN = "[A-Za-z0-9_-]{1,64}"
_STORE_ID = re.compile(STORE_ID_PATTERN)


def is_store_id(text: str) -> bool:
    """Whether `text` can name a store: it becomes part of a path."""
    return _STORE_ID.fullmatch(text) is not None


def raw(kind: str, name: str, *, replace: bool = False) -> str:
    """Where a delivered file named `name` lies; `kind` is sales, weather, holidays or stores."""
    folder = "" if kind == "sales" else f"{kind}/"
    return f"{RAW_DATA}{'replace/' if replace else ''}{folder}{name}"


def raw_kind(key: str) -> str:
    """The kind of a delivered file, told by its first folder; what is in none is sales."""
    first = key.removeprefix(RAW_DATA).removeprefix("replace/").split("/")[0]
    is_folder = "/" in key.removeprefix(RAW_DATA).removeprefix("replace/")
    return first if is_folder and first in CONTEXT_KINDS else "sales"


def raw_replaces(key: str) -> bool:
    """Whether a delivered file takes its stores' earlier rows of its dates out."""
    return key.startswith(f"{RAW_DATA}replace/")


def context(kind: str) -> str:
    return f"context/{kind}"


def manifest(version: int) -> str:
    """What ingest number `version` brought in."""
    return f"{BATCH_DATA}/_ingest/{version:020d}.json"


def model_artifact(version: str) -> str:
    return f"models/{version}/model.joblib"


def model_description(version: str) -> str:
    return f"models/{version}/model.json"


def part(as_of: date, digest: str, attempt: int) -> str:
    return f"{PARTS}as_of={as_of}/{digest}-{attempt}.parquet"


def receipts_of(as_of: date) -> str:
    return f"{RECEIPTS}as_of={as_of}/"


def receipt(as_of: date, run_id: str) -> str:
    return f"{receipts_of(as_of)}{run_id}.json"


def release(name: str) -> str:
    return f"{RELEASES}{name}.parquet"


def accuracy(target_date: date, run_id: str) -> str:
    return f"{ACCURACY}target_date={target_date}/{run_id}.parquet"
