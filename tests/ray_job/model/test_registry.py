"""Registered models, and the current one."""

from datetime import UTC, datetime
from functools import partial

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError, InputError
from ray_job.model import registry
from tests.support.threads import at_once

NOW = datetime(2026, 3, 29, tzinfo=UTC)


def test_no_model(storage):
    assert registry.current(storage) is None
    with pytest.raises(InputError, match="there is no model yet"):
        registry.load(storage)
    with pytest.raises(InputError, match="^m1: no such model"):
        registry.promote(storage, "m1", NOW)


def test_a_version_is_taken_once(storage):
    registry.register(storage, "m1", b"model", b"{}")
    registry.register(storage, "m1", b"model", b"{}")
    with pytest.raises(ConflictError):
        registry.register(storage, "m1", b"other", b"{}")


def test_promotion(storage):
    for version in ("m1", "m2"):
        registry.register(storage, version, version.encode(), b"{}")
    first = registry.promote(storage, "m1", NOW)
    assert registry.current(storage) == first
    generation = storage.stat(keys.CURRENT_MODEL).generation
    assert registry.promote(storage, "m1", NOW) == first
    assert storage.stat(keys.CURRENT_MODEL).generation == generation
    registry.promote(storage, "m2", NOW)
    assert registry.load(storage).version == "m2"
    assert registry.load(storage, "m1").model == b"m1"
    assert registry.promote(storage, "m1", NOW).version == "m1"


def test_the_pointers_digest_counts(storage):
    registry.register(storage, "m1", b"model", b"{}")
    promoted = registry.promote(storage, "m1", NOW)
    current = storage.read_versioned(keys.model_artifact("m1"))
    storage.replace(keys.model_artifact("m1"), b"changed", current.generation)
    artifact = registry.load(storage)
    assert artifact.sha256 == promoted.sha256
    assert artifact.model == b"changed"


def test_racing_promotions(storage):
    for number in range(6):
        registry.register(storage, f"m{number}", b"%d" % number, b"{}")
    at_once([partial(registry.promote, storage, f"m{number}", NOW) for number in range(6)])
    record = registry.CurrentModel.from_bytes(storage.read(keys.CURRENT_MODEL), "k")
    assert sorted(promoted.version for promoted in record.history) == [
        f"m{number}" for number in range(6)
    ]


def test_a_version_that_was_promoted_before_keeps_its_bytes(local_storage):
    """Bytes that were changed since are refused; unpickling them would run them."""
    for version in ("a", "b"):
        registry.register(local_storage, version, version.encode(), b"{}")
        registry.promote(local_storage, version, datetime(2026, 3, 1, tzinfo=UTC))
    key = keys.model_artifact("a")
    local_storage.replace(key, b"other", local_storage.stat(key).generation)
    with pytest.raises(CorruptError, match=f"^{key}: the sha256"):
        registry.promote(local_storage, "a", datetime(2026, 3, 2, tzinfo=UTC))
    assert registry.current(local_storage).version == "b"


def test_a_version_without_its_description_is_not_promoted(local_storage):
    local_storage.create(keys.model_artifact("half"), b"x")
    with pytest.raises(InputError, match="half: no such model is registered"):
        registry.promote(local_storage, "half", datetime(2026, 3, 2, tzinfo=UTC))
    assert registry.current(local_storage) is None
