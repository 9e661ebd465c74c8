"""Bad input on the real command line: one line that names it, the exit code, nothing written."""

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from ray_job import __main__ as command_line
from ray_job.bucket import keys, receipts
from ray_job.ingest import CompactScope
from ray_job.ingest.reading.shapes import EMPTY_FILE
from tests.support.faults import rewritten
from tests.support.shop import DAY, LAST, STORES, generations

HEADER = "store_id,date,sales\n"


@pytest.fixture
def storecast(shop, monkeypatch, capsys):
    """Run a command as `main` does; returns its exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["storecast", *map(str, arguments)])
        for name, value in chains_settings(shop).items():
            monkeypatch.setenv(name, value)
        try:
            command_line.main()
        except SystemExit as end:
            output = capsys.readouterr()
            return int(end.code or 0), output.out, output.err
        raise AssertionError("the command did not exit")

    return run


def environment(shop):
    """The environment of a command in its own process."""
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    return inherited | chains_settings(shop)


def chains_settings(shop):
    """The chain's settings as variables."""
    return {
        "STORECAST_BUCKET": shop.storage.url,
        "STORECAST_TIME_ZONE": "Europe/Berlin",
        "STORECAST_LOOKBACK_DAYS": "84",
        "STORECAST_PLAN__CHUNK_ROWS": "420",
        "STORECAST_INGEST__ROW_GROUP_ROWS": "200",
    }


BAD_FILES = {
    "a missing column": ("a.csv", "store_id,sales\n1,2\n", "date"),
    "text in sales": ("a.csv", f"{HEADER}1,2026-01-01,many\n", "many"),
    "an unparsable date": ("a.csv", f"{HEADER}1,32.13.2026,5\n", "32.13.2026"),
    "conflicting duplicates": ("a.csv", f"{HEADER}1,2026-01-01,5\n1,2026-01-01,6\n", "a.csv"),
    "a store id that is no path": ("a.csv", f"{HEADER}a/b,2026-01-01,5\n", "a/b"),
    "an empty file": ("a.csv", "", "a.csv"),
    "a truncated gzip": (
        "a.csv.gz",
        gzip.compress((HEADER + "1,2026-01-01,5\n" * 5000).encode())[:200],
        "a.csv.gz",
    ),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_bad_files(storecast, shop, tmp_path, problem):
    name, content, named = BAD_FILES[problem]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = generations(shop.storage, keys.BATCH_DATA)
    code, out, err = storecast("ingest", path)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("storecast: ")]
    assert named in line
    assert name in line
    assert generations(shop.storage, keys.BATCH_DATA) == table


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ingest", "x.csv", "--kind", "gossip"), "gossip"),
        (("run", "--as-of", "2999-01-01"), "2999-01-01"),
        (("run", "--as-of", "yesterday"), "YYYY-MM-DD"),
        (("run", "--as-of", "2026-13-01"), "this is no date"),
        (("run", "--bucket", ""), "STORECAST_BUCKET"),
        (("ingest", "--bucket", " "), "STORECAST_BUCKET"),
        (("run", "--stores", "nobody"), "nobody"),
        (("run", "--stores", " , "), "--stores"),
        (("plan", "--as-of", "2999-01-01"), "2999-01-01"),
        (("explain", "s001"), "nothing was published"),
        (("rollback",), "nothing was published"),
        (("rollback", "r1"), "no such release"),
        (("clean-up", "--older-than", "6d"), "7 days"),
        (("clean-up", "--older-than", "soon"), "such as 7d"),
        (("promote", "none"), "none"),
        (("run", "--bucket", "/nowhere/at/all"), "/nowhere/at/all"),
        (("run", "--bucket", "s3://x"), "s3://x"),
        (("run", "--settings", "/nowhere.toml"), "/nowhere.toml"),
    ],
)
def test_wrong_use(storecast, shop, arguments, named):
    before = generations(shop.storage)
    code, out, err = storecast(*arguments)
    assert (code, out) == (2, "")
    assert named in err.splitlines()[-1]
    assert generations(shop.storage) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("run", "--as-of", "2999-01-01"), 2), (("run", "--as-of", str(LAST), "--json"), 0)],
)
def test_no_ray_is_started_for_nothing(shop, arguments, code):
    """A run with a wrong request, or with nothing left to do, ends without Ray."""
    earlier = shop.run()
    script = (
        "import sys; from ray_job.__main__ import main\n"
        "try: main()\n"
        "finally: assert 'ray' not in sys.modules, 'ray was loaded'"
    )
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.run(
        command, env=environment(shop), capture_output=True, text=True, check=False, timeout=60
    )
    assert (process.returncode, "ray was loaded" in process.stderr) == (code, False), process.stderr
    if code == 0:
        assert json.loads(process.stdout)["run_id"] == earlier.run_id


@pytest.mark.parametrize("last", ["registered", "a thread\nregistered"])
def test_the_process_waits_for_what_is_left_to_do(last):
    """It ends without Python's own end, which waits for threads and writes what is buffered."""
    script = (
        "import atexit, sys, threading, time; from ray_job.__main__ import run\n"
        "atexit.register(print, 'registered')\n"
        "if 'thread' in sys.argv.pop():\n"
        "    threading.Thread(target=lambda: (time.sleep(0.5), print('a thread'))).start()\n"
        "run()\n"
    )
    command = [sys.executable, "-c", script, "--help", last]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith(f"{last}\n")


def events(err, name):
    entries = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry.get("event") == name]


def test_settings_with_an_unknown_key(storecast, tmp_path):
    path = tmp_path / "storecast.toml"
    path.write_text("horizons = 9\n")
    code, _, err = storecast("plan", "--settings", path)
    assert code == 2
    assert "horizons" in err.splitlines()[-1]


def test_no_model_yet(storecast, shop):
    shop.storage.delete(keys.CURRENT_MODEL, shop.storage.stat(keys.CURRENT_MODEL).generation)
    code, _, err = storecast("plan")
    assert code == 2
    assert "there is no model yet" in err


def test_a_model_of_other_bytes(storecast, shop):
    shop.tamper(keys.model_artifact("tiny"), lambda data: data + b"x")
    code, _, err = storecast("plan")
    assert code == 2
    assert "sha256" in err


def test_rollback_releases_and_clean_up(storecast, shop):
    shop.run(LAST - DAY)
    shop.run(LAST)
    code, out, _ = storecast("rollback", "--json")
    rollback = json.loads(out)
    assert (code, rollback["as_of"], rollback["hold_through"]) == (0, str(LAST - DAY), str(LAST))
    assert rollback["changes_model"] is False
    code, out, _ = storecast("releases", "--json")
    releases = json.loads(out)["releases"]
    assert [release["bad"] for release in releases] == [True, False]
    assert [release["receipt"]["stores"]["ok"] for release in releases] == [8, 8]
    key = keys.receipt(LAST, releases[0]["run_id"])
    shop.storage.delete(key, shop.storage.stat(key).generation)
    code, out, _ = storecast("releases", "--last", "1")
    assert (code, "marked bad" in out, "no receipt" in out) == (0, True, True)
    code, out, _ = storecast("clean-up", "--json")
    assert (code, json.loads(out)["objects"]) == (0, 0)
    code, out, _ = storecast("rollback", rollback["release"])
    assert (code, "is current, as of Friday 27 March 2026" in out) == (0, True)


def drop(shop, name, text):
    """Somebody puts a file into raw_data/."""
    path = Path(shop.storage.url, keys.RAW_DATA, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def receipts_of(shop, night=LAST):
    return [receipts.read(shop.storage, night, key.stem) for key in _receipt_files(shop, night)]


def _receipt_files(shop, night):
    paths = Path(shop.storage.url, keys.receipts_of(night)).glob("*.json")
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_a_night_goes_on_without_a_bad_delivery(storecast, shop):
    """Good files are ingested. A bad file is named every night until somebody repairs it."""
    night = ("run", "--ingest", "--as-of", LAST, "--json")
    shop.run(LAST - DAY)
    drop(shop, "good.csv", f"{HEADER}s002,{LAST},4321\n")
    drop(shop, "bad.csv", f"{HEADER}s003,{LAST},many\n")
    wrong = (
        'raw_data/bad.csv: row 2: the column sales has the value "many", which is not a number:'
        " correct it or leave it empty"
    )
    code, out, err = storecast(*night)
    document = json.loads(out)
    assert (code, document["published"], document["stores"]["failed"]) == (4, True, 0)
    assert document["bad_deliveries"] == [{"key": "raw_data/bad.csv", "reason": wrong}]
    assert f"storecast: {wrong}" in err.splitlines()
    (finished,) = events(err, "run_finished")
    assert (finished["severity"], finished["bad_deliveries"]) == ("ERROR", [wrong])
    (receipt,) = receipts_of(shop)
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    assert [delivery.reason for delivery in receipt.bad_deliveries] == [wrong]
    assert len(shop.partition_files("s002")) > len(shop.partition_files("s003"))
    # The same run again gives the same result, and writes nothing.
    before = generations(shop.storage)
    code, out, err = storecast(*night)
    assert (code, json.loads(out)["run_id"]) == (4, receipt.run_id)
    assert f"storecast: {wrong}" in err.splitlines()
    assert generations(shop.storage) == before
    # Another bad file after the night was published: only the messages change.
    drop(shop, "worse.csv", "")
    code, out, _ = storecast(*night)
    assert (code, json.loads(out)["status"]) == (4, "unchanged")
    assert [len(receipt.bad_deliveries) for receipt in receipts_of(shop)] == [1, 2]
    assert shop.pointer.current == receipt.release
    # One file is repaired and the other removed: the night is complete.
    Path(shop.storage.url, "raw_data/worse.csv").unlink()
    drop(shop, "bad.csv", f"{HEADER}s003,{LAST},1234\n")
    code, out, err = storecast(*night)
    assert (code, json.loads(out)["bad_deliveries"]) == (0, [])
    assert json.loads(out)["published"]


def with_lists_for_sales(table):
    place = table.schema.get_field_index("sales")
    return table.set_column(place, "sales", pa.array([[1.0]] * table.num_rows))


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
@pytest.mark.parametrize(
    ("damage", "code_of_store"),
    [
        (lambda data: data[: len(data) // 2], "corrupt"),
        (rewritten(with_lists_for_sales), "bad_column"),
    ],
    ids=["half of a file", "a column of lists"],
)
def test_a_damaged_history_whose_turn_it_is_to_be_compacted(
    storecast, shop, monkeypatch, damage, code_of_store
):
    """Its own store has no new forecast; all other stores have one."""
    monkeypatch.setenv("STORECAST_INGEST__COMPACT_ABOVE_FILES", "1")
    night = LAST - DAY
    (turn,) = [store for store in STORES if CompactScope(night).includes(store)]
    drop(shop, "more.csv", f"{HEADER}{turn},{night},4321\n")
    assert storecast("ingest")[0] == 0
    before = shop.partition_files(turn)
    shop.tamper(before[0], damage)
    code, out, err = storecast("run", "--ingest", "--as-of", night, "--json")
    document = json.loads(out)
    assert (code, document["published"], document["stores"]["failed"]) == (4, True, 1)
    (finished,) = events(err, "ingest_finished")
    assert finished["severity"] == "WARNING"
    assert f"storecast: not compacted: {finished['not_compacted']}" in err.splitlines()
    assert before[0] in finished["not_compacted"]
    (receipt,) = receipts_of(shop, night)
    assert [(failure.store_id, failure.reason_code) for failure in receipt.failures] == [
        (turn, code_of_store)
    ]
    assert shop.partition_files(turn) == before


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_a_bad_delivery_and_a_gate(storecast, shop):
    """The gate decides the exit code: a release that is not published is the more urgent news."""
    shop.run(LAST - DAY)
    for store in ("s003", "s004"):
        for key in shop.partition_files(store):
            shop.tamper(key, lambda _: b"")
    drop(shop, "bad.csv", "")
    code, out, _ = storecast("run", "--ingest", "--as-of", LAST, "--json")
    document = json.loads(out)
    assert (code, document["status"], len(document["bad_deliveries"])) == (3, "refused", 1)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_the_failed_stores_are_listed_at_the_end(storecast, shop):
    """Each with its reason and with the as-of of the forecast that it keeps."""
    shop.run(LAST - DAY)
    for key in shop.partition_files("s003"):
        shop.tamper(key, lambda _: b"")
    code, out, _ = storecast("run", "--as-of", LAST)
    assert code == 4
    (line,) = [line for line in out.splitlines() if line.strip().startswith("s003: ")]
    assert shop.stores()["s003"]["reason"] in line
    assert "(corrupt); " in line
    assert line.endswith(f"its forecast as of {LAST - DAY} stays")


def test_ingest_by_hand_is_all_or_nothing(storecast, shop):
    drop(shop, "good.csv", f"{HEADER}s002,{LAST},4321\n")
    drop(shop, "bad.csv", "")
    table = generations(shop.storage, keys.BATCH_DATA)
    code, _, err = storecast("ingest")
    assert (code, err.splitlines()[-1]) == (2, f"storecast: raw_data/bad.csv: {EMPTY_FILE}")
    assert generations(shop.storage, keys.BATCH_DATA) == table


@pytest.mark.timeout(120)
def test_the_exit_codes_of_a_real_run(shop):
    """The command as an engineer types it, on a Ray that it starts itself."""
    shop.run(LAST - DAY)
    for key in shop.partition_files("s003"):
        shop.tamper(key, lambda _: b"")
    command = [sys.executable, "-m", "ray_job", "run", "--as-of", str(LAST), "--json"]
    process = subprocess.run(
        command, env=environment(shop), capture_output=True, text=True, check=False, timeout=110
    )
    assert process.returncode == 4, process.stderr
    document = json.loads(process.stdout)
    assert document["published"] is True
    assert document["stores"]["failed"] == 1
    assert [failure["store_id"] for failure in document["failures"]] == ["s003"]
    (finished,) = events(process.stderr, "run_finished")
    assert (finished["status"], finished["exit_code"]) == ("published_with_failures", 4)
    assert datetime.fromisoformat(finished["time"]) <= datetime.now(UTC)
    assert Path(shop.storage.url, keys.POINTER).exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("output", ["full", "closed"])
def test_an_output_that_cannot_be_written_is_no_defect(shop, output):
    """Such as a log on a full disk: what the command did is done."""
    redirected = ">/dev/full" if output == "full" else ">&-"
    shop.run()
    process = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m ray_job releases {redirected}'],
        env=environment(shop),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert process.returncode == (1 if output == "full" else 0), process.stderr
    assert "Traceback" not in process.stderr
    if output == "full":
        assert "standard output cannot be written: No space left on device" in process.stderr
