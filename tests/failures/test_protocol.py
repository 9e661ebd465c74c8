"""Publish, keep, carry, backfill, rollback, hold and clean-up in any order: what always holds.

The machine keeps a model of its own of what readers should see, in plain dictionaries.
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
from tests.support.drafts import DAY, FAILED, OK, A, Desk

STORES = ("a", "b", "c")
outcomes = st.dictionaries(st.sampled_from(STORES), st.sampled_from([OK, FAILED]), min_size=1)
whole_night = st.fixed_dictionaries(dict.fromkeys(STORES, st.sampled_from([OK, OK, FAILED])))
EVERYTHING = {"expected": set(STORES), "known": set(STORES)}


class Protocol(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.desk = Desk(open_bucket(str(Path(self.folder.name))))
        self.version = 1
        self.good: dict[str, tuple] = {}  # release -> (as_of, {store: (as_of, version, run)})
        self.order: list[str] = []  # good releases in the order of their publication
        self.bad_runs: set[str] = set()
        self.hold = None
        self.looked_at: set[str] = set()

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(told=whole_night, force=st.booleans())
    def next_night(self, told, force):
        self._publish(told, self._newest() + DAY, force=force)

    @rule(told=outcomes, force=st.booleans(), stale=st.booleans())
    def hourly(self, told, force, stale):
        """More data of the current as-of; a stale run saw less than one that ended before it."""
        version = self.version - 1 if stale else self.version
        self._publish(told, self._newest(), force=force, version=version)

    @rule(told=outcomes, back=st.integers(1, 4), force=st.booleans())
    def backfill(self, told, back, force):
        self._publish(told, self._newest() - back * DAY, force=force)

    @rule()
    def data_arrive(self):
        self.version += 1

    @precondition(lambda self: self.order)
    @rule()
    def roll_back(self):
        try:
            done = rollback(self.desk.storage)
        except InputError:
            return
        self._rolled_back(done)

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def roll_back_to(self, data):
        current = self.desk.pointer
        good = [one.release for one in current.history if one.release not in current.bad]
        target = data.draw(st.sampled_from(good))
        done = rollback(self.desk.storage, target)
        assert done.release == target
        self._rolled_back(done)

    @rule(days=st.integers(8, 500))
    def clean(self, days):
        before = self.desk.views()
        later = datetime.now(UTC) + timedelta(days=days)
        clean_up(self.desk.storage, later, FLOOR)
        assert self.desk.views() == before

    @invariant()
    def readers_see_what_they_should(self):
        if not hasattr(self, "desk"):
            return
        current = self.desk.pointer
        assert (current.current is None) == (not self.order)
        assert current.hold_through == self.hold
        assert set(current.dates.values()) <= set(self.good)
        assert not set(current.bad) & {*current.dates.values(), current.current}
        for as_of, name in current.dates.items():
            assert name == self._stands_for(as_of)
            if name in self.looked_at:
                continue  # immutable, and `clean` looks at all of them
            self.looked_at.add(name)
            seen = {
                store: (row["as_of"], row["table_version"], row["run_id"])
                for store, row in self.desk.rows(name).items()
            }
            expected = self.good[name][1]
            assert {k: v for k, v in seen.items() if v[0] is not None} == expected

    def _newest(self):
        current = self.desk.pointer.current_entry
        return A if current is None else current.as_of

    def _stands_for(self, as_of):
        return next((name for name in reversed(self.order) if self.good[name][0] == as_of), None)

    def _publish(self, told, as_of, *, force, version=None):
        version = self.version if version is None else version
        before = self.desk.pointer
        made = self.desk.publish(told, as_of, version=version, force=force, **EVERYTHING)
        after = self.desk.pointer
        if self.hold is not None and as_of <= self.hold and not force:
            assert made.state == "held"
            assert after == before
            return
        if made.state == "unchanged":
            assert after == before
            # Nothing good came, or nothing from newer inputs than what is there.
            merged = self._merged(told, as_of, version, f"run{self.desk.runs:03d}")
            assert merged == self.good[self._stands_for(as_of)][1]
            return
        assert made.state == "published"
        run = f"run{self.desk.runs:03d}"
        self._entered(made.release, self._merged(told, as_of, version, run), as_of)
        moved = before.current is None or before.current_entry.as_of <= as_of
        assert after.current == (made.release if moved else before.current)
        if force and moved:
            self.hold = None
        # Nothing of a release that was bad when this one was made is in it.
        assert not self.bad_runs & {v[2] for v in self.good[made.release][1].values()}

    def _merged(self, told, as_of, version, run):
        days = [self.good[name][0] for name in self.order if self.good[name][0] <= as_of]
        base = dict(self.good[self._stands_for(max(days))][1]) if days else {}
        for store, what in told.items():
            there = base.get(store)
            newer = there is not None and there[0] == as_of and there[1] > version
            if what == OK and not newer:
                base[store] = (as_of, version, run)
        return base

    def _entered(self, name, rows, as_of):
        self.good[name] = (as_of, rows)
        self.order.append(name)

    def _rolled_back(self, done):
        if done.abandoned:
            as_ofs = [self.good[name][0] for name in done.abandoned]
            self.hold = max([*as_ofs, *([self.hold] if self.hold else [])])
        entries = {one.release: one.run_id for one in self.desk.pointer.history}
        for name in done.abandoned:
            self.bad_runs.add(entries[name])
            self.order.remove(name)
            del self.good[name]
        assert self.desk.pointer.current == done.release


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=50,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
