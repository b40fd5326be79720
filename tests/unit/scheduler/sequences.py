"""Sequences to schedule, and a recorder that checks what plans promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from asr_service.request import Priority
from asr_service.scheduler.plan import Sequence, StepPlan
from asr_service.scheduler.steps import StepScheduler, service_key


def sequence(
    uid: int,
    priority: Priority = Priority.INTERACTIVE,
    *,
    arrival_s: float = 0.0,
    deadline_s: float | None = None,
    windows: int = 1,
    prompt: int = 8,
    max_new: int = 4,
) -> Sequence:
    return Sequence(uid, priority, arrival_s, deadline_s, windows, prompt, max_new)


@dataclass
class Shadow:
    """What a model would hold for each sequence, if it did just what the plans say."""

    windows: dict[int, int] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)

    def follow(self, plan: StepPlan, scheduler: StepScheduler) -> None:
        """Checks the plan against what was done before it."""
        for uid in plan.evicted:
            self.places[uid] = 0
        encoded_now = {item.uid for item in plan.encode}
        assert len(plan.uids) == len(plan.encode) + len(plan.feed), "one item each"
        assert len(plan.uids) <= scheduler.limits.max_sequences
        for encoding in plan.encode:
            assert encoding.first == self.windows.get(encoding.uid, 0)
            assert encoding.count >= 1
        for feeding in plan.feed:
            fed = scheduler._inside[feeding.uid]
            assert feeding.uid not in encoded_now
            assert self.windows.get(feeding.uid, 0) == fed.n_windows, "fed before it was encoded"
            assert feeding.start == self.places.get(feeding.uid, 0) == fed.n_kv
            assert 1 <= feeding.count <= fed.n_known - fed.n_kv
            assert feeding.yields == (feeding.start + feeding.count == fed.n_known)
            assert feeding.extent is fed.extent
            assert feeding.start + feeding.count <= feeding.extent.length

    def did(self, plan: StepPlan) -> None:
        for encoding in plan.encode:
            self.windows[encoding.uid] = encoding.first + encoding.count
        for feeding in plan.feed:
            self.places[feeding.uid] = feeding.start + feeding.count

    def forget(self, uid: int) -> None:
        self.windows.pop(uid, None)
        self.places.pop(uid, None)


def check_places(scheduler: StepScheduler) -> None:
    """Law 2: who runs has an extent that is long enough, nobody else has one, and no two overlap."""
    assert scheduler._running == sorted(scheduler._running, key=service_key)
    lent = sorted((s.extent for s in scheduler._running if s.extent is not None), key=lambda extent: extent.start)
    assert len(lent) == scheduler.n_running
    for one, other in pairwise(lent):
        assert one.start + one.length <= other.start
    assert sum(extent.length for extent in lent) == scheduler.kv_tokens_used
    for inside in scheduler._inside.values():
        assert (inside.extent is not None) == (inside in scheduler._running)
        assert inside.extent is None or inside.extent.length >= inside.n_places
        assert inside.n_kv < inside.n_known <= inside.n_places


def steps_at_most(inside: list[Sequence]) -> int:
    """So many steps serve all of these, even one by one and each of them started over for each of the others."""
    alone = [s.n_windows + s.n_places // 16 + 1 + s.max_new_tokens for s in inside]
    return (len(inside) + 1) * sum(alone) + 100
