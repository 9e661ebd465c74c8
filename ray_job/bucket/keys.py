"""The keys of all objects in the bucket. No other module builds a key."""

from __future__ import annotations

import re
from datetime import date

from ray_job.bucket.errors import InputError

RAW_DATA = "raw_data/"
BATCH_DATA = "batch_data"
CONTEXT_KINDS = ("weather", "holidays", "stores")

PACKS = "packs/"
PACKS_OF_FORMAT = f"{PACKS}v1/"
"""Programs that write packs of another form have another folder."""
PACK_INDEX = f"{PACKS_OF_FORMAT}index.json"

PARTS = "results/parts/"
RECEIPTS = "results/receipts/"
RELEASES = "results/releases/"
ACCURACY = "results/accuracy/"
WIDTHS = "results/widths/"
POINTER = "results/current.json"
MODELS = "models/"
CURRENT_MODEL = f"{MODELS}current.json"
GRANTS = "access/grants.json"

FOLDERS = ("raw_data", BATCH_DATA, "context", "packs", "results", "models", "access")
"""The folders of a bucket that hold what this program reads and writes."""

STORE_ID_PATTERN = "[A-Za-z0-9_-]{1,64}"
"""A regular expression that a whole store id matches. An id becomes a part of keys and URLs."""


_ODD_PART = re.compile(r"(^|/)\.\.?(/|$)")
_EMPTY_PART = re.compile(r"(^|/)(/|$)")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, separators of lines, and what Python makes of bytes that are not UTF-8."""


def printable(name: str) -> str:
    """The name as it is printed and stored: its unprintable characters are escaped."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], name)


def problem(key: str) -> str | None:
    """What keeps a name from being the same object for every program; None if nothing does."""
    if _ODD_PART.search(key):
        return "a part of the name is '.' or '..'"
    if match := _UNPRINTABLE.search(key):
        return f"the name has the character {printable(match[0])}"
    return None


def check(key: str) -> None:
    """Raise InputError for a key under which no object may be written."""
    why = "a part of the name is empty" if _EMPTY_PART.search(key) else problem(key)
    if why is not None:
        raise InputError(
            f"{printable(key)}: {why}, so that programs would read it differently: rename it"
        )


_OWN_OBJECT = re.compile(
    r"results/(parts/as_of=DATE/[0-9a-f]{32}-\d+\.parquet"
    r"|receipts/as_of=DATE/RUN\.json"
    r"|releases/RUN-\d+\.parquet"
    r"|accuracy/target_date=DATE/RUN\.parquet"
    r"|widths/as_of=DATE/[^/]+\.json)"
    r"|packs/v1/(index\.json|[0-9a-f]{32}\.arrows)".replace("DATE", r"\d{4}-\d\d-\d\d").replace(
        "RUN", r"\d{8}-\d{8}T\d{6}-[0-9a-f]{6}"
    )
)


def is_own_object(key: str) -> bool:
    """Whether the key is as that of a part, receipt, release, scores, widths or packs of ours."""
    return _OWN_OBJECT.fullmatch(key) is not None


_TRAINED = re.compile(r"\d{8}-\d{8}T\d{6}(-\d+)?")


def is_trained(version: str) -> bool:
    """Whether a model's version is a name that `storecast train` gives."""
    return _TRAINED.fullmatch(version) is not None


def raw(kind: str, name: str, *, replace: bool = False) -> str:
    """The key of a raw file. `kind` is `sales`, `weather`, `holidays` or `stores`."""
    folder = "" if kind == "sales" else f"{kind}/"
    return f"{RAW_DATA}{'replace/' if replace else ''}{folder}{name}"


def raw_kind(key: str) -> str:
    """The kind of a raw file: its first folder if that is a kind of context, else `sales`."""
    path = key.removeprefix(RAW_DATA).removeprefix("replace/")
    folder, slash, _ = path.partition("/")
    return folder if slash and folder in CONTEXT_KINDS else "sales"


def raw_replaces(key: str) -> bool:
    """Whether a raw file replaces all earlier rows of its (store, date) pairs."""
    return key.startswith(f"{RAW_DATA}replace/")


def context(kind: str) -> str:
    """The root of the Delta table of one of `CONTEXT_KINDS`."""
    return f"context/{kind}"


def manifest(version: int) -> str:
    """The list of the raw files that ingest number `version` read."""
    return f"{BATCH_DATA}/_ingest/{version:020d}.json"


def pack(name: str) -> str:
    """Packed histories of some stores."""
    return f"{PACKS_OF_FORMAT}{name}.arrows"


def model_artifact(version: str) -> str:
    return f"{MODELS}{version}/model.joblib"


def model_description(version: str) -> str:
    return f"{MODELS}{version}/model.json"


def part(as_of: date, digest: str, attempt: int) -> str:
    """The predictions of the chunk `digest`. Each attempt at it has an object of its own."""
    return f"{PARTS}as_of={as_of}/{digest}-{attempt}.parquet"


def receipts_of(as_of: date) -> str:
    """The prefix of all receipts of one as-of."""
    return f"{RECEIPTS}as_of={as_of}/"


def receipt(as_of: date, run_id: str) -> str:
    return f"{receipts_of(as_of)}{run_id}.json"


def release(name: str) -> str:
    return f"{RELEASES}{name}.parquet"


def accuracy(target_date: date, run_id: str) -> str:
    return f"{ACCURACY}target_date={target_date}/{run_id}.parquet"


def widths(as_of: date, model_version: str) -> str:
    """The widths of the intervals of one as-of, for one model."""
    return f"{WIDTHS}as_of={as_of}/{model_version}.json"
