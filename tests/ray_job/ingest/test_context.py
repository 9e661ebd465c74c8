"""Weather, holidays and stores: tables that keep the newest delivery of each row."""

from concurrent.futures import ThreadPoolExecutor

from ray_job.bucket import keys
from ray_job.data.delta import list_files, open_table
from ray_job.settings import Delivery


def test_weather_by_region_and_date(bucket):
    bucket = bucket.with_settings(weather=Delivery(columns={"region": "State"}, ignore=("id",)))
    report = bucket.ingest(
        bucket.file(
            "w.csv", "State,date,temp,events,id\nBE,2026-01-02,5.5,Rain,1\nBE,2026-01-01,,,2\n"
        ),
        kind="weather",
    )
    assert (report.files, report.rows, report.stores) == (1, 2, 0)
    assert bucket.objects("raw_data/") == ["raw_data/weather/w.csv"]
    assert bucket.context("weather") == [
        {"region": "BE", "date": "2026-01-01", "temp": None, "events": None},
        {"region": "BE", "date": "2026-01-02", "temp": 5.5, "events": "Rain"},
    ]


def test_a_later_delivery_replaces_whole_rows(bucket):
    bucket.drop("weather/b.csv", "region,date,temp\nBE,2026-01-01,1\nBE,2026-01-02,1\n", minute=1)
    bucket.drop("weather/a.csv", "region,date,wind\nBE,2026-01-02,7\n", minute=2)
    bucket.ingest()
    assert bucket.ingest().files == 0
    if not bucket.is_gcs:
        assert bucket.context("weather") == [
            {"region": "BE", "date": "2026-01-01", "temp": 1.0, "wind": None},
            {"region": "BE", "date": "2026-01-02", "temp": None, "wind": 7.0},
        ]


def test_what_is_brought_in_later_counts_however_old_its_file_is(bucket):
    bucket.drop("weather/new.csv", "region,date,temp\nBE,2026-01-01,2\n", minute=2)
    bucket.ingest()
    bucket.drop("weather/old.csv", "region,date,temp\nBE,2026-01-01,1\n", minute=1)
    assert bucket.ingest().files == 1
    assert [row["temp"] for row in bucket.context("weather")] == [1.0]


def test_holidays_are_text_even_if_they_look_like_numbers(bucket):
    bucket.ingest(bucket.file("h.csv", "region,date,holiday\nBE,2026-01-01,1\n"), kind="holidays")
    assert bucket.context("holidays") == [{"region": "BE", "date": "2026-01-01", "holiday": "1"}]


def test_stores_and_what_describes_them(bucket):
    bucket.drop("stores/s.csv", "store_id,region,size,closed\n007,BE,250,false\n7,,10,true\n")
    bucket.drop("a.csv", "store_id,date,sales\n7,2026-01-01,1\n")
    report = bucket.ingest()
    assert (report.files, report.stores) == (2, 1)
    assert bucket.context("stores") == [
        {"store_id": "007", "region": "BE", "size": 250.0, "closed": 0.0},
        {"store_id": "7", "region": None, "size": 10.0, "closed": 1.0},
    ]


def test_a_table_is_one_file_however_often_it_grows(bucket):
    for day in range(1, 5):
        bucket.ingest(
            bucket.file(f"{day}.csv", f"region,date,temp\nBE,2026-01-0{day},1\n"), kind="weather"
        )
    table = open_table(bucket.storage, keys.context("weather"))
    assert list_files(table)["rows"].to_pylist() == [4]


def test_racing_ingests_lose_no_row(bucket):
    files = [
        bucket.file(f"{number}.csv", f"region,date,c{number}\nR{number},2026-01-01,1\n")
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: bucket.ingest(path, kind="weather"), files))
    assert [row["region"] for row in bucket.context("weather")] == ["R0", "R1", "R2", "R3"]
    assert bucket.ingest().files == 0
