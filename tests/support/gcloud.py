"""gcloud's own parser, for tests of commands that a document or a script names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


class GcloudParser:
    """Parses lists of arguments with gcloud's parser, in one process of its own Python."""

    def __init__(self, configuration: Path) -> None:
        gcloud = shutil.which("gcloud")
        if gcloud is None:
            pytest.skip("gcloud is not installed, and it is what reads its commands")
        self._root = Path(gcloud).resolve().parents[1]
        self._python = self._root / "platform" / "bundledpythonunix" / "bin" / "python3"
        if not (self._root / "lib" / "googlecloudsdk").is_dir() or not self._python.exists():
            pytest.skip(f"{self._root} is no Google Cloud SDK with a Python of its own")
        self._configuration = configuration

    def __call__(self, lines: list[Any]) -> list[dict[str, Any]]:
        """For each line gcloud's exit code and output; see `gcloud_parser.py`."""
        process = subprocess.run(
            [self._python, Path(__file__).with_name("gcloud_parser.py"), self._root],
            input=json.dumps(lines),
            env={
                **os.environ,
                "CLOUDSDK_CONFIG": str(self._configuration),
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            },
            check=True,
            capture_output=True,
            text=True,
            timeout=200,
        )
        answers: list[dict[str, Any]] = json.loads(process.stdout)
        return answers
