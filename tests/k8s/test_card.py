"""The documents of k8s/, the operations card first: every command on them could be given."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

from k8s.gcp.monitoring.policies import sections
from ray_job import settings
from ray_job.submit import rayjob
from tests.k8s.support.command_line import parse
from tests.k8s.support.manifests import K8S, ROOT, built, of_kind
from tests.k8s.support.pods import bytes_of, pods, ray_clusters

DOCUMENTS = {path.name: path.read_text() for path in sorted(K8S.glob("*.md"))}
CARD = DOCUMENTS["README.md"]
TASKS = DOCUMENTS["TASKS.md"]
COMMANDS = "\n".join(DOCUMENTS.values())

(BUCKET,) = re.findall(r"^export STORECAST_BUCKET=(\S+)$", CARD, flags=re.MULTILINE)


def cpus(quantity):
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def lines(program):
    text = COMMANDS.replace("$STORECAST_BUCKET", BUCKET).replace("$AS_OF", "2026-11-22")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    every = [line for block in blocks for line in block.splitlines()]
    # In a pipe, a substitution, or behind Ray's `--` a command begins in the middle of a line.
    commands = [
        re.split(r" [|#] |\)| &$", line[match.start(1) :])[0]
        for line in every
        for match in re.finditer(rf"(?:^|\$\(|-- )({program} )", line)
    ]
    return [shlex.split(line) for line in commands]


@pytest.mark.parametrize("command", lines("storecast"), ids=" ".join)
def test_storecast_s_commands_parse(command):
    parse(command)


def test_gcloud_s_commands_parse(parse_gcloud):
    commands = [command[1:] for command in lines("gcloud")]
    assert commands
    for command, answer in zip(commands, parse_gcloud(commands), strict=True):
        assert answer["code"] == 1, f"{command}: {answer['output']}"
        assert "active account" in answer["output"]


def test_kubectl_s_objects_exist():
    kinds = {
        "cronjob": "CronJob",
        "deployment": "Deployment",
        "raycluster": "RayCluster",
    }
    seen = 0
    for command in lines("kubectl"):
        text = " ".join(command)
        for kind, name in re.findall(r"(cronjob|deployment)/([\w-]+)", text):
            assert name in of_kind("prod", kinds[kind]), text
            seen += 1
        for name in re.findall(r"patch raycluster ([\w-]+)|service/([\w-]+)-head-svc", text):
            assert "".join(name) in of_kind("prod", "RayCluster"), text
            seen += 1
    assert seen >= 8


@pytest.mark.parametrize("command", lines("kubectl"), ids=" ".join)
def test_kubectl_s_own_parser_takes_its_commands(command, tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and it is what reads its commands")
    nowhere = ["--server=http://127.0.0.1:9", "--request-timeout=1s"]
    done = subprocess.run(
        [*command, *nowhere],
        cwd=tmp_path,
        env={"KUBECONFIG": str(tmp_path / "config"), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not re.search(r"unknown (flag|shorthand|command)|See '|required", done.stderr), (
        done.stderr
    )


def test_the_parser_refuses_what_is_none():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and it is what reads its commands")
    done = subprocess.run(
        ["kubectl", "get", "pods", "--choose=x"], check=False, capture_output=True, text=True
    )
    assert "unknown flag" in done.stderr


def test_what_kubectl_selects_is_there():
    made = {**rayjob.MANAGED_BY, "app.kubernetes.io/component": "run", "storecast/as-of": "$AS_OF"}
    labels = [*(pod.labels for pod in pods(built("prod"))), made]
    labels.append({"ray.io/cluster": "storecast-adhoc"})
    selectors = re.findall(r"--selector=(\S+)", COMMANDS)
    assert len(selectors) >= 6
    for selector in selectors:
        wanted = dict(pair.split("=") for pair in selector.split(","))
        assert any(wanted.items() <= there.items() for there in labels), selector


def test_the_fire_drill_changes_what_the_nightly_job_runs():
    (drill,) = re.findall(r"sed 's/(.+?)/(.+)/'", sections(TASKS)["fire-drill"])
    cron = of_kind("prod", "CronJob")["storecast-nightly"]
    template = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    before = json.dumps(template["containers"][0]["args"])
    after = json.loads(before.replace(*drill))
    assert after == ["storecast", "submit", "--wait", "--as-of", "2999-12-31"]
    parse(after)


def asked(resources):
    """vCPU and GiB that containers request."""
    requests = [item["requests"] for item in resources]
    memory = sum(bytes_of(item["memory"]) for item in requests) / 2**30
    return sum(cpus(item["cpu"]) for item in requests), memory


def test_the_cost_of_a_night_is_what_its_pods_ask_for():
    job = f"RayJob/{rayjob.TEMPLATE}"
    requests = {
        pod.owner: [container["resources"] for container in pod.containers]
        for pod in pods(built("prod"))
    }
    cluster = dict(ray_clusters(built("prod")))[job]
    cpu, memory = asked(
        [
            cluster["autoscalerOptions"]["resources"],
            *requests[f"{job}/head"],
            *requests[f"{job}/submitter"],
            *requests["CronJob/storecast-nightly"],
        ]
    )
    worker_cpu, worker_memory = asked(requests[f"{job}/on-demand"])
    assert asked(requests[f"{job}/spot"]) == (worker_cpu, worker_memory)
    assert f"{cpu:g} vCPU and {memory:g} GiB (head, autoscaler, the two submitters)" in TASKS
    assert f"{worker_cpu:g} vCPU and {worker_memory:g} GiB for each worker" in TASKS
    prices = settings.Prices()
    assert f"{prices.cpu_hour} USD per vCPU and hour, {prices.memory_gib_hour} per GiB" in TASKS
    hour = (cpu + worker_cpu) * prices.cpu_hour
    hour += (memory + worker_memory) * prices.memory_gib_hour
    assert f"costs {hour / 4:.2f} USD" in TASKS


def test_make_s_targets_and_our_scripts_exist():
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    )
    for command in lines("make"):
        assert set(command[1:]) <= targets
    for name in re.findall(r"^k8s/gcp/\w+", COMMANDS, flags=re.MULTILINE):
        assert (ROOT / name).exists()


def test_each_incident_begins_with_what_managers_see_and_how_long_it_can_wait():
    incidents = {title: text for title, text in sections(CARD).items() if title[:8] != "the-card"}
    assert len(incidents) == 9
    for title, text in incidents.items():
        paragraph = text.split("\n\n")[0]
        assert "**Managers see**" in paragraph, title
        assert re.search(r"wait|act when", paragraph), title
        assert paragraph.index("**Managers see**") < 150, title


@pytest.mark.parametrize(
    "asked",
    [
        "Model deployed",
        "Batch requests",
        "Results in a bucket",
        "Daily schedule",
        "Project and billing",
        "Enabling APIs",
        "raw_data",
        "Hive partitions",
        "Pipeline script",
        "/results/{store_id}",
        "Cloud Scheduler",
        "Alerts",
        "| Project",
        "| Bucket",
        "| Model |",
        "| Service",
        "| Image",
        "| Logs",
        "| Billing",
        "What if the model fails?",
        "very big store",
        "new data come in",
        "not working",
        "`gcloud monitoring alert-policies create` does not exist",
        "`FileResponse` cannot take a `gs://` path",
    ],
)
def test_what_was_asked_is_answered(asked):
    assert asked in DOCUMENTS["REQUIREMENTS.md"]


def test_the_documents_count_the_alerts_right():
    alerts = list((K8S / "gcp" / "monitoring" / "policies").glob("*.json"))
    assert f"and {len(alerts) - 3} more" in DOCUMENTS["REQUIREMENTS.md"]
