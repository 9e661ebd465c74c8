"""Generated stores: raw data for the demo, the tests, the documents and the benchmarks.

`effects` has the series of each store, `generator` the raw tables, `files` the raw files.
"""

from ray_job.sample.generator import (
    SalesBlock,
    Sample,
    SampleSpec,
    generate,
    holidays,
    iter_blocks,
    iter_sales,
    stores,
    weather,
)

__all__ = [
    "SalesBlock",
    "Sample",
    "SampleSpec",
    "generate",
    "holidays",
    "iter_blocks",
    "iter_sales",
    "stores",
    "weather",
]
