"""verify: each check passes on good answers, and names what is wrong and the way out on others."""

import shlex
import subprocess

import pytest

from k8s.gcp.verification import cluster, project
from k8s.gcp.verification.__main__ import CHECKS, main, verdict
from k8s.gcp.verification.answers import UnansweredError
from tests.k8s.support import unsound_clusters, unsound_projects
from tests.k8s.support.manifests import K8S, of_kind
from tests.k8s.support.sound_project import (
    SETTINGS,
    SoundProject,
)
from tests.k8s.support.unsound_clusters import refuses


@pytest.fixture
def live():
    return SoundProject()


def test_good_answers_pass(live, capsys):
    assert main(live) == 0
    assert capsys.readouterr().out.endswith(f"{len(CHECKS)} pass, 0 fail, 0 open (not seen yet).\n")


def test_gcloud_s_parser_accepts_every_question(live, parse_gcloud):
    main(live)
    asked = [command[1:] for command in live.commands if command[0] == "gcloud"]
    unique = [list(line) for line in dict.fromkeys(tuple(line) for line in asked)]
    assert len(unique) >= 12
    for line, answer in zip(unique, parse_gcloud(unique), strict=True):
        assert answer["code"] == 1, f"{shlex.join(line)}\n{answer['output']}"


def test_every_call_of_the_cluster_names_its_context_and_the_pods_go(live):
    main(live)
    calls = [command for command in live.commands if command[0] == "kubectl"]
    assert all(f"--context={SETTINGS['CONTEXT']}" in call for call in calls)
    (deleted,) = [call for call in calls if "delete" in call]
    assert {"pod/verify-storecast-job", "pod/verify-storecast-submitter"} <= set(deleted)


CASES = [*unsound_projects.CASES, *unsound_clusters.CASES]


@pytest.mark.parametrize(("check", "change", "mark", "reason"), CASES)
def test_what_does_not_hold_is_named_with_the_way_out(live, check, change, mark, reason):
    change(live)
    result = verdict(live, check)
    assert (result.mark, reason in result.reason) == (mark, True), result


def test_every_check_fails_by_itself_where_nothing_answers(live, capsys):
    live.answers = {"": UnansweredError("gcloud: you have no account")}
    live.pages = {"": UnansweredError("no address")}
    live.addresses = set()
    live.admit = refuses
    assert main(live) == 1
    assert f"0 pass, {len(CHECKS)} fail" in capsys.readouterr().out


def test_every_check_of_the_list_has_a_case():
    assert {case[0] for case in CASES} == {check for _, check in CHECKS}


def test_the_quotas_are_those_of_the_manifests():
    spec = of_kind("prod", "RayJob")[cluster.TEMPLATE]["spec"]["rayClusterSpec"]
    (spot,) = [group for group in spec["workerGroupSpecs"] if group["groupName"] == "spot"]
    (container,) = spot["template"]["spec"]["containers"]
    processors = int(container["resources"]["requests"]["cpu"])
    assert spot["maxReplicas"] * processors == project.SPOT_CPUS


def test_the_script_hands_over_its_settings_and_names_its_checks():
    process = subprocess.run(
        [K8S / "gcp" / "verify", "--dry-run"], check=True, capture_output=True, text=True
    )
    assert process.stdout.splitlines() == [title for title, _ in CHECKS]
    script = (K8S / "gcp" / "verify").read_text()
    for name in SETTINGS:
        assert name in script
