"""What KubeRay's operator refuses or changes, although the schema allows it."""

import re
from copy import deepcopy

import pytest

from ray_job.submit import rayjob
from tests.k8s.support.kuberay import RELEASES, problems
from tests.k8s.support.manifests import OVERLAYS, built, of_kind
from tests.k8s.support.pods import ray_clusters

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@every_overlay
def test_a_rayjob_runs_once_per_night_and_ends(overlay):
    (template,) = of_kind(overlay, "RayJob").values()
    spec = template["spec"]
    assert template["metadata"]["name"] == rayjob.TEMPLATE
    assert spec["suspend"] is True, "the template itself must never start"
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["backoffLimit"] == 1
    assert spec["submitterConfig"] == {"backoffLimit": 3}
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["shutdownAfterJobFinishes"] is True  # suspend and the TTL need it, too
    assert spec["ttlSecondsAfterFinished"] > 0
    assert "deletionStrategy" not in spec, "its rules exclude shutdownAfterJobFinishes"
    assert not any(name.startswith("entrypointNum") for name in spec), (
        "moves the driver off the head"
    )
    assert "entrypointResources" not in spec


@every_overlay
def test_the_submitter_waits_longer_than_the_operator_tries(overlay):
    spec = of_kind(overlay, "RayJob")[rayjob.TEMPLATE]["spec"]
    attempts = spec["backoffLimit"] + 1
    job = of_kind(overlay, "CronJob")["storecast-nightly"]["spec"]["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] > attempts * spec["activeDeadlineSeconds"]


@every_overlay
def test_names_are_short_enough(overlay):
    for kind, longest in (("RayJob", rayjob.LONGEST_NAME), ("RayCluster", 50)):
        for name in of_kind(overlay, kind):
            assert len(name) <= longest
            assert LABEL.fullmatch(name)


@every_overlay
def test_clusters_need_a_token_and_scale_with_the_second_autoscaler(overlay):
    for owner, cluster in ray_clusters(built(overlay)):
        assert cluster["authOptions"] == {"mode": "token"}, owner
        assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0), owner
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["autoscalerOptions"]["resources"]["requests"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for group in groups:
            assert "labels" not in group["rayStartParams"]
            assert not (len(group["rayStartParams"]) and group.get("resources"))
            assert group["template"]["spec"].get("restartPolicy", "Never") == "Never"
            assert "suspend" not in group
            environment = group["template"]["spec"]["containers"][0].get("env", [])
            names = {variable["name"] for variable in environment}
            assert not names & {"RAY_enable_autoscaler_v2", "RAY_REDIS_ADDRESS", "REDIS_PASSWORD"}
            labels = group["template"]["metadata"]["labels"]
            assert "app.kubernetes.io/name" not in labels, (
                "the head's Service selects KubeRay's own"
            )


@every_overlay
def test_accounts_of_heads_exist_and_have_no_rights_of_their_own(overlay):
    """KubeRay binds the account that a head names to a Role of the cluster's name."""
    heads = {
        cluster["headGroupSpec"]["template"]["spec"]["serviceAccountName"]
        for _, cluster in ray_clusters(built(overlay))
    }
    assert heads <= set(of_kind(overlay, "ServiceAccount"))
    bound = {
        subject["name"]
        for binding in of_kind(overlay, "RoleBinding").values()
        for subject in binding["subjects"]
    }
    assert not heads & bound


@every_overlay
def test_the_nightly_head_is_safe_and_does_no_work(overlay):
    head = of_kind(overlay, "RayJob")[rayjob.TEMPLATE]["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    pod = head["template"]
    evict = pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"]
    assert evict == "false"
    assert "nodeSelector" not in pod["spec"]
    assert "tolerations" not in pod["spec"], "Autopilot taints Spot nodes, so this is on demand"


@every_overlay
def test_workers_are_spot_with_one_on_demand(overlay):
    spec = of_kind(overlay, "RayJob")[rayjob.TEMPLATE]["spec"]
    groups = {group["groupName"]: group for group in spec["rayClusterSpec"]["workerGroupSpecs"]}
    assert set(groups) == {"on-demand", "spot"}
    assert groups["on-demand"]["minReplicas"] == 1
    assert "nodeSelector" not in groups["on-demand"]["template"]["spec"]
    assert groups["spot"]["minReplicas"] == 0
    assert groups["spot"]["maxReplicas"] >= 1
    spot = groups["spot"]["template"]["spec"]
    assert spot["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert spot["terminationGracePeriodSeconds"] <= 25


@pytest.mark.parametrize("release", RELEASES)
def test_groups_have_a_priority_from_1_7_on(release):
    """What decision 0046 says of KubeRay: with 1.5 and 1.6 the field would refuse the template."""
    template = deepcopy(of_kind("prod", "RayJob")[rayjob.TEMPLATE])
    assert problems(template, release) == []
    for group in template["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        group["priority"] = 1
    assert bool(problems(template, release)) == (release < "v1.7")
