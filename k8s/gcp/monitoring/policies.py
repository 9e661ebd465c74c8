# ruff: noqa: INP001 - a script beside what it makes
"""Makes Cloud Monitoring's alerting policies: `python policies.py`.

rules.yaml has what lasts, as PromQL; log_matches.yaml what is one line of a log.

A policy's documentation is the text of the mail. It is the card's section that the alert names, so
that the mail has the commands.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
CARD = FOLDER.parents[1] / "README.md"
_SEVERITIES = {"critical": "CRITICAL", "warning": "WARNING"}


def sections(card: str) -> dict[str, str]:
    """The card's sections by their anchors, each from its heading to the next heading."""
    parts = re.split(r"^#+ (.+)\n", card, flags=re.MULTILINE)[1:]
    return {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(
            " ", "-"
        ): f"## {title}\n{text.rstrip()}\n"
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def policies(
    rules: dict[str, Any], log_matches: list[dict[str, Any]], card: str
) -> dict[str, dict[str, Any]]:
    """A policy of one condition for each alert, by the alert's name.

    setup finds a policy by its label `alert`, the name in lower case. Raises KeyError if the card
    lacks a section that an alert names.
    """
    runbook = sections(card)
    return {
        rule["alert"]: _lasting(rule, group["name"], runbook)
        for group in rules["groups"]
        for rule in group["rules"]
    } | {match["alert"]: _log_match(match, runbook) for match in log_matches}


def _lasting(rule: dict[str, Any], group: str, runbook: dict[str, str]) -> dict[str, Any]:
    annotations = rule["annotations"]
    minutes = int(rule.get("for", "0m").removesuffix("m"))
    condition = {
        "conditionPrometheusQueryLanguage": {
            "query": rule["expr"],
            "duration": f"{60 * minutes}s",
            "evaluationInterval": "30s",
            "labels": rule["labels"],
            "ruleGroup": group,
            "alertRule": rule["alert"],
            "disableMetricValidation": True,
        }
    }
    summary = _variables(annotations["summary"], "metric_or_resource.label")
    severity = rule["labels"]["severity"]
    policy = _policy(rule["alert"], severity, summary, annotations["runbook"], condition, runbook)
    return policy | {"alertStrategy": {"autoClose": "86400s"}}


def _log_match(match: dict[str, Any], runbook: dict[str, str]) -> dict[str, Any]:
    condition = {
        "conditionMatchedLog": {
            "filter": match["filter"],
            "labelExtractors": {
                label: f"EXTRACT({field})" for label, field in match["labels"].items()
            },
        }
    }
    summary = _variables(match["summary"], "log.extracted_label")
    name, severity = match["alert"], match["severity"]
    return _policy(name, severity, summary, match["runbook"], condition, runbook) | {
        "alertStrategy": {
            "autoClose": "86400s",
            "notificationRateLimit": {"period": f"{60 * match['minutes']}s"},
        }
    }


def _policy(
    name: str,
    severity: str,
    summary: str,
    anchor: str,
    condition: dict[str, Any],
    runbook: dict[str, str],
) -> dict[str, Any]:
    return {
        "displayName": f"Storecast {name}",
        "userLabels": {"app": "storecast", "alert": name.lower()},
        "severity": _SEVERITIES[severity],
        "documentation": {
            "mimeType": "text/markdown",
            "subject": f"Storecast: {summary}",
            "content": f"{summary} From k8s/README.md{anchor}:\n\n{runbook[anchor[1:]]}",
        },
        "combiner": "OR",
        "conditions": [{"displayName": name, **condition}],
    }


def _variables(text: str, source: str) -> str:
    """The text with its labels of the alert in Cloud Monitoring's notation."""
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", rf"${{{source}.\1}}", text)


def main() -> None:
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text(encoding="utf-8"))
    matches = yaml.safe_load((FOLDER / "log_matches.yaml").read_text(encoding="utf-8"))
    policy_of = policies(rules, matches, CARD.read_text(encoding="utf-8"))
    for old in FOLDER.glob("policies/*.json"):
        old.unlink()
    for name, policy in policy_of.items():
        path = FOLDER / "policies" / f"{name}.json"
        path.write_text(json.dumps(policy, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
