"""Tables on the local disk."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from api.store.local.table_cache import TableCache, rows_of


def table(*store_ids: str) -> pa.Table:
    return pa.table({"store_id": list(store_ids), "row": range(len(store_ids))})


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def test_a_table_is_made_once_and_sorted_by_store(tmp_path):
    made = []

    def make() -> pa.Table:
        made.append("a")
        return table("2", "1", "2")

    for _ in range(2):
        cached = TableCache(tmp_path).get("a", make)
        assert rows_of(cached, "2").column("row").to_pylist() == [0, 2]
        assert rows_of(cached, "1").column("row").to_pylist() == [1]
        assert rows_of(cached, "3").num_rows == 0
    assert made == ["a"]


def test_the_least_recently_used_file_is_deleted(tmp_path):
    cache = TableCache(tmp_path, max_tables=2)
    first = cache.get("a", lambda: table("1"))
    cache.get("b", lambda: table("2"))
    cache.get("a", lambda: table("not called"))
    cache.get("c", lambda: table("3"))
    assert names(tmp_path) == ["a", "c"]
    cache.get("d", lambda: table("4"))
    assert names(tmp_path) == ["c", "d"]
    assert first.column("store_id").to_pylist() == ["1"], "a table that is in use stays readable"
