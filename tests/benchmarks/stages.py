"""`python -m tests.benchmarks.stages BUCKET HORIZON [nopacks]`: what a chunk's time goes into.

All chunks of a run in one process, without Ray. Each stage has the processor time of its own
functions, without that of the stages that they call. The limit is the stages in `LIMIT`: to read
the bytes of packs, to decode them, and to predict on features that are ready.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

LIMIT = ("bytes of packs", "checksums and decompression", "decoding", "trees")
REST = "Python around it"
_STAGES = (
    ("ray_job.bucket.storage.directory:DirectoryStorage.read_range", "bytes of packs"),
    ("ray_job.bucket.storage.directory:DirectoryStorage.read", "files of stores"),
    ("ray_job.data.packs.reading:_Request.sections_of", "checksums and decompression"),
    ("ray_job.forecasting.store_reading:read_packed", "decoding"),
    ("ray_job.forecasting.store_reading:read_store", "files of stores"),
    ("ray_job.forecasting.chunk:read_histories", "which rows are used"),
    ("ray_job.data.history_block:encode", "block of a Dataset"),
    ("ray_job.data.history_block:decode", "block of a Dataset"),
    ("ray_job.forecasting.chunk:panels", "dense panel"),
    ("ray_job.forecasting.predict:summarise", "features of the as-of"),
    ("ray_job.forecasting.predict:features_for", "features of each target date"),
    ("ray_job.forecasting.predict:closed_weekdays", "closed weekdays, ended items"),
    ("ray_job.forecasting.predict:ended", "closed weekdays, ended items"),
    ("ray_job.model.model:Model.predict", "trees"),
    ("ray_job.model.model:Model.interval", "intervals"),
    ("ray_job.model.model:Model.scale", "intervals"),
    ("ray_job.forecasting.store_outcomes:StoreOutcomes.add", "outcomes of stores"),
    ("ray_job.forecasting.store_outcomes:StoreOutcomes.output", "outcomes of stores"),
    ("ray_job.bucket.parts:encode", "part: encoding"),
    ("ray_job.bucket.storage.directory:DirectoryStorage.create", "part: writing"),
)


@dataclass
class Stopwatch:
    """The processor time of each stage, without that of stages within it."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    running: list[str] = field(default_factory=list)
    last: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._charge()
        self.running.append(name)
        try:
            yield
        finally:
            self._charge()
            self.running.pop()

    def _charge(self) -> None:
        now = time.thread_time()
        if self.running:
            self.seconds[self.running[-1]] += now - self.last
        self.last = now

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                result = function(*args, **kwargs)
            return self._iterated(result, name) if isinstance(result, Iterator) else result

        return measured

    def _iterated(self, results: Iterator[Any], name: str) -> Iterator[Any]:
        while True:
            with self.stage(name):
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result


def main(bucket: str, horizon: int, form: str = "packs") -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray_job.bucket.storage import open_bucket  # noqa: PLC0415
    from ray_job.data import history_block  # noqa: PLC0415
    from ray_job.data.packs.index import NO_PACKS  # noqa: PLC0415
    from ray_job.forecasting import chunk  # noqa: PLC0415
    from ray_job.forecasting.task import Task  # noqa: PLC0415
    from ray_job.nightly import run  # noqa: PLC0415
    from ray_job.nightly.request import RunRequest  # noqa: PLC0415
    from tests.benchmarks.data import NOW, forget, measured  # noqa: PLC0415

    root = Path(bucket)
    plan = run.prepare(open_bucket(bucket), measured(root, horizon), RunRequest(), NOW)
    spec = plan.spec if form == "packs" else replace(plan.spec, packs=NO_PACKS)
    stores = sum(planned.chunk.n_stores for planned in plan.planned_chunks)
    watch = Stopwatch()
    for number in range(2):  # the first time is to warm up
        forget(root)
        if number:
            _time(watch)
        with watch.stage(REST):
            for planned in plan.planned_chunks:
                task = Task(planned.chunk)
                table = history_block.encode([chunk.read_chunk(task, spec)])
                (histories,) = history_block.decode(table)
                chunk.forecast_histories(task, spec, histories)
        if not number:
            watch.seconds.clear()
    stages = {name: round(taken / stores * 1e3, 4) for name, taken in watch.seconds.items()}
    figures = {
        "stores": stores,
        "ms_per_store": round(sum(stages.values()), 4),
        "limit": round(sum(stages.get(name, 0.0) for name in LIMIT), 4),
        "stages": dict(sorted(stages.items(), key=lambda stage: -stage[1])),
    }
    print(json.dumps(figures, indent=1))  # noqa: T201


def _time(watch: Stopwatch) -> None:
    for place, name in _STAGES:
        module, _, path = place.partition(":")
        *owners, last = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, last, watch.timed(getattr(owner, last), name))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
