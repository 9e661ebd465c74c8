"""The bucket for engineers: histories as a Dataset, forecasts and scores as tables.

```python
from ray_job import storecast

histories = storecast.histories("gs://your-bucket", stores=["17", "42"], days=365)
forecasts = storecast.forecasts("gs://your-bucket").to_pandas()
scores = storecast.scores("gs://your-bucket", days=28).to_pandas()
```
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ray_job.bucket import parts, pointer, releases
from ray_job.bucket.errors import CorruptError, InputError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.releases import Release
from ray_job.bucket.storage import Storage, open_bucket

if TYPE_CHECKING:
    from ray.data import Dataset

FORECASTS_SCHEMA = pa.schema([*parts.PART_SCHEMA, ("as_of", pa.date32())])
"""The rows of parts, each with the as-of of its forecast."""


def histories(
    bucket: str,
    *,
    stores: Sequence[str] | None = None,
    days: int | None = None,
    columns: Sequence[str] | None = None,
) -> Dataset:
    """The observations of stores as a Dataset of Ray Data, one row for each (store, item, date).

    Rows are folded as a run folds them, and have store_id, item_id, date, sales and further
    columns: `columns`, by default all. `stores` are store ids, by default all. `days` counts back
    from the newest date with sales, by default all days. Sales are in the delivered unit; a value
    that was never delivered is null.

    Connects to the Ray cluster of this process, or starts a local one. Raises InputError for a
    bucket without histories, an unknown store or an unknown column. A file that is damaged or gone
    raises CorruptError or NotFoundError when the Dataset is used.
    """
    # Ray takes seconds to import, and forecasts and scores do not need it.
    from ray_job.datasets.histories import histories_dataset  # noqa: PLC0415

    return histories_dataset(bucket, stores, days, columns)


def forecasts(
    bucket: str, *, as_of: date | None = None, stores: Sequence[str] | None = None
) -> pa.Table:
    """The forecasts of a release (FORECASTS_SCHEMA), sorted by store, item and target date.

    `as_of` is the night, by default the current release's. Stores that are carried have an older
    `as_of` in their rows. Every part is verified by the sha256 in the release, and the release by
    the one in the pointer. Raises InputError where nothing was published, or for an unknown store;
    CorruptError where the bytes are not those that were published.
    """
    storage = open_bucket(bucket)
    current, _ = pointer.read(storage)
    entry = _publication(storage, current, as_of)
    release = releases.load(storage, entry.release, entry.sha256)
    rows = _stores(release, stores)
    return _read_parts(storage, rows)


def scores(bucket: str, *, days: int = 28) -> pa.Table:
    """The scores of the last `days` scored target dates: forecasts that were live, and sales.

    One row for each store, target date and as-of: see `bucket.scores.SCORES_SCHEMA`, with the
    target date as the first column. Raises InputError where nothing was scored yet.
    """
    from ray_job.evaluation import accuracy  # noqa: PLC0415 - numpy is not needed by forecasts

    storage = open_bucket(bucket)
    current, _ = pointer.read(storage)
    return accuracy.read(storage, current, days).rows


def _publication(storage: Storage, current: Pointer, as_of: date | None) -> Published:
    name = current.current if as_of is None else current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    if entry is None:
        night = "" if as_of is None else f" as of {as_of}"
        raise InputError(f"{storage.url}: nothing was published{night}; `storecast run` publishes")
    return entry


def _stores(release: Release, stores: Sequence[str] | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = release.stores.select(["store_id", "as_of", "parts"]).to_pylist()
    if stores is None:
        return rows
    known = {row["store_id"]: row for row in rows}
    for store in stores:
        if store not in known:
            raise InputError(f"{store}: the release {release.header.release} has no such store")
    return [known[store] for store in sorted(set(stores))]


def _read_parts(storage: Storage, rows: Sequence[dict[str, Any]]) -> pa.Table:
    part_rows: dict[str, pa.Table] = {}
    tables = []
    for row in rows:
        for place in row["parts"] or ():
            key = place["part"]
            if key not in part_rows:
                part_rows[key] = _read_part(storage, key, place["sha256"])
            table = part_rows[key].slice(place["first_row"], place["rows"])
            as_of = pa.repeat(pa.scalar(row["as_of"], pa.date32()), table.num_rows)
            tables.append(table.append_column("as_of", as_of).cast(FORECASTS_SCHEMA))
    order = [(name, "ascending") for name in ("store_id", "item_id", "target_date")]
    return pa.concat_tables([FORECASTS_SCHEMA.empty_table(), *tables]).sort_by(order)


def _read_part(storage: Storage, key: str, expected_sha256: str) -> pa.Table:
    data = storage.read(key)
    if parts.sha256(data) != expected_sha256:
        raise CorruptError(f"{key}: the bytes are not those that the release names (sha256)")
    return parts.read_rows(data, key)
