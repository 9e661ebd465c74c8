"""ingest: raw files → histories and context tables. Each raw file is read once.

`ingestion` is the use case, `attempt` one try of it. `reading/` has what happens to raw files,
`writing/` what happens to the tables. `compaction` joins small files of the histories, `packing`
packs those that have no pack.
"""

from ray_job.ingest.compaction import CompactScope, compact
from ray_job.ingest.ingest_report import IngestReport
from ray_job.ingest.ingestion import ingest
from ray_job.ingest.packing import PackingReport, pack_histories
from ray_job.ingest.reading.kinds import KINDS

__all__ = [
    "KINDS",
    "CompactScope",
    "IngestReport",
    "PackingReport",
    "compact",
    "ingest",
    "pack_histories",
]
