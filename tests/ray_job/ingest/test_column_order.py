"""The order of new columns follows from the settings and the header, also for flags."""

from ray_job.settings import Sales


def test_declared_columns_come_first_then_the_others_as_in_the_file(directory):
    bucket = directory.with_settings(sales=Sales(types={"zone": "text"}))
    content = "store_id,date,open,n,zone,promo,sales,empty\n1,2026-01-01,t,5,7,N,3,\n"
    bucket.ingest(bucket.file("a.csv", content))
    names = bucket.history().schema.names
    assert names == [
        *("store_id", "item_id", "date", "sales", "delivered_at", "op"),
        *("zone", "open", "n", "promo"),
    ]


def test_a_flag_without_any_value_makes_no_column(directory):
    directory.ingest(directory.file("a.csv", "store_id,date,sales,open\n1,2026-01-01,5,\n"))
    assert "open" not in directory.history().schema.names
