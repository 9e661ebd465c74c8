# ruff: noqa: INP001 - a script beside what it makes
"""Makes Cloud Monitoring's alerting policies from rules.yaml: `python policies.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CARD = "k8s/README.md"
_SEVERITIES = {"critical": "CRITICAL", "warning": "WARNING"}


def policies(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A policy of one PromQL condition for each alert, by the alert's name.

    setup finds a policy again by its label `alert`, the name in lower case.
    """
    return {
        rule["alert"]: _policy(rule, group["name"])
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def _policy(rule: dict[str, Any], group: str) -> dict[str, Any]:
    name, summary = rule["alert"], rule["annotations"]["summary"]
    minutes = int(rule.get("for", "0m").removesuffix("m"))
    return {
        "displayName": f"Storecast {name}",
        "userLabels": {"app": "storecast", "alert": name.lower()},
        "severity": _SEVERITIES[rule["labels"]["severity"]],
        "documentation": {
            "mimeType": "text/markdown",
            "subject": f"Storecast: {summary}",
            "content": f"{summary} What to do: {CARD}{rule['annotations']['runbook']}",
        },
        "combiner": "OR",
        "conditions": [
            {
                "displayName": name,
                "conditionPrometheusQueryLanguage": {
                    "query": rule["expr"],
                    "duration": f"{60 * minutes}s",
                    "evaluationInterval": "30s",
                    "labels": rule["labels"],
                    "ruleGroup": group,
                    "alertRule": name,
                    "disableMetricValidation": True,
                },
            }
        ],
        "alertStrategy": {"autoClose": "86400s"},
    }


def main() -> None:
    made = policies(yaml.safe_load((HERE / "rules.yaml").read_text(encoding="utf-8")))
    for old in HERE.glob("policies/*.json"):
        old.unlink()
    for name, policy in made.items():
        path = HERE / "policies" / f"{name}.json"
        path.write_text(json.dumps(policy, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
