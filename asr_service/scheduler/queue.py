"""The order in which waiting work is served.

Laws, kept by tests/unit/scheduler/test_queue.py:

1. Every accepted Work leaves exactly once: by `pop`, `cancel`, `take_expired` or `clear`.
2. Work is served in order of arrival + the class's allowance (ties: uid). A (class, arrival) pair could not age; this key can,
   so BATCH work goes before anything that arrives more than 15 s later.
3. `pop` never gives work whose deadline has passed. Such work waits for `take_expired`, because its caller needs an answer.
4. At most `capacity` works wait; the next one is refused.

Cancelled work leaves the count at once and the heaps lazily; they are rebuilt before dead entries outnumber live ones, so a
client that sends and cancels in a loop cannot grow them.
"""

from __future__ import annotations

import heapq

from asr_service.errors import Overloaded
from asr_service.request import Priority, Work

_Entry = tuple[float, int]  # (time to order by in seconds, uid)

_SLACK_ENTRIES = 64  # small heaps are not worth a rebuild


def service_key(work: Work) -> _Entry:
    """Smaller is served first."""
    return (work.arrival_s + work.priority.allowance_s, work.uid)


class WorkQueue:
    """Waiting work, bounded by `capacity`. Times are seconds of the clock that stamped the works."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, want at least 1")
        self.capacity = capacity
        self._works: dict[int, Work] = {}  # everything that waits, by uid
        self._by_service: list[_Entry] = []
        self._by_deadline: list[_Entry] = []
        self._depth = dict.fromkeys(Priority, 0)

    def __len__(self) -> int:
        return len(self._works)

    def __contains__(self, uid: int) -> bool:
        return uid in self._works

    def depth(self, priority: Priority) -> int:
        """How many works of this class wait."""
        return self._depth[priority]

    def audio_ahead_s(self, key_s: float) -> float:
        """Seconds of audio that would be served before a new work with this arrival + allowance."""
        ahead = (work.speech.duration_ms for work in self._works.values() if service_key(work)[0] <= key_s)
        return sum(ahead) / 1000

    def push(self, work: Work, *, retry_after_s: float = 1.0) -> None:
        """Accepts the work. Raises Overloaded (with the hint given) when full, ValueError when its uid waits already."""
        if work.uid in self._works:
            raise ValueError(f"work {work.uid} is waiting already")
        if len(self._works) >= self.capacity:
            raise Overloaded(
                f"{len(self._works)} segments are already waiting (limit {self.capacity})", retry_after_s=retry_after_s
            )
        self._works[work.uid] = work
        self._depth[work.priority] += 1
        heapq.heappush(self._by_service, service_key(work))
        if work.deadline_s is not None:
            heapq.heappush(self._by_deadline, (work.deadline_s, work.uid))

    def pop(self, now_s: float) -> Work | None:
        """The next work to serve, or None. Expired work is passed over and stays for `take_expired`."""
        while self._by_service:
            entry = heapq.heappop(self._by_service)
            work = self._works.get(entry[1])
            # A uid may have been cancelled and sent again, so an entry counts only if it is this work's own.
            if work is not None and service_key(work) == entry and not _is_expired(work, now_s):
                return self._remove(work)
        return None

    def cancel(self, uid: int) -> Work | None:
        """Takes the work out at once. None when it does not wait (any more)."""
        work = self._works.get(uid)
        return None if work is None else self._remove(work)

    def take_expired(self, now_s: float) -> list[Work]:
        """Takes out all work whose deadline is at or before now, earliest deadline first."""
        expired = []
        while self._by_deadline and self._by_deadline[0][0] <= now_s:
            deadline_s, uid = heapq.heappop(self._by_deadline)
            work = self._works.get(uid)
            if work is not None and work.deadline_s == deadline_s:
                expired.append(self._remove(work))
        return expired

    def clear(self) -> list[Work]:
        """Takes out everything."""
        return [self._remove(work) for work in list(self._works.values())]

    def _remove(self, work: Work) -> Work:
        del self._works[work.uid]
        self._depth[work.priority] -= 1
        self._by_service = self._without_the_dead(self._by_service)
        self._by_deadline = self._without_the_dead(self._by_deadline)
        return work

    def _without_the_dead(self, heap: list[_Entry]) -> list[_Entry]:
        if len(heap) <= 2 * len(self._works) + _SLACK_ENTRIES:
            return heap
        alive = [entry for entry in heap if entry[1] in self._works]
        heapq.heapify(alive)
        return alive


def _is_expired(work: Work, now_s: float) -> bool:
    return work.deadline_s is not None and work.deadline_s <= now_s
