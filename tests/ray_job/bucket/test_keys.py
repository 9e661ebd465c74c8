"""Every key of the bucket as literal text: other versions read and write the same keys."""

import re
from datetime import date

import pytest

from ray_job.bucket import keys

NIGHT = date(2026, 3, 28)


@pytest.mark.parametrize(
    ("built", "key"),
    [
        (keys.RAW_DATA, "raw_data/"),
        (keys.raw("sales", "a.csv"), "raw_data/a.csv"),
        (keys.raw("weather", "a.csv"), "raw_data/weather/a.csv"),
        (keys.raw("sales", "a.csv", replace=True), "raw_data/replace/a.csv"),
        (keys.raw("stores", "a.csv", replace=True), "raw_data/replace/stores/a.csv"),
        (keys.BATCH_DATA, "batch_data"),
        (keys.context("weather"), "context/weather"),
        (keys.manifest(7), "batch_data/_ingest/00000000000000000007.json"),
        (keys.PACKS, "packs/"),
        (keys.PACK_INDEX, "packs/v1/index.json"),
        (keys.pack("abc"), "packs/v1/abc.arrows"),
        (keys.model_artifact("m1"), "models/m1/model.joblib"),
        (keys.model_description("m1"), "models/m1/model.json"),
        (keys.CURRENT_MODEL, "models/current.json"),
        (keys.GRANTS, "access/grants.json"),
        (keys.POINTER, "results/current.json"),
        (keys.part(NIGHT, "ab12", 0), "results/parts/as_of=2026-03-28/ab12-0.parquet"),
        (keys.receipts_of(NIGHT), "results/receipts/as_of=2026-03-28/"),
        (keys.receipt(NIGHT, "r1"), "results/receipts/as_of=2026-03-28/r1.json"),
        (keys.release("r1-0"), "results/releases/r1-0.parquet"),
        (
            keys.accuracy(date(2026, 3, 27), "r1"),
            "results/accuracy/target_date=2026-03-27/r1.parquet",
        ),
        (keys.widths(NIGHT, "m1"), "results/widths/as_of=2026-03-28/m1.json"),
    ],
)
def test_keys(built, key):
    assert built == key


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("raw_data/a.csv", "sales"),
        ("raw_data/weather.csv", "sales"),
        ("raw_data/2026/03/a.csv", "sales"),
        ("raw_data/weather/a.csv", "weather"),
        ("raw_data/holidays/2026/a.csv", "holidays"),
        ("raw_data/stores/a.csv", "stores"),
        ("raw_data/replace/a.csv", "sales"),
        ("raw_data/replace/weather/a.csv", "weather"),
    ],
)
def test_the_kind_of_a_delivered_file_is_its_folder(key, kind):
    assert keys.raw_kind(key) == kind
    assert keys.raw_replaces(key) == key.startswith("raw_data/replace/")


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("7", True),
        ("007", True),
        ("north-2_B", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("a/b", False),
        ("..", False),
        ("a b", False),
        ("ü", False),
        ("7\n", False),
    ],
)
def test_store_ids(text, is_valid):
    assert bool(re.fullmatch(keys.STORE_ID_PATTERN, text)) is is_valid
