"""Whether a draft is published, as a table of cases: no storage, no clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.releases import RELEASE_SCHEMA, Release, ReleaseHeader
from ray_job.publishing.decide import (
    Draft,
    base_name,
    decide,
    pointer_after,
    pointer_if_unchanged,
    preview,
)
from ray_job.settings import Gates, Publish, Settings

NIGHT = date(2026, 3, 28)
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 29, tzinfo=UTC)
SETTINGS = Settings(gates=Gates(missing_share=0.0))


def rows(outcomes, as_of=NIGHT, run_id="old", predicted=100.0):
    """Rows of stores by outcome; only good ones have a forecast."""
    return pa.Table.from_pylist(
        [
            {
                "store_id": store,
                "outcome": outcome,
                "expected": True,
                "table_version": 1,
                **(
                    {
                        "as_of": as_of,
                        "run_id": run_id,
                        "data_through": as_of,
                        "target_dates": [as_of + DAY],
                        "predicted": [predicted],
                        "usual": [100.0],
                    }
                    if outcome == "ok"
                    else {"reason_code": "corrupt", "reason": "damaged"}
                ),
            }
            for store, outcome in outcomes.items()
        ],
        schema=RELEASE_SCHEMA,
    )


def draft(outcomes, as_of=NIGHT, **changes):
    made = Draft(
        rows=rows(outcomes, as_of, "new", changes.pop("predicted", 100.0)),
        expected=set(outcomes),
        known=set(outcomes),
        as_of=as_of,
        run_id="new",
        created_at=NOW,
        table_version=2,
        model_version="m",
        horizon=7,
    )
    return replace(made, **changes)


def base(outcomes, as_of=NIGHT - DAY):
    header = ReleaseHeader(
        release="base",
        as_of=as_of,
        run_id="old",
        created_at=NOW - DAY,
        table_version=1,
        model_version="m",
        horizon=7,
    )
    return Release(header, rows(outcomes, as_of))


def entry(release, as_of, run_id="old"):
    return Published(
        release=release, sha256="0", as_of=as_of, run_id=run_id, published_at=NOW - DAY
    )


def pointer(as_of=NIGHT - DAY, **changes):
    made = Pointer(current="base", history=(entry("base", as_of),), dates={as_of: "base"})
    return made.model_copy(update=changes)


GOOD, BAD = {"a": "ok", "b": "ok"}, {"a": "ok", "b": "failed", "c": "failed"}
LATER = {f"r{back}": NIGHT + (back + 1) * DAY for back in range(3)}


@pytest.mark.parametrize(
    ("name", "pointer", "base", "draft", "expected"),
    [
        ("the first night", Pointer(), None, draft(GOOD), ("published", None)),
        ("the next night", pointer(), base(GOOD), draft(GOOD), ("published", None)),
        (
            "a repeated call of the same run",
            pointer(NIGHT, history=(entry("base", NIGHT, "new"),)),
            base(GOOD, NIGHT),
            draft(GOOD),
            ("published", "base"),
        ),
        (
            "the same forecasts by another run",
            pointer(NIGHT),
            base(GOOD, NIGHT),
            draft(GOOD),
            ("unchanged", "base"),
        ),
        (
            "other forecasts for the same night",
            pointer(NIGHT),
            base(GOOD, NIGHT),
            draft(GOOD, predicted=120.0),
            ("published", None),
        ),
        (
            "a night that is held",
            pointer(hold_through=NIGHT),
            base(GOOD),
            draft(GOOD),
            ("held", None),
        ),
        (
            "the night after the hold",
            pointer(hold_through=NIGHT - DAY),
            base(GOOD),
            draft(GOOD),
            ("published", None),
        ),
        (
            "a held night with --force",
            pointer(hold_through=NIGHT),
            base(GOOD),
            draft(GOOD, force=True),
            ("published", None),
        ),
        ("a gate fails", pointer(), base(GOOD), draft(BAD), ("refused", None)),
        (
            "a gate fails, with --force",
            pointer(),
            base(GOOD),
            draft(BAD, force=True),
            ("published", None),
        ),
        (
            "forecasts far above the usual level",
            pointer(),
            base(GOOD),
            draft(GOOD, predicted=1000.0),
            ("refused", None),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_decisions(name, pointer, base, draft, expected):
    publication = decide(pointer, base, draft, SETTINGS)
    assert (publication.state, publication.release) == expected
    assert publication.rows.num_rows == len(draft.expected)
    assert bool(publication.message) == (publication.state in ("held", "refused"))


def test_a_night_that_is_not_kept_is_refused():
    settings = Settings(publish=Publish(keep_days=3))
    newer = Pointer(dates={day: name for name, day in LATER.items()})
    publication = decide(newer, None, draft(GOOD), settings)
    assert publication.state == "refused"
    assert "publish.keep_days" in publication.message


def test_a_refusal_names_its_gates():
    publication = decide(pointer(), base(GOOD), draft(BAD), SETTINGS)
    failed = [gate.name for gate in publication.gates if not gate.passed]
    assert failed == ["missing_stores"]
    assert publication.message.startswith("2 of 3 stores have no forecast")


def test_a_preview_is_judged_and_never_published():
    publication = preview(base(GOOD), draft(BAD), SETTINGS)
    assert (publication.state, publication.release) == ("unpublished", None)
    assert not all(gate.passed for gate in publication.gates)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        (Pointer(), None),
        (pointer(), "base"),
        (pointer(bad=("base",)), None),
        (pointer(NIGHT + DAY), None),
        (pointer(bad=("base",), history=(entry("own", NIGHT, "new"),)), "own"),
    ],
)
def test_the_base_of_a_draft(pointer, expected):
    assert base_name(pointer, draft(GOOD)) == expected


def test_an_older_night_never_becomes_current():
    older = entry("older", NIGHT - 3 * DAY, "new")
    after = pointer_after(pointer(), older, draft(GOOD, NIGHT - 3 * DAY), None, SETTINGS)
    assert after.current == "base"
    assert after.dates == {NIGHT - 3 * DAY: "older", NIGHT - DAY: "base"}


def test_scores_become_visible_with_the_publication():
    accuracy = {NIGHT: "results/accuracy/x"}
    new = entry("new", NIGHT, "new")
    assert pointer_after(pointer(), new, draft(GOOD), accuracy, SETTINGS).accuracy == accuracy
    unchanged = pointer_if_unchanged(pointer(), "base", draft(GOOD), accuracy, SETTINGS)
    assert unchanged == pointer(accuracy=accuracy)


def test_only_force_lifts_a_hold():
    held = pointer(hold_through=NIGHT)
    forced = draft(GOOD, force=True)
    assert pointer_if_unchanged(held, "base", forced, None, SETTINGS).hold_through is None
    assert pointer_if_unchanged(held, "base", draft(GOOD), None, SETTINGS) == held
    after = pointer_after(held, entry("new", NIGHT, "new"), forced, None, SETTINGS)
    assert after.hold_through is None
