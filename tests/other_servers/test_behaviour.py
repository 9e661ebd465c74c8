"""The behaviour suite of the bucket, on servers that we did not write.

What a server cannot do is listed by the test's name, with the reason. Such a test has to fail
there: one that passes again fails the suite until its line is taken out.
"""

import inspect

import pytest

from tests.ray_job.bucket import test_storage

CANNOT = {
    "fake-gcs-server": {
        "test_read_if_changed": "it ignores ifGenerationNotMatch of a read",
        "test_delete_asks_for_the_generation": "it ignores ifGenerationMatch of a delete",
    },
    "storage-testbench": {},
}
BEHAVIOUR = {
    name: function
    for name, function in inspect.getmembers(test_storage, inspect.isfunction)
    if name.startswith("test_") and "storage" in inspect.signature(function).parameters
}


@pytest.fixture(autouse=True)
def known_limits(request, server):
    name, _ = server
    reason = CANNOT[name].get(request.node.originalname)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def test_the_whole_suite_is_here():
    assert len(BEHAVIOUR) >= 17
    assert {name for limits in CANNOT.values() for name in limits} <= set(BEHAVIOUR)


globals().update(BEHAVIOUR)
