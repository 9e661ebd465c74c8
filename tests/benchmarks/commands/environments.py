"""The rivals' environments. mlforecast asks for an older pandas than ours, so each has its own.

Its packages are named at the top of the rival's script (PEP 723), and pinned in a lock file
beside it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_RIVALS = Path(__file__).parent / "rivals"
_ROOT = Path(__file__).parents[3]


def find_uv() -> str | None:
    """The program that makes environments, where `make` looks for it; None if there is none."""
    own = _ROOT / ".venv-uv" / "bin" / "uv"
    return shutil.which("uv") or (str(own) if own.exists() else None)


def rival_command(name: str) -> list[str]:
    """How to start a rival's script: with the interpreter of its environment, made if need be."""
    uv = find_uv()
    if uv is None:
        raise RuntimeError("uv is not installed")
    script = str(_RIVALS / f"{name}_night.py")
    subprocess.run(
        [uv, "sync", "--locked", "--compile-bytecode", "--quiet", "--script", script], check=True
    )
    interpreter = subprocess.run(
        [uv, "python", "find", "--script", script], check=True, capture_output=True, text=True
    )
    return [interpreter.stdout.strip(), script]
