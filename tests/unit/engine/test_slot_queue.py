"""What waits for slots, against a plain list."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asr_service.engine.ear import Ear
from asr_service.engine.runner import Runner
from asr_service.engine.slot import Lease, Slot, StartPolicy
from asr_service.engine.slot_queue import Job, SlotQueue
from asr_service.errors import Overloaded
from asr_service.request import Priority, RecognitionOptions, Speech, Work
from asr_service.scheduler.queue import service_key

CAPACITY = 3
SLOTS = [Slot(runner=cast("Runner", None), policy=StartPolicy()) for _ in range(2)]


class SlotQueueMachine(RuleBasedStateMachine):
    """Random puts, takes, withdrawals and expiries."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = SlotQueue(CAPACITY)
        self.waiting: list[Job] = []
        self.now_s = 0.0
        self.uid = 0
        self.events = asyncio.new_event_loop()

    def teardown(self) -> None:
        self.events.close()

    def can_do(self, job: Job, slot: Slot) -> bool:
        return job.lease is None or job.lease.slot is slot

    @rule(
        slot=st.sampled_from([None, *SLOTS]),
        priority=st.sampled_from(list(Priority)),
        patience_s=st.none() | st.integers(1, 20).map(float),
    )
    def put(self, slot: Slot | None, priority: Priority, patience_s: float | None) -> None:
        self.uid += 1
        deadline_s = None if patience_s is None else self.now_s + patience_s
        speech = Speech(np.zeros(16_000, np.float32), 0)
        work = Work(self.uid, speech, RecognitionOptions(), priority, self.now_s, deadline_s)
        lease = None if slot is None else Lease(slot, cast("Ear", SimpleNamespace(n_heard=0)))
        job = Job(work, self.events.create_future(), lease)
        is_full = lease is None and sum(one.lease is None for one in self.waiting) == CAPACITY
        try:
            self.queue.put(job)
        except Overloaded:
            assert is_full
        else:
            assert not is_full
            self.waiting.append(job)

    @rule(slot=st.sampled_from(SLOTS))
    def take(self, slot: Slot) -> None:
        self.expire()
        job = self.queue.take(slot, self.now_s)
        possible = [one for one in self.waiting if self.can_do(one, slot)]
        assert (job is None) == (not possible)
        if job is not None:
            assert service_key(job.work)[0] == min(service_key(one.work)[0] for one in possible)
            self.waiting.remove(job)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        if self.waiting:
            job = data.draw(st.sampled_from(self.waiting))
            self.waiting.remove(job)
            assert self.queue.withdraw(job)
            assert not self.queue.withdraw(job)

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @rule()
    def expire(self) -> None:
        expired = self.queue.take_expired(self.now_s)
        assert {job.work.uid for job in expired} == {
            job.work.uid for job in self.waiting if job.work.deadline_s is not None and job.work.deadline_s <= self.now_s
        }
        self.waiting = [job for job in self.waiting if job not in expired]

    @rule(slot=st.sampled_from(SLOTS))
    def take_guesses(self, slot: Slot) -> None:
        guesses = self.queue.take_guesses_for(slot)
        assert guesses == [job for job in self.waiting if job.lease is not None and job.lease.slot is slot]
        self.waiting = [job for job in self.waiting if job not in guesses]

    @rule()
    def clear(self) -> None:
        assert {job.work.uid for job in self.queue.clear()} == {job.work.uid for job in self.waiting}
        self.waiting = []

    @invariant()
    def counts_are_right(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.n_for_any == sum(job.lease is None for job in self.waiting)
        assert [self.queue.depth(priority) for priority in Priority] == [
            sum(job.work.priority is priority for job in self.waiting) for priority in Priority
        ]
        assert self.queue.audio_ahead_s(float("inf")) == len(self.waiting)


TestSlotQueue = SlotQueueMachine.TestCase
