"""Every kind of context that can be delivered is read by a run and has a section of settings."""

from __future__ import annotations

from dataclasses import fields

from ray_job.bucket import keys
from ray_job.data.context.tables import ContextTables
from ray_job.settings import Delivery, Settings


def test_every_kind_is_read():
    assert {field.name for field in fields(ContextTables)} == set(keys.CONTEXT_KINDS)


def test_every_kind_has_settings():
    for kind in keys.CONTEXT_KINDS:
        assert isinstance(getattr(Settings(), kind), Delivery), kind
