"""What the model does next: whose windows are encoded, whose tokens are fed, who gets places in the cache and who loses them.

Everything is decided by one key: arrival + the class's allowance, then uid (as in scheduler/queue.py). Smaller goes first.

Laws, kept by tests/unit/scheduler/test_steps.py and test_steps_machine.py:

1. A sequence that was accepted is inside until exactly one of `complete` (as finished), `remove`, `take_expired`, `relieve` (as
   the culprit) or `clear` gives it back. With max_sequences + queue_capacity inside the next is Overloaded, unless it is an
   extra one of a work that was let in before. One that could never have enough places is EngineMemory at once.
2. A sequence is running while it has an extent for all tokens that it can come to, else it waits. Extents never overlap.
3. Admission: each class may have max_sequences running, so that a class never waits for a slot of another (after an
   out-of-memory, until the budget has recovered, all classes share the slots). Among those whose class has one, the smallest
   key goes first, and while it finds no room nobody else gets any: a big one is not starved by small ones.
4. Eviction: a sequence loses its places only to one of a higher class *and* with a smaller key, or to an out-of-memory. It
   keeps its windows and its tokens, and feeds them again later. What is parked (scheduler/parking.py) is given up before.
5. Preemption: a step serves the max_sequences running ones with the smallest keys; the others keep their places and rest. So
   do BATCH ones beside a live one (REALTIME, GUESS) with a smaller key, but for `live_riders` of them that decode: their rows
   cost live speech little, their prompts and windows a lot. What is at work when live speech arrives is short: while anybody
   more urgent is inside, and until _LIVE_STEPS after, BATCH prompts and windows are taken in small portions.
6. A sequence is fed only when all its windows are encoded, and one step either encodes or feeds it.
7. A plan is empty only when nobody is inside. The smallest running key gets on in every step: a window, or a token, or at least
   LEAST_TOKENS of its prompt (or what is left of it).
8. After `relieve` the next plan is smaller in sequences or in tokens and windows, so after a bounded number of them in a row
   either a step succeeds or a culprit leaves.

Nobody starves. A class's allowance is at most 15 s, so after that long nothing that arrives has a smaller key than what is
inside; only the finitely many sequences with smaller keys can go before it or take its places (3, 4), and the first of those
running gets on in every step (7) and is finite. An evicted one is taken back before anything with a larger key (3), so two
sequences cannot take places from each other in turns.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Collection, Mapping
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from asr_service.errors import EngineMemory, Overloaded
from asr_service.request import Priority
from asr_service.scheduler.budget import LEAST_TOKENS, Budget
from asr_service.scheduler.extents import ExtentPool
from asr_service.scheduler.parking import Parking, move_of
from asr_service.scheduler.plan import EncodeItem, FeedItem, Gain, Sequence, StepPlan

Key = tuple[float, int]  # (time to order by in seconds, uid)

_CALM_STEPS = 16  # so many steps without an out-of-memory double a reduced budget
_SLACK_ENTRIES = 64  # a small heap is not worth a rebuild
_LIVE_STEPS = 64  # where somebody urgent was, the next one is expected for so many steps
_LIVE = (Priority.REALTIME, Priority.GUESS)
_ONE_TOKEN = Gain()
_BULK_WINDOWS = 4  # one of so many windows of a step is for BATCH while somebody waits for an answer


def service_key(sequence: Sequence) -> Key:
    """Smaller is served first."""
    return (sequence.arrival_s + sequence.priority.allowance_s, sequence.uid)


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How much may be inside, and what one step may do.

    `max_sequences` in a step; `queue_capacity` more may wait. `step_tokens` are fed in a step at most (as soon as the rows of
    those who decode leave room), `bulk_step_tokens` of BATCH prompts while a more urgent sequence is expected: what a
    realtime request waits for at most. `encode_windows` are encoded in a step at most. `live_riders`: BATCH sequences that may
    decode in the steps of a REALTIME one.
    """

    max_sequences: int
    queue_capacity: int
    step_tokens: int = 2048
    bulk_step_tokens: int = 256
    encode_windows: int = 8
    live_riders: int = 1

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, want at least 1")

    @property
    def max_inside(self) -> int:
        return self.max_sequences + self.queue_capacity


class StepScheduler:
    """Plans steps over a cache of `kv_tokens` places. One step is at work at a time: `plan`, then `complete` or `relieve`."""

    def __init__(self, limits: StepLimits, kv_tokens: int, *, granule: int = 64) -> None:
        self.limits = limits
        self.steps = 0  # completed
        self.evictions = 0
        self._pool = ExtentPool(kv_tokens, granule)
        self._parking = Parking(self._pool)
        self._full = Budget(limits.max_sequences, max(limits.step_tokens, LEAST_TOKENS), limits.encode_windows)
        self._budget = self._full
        self._live_until = 0  # of `steps`
        self._n_calm = 0  # steps since the budget was last changed
        self._inside: dict[int, Sequence] = {}
        self._waiting: dict[Priority, list[Sequence]] = {priority: [] for priority in Priority}  # each in order of key
        self._running: list[Sequence] = []  # in order of key
        self._n_running = dict.fromkeys(Priority, 0)
        self._deadlines: list[tuple[float, int]] = []  # a heap; entries of those who left are dropped lazily
        self._evicted: list[int] = []  # since the last plan

    def __len__(self) -> int:
        return len(self._inside)

    def __contains__(self, uid: int) -> bool:
        return uid in self._inside

    @property
    def n_running(self) -> int:
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        return len(self._inside) - len(self._running)

    @property
    def kv_tokens_used(self) -> int:
        return self._pool.n_tokens - self._pool.n_free

    @property
    def kv_tokens_parked(self) -> int:
        """Of those used: kept for streams whose next round is still to come."""
        return self._parking.n_tokens

    # Coming and going

    def submit(self, sequence: Sequence, *, is_extra: bool = False) -> None:
        """Accepts it. Raises Overloaded, EngineMemory, or ValueError for a uid that is inside or a sequence without tokens,
        or whose draft leaves no room for one.

        `is_extra`: it belongs to a work that was let in before, and is not refused because others are inside.
        """
        n_expected = sequence.n_generated + sequence.n_draft
        if sequence.uid in self._inside or sequence.n_prompt < 1 or sequence.max_new_tokens <= n_expected:
            raise ValueError(f"cannot take {sequence}")
        if self._pool.rounded(sequence.n_places) > self._pool.n_tokens:
            raise EngineMemory(f"the segment needs {sequence.n_places} cache places (limit {self._pool.n_tokens})")
        if len(self._inside) >= self.limits.max_inside and not is_extra:
            raise Overloaded(f"{len(self._inside)} segments are already inside (limit {self.limits.max_inside})")
        self._inside[sequence.uid] = sequence
        if sequence.stream is not None:
            self._parking.touch(sequence.stream)
        insort(self._waiting[sequence.priority], sequence, key=service_key)
        if sequence.deadline_s is not None:
            heapq.heappush(self._deadlines, (sequence.deadline_s, sequence.uid))

    def skip_windows(self, uid: int, n_windows: int) -> None:
        """The first so many of its windows are encoded already."""
        self._inside[uid].n_encoded = n_windows

    def forget(self, stream: int) -> None:
        """There will be no more rounds of it."""
        self._parking.give_up(stream)
        for sequence in self._inside.values():
            if sequence.stream == stream:
                sequence.stream = None

    def remove(self, uid: int, *, keep: bool = True) -> Sequence | None:
        """Takes it out; its places are free at once, but for what it leaves parked: nothing unless `keep`. None when it is not
        inside (any more)."""
        sequence = self._inside.pop(uid, None)
        if sequence is None:
            return None
        if sequence.extent is not None:
            self._take_places(sequence, keep=keep)
        else:
            _take(self._waiting[sequence.priority], sequence)
        if len(self._deadlines) > 2 * len(self._inside) + _SLACK_ENTRIES:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._inside]
            heapq.heapify(self._deadlines)
        return sequence

    def take_expired(self, now_s: float) -> list[Sequence]:
        """Takes out everything whose deadline is at or before now, earliest deadline first."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            deadline_s, uid = heapq.heappop(self._deadlines)
            if (sequence := self._inside.get(uid)) is not None and sequence.deadline_s == deadline_s:
                self.remove(uid)
                expired.append(sequence)
        return expired

    def clear(self) -> list[Sequence]:
        """Takes out everything, in order of key, as new: nothing encoded, nothing in the cache; generated tokens are kept."""
        everything = sorted(self._inside.values(), key=service_key)
        for sequence in everything:
            self.remove(sequence.uid, keep=False)
            sequence.n_encoded = 0
        self._parking.clear()
        return everything

    # Steps

    def plan(self) -> StepPlan:
        """The next step. Nobody in it has left, and nobody who left is in it."""
        admitted = self._admit()
        active = self._active()
        urgent = self._is_urgent()
        encode = self._plan_encoding(active, urgent=urgent)
        feed = self._plan_feeding(active, urgent=urgent)
        evicted, self._evicted = tuple(self._evicted), []
        moves = tuple(move for sequence in self._running if (move := move_of(sequence)) is not None)
        return StepPlan(encode, feed, evicted, admitted, moves)

    def complete(
        self, plan: StepPlan, finished: Collection[int] = (), gains: Mapping[int, Gain] = MappingProxyType({})
    ) -> None:
        """The step, or those parts of it that are given here, was done; `finished` are over and leave. `gains`: of those that
        yielded, what it brought where it was not just one token.

        Raises ValueError when one that has used up its max_new_tokens is not among the finished: it has no place for more.
        """
        for moved in plan.moves:
            self._parking.moved(self._inside[moved.uid])
        for encoded in plan.encode:
            self._inside[encoded.uid].n_encoded = encoded.first + encoded.count
        for fed in plan.feed:
            sequence = self._inside[fed.uid]
            sequence.n_kv = fed.start + fed.count
            if fed.yields:
                gain = gains.get(fed.uid, _ONE_TOKEN)
                sequence.n_kv -= fed.n_draft + 1 - gain.n_tokens  # what was drafted in vain is overwritten
                sequence.n_generated += gain.n_tokens
                sequence.n_draft = gain.n_draft
                if sequence.n_generated >= sequence.max_new_tokens and fed.uid not in finished:
                    raise ValueError(f"{sequence} has no place for another token")
        for uid in finished:
            self.remove(uid)
        self.steps += 1
        self._recover()

    def relieve(self, plan: StepPlan) -> Sequence | None:
        """The device had no memory for the step. The next one will be smaller; of those in it who then have no turn the places
        are taken. When it could not be smaller, the culprit is taken out and returned.
        """
        uids = plan.uids
        n_tokens = sum(item.count for item in plan.feed)
        n_windows = sum(item.count for item in plan.encode)
        self._n_calm = 0
        if len(uids) == 1 and n_tokens <= LEAST_TOKENS and n_windows <= 1:
            return self.remove(next(iter(uids)))
        self._budget = self._budget.after_failure_of(plan)
        for sequence in self._running[self._budget.rows :]:
            if sequence.uid in uids:
                self._evict(sequence)
        return None

    # Places

    def _admit(self) -> tuple[int, ...]:
        """Law 3."""
        admitted = []
        while (head := self._head()) is not None and self._find_room(head):
            self._waiting[head.priority].pop(0)
            insort(self._running, head, key=service_key)
            self._n_running[head.priority] += 1
            admitted.append(head.uid)
        return tuple(admitted)

    def _head(self) -> Sequence | None:
        """The first waiting one whose class has a slot."""
        rows = self._budget.rows
        if rows < self._full.rows and len(self._running) >= rows:
            return None  # memory is short: nobody takes places only to rest on them
        heads = [waiting[0] for priority, waiting in self._waiting.items() if waiting and self._n_running[priority] < rows]
        return min(heads, key=service_key, default=None)

    def _find_room(self, head: Sequence) -> bool:
        head.extent = self._pool.allocate(head.n_places)
        if head.extent is None and self._make_room(head):
            head.extent = self._pool.allocate(head.n_places)
        if head.extent is None:
            return False
        self._parking.claim(head)
        return True

    def _make_room(self, head: Sequence) -> bool:
        rivals = [
            sequence
            for sequence in self._running
            if sequence.priority.allowance_s > head.priority.allowance_s and service_key(sequence) > service_key(head)
        ]
        victims = self._parking.make_room(head.n_places, rivals)
        for victim in victims or ():
            self._evict(victim)
        return victims is not None

    def _evict(self, sequence: Sequence) -> None:
        self._take_places(sequence, keep=False)
        insort(self._waiting[sequence.priority], sequence, key=service_key)
        self._evicted.append(sequence.uid)
        self.evictions += 1

    def _take_places(self, sequence: Sequence, *, keep: bool) -> None:
        self._parking.take_back(sequence, keep=keep)
        _take(self._running, sequence)
        self._n_running[sequence.priority] -= 1

    # Turns

    def _active(self) -> ListLike[Sequence]:
        """Law 5."""
        active = self._running[: self._budget.rows]
        first = next((index for index, sequence in enumerate(active) if sequence.priority in _LIVE), None)
        if first is None:
            return active
        served, n_riders = active[:first], 0
        for sequence in active[first:]:
            if sequence.priority is not Priority.BATCH:
                served.append(sequence)
            elif n_riders < self.limits.live_riders and _decodes(sequence):
                served.append(sequence)
                n_riders += 1
        return served

    def _is_urgent(self) -> bool:
        """Is anybody inside who is not BATCH, or was a moment ago?"""
        n_batch = self._n_running[Priority.BATCH] + len(self._waiting[Priority.BATCH])
        if len(self._inside) > n_batch:
            self._live_until = self.steps + _LIVE_STEPS
        return self.steps < self._live_until

    def _plan_encoding(self, active: ListLike[Sequence], *, urgent: bool) -> tuple[EncodeItem, ...]:
        items: list[EncodeItem] = []
        room = self._budget.windows
        bulk_room = max(1, room // _BULK_WINDOWS) if urgent else room
        for sequence in active:
            missing = sequence.n_windows - sequence.n_encoded
            if missing and room:
                is_bulk = sequence.priority is Priority.BATCH
                count = min(missing, room, bulk_room) if is_bulk else min(missing, room)
                room -= count
                bulk_room -= count if is_bulk else 0
                if count:
                    items.append(EncodeItem(sequence.uid, sequence.n_encoded, count))
        return tuple(items)

    def _plan_feeding(self, active: ListLike[Sequence], *, urgent: bool) -> tuple[FeedItem, ...]:
        """A row for each who decodes, then of the prompts what the budget leaves room for."""
        rows: list[FeedItem] = []
        prompts: list[Sequence] = []
        for sequence in active:
            if sequence.n_encoded == sequence.n_windows:
                if sequence.n_unfed == 1:
                    rows.append(_feed(sequence, 1))
                else:
                    prompts.append(sequence)
        if not prompts:
            return tuple(rows)
        chunks: list[FeedItem] = []
        room = self._budget.tokens - len(rows)
        bulk_room = min(room, self.limits.bulk_step_tokens) if urgent else room
        for sequence in prompts:
            is_bulk = sequence.priority is Priority.BATCH
            open_room = min(room, bulk_room) if is_bulk else room
            count = min(sequence.n_unfed, open_room if chunks else max(open_room, LEAST_TOKENS))
            if count > 0:
                room -= count
                bulk_room -= count if is_bulk else 0
                chunks.append(_feed(sequence, count))
        return tuple(chain(rows, chunks))

    def _recover(self) -> None:
        if self._budget != self._full:
            self._n_calm += 1
            if self._n_calm >= _CALM_STEPS:
                self._n_calm = 0
                self._budget = self._budget.doubled(self._full)


def _decodes(sequence: Sequence) -> bool:
    """Is one row all that it wants of the next step?"""
    return sequence.n_encoded == sequence.n_windows and sequence.n_unfed == 1


def _feed(sequence: Sequence, count: int) -> FeedItem:
    assert sequence.extent is not None, "only running sequences are fed"  # noqa: S101  # narrows the type
    n_draft = sequence.n_kv + count - sequence.n_known
    return FeedItem(sequence.uid, sequence.n_kv, count, n_draft >= 0, sequence.extent, max(0, n_draft))


def _take(ordered: list[Sequence], sequence: Sequence) -> None:
    """Takes it out of a list in order of key."""
    index = bisect_left(ordered, service_key(sequence), key=service_key)
    assert ordered[index] is sequence, "the list is in order"  # noqa: S101  # a broken order must not lose a request
    del ordered[index]
