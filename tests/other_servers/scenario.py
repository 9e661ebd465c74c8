"""The calls that the three clients make, and what of an answer they read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import deltalake
import pyarrow as pa
import pyarrow.fs
from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry

from tests.fake_gcs.clients import arrow_filesystem, delta_options, storage_client
from tests.other_servers.recorder import Exchange

BODY = bytes(range(256)) * 40
NO_RETRY: Retry | None = None
READ_HEADERS = (
    "content-range",
    "content-type",
    "location",
    "range",
    "x-goog-generation",
    "x-goog-hash",
    "x-goog-metageneration",
    "x-goog-stored-content-length",
)
"""Headers that at least one of the clients reads."""
READ_FIELDS = ("name", "bucket", "generation", "metageneration", "size", "crc32c", "md5Hash")
"""Fields of an object that at least one of the clients reads."""


def use_google_storage(url: str, bucket_name: str, folder: Path) -> None:
    with storage_client(url) as client:
        bucket = client.bucket(bucket_name)
        blob = bucket.blob("g/a.bin")
        blob.upload_from_string(BODY, if_generation_match=0, checksum="crc32c", retry=NO_RETRY)
        first = blob.generation
        _refused(blob.upload_from_string, b"x", if_generation_match=0, retry=NO_RETRY)
        blob.upload_from_string(b"two", if_generation_match=first, retry=NO_RETRY)
        _refused(blob.upload_from_string, b"x", if_generation_match=first, retry=NO_RETRY)
        blob.download_as_bytes(checksum="crc32c", retry=NO_RETRY)
        blob.download_as_bytes(start=1, end=1, checksum=None, retry=NO_RETRY)
        _refused(blob.download_as_bytes, if_generation_not_match=blob.generation, retry=NO_RETRY)
        _refused(blob.download_as_bytes, start=100, checksum=None, retry=NO_RETRY)
        blob.reload(retry=NO_RETRY)
        bucket.blob("g/with space/ü#?.bin").upload_from_string(b"odd", retry=NO_RETRY)
        bucket.blob("g/empty").upload_from_string(b"", retry=NO_RETRY)
        list(client.list_blobs(bucket, prefix="g/", retry=NO_RETRY))
        list(client.list_blobs(bucket, prefix="none/", retry=NO_RETRY))
        bucket.get_blob("missing", retry=NO_RETRY)
        _refused(bucket.blob("missing").download_as_bytes, retry=NO_RETRY)
        _refused(bucket.blob("missing").delete, if_generation_match=first, retry=NO_RETRY)
        _refused(blob.delete, if_generation_match=first, retry=NO_RETRY)
        blob.delete(if_generation_match=blob.generation, retry=NO_RETRY)
        _refused(blob.delete, retry=NO_RETRY)
        big = bucket.blob("g/big.bin", chunk_size=256 * 1024)
        (folder / "big").write_bytes(BODY * 60)
        big.upload_from_filename(
            str(folder / "big"), if_generation_match=0, checksum="crc32c", retry=NO_RETRY
        )
        big.download_as_bytes(checksum="crc32c", retry=NO_RETRY)
        client.bucket("no-such-bucket").exists(retry=NO_RETRY)
        bucket.exists(retry=NO_RETRY)


def _refused(call: Any, *arguments: Any, **how: Any) -> None:
    try:
        call(*arguments, **how)
    except google_errors.GoogleAPIError:
        return
    raise AssertionError(f"{call.__name__} was not refused")


def use_arrow(url: str, bucket_name: str, _folder: Path) -> None:
    """In a process of its own: Arrow keeps the lock that the proxy's threads need."""
    script = "import sys; from tests.other_servers.scenario import arrow; arrow(*sys.argv[1:])"
    command = [sys.executable, "-c", script, url, bucket_name]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=60)


def arrow(url: str, bucket_name: str) -> None:
    files = arrow_filesystem(url)
    path = f"{bucket_name}/a/b c.bin"
    with files.open_output_stream(path) as stream:
        stream.write(BODY)
    with files.open_input_stream(path, buffer_size=0) as stream:
        assert stream.read() == BODY
    with files.open_input_file(path) as file:
        assert file.read_at(100, 1000) == BODY[1000:1100]
    files.get_file_info(f"{bucket_name}/a/none")
    files.get_file_info(pyarrow.fs.FileSelector(f"{bucket_name}/a", recursive=True))
    files.delete_file(path)


def use_delta(url: str, bucket_name: str, _folder: Path) -> None:
    table = f"gs://{bucket_name}/table"
    for number in range(2):
        rows = pa.table({"n": pa.array([number], pa.int64())})
        deltalake.write_deltalake(table, rows, mode="append", storage_options=delta_options(url))
    opened = deltalake.DeltaTable(table, storage_options=delta_options(url))
    assert opened.to_pyarrow_table().num_rows == 2
    opened.optimize.compact()
    opened.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)


class Reader:
    """Exchanges as their clients read them: generations by their order, random names left out."""

    def __init__(self, url: str, bucket_name: str) -> None:
        self._generations: dict[str, int] = {}
        self._replacements = {url: "http://server", bucket_name: "bucket"}

    def call(self, exchange: Exchange) -> tuple[str, ...]:
        """The request: method, path, names of parameters, and the conditions."""
        parts = urlsplit(exchange.path)
        query = {
            name: self._text(name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        }
        conditions = [
            f"{name}={self._text('generation', exchange.headers[name])}"
            for name in ("x-goog-if-generation-match", "content-range", "range")
            if name in exchange.headers
        ]
        path = self._plain(parts.path)
        return (exchange.method, path, *sorted(f"{n}={v}" for n, v in query.items()), *conditions)

    def answer(self, exchange: Exchange) -> dict[str, Any]:
        """Status, headers and fields of the answer that clients read."""
        read: dict[str, Any] = {"status": exchange.status}
        for name in READ_HEADERS:
            if name == "content-type" and not exchange.answer_body:
                continue
            if exchange.status < 400 and name in exchange.answer_headers:
                value = exchange.answer_headers[name]
                # A client reads the type, not its parameters.
                read[name] = self._text(name, value.partition(";")[0])
        content_type = exchange.answer_headers.get("content-type", "")
        if exchange.status < 300 and content_type.startswith("application/json"):
            document = json.loads(exchange.answer_body or b"{}")
            if "items" in document or document.get("kind", "").endswith("#objects"):
                read["items"] = [self._fields(item) for item in document.get("items", [])]
                read["nextPageToken"] = "nextPageToken" in document
            elif "generation" in document:
                read.update(self._fields(document))
        elif exchange.status < 300 and exchange.method == "GET":
            read["body"] = exchange.answer_body
        return read

    def _fields(self, item: dict[str, Any]) -> dict[str, str]:
        return {name: self._text(name, str(item[name])) for name in READ_FIELDS if name in item}

    def _text(self, name: str, value: str) -> str:
        if re.fullmatch(r"\d{10,}", value) and "eneration" in name:
            return f"generation {self._generations.setdefault(value, len(self._generations) + 1)}"
        if name in {"upload_id", "pageToken"}:
            return "…"
        if name == "x-goog-hash":
            return ",".join(sorted(part.strip() for part in value.split(",")))
        return self._plain(value)

    def _plain(self, text: str) -> str:
        for actual, general in self._replacements.items():
            text = text.replace(actual, general)
        text = text.replace("%2D", "-").replace("%2E", ".")
        text = re.sub(r"upload_id=[^&]+", "upload_id=…", text)
        text = re.sub(r"part-\d+-[0-9a-f-]+-c\d+", "part-…", text)
        return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "…", text)
