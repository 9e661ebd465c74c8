"""The page about one's own data: its settings load, and a valid id is encoded as it says."""

import re
from pathlib import Path

import duckdb
import pytest

from ray_job.ingest.reading.notation import encoded_id_sql
from ray_job.settings import load

PAGE = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
SUGGESTED = re.findall(r"--settings\):\n((?:  .*\n)+)", PAGE)


@pytest.mark.parametrize("text", [*BLOCKS, *SUGGESTED])
def test_settings_of_the_page_load(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    assert load(path).model_fields_set


def test_the_encoded_id_of_the_page():
    sql = encoded_id_sql("'Köln Mitte/2'")
    [(encoded,)] = duckdb.sql(f"SELECT {sql}").fetchall()
    assert f"`{encoded}`" in PAGE
