"""`storecast submit`: creates the RayJob of a night, or finds it, and waits for its receipt."""

from ray_job.submit.outcome import TERMINATED
from ray_job.submit.submission import submit

__all__ = ["TERMINATED", "submit"]
