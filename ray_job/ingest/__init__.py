"""ingest: raw files → histories and context. Each raw file once, each ingest one commit."""

from ray_job.ingest.attempt import IngestReport, ingest

__all__ = ["IngestReport", "ingest"]
