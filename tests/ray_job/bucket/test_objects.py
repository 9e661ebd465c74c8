"""Parts, releases and receipts: encoding, decoding, and errors for damaged bytes."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from ray_job.bucket import keys, parts, receipts, releases
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.releases import RELEASE_SCHEMA, Release, ReleaseHeader

NIGHT = date(2026, 3, 28)
MOMENT = datetime(2026, 3, 29, 0, 5, tzinfo=UTC)
ITEM = '=1+1,"ü\n'
ROWS = pa.Table.from_pylist(
    [
        {
            "store_id": store,
            "item_id": ITEM,
            "target_date": date(2026, 3, 29),
            "days_ahead": 1,
            "predicted_sales": 1.5,
            "lower_80": 1.0,
            "upper_80": 2.0,
            "method": "model",
            "data_through": NIGHT,
            "model_version": "m1",
        }
        for store in ("007", "7")
    ],
    schema=parts.PART_SCHEMA,
)
OUTCOMES = pa.Table.from_pylist(
    [
        {"store_id": "007", "outcome": "ok", "first_row": 0, "rows": 1, "predicted": [1.5]},
        {"store_id": "7", "outcome": "ok", "first_row": 1, "rows": 1, "predicted": [1.5]},
    ],
    schema=parts.OUTCOME_SCHEMA,
)
RELEASE = Release(
    ReleaseHeader(
        release="r-0",
        as_of=NIGHT,
        run_id="r",
        created_at=MOMENT,
        table_version=3,
        model_version="m1",
        horizon=7,
    ),
    pa.Table.from_pylist(
        [{"store_id": "7", "outcome": "ok", "expected": True, "as_of": NIGHT, "predicted": [1.5]}],
        schema=RELEASE_SCHEMA,
    ),
)


def receipt(**changes) -> Receipt:
    return Receipt(
        **{
            "run_id": "r",
            "status": "published",
            "exit_code": 0,
            "as_of": NIGHT,
            "release": "r-0",
            "published": True,
            "started_at": MOMENT,
            "finished_at": MOMENT,
            "seconds": 1.0,
            **changes,
        }
    )


def broken(data: bytes):
    """The bytes in several ways damaged."""
    yield b""
    yield data[: len(data) // 2]
    yield data[:-1]
    yield b"PAR1 but no more PAR1"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_a_part_is_read_back():
    data = parts.encode(ROWS, OUTCOMES, "d1", run_id="r")
    part = parts.decode(data, "k")
    assert (part.digest, part.info) == ("d1", {"run_id": "r"})
    assert part.outcomes.to_pylist() == OUTCOMES.to_pylist()
    assert part.sha256 == parts.sha256(data)
    assert parts.read_rows(data, "k").equals(ROWS)
    assert parts.read_rows(data, "k", 1, 1)["store_id"].to_pylist() == ["7"]


def test_the_same_part_is_the_same_bytes():
    first, second = (parts.encode(ROWS, OUTCOMES, "d1", run_id="r") for _ in range(2))
    assert first == second


def test_a_broken_part_is_named():
    data = parts.encode(ROWS, OUTCOMES, "d1", run_id="r")
    for damaged in broken(data):
        with pytest.raises(CorruptError, match="^k: "):
            parts.decode(damaged, "k")
    with pytest.raises(CorruptError, match="^k: "):
        parts.read_rows(flipped(data, 40), "k")


def test_a_release_is_read_back_if_its_sha256_is_right(storage):
    data = releases.encode(RELEASE)
    storage.create(keys.release("r-0"), data)
    loaded = releases.load(storage, "r-0", parts.sha256(data))
    assert loaded.header == RELEASE.header
    assert loaded.stores.equals(RELEASE.stores)
    with pytest.raises(CorruptError, match=r"^results/releases/r-0\.parquet: .*sha256"):
        releases.load(storage, "r-0", "0" * 64)
    with pytest.raises(NotFoundError):
        releases.load(storage, "r-1", "0" * 64)


def test_a_broken_release_is_named():
    data = releases.encode(RELEASE)
    for damaged in broken(data):
        with pytest.raises(CorruptError, match="^k: "):
            releases.decode(damaged, "k")


def test_receipts_of_a_night(storage):
    receipts.write(storage, receipt(run_id="late", finished_at=MOMENT.replace(hour=3)))
    receipts.write(storage, receipt(run_id="zzz"))
    receipts.write(storage, receipt(run_id="zzz"))
    receipts.write(storage, receipt(as_of=date(2026, 3, 27)))
    with pytest.raises(ConflictError):
        receipts.write(storage, receipt(run_id="zzz", seconds=2.0))
    assert [each.run_id for each in receipts.of_night(storage, NIGHT)] == ["zzz", "late"]
    assert receipts.read(storage, NIGHT, "late").finished_at.hour == 3
    with pytest.raises(NotFoundError):
        receipts.read(storage, NIGHT, "none")
