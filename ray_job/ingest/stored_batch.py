"""A batch whose files are all in raw_data: when they were delivered, and their manifest entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ray_job.data.manifest import Entry, PastIngests, delivery_times
from ray_job.ingest.reading.batch import RawBatch
from ray_job.ingest.reading.raw_files import RawFile


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch whose files are all in raw_data. `files` are the files by number.

    `repeated` are files that bring nothing new; they only become known. Their numbers follow.
    """

    batch: RawBatch
    files: Mapping[int, RawFile]
    repeated: Sequence[RawFile]

    @property
    def _all_files(self) -> dict[int, RawFile]:
        return {**self.files, **dict(enumerate(self.repeated, max(self.files, default=0) + 1))}

    def times(self, past: PastIngests, now: datetime) -> dict[int, int]:
        """The time of each file's delivery, in microseconds since 1970, by file number."""
        created = {file.key: file.stored.created for file in self._all_files.values()}
        by_key = delivery_times(created, past.delivered, now)
        return {number: by_key[file.key] for number, file in self._all_files.items()}

    def entries(self, times: Mapping[int, int]) -> list[Entry]:
        """The entries of the manifest."""
        return [
            Entry(
                key=file.key,
                generation=file.stored.generation,
                checksum=file.checksum,
                delivered=times[number],
                kind=file.kind,
                bytes=file.size,
                rows=self.batch.rows.get(number, 0),
                content=file.content,
            )
            for number, file in self._all_files.items()
        ]
