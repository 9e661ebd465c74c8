"""Alerts: each fires and clears, and is the same in Prometheus's rules and in Cloud Monitoring."""

import json
import re
import shutil
import subprocess
import sys
from datetime import date
from itertools import pairwise
from typing import get_args

import pytest
import yaml

from k8s.gcp.monitoring import policies
from ray_job.bucket import receipts
from ray_job.events import emit
from ray_job.submit import rayjob
from ray_job.submit.outcome import QUIET_OUTCOMES
from tests.k8s.support import log_filter
from tests.k8s.support.manifests import K8S, ROOT, of_kind

CARD = (K8S / "README.md").read_text()
MONITORING = K8S / "gcp" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
TESTS = ROOT / "tests" / "k8s" / "monitoring" / "rules_test.yaml"
LOG_MATCHES = yaml.safe_load((MONITORING / "log_matches.yaml").read_text())
LASTING = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
RUNBOOKS = {name: rule["annotations"]["runbook"] for name, rule in LASTING.items()} | {
    match["alert"]: match["runbook"] for match in LOG_MATCHES
}
POLICIES = policies.policies(RULES, LOG_MATCHES, CARD)
LOG_METRICS = {
    path.stem: yaml.safe_load(path.read_text()) for path in (MONITORING / "metrics").glob("*.yaml")
}
EVENTS = {"run_finished", "submit_started", "submit_heartbeat", "submit_finished"}


@pytest.fixture
def promtool():
    if shutil.which("promtool") is None:
        pytest.skip(
            "promtool is not installed (Debian: prometheus), and it is what tests the rules"
        )

    def run(*arguments):
        return subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True)

    return run


def dashboard_queries():
    for tile in DASHBOARD["mosaicLayout"]["tiles"]:
        widget = tile["widget"]
        if "scorecard" in widget:
            yield widget["scorecard"]["timeSeriesQuery"]["prometheusQuery"]
        else:
            for data in widget["xyChart"]["dataSets"]:
                yield data["timeSeriesQuery"]["prometheusQuery"]


def all_queries():
    yield from (rule["expr"] for group in RULES["groups"] for rule in group["rules"])
    yield from dashboard_queries()


def test_promtool_accepts_the_rules_and_they_fire_and_clear(promtool):
    checked = promtool("check", "rules", str(MONITORING / "rules.yaml"))
    assert checked.returncode == 0, checked.stderr
    tested = promtool("test", "rules", str(TESTS))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_shown_to_fire_and_to_clear():
    fired: dict[str, list[tuple[str, bool]]] = {}
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            fired.setdefault(case["alertname"], []).append(
                (test["name"], bool(case.get("exp_alerts")))
            )
    assert set(fired) == set(LASTING)
    for alert, cases in fired.items():
        pairs = [
            (before[1], after[1]) for before, after in pairwise(cases) if before[0] == after[0]
        ]
        assert (True, False) in pairs, f"{alert} never clears"


def test_an_alert_that_would_not_fire_fails_the_test(promtool, tmp_path):
    broken = (
        (MONITORING / "rules.yaml")
        .read_text()
        .replace("past_deadline) > 0", "past_deadline) > 1e9")
    )
    (tmp_path / "rules.yaml").write_text(broken)
    tests = TESTS.read_text().replace(
        "../../../k8s/gcp/monitoring/rules.yaml", str(tmp_path / "rules.yaml")
    )
    (tmp_path / "test.yaml").write_text(tests)
    assert promtool("test", "rules", str(tmp_path / "test.yaml")).returncode != 0


def test_the_dashboard_s_queries_are_promql(promtool, tmp_path):
    recordings = [
        {"record": f"dashboard:{number}", "expr": query}
        for number, query in enumerate(dashboard_queries())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recordings}]}))
    checked = promtool("check", "rules", str(path))
    assert checked.returncode == 0, checked.stderr


def test_cloud_monitoring_s_policies_are_made_from_the_rules():
    committed = {
        path.stem: json.loads(path.read_text()) for path in (MONITORING / "policies").glob("*.json")
    }
    assert committed == POLICIES, "run k8s/gcp/monitoring/policies.py"
    assert set(POLICIES) == set(RUNBOOKS)
    for policy in POLICIES.values():
        (condition,) = policy["conditions"]
        if "conditionMatchedLog" in condition:
            seconds = int(policy["alertStrategy"]["notificationRateLimit"]["period"][:-1])
            assert 300 <= seconds <= 172800, "Cloud Monitoring takes 5 minutes to 2 days"
        else:
            query = condition["conditionPrometheusQueryLanguage"]
            assert int(query["duration"][:-1]) % 30 == 0, "Cloud Monitoring takes multiples of 30 s"


def test_google_s_messages_have_every_field_of_policies_metrics_and_dashboard(parse_gcloud):
    unknown = {**POLICIES["RunSlow"], "alertStrategies": {}}
    bodies = [("monitoring v3 AlertPolicy", body) for body in (*POLICIES.values(), unknown)]
    bodies += [("logging v2 LogMetric", body) for body in LOG_METRICS.values()]
    bodies.append(("monitoring v1 Dashboard", DASHBOARD))
    answers = parse_gcloud([{"message": name, "body": body} for name, body in bodies])
    refused = [answer["output"] for answer in answers if answer["code"]]
    assert len(refused) == 1, refused
    assert "alertStrategies" in refused[0]


def test_the_gauges_rules_are_in_the_policies_themselves():
    """No policy waits for a recording of Managed Prometheus, which may not be evaluated."""
    assert of_kind("prod", "Rules") == {}
    assert not any(re.search(r"\bstorecast:", query) for query in all_queries())


def test_the_metrics_that_are_asked_for_exist():
    api = "".join(path.read_text() for path in (ROOT / "api").rglob("*metrics.py"))
    for query in all_queries():
        for name in re.findall(r"storecast_api_([a-z_]+)", query):
            bare = re.sub(r"_(total|bucket)$", "", name)
            assert f'"{bare}"' in api or f'"storecast_api_{bare}"' in api, name
        for name in re.findall(r"user_(storecast_[a-z_]+)", query):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in LOG_METRICS, name


def test_log_metrics_count_events_of_containers_that_there_are():
    containers = {"ray-job-submitter"}
    for cron in of_kind("prod", "CronJob").values():
        template = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        containers |= {container["name"] for container in template["containers"]}
    for match in LOG_MATCHES:
        assert set(re.findall(r'event="(\w+)"', match["filter"])) <= EVENTS
        named = re.findall(r'container_name=(\([^)]*\)|"[^"]+")', match["filter"])
        assert set(re.findall(r'"([\w-]+)"', " ".join(named))) <= containers
    for name, metric in LOG_METRICS.items():
        assert metric["name"] == name
        assert set(re.findall(r'event="(\w+)"', metric["filter"])) <= EVENTS
        named = re.findall(r'container_name=(\([^)]*\)|"[^"]+")', metric["filter"])
        assert named
        assert set(re.findall(r'"([\w-]+)"', " ".join(named))) <= containers
        distribution = metric["metricDescriptor"]["valueType"] == "DISTRIBUTION"
        assert distribution == ("valueExtractor" in metric)
    assert 600 in LOG_METRICS["storecast_run_seconds"]["bucketOptions"]["explicitBuckets"]["bounds"]


def test_log_metrics_are_named_as_promql_names_them():
    for query in all_queries():
        for name in re.findall(r"logging[\w.]*[:/][\w/]+", query):
            bare = re.sub(r"_(bucket|sum|count)$", "", name.partition(":user_")[2])
            domain, path = f"logging.googleapis.com/user/{bare}".split("/", 1)
            mapped = f"{re.sub('[^a-z0-9_]', '_', domain)}:{re.sub('[^a-z0-9_]', '_', path)}"
            assert name.startswith(mapped), name


def test_labels_that_are_asked_for_are_extracted():
    for query in all_queries():
        for metric, selector in re.findall(
            r"user_(storecast_\w+?)(?:_bucket|_sum)?\{(.*?)\}", query
        ):
            extracted = set(LOG_METRICS[metric].get("labelExtractors", {}))
            selected = set(re.findall(r"(\w+)[!=]", selector)) - {"monitored_resource"}
            assert selected <= extracted, (metric, selected)
    for metric in LOG_METRICS.values():
        described = {label["key"] for label in metric["metricDescriptor"].get("labels", [])}
        assert described == set(metric.get("labelExtractors", {}))


def container_entry(container, **payload):
    """A line of a container's log, as GKE's agent stores it."""
    return {
        "logName": "projects/p/logs/stderr",
        "resource": {
            "type": "k8s_container",
            "labels": {"container_name": container, "namespace_name": "storecast"},
        },
        **payload,
    }


def event_entry(name, reason, kind="Job"):
    """An event of Kubernetes, as GKE's event exporter stores it."""
    involved = {"kind": kind, "namespace": "storecast", "name": name}
    return {
        "logName": "projects/p/logs/events",
        "resource": {"type": "k8s_cluster", "labels": {"cluster_name": "storecast"}},
        "jsonPayload": {"kind": "Event", "involvedObject": involved, "reason": reason},
    }


def emitted(capsys, name, **fields):
    emit(name, "ERROR", **fields)
    return json.loads(capsys.readouterr().err)


def alerts_of(entry):
    """The alerts that match the entry, each with its labels."""
    return {
        match["alert"]: {
            label: log_filter.field_of(entry, field)
            for label, field in match["labels"].items()
            if log_filter.field_of(entry, field) is not None
        }
        for match in LOG_MATCHES
        if log_filter.matches(match["filter"], entry)
    }


def test_every_outcome_of_a_submission_wakes_somebody_or_is_meant_not_to(capsys):
    """The outcomes of `submit`, the alert's condition and the card's explanations agree."""
    explained = set(re.findall(r"\b[a-z_]+\b", policies.sections(CARD)["failed"]))
    ends = {*get_args(rayjob.Reason), *get_args(receipts.Status), "unknown", "not_submitted"}
    patient = rayjob.TRANSIENT | {"unreachable"}
    for outcome in (ends | patient | QUIET_OUTCOMES) - {"succeeded"}:
        event = emitted(capsys, "submit_finished", as_of=date(2026, 11, 22), outcome=outcome)
        alerts = alerts_of(container_entry("submit", jsonPayload=event))
        if outcome in patient | QUIET_OUTCOMES:
            assert alerts == {}, outcome
        else:
            assert alerts == {"RunFailed": {"as_of": "2026-11-22", "outcome": outcome}}
        assert outcome in explained or outcome in QUIET_OUTCOMES, outcome
        elsewhere = container_entry("ray-job-submitter", jsonPayload=event)
        assert alerts_of(elsewhere) == {}, "KubeRay's submitter passes on what the driver prints"


HOURLY_JOB = "storecast-hourly-29402180"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            event_entry("storecast-nightly-29402160", "BackoffLimitExceeded"),
            {
                "NightGaveUp": {
                    "job": "storecast-nightly-29402160",
                    "reason": "BackoffLimitExceeded",
                }
            },
        ),
        (
            event_entry("storecast-nightly-29402160", "DeadlineExceeded"),
            {"NightGaveUp": {"job": "storecast-nightly-29402160", "reason": "DeadlineExceeded"}},
        ),
        # Its exit code is an outcome of `submit`.
        (event_entry("storecast-nightly-29402160", "PodFailurePolicy"), {}),
        (event_entry("storecast-nightly-29402160", "Completed"), {}),
        # KubeRay's Job of a night; its attempt is tried again.
        (event_entry("storecast-20261122", "BackoffLimitExceeded"), {}),
        (event_entry("storecast-nightly-29402160-abcde", "BackoffLimitExceeded", kind="Pod"), {}),
        (event_entry(HOURLY_JOB, "DeadlineExceeded"), {"JobFailed": {"job": HOURLY_JOB}}),
        (
            container_entry("training", textPayload="storecast: the model is worse"),
            {"JobFailed": {"container": "training"}},
        ),
        (
            container_entry("hourly", textPayload="Traceback (most recent call last):"),
            {"JobFailed": {"container": "hourly"}},
        ),
        (container_entry("hourly", textPayload="storecast: raw_data/a.csv: row 3: no date"), {}),
        (container_entry("submit", textPayload="storecast: no template"), {}),
        (container_entry("clean-up", textPayload="Deleted 3 objects."), {}),
    ],
)
def test_a_line_wakes_somebody_or_not(entry, expected):
    assert alerts_of(entry) == expected


@pytest.mark.parametrize(
    ("container", "fields", "expected"),
    [
        (
            "hourly",
            {"status": "refused"},
            {"RunFailed": {"as_of": "2026-11-22", "status": "refused"}},
        ),
        ("ray-job-submitter", {"status": "refused"}, {}),
        ("hourly", {"status": "unchanged"}, {}),
        (
            "hourly",
            {"status": "published_with_failures", "bad_deliveries": ["raw_data/a.csv: no date"]},
            {"BadDeliveries": {"as_of": "2026-11-22"}},
        ),
        (
            "ray-job-submitter",
            {"status": "published_with_failures", "bad_deliveries": ["raw_data/a.csv: no date"]},
            {"BadDeliveries": {"as_of": "2026-11-22"}},
        ),
        ("ray-job-submitter", {"status": "published", "bad_deliveries": []}, {}),
    ],
)
def test_a_run_s_event_wakes_somebody_or_not(capsys, container, fields, expected):
    event = emitted(capsys, "run_finished", as_of="2026-11-22", **fields)
    assert alerts_of(container_entry(container, jsonPayload=event)) == expected


def test_or_binds_closer_than_and():
    entry = {"a": "1", "b": "2"}
    assert not log_filter.matches("a=1 OR b=2 AND a=3", entry)
    assert log_filter.matches("a=1 AND b=3 OR b=2", entry)
    assert log_filter.matches("NOT c=1 a=(2 OR 1)", entry)
    with pytest.raises(ValueError, match="missing"):
        log_filter.matches("(a=1", entry)


def test_an_alert_s_mail_has_the_section_that_mends_it():
    runbook = policies.sections(CARD)
    labels = {f"log.extracted_label.{label}" for match in LOG_MATCHES for label in match["labels"]}
    for name, policy in POLICIES.items():
        section = runbook[RUNBOOKS[name][1:]]
        assert re.search(rf"^\*.*\b{name}\b.*\*", section, flags=re.MULTILINE), name
        assert "```sh\n" in section
        content = policy["documentation"]["content"]
        assert section in content
        assert len(content.encode()) < 8192, "Cloud Monitoring takes no more"
        assert len(policy["documentation"]["subject"]) < 255
        # What looks like a variable would be replaced.
        assert set(re.findall(r"\$\{([\w.]+)", content)) <= labels


def test_what_a_job_says_when_it_fails_is_counted():
    """JobFailed matches the command's last line, and Python's first line of a defect."""
    (pattern,) = re.findall(
        r'textPayload=~"(.+?)"',
        next(match["filter"] for match in LOG_MATCHES if match["alert"] == "JobFailed"),
    )
    process = subprocess.run(
        [sys.executable, "-m", "ray_job", "plan", "--bucket", "/nowhere"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert [line for line in process.stderr.splitlines() if re.search(pattern, line)]
    broken = subprocess.run(
        [sys.executable, "-c", "raise OSError"], check=False, capture_output=True, text=True
    )
    assert re.search(pattern, broken.stderr)
