"""Weather, holidays and stores: small tables in which the newest delivery of a row wins."""

from concurrent.futures import ThreadPoolExecutor

from ray_job.bucket import keys
from ray_job.data.delta import list_files, open_table
from ray_job.settings import Delivery


def test_weather_by_region_and_date(desk):
    desk = desk.with_settings(weather=Delivery(columns={"region": "State"}, ignore=("id",)))
    report = desk.ingest(
        desk.file(
            "w.csv", "State,date,temp,events,id\nBE,2026-01-02,5.5,Rain,1\nBE,2026-01-01,,,2\n"
        ),
        kind="weather",
    )
    assert (report.files, report.rows, report.stores) == (1, 2, 0)
    assert desk.objects("raw_data/") == ["raw_data/weather/w.csv"]
    assert desk.context("weather") == [
        {"region": "BE", "date": "2026-01-01", "temp": None, "events": None},
        {"region": "BE", "date": "2026-01-02", "temp": 5.5, "events": "Rain"},
    ]


def test_a_later_delivery_replaces_whole_rows(desk):
    desk.drop("weather/b.csv", "region,date,temp\nBE,2026-01-01,1\nBE,2026-01-02,1\n", minute=1)
    desk.drop("weather/a.csv", "region,date,wind\nBE,2026-01-02,7\n", minute=2)
    desk.ingest()
    assert desk.ingest().files == 0
    if not desk.is_gcs:
        assert desk.context("weather") == [
            {"region": "BE", "date": "2026-01-01", "temp": 1.0, "wind": None},
            {"region": "BE", "date": "2026-01-02", "temp": None, "wind": 7.0},
        ]


def test_a_late_ingest_of_an_early_delivery_changes_nothing_newer(desk):
    if desk.is_gcs:
        return
    desk.drop("weather/new.csv", "region,date,temp\nBE,2026-01-01,2\n", minute=2)
    desk.ingest()
    desk.drop("weather/old.csv", "region,date,temp\nBE,2026-01-01,1\n", minute=1)
    assert desk.ingest().files == 1
    assert [row["temp"] for row in desk.context("weather")] == [2.0]


def test_holidays_are_text_even_if_they_look_like_numbers(desk):
    desk.ingest(desk.file("h.csv", "region,date,holiday\nBE,2026-01-01,1\n"), kind="holidays")
    assert desk.context("holidays") == [{"region": "BE", "date": "2026-01-01", "holiday": "1"}]


def test_stores_and_what_describes_them(desk):
    desk.drop("stores/s.csv", "store_id,region,size,closed\n007,BE,250,false\n7,,10,true\n")
    desk.drop("a.csv", "store_id,date,sales\n7,2026-01-01,1\n")
    report = desk.ingest()
    assert (report.files, report.stores) == (2, 1)
    assert desk.context("stores") == [
        {"store_id": "007", "region": "BE", "size": 250.0, "closed": 0.0},
        {"store_id": "7", "region": None, "size": 10.0, "closed": 1.0},
    ]


def test_a_table_is_one_file_however_often_it_grows(desk):
    for day in range(1, 5):
        desk.ingest(
            desk.file(f"{day}.csv", f"region,date,temp\nBE,2026-01-0{day},1\n"), kind="weather"
        )
    table = open_table(desk.storage, keys.context("weather"))
    assert list_files(table)["rows"].to_pylist() == [4]


def test_racing_ingests_lose_no_row(desk):
    files = [
        desk.file(f"{number}.csv", f"region,date,c{number}\nR{number},2026-01-01,1\n")
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: desk.ingest(path, kind="weather"), files))
    assert [row["region"] for row in desk.context("weather")] == ["R0", "R1", "R2", "R3"]
    assert desk.ingest().files == 0
