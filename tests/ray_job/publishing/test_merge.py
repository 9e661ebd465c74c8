"""The rows of a new release, from those of its base and of a run: a table of cases."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from ray_job.bucket.pointer import Pointer
from ray_job.bucket.releases import RELEASE_SCHEMA
from ray_job.publishing import merge

A = date(2026, 3, 28)
BEFORE = date(2026, 3, 27)
LONG_AGO = date(2026, 3, 20)


def row(store="s", outcome="ok", as_of=A, version=1, **more):
    fields = {"store_id": store, "outcome": outcome, "expected": True, "attempt": 1}
    if as_of is not None:
        moment = datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC)
        fields |= {
            "as_of": as_of,
            "data_through": as_of,
            "run_id": f"run-{as_of}-{version}",
            "table_version": version,
            "generated_at": moment,
            "predicted": [float(version)],
            "parts": [{"part": f"{as_of}-{version}", "first_row": 0, "rows": 1, "sha256": "x"}],
        }
    return fields | more


def failed(store="s", code="corrupt", reason="page 3"):
    return row(store, "failed", None, reason_code=code, reason=reason, attempt=2)


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=RELEASE_SCHEMA)


def merged(base, *new, as_of=A, expected=("s",)):
    base = None if base is None else table(base)
    made = merge.merge(base, table(*new), as_of=as_of, expected=expected)
    return {store_row["store_id"]: store_row for store_row in made.to_pylist()}


def test_the_first_release():
    merged_row = merged(None, row())["s"]
    assert (merged_row["outcome"], merged_row["as_of"], merged_row["carried_since"]) == (
        "ok",
        A,
        None,
    )


@pytest.mark.parametrize(
    ("base", "new", "as_of", "outcome", "carried"),
    [
        # a new good forecast replaces the base's
        (row(as_of=BEFORE), row(), A, "ok", None),
        (row(version=1), row(version=2), A, "ok", None),
        (row(version=1), row(version=1, outcome="fallback"), A, "fallback", None),
        # a failed one keeps it, with the new reason
        (row(as_of=BEFORE), failed(), BEFORE, "failed", A),
        (row(as_of=BEFORE, carried_since=LONG_AGO), failed(), BEFORE, "failed", LONG_AGO),
        (row(), failed(), A, "failed", None),
        # out of scope: kept or carried
        (row(), None, A, "ok", None),
        (row(as_of=BEFORE), None, BEFORE, "ok", A),
        # never anything good
        (failed(), failed(reason="page 4"), None, "failed", None),
        (failed(), row(), A, "ok", None),
    ],
)
def test_one_store(base, new, as_of, outcome, carried):
    merged_row = merged(base, *([new] if new else []))["s"]
    assert (merged_row["as_of"], merged_row["outcome"], merged_row["carried_since"]) == (
        as_of,
        outcome,
        carried,
    )


def test_newer_inputs_win_in_any_order():
    """A slow nightly run may publish after an hourly run with later uploads."""
    merged_row = merged(row(version=7), row(version=5))["s"]
    assert merged_row["predicted"] == [7.0]
    assert merged_row["table_version"] == 7
    merged_row = merged(row(version=5), row(version=7))["s"]
    assert merged_row["predicted"] == [7.0]


def test_a_failure_with_older_inputs_does_not_replace_a_newer_forecast():
    """The slow run read a bad file, which a later delivery has replaced."""
    base, new = table(row(version=7)), table(failed())
    (merged_row,) = merge.merge(base, new, as_of=A, expected=("s",), version=5).to_pylist()
    assert (merged_row["outcome"], merged_row["reason"], merged_row["table_version"]) == (
        "ok",
        None,
        7,
    )
    (merged_row,) = merge.merge(base, new, as_of=A, expected=("s",), version=7).to_pylist()
    assert (merged_row["outcome"], merged_row["table_version"]) == ("failed", 7)
    older = table(row(version=7, as_of=BEFORE))
    (merged_row,) = merge.merge(older, new, as_of=A, expected=("s",), version=5).to_pylist()
    assert merged_row["outcome"] == "failed"


def test_newer_inputs_of_an_older_as_of_do_not_win():
    assert merged(row(as_of=BEFORE, version=9), row(version=5))["s"]["predicted"] == [5.0]


def test_a_failure_keeps_all_of_the_last_good_forecast():
    base = row(as_of=BEFORE)
    merged_row = merged(base, failed(reason="page 9"))["s"]
    assert merged_row["reason"] == "page 9"
    assert merged_row["attempt"] == 2
    for name in ("predicted", "parts", "run_id", "generated_at", "data_through", "table_version"):
        assert merged_row[name] == base[name], name


def test_a_success_forgets_the_failure():
    base = row(as_of=BEFORE, outcome="failed", reason_code="corrupt", reason="page 3")
    merged_row = merged(base, row())["s"]
    assert (merged_row["reason_code"], merged_row["reason"]) == (None, None)


def test_lost_data_keep_the_forecast_with_a_reason():
    merged_row = merged(row(as_of=BEFORE), row(outcome="no_data", as_of=None, reason="none"))["s"]
    assert (merged_row["outcome"], merged_row["as_of"], merged_row["carried_since"]) == (
        "no_data",
        BEFORE,
        A,
    )


def test_an_expected_store_without_anything():
    rows = merged(None, row(), expected=("s", "t"))
    assert (rows["t"]["outcome"], rows["t"]["reason_code"]) == ("no_data", "no_data")
    assert list(rows) == ["s", "t"]


def test_a_store_that_is_not_expected_any_more_stays_in():
    rows = merged(row(as_of=BEFORE), expected=())
    assert rows["s"]["expected"] is False


def test_the_newest_description_counts():
    merged_row = merged(row(description='{"a": 1}'), failed() | {"description": '{"a": 2}'})["s"]
    assert merged_row["description"] == '{"a": 2}'
    assert merged(row(description='{"a": 1}'), failed())["s"]["description"] == '{"a": 1}'


def test_counts():
    base = table(
        row("kept", run_id="other"), row("carried", as_of=BEFORE), row("bad", as_of=BEFORE)
    )
    new = table(row("new"), row("shut", "closed"), failed("bad"), row("rule", "fallback"))
    expected = ("kept", "carried", "bad", "new", "shut", "rule", "never")
    rows = merge.merge(base, new, as_of=A, expected=expected)
    counts = merge.counts(rows, as_of=A, run_id=f"run-{A}-1")
    assert counts.model_dump() == {
        "expected": 7,
        "ok": 3,
        "closed": 1,
        "fallback": 1,
        "failed": 1,
        "no_data": 1,
        "carried": 2,
        "kept": 1,
        "late": 2,
    }
    (failure,) = merge.failures(rows)
    assert failure.model_dump() == {
        "store_id": "bad",
        "reason_code": "corrupt",
        "reason": "page 3",
        "attempt": 2,
        "last_good_as_of": BEFORE,
    }


def test_counts_of_nothing():
    assert merge.counts(RELEASE_SCHEMA.empty_table(), as_of=A, run_id="r").expected == 0


@pytest.mark.parametrize(
    ("dates", "bad", "as_of", "base"),
    [
        ({}, (), A, None),
        ({A: "a"}, (), A, "a"),
        ({BEFORE: "b", A: "a"}, (), A, "a"),
        ({BEFORE: "b", A: "a"}, ("a",), A, "b"),
        ({BEFORE: "b", A: "a"}, ("a", "b"), A, None),
        ({BEFORE: "b", A: "a"}, (), BEFORE, "b"),  # never a later one
        ({LONG_AGO: "c"}, (), A, "c"),
        ({A: "a"}, (), BEFORE, None),
    ],
)
def test_the_base_of_an_as_of(dates, bad, as_of, base):
    assert merge.base_of(Pointer(dates=dates, bad=bad), as_of) == base
