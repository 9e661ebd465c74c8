# ruff: noqa: INP001 - a script beside what it makes
"""Makes Cloud Monitoring's alerting policies from rules.yaml and the card: `python policies.py`.

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


def policies(rules: dict[str, Any], card: str) -> dict[str, dict[str, Any]]:
    """A policy of one PromQL condition for each alert, by the alert's name.

    setup finds a policy by its label `alert`, the name in lower case. Raises KeyError if the card
    lacks a section that an alert names.
    """
    runbook = sections(card)
    return {
        rule["alert"]: _policy(rule, group["name"], runbook)
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def _policy(rule: dict[str, Any], group: str, runbook: dict[str, str]) -> dict[str, Any]:
    name, anchor = rule["alert"], rule["annotations"]["runbook"]
    summary = _variables(rule["annotations"]["summary"])
    minutes = int(rule.get("for", "0m").removesuffix("m"))
    return {
        "displayName": f"Storecast {name}",
        "userLabels": {"app": "storecast", "alert": name.lower()},
        "severity": _SEVERITIES[rule["labels"]["severity"]],
        "documentation": {
            "mimeType": "text/markdown",
            "subject": f"Storecast: {summary}",
            "content": f"{summary} From k8s/README.md{anchor}:\n\n{runbook[anchor[1:]]}",
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


def _variables(text: str) -> str:
    """The text with its labels of the alert in Cloud Monitoring's notation."""
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"${metric_or_resource.label.\1}", text)


def main() -> None:
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text(encoding="utf-8"))
    policy_of = policies(rules, CARD.read_text(encoding="utf-8"))
    for old in FOLDER.glob("policies/*.json"):
        old.unlink()
    for name, policy in policy_of.items():
        path = FOLDER / "policies" / f"{name}.json"
        path.write_text(json.dumps(policy, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
