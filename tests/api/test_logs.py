"""The lines that the service writes."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timedelta

from api import logs
from tests.api.fixtures.bucket import Bucket, StoreSpec
from tests.api.fixtures.serving import serve


def line_of(**attributes):
    """The line of a log record with these attributes, and the line as an object."""
    record = logging.makeLogRecord({"name": "api.example", **attributes})
    line = logs.message_formatter().format(record)
    return line, json.loads(line)


def test_a_message_is_one_json_object_with_the_fields_of_cloud_logging():
    line, message = line_of(
        levelname="INFO", msg="serving %s", args=("größe",), color_message="serving"
    )
    assert "größe" in line
    assert message.keys() == {"time", "severity", "logger", "message"}
    assert (message["severity"], message["logger"]) == ("INFO", "api.example")
    assert message["message"] == "serving größe"
    assert datetime.fromisoformat(message["time"]).utcoffset() == timedelta(0)


def test_an_error_has_its_traceback_in_the_same_line():
    try:
        int("no number")
    except ValueError:
        line, message = line_of(levelname="ERROR", msg="failed", exc_info=sys.exc_info())
    assert "\n" not in line
    assert message.keys() == {"time", "severity", "logger", "message", "exception"}
    assert message["severity"] == "ERROR"
    assert message["exception"].endswith("literal for int() with base 10: 'no number'")


def test_the_access_log_holds_neither_tokens_nor_queries(tmp_path, capfd):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path), access_log=True) as api:
        for _ in range(2):
            api.get(
                '/v1/stores/1/forecast?page_token="secret"', headers={"Authorization": "Bearer s3"}
            )
        api.get("/a%22%0ab")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/stores/{store_id}/forecast", 422),
        ("/v1/stores/{store_id}/forecast", 422),
        ("unmatched", 404),
    ]
    assert lines[2]["path"] == '/a"\nb'
    assert not any("secret" in str(line) or "s3" in str(line) for line in lines)
