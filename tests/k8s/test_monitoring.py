"""Alerts: each fires and clears, and is the same in Prometheus's rules and in Cloud Monitoring."""

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from typing import get_args

import pytest
import yaml

from k8s.gcp.monitoring import policies
from ray_job.bucket import receipts
from ray_job.submit import rayjob
from ray_job.submit.outcome import QUIET_OUTCOMES
from tests.k8s.support.manifests import K8S, ROOT, of_kind

CARD = (K8S / "README.md").read_text()
MONITORING = K8S / "gcp" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
TESTS = ROOT / "tests" / "k8s" / "monitoring" / "rules_test.yaml"
ALERTS = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
}
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
    assert set(fired) == set(ALERTS)
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
    expected = policies.policies(RULES, CARD)
    committed = {
        path.stem: json.loads(path.read_text()) for path in (MONITORING / "policies").glob("*.json")
    }
    assert committed == expected, "run k8s/gcp/monitoring/policies.py"
    assert set(expected) == set(ALERTS)
    for policy in expected.values():
        (condition,) = policy["conditions"]
        query = condition["conditionPrometheusQueryLanguage"]
        assert int(query["duration"][:-1]) % 30 == 0, "Cloud Monitoring takes multiples of 30 s"


def test_managed_prometheus_has_the_same_recordings():
    (rules,) = of_kind("prod", "Rules").values()
    recordings = [group for group in RULES["groups"] if group["name"] == "storecast-recordings"]
    assert rules["spec"]["groups"] == recordings


def test_the_metrics_that_are_asked_for_exist():
    api = (ROOT / "api" / "metrics.py").read_text()
    recorded = {
        rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
    }
    for query in all_queries():
        for name in re.findall(r"storecast_api_([a-z_]+)", query):
            bare = re.sub(r"_(total|bucket)$", "", name)
            assert f'"{bare}"' in api or f'"storecast_api_{bare}"' in api, name
        for name in re.findall(r"user_(storecast_[a-z_]+)", query):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in LOG_METRICS, name
        assert set(re.findall(r"\bstorecast:[a-z_]+", query)) <= recorded


def test_log_metrics_count_events_of_containers_that_there_are():
    containers = {"ray-job-submitter"}
    for cron in of_kind("prod", "CronJob").values():
        template = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        containers |= {container["name"] for container in template["containers"]}
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


def test_every_outcome_of_a_submission_wakes_somebody_or_is_meant_not_to():
    """The outcomes of `submit`, the alert's conditions and the card's explanations agree."""
    query = ALERTS["RunFailed"]["expr"]
    (not_at_once,) = set(re.findall(r'submissions\{[^}]*outcome!~"([^"]+)"', query))
    (if_repeated,) = re.findall(r'submissions\{[^}]*outcome=~"([^"]+)"', query)
    quiet, patient = set(not_at_once.split("|")), set(if_repeated.split("|"))
    assert patient == rayjob.TRANSIENT | {"unreachable"}
    assert quiet - patient == QUIET_OUTCOMES
    ends = {*get_args(rayjob.Reason), *get_args(receipts.Status), "unknown", "not_submitted"}
    waking = (ends - quiet - {"succeeded"}) | patient
    explained = set(re.findall(r"\b[a-z_]+\b", policies.sections(CARD)["failed"]))
    assert waking <= explained, waking - explained


def test_an_alert_s_mail_has_the_section_that_mends_it():
    runbook = policies.sections(CARD)
    for name, policy in policies.policies(RULES, CARD).items():
        section = runbook[ALERTS[name]["annotations"]["runbook"][1:]]
        assert re.search(rf"^\*.*\b{name}\b.*\*", section, flags=re.MULTILINE), name
        assert "```sh\n" in section
        content = policy["documentation"]["content"]
        assert section in content
        assert len(content.encode()) < 8192, "Cloud Monitoring takes no more"
        assert len(policy["documentation"]["subject"]) < 255
        # What looks like a variable would be replaced.
        assert set(re.findall(r"\$\{([\w.]+)", content)) <= {
            f"metric_or_resource.label.{label}" for label in ("as_of", "outcome", "container_name")
        }


def test_what_a_job_says_when_it_fails_is_counted():
    """The metric's pattern matches the command's last line, and Python's last line of a defect."""
    (pattern,) = re.findall(r'textPayload=~"(.+?)"', LOG_METRICS["storecast_job_errors"]["filter"])
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
