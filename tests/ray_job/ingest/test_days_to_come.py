"""Sales of days that have not come yet, and the newest date with sales."""

from datetime import date, timedelta

import pytest

from ray_job.bucket.errors import InputError
from ray_job.data import manifest
from ray_job.data.manifest import PastIngests, next_manifest
from ray_job.settings import Sales
from tests.support.delivery_bucket import NOW

TODAY = NOW.date()


def rows(*pairs):
    return "store_id,date,sales\n" + "".join(f"1,{day},{sales}\n" for day, sales in pairs)


def newest(bucket):
    return manifest.newest_sales(bucket.storage, 1)


@pytest.mark.parametrize("day", ["2062-11-22", TODAY + timedelta(days=1), "2126-11-22"])
def test_sales_of_a_day_to_come_are_refused_and_a_corrected_file_mends_it(directory, day):
    directory.drop("a.csv", rows((TODAY - timedelta(days=1), 5), (day, 3000)))
    with pytest.raises(
        InputError, match=rf'row 3: .*"{day}", which lies after today, {TODAY}, .*correct the date'
    ):
        directory.ingest()
    assert directory.ingest(leave_out_bad=True).files == 0
    directory.drop("a.csv", rows((TODAY - timedelta(days=1), 5)))
    directory.ingest()
    assert newest(directory) == TODAY - timedelta(days=1)


@pytest.mark.parametrize("content", ["", "0", "0.0"])
def test_days_to_come_without_sales_do_not_move_the_newest_date(directory, content):
    yesterday = TODAY - timedelta(days=1)
    directory.ingest(
        directory.file("a.csv", rows((yesterday, 5), (TODAY + timedelta(days=5), content)))
    )
    assert newest(directory) == yesterday


@pytest.mark.parametrize(("zone", "is_today"), [("Pacific/Kiritimati", True), ("UTC", False)])
def test_today_is_a_day_of_the_time_zone(directory, zone, is_today):
    """At five past midnight in UTC it is 14 hours later in Kiritimati, so the same day."""
    bucket = directory.with_settings(time_zone=zone)
    late = NOW.replace(hour=23)
    path = bucket.file("a.csv", rows((TODAY + timedelta(days=1), 5)))
    if is_today:
        bucket.ingest(path, now=late)
    else:
        with pytest.raises(InputError, match="lies after today"):
            bucket.ingest(path, now=late)


def test_transactions_and_replacements_of_days_to_come(directory):
    bucket = directory.with_settings(sales=Sales(rows="transactions"))
    path = bucket.file("a.csv", rows(("2062-01-01 10:00", 5)))
    for replace in (True, False):
        with pytest.raises(InputError, match="lies after today"):
            bucket.ingest(path, replace=replace)


def test_a_newest_date_that_is_still_to_come_is_forgotten():
    first = next_manifest(PastIngests(), 1, "a", [], 0, NOW, date(2062, 1, 1))
    past = PastIngests(1, [first])
    second = next_manifest(past, 2, "b", [], 0, NOW, TODAY - timedelta(days=1))
    assert second.newest_sales == TODAY - timedelta(days=1)
