"""Settings: their sources, and the errors of wrong ones."""

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
    ("text", "named"),
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
def test_a_wrong_setting_is_named(tmp_path, text, named):
    with pytest.raises(SettingsError, match=named.replace(".", r"\.")):
        load(write(tmp_path, text))


def test_no_such_file(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match=f"{path}: No such file"):
            load(path)


def test_a_file_that_is_not_utf_8(tmp_path):
    path = tmp_path / "storecast.toml"
    path.write_bytes(b'bucket = "\xff"')
    with pytest.raises(SettingsError, match=r"storecast\.toml: .*utf-8"):
        load(path)


def test_the_error_of_a_variable_names_the_key(monkeypatch):
    monkeypatch.setenv("STORECAST_GATES__LATE_SHARE", "2")
    with pytest.raises(SettingsError, match=r"settings: gates\.late_share: "):
        load(None)


def test_they_are_frozen():
    with pytest.raises(ValidationError):
        Settings().horizon = 3
