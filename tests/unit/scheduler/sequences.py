"""Sequences to schedule, and a recorder that checks what plans promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from asr_service.request import Priority
from asr_service.scheduler.parking import _extents
from asr_service.scheduler.plan import Gain, Sequence, Station, StepPlan
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
    draft: int = 0,
    stream: int | None = None,
    stations: tuple[Station, ...] = (),
) -> Sequence:
    return Sequence(
        uid, priority, arrival_s, deadline_s, windows, prompt, max_new, stream=stream, stations=stations, n_draft=draft
    )


def content(one: Sequence, position: int) -> tuple[object, ...]:
    """What the cache must hold for it there: what it shares with other rounds of its stream, or something of its own."""
    versions = []
    for station in one.stations:
        versions.append(station.version)
        if position < station.end:
            return ("shared", *versions, position)
    return ("own", one.uid, position)


@dataclass
class Shadow:
    """What a model would hold for each sequence, if it did just what the plans say."""

    windows: dict[int, int] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    cells: dict[int, tuple[object, ...]] = field(default_factory=dict)  # the cache, by place

    def follow(self, plan: StepPlan, scheduler: StepScheduler) -> None:
        """Checks the plan against what was done before it."""
        for uid in plan.evicted:
            self.places[uid] = 0
        encoded_now = {item.uid for item in plan.encode}
        served = [item.uid for item in plan.encode] + [item.uid for item in plan.feed]
        assert len(set(served)) == len(served), "one item each"
        assert len(served) <= scheduler.limits.max_sequences
        moved = {item.uid: item.count for item in plan.moves}
        for moving in plan.moves:
            assert moving.extent is scheduler._inside[moving.uid].extent
        for encoding in plan.encode:
            assert encoding.first == self.windows.get(encoding.uid, 0)
            assert encoding.count >= 1
        for feeding in plan.feed:
            fed = scheduler._inside[feeding.uid]
            assert feeding.uid not in encoded_now
            assert self.windows.get(feeding.uid, 0) == fed.n_windows, "fed before it was encoded"
            assert feeding.start == moved.get(feeding.uid, self.places.get(feeding.uid, 0)) == fed.n_kv
            assert 1 <= feeding.count <= fed.n_known + fed.n_draft - fed.n_kv
            assert feeding.n_draft == max(0, feeding.start + feeding.count - fed.n_known)
            assert feeding.yields == (feeding.start + feeding.count >= fed.n_known)
            assert feeding.extent is fed.extent
            assert feeding.start + feeding.count <= feeding.extent.length

    def did(self, plan: StepPlan, inside: Mapping[int, Sequence], gains: Mapping[int, Gain] | None = None) -> None:
        """To be told before the scheduler is."""
        for moving in plan.moves:
            copied = [self.cells.get(moving.start + offset) for offset in range(moving.count)]
            self.cells |= {moving.extent.start + offset: cell for offset, cell in enumerate(copied) if cell is not None}
            self.places[moving.uid] = moving.count
        for encoding in plan.encode:
            self.windows[encoding.uid] = encoding.first + encoding.count
        for feeding in plan.feed:
            one, begin = inside[feeding.uid], feeding.extent.start
            for position in range(feeding.start):
                assert self.cells.get(begin + position) == content(one, position), "it finds what it has fed"
            for position in range(feeding.start, feeding.start + feeding.count):
                self.cells[begin + position] = content(one, position)
            n_right = (gains or {}).get(feeding.uid, Gain()).n_tokens - 1 if feeding.yields else 0
            self.places[feeding.uid] = feeding.start + feeding.count - feeding.n_draft + n_right

    def forget(self, uid: int) -> None:
        self.windows.pop(uid, None)
        self.places.pop(uid, None)


def check_places(scheduler: StepScheduler) -> None:
    """Law 2: who runs has an extent that is long enough, nobody else has one, and no two overlap."""
    assert scheduler._running == sorted(scheduler._running, key=service_key)
    assert all(one.extent is not None for one in scheduler._running)
    extents = [extent for one in scheduler._running for extent in _extents(one)]
    lent = sorted((*extents, *(parked.extent for parked in scheduler._parking._parked.values())), key=lambda e: e.start)
    for one, other in pairwise(lent):
        assert one.start + one.length <= other.start
    assert sum(extent.length for extent in lent) == scheduler.kv_tokens_used
    for inside in scheduler._inside.values():
        assert (inside.extent is not None) == (inside in scheduler._running)
        assert inside.extent is None or inside.extent.length >= inside.n_places
        assert inside.n_kv < inside.n_known <= inside.n_known + inside.n_draft <= inside.n_places
        assert inside.source is None or inside.extent is not None


def steps_at_most(inside: list[Sequence]) -> int:
    """So many steps serve all of these, even one by one and each of them started over for each of the others."""
    alone = [s.n_windows + s.n_places // 16 + 1 + s.max_new_tokens for s in inside]
    return (len(inside) + 1) * sum(alone) + 100
