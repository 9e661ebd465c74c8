"""From an earlier version to this one and back again, with a night of each in between."""

from datetime import timedelta

import pytest

from ray_job.bucket import receipts
from ray_job.bucket.storage import open_bucket
from tests.cluster import images, inside, nightly_job, objects, previous, project
from tests.cluster.callers import Callers
from tests.cluster.conftest import fill
from tests.cluster.places import BUCKET
from tests.cluster.processes import wait_until
from tests.k8s.support.nights import YESTERDAY

PATH = "/v1/stores/s002/forecast"
NIGHTS = [YESTERDAY - timedelta(days=days) for days in (2, 1, 0)]


@pytest.fixture
def plain_shell():
    """The operator starts Ray in no login shell: there the earlier image's `ray` is not on PATH."""

    def set_login_shell(value):
        objects.call(
            "set", "env", "deployment/kuberay-operator", "--namespace=kuberay",
            f"ENABLE_LOGIN_SHELL={value}",
        )  # fmt: skip
        inside.wait_for_workload("kuberay", "deploy/kuberay-operator")

    set_login_shell("false")
    yield
    set_login_shell("true")


@pytest.fixture
def bucket_of_before(cluster_machines, set_up, plain_shell, storage_server):
    archives = previous.archives()
    if not archives:
        pytest.skip(f"there are no images of {previous.COMMIT}: make cluster-test builds them")
    for archive in archives:
        cluster_machines.import_image(archive)
    nightly_job.clean()
    fill(storage_server, previous.make_bucket())
    yield open_bucket(f"gs://{BUCKET}")
    nightly_job.clean()
    put_version("")


def put_version(suffix):
    """The manifests and images of a version, until its pods answer and no others."""
    k8s = {"k8s": previous.SOURCES / "k8s"} if suffix else {}
    folder = project.write_overlay(inside.overlay(), suffix=suffix, **k8s)
    applied = project.apply(folder)
    assert applied.returncode == 0, applied.stderr
    nightly_job.suspend_schedules()
    # An API without a release is not ready, so its rollout waits.
    image = images.name("api", suffix)
    wait_until(
        120,
        f"pods of {image}",
        lambda: image in {pod["spec"]["containers"][0]["image"] for pod in api_pods()},
        1,
    )


def api_pods():
    return objects.listed("pods", "app.kubernetes.io/component=api")


def publish(as_of, bucket):
    night = nightly_job.finish(nightly_job.start(f"night-{as_of:%d}", as_of=as_of))
    assert (night.condition, night.exit_codes) == ("Complete", [0]), night.log[-3000:]
    published = [receipt for receipt in receipts.of_night(bucket, as_of) if receipt.published]
    assert len(published) == 1


def test_an_upgrade_and_the_way_back_with_a_night_of_each(bucket_of_before, ask, timeline):
    def answers_as_of(as_of):
        def serves():
            answer = ask(PATH)
            return answer.status_code == 200 and answer.json()["as_of"] == str(as_of)

        wait_until(120, f"the API's answer as of {as_of}", serves, 1)

    before, new = previous.SUFFIX, ""
    put_version(before)
    publish(NIGHTS[0], bucket_of_before)
    answers_as_of(NIGHTS[0])
    timeline(f"{previous.COMMIT} has published {NIGHTS[0]}")
    for suffix, earlier, as_of in ((new, *NIGHTS[:2]), (before, *NIGHTS[1:])):
        name = previous.COMMIT if suffix else "this version"
        with Callers(PATH, pause=0.05) as callers:
            put_version(suffix)
            objects.wait_for_rollout()
        timeline(f"{name} answers for the release of the other one: {callers.figures()}")
        answers_as_of(earlier)
        publish(as_of, bucket_of_before)
        answers_as_of(as_of)
        timeline(f"{name} has published {as_of}")
        # On the way back it is this version's API that drains. A new process of the earlier one
        # answers its first callers with 503 until it has the issuer's keys.
        if suffix == before:
            assert [lost for lost in callers.lost if "sign-in-unavailable" not in lost] == []
