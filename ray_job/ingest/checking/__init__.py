"""check: what an ingest of files would say, what looks odd in them, and settings that fit."""

from ray_job.ingest.checking.check import CheckReport, FileCheck, check_files

__all__ = ["CheckReport", "FileCheck", "check_files"]
