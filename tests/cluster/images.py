"""The images of a cluster's nodes as archives: the project's and the cluster's own, by podman.

An archive's name ends with a digest of what the image is built from. Where it is there, nothing is
built.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shlex
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.places import BIN, CACHE, ROOT

ARCHIVES = CACHE / "archives"
_TARGETS = ("job", "api")


def name(target: str, suffix: str = "") -> str:
    """The name of a project's image. `suffix` is that of the tag."""
    return f"localhost/storecast-cluster:{target}{suffix}"


def build_project(sources: Path = ROOT, suffix: str = "") -> list[Path]:
    """Archives of the project's images job and api.

    BUILD_OPTIONS, as of `make image`: for example the certificates of a proxy.
    """
    options = shlex.split(os.environ.get("BUILD_OPTIONS", ""))
    digest = _digest(_context(sources))
    return [
        _build(
            name(target, suffix),
            digest,
            [*options, "--network=host", f"--target={target}", sources],
        )
        for target in _TARGETS
    ]


def of_project(sources: Path, suffix: str) -> list[Path]:
    """The archives that `build_project` would give, as far as they are there."""
    digest = _digest(_context(sources))
    paths = [_path(name(target, suffix), digest) for target in _TARGETS]
    return [path for path in paths if path.exists()]


def _context(sources: Path) -> Iterable[bytes]:
    """The files that the Dockerfile may copy, each with its path."""
    ignored = (sources / ".dockerignore").read_text().splitlines()
    copied = [sources / line[1:] for line in ignored if line.startswith("!")]
    for place in (sources / "Dockerfile", *copied):
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(sources)).encode()
                yield path.read_bytes()


def build_system(kuberay: str) -> list[Path]:
    """Archives of what holds a pod's namespaces, and of the cluster's own programs.

    These are DNS, KubeRay's operator of that version, and metrics-server.
    """
    programs = {
        "coredns": "coredns",
        f"kuberay-{kuberay}": "kuberay",
        "metrics-server": "metrics-server",
    }
    return [
        _build_from_programs("localhost/pause:1", {"pause": "pause"}, 'ENTRYPOINT ["/pause"]'),
        _build_from_programs("localhost/system:1", programs),
    ]


def _build_from_programs(image: str, programs: dict[str, str], end: str = "") -> Path:
    """`programs`: the names in the image of programs of the cache."""
    copies = [f"COPY {program} /{place}" for program, place in programs.items()]
    recipe = "\n".join(["FROM scratch", *copies, end])
    stats = [(BIN / program).stat() for program in programs]
    versions = [f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats]
    digest = _digest(line.encode() for line in (recipe, *versions))
    with tempfile.NamedTemporaryFile("w", suffix=".containerfile") as file:
        file.write(recipe)
        file.flush()
        return _build(image, digest, [f"--file={file.name}", BIN])


def _build(image: str, digest: str, arguments: list[object]) -> Path:
    """The image as a file."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    path = _path(image, digest)
    if path.exists():
        return path
    built = _podman("build", f"--tag={image}", *arguments)
    if built.returncode:
        raise RuntimeError(
            f"podman cannot build {image} (for the project's, `make image` shows it whole): "
            f"{(built.stdout + built.stderr)[-1500:]}"
        )
    for old in ARCHIVES.iterdir():
        if re.fullmatch(rf"{re.escape(_stem(image))}-[0-9a-f]{{16}}\.(tar|half)", old.name):
            old.unlink()
    half = path.with_suffix(".half")
    saved = _podman("save", f"--output={half}", image)
    if saved.returncode:
        raise RuntimeError(f"podman cannot save {image}: {saved.stderr[-500:]}")
    return half.rename(path)


def _path(image: str, digest: str) -> Path:
    return ARCHIVES / f"{_stem(image)}-{digest}.tar"


def _stem(image: str) -> str:
    return image.replace("/", "-").replace(":", "-")


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _podman(*arguments: object) -> subprocess.CompletedProcess[str]:
    """podman, with settings for a machine without systemd, unless others are given."""
    settings = CACHE / "containers.conf"
    if not settings.exists():
        kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        hard = {kind: min(resource.getrlimit(number)[1], 20000) for kind, number in kinds.items()}
        limits = [f"{kind}={limit}:{limit}" for kind, limit in hard.items() if limit > 0]
        settings.write_text(
            f'[containers]\ndefault_ulimits = {json.dumps(limits)}\nnetns = "host"\n[engine]\n'
            'cgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )
    return subprocess.run(
        ["podman", *map(str, arguments)],
        env={"CONTAINERS_CONF": str(settings), **os.environ},
        check=False,
        capture_output=True,
        text=True,
    )
