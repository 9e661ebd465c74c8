"""docs/datasets.md runs as it stands, on a bucket like that of the demo."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import ray

from tests.support.shop import LAST

PAGE = Path(__file__).parents[1] / "docs" / "datasets.md"

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]


def test_the_examples_run_in_their_order(shop, capsys):
    shop.run(as_of=LAST - timedelta(days=1))
    shop.run()
    ray.data.DataContext.get_current().enable_progress_bars = False
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    code = "\n".join(blocks).replace('"data"', repr(shop.storage.url))
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})  # noqa: S102 - the page's own code
    printed = capsys.readouterr().out
    assert re.search(r"\d+ observations", printed)
    assert "predicted_sales" in printed
    assert re.search(r"off by \d+\.\d% of sales", printed)
