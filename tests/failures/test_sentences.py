"""What went wrong is one sentence with a way out, on the real command line, and no traceback."""

import errno
import os
import sys

import pytest
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.bucket import keys, pointer
from ray_job.bucket.errors import (
    AccessRefusedError,
    CorruptError,
    InputError,
    StorageError,
    StorecastError,
    exit_code,
)
from ray_job.bucket.storage import open_bucket
from ray_job.data import delta
from ray_job.model import registry
from ray_job.operations.clean_up import clean_up
from tests.fake_gcs import Fault
from tests.support.shop import DAY, LAST, generations, midnight, sales_row


def command_error(shop, *arguments):
    """The error that ends a command; anything but one of ours is a traceback."""
    settings = {
        "STORECAST_BUCKET": shop.storage.url,
        "STORECAST_TIME_ZONE": "Europe/Berlin",
        "STORECAST_LOOKBACK_DAYS": "84",
    }
    result = CliRunner().invoke(app, [*arguments], env=settings)
    assert isinstance(result.exception, StorecastError), repr(result.exception)
    sentence = str(result.exception)
    assert len(sentence.splitlines()) == 1
    assert "Traceback" not in result.output
    return exit_code(result.exception), sentence


@pytest.mark.parametrize("content", [b'{"history":[]}', b"[]", b"\xff"])
def test_a_history_of_promotions_without_an_entry(shop, content):
    shop.tamper(keys.CURRENT_MODEL, lambda _: content)
    for command in (["plan"], ["promote", "tiny"]):
        code, sentence = command_error(shop, *command)
        assert (code, sentence.partition(":")[0]) == (2, keys.CURRENT_MODEL)
    if content == b'{"history":[]}':
        assert "`storecast promote VERSION` makes it again" in sentence
        shop.delete(keys.CURRENT_MODEL)
        registry.promote(shop.storage, "tiny", midnight(LAST))
        assert registry.load(shop.storage).version == "tiny"


@pytest.mark.parametrize("content", ['{"current":"a"}', "[1]", "\x00"])
def test_a_pointer_of_damaged_json(shop, content):
    shop.storage.create(keys.POINTER, content.encode())
    before = generations(shop.storage)
    for command in (["run"], ["rollback"], ["clean-up"], ["releases"]):
        code, sentence = command_error(shop, *command)
        assert (code, sentence.partition(":")[0]) == (2, keys.POINTER)
    assert generations(shop.storage) == before


@pytest.mark.parametrize("op", ["list", "stat", "bucket"])
def test_damaged_json_in_an_answer_of_the_storage(gcs, op):
    """Any byte of it; one that leaves it readable may be a key of another name."""
    storage = open_bucket("gs://chain")
    storage.create("a/b", b"one")
    calls = {
        "list": lambda: list(storage.list("a/")),
        "stat": lambda: storage.stat("a/b"),
        "bucket": lambda: open_bucket("gs://chain"),
    }
    sentences = []
    for at in range(0, 120, 3):
        fault = gcs.faults.add(Fault("corrupt", op=op, at=at))
        try:
            calls[op]()
        except StorecastError as error:
            sentences.append(str(error))
        gcs.faults.clear()
        assert fault.fired
    assert sentences
    assert all(len(sentence.splitlines()) == 1 for sentence in sentences)
    calls[op]()


def test_a_pointer_that_is_gone_begins_no_new_history_and_makes_no_orphans(shop):
    shop.run(LAST)
    before = shop.pointer
    shop.delete(keys.POINTER)
    for command in (["run"], ["rollback"], ["clean-up"]):
        code, sentence = command_error(shop, *command)
        assert code == 2
        assert sentence == (
            f"{keys.POINTER}: there is no such object, although releases were published: make it"
            " again with `storecast restore-pointer`; see docs/restore.md"
        )
    objects = generations(shop.storage)
    with pytest.raises(CorruptError):
        clean_up(shop.storage, midnight(LAST) + 400 * DAY)
    assert generations(shop.storage) == objects
    result = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    assert result.exit_code == 0
    assert shop.pointer.history == before.history


@pytest.mark.parametrize("key", [keys.POINTER, keys.CURRENT_MODEL])
def test_a_404_on_a_pointer_is_not_taken_for_a_race(gcs_shop, gcs, key):
    gcs_shop.run(LAST - DAY)
    gcs_shop.delete(keys.RECEIPTS)  # nothing else says that a release was published
    before = gcs.snapshot("chain")[key]
    gcs.faults.add(Fault("status", key=key, op="get", status=404, times=None))
    call = {
        keys.POINTER: lambda: pointer.move(
            gcs_shop.storage, lambda current: current.model_copy(update={"unit": "pieces"})
        ),
        keys.CURRENT_MODEL: lambda: registry.promote(gcs_shop.storage, "tiny", midnight(LAST)),
    }[key]
    with pytest.raises(StorageError, match="refuses to make it since there is one"):
        call()
    gcs.faults.clear()
    assert gcs.snapshot("chain")[key] == before


def test_a_refusal_is_a_sentence_whichever_client_says_it(gcs_shop, gcs, tmp_path):
    gcs.denied.append("*")
    file = tmp_path / "a.csv"
    file.write_bytes(b"x")
    storage = gcs_shop.storage
    calls = {
        "results/a": lambda: storage.read("results/a"),
        "batch_data/store_id=1/a": lambda: storage.read("batch_data/store_id=1/a"),
        "stat": lambda: storage.stat("stat"),
        "list/": lambda: list(storage.list("list/")),
        "create": lambda: storage.create("create", b"x"),
        "upload": lambda: storage.upload(file, "upload"),
        "download": lambda: storage.download("download", tmp_path / "b"),
        "range": lambda: storage.read_range("range", 0, 1),
        "delete": lambda: storage.delete("delete", "1"),
        keys.BATCH_DATA: lambda: delta.open_table(storage, keys.BATCH_DATA),
    }
    for key, call in calls.items():
        with pytest.raises(AccessRefusedError) as raised:
            call()
        assert str(raised.value).startswith(f"{key}: the storage refuses access (403): The caller")
        assert "{" not in str(raised.value)
        assert "<" not in str(raised.value)
    code, sentence = command_error(gcs_shop, "run")
    assert code == 1
    assert "refuses access (403)" in sentence


@pytest.mark.parametrize("table", [keys.BATCH_DATA, keys.context("stores")])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_half_written_newest_commit_says_how_to_get_out(shop, table, share):
    log = f"{table}/_delta_log/"
    newest = max(info.key for info in shop.storage.list(log) if info.key.endswith(".json"))
    shop.tamper(newest, lambda data: data[: int(share * len(data))])
    before = generations(shop.storage)
    for command in (["plan"], ["clean-up"]):
        code, sentence = command_error(shop, *command)
        assert (code, sentence.partition(":")[0]) == (2, newest)
        assert sentence.endswith("docs/restore.md (The histories) has the commands")
    with pytest.raises(CorruptError, match=f"^{newest}: .*has the commands$"):
        shop.deliver([sales_row("s002", LAST)])
    assert generations(shop.storage) == before


_without_links = []


def _refuse_links(event, _):
    if event == "os.link" and _without_links:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links_is_refused_before_anything_is_written(
    shop, tmp_path_factory
):
    """As the kernel refuses a link there."""
    sys.addaudithook(_refuse_links)
    path = tmp_path_factory.mktemp("files") / "late.csv"
    path.write_text(f"store_id,date,sales,open,promo\ns002,{LAST},5,1,0\n")
    before = generations(shop.storage)
    _without_links.append(True)
    try:
        code, sentence = command_error(shop, "ingest", str(path))
        with pytest.raises(InputError, match="has no hard links"):
            shop.storage.create("a", b"x")
    finally:
        _without_links.clear()
    assert code == 2
    assert sentence.startswith(f"{shop.storage.url}/raw_data/late.csv: the file system has no hard")
    assert generations(shop.storage) == before
    assert not [path for path in shop.storage.root.rglob(".storecast-*") if "lock" not in path.name]
