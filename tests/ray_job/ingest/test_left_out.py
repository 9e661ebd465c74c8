"""An ingest that leaves bad files out: it names them, and commits all other files at once."""

import gzip
import re

import pytest

from ray_job.bucket.errors import InputError
from ray_job.data.manifest import read_past
from ray_job.ingest.reading.shapes import EMPTY_FILE
from tests.ray_job.ingest.test_bad_input import CASES, GOOD

GOOD_TOO = "store_id,date,sales\n2,2026-01-01,7\n"
ROWS = [("1", "2026-01-01", 5.0), ("2", "2026-01-01", 7.0)]


def bad_reasons(report):
    """The sentence of each bad file, by its path in raw_data."""
    return {bad.key.removeprefix("raw_data/"): bad.reason for bad in report.bad}


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"hidden"}))
def test_whatever_is_wrong_with_one_file_the_others_come_in(bucket, case):
    name, content, reason = CASES[case]
    bucket.drop("first.csv", GOOD, minute=1)
    bucket.drop(f"bad/{name}", content, minute=2)
    bucket.drop("last.csv", GOOD_TOO, minute=3)
    report = bucket.ingest(leave_out_bad=True)
    assert (report.files, report.rows, report.version) == (2, 2, 1)
    assert list(bad_reasons(report)) == [f"bad/{name}"]
    (bad,) = report.bad
    assert re.match(f"(?s){re.escape(bad.key)}: .*{reason}", bad.reason)
    assert bucket.rows("store_id", "date", "sales") == ROWS


def test_a_bad_file_is_named_every_night_until_it_is_corrected(bucket):
    bucket.drop("good.csv", GOOD, minute=1)
    bucket.drop("bad.csv", GOOD_TOO + "2,2026-01-02,many\n", minute=2)
    first = bucket.ingest(leave_out_bad=True)
    assert first.files == 1
    before = bucket.everything()
    again = bucket.ingest(leave_out_bad=True)
    assert (again.files, again.bad, again.version) == (0, first.bad, first.version)
    assert bucket.everything() == before
    with pytest.raises(InputError, match=r"^raw_data/bad\.csv: row 3: "):
        bucket.ingest()
    bucket.drop("bad.csv", GOOD_TOO, minute=3)
    corrected = bucket.ingest(leave_out_bad=True)
    assert (corrected.files, corrected.bad) == (1, ())
    assert bucket.rows("store_id", "date", "sales") == ROWS


def test_a_bad_file_is_not_named_after_it_was_deleted(bucket):
    key = bucket.drop("bad.csv", "", minute=1)
    reasons = bad_reasons(bucket.ingest(leave_out_bad=True))
    assert reasons == {"bad.csv": f"{key}: {EMPTY_FILE}"}
    bucket.storage.delete(key, bucket.storage.stat(key).generation)
    assert bucket.ingest(leave_out_bad=True).bad == ()


def test_many_bad_files_at_once(bucket):
    """Each bad file is named, whatever is wrong with it, and each good file is committed."""
    kinds = {
        "notes.txt": "hello",
        "empty.csv": "",
        "flag.csv": "store_id,date,sales,open\n1,2026-01-02,5,maybe\n",
        "shop.csv": "shop,date,sales\n1,2026-01-01,5\n",
        "text.csv": GOOD + "1,2026-01-02,many\n",
        "twice.csv": GOOD + "1,2026-01-01,6\n",
        "wide.csv": GOOD + "1,2026-01-02,5,6\n",
        "cut.csv.gz": gzip.compress((GOOD * 900).encode())[:40],
        "no.parquet": b"PAR1",
        "weather/w.csv": "region,day\nBE,1\n",
    }
    for number, (name, content) in enumerate(kinds.items()):
        for copy in range(3):
            bucket.drop(f"{name.partition('.')[0]}-{copy}.{name.partition('.')[2]}", content)
        bucket.drop(f"good-{number}.csv", f"store_id,date,sales\n{number},2026-01-01,5\n")
    report = bucket.ingest(leave_out_bad=True)
    assert len(report.bad) == 3 * len(kinds)
    assert (report.files, report.stores, report.version) == (len(kinds), len(kinds), 1)
    past = read_past(bucket.storage, 1)
    assert sorted(past.files) == sorted(f"raw_data/good-{k}.csv" for k in range(len(kinds)))


def test_files_given_by_hand_are_all_or_nothing(bucket):
    bucket.drop("good.csv", GOOD)
    bad = bucket.file("bad.csv", "")
    before = bucket.everything()
    with pytest.raises(InputError, match=r"bad\.csv: the file is empty"):
        bucket.ingest(bad, leave_out_bad=True)
    assert bucket.everything() == before


def test_how_many_more_are_bad(bucket):
    for name in "abc":
        bucket.drop(f"{name}.csv", GOOD + "1,2026-01-02,many\n")
    with pytest.raises(InputError, match=r"^raw_data/a\.csv: row 3: .*and 2 more files are bad"):
        bucket.ingest()
