"""Rows of a release from the outcomes of chunks."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ray_job.bucket.parts import OUTCOME_SCHEMA, WrittenPart
from ray_job.data.arrays import matrix
from ray_job.publishing import release_rows
from ray_job.publishing.release_rows import Origin

A = date(2026, 3, 28)
MOMENT = datetime(2026, 3, 29, tzinfo=UTC)
ORIGIN = Origin(A, (A + timedelta(days=1), A + timedelta(days=2)), "m1", 7)


def outcome_row(store, outcome="ok", first=0, rows=2, **more):
    fields = {"store_id": store, "outcome": outcome, "sold": [float("nan"), 1.0]}
    if outcome in ("ok", "fallback", "closed"):
        fields |= {
            "first_row": first,
            "rows": rows,
            "items": rows // 2,
            "observations": 10,
            "data_through": A,
            "known_through": A,
            "predicted": [10.0, 20.0],
            "spread": [1.0, 2.0],
            "spread_squared": [0.5, 1.0],
            "usual": [9.0, 9.0],
            "method": ["model", "closed"],
            "missing": ["", "promo"],
        }
    return fields | more


def written_part(*rows, part="p", run="r", at=MOMENT, attempt=1):
    return WrittenPart(
        pa.Table.from_pylist(list(rows), OUTCOME_SCHEMA), part, "sha", run, at, attempt
    )


def released(combined, **descriptions):
    calls = []

    def interval(total, spread, squared, days):
        calls.append((total, spread, squared, days))
        return total - spread, total + spread

    table = release_rows.release_rows(combined, ORIGIN, interval, descriptions)
    return {row["store_id"]: row for row in table.to_pylist()}, calls


def test_nothing():
    combined = release_rows.combine([])
    assert combined.num_rows == 0
    assert released(combined)[0] == {}


def test_stores_of_several_chunks():
    combined = release_rows.combine(
        [
            written_part(outcome_row("b"), outcome_row("c", first=2)),
            written_part(outcome_row("a"), part="q"),
        ]
    )
    rows, _ = released(combined, a={"region": "BE"})
    assert list(rows) == ["a", "b", "c"]
    assert rows["c"]["parts"] == [{"part": "p", "first_row": 2, "rows": 2, "sha256": "sha"}]
    assert (rows["a"]["as_of"], rows["a"]["table_version"]) == (A, 7)
    assert rows["a"]["last_target_date"] == A + timedelta(days=2)
    assert (rows["a"]["lower_80"], rows["a"]["upper_80"]) == ([9.0, 18.0], [11.0, 22.0])
    assert json.loads(rows["a"]["description"]) == {"region": "BE"}
    assert rows["b"]["description"] is None


def test_the_chunks_of_a_cut_store_add_up():
    earlier = MOMENT - timedelta(hours=1)
    combined = release_rows.combine(
        [
            written_part(
                outcome_row(
                    "big",
                    method=["fallback", "closed"],
                    missing=["open", ""],
                    last_week=[3.0, None],
                    last_year=[None, None],
                    special=["holiday,promo=2", "promo=1"],
                ),
                part="p",
            ),
            written_part(
                outcome_row(
                    "big",
                    data_through=A - timedelta(days=1),
                    last_week=[4.0, 5.0],
                    last_year=[None, 1.0],
                    special=["holiday,promo=3", ""],
                ),
                part="q",
                run="s",
                at=earlier,
            ),
        ]
    )
    rows, ((total, spread, squared, _),) = released(combined)
    assert total.tolist() == [[20.0, 40.0]]
    assert spread.tolist() == [[2.0, 4.0]]
    assert squared.tolist() == [[1.0, 2.0]]
    big = rows["big"]
    assert (big["items"], big["run_id"], big["data_through"]) == (2, "r", A)
    assert big["method"] == ["model", "closed"]
    assert big["missing"] == ["open", "promo"]
    assert (big["last_week"], big["last_year"]) == ([7.0, 5.0], [None, 1.0])
    assert big["special"] == ["holiday,promo=5", "promo=1"]
    assert [reference["part"] for reference in big["parts"]] == ["p", "q"]


@pytest.mark.parametrize(
    ("outcome", "other_outcome", "combined_outcome"),
    [
        ("ok", "failed", "failed"),
        ("failed", "no_data", "failed"),
        ("ok", "fallback", "ok"),
        ("fallback", "closed", "fallback"),
        ("closed", "no_data", "closed"),
        ("no_data", "no_data", "no_data"),
    ],
)
def test_the_outcome_of_a_cut_store(outcome, other_outcome, combined_outcome):
    combined = release_rows.combine(
        [
            written_part(outcome_row("big", outcome)),
            written_part(outcome_row("big", other_outcome), part="q"),
        ]
    )
    rows, _ = released(combined)
    assert rows["big"]["outcome"] == combined_outcome
    if combined_outcome in ("failed", "no_data"):
        assert (rows["big"]["as_of"], rows["big"]["parts"]) == (None, None)


def test_failed_rows_name_the_failure_only():
    failed = outcome_row("a", "failed", reason_code="corrupt", reason="page 3")
    rows, _ = released(release_rows.combine([written_part(failed, attempt=3)]))
    assert (rows["a"]["reason_code"], rows["a"]["reason"], rows["a"]["attempt"]) == (
        "corrupt",
        "page 3",
        3,
    )
    assert rows["a"]["predicted"] is None


def test_days_since_sales():
    """Days from the newest sales; for the simple rule always the whole horizon."""
    combined = release_rows.combine(
        [
            written_part(
                outcome_row("a", known_through=A - timedelta(days=3)), outcome_row("b", "fallback")
            )
        ]
    )
    _, ((_, _, _, days),) = released(combined)
    assert days.tolist() == [[4.0, 5.0], [2.0, 2.0]]


def test_what_was_sold():
    stores, days, totals = release_rows.sold(
        release_rows.combine([written_part(outcome_row("a"))]), A
    )
    assert stores == ["a"]
    assert days.tolist() == [A - timedelta(days=1), A]
    assert np.isnan(totals[0, 0])
    assert totals[0, 1] == 1.0
    assert release_rows.sold(release_rows.combine([]), A)[0] == []


def test_lists_of_unequal_length_are_filled_up():
    filled = matrix(pa.chunked_array([[[1.0, 2.0], [3.0], None]]))
    assert np.nan_to_num(filled, nan=-1).tolist() == [[1, 2], [3, -1], [-1, -1]]


def test_totals_of_a_store_are_the_same_bits_however_it_was_cut():
    """The last digit of a sum depends on the cut of the store."""
    totals = set()
    for total in (4366.94, 4366.9400000000005):
        sales = pa.array([[total, None]], pa.list_(pa.float64()))
        _, _, sold = release_rows.sold(pa.table({"store_id": ["s"], "sold": sales}), A)
        totals.add(sold[0, 0].tobytes())
        assert np.isnan(sold[0, 1])
    assert len(totals) == 1
