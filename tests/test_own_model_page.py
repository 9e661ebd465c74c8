"""The script of docs/own-model.md runs as it stands, on a bucket like that of the demo."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ray_job.model import model, registry

PAGE = Path(__file__).parents[1] / "docs" / "own-model.md"


def test_the_script_registers_a_model_that_can_be_loaded(shop):
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    code = script.replace('"data"', repr(shop.storage.url))
    exec(compile(code, str(PAGE), "exec"), {})  # noqa: S102 - the page's own code
    artifact = registry.load(shop.storage, "ours-1")
    loaded = model.load(artifact.model, artifact.description, artifact.sha256)
    features = np.zeros((3, len(loaded.description.features)), dtype=np.float32)
    assert loaded.predict(features).shape == (3,)
