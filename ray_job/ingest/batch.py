"""All files of an ingest, read and checked: what is about to be brought in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from ray_job.ingest.bad import BadFilesError
from ray_job.ingest.checks import drop_duplicates, expected_types, settle_types, value
from ray_job.ingest.files import Source, all_of
from ray_job.ingest.kinds import KINDS, SALES, delivery_of, kind_of
from ray_job.ingest.load import FILE, Group, load
from ray_job.ingest.shapes import columns_of, read_shape
from ray_job.ingest.workspace import Workspace
from ray_job.progress import Stage
from ray_job.settings import ColumnType, Settings

ARROW: Mapping[ColumnType, pa.DataType] = {"number": pa.float64(), "text": pa.string()}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A group's table with, for each further column that holds a value, its type and SQL."""

    group: Group
    types: Mapping[str, ColumnType]
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """`new_columns` by kind are those that its table doesn't have yet; `rows` count per file."""

    loaded: Sequence[Loaded]
    new_columns: Mapping[str, Sequence[pa.Field]]
    rows: Mapping[int, int]

    @property
    def sources(self) -> dict[int, Source]:
        return {
            number: source
            for one in self.loaded
            for number, source in enumerate(one.group.sources, one.group.first)
        }

    def of(self, kind: str) -> list[Loaded]:
        return [one for one in self.loaded if one.group.kind.name == kind]


@dataclass(slots=True)
class _Columns:
    known: dict[str, ColumnType]
    new: list[pa.Field] = field(default_factory=list)


def further_types(schema: pa.Schema, kind: str) -> dict[str, ColumnType]:
    """The types of a table's further columns."""
    own = {*kind_of(kind).key, "delivered_at", "op"}
    return {
        one.name: "number" if pa.types.is_floating(one.type) else "text"
        for one in schema
        if one.name not in own
    }


def read_batch(
    work: Workspace,
    settings: Settings,
    sources: Sequence[Source],
    schemas: Mapping[str, pa.Schema],
    stage: Stage,
) -> Batch:
    """Read and check all files. `schemas` are those of the tables that exist, by kind.

    Raises BadFilesError for what is wrong with one or several of them.
    """
    columns = {
        kind: _Columns(further_types(schemas.get(kind, kind_of(kind).schema()), kind))
        for kind in KINDS
    }
    loaded = []
    rows: dict[int, int] = {}
    for group in _groups(settings, sources):
        kind = group.kind.name
        there = columns[kind]
        declared = delivery_of(settings, kind).types
        with all_of(group.sources):
            types = expected_types(group, declared, there.known)
        with work.watched(stage):
            counted = load(work, group, types, stage)
            settled = settle_types(work, group, types)
            values = {name: value(group, name, types, settled[name]) for name in settled}
            if kind != SALES or settings.sales.rows == "daily":
                drop_duplicates(work, group, values)
        for name, found in settled.items():
            if name not in there.known:
                there.known[name] = found
                there.new.append(pa.field(name, ARROW[found]))
        loaded.append(Loaded(group, settled, values))
        rows |= counted
        stage.advance(0, rows=sum(rows.values()))
    new = {kind: one.new for kind, one in columns.items() if one.new}
    return Batch(loaded, new, rows)


def _groups(settings: Settings, sources: Sequence[Source]) -> list[Group]:
    """The files, those of one kind and shape together, each group in the order of delivery."""
    shaped = []
    bad: dict[str, str] = {}
    for source in sources:
        try:
            shaped.append((source, read_shape(source.path, source.name)))
        except BadFilesError as error:
            bad |= error.problems
    if bad:
        raise BadFilesError(bad)
    order: dict[tuple[object, ...], int] = {}
    for source, shape in shaped:
        order.setdefault((source.kind, shape), len(order))
    shaped.sort(key=lambda one: order[one[0].kind, one[1]])
    groups: list[Group] = []
    first = 0
    for (kind_name, shape), members in groupby(shaped, key=lambda one: (one[0].kind, one[1])):
        kind = kind_of(kind_name)
        files = tuple(source for source, _ in members)
        with all_of(files):
            taken = columns_of(shape, delivery_of(settings, kind_name), files[0].name)
            kind.check_header(taken, settings, files[0].name)
        groups.append(Group(kind, shape, taken, files, first))
        first += len(files)
    return groups


def note_deliveries(work: Workspace, delivered: Mapping[int, int]) -> None:
    """Tell DuckDB when each file was delivered, in microseconds since 1970, by its number."""
    work.run(
        f"CREATE TEMP TABLE deliveries AS"
        f" SELECT unnest(?::INTEGER[]) AS {FILE}, unnest(?::BIGINT[]) AS __delivered",
        [list(delivered), list(delivered.values())],
    )
