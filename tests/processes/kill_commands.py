"""The commands that `tests.processes.kills` kills, their buckets, and what each of them reaches.

Each command is called as the command line calls it, without the start of Ray, and without its
clock: a command that is given again has the same `now`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kubernetes.config import kube_config

from ray_job import ingest
from ray_job.backtest.promotion import promote_model
from ray_job.bucket import keys, pointer, receipts, releases
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data.context.tables import open_context
from ray_job.data.histories import open_histories
from ray_job.data.parquet import read_table
from ray_job.execution.inline import InlineExecutor
from ray_job.ingest.checking import check_files
from ray_job.model import registry
from ray_job.model.train import train_model
from ray_job.nightly.demo import DemoSize, empty_directory, run_demo
from ray_job.nightly.run import run
from ray_job.operations import development_token
from ray_job.operations.clean_up import clean_up
from ray_job.operations.rollback import rollback
from ray_job.progress import SilentProgress
from ray_job.publishing.restore import restore_pointer
from ray_job.settings import Ingest, Plan, Training
from ray_job.submit import submit
from ray_job.submit.cluster import Cluster
from tests.k8s.support.submissions import FAST, NAMESPACE, NIGHT, NOW
from tests.processes.control_plane import control_plane, receipts_of_submissions
from tests.support.shop import DAY, LAST, SETTINGS, Shop, filled, midnight, sales_row, train

LATE = [sales_row("s002", LAST, 12345.0), sales_row("s011", LAST, 99.0)]
FEW_FILES = SETTINGS.model_copy(
    update={
        "ingest": Ingest(row_group_rows=200, compact_above_files=1),
        "plan": Plan(chunk_rows=900),
        "training": Training(rows=1000, trees=4, leaves=7, calibration_days=15),
    }
)
_OLD = 40 * 86_400
_SMALL_DEMO = DemoSize(stores=3, big_store_items=2, days=150, nights=1, trees=4, rows=1000)


@dataclass(frozen=True, slots=True)
class Place:
    """The bucket in the directory `root`, and what else a command may change: all in `folder`."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "bucket"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def storage(self) -> Storage:
        return open_bucket(str(self.root))


def _shop(place: Place) -> Shop:
    return Shop(place.storage, FEW_FILES)


def _deliver(place: Place, rows: list[dict[str, Any]] | None = None, **options: Any) -> None:
    """`ingest FILE` of a file that lies beside the bucket."""
    path = place.folder / "late.parquet"
    if not path.exists():
        pq.write_table(pa.Table.from_pylist(rows or LATE), path)
    ingest.ingest(place.storage, FEW_FILES, [path], now=midnight(LAST), **options)


def _deliver_stores(place: Place) -> None:
    """New columns, too: the table of the context gets another schema."""
    rows = [{"store_id": f"s{n:03d}", "region": "BE", "floor": float(n)} for n in range(1, 12)]
    _deliver(place, rows, kind="stores")


def _ingest_raw(place: Place) -> None:
    ingest.ingest(place.storage, FEW_FILES, now=midnight(LAST))


def _from_batch_data(place: Place) -> None:
    ingest.ingest(place.storage, FEW_FILES, from_batch_data=True, now=midnight(LAST))


def _compact(place: Place) -> None:
    for night in range(16):
        scope = ingest.CompactScope(LAST + night * DAY)
        ingest.compact(place.storage, FEW_FILES, scope, now=midnight(LAST))


def _run(place: Place) -> None:
    assert _shop(place).run(LAST).exit_code == 0


def _run_again(place: Place) -> None:
    """An hourly run of the same as-of, with late data."""
    _deliver(place)
    _run(place)


def _ingest_and_run(place: Place) -> None:
    """`run --ingest`, with compaction."""
    scope = ingest.CompactScope(LAST)
    ingest.ingest(place.storage, FEW_FILES, now=midnight(LAST), compact=scope, leave_out_bad=True)
    _run(place)


def _train(place: Place) -> None:
    train_model(
        place.storage, FEW_FILES, as_of=LAST, now=datetime.now(UTC), progress=SilentProgress()
    )


def _promote(place: Place) -> None:
    promote_model(
        place.storage,
        FEW_FILES,
        "second",
        days=28,
        force=True,
        now=midnight(LAST),
        progress=SilentProgress(),
    )


def _roll_back_to_the_oldest(place: Place) -> None:
    rollback(place.storage, pointer.read(place.storage)[0].history[-1].release)


def _restore_pointer(place: Place) -> None:
    restore_pointer(place.storage, FEW_FILES)


def _restore_an_older_release(place: Place) -> None:
    published = sorted(info.key for info in place.storage.list(keys.RELEASES))
    restore_pointer(place.storage, FEW_FILES, Path(published[0]).stem)


def _clean(place: Place) -> None:
    clean_up(place.storage, datetime.now(UTC))


def _demo(place: Place) -> None:
    empty_directory(str(place.root))

    def run_inline(storage: Storage, *given: Any, **options: Any) -> Any:
        return run(storage, *given, InlineExecutor(), **options)

    receipt = run_demo(
        place.storage,
        FEW_FILES,
        now=midnight(LAST),
        clock=lambda: 0.0,
        progress=SilentProgress(),
        on_step=lambda _: None,
        size=_SMALL_DEMO,
        run_last=run_inline,
    )
    assert receipt.exit_code == 0, receipt


def _check(place: Place) -> None:
    """It changes nothing but its working folder."""
    path = place.folder / "late.parquet"
    pq.write_table(pa.Table.from_pylist(LATE), path)
    check_files(FEW_FILES, [path], kind=None, now=midnight(LAST), progress=SilentProgress())


def _make_token(place: Place) -> None:
    development_token.open_key(place.root / "key")


def _submit(place: Place, **options: Any) -> None:
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = str(place.folder / "kubeconfig")
    code = submit(
        FEW_FILES, lambda: place.storage, as_of=NIGHT, adhoc=False, now=NOW, pace=FAST, **options
    )
    assert code == 0


def prepare(root: Path) -> None:
    """A bucket with two nights, a second model, late raw files, a foreign file, and orphans."""
    from tests.support.shop import objects  # noqa: PLC0415 - it is made once, in this fork

    storage = filled(root, objects())
    shop = Shop(storage, FEW_FILES)
    early = [LAST - back * DAY for back in range(101, 141)]  # without them nothing is trained
    shop.deliver([sales_row(f"s00{n}", day) for n in (2, 3) for day in early], name="early")
    for back in (2, 1):
        shop.run(LAST - back * DAY)
    shop.deliver([sales_row("s003", LAST, 55.0)])
    train(storage, "second", promote=False)
    (root / "raw_data/late.csv").write_text(
        f"store_id,date,sales,open,promo\ns004,{LAST},77,1,0\ns012,{LAST},5,1,0\n"
    )
    foreign = root / "batch_data/store_id=s005/part-0.parquet"
    pq.write_table(
        pa.table({"date": [LAST], "sales": [66.0], "open": [1.0], "promo": [0.0]}), foreign
    )
    orphan = root / f"results/parts/as_of={LAST}/{'ab' * 16}-0.parquet"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x")
    age(root)


def age(root: Path) -> None:
    """Make every file and folder old, so that clean-up may delete it."""
    old = time.time() - _OLD
    for path in root.rglob("*"):
        os.utime(path, (old, old))


def _without_models(root: Path) -> None:
    shutil.rmtree(root / "models")


def _without_pointer(root: Path) -> None:
    (root / keys.POINTER).unlink()


def _of_an_earlier_demo(root: Path) -> None:
    (root / ".storecast-demo").touch()


def reached(place: Place) -> dict[str, Any]:
    """What the pointers and the tables reach, without what differs between equal runs."""
    storage = place.storage
    current, _ = pointer.read(storage)
    views = {}
    for as_of, name in {None: current.current, **current.dates}.items():
        entry = current.entry(name or "")
        if entry is None:
            continue
        shop = _shop(place)
        table = releases.load(storage, entry.release, entry.sha256).stores
        unlike = ["run_id", "generated_at", "parts", "attempt", "table_version"]
        views[str(as_of)] = (
            table.drop_columns(unlike).to_pylist(),
            shop.all_rows(entry.release).to_pylist(),
            receipts.read(storage, entry.as_of, entry.run_id).exit_code,
        )
    histories = open_histories(storage)
    rows = []
    for file in histories.files.to_pylist():
        table = read_table(storage, file["path"], file["bytes"])
        rows += [
            (
                file["store_id"],
                *(str(value) for name, value in row.items() if name != "delivered_at"),
            )
            for row in table.to_pylist()
        ]
    return {
        "views": views,
        "as_of": None if current.current_entry is None else current.current_entry.as_of,
        "bad": len(current.bad),
        "hold": current.hold_through,
        "scored": sorted(current.accuracy),
        "rows": sorted(rows),
        "newest": histories.newest_sales,
        "context": open_context(storage).descriptions,
        "models": [promotion.version for promotion in registry.history(storage)],
        "raw": sorted(info.key for info in storage.list(keys.RAW_DATA)),
    }


def _trained(place: Place) -> dict[str, Any]:
    """A model of each call has a version of its own, which begins with the as-of."""
    everything = reached(place)
    versions = everything.pop("models")
    loaded = registry.load(place.storage)
    return {**everything, "models": [version[:8] for version in versions], "bytes": loaded.model}


def _key(place: Place) -> list[str]:
    """Neither the key nor its public half is a half one, and nothing else is there."""
    key = development_token.open_key(place.root / "key")
    assert key.key_id in key.jwks.read_text()
    return sorted(path.name for path in (place.root / "key").iterdir())


def _submitted(place: Place) -> dict[str, Any]:
    """The RayJobs of the cluster, and the submissions that ran."""
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = str(place.folder / "kubeconfig")
    rayjobs = Cluster.open(NAMESPACE).all()
    return {
        "rayjobs": sorted(
            (resource["metadata"]["name"], resource["spec"].get("entrypoint"))
            for resource in rayjobs
        ),
        "receipts": receipts_of_submissions(place.storage),
    }


@contextmanager
def _cluster(place: Place) -> Iterator[None]:
    with control_plane(place.root, place.folder / "kubeconfig"):
        yield


@dataclass(frozen=True, slots=True)
class Command:
    """`call` is the command, `arrange` makes its bucket of the prepared one.

    `around` is what else has to be there: it is begun before the first call, and ended last.
    """

    call: Callable[[Place], object]
    arrange: Callable[[Path], object] = lambda _: None
    reached: Callable[[Place], object] = reached
    around: Callable[[Place], AbstractContextManager[None]] = lambda _: nullcontext()


COMMANDS: Mapping[str, Command] = {
    "ingest FILE": Command(_deliver),
    "ingest --replace FILE": Command(lambda place: _deliver(place, replace=True)),
    "ingest --kind stores FILE": Command(_deliver_stores),
    "ingest": Command(_ingest_raw),
    "ingest --from-batch-data": Command(_from_batch_data),
    "compaction": Command(_compact),
    "run": Command(_run),
    "ingest FILE; run": Command(_run_again),
    "run --ingest": Command(_ingest_and_run),
    "train": Command(_train, _without_models, _trained),
    "promote": Command(_promote),
    "rollback": Command(lambda place: rollback(place.storage)),
    "rollback RELEASE": Command(_roll_back_to_the_oldest),
    "restore-pointer": Command(_restore_pointer, _without_pointer),
    "restore-pointer RELEASE": Command(_restore_an_older_release, _without_pointer),
    "clean-up": Command(_clean),
    "demo": Command(_demo, _of_an_earlier_demo),
    "check FILE": Command(_check),
    "token": Command(_make_token, reached=_key),
    "submit": Command(
        lambda place: _submit(place, wait=False), around=_cluster, reached=_submitted
    ),
    "submit --wait": Command(
        lambda place: _submit(place, wait=True), around=_cluster, reached=_submitted
    ),
}
