"""Why pods do not run: conditions, container states and events as Kubernetes writes them."""

import pytest

from ray_job.submit.pod_problems import problem

NAME = "storecast-20261122"
CLUSTER = f"{NAME}-abcde"


def rayjob(**status):
    metadata = {"name": NAME, "creationTimestamp": "2026-11-23T00:00:00Z"}
    return {"metadata": metadata, "status": {"rayClusterName": CLUSTER, **status}}


def pod(kind="head", *, phase="Pending", waiting=None, init=None, cluster=CLUSTER, **status):
    labels = {"job-name": NAME} if kind == "submitter" else {"ray.io/cluster": cluster}
    if kind != "submitter":
        labels["ray.io/node-type"] = kind
    states = {
        "containerStatuses": [{"state": {"waiting": waiting}}] if waiting else [],
        "initContainerStatuses": [{"state": {"waiting": init}}] if init else [],
    }
    return {
        "metadata": {"name": f"{cluster}-{kind}", "labels": labels},
        "status": {"phase": phase, **states, **status},
    }


def event(kind, name, reason, message, at="2026-11-23T00:01:00Z"):
    return {
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


CREATING = {"reason": "ContainerCreating"}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}
MOUNT = event("Pod", f"{CLUSTER}-head", "FailedMount", 'secret "missing" not found')


@pytest.mark.parametrize(
    ("pods", "events", "said"),
    [
        ([], [], None),
        ([pod(phase="Running")], [], None),
        ([pod(waiting=CREATING)], [], None),
        ([pod("worker", init={"reason": "PodInitializing"})], [], None),
        (
            [pod(waiting={"reason": "ErrImagePull", "message": "not\n  found"})],
            [],
            f"pod {CLUSTER}-head: ErrImagePull: not found",
        ),
        (
            [pod("worker", init={"reason": "ImagePullBackOff"})],
            [],
            f"pod {CLUSTER}-worker: ImagePullBackOff",
        ),
        (
            [pod(waiting={"reason": "CreateContainerConfigError", "message": "no secret"})],
            [],
            f"pod {CLUSTER}-head: CreateContainerConfigError: no secret",
        ),
        (
            [pod("submitter", waiting={"reason": "CrashLoopBackOff"})],
            [],
            f"pod {CLUSTER}-submitter: CrashLoopBackOff",
        ),
        (
            [pod(conditions=[UNSCHEDULABLE])],
            [],
            f"pod {CLUSTER}-head: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        ([pod(conditions=[{"type": "PodScheduled", "status": "True"}])], [], None),
        (
            [pod(waiting=CREATING)],
            [MOUNT],
            f'pod {CLUSTER}-head: FailedMount: secret "missing" not found',
        ),
        # It runs meanwhile, and the event is an old one.
        ([pod(phase="Running")], [MOUNT], None),
        (
            [pod(waiting=CREATING)],
            [event("Pod", f"{CLUSTER}-head", "FailedScheduling", "0/3 nodes are available")],
            None,
        ),
        (
            [pod(phase="Failed", reason="Evicted", message="The node was low on memory.")],
            [],
            f"pod {CLUSTER}-head: Evicted: The node was low on memory.",
        ),
        # The head's reason before a worker's, whatever their order.
        (
            [pod("worker", conditions=[UNSCHEDULABLE]), pod(waiting={"reason": "ErrImagePull"})],
            [],
            f"pod {CLUSTER}-head: ErrImagePull",
        ),
        # Pods of other nights do not count.
        ([pod(cluster="storecast-20261121-abcde", waiting={"reason": "ErrImagePull"})], [], None),
        (
            [],
            [
                event("RayCluster", CLUSTER, "FailedToCreate", "old", "2026-11-23T00:00:30Z"),
                event("RayCluster", CLUSTER, "FailedToCreate", "violates PodSecurity"),
                event("RayCluster", "storecast-20261121-x", "FailedToCreate", "another"),
            ],
            f"RayCluster {CLUSTER}: FailedToCreate: violates PodSecurity",
        ),
        # Of an earlier RayJob of this name.
        ([], [event("RayJob", NAME, "InvalidRayJobSpec", "old", "2026-11-22T23:59:59Z")], None),
        (
            [],
            [event("Job", NAME, "FailedCreate", "exceeded quota")],
            f"Job {NAME}: FailedCreate: exceeded quota",
        ),
    ],
)
def test_the_first_reason_is_said(pods, events, said):
    assert problem(rayjob(), pods, events) == said


def test_pods_that_cannot_be_created_are_said():
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreateHeadPod",
        "message": "forbidden: violates PodSecurity",
    }
    status = {"rayClusterStatus": {"conditions": [condition]}}
    said = f"RayCluster {CLUSTER}: FailedCreateHeadPod: forbidden: violates PodSecurity"
    assert problem(rayjob(**status), [], []) == said
    assert problem(rayjob(**status, jobStatus="RUNNING"), [], []) is None


def test_a_rayjob_that_the_operator_has_not_seen_has_no_problem():
    unseen = {"metadata": {"name": NAME}}
    assert problem(unseen, [pod(waiting={"reason": "ErrImagePull"})], []) is None


def test_a_long_message_is_cut():
    waiting = {"reason": "ErrImagePull", "message": "x" * 5000}
    assert len(problem(rayjob(), [pod(waiting=waiting)], [])) < 400
