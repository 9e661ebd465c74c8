"""The documents: links, commands and modules exist; decisions are complete and in order."""

from __future__ import annotations

import importlib
import re
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from ray_job.__main__ import app

ROOT = Path(__file__).parents[1]
README_BYTES = 8_000
NOT_OURS = {"data", "node_modules"}
"""Folders with files that are generated or installed."""
CODE_FOLDERS = r"(?:ray_job|api|k8s|tests|docs|\.github)"


def documents() -> list[Path]:
    """Every Markdown file of the project, relative to its root."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    hidden = (path for path in paths if not path.parts[0].startswith("."))
    return sorted(path for path in hidden if not NOT_OURS & set(path.parts))


DOCUMENTS = documents()
DECISIONS = [path for path in DOCUMENTS if path.match("docs/decisions/[0-9]*.md")]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def code_lines(text: str) -> list[str]:
    """The lines of fenced blocks, without comments, and every inline code of the rest."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", without_blocks(text))


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@each_document
def test_relative_links_lead_to_files_and_anchors_that_exist(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text_of(document))):
        if re.match(r"(https?|mailto):", link):
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), link


@each_document
def test_files_of_the_project_that_are_named_exist(document):
    for name in re.findall(rf"`({CODE_FOLDERS}/[\w./-]+)(?:::\w+)?`", text_of(document)):
        assert (ROOT / name).exists(), name


@each_document
def test_targets_of_make_that_are_named_exist(document):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.MULTILINE))
    for line in code_lines(text_of(document)):
        for call in re.findall(r"(?:^|[$;&(] *|=\w+ )make ([a-z0-9 -]+)", line):
            assert set(call.split()) <= targets, line


@each_document
def test_commands_of_storecast_that_are_named_exist(document):
    commands = set(get_command(app).commands)
    for line in code_lines(text_of(document)):
        for command in re.findall(r"(?:^|[^\w./-])storecast ([a-z][a-z-]*)\b", line):
            assert command in commands, line


def test_a_wrong_link_command_or_anchor_would_be_noticed():
    assert anchors("# What a run does: 3 things\n```\n# no heading\n```\n") == {
        "what-a-run-does-3-things"
    }
    assert code_lines("Use `make demo`.\n```console\n$ storecast run  # make it\n```\n") == [
        "$ storecast run ",
        "make demo",
    ]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_the_architecture_names_modules_that_exist():
    names = set(re.findall(r"`((?:ray_job|api)(?:\.\w+)+)`", text_of(Path("docs/architecture.md"))))
    assert len(names) > 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # libraries', while they are imported
        for name in sorted(names):
            importlib.import_module(name)


def test_every_decision_is_listed_in_order_and_complete():
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", text_of(Path("docs/decisions/README.md")))
    assert listed == [path.name for path in DECISIONS]
    numbers = [name[:4] for name in listed]
    assert numbers == sorted(set(numbers))  # a number that was never used stays free
    for path in DECISIONS:
        text = text_of(path)
        assert text.startswith(f"# {path.name[:4]} "), path
        headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Figures", "Consequences"], path


def test_decisions_that_the_code_names_exist():
    numbers = {path.name[:4] for path in DECISIONS}
    sources = [ROOT / ".ci" / "run", ROOT / "Dockerfile"]
    for folder in ("ray_job", "api", "k8s", "tests"):
        sources += (ROOT / folder).rglob("*.py")
    for path in sources:
        for number in re.findall(r"\bdecision (\d{4})\b", path.read_text(encoding="utf-8")):
            assert number in numbers, f"{path}: {number}"


def test_the_changelog_has_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = re.findall(r"^## \[(\d[\w.]*)\]", text_of(Path("CHANGELOG.md")), flags=re.MULTILINE)
    assert versions[0] == project["version"]
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    assert [each["version"] for each in locked if each["name"] == "storecast"] == versions[:1]


def workflow(name: str) -> dict:
    path = ROOT / ".github" / "workflows" / name
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_ci_runs_what_a_change_must_pass():
    (job,) = workflow("ci.yml")["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert min(job["strategy"]["matrix"]["python"]) == "3.11"


def test_both_images_are_built_and_published_on_a_tag_with_their_origin():
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    jobs = workflow("images.yml")["jobs"]
    for job in jobs.values():
        assert job["strategy"]["matrix"]["target"] == ["job", "api"]
        assert set(job["strategy"]["matrix"]["target"]) <= stages
    (build,) = (step["with"] for step in jobs["publish"]["steps"] if "sbom" in step.get("with", {}))
    assert (build["push"], build["sbom"], build["provenance"]) == (True, True, "mode=max")
    assert "refs/tags/v" in jobs["publish"]["if"]


@pytest.mark.parametrize("name", ["ci.yml", "images.yml", "cluster.yml"])
def test_actions_are_pinned_to_commits(name):
    for job in workflow(name)["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40))


def test_the_cluster_s_tests_run_for_each_version_of_the_operator_that_is_built():
    document = workflow("cluster.yml")
    built = {path.name for path in (ROOT / "tests" / "cluster" / "tools").glob("kuberay-*")}
    assert document["jobs"].keys() == {"cluster", "kind"}
    for job in document["jobs"].values():
        assert {f"kuberay-{version}" for version in job["strategy"]["matrix"]["kuberay"]} == built
    # YAML reads the word `on` as true.
    targets = document[True]["workflow_dispatch"]["inputs"]["target"]["options"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\ncluster-{target}:" in makefile for target in targets)
    steps = document["jobs"]["cluster"]["steps"]
    (install,) = (step["run"] for step in steps if "apt-get" in step.get("run", ""))
    named = re.findall(
        r"apt-get install ([\w-]+)", (ROOT / "tests" / "cluster" / "namespaces.py").read_text()
    )
    assert set(named) - {"util-linux"} <= set(install.split())


def test_make_check_runs_before_a_commit():
    path = ROOT / ".pre-commit-config.yaml"
    (repository,) = yaml.safe_load(path.read_text(encoding="utf-8"))["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make check"]
