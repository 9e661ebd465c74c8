"""The context of the series: stores, weather, holidays and the calendar."""

from ray_job.data.context.context import HOLIDAY_REACH, Context, Flags, Ints

__all__ = ["HOLIDAY_REACH", "Context", "Flags", "Ints"]
