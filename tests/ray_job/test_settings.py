"""Settings: where they come from, and what is refused."""

import pytest
from pydantic import ValidationError

from ray_job.bucket.errors import SettingsError
from ray_job.settings import Settings, load


def write(tmp_path, text):
    path = tmp_path / "storecast.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults():
    settings = load(None)
    assert (settings.horizon, settings.time_zone) == (7, "UTC")
    assert settings.zone.key == "UTC"


def test_later_sources_win(tmp_path, monkeypatch):
    path = write(tmp_path, 'bucket = "file"\nhorizon = 3\n[plan]\nchunk_rows = 5\n')
    monkeypatch.setenv("STORECAST_HORIZON", "4")
    monkeypatch.setenv("STORECAST_PLAN__CHUNK_BYTES", "6")
    settings = load(path, bucket="flag")
    assert (settings.bucket, settings.horizon) == ("flag", 4)
    assert (settings.plan.chunk_rows, settings.plan.chunk_bytes) == (5, 6)
    assert load(path, bucket=None).bucket == "file"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("horizons = 7", "horizons"),
        ("[plan]\nrows = 1", "plan.rows"),
        ("horizon = 1", "horizon"),
        ("horizon = 15", "horizon"),
        ('time_zone = "Mars/Base"', "Mars/Base"),
        ('[sales]\nknown_ahead = ["sales"]', "known_ahead"),
        ("horizon =", "storecast.toml"),
        ("[gates]\nlate_share = 2", "gates.late_share"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, told):
    with pytest.raises(SettingsError, match=told.replace(".", r"\.")):
        load(write(tmp_path, text))


def test_no_such_file(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "none.toml")


def test_they_are_frozen():
    with pytest.raises(ValidationError):
        Settings().horizon = 3
