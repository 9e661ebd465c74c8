"""The manifests, built by kustomize or read from a file."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
TEMPLATE = K8S / "base" / "job" / "rayjob.yaml"
OVERLAYS = tuple(sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml")))

Resource = dict[str, Any]


@cache
def built(overlay: str) -> tuple[Resource, ...]:
    """The resources of an overlay. Skips the test if kubectl is missing."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and it is what builds the overlays")
    build = subprocess.run(
        ["kubectl", "kustomize", str(K8S / "overlays" / overlay)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return tuple(resource for resource in yaml.safe_load_all(build.stdout) if resource)


def of_kind(overlay: str, kind: str) -> dict[str, Resource]:
    """The overlay's resources of a kind, by name."""
    return {
        resource["metadata"]["name"]: resource
        for resource in built(overlay)
        if resource["kind"] == kind
    }


def read(path: Path) -> list[Resource]:
    return [resource for resource in yaml.safe_load_all(path.read_text()) if resource]
