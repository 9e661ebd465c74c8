"""Writing packs, as a by-product of writing partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import uuid4

import google_crc32c
import pyarrow as pa

from ray_job.bucket import keys
from ray_job.bucket.storage import Storage
from ray_job.data.packs.folding import PackedFile, PackSource, has_packed_form
from ray_job.data.packs.index import (
    HASHES,
    PackRecord,
    Section,
    change_index,
    file_name,
    store_hash,
    with_packs,
)
from ray_job.data.packs.merging import join_small_packs
from ray_job.data.packs.ranges import RANGE_ROWS, DaysOfRows, cut, ranges
from ray_job.data.packs.sections import encode_section

_SECTION_ROWS = 32_768
_SECTION_STORES = 512
_SECTION_GAP = HASHES // 64
"""Stores that lie further from each other share no section: who needs a store between them would
fetch it. Compaction writes stores of a sixteenth of all hashes, in many places."""
_BUFFER_ROWS = 1_000_000
_PACK_BYTES = 32 * 2**20


@dataclass(slots=True)
class PackWriter:
    """Collects stores and writes packs of them, which the index names only after `publish`.

    Whatever goes wrong with packs ends no ingest: nothing more is written then, and `failure` says
    why. The memory of a pack and of a million rows is needed.
    """

    storage: Storage
    range_rows: int = RANGE_ROWS
    failure: str | None = None
    written: list[PackRecord] = field(default_factory=list)
    _buffer: list[tuple[int, PackSource]] = field(default_factory=list)
    _buffered_rows: int = 0
    _open: _OpenPack | None = None
    _form: tuple[pa.Schema, bool] | None = None

    def add(self, source: PackSource) -> None:
        """Take a store's rows; those that cannot be packed are passed over."""
        if self.failure is not None or not self._takes_form(source.rows.schema):
            return
        try:
            self._add_all(cut(source, self.range_rows))
        except ValueError:
            return  # another order than ours; the store is read from its partition

    def add_large(
        self,
        store_id: str,
        file: PackedFile,
        tables: Callable[[], Iterable[pa.Table]],
    ) -> None:
        """Take the rows of a file of a store that is too large for memory.

        `tables` gives its rows, sorted by item, as often as it is called.
        """
        if self.failure is not None:
            return
        days = DaysOfRows()
        try:
            for table in tables():
                if not has_packed_form(table.schema):
                    return
                days.add(table)
            self._add_all(ranges(store_id, [file], tables(), days, self.range_rows))
        except (pa.ArrowException, OSError) as error:
            self.failure = _reason(error)
        except ValueError:
            return  # as in `add`

    def _takes_form(self, schema: pa.Schema) -> bool:
        """`has_packed_form`. The files of an ingest have one schema, and a hash takes longer."""
        if self._form is None or not schema.equals(self._form[0], check_metadata=False):
            self._form = (schema, has_packed_form(schema))
        return self._form[1]

    def _add_all(self, sources: Iterable[PackSource]) -> None:
        for source in sources:
            self._buffer.append((store_hash(source.store_id), source))
            self._buffered_rows += source.rows.num_rows
            if self._buffered_rows >= _BUFFER_ROWS:
                self._guarded_flush()

    def finish(self) -> None:
        """Write what is left."""
        self._guarded_flush(is_last=True)

    def publish(self) -> None:
        """Name the written packs in the index, once a commit has their files."""
        if self.failure is None and self.written:
            try:
                change_index(self.storage, lambda index: with_packs(index, tuple(self.written)))
                join_small_packs(self.storage)
            except Exception as error:  # noqa: BLE001 - packs end no ingest
                self.failure = _reason(error)

    def _guarded_flush(self, *, is_last: bool = False) -> None:
        if self.failure is not None:
            return
        try:
            self._flush()
            if is_last:
                self._close()
        except Exception as error:  # noqa: BLE001 - packs end no ingest
            self.failure = _reason(error)
            self._buffer, self._open = [], None

    def _flush(self) -> None:
        self._buffer.sort(key=lambda member: member[0])
        members: list[tuple[int, PackSource]] = []
        rows = 0
        for member in self._buffer:
            is_full = rows >= _SECTION_ROWS or len(members) >= _SECTION_STORES
            is_full |= any(source.part is not None for _, source in (member, *members[-1:]))
            if members and (is_full or member[0] - members[-1][0] > _SECTION_GAP):
                self._write_section(members)
                members, rows = [], 0
            members.append(member)
            rows += member[1].rows.num_rows
        if members:
            self._write_section(members)
        self._buffer, self._buffered_rows = [], 0

    def _write_section(self, members: list[tuple[int, PackSource]]) -> None:
        first, last = members[0][0], members[-1][0]
        if self._open is not None and not self._open.takes(first):
            self._close()
        if self._open is None:
            self._open = _OpenPack()
        self._open.append(first, last, [source for _, source in members])

    def _close(self) -> None:
        if self._open is not None and self._open.sections:
            self.written.append(self._open.write(self.storage))
        self._open = None


@dataclass(slots=True)
class _OpenPack:
    """A pack that is being filled."""

    name: str = field(default_factory=lambda: uuid4().hex)
    pieces: list[bytes] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    bytes: int = 0
    stores: int = 0
    rows: int = 0
    first_delivered: int = 2**63 - 1
    files: set[str] = field(default_factory=set)

    def takes(self, first_hash: int) -> bool:
        follows = not self.sections or first_hash >= self.sections[-1].last
        return follows and self.bytes < _PACK_BYTES

    def append(self, first: int, last: int, sources: list[PackSource]) -> None:
        metadata = {"pack": self.name, "section": str(len(self.sections))}
        encoded = encode_section(sources, metadata)
        if encoded is None:
            return
        data = encoded.data
        checksum = google_crc32c.value(data)
        part = sources[0].part
        items = None if part is None else (part.first, part.end)
        self.sections.append(Section(first, last, self.bytes, len(data), checksum, items))
        self.pieces.append(data)
        self.bytes += len(data)
        self.stores += encoded.stores
        self.rows += encoded.rows
        self.first_delivered = min(self.first_delivered, encoded.first_delivered)
        self.files.update(file_name(file.path) for source in sources for file in source.files)

    def write(self, storage: Storage) -> PackRecord:
        key = keys.pack(self.name)
        storage.write_unseen(key, b"".join(self.pieces))
        return PackRecord(
            key=key,
            sections=tuple(self.sections),
            stores=self.stores,
            rows=self.rows,
            bytes=self.bytes,
            first_delivered=self.first_delivered,
            files=tuple(sorted(self.files)),
        )


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
