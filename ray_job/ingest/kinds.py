"""What each kind of delivered file must hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.ingest.bad import bad_file
from ray_job.ingest.shapes import Column
from ray_job.settings import ColumnType, Delivery, Settings

SALES = "sales"
KINDS = (SALES, *keys.CONTEXT_KINDS)
_ADDED = ("delivered_at", "op")


@dataclass(frozen=True, slots=True)
class Kind:
    """`key` names the columns of which a file may hold each combination once.

    `types` fixes the types of columns that are no part of the key; `optional` are columns of the
    key that a file may leave out, read as empty text.
    """

    name: str
    key: tuple[str, ...]
    optional: tuple[str, ...]
    required: tuple[str, ...]
    types: Mapping[str, ColumnType]

    def check_header(self, columns: Sequence[Column], settings: Settings, name: str) -> None:
        """Raise BadFilesError where a required column is missing or a reserved name is used."""
        there = {column.name for column in columns}
        mapped = delivery_of(settings, self.name).columns
        for wanted in self.required:
            if wanted not in there:
                raise bad_file(name, f"the column {_called(wanted, mapped)} is missing")
        known_ahead = settings.sales.known_ahead
        if self.name == SALES and "sales" not in there and not there & set(known_ahead):
            raise bad_file(
                name,
                f"the column {_called('sales', mapped)} is missing, and so is every column"
                f" that is known ahead ({', '.join(known_ahead) or 'none is declared'})",
            )
        for column in columns:
            own = next((one for one in self.reserved if one == column.name.casefold()), None)
            if own is not None and column.name != own:
                raise bad_file(
                    name, f"the column {column.header} differs from {own} by capitals only"
                )
            if column.name in _ADDED:
                raise bad_file(name, f"the column {column.header} has a name that is reserved")

    @property
    def reserved(self) -> tuple[str, ...]:
        return (*self.key, *self.types, *_ADDED)

    def schema(self) -> pa.Schema:
        """The columns that the kind's table always has."""
        kinds = {"number": pa.float64(), "text": pa.string()}
        fields = [(name, pa.date32() if name == "date" else pa.string()) for name in self.key]
        fields += [(name, kinds[kind]) for name, kind in self.types.items()]
        fields.append(("delivered_at", pa.timestamp("us", "UTC")))
        if self.name == SALES:
            fields.append(("op", pa.string()))
        return pa.schema(fields)


_ALL = {
    kind.name: kind
    for kind in (
        Kind(
            SALES,
            ("store_id", "item_id", "date"),
            ("item_id",),
            ("store_id", "date"),
            {"sales": "number"},
        ),
        Kind("weather", ("region", "date"), (), ("region", "date"), {}),
        Kind(
            "holidays", ("region", "date"), (), ("region", "date", "holiday"), {"holiday": "text"}
        ),
        Kind("stores", ("store_id",), (), ("store_id", "region"), {"region": "text"}),
    )
}


def kind_of(name: str) -> Kind:
    """Raises InputError for a name that is none."""
    if name not in _ALL:
        raise InputError(f"{name!r} is not a kind of file: it is one of {', '.join(KINDS)}")
    return _ALL[name]


def delivery_of(settings: Settings, kind: str) -> Delivery:
    sections: dict[str, Delivery] = {
        SALES: settings.sales,
        "weather": settings.weather,
        "holidays": settings.holidays,
        "stores": settings.stores,
    }
    return sections[kind]


def _called(name: str, mapped: Mapping[str, str]) -> str:
    return f"{mapped[name]} (our {name})" if mapped.get(name, name) != name else name
