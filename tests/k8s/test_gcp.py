"""setup and teardown: gcloud's parser accepts every command, and the rights are the least."""

import json
import re
import shlex
import shutil
import subprocess
from zoneinfo import ZoneInfo

import pytest
import yaml

from k8s.gcp import schedules
from tests.k8s.support.manifests import K8S, OVERLAYS, built, of_kind

GCP = K8S / "gcp"
SCRIPTS = ("setup", "teardown")


def dry_run(script):
    process = subprocess.run(
        [GCP / script, "--dry-run"], check=True, capture_output=True, text=True, timeout=60
    )
    assert process.stderr == ""
    return process.stdout


def commands(script, program="gcloud"):
    lines = dry_run(script).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_gcloud_s_parser_accepts_every_line(parse_gcloud, script):
    lines = commands(script)
    assert len(lines) > 40
    local = ["auth", "configure-docker"]
    for line, answer in zip(lines, parse_gcloud(lines), strict=True):
        if line[:2] == local:
            assert answer["code"] == 0, answer["output"]
            continue
        assert answer["code"] == 1, f"{shlex.join(line)}\n{answer['output']}"
        assert "active account" in answer["output"], answer["output"]


def test_the_parser_refuses_what_is_none(parse_gcloud):
    lines = [
        ["monitoring", "alert-policies", "create", "--policy-from-file=x"],
        ["storage", "buckets", "create", "gs://x", "--uniform"],
        ["container", "clusters", "create-auto", "x", "--enable-kuberay"],
    ]
    assert [answer["code"] for answer in parse_gcloud(lines)] == [2, 2, 2]


def test_no_collector_of_logs_is_put_into_ray_pods(parse_gcloud):
    """GKE's option adds a container to each; the level `restricted` does not let it in."""
    option = "--enable-ray-cluster-logging"
    (answer,) = parse_gcloud([["container", "clusters", "create-auto", "x", option]])
    assert answer["code"] == 1, "gcloud calls it otherwise now"
    its_name = re.compile("ray-?cluster-?logging", re.IGNORECASE)
    files = [path for path in K8S.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert GCP / "setup" in files
    assert [path for path in files if its_name.search(path.read_text())] == []


def test_a_dry_run_leaves_nothing_behind():
    before = sorted(GCP.rglob("*"))
    dry_run("setup")
    dry_run("teardown")
    assert sorted(GCP.rglob("*")) == before


@pytest.mark.parametrize(
    ("zone", "match"),
    [("Africa/Cairo", "so that night would not run"), ("Mars/Olympus", "is no time zone")],
)
def test_setup_makes_nothing_where_a_night_would_be_skipped(tmp_path, zone, match):
    settings = (GCP / "settings.env").read_text().replace("Europe/Berlin", zone)
    (tmp_path / "mine.env").write_text(settings)
    process = subprocess.run(
        [GCP / "setup", "--dry-run", "--settings", tmp_path / "mine.env"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert f"TIME_ZONE={zone}" in process.stderr
    assert match in process.stderr
    assert "gcloud" not in process.stdout


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu"])
def test_gke_maintains_the_cluster_by_day(zone):
    start, end = schedules.maintenance_window(ZoneInfo(zone))
    for month in (1, 7):
        local = start.replace(month=month).astimezone(ZoneInfo(zone))
        assert local.hour in {10, 11}
        assert (local + (end - start)).hour <= 17


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"OPERATOR": "operator"}, "it is addon"),
        ({"NETWORK": "shared"}, "NETWORK=shared needs its SUBNETWORK"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_first(tmp_path, changes, match):
    path = tmp_path / "mine.env"
    path.write_text((GCP / "settings.env").read_text())
    with path.open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in changes.items())
    process = subprocess.run(
        [GCP / "setup", "--dry-run", "--settings", path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert match in process.stderr
    assert "gcloud" not in process.stdout


def test_what_is_set_up_is_torn_down():
    def resource_groups(script, verbs):
        groups = set()
        for line in commands(script):
            arguments = [argument for argument in line if not argument.startswith("-")]
            at = next((place for place, verb in enumerate(arguments) if verb in verbs), None)
            if at is not None:
                groups.add(" ".join(arguments[:at]))
        return groups

    created = resource_groups("setup", {"create", "create-auto"})
    deleted = resource_groups("teardown", {"delete"})
    assert created - {"storage buckets"} <= deleted
    assert ["storage", "rm", "--recursive"] in [line[:3] for line in commands("teardown")]


def test_unknown_options_are_refused_and_help_is_given():
    for script in SCRIPTS:
        wrong = subprocess.run([GCP / script, "--now"], check=False, capture_output=True, text=True)
        assert wrong.returncode == 2
        assert "--now is no option" in wrong.stderr
        help_text = subprocess.run(
            [GCP / script, "--help"], check=True, capture_output=True, text=True
        )
        assert help_text.stdout.startswith(f"{script} [--dry-run]")


def grants():
    """(service account, role, prefixes, condition) of each command that grants a role."""
    for line in commands("setup"):
        if line[:3] != ["storage", "buckets", "add-iam-policy-binding"]:
            continue
        options = dict(word[2:].split("=", 1) for word in line if word.startswith("--"))
        service_account = options["member"].rpartition("/sa/")[2]
        condition = options["condition"]
        prefixes = set(re.findall(r'objects/([^"]*)"', condition))
        yield service_account, options["role"].rpartition(".")[2], prefixes, condition


def test_rights_are_the_least():
    granted = {(member, role): prefixes for member, role, prefixes, _ in grants()}
    members = {member for member, _ in granted}
    assert members == set(of_kind("prod", "ServiceAccount"))
    assert {role for _, role in granted} == {
        "legacyBucketReader",
        "objectViewer",
        "objectCreator",
        "objectUser",
    }
    for (member, role), prefixes in granted.items():
        assert prefixes or role == "legacyBucketReader", (member, role)
        assert all(prefixes)
    # Deleting and overwriting: only what changes in place, and the cleaner.
    deletes = {
        member: prefixes for (member, role), prefixes in granted.items() if role == "objectUser"
    }
    assert set(deletes) == {"storecast-job", "storecast-trainer", "storecast-cleaner"}
    assert deletes["storecast-trainer"] == {"models/current.json"}
    assert deletes["storecast-job"] == {
        "results/current.json",
        "packs/v1/index.json",
        "batch_data/_delta_log/",
        *(f"context/{kind}/_delta_log/" for kind in ("weather", "holidays", "stores")),
    }
    assert ("storecast-job", "objectViewer") in granted
    assert not any(
        prefix.startswith("raw_data") for prefix in granted["storecast-job", "objectCreator"]
    )
    assert not any(
        prefix.startswith("models") for prefix in granted["storecast-job", "objectCreator"]
    )
    assert granted["storecast-submitter", "objectViewer"] == {"results/receipts/"}
    assert granted["storecast-api", "objectViewer"] == {"results/", "access/"}
    assert ("storecast-api", "objectCreator") not in granted
    # Who may move the pointer.
    movers = {
        member
        for (member, role), prefixes in granted.items()
        if role == "objectUser"
        and any("results/current.json".startswith(prefix) for prefix in prefixes)
    }
    assert movers == {"storecast-job", "storecast-cleaner"}


def test_conditions_name_the_objects_of_the_bucket():
    for _, role, prefixes, condition in grants():
        if role != "legacyBucketReader":
            expression = condition.split("expression=", 1)[1]
            assert "," not in condition.replace(",expression=", ""), "gcloud would cut it there"
            assert expression.count("resource.name.startsWith(") == len(prefixes)
            assert expression.count(
                "projects/_/buckets/storecast-example-forecasts/objects/"
            ) == len(prefixes)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_live_overlay_has_images_by_digest_and_the_settings(overlay, tmp_path):
    built(overlay)  # skips without kubectl
    digest = "sha256:" + "b" * 64
    shutil.copytree(K8S, tmp_path / "k8s")
    live = tmp_path / "k8s" / "gcp" / "live"
    subprocess.run(
        [
            tmp_path / "k8s" / "gcp" / "overlay",
            overlay,
            live,
            f"registry/job@{digest}",
            f"registry/api@{digest}",
            "STORECAST_BUCKET=gs://other",
            "STORECAST_TIME_ZONE=Asia/Tokyo",
            "STORECAST_COUNTRY=JP",
            "STORECAST_DEADLINE=05:00",
            "/projects/1/global/backendServices/2",
        ],
        check=True,
    )
    manifests = subprocess.run(
        ["kubectl", "kustomize", live], check=True, capture_output=True, text=True
    ).stdout
    images = set(re.findall(r"image: (\S+)", manifests))
    assert images == {f"registry/job@{digest}", f"registry/api@{digest}"}
    resources = list(yaml.safe_load_all(manifests))
    zones = {
        resource["spec"]["timeZone"] for resource in resources if resource["kind"] == "CronJob"
    }
    assert zones == {"Asia/Tokyo"}
    maps = {
        resource["metadata"]["name"]: resource["data"]
        for resource in resources
        if resource["kind"] == "ConfigMap"
    }
    assert maps["storecast-settings"]["STORECAST_BUCKET"] == "gs://other"
    (api,) = (data for name, data in maps.items() if name.startswith("storecast-api"))
    assert json.loads(api["STORECAST_API_ISSUERS"])[0]["audience"].endswith("backendServices/2")
    assert api["STORECAST_API_BUCKET"] == "gs://other"


def test_the_scripts_are_clean():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    files = [str(GCP / name) for name in (*SCRIPTS, "apply", "overlay", "verify", "lib.sh")]
    checked = subprocess.run(
        ["shellcheck", "-x", "-P", str(GCP), *files], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
