"""Arrow's file system against the fake storage."""

from __future__ import annotations

import pyarrow.fs
import pytest

from tests.fake_gcs import spawned
from tests.fake_gcs.clients import arrow_filesystem, storage_client
from tests.simulated_storage.asking import BODY


def test_arrow_writes_reads_lists_and_deletes(gcs):
    fs = arrow_filesystem(gcs.url)
    body = BODY * 300
    with fs.open_output_stream("b/d/big") as stream:
        stream.write(body)
    with fs.open_output_stream("b/d/small") as stream:
        stream.write(b"small")
    assert gcs.snapshot("b") == {"d/big": body, "d/small": b"small"}
    with fs.open_input_stream("b/d/big") as stream:
        assert stream.read() == body
    infos = fs.get_file_info(pyarrow.fs.FileSelector("b/d", recursive=True))
    assert {(info.path, info.size) for info in infos} == {("b/d/big", len(body)), ("b/d/small", 5)}
    small, none = fs.get_file_info(["b/d/small", "b/d/none"])
    assert (small.type, none.type) == (pyarrow.fs.FileType.File, pyarrow.fs.FileType.NotFound)
    fs.delete_file("b/d/small")
    fs.copy_file("b/d/big", "b/d/copy")
    fs.move("b/d/big", "b/d/moved")
    assert gcs.keys("b") == ["d/copy", "d/moved"]
    with pytest.raises(FileNotFoundError):
        fs.open_input_stream("b/d/none")
    with pytest.raises(FileNotFoundError):
        fs.open_output_stream("other/k").close()


def test_a_process_of_its_own_serves_files_to_arrow(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "k").write_bytes(BODY)
    with spawned("b", directory=tmp_path, latency_ms=1) as url:
        fs = arrow_filesystem(url)
        with fs.open_input_file("b/d/k") as file:
            assert file.size() == len(BODY)
            assert file.read_at(10, 256) == BODY[:10]
        with storage_client(url) as own:
            assert [blob.name for blob in own.list_blobs("b")] == ["d/k"]
