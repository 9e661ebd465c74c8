"""Which attempt of a night is followed, which is made next, and whose drivers still run."""

from datetime import date

import pytest

from ray_job.submit import attempts

NIGHT = date(2026, 11, 22)
NAME = "storecast-20261122"
STATUSES = {
    "new": {},
    "running": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
    "retrying": {"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"},
    "succeeded": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"},
    "failed": {"jobDeploymentStatus": "Failed", "reason": "AppFailed"},
    "missed": {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"},
}


def night(states):
    """The attempts of a night from their states by number."""
    rayjobs = [
        {
            "metadata": {"name": NAME if number == 1 else f"{NAME}-{number}"},
            "status": STATUSES[state],
        }
        for number, state in states.items()
    ]
    return attempts.of_night(rayjobs, NIGHT)


def test_only_the_night_s_own_rayjobs_are_its_attempts():
    names = [
        NAME,
        f"{NAME}-2",
        f"{NAME}-10",
        "storecast-20261121",
        "storecast-adhoc-20261122-000005-x7k2",
        "storecast-template",
    ]
    rayjobs = [{"metadata": {"name": name}} for name in names]
    assert {
        number: resource["metadata"]["name"]
        for number, resource in attempts.of_night(rayjobs, NIGHT).items()
    } == {1: NAME, 2: f"{NAME}-2"}


@pytest.mark.parametrize(
    ("states", "force", "name"),
    [
        ({}, False, None),
        ({1: "new"}, False, NAME),
        ({1: "running"}, True, NAME),
        ({1: "retrying"}, False, NAME),
        ({1: "succeeded"}, False, NAME),
        ({1: "succeeded"}, True, None),
        ({1: "failed"}, False, None),
        ({1: "failed", 2: "running"}, False, f"{NAME}-2"),
        # The first was deleted by hand.
        ({2: "running"}, False, f"{NAME}-2"),
        ({1: "running", 2: "failed"}, False, NAME),
        ({1: "running", 2: "succeeded"}, False, NAME),
        # Refused, then forced: the forced one is the night's.
        ({1: "succeeded", 2: "succeeded"}, False, f"{NAME}-2"),
        ({1: "succeeded", 2: "failed"}, False, NAME),
        ({1: "missed", 2: "missed"}, False, None),
    ],
)
def test_the_newest_that_goes_on_or_has_succeeded_is_followed(states, force, name):
    resource = attempts.followed(night(states), force=force)
    assert (resource and resource["metadata"]["name"]) == name


@pytest.mark.parametrize(
    ("states", "number"),
    [({}, 1), ({1: "failed"}, 2), ({2: "failed"}, 3), ({1: "failed", 9: "failed"}, 10)],
)
def test_numbers_are_used_once(states, number):
    assert attempts.next_number(night(states)) == number


def test_deadlines_are_counted_by_name():
    assert attempts.missed_deadlines(night({1: "missed", 2: "failed", 3: "missed"})) == {
        NAME,
        f"{NAME}-3",
    }


@pytest.mark.parametrize(
    ("cluster", "labels", "phase", "states", "remains"),
    [
        (f"{NAME}-abcde", {}, "Running", {1: "missed"}, True),
        (f"{NAME}-abcde", {}, "Pending", {1: "missed"}, True),
        (f"{NAME}-2-abcde", {}, "Running", {1: "missed", 2: "failed"}, True),
        (f"{NAME}-abcde", {}, "Running", {}, True),
        (f"{NAME}-abcde", {}, "Failed", {1: "missed"}, False),
        (f"{NAME}-abcde", {"ray.io/node-type": "worker"}, "Running", {1: "missed"}, False),
        (f"{NAME}-abcde", {}, "Running", {1: "running"}, False),
        (f"{NAME}-2-abcde", {}, "Running", {1: "missed", 2: "new"}, False),
        ("storecast-20261121-abcde", {}, "Running", {}, False),
        ("storecast-adhoc-20261122-000005-x7k2-abcde", {}, "Running", {}, False),
    ],
)
def test_a_driver_remains_where_a_head_outlives_its_rayjob(cluster, labels, phase, states, remains):
    pod = {
        "metadata": {"labels": {"ray.io/cluster": cluster, "ray.io/node-type": "head", **labels}},
        "status": {"phase": phase},
    }
    other = {"metadata": {"name": "storecast-api-1"}, "status": {"phase": "Running"}}
    clusters = attempts.clusters_with_driver([pod, other], night(states), NIGHT)
    assert clusters == ([cluster] if remains else [])
