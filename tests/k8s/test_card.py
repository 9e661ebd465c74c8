"""The operations card and the requirements: every command on them could be given."""

import re
import shlex

import pytest

from tests.k8s.command_line import parse
from tests.k8s.manifests import K8S, ROOT, of_kind

CARD = (K8S / "README.md").read_text()
DOCUMENTS = {name: (K8S / name).read_text() for name in ("README.md", "REQUIREMENTS.md")}


def lines(program):
    blocks = re.findall(r"```sh\n(.*?)```", CARD, flags=re.DOTALL)
    every = [line for block in blocks for line in block.splitlines()]
    # In a pipe, a substitution, or behind Ray's `--` a command begins in the middle of a line.
    found = [
        re.split(r" [|#] |\)| &$", line[match.start(1) :])[0]
        for line in every
        for match in re.finditer(rf"(?:^|\$\(|-- )({program} )", line)
    ]
    return [shlex.split(line) for line in found]


@pytest.mark.parametrize("command", lines("storecast"), ids=" ".join)
def test_storecast_s_commands_parse(command):
    parse(command)


def test_gcloud_s_commands_parse(parsed):
    commands = [command[1:] for command in lines("gcloud")]
    assert commands
    for command, answer in zip(commands, parsed(commands), strict=True):
        assert answer["code"] == 1, f"{command}: {answer['said']}"
        assert "active account" in answer["said"]


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
        if "delete rayjob " in text:
            assert re.search(r"storecast-\d{8}$", text)
    assert seen >= 8


def test_make_s_targets_and_our_scripts_exist():
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    )
    for command in lines("make"):
        assert set(command[1:]) <= targets
    for name in re.findall(r"^k8s/gcp/\w+", CARD, flags=re.MULTILINE):
        assert (ROOT / name).exists()


def test_links_lead_somewhere_and_tests_that_are_named_exist():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "k8s").glob("*.py"))
    for text in DOCUMENTS.values():
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
            assert (K8S / target).exists(), target
    for name in re.findall(r"`(?:test_submit\.py::)?(test_\w+?)(?:_…)?`", CARD):
        assert f"def {name}" in tests, name


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
