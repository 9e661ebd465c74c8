"""Publications, backfills, rollbacks and clean-up in any order: readers get what they should.

The state machine keeps the expected releases in dictionaries and compares them with the bucket.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import open_bucket
from ray_job.operations.clean_up import FLOOR, clean_up
from ray_job.operations.rollback import rollback
from tests.support.drafts import DAY, FAILED, OK, A, Publisher, run_name

STORES = ("a", "b", "c")
some_outcomes = st.dictionaries(st.sampled_from(STORES), st.sampled_from([OK, FAILED]), min_size=1)
all_outcomes = st.fixed_dictionaries(dict.fromkeys(STORES, st.sampled_from([OK, OK, FAILED])))
EVERYTHING = {"expected": set(STORES), "known": set(STORES)}


class Protocol(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.publisher = Publisher(open_bucket(str(Path(self.folder.name))))
        self.version = 1
        self.good: dict[str, tuple] = {}  # release -> (as_of, {store: (as_of, version, run)})
        self.order: list[str] = []  # good releases in the order of their publication
        self.bad_runs: set[str] = set()
        self.hold = None
        self.checked: set[str] = set()

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(outcomes=all_outcomes, force=st.booleans())
    def next_night(self, outcomes, force):
        self._publish(outcomes, self._newest() + DAY, force=force)

    @rule(outcomes=some_outcomes, force=st.booleans(), stale=st.booleans())
    def hourly(self, outcomes, force, stale):
        """Another run of the newest as-of; a stale run has an older table version."""
        version = self.version - 1 if stale else self.version
        self._publish(outcomes, self._newest(), force=force, version=version)

    @rule(outcomes=some_outcomes, back=st.integers(1, 4), force=st.booleans())
    def backfill(self, outcomes, back, force):
        self._publish(outcomes, self._newest() - back * DAY, force=force)

    @rule()
    def data_arrive(self):
        self.version += 1

    @precondition(lambda self: self.order)
    @rule()
    def roll_back(self):
        try:
            done = rollback(self.publisher.storage)
        except InputError:
            return
        self._rolled_back(done)

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def roll_back_to(self, data):
        current = self.publisher.pointer
        good = [entry.release for entry in current.history if entry.release not in current.bad]
        target = data.draw(st.sampled_from(good))
        done = rollback(self.publisher.storage, target)
        assert done.release == target
        self._rolled_back(done)

    @rule(days=st.integers(8, 500))
    def clean(self, days):
        before = self.publisher.views()
        later = datetime.now(UTC) + timedelta(days=days)
        clean_up(self.publisher.storage, later, FLOOR)
        assert self.publisher.views() == before

    @invariant()
    def readers_see_what_they_should(self):
        if not hasattr(self, "publisher"):
            return
        current = self.publisher.pointer
        assert (current.current is None) == (not self.order)
        assert current.hold_through == self.hold
        assert set(current.dates.values()) <= set(self.good)
        assert not set(current.bad) & {*current.dates.values(), current.current}
        for as_of, name in current.dates.items():
            assert name == self._stands_for(as_of)
            if name in self.checked:
                continue  # a release never changes, and `clean` compares all of them
            self.checked.add(name)
            rows = {
                store: (row["as_of"], row["table_version"], row["run_id"])
                for store, row in self.publisher.rows(name).items()
            }
            expected = self.good[name][1]
            assert {k: v for k, v in rows.items() if v[0] is not None} == expected

    def _newest(self):
        current = self.publisher.pointer.current_entry
        return A if current is None else current.as_of

    def _stands_for(self, as_of):
        return next((name for name in reversed(self.order) if self.good[name][0] == as_of), None)

    def _publish(self, outcomes, as_of, *, force, version=None):
        version = self.version if version is None else version
        before = self.publisher.pointer
        made = self.publisher.publish(outcomes, as_of, version=version, force=force, **EVERYTHING)
        after = self.publisher.pointer
        if self.hold is not None and as_of <= self.hold and not force:
            assert made.state == "held"
            assert after == before
            return
        if made.state == "unchanged":
            # `--force` lifts the hold, also where the current release stays as it is.
            if force and before.dates.get(as_of) == before.current:
                self.hold = None
                before = before.model_copy(update={"hold_through": None})
            assert after == before
            # The run had no good forecast, or only of inputs that are not newer.
            merged = self._merged(outcomes, as_of, version, run_name(self.publisher.runs))
            assert merged == self.good[self._stands_for(as_of)][1]
            return
        assert made.state == "published"
        run = run_name(self.publisher.runs)
        self._entered(made.release, self._merged(outcomes, as_of, version, run), as_of)
        moved = before.current is None or before.current_entry.as_of <= as_of
        assert after.current == (made.release if moved else before.current)
        if force and moved:
            self.hold = None
        # It has no row of a release that was marked bad before.
        assert not self.bad_runs & {v[2] for v in self.good[made.release][1].values()}

    def _merged(self, outcomes, as_of, version, run):
        days = [self.good[name][0] for name in self.order if self.good[name][0] <= as_of]
        base = dict(self.good[self._stands_for(max(days))][1]) if days else {}
        for store, outcome in outcomes.items():
            earlier = base.get(store)
            newer = earlier is not None and earlier[0] == as_of and earlier[1] > version
            if outcome == OK and not newer:
                base[store] = (as_of, version, run)
        return base

    def _entered(self, name, rows, as_of):
        self.good[name] = (as_of, rows)
        self.order.append(name)

    def _rolled_back(self, done):
        if done.abandoned:
            as_ofs = [self.good[name][0] for name in done.abandoned]
            self.hold = max([*as_ofs, *([self.hold] if self.hold else [])])
        entries = {entry.release: entry.run_id for entry in self.publisher.pointer.history}
        for name in done.abandoned:
            self.bad_runs.add(entries[name])
            self.order.remove(name)
            del self.good[name]
        assert self.publisher.pointer.current == done.release


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=50,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
