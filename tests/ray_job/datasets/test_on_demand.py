"""Ray begins to start while a run reads its inputs, and only where there is something to do."""

from datetime import timedelta

import pytest
import ray

from ray_job.bucket.errors import InputError, RayUnavailableError
from ray_job.datasets import cluster
from ray_job.datasets.on_demand import RayOnDemand
from ray_job.nightly.prepare import RunRequest, prepare
from ray_job.nightly.run import run
from ray_job.progress import SilentProgress
from tests.support.shop import LAST, midnight

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("request_", "calls"),
    [
        (RunRequest(as_of=LAST), 0),
        (RunRequest(as_of=LAST, force=True), 1),
        (RunRequest(as_of=LAST - DAY), 1),
        (RunRequest(as_of="current"), 0),
    ],
)
def test_work_is_expected_where_nothing_is_published(shop, request_, calls):
    shop.run(LAST)
    expected = []
    prepare(
        shop.storage,
        shop.settings,
        request_,
        midnight(LAST),
        expect_work=lambda: expected.append(1),
    )
    assert len(expected) == calls


@pytest.mark.parametrize(
    "request_",
    [RunRequest(as_of=LAST + 9 * DAY), RunRequest(as_of=LAST, stores=["nowhere"])],
)
def test_a_wrong_request_expects_no_work(shop, request_):
    def fail():
        raise AssertionError("work was expected")

    with pytest.raises(InputError):
        prepare(shop.storage, shop.settings, request_, midnight(LAST), expect_work=fail)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_a_night_waits_for_the_ray_that_was_started(shop):
    with RayOnDemand() as executor:
        receipt = run(
            shop.storage,
            shop.settings,
            RunRequest(as_of=LAST),
            executor,
            now=midnight(LAST),
            clock=lambda: 0.0,
            progress=SilentProgress(),
            expect_work=executor.start,
        )
        executor.start()
    assert receipt.status == "published"
    assert ray.is_initialized(), "the Ray of somebody else was ended"


def test_what_the_start_raises_is_raised_by_the_first_task(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def unavailable():
        raise RayUnavailableError("a local Ray cannot be started: no space")

    monkeypatch.setattr(cluster, "cluster", unavailable)
    with RayOnDemand() as executor:
        executor.start()
        with pytest.raises(RayUnavailableError, match="no space"):
            next(executor.run([], None))


def test_a_start_that_fails_unseen_disturbs_nobody(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "cluster", lambda: 1 / 0)
    with RayOnDemand() as executor:
        executor.start()
