"""Settings from the environment."""

from __future__ import annotations

import pytest

from api.settings import ServiceSettings
from ray_job.bucket.errors import SettingsError


def test_settings_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("STORECAST_API_BUCKET", "gs://b")
    monkeypatch.setenv(
        "STORECAST_API_ISSUERS",
        '[{"issuer": "https://i", "jwks": "https://i/keys", "audience": "a"}]',
    )
    monkeypatch.setenv("STORECAST_API_HOST", "0.0.0.0")  # noqa: S104 - what is tested
    settings = ServiceSettings.load()
    assert settings.issuers[0].algorithms == ("RS256",)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HOST": "0.0.0.0"}, "sign-in is off"),  # noqa: S104
        ({"PORT": "x"}, "STORECAST_API_PORT"),
        ({"REFRESH_SECONDS": "60"}, "STORECAST_API_REFRESH_SECONDS"),
        (
            {
                "ISSUERS": '[{"issuer":"i","jwks":"https://i","audience":"a","algorithms":["HS256"]}]'
            },
            "algorithms",
        ),
        ({"ISSUERS": '[{"issuer":"i","jwks":"http://i.example","audience":"a"}]'}, "jwks"),
        ({"ISSUERS": "nonsense"}, "issuers"),
    ],
)
def test_invalid_settings_are_named(monkeypatch, variables, message):
    monkeypatch.setenv("STORECAST_API_BUCKET", "b")
    for name, value in variables.items():
        monkeypatch.setenv(f"STORECAST_API_{name}", value)
    with pytest.raises(SettingsError, match=message):
        ServiceSettings.load()
