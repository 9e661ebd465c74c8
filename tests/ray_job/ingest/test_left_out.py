"""A night's ingest: what is bad is left out and named, all the rest comes in by one commit."""

import gzip
import re

import pytest

from ray_job.bucket.errors import InputError
from ray_job.data.manifest import read_past
from tests.ray_job.ingest.test_bad_input import CASES, GOOD

GOOD_TOO = "store_id,date,sales\n2,2026-01-01,7\n"
ROWS = [("1", "2026-01-01", 5.0), ("2", "2026-01-01", 7.0)]


def told(report):
    return {one.key.removeprefix("raw_data/"): one.reason for one in report.bad}


@pytest.mark.parametrize("what", sorted(CASES.keys() - {"hidden"}))
def test_whatever_is_wrong_with_one_file_the_others_come_in(desk, what):
    name, content, reason = CASES[what]
    desk.drop("first.csv", GOOD, minute=1)
    desk.drop(f"bad/{name}", content, minute=2)
    desk.drop("last.csv", GOOD_TOO, minute=3)
    report = desk.ingest(leave_out_bad=True)
    assert (report.files, report.rows, report.version) == (2, 2, 1)
    assert list(told(report)) == [f"bad/{name}"]
    (one,) = report.bad
    assert re.match(f"(?s){re.escape(one.key)}: .*{reason}", one.reason)
    assert desk.rows("store_id", "date", "sales") == ROWS


def test_said_again_every_night_until_it_is_mended(desk):
    desk.drop("good.csv", GOOD, minute=1)
    desk.drop("bad.csv", GOOD_TOO + "2,2026-01-02,many\n", minute=2)
    first = desk.ingest(leave_out_bad=True)
    assert first.files == 1
    before = desk.everything()
    again = desk.ingest(leave_out_bad=True)
    assert (again.files, again.bad, again.version) == (0, first.bad, first.version)
    assert desk.everything() == before
    with pytest.raises(InputError, match=r"^raw_data/bad\.csv: row 3: "):
        desk.ingest()
    desk.drop("bad.csv", GOOD_TOO, minute=3)
    mended = desk.ingest(leave_out_bad=True)
    assert (mended.files, mended.bad) == (1, ())
    assert desk.rows("store_id", "date", "sales") == ROWS


def test_said_no_more_when_it_is_gone(desk):
    key = desk.drop("bad.csv", "", minute=1)
    assert told(desk.ingest(leave_out_bad=True)) == {"bad.csv": f"{key}: the file is empty"}
    desk.storage.delete(key, desk.storage.stat(key).generation)
    assert desk.ingest(leave_out_bad=True).bad == ()


def test_many_bad_files_at_once(desk):
    """However many there are, and whatever is wrong: every one is named, every good one is in."""
    kinds = {
        "notes.txt": "hello",
        "empty.csv": "",
        "header.csv": "store_id,date,sales\n",
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
            desk.drop(f"{name.partition('.')[0]}-{copy}.{name.partition('.')[2]}", content)
        desk.drop(f"good-{number}.csv", f"store_id,date,sales\n{number},2026-01-01,5\n")
    report = desk.ingest(leave_out_bad=True)
    assert len(report.bad) == 3 * len(kinds)
    assert (report.files, report.stores, report.version) == (len(kinds), len(kinds), 1)
    past = read_past(desk.storage, 1)
    assert sorted(past.files) == sorted(f"raw_data/good-{k}.csv" for k in range(len(kinds)))


def test_files_given_by_hand_are_all_or_nothing(desk):
    desk.drop("good.csv", GOOD)
    bad = desk.file("bad.csv", "")
    before = desk.everything()
    with pytest.raises(InputError, match=r"bad\.csv: the file is empty"):
        desk.ingest(bad, leave_out_bad=True)
    assert desk.everything() == before


def test_how_many_more_are_bad(desk):
    for name in "abc":
        desk.drop(f"{name}.csv", GOOD + "1,2026-01-02,many\n")
    with pytest.raises(InputError, match=r"^raw_data/a\.csv: row 3: .*and 2 more files are bad"):
        desk.ingest()
