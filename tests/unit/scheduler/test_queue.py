"""WorkQueue against a plain list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asr_service.errors import Overloaded
from asr_service.request import Priority, RecognitionOptions, Speech, Work
from asr_service.scheduler.queue import WorkQueue

CAPACITY = 5


def work(
    uid: int,
    arrival_s: float = 0.0,
    priority: Priority = Priority.INTERACTIVE,
    deadline_s: float | None = None,
    duration_s: float = 1.0,
) -> Work:
    samples = np.zeros(int(duration_s * 16_000), np.float32)
    return Work(uid, Speech(samples, 0), RecognitionOptions(), priority, arrival_s, deadline_s)


def test_realtime_goes_before_interactive_before_batch_of_the_same_moment() -> None:
    queue = WorkQueue(CAPACITY)
    for uid, priority in enumerate((Priority.BATCH, Priority.INTERACTIVE, Priority.REALTIME)):
        queue.push(work(uid, priority=priority))

    assert [served.uid for _ in range(3) if (served := queue.pop(0.0))] == [2, 1, 0]
    assert queue.pop(0.0) is None


def test_equal_keys_are_served_in_order_of_uid() -> None:
    queue = WorkQueue(CAPACITY)
    for uid in (2, 0, 1):
        queue.push(work(uid))

    assert [served.uid for _ in range(3) if (served := queue.pop(0.0))] == [0, 1, 2]


def test_a_full_queue_refuses_and_says_the_limit() -> None:
    queue = WorkQueue(2)
    queue.push(work(0))
    queue.push(work(1))

    with pytest.raises(Overloaded, match=r"^2 segments are already waiting \(limit 2\)$") as refusal:
        queue.push(work(2), retry_after_s=7.0)
    assert refusal.value.retry_after_s == 7.0


def test_a_cancelled_work_is_never_served_and_its_place_is_free_at_once() -> None:
    queue = WorkQueue(1)
    queue.push(work(0))

    assert queue.cancel(0) is not None
    assert queue.cancel(0) is None
    queue.push(work(1))
    assert (served := queue.pop(0.0)) is not None
    assert served.uid == 1


def test_a_uid_that_waits_already_is_an_error() -> None:
    queue = WorkQueue(2)
    queue.push(work(0))

    with pytest.raises(ValueError, match="waiting already"):
        queue.push(work(0))


def test_expired_work_is_passed_over_and_handed_out_for_its_answer() -> None:
    queue = WorkQueue(CAPACITY)
    queue.push(work(0, deadline_s=1.0))
    queue.push(work(1, deadline_s=3.0))

    assert (served := queue.pop(1.0)) is not None
    assert served.uid == 1
    assert [expired.uid for expired in queue.take_expired(1.0)] == [0]


def test_sending_and_cancelling_in_a_loop_does_not_grow_the_heaps() -> None:
    queue = WorkQueue(2)
    for uid in range(1000):
        queue.push(work(uid, deadline_s=1e9))
        queue.cancel(uid)

    assert len(queue._by_service) < 100
    assert len(queue._by_deadline) < 100


def test_audio_ahead_counts_only_what_would_be_served_first() -> None:
    queue = WorkQueue(CAPACITY)
    queue.push(work(0, priority=Priority.REALTIME, duration_s=1.0))
    queue.push(work(1, priority=Priority.BATCH, duration_s=4.0))

    assert queue.audio_ahead_s(2.0) == 1.0
    assert queue.audio_ahead_s(15.0) == 5.0


@given(st.lists(st.tuples(st.sampled_from(Priority), st.floats(0.001, 100.0)), max_size=30))
@settings(max_examples=50)
def test_batch_is_served_before_anything_that_arrives_more_than_15_s_later(others: list[tuple[Priority, float]]) -> None:
    queue = WorkQueue(100)
    queue.push(work(0, 0.0, Priority.BATCH))
    for uid, (priority, arrival_s) in enumerate(others, 1):
        queue.push(work(uid, arrival_s, priority))

    while (served := queue.pop(100.0)) is not None and served.uid != 0:
        assert served.arrival_s <= 15.0
    assert served is not None


class QueueAgainstList(RuleBasedStateMachine):
    """Time only moves forward; uids may come again after they left."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = WorkQueue(CAPACITY)
        self.model: list[Work] = []
        self.now_s = 0.0

    @rule(
        uid=st.integers(0, 12),
        priority=st.sampled_from(Priority),
        patience_s=st.none() | st.integers(-1, 20),
        age_s=st.integers(0, 3),
    )
    def push(self, uid: int, priority: Priority, patience_s: int | None, age_s: int) -> None:
        deadline_s = None if patience_s is None else self.now_s + patience_s
        new = work(uid, self.now_s - age_s, priority, deadline_s)
        if any(waiting.uid == uid for waiting in self.model):
            with pytest.raises(ValueError, match="waiting already"):
                self.queue.push(new)
        elif len(self.model) == CAPACITY:
            with pytest.raises(Overloaded):
                self.queue.push(new)
        else:
            self.queue.push(new)
            self.model.append(new)

    @rule()
    def pop(self) -> None:
        servable = [waiting for waiting in self.model if waiting.deadline_s is None or waiting.deadline_s > self.now_s]
        expected = min(servable, key=lambda w: (w.arrival_s + w.priority.allowance_s, w.uid), default=None)
        assert self.queue.pop(self.now_s) is expected
        if expected is not None:
            self.model.remove(expected)

    @rule(uid=st.integers(0, 12))
    def cancel(self, uid: int) -> None:
        expected = next((waiting for waiting in self.model if waiting.uid == uid), None)
        assert self.queue.cancel(uid) is expected
        if expected is not None:
            self.model.remove(expected)

    @rule()
    def take_expired(self) -> None:
        expected = {
            waiting.uid for waiting in self.model if waiting.deadline_s is not None and waiting.deadline_s <= self.now_s
        }
        taken = [expired.uid for expired in self.queue.take_expired(self.now_s)]
        assert len(taken) == len(expected)
        assert set(taken) == expected
        self.model = [waiting for waiting in self.model if waiting.uid not in expected]

    @precondition(lambda self: self.model)
    @rule()
    def clear(self) -> None:
        assert {waiting.uid for waiting in self.queue.clear()} == {waiting.uid for waiting in self.model}
        self.model = []

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @invariant()
    def same_size_and_depths(self) -> None:
        assert len(self.queue) == len(self.model)
        for priority in Priority:
            assert self.queue.depth(priority) == sum(waiting.priority is priority for waiting in self.model)


TestQueueAgainstList = QueueAgainstList.TestCase
TestQueueAgainstList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
