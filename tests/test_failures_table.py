"""Each line of the failure tables names a test that exists, and each reason code has a line."""

import ast
import re
from pathlib import Path

import pytest

from ray_job.bucket.reasons import ReasonCode

ROOT = Path(__file__).parents[1]
JOB, CLUSTER = (
    (ROOT / folder / "FAILURES.md").read_text(encoding="utf-8") for folder in ("ray_job", "k8s")
)


def table_rows(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("|---", "| what"))]


@pytest.mark.parametrize(("table", "at_least"), [(JOB, 50), (CLUSTER, 13)])
def test_every_line_names_a_test(table, at_least):
    assert len(table_rows(table)) >= at_least
    for line in table_rows(table):
        assert re.search(r"`tests/[\w/]+\.py::\w+` \|$", line), line


@pytest.mark.parametrize("table", [JOB, CLUSTER])
def test_each_named_test_exists(table):
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        defined |= {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert name in defined, f"{path}::{name}"


def test_each_reason_code_has_a_line():
    """A line names the codes that its case ends with in brackets: `failed` (`corrupt`)."""
    groups = [
        group for line in table_rows(JOB) for group in re.findall(r"\(((?:`\w+`(?:, )?)+)\)", line)
    ]
    named = {code for group in groups for code in re.findall(r"`(\w+)`", group)}
    assert set(ReasonCode) - named == set()
