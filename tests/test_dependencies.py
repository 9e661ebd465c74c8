"""Whatever the code imports is declared in pyproject.toml, so that both images have it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COME_WITH = {
    "cryptography": "pyjwt",
    "urllib3": "kubernetes",
    "google-api-core": "google-cloud-storage",
    "google-auth": "google-cloud-storage",
    "google-crc32c": "google-cloud-storage",
    "requests": "google-cloud-storage",
    "starlette": "fastapi",
}
"""Distributions that another one is made of and always installs."""


def declared(extra: str) -> set[str]:
    """The distributions that an installation with this extra asks for."""
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    return {normalised(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def normalised(name: str) -> str:
    """A distribution's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folders: tuple[str, ...]) -> dict[str, str]:
    """For each top-level package of others that is imported, a file that imports it."""
    ours = set(sys.stdlib_module_names) | {"ray_job", "api"}
    return {
        package: str(path.relative_to(ROOT))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for package in packages(ast.parse(path.read_bytes()))
        if package.partition(".")[0] not in ours
    }


def packages(tree: ast.AST) -> Iterator[str]:
    """What is imported, with two parts of `google`, which many distributions share."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            yield ".".join(parts[:2]) if parts[0] == "google" else parts[0]


def candidates(package: str) -> set[str]:
    """The installed distributions that have this package."""
    if package.startswith("google."):
        return {
            "google.cloud": {"google-cloud-storage"},
            "google.api_core": {"google-api-core"},
            "google.auth": {"google-auth"},
        }[package]
    return {normalised(name) for name in packages_distributions().get(package, [package])}


@pytest.mark.parametrize(
    ("extra", "folders"), [("job", ("ray_job",)), ("api", ("api", "ray_job/bucket"))]
)
def test_imports_are_declared(extra, folders):
    known = declared(extra)
    known |= {part for part, whole in COME_WITH.items() if whole in known}
    missing = {
        package: path
        for package, path in imported(folders).items()
        if not candidates(package) & known
    }
    assert missing == {}
