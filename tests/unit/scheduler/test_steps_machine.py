"""StepScheduler under any interleaving of submit, cancel, expire, step, out-of-memory and restart, against plain dicts."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asr_service.errors import AsrError, EngineMemory, Overloaded
from asr_service.request import Priority
from asr_service.scheduler.plan import Gain, Sequence, Station, StepPlan
from asr_service.scheduler.steps import StepLimits, StepScheduler, service_key
from tests.unit.scheduler.sequences import Shadow, check_places, sequence, steps_at_most

LIMITS = StepLimits(max_sequences=3, queue_capacity=4, step_tokens=18, bulk_step_tokens=8, encode_windows=4)
KV_TOKENS = 128
GRANULE = 16


class Arrival(NamedTuple):
    """A request that comes; times are relative to now."""

    priority: Priority
    windows: int
    prompt: int
    max_new: int
    patience_s: int | None
    age_s: int
    draft: int
    stream: int | None
    growth: int
    renewed: int  # windows of its stream that are another from now on


ARRIVALS = st.builds(
    Arrival,
    priority=st.sampled_from(Priority),
    windows=st.integers(0, 5),
    prompt=st.sampled_from((1, 12, 26, 27, 28, 42, 60, 75, 110, 140)),
    max_new=st.integers(1, 12),
    patience_s=st.none() | st.integers(0, 20),
    age_s=st.integers(0, 3),
    draft=st.sampled_from((0, 0, 3, 11)),
    stream=st.none() | st.integers(0, 2),
    growth=st.integers(0, 2),
    renewed=st.sampled_from((0, 0, 0, 1, 2)),
)
N_BEFORE, PER_WINDOW = 3, 20


class StepsAgainstDicts(RuleBasedStateMachine):
    """Each accepted sequence is in `inside` until it has left in one way. Time only moves forward."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = StepScheduler(LIMITS, KV_TOKENS, granule=GRANULE)
        self.inside: dict[int, Sequence] = {}
        self.shadow = Shadow()
        self.now_s = 0.0
        self.uid = 0
        self.streams: dict[int, list[int]] = {}  # versions of the closed windows
        self.n_versions = 0

    def leave(self, uid: int) -> Sequence:
        self.shadow.forget(uid)
        return self.inside.pop(uid)

    @rule(arrivals=st.lists(ARRIVALS, min_size=1, max_size=4))
    def submit(self, arrivals: list[Arrival]) -> None:
        for arrival in arrivals:
            self.submit_one(arrival)

    def submit_one(self, arrival: Arrival) -> None:
        self.uid += 1
        stations = self.grow(arrival)
        prompt = max(arrival.prompt, stations[-1].end + 1 if stations else 0)
        new = sequence(
            self.uid,
            arrival.priority,
            arrival_s=self.now_s - arrival.age_s,
            deadline_s=None if arrival.patience_s is None else self.now_s + arrival.patience_s,
            windows=arrival.windows,
            prompt=prompt,
            max_new=arrival.max_new,
            draft=min(arrival.draft, arrival.max_new - 1),
            stream=arrival.stream,
            stations=stations,
        )
        expected: type[AsrError] | None = None
        if new.n_places > KV_TOKENS:
            expected = EngineMemory
        elif len(self.inside) == LIMITS.max_inside:
            expected = Overloaded
        if expected is not None:
            with pytest.raises(expected):
                self.scheduler.submit(new)
        else:
            self.scheduler.submit(new)
            self.inside[new.uid] = new

    def grow(self, arrival: Arrival) -> tuple[Station, ...]:
        """The next round of its stream."""
        if arrival.stream is None:
            return ()
        versions = self.streams.setdefault(arrival.stream, [])
        if len(versions) > 3:
            versions.clear()
        kept = len(versions) - arrival.renewed
        for place in range(max(0, kept), len(versions) + arrival.growth):
            self.n_versions += 1
            versions[place : place + 1] = [self.n_versions]
        return tuple(Station(N_BEFORE + PER_WINDOW * n, version) for n, version in enumerate(versions, start=1))

    @rule(stream=st.integers(0, 2))
    def forget(self, stream: int) -> None:
        self.scheduler.forget(stream)
        self.streams.pop(stream, None)
        assert stream not in self.scheduler._parking._parked

    def plan(self) -> StepPlan:
        """A plan, checked against all laws that can be seen from outside."""
        before = {uid: one.extent is not None for uid, one in self.inside.items()}
        evictions = self.scheduler.evictions
        plan = self.scheduler.plan()
        self.shadow.follow(plan, self.scheduler)
        assert plan.is_empty == (not self.inside)
        self.check_admission(plan, before, self.scheduler.evictions - evictions)
        if self.scheduler.n_running:
            first = self.scheduler._running[0]
            part = plan.only(first.uid)
            assert part.encode or part.feed[0].count >= min(16, first.n_unfed)
        return plan

    def check_admission(self, plan: StepPlan, was_running: dict[int, bool], n_evictions: int) -> None:
        admitted = [self.inside[uid] for uid in plan.admitted]
        lost = [one for uid, one in self.inside.items() if was_running[uid] and one.extent is None]
        assert len(lost) <= n_evictions
        for victim in lost:
            assert victim.uid in plan.evicted
            assert any(
                winner.priority.allowance_s < victim.priority.allowance_s and service_key(winner) < service_key(victim)
                for winner in admitted
            )
        if not n_evictions:
            for waiting in (one for one in self.inside.values() if one.extent is None):
                rivals = [one for one in self.scheduler._running if one.priority is waiting.priority]
                passed = [one for one in admitted if service_key(one) > service_key(waiting)]
                assert not passed or len(rivals) == LIMITS.max_sequences, "only the want of a slot lets others pass"

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        plan = self.plan()
        gains = self.gains(plan, data)
        self.shadow.did(plan, self.inside, gains)
        stopped = data.draw(st.sets(st.sampled_from(sorted(gains)))) if gains else set()
        self.complete(plan, self.full(gains) | stopped, gains)

    def gains(self, plan: StepPlan, data: st.DataObject | None = None) -> dict[int, Gain]:
        """What comes of those who yield: any part of the draft that was fed is right, and perhaps the token behind it."""
        gains = {}
        for item in plan.feed:
            if item.yields:
                n_right = data.draw(st.integers(0, item.n_draft)) if data is not None else item.n_draft
                n_left = self.inside[item.uid].n_draft - n_right - 1
                goes_on = n_right == item.n_draft and n_left >= 0 and (data is None or data.draw(st.booleans()))
                gains[item.uid] = Gain(n_right + 1, n_left if goes_on else 0)
        return gains

    def full(self, gains: dict[int, Gain]) -> set[int]:
        inside = self.inside
        return {uid for uid, gain in gains.items() if inside[uid].n_generated + gain.n_tokens == inside[uid].max_new_tokens}

    def complete(self, plan: StepPlan, finished: set[int], gains: dict[int, Gain]) -> None:
        before = {uid: one.n_generated for uid, one in self.inside.items()}
        self.scheduler.complete(plan, finished, gains)
        for item in plan.feed:
            n_tokens = gains[item.uid].n_tokens if item.yields else 0
            assert self.inside[item.uid].n_generated == before[item.uid] + n_tokens
        for uid in finished:
            assert self.leave(uid).extent is None

    @rule(data=st.data())
    def step_of_which_parts_fail(self, data: st.DataObject) -> None:
        plan = self.plan()
        failed = data.draw(st.sets(st.sampled_from(sorted(plan.uids)))) if not plan.is_empty else set()
        done = StepPlan.union(plan.only(uid) for uid in plan.uids - failed)
        gains = self.gains(done, data)
        self.shadow.did(done, self.inside, gains)
        self.complete(done, self.full(gains), gains)
        for uid in failed:
            assert self.scheduler.remove(uid, keep=False) is self.leave(uid)

    @precondition(lambda self: self.now_s > 20.0)
    @rule()
    def out_of_memory(self) -> None:
        plan = self.plan()
        if plan.is_empty:
            return
        culprit = self.scheduler.relieve(plan)
        if culprit is not None:
            assert plan.uids == {culprit.uid}
            assert self.leave(culprit.uid) is culprit

    @precondition(lambda self: self.now_s > 30.0)  # it ends what the other rules are about
    @rule()
    def out_of_memory_without_end(self) -> None:
        """However often it comes, it takes few tries until somebody is told."""
        if not self.inside:
            return
        for _ in range(12):
            if (culprit := self.scheduler.relieve(self.plan())) is not None:
                assert self.leave(culprit.uid) is culprit
                return
        raise AssertionError("a dead loop")

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        uid = data.draw(st.integers(0, self.uid))
        taken = self.scheduler.remove(uid)
        assert taken is self.inside.get(uid)
        if taken is not None:
            self.leave(uid)

    @rule()
    def expire(self) -> None:
        expected = {uid for uid, one in self.inside.items() if one.deadline_s is not None and one.deadline_s <= self.now_s}
        taken = [one.uid for one in self.scheduler.take_expired(self.now_s)]
        assert len(taken) == len(expected)
        assert set(taken) == expected
        for uid in taken:
            self.leave(uid)

    @rule()
    def restart(self) -> None:
        """The model was lost: everything inside begins anew in a new scheduler."""
        everything = self.scheduler.clear()
        assert len(self.scheduler) == self.scheduler.kv_tokens_used == 0
        assert {one.uid: one for one in everything} == self.inside
        self.scheduler = StepScheduler(LIMITS, KV_TOKENS, granule=GRANULE)
        self.shadow = Shadow()
        for one in everything:
            self.scheduler.submit(one, is_extra=True)

    @rule(seconds=st.integers(1, 9))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    def serve_everybody(self) -> None:
        """Nobody is left over when no more arrive."""
        for _ in range(steps_at_most(list(self.inside.values()))):
            plan = self.plan()
            gains = self.gains(plan)
            self.shadow.did(plan, self.inside, gains)
            self.complete(plan, self.full(gains), gains)
            if not self.inside:
                return
        raise AssertionError("starved")

    @invariant()
    def the_same_are_inside_and_places_are_right(self) -> None:
        assert self.scheduler._inside == self.inside
        assert len(self.scheduler) == len(self.inside) == self.scheduler.n_running + self.scheduler.n_waiting
        check_places(self.scheduler)

    def teardown(self) -> None:
        if self.inside:
            self.serve_everybody()
        assert self.scheduler.plan().is_empty
        assert self.scheduler.kv_tokens_used == self.scheduler.kv_tokens_parked
        for stream in range(3):
            self.scheduler.forget(stream)
        assert self.scheduler._pool.largest_free == KV_TOKENS


TestStepsAgainstDicts = StepsAgainstDicts.TestCase
TestStepsAgainstDicts.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
