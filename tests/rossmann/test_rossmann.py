"""From raw files to a run on real data: Kaggle's "Rossmann Store Sales".

The files are not part of the project. STORECAST_ROSSMANN names their folder; without it the test
searches for `data/rossmann` beside the folder of the checkout and one level below. The test's model
is small, to be quick. The accuracy of the default model is in the project's documents.
"""

import os
import time
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ray_job import ingest, settings
from ray_job.backtest import backtest
from ray_job.bucket import parts, receipts
from ray_job.bucket.storage import open_bucket
from ray_job.data.histories import open_histories
from ray_job.execution.inline import InlineExecutor
from ray_job.model import registry, training_data
from ray_job.model.model import load as load_model
from ray_job.model.train import train_model
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import run
from ray_job.progress import SilentProgress

FOLDER = Path(__file__).parent
NOW = datetime(2015, 8, 1, 0, 10, tzinfo=UTC)
LAST, AS_OF = date(2015, 7, 31), date(2015, 7, 30)


def data_folder():
    beside = FOLDER.parents[2]
    places = [beside / "data" / "rossmann", *beside.glob("*/data/rossmann")]
    if named := os.environ.get("STORECAST_ROSSMANN"):
        places = [Path(named)]
    return next((path for path in places if (path / "train.csv.gz").exists()), None)


DATA = data_folder()
pytestmark = pytest.mark.skipif(
    DATA is None, reason="there are no Rossmann files; STORECAST_ROSSMANN may name their folder"
)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The settings, with a small model."""
    bucket = str(tmp_path_factory.mktemp("rossmann"))
    loaded = settings.load(FOLDER / "settings.toml", bucket=bucket)
    small = loaded.training.model_copy(update={"rows": 60_000, "trees": 40})
    return loaded.model_copy(update={"training": small})


@pytest.fixture(scope="module")
def storage(chain):
    bucket = open_bucket(chain.bucket)
    deliveries = (
        ("sales", "train.csv.gz", 1_017_209),
        ("sales", "test.csv.gz", 41_088),
        ("weather", "weather.csv.gz", 15_840),
        ("stores", "store.csv", 1_115),
    )
    for kind, name, rows in deliveries:
        report = ingest.ingest(bucket, chain, [DATA / name], kind=kind, now=NOW)
        assert report.rows == rows
    train_model(bucket, chain, as_of=date(2015, 6, 19), now=NOW, progress=SilentProgress())
    return bucket


@pytest.fixture(scope="module")
def receipt(chain, storage):
    return run(
        storage,
        chain,
        RunRequest(as_of=AS_OF),
        InlineExecutor(),
        now=NOW,
        clock=time.monotonic,
        progress=SilentProgress(),
    )


def test_every_store_gets_a_forecast(storage, receipt):
    assert receipt.stores.expected == receipt.stores.ok + receipt.stores.closed == 1_115
    assert receipt == receipts.read(storage, AS_OF, receipt.run_id)
    histories = open_histories(storage)
    assert len(histories.store_ids) == 1_115
    assert pc.sum(histories.files["rows"]).as_py() == 1_017_209 + 41_088


def test_the_newest_sales_are_those_of_the_last_day_that_has_any(storage):
    assert open_histories(storage).newest_sales == LAST


def test_the_run_of_a_date_gives_exactly_what_the_backtest_gives_for_it(chain, storage, receipt):
    artifact = registry.load(storage)
    model = load_model(artifact.model, artifact.description, artifact.sha256)
    data = training_data.load(
        storage,
        chain,
        open_histories(storage),
        LAST,
        days=chain.lookback_days + chain.horizon + 1,
        known_ahead=model.description.inputs.known_ahead,
        categories=model.description.inputs.categories,
    )
    past = backtest(data.panel, LAST, LAST, data.context, model, chain).rows
    past = past.filter(pc.equal(past["as_of"], pa.scalar(AS_OF))).sort_by("store_id")
    made = pa.concat_tables(
        parts.read_rows(storage.read(chunk.part), chunk.part) for chunk in receipt.chunks
    )
    made = made.filter(pc.equal(made["days_ahead"], 1))
    made = made.filter(pc.is_in(made["store_id"], past["store_id"])).sort_by("store_id")
    assert made.num_rows == past.num_rows > 1_000
    for run_column, backtest_column in (("predicted_sales", "predicted"), ("lower_80", "lower")):
        np.testing.assert_array_equal(made[run_column].to_numpy(), past[backtest_column].to_numpy())
