"""The API behind its Service: a manager's identity, and a rolling update that loses no request."""

import threading
import time
from collections import Counter

import httpx

from tests.cluster import inside, nightly_job, objects, project
from tests.cluster.places import NAMESPACE
from tests.cluster.processes import wait_until

CALLERS = 4


class Callers:
    """Ask the Service without a pause until `stop`; half of them keep their connection."""

    def __init__(self, url, headers):
        self.seconds, self.lost = [], []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, headers, number % 2 == 0))
            for number in range(CALLERS)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url, headers, keep):
        more = {} if keep else {"connection": "close"}
        with httpx.Client(headers={**headers, **more}, timeout=30) as client:
            while not self._stopped.is_set():
                began = time.monotonic()
                try:
                    response = client.get(url)
                    if response.status_code != httpx.codes.OK:
                        self.lost.append(f"{response.status_code}: {response.text[:300]}")
                except httpx.HTTPError as error:
                    self.lost.append(f"{type(error).__name__} kept={keep}: {error}")
                self.seconds.append(time.monotonic() - began)


def ready_pods():
    return [
        pod
        for pod in objects.listed("pods", "app.kubernetes.io/component=api")
        if objects.is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]


def test_a_rolling_update_loses_no_request(clean_night, ask):
    night = nightly_job.finish(nightly_job.start())
    assert night.exit_codes == [0], night.log
    path = "/v1/stores/s002/forecast"
    wait_until(120, "an answer", lambda: ask(path).status_code == 200, 1)
    service = objects.get("service", "storecast-api")["spec"]["clusterIP"]
    headers = {"x-goog-iap-jwt-assertion": project.iap_token("manager@example.com", time.time())}
    with Callers(f"http://{service}{path}", headers) as callers:
        time.sleep(3)
        objects.call("rollout", "restart", "deployment/storecast-api", f"--namespace={NAMESPACE}")
        objects.call(
            "rollout",
            "status",
            "deployment/storecast-api",
            f"--namespace={NAMESPACE}",
            "--timeout=400s",
            timeout=420,
        )
        # The last of the old pods drains after the new ones are ready.
        wait_until(
            180,
            "the end of the old pods",
            lambda: (
                len(objects.names("pods", "app.kubernetes.io/component=api")) == len(ready_pods())
            ),
            1,
        )
    figures = {
        "requests": len(callers.seconds),
        "lost": dict(Counter(callers.lost)),
        "worst": f"{max(callers.seconds):.2f} s",
    }
    nightly_job.report("rolling update", [f"{name}: {value}" for name, value in figures.items()])
    assert callers.lost == []


def test_a_new_audience_is_the_only_way_in_after_the_next_set_up(set_up, ask):
    """The rollout of setup's second step: the API's settings are another ConfigMap."""
    old = {pod["metadata"]["name"] for pod in ready_pods()}
    again = project.apply(
        project.write_overlay(inside.overlay(), audience="/projects/1/global/backendServices/9")
    )
    assert again.returncode == 0, again.stderr
    wait_until(300, "new pods", lambda: ready_pods() and not old & objects.names("pods"), 2)
    assert project.apply(project.write_overlay(inside.overlay())).returncode == 0
