"""ingest: raw files → histories and context. Each raw file once, each ingest one commit."""

from ray_job.ingest.attempt import IngestReport, ingest
from ray_job.ingest.compaction import CompactScope, compact

__all__ = ["CompactScope", "IngestReport", "compact", "ingest"]
