"""The kinds of raw files, and which columns each of them must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.data.context.tables import CLOSED_FOR_GOOD
from ray_job.data.partition import IN_STOCK
from ray_job.ingest.reading.header_hints import header_hint
from ray_job.ingest.reading.raw_files import bad_file
from ray_job.ingest.reading.shapes import Column
from ray_job.settings import ColumnType, Delivery, Settings

SALES = "sales"
KINDS = (SALES, *keys.CONTEXT_KINDS)
ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {"number": pa.float64(), "text": pa.string()}
_ADDED = ("delivered_at", "op")
"""Columns that an ingest adds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of raw file.

    `key` are the columns that identify a row: a file has each combination once. `optional` are
    columns of the key that a file may lack; they are then empty text. `types` are the types of
    columns that every table of the kind has beside its key. `flags` are columns that mean yes or
    no.
    """

    name: str
    key: tuple[str, ...]
    optional: tuple[str, ...]
    required: tuple[str, ...]
    types: Mapping[str, ColumnType]
    flags: tuple[str, ...] = ()

    def check_header(self, columns: Sequence[Column], settings: Settings, name: str) -> None:
        """Raise BadFilesError if a required column is missing, or a reserved name is used.

        `name` is the file's name in messages.
        """
        names = {column.name for column in columns}
        headers = delivery_of(settings, self.name).columns
        for required in self.required:
            if required not in names:
                raise bad_file(
                    name,
                    f"the column {_with_header(required, headers)} is missing;"
                    f" {header_hint(self.name, self.required, columns, headers)}",
                )
        known_ahead = settings.sales.known_ahead
        useful = {"sales", IN_STOCK, *known_ahead}
        if self.name == SALES and not names & useful:
            raise bad_file(
                name,
                f"the column {_with_header('sales', headers)} is missing, and so is every column"
                f" that is known ahead ({', '.join(known_ahead) or 'none is declared'});"
                f" {header_hint(self.name, (*self.required, 'sales'), columns, headers)}",
            )
        for column in columns:
            folded = column.name.casefold()
            reserved = next((each for each in self.reserved if each == folded), None)
            if reserved is not None and column.name != reserved:
                raise bad_file(
                    name,
                    f"the column {column.header} differs from {reserved} by capitals only: use the"
                    f" same capitals, or give its header under columns of [{self.name}] in the"
                    " settings",
                )
            if column.name in _ADDED:
                raise bad_file(
                    name,
                    f"the column {column.header} has a name that is reserved: rename it, or list it"
                    f" under ignore of [{self.name}] in the settings",
                )

    @property
    def reserved(self) -> tuple[str, ...]:
        """The names of all columns with a fixed meaning."""
        return (*self.key, *self.types, *_ADDED)

    def schema(self) -> pa.Schema:
        """The columns that every table of this kind has."""
        fields = [(name, pa.date32() if name == "date" else pa.string()) for name in self.key]
        fields += [(name, ARROW_TYPES[kind]) for name, kind in self.types.items()]
        fields.append(("delivered_at", pa.timestamp("us", "UTC")))
        if self.name == SALES:
            fields.append(("op", pa.string()))
        return pa.schema(fields)

    def further_types(self, schema: pa.Schema) -> dict[str, ColumnType]:
        """The types of a table's columns that are neither of the key nor added by an ingest."""
        own = {*self.key, *_ADDED}
        return {
            field.name: "number" if pa.types.is_floating(field.type) else "text"
            for field in schema
            if field.name not in own
        }


_KIND_BY_NAME = {
    kind.name: kind
    for kind in (
        Kind(
            SALES,
            ("store_id", "item_id", "date"),
            ("item_id",),
            ("store_id", "date"),
            {"sales": "number"},
            ("open", "promo", IN_STOCK),
        ),
        Kind("weather", ("region", "date"), (), ("region", "date"), {}),
        Kind(
            "holidays", ("region", "date"), (), ("region", "date", "holiday"), {"holiday": "text"}
        ),
        Kind(
            "stores",
            ("store_id",),
            (),
            ("store_id", "region"),
            {"region": "text"},
            (CLOSED_FOR_GOOD,),
        ),
    )
}


def kind_of(name: str) -> Kind:
    """The kind of this name. Raises InputError if there is none."""
    if name not in _KIND_BY_NAME:
        raise InputError(f"{name!r} is not a kind of file: use one of {', '.join(KINDS)}")
    return _KIND_BY_NAME[name]


def delivery_of(settings: Settings, kind: str) -> Delivery:
    """The section of the settings for a kind of file."""
    sections: dict[str, Delivery] = {
        SALES: settings.sales,
        "weather": settings.weather,
        "holidays": settings.holidays,
        "stores": settings.stores,
    }
    return sections[kind]


def _with_header(name: str, headers: Mapping[str, str]) -> str:
    """A column's name for messages: its header in the file first, if the settings map it."""
    return f"{headers[name]} (our {name})" if headers.get(name, name) != name else name
