from datetime import UTC, datetime, timedelta

import jwt
import pytest

from ray_job.bucket.errors import InputError
from ray_job.operations import development_token
from tests.support.threads import at_once

NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)


def make(key, **changes):
    defaults = {"subject": "dev", "email": None, "audience": "storecast", "now": NOW}
    return key.token(**{**defaults, "lifetime": timedelta(hours=1), **changes})


def test_a_token_is_verified_by_the_public_key_beside_the_private_one(tmp_path):
    key = development_token.open_key(tmp_path)
    token = make(key, email="dev@example.com")
    public = jwt.PyJWKSet.from_json((tmp_path / "jwks.json").read_text())[key.key_id]
    claims = jwt.decode(
        token,
        public,
        algorithms=[development_token.ALGORITHM],
        audience="storecast",
        issuer=development_token.ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["sub"] == "dev"
    assert claims["email_verified"] is True
    assert claims["exp"] - claims["iat"] == 3600


def test_the_key_stays_the_same_and_is_private(tmp_path):
    first, second = development_token.open_key(tmp_path), development_token.open_key(tmp_path)
    assert first.key_id == second.key_id
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    assert "d" not in (tmp_path / "jwks.json").read_text().split('"')


def test_what_is_no_key_is_refused_by_name(tmp_path):
    (tmp_path / "key.pem").write_text("nonsense")
    with pytest.raises(InputError, match=r"key\.pem: this is not a private key"):
        development_token.open_key(tmp_path)


@pytest.mark.parametrize("half", [b"", b"-----BEGIN"])
def test_a_process_that_was_killed_leaves_no_half_key(tmp_path, half):
    """What it leaves has another name, and is overwritten."""
    (tmp_path / "key.pem.new").write_bytes(half)
    assert development_token.open_key(tmp_path).key_id
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "jwks.json", "key.pem"}


def test_processes_that_make_the_first_key_at_the_same_time_have_the_same(tmp_path):
    keys = at_once([lambda: development_token.open_key(tmp_path).key_id] * 8)
    assert len(set(keys)) == 1


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file.*: Not a directory|File exists"):
        development_token.open_key(tmp_path / "file")
