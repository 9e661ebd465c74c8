"""Builds the cluster's programs from Go modules, each once.

`tools/` has a go.mod and a go.sum for each of them: the versions, and the checksums of all code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.places import BIN, HERE

_KUBERNETES = "k8s.io/kubernetes/cmd"
_RAY_OPERATOR = "github.com/ray-project/kuberay/ray-operator"
_KUBE_ROUTER = "github.com/cloudnativelabs/kube-router/v2"
_GENERATED = {
    "etcd": """package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
""",
    "pause": """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
}
""",
}
"""Programs without a package of their own to build: the first calls etcd's module."""


@dataclass(frozen=True)
class Program:
    """`module` is a folder of tools/; `package` is what is built, None for a generated program."""

    name: str
    module: str
    package: str | None


PROGRAMS = (
    *(
        Program(name, "kubernetes", f"{_KUBERNETES}/{name}")
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        )
    ),
    Program("etcd", "etcd", None),
    Program("pause", "pause", None),
    Program("coredns", "coredns", "github.com/coredns/coredns"),
    Program("kube-router", "kube-router", f"{_KUBE_ROUTER}/cmd/kube-router"),
    Program("metrics-server", "metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    *(
        Program(path.name, path.name, _RAY_OPERATOR)
        for path in sorted((HERE / "tools").glob("kuberay-*"))
    ),
)  # fmt: skip


def missing() -> list[Program]:
    return [program for program in PROGRAMS if not (BIN / program.name).exists()]


def build() -> None:
    """Build what is missing: the first time in about a quarter of an hour, and with 4 GB."""
    BIN.mkdir(parents=True, exist_ok=True)
    for program in missing():
        sys.stderr.write(f"building {program.name}\n")
        _build(program)
    for program in PROGRAMS:
        if program.package == _RAY_OPERATOR:
            copy_definitions(program.name.removeprefix("kuberay-"))


def _build(program: Program) -> None:
    module = HERE / "tools" / program.module
    with tempfile.TemporaryDirectory() as folder:
        work_tree = Path(folder)
        if module.is_dir():
            for name in ("go.mod", "go.sum"):
                shutil.copyfile(module / name, work_tree / name)
        else:
            (work_tree / "go.mod").write_text("module storecast.example/cluster\n")
        if program.package is None:
            (work_tree / "main.go").write_text(_GENERATED[program.name])
        flags = f"-s -w {_kubernetes_version(module) if program.module == 'kubernetes' else ''}"
        _go(
            work_tree,
            "build",
            "-p=2",
            "-trimpath",
            f"-ldflags={flags}",
            f"-o={BIN / program.name}",
            program.package or ".",
        )


def _kubernetes_version(module: Path) -> str:
    """Linker flags with the version, which Kubernetes' own build takes from git."""
    for line in (module / "go.mod").read_text().splitlines():
        fields = line.replace("require", "").split()
        if fields[:1] == ["k8s.io/kubernetes"]:
            version = fields[1]
            major, minor, _ = version[1:].split(".")
            variable = "k8s.io/component-base/version.git"
            pairs = {"Version": version, "Major": major, "Minor": minor}
            return " ".join(f"-X {variable}{name}={value}" for name, value in pairs.items())
    raise ValueError(f"{module}/go.mod requires no k8s.io/kubernetes")


def copy_definitions(version: str) -> None:
    """KubeRay's custom resource definitions, from the module's own source, to `crds-VERSION`."""
    definitions = BIN / f"crds-{version}"
    if definitions.exists():
        return
    module = HERE / "tools" / f"kuberay-{version}"
    folder = _go(module, "list", "-m", "-f={{.Dir}}", _RAY_OPERATOR).strip()
    if not folder:
        _go(module, "mod", "download", _RAY_OPERATOR)
        folder = _go(module, "list", "-m", "-f={{.Dir}}", _RAY_OPERATOR).strip()
    BIN.mkdir(parents=True, exist_ok=True)
    shutil.copytree(Path(folder) / "config" / "crd" / "bases", definitions)


def _go(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(f"go {' '.join(arguments)}: {process.stderr[-2000:]}")
    return process.stdout
