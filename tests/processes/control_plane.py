"""A fake control plane in a process of its own, with an operator that lets each RayJob succeed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from ray_job.bucket import receipts
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.submit import rayjob
from tests.fake_kubernetes.server import FakeKubernetes
from tests.k8s.support import kuberay
from tests.k8s.support.manifests import TEMPLATE
from tests.k8s.support.submissions import (
    NAMESPACE,
    NIGHT,
    RUNNING,
    SUCCEEDED,
    leave_receipt,
    rayjob_place,
    rayjobs,
)

_RELEASE = "v1.5.1"


@contextmanager
def control_plane(bucket: Path, kubeconfig: Path) -> Iterator[None]:
    """Serves from a fork, and writes the file with its address.

    Each RayJob runs for a moment, leaves a receipt in the bucket, and succeeds.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        try:
            _serve(bucket, kubeconfig, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as ready:
        ready.read()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _serve(bucket: Path, kubeconfig: Path, ready: int) -> None:
    fake = FakeKubernetes(lambda resource: kuberay.problems(resource, _RELEASE))
    template = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    fake.objects.create(rayjob_place(template["metadata"]["name"]), template)
    with fake.serve():
        threading.Thread(target=_operate, args=(fake, bucket), daemon=True).start()
        fake.write_kubeconfig(kubeconfig, NAMESPACE)
        os.close(ready)
        time.sleep(600)


def _operate(fake: FakeKubernetes, bucket: Path) -> None:
    ended: set[str] = {rayjob.TEMPLATE}
    while True:
        for name in rayjobs(fake) - ended:
            ended.add(name)
            fake.objects.set_status(rayjob_place(name), RUNNING)
            leave_receipt(open_bucket(str(bucket)), name)
            fake.objects.set_status(rayjob_place(name), SUCCEEDED)
        time.sleep(0.01)


def receipts_of_submissions(storage: Storage) -> list[str | None]:
    return [receipt.submission for receipt in receipts.of_night(storage, NIGHT)]
