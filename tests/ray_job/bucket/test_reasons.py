"""Outcomes and reason codes: the texts that lie in the bucket, and what each one means."""

import pyarrow as pa
import pytest

from ray_job.bucket.reasons import COVERED, RETRIABLE, Outcome, ReasonCode


@pytest.mark.parametrize(
    ("outcome", "text", "is_covered"),
    [
        (Outcome.OK, "ok", True),
        (Outcome.CLOSED, "closed", True),
        (Outcome.FALLBACK, "fallback", True),
        (Outcome.FAILED, "failed", False),
        (Outcome.NO_DATA, "no_data", False),
    ],
)
def test_outcomes(outcome, text, is_covered):
    assert outcome == text
    assert outcome.is_covered is is_covered
    assert (outcome in COVERED) is is_covered


@pytest.mark.parametrize(
    ("code", "text", "is_retriable"),
    [
        (ReasonCode.GONE, "gone", True),
        (ReasonCode.CORRUPT, "corrupt", False),
        (ReasonCode.BAD_COLUMN, "bad_column", False),
        (ReasonCode.STORAGE, "storage", True),
        (ReasonCode.MEMORY, "memory", True),
        (ReasonCode.ERROR, "error", False),
        (ReasonCode.KILLED_WORKER, "killed_worker", False),
        (ReasonCode.DEADLINE, "deadline", True),
        (ReasonCode.ABSURD, "absurd", False),
        (ReasonCode.NO_DATA, "no_data", False),
        (ReasonCode.LITTLE_HISTORY, "little_history", False),
        (ReasonCode.CLOSED_WEEKDAY, "closed_weekday", False),
        (ReasonCode.IMPLAUSIBLE, "implausible", False),
    ],
)
def test_reason_codes(code, text, is_retriable):
    assert code == text
    assert code.is_retriable is is_retriable
    assert (code in RETRIABLE) is is_retriable


def test_the_tables_above_are_complete():
    def cases(function):
        [mark] = function.pytestmark
        return [case[0] for case in mark.args[1]]

    assert cases(test_outcomes) == list(Outcome)
    assert cases(test_reason_codes) == list(ReasonCode)


def test_arrow_stores_them_as_text():
    assert pa.array(list(ReasonCode)).to_pylist() == [code.value for code in ReasonCode]
    assert pa.array(COVERED).type == pa.string()
    rows = pa.Table.from_pylist([{"outcome": Outcome.OK}], pa.schema([("outcome", pa.string())]))
    assert rows["outcome"].to_pylist() == ["ok"]
