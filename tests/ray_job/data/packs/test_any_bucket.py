"""Ingests, compaction, foreign commits and damage in any order: packs change nothing."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError
from ray_job.bucket.storage import open_bucket
from ray_job.data.histories import open_histories
from ray_job.data.packs.index import NO_PACKS, PackIndex, read_index
from ray_job.data.packs.merging import join_small_packs
from ray_job.ingest import compact, ingest
from ray_job.settings import Ingest, Sales, Settings
from tests.support.packed import basis, both_ways, chunks_of

FIRST = date(2026, 3, 1)
NOW = datetime(2026, 3, 20, tzinfo=UTC)
DATES = basis(FIRST, FIRST + timedelta(days=9))
STORES = ("s1", "s2", "s3")
SETTINGS = Settings(ingest=Ingest(compact_above_files=1))

rows = st.dictionaries(
    st.tuples(st.sampled_from(STORES), st.sampled_from(["", "a"]), st.integers(-2, 12)),
    st.tuples(
        st.sampled_from(["", "0", "1", "2.5", "17.25"]),
        st.sampled_from(["", "0", "1"]),
        st.sampled_from(["", "dry", "wet"]),
    ),
    min_size=2,
    max_size=8,
)


@dataclass(frozen=True)
class AllStores:
    """The scope of a compaction of every store."""

    def includes(self, store_id: str) -> bool:
        return bool(store_id)


@dataclass
class Bucket:
    root: Path
    number: int = 0
    earlier: list[dict[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.storage = open_bucket(str(self.root))

    def deliver(self, delivered, kind: str) -> None:
        self.number += 1
        lines = ["store_id,item_id,date,sales,open,weather"]
        for (store, item, day), (sales, is_open, weather) in sorted(delivered.items()):
            lines.append(
                f"{store},{item},{FIRST + timedelta(days=day)},{sales},{is_open},{weather}"
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{self.number}.csv")
            path.write_text("\n".join(lines) + "\n")
            mode = "transactions" if kind == "add" else "daily"
            chosen = SETTINGS.model_copy(
                update={"sales": Sales(rows=mode, types={"weather": "text"}, totals="keep")}
            )
            try:
                report = ingest(
                    self.storage, chosen, [path], replace=kind == "replace", now=self.now()
                )
            except InputError:
                return
            assert report.not_packed is None

    def now(self) -> datetime:
        return NOW + timedelta(minutes=self.number)

    def compact(self) -> None:
        compact(self.storage, SETTINGS, AllStores(), now=self.now())

    def join(self) -> None:
        with suppress(CorruptError):
            join_small_packs(self.storage, most=1)

    def append(self, delivered, minute: int) -> None:
        """A commit of another program: other types of files, any time of delivery."""
        if not self.table_exists():
            return
        table = pa.table(
            {
                "store_id": [store for store, _, _ in delivered],
                "item_id": [item for _, item, _ in delivered],
                "date": pa.array([FIRST + timedelta(days=day) for *_, day in delivered]),
                "sales": pa.array([float(sales or 3) for sales, *_ in delivered.values()]),
                "delivered_at": pa.array(
                    [NOW + timedelta(minutes=minute)] * len(delivered), pa.timestamp("us", "UTC")
                ),
                "op": ["set"] * len(delivered),
            }
        )
        write_deltalake(str(self.root / keys.BATCH_DATA), table, mode="append", schema_mode="merge")

    def delete(self, store: str, day: int) -> None:
        if self.table_exists():
            predicate = f"store_id = '{store}' AND date = '{FIRST + timedelta(days=day)}'"
            DeltaTable(self.root / keys.BATCH_DATA).delete(predicate)

    def vacuum(self) -> None:
        if self.table_exists():
            DeltaTable(self.root / keys.BATCH_DATA).vacuum(
                0, dry_run=False, enforce_retention_duration=False
            )

    def table_exists(self) -> bool:
        return (self.root / keys.BATCH_DATA / "_delta_log").exists()

    def objects(self) -> list[Path]:
        return sorted((self.root / "packs/v1").glob("*.arrows"))

    def damage(self, how: str, number: int) -> None:
        packs = self.objects()
        if packs:
            DAMAGE[how](self, packs, number)

    def keep(self, packs: list[Path]) -> None:
        paths = [*packs, self.root / keys.PACK_INDEX]
        self.earlier.append({path.name: path.read_bytes() for path in paths if path.exists()})

    def restore(self, number: int) -> None:
        if self.earlier:
            for name, content in self.earlier[number % len(self.earlier)].items():
                (self.root / "packs/v1" / name).write_bytes(content)

    def index(self) -> PackIndex:
        try:
            return read_index(self.storage)
        except CorruptError:
            return NO_PACKS


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flipped(data: bytes, number: int) -> bytes:
    place = len(data) * number // 10
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def swap(pack: Path, other: Path) -> None:
    data, other_data = pack.read_bytes(), other.read_bytes()
    pack.write_bytes(other_data)
    other.write_bytes(data)


DAMAGE: dict[str, Callable[[Bucket, list[Path], int], object]] = {
    "delete": lambda _, packs, number: packs[number % len(packs)].unlink(),
    "truncate": lambda _, packs, number: rewrite(
        packs[number % len(packs)], lambda data: data[: len(data) * number // 10]
    ),
    "flip": lambda _, packs, number: rewrite(
        packs[number % len(packs)], lambda data: flipped(data, number) if data else data
    ),
    "swap": lambda _, packs, number: swap(packs[number % len(packs)], packs[-1]),
    "delete index": lambda bucket, *_: (bucket.root / keys.PACK_INDEX).unlink(missing_ok=True),
    "damage index": lambda bucket, *_: (bucket.root / keys.PACK_INDEX).write_bytes(b'{"packs": 1}'),
    "keep": lambda bucket, packs, _: bucket.keep(packs),
    "restore": lambda bucket, _, number: bucket.restore(number),
}
deliver = st.builds(
    lambda delivered, kind: lambda bucket: bucket.deliver(delivered, kind),
    rows,
    st.sampled_from(["set", "set", "add", "replace"]),
)
actions = st.one_of(
    deliver,
    deliver,
    st.just(Bucket.compact),
    st.just(Bucket.join),
    st.builds(
        lambda delivered, minute: lambda bucket: bucket.append(delivered, minute),
        rows,
        st.integers(-5, 50),
    ),
    st.builds(
        lambda store, day: lambda bucket: bucket.delete(store, day),
        st.sampled_from(STORES),
        st.integers(0, 9),
    ),
    st.just(Bucket.vacuum),
    st.builds(
        lambda how, number: lambda bucket: bucket.damage(how, number),
        st.sampled_from([*DAMAGE, "restore"]),
        st.integers(0, 9),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    deliver,
    st.lists(actions, min_size=1, max_size=6),
    st.sampled_from([[], ["a"], ["b", "c"]]),
)
def test_packs_change_nothing(
    first: Callable[[Bucket], None],
    then: list[Callable[[Bucket], None]],
    bounds: list[str],
):
    """At the end also where stores are cut into ranges of items at the bounds."""
    with tempfile.TemporaryDirectory() as folder:
        bucket = Bucket(Path(folder))
        for number, action in enumerate((first, *then)):
            action(bucket)
            if not bucket.table_exists():
                continue
            try:
                files = open_histories(bucket.storage).files
            except InputError:
                continue
            for chunk in chunks_of(files, DATES, bounds)[: None if number == len(then) else 1]:
                plain, packed, _ = both_ways(bucket.storage, chunk, DATES, bucket.index())
                assert packed == plain
