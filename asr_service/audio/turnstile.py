"""Who may have a decoder process next. Pure: it hands out permissions, not processes.

* At most `max_workers` sources hold a place.
* Batch sources hold at most `max_workers - 1` (but one where there is only one), so that an interactive source never finds all
  places taken by slow uploads.
* Waiting is first come, first served, interactive before batch. A batch source may so wait as long as interactive ones keep
  coming; it is the admission control at the door that bounds how long that can be.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket")


class Turnstile(Generic[Ticket]):
    """Counts places; a ticket stands for a source that waits."""

    def __init__(self, max_workers: int) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers: {max_workers} is below 1")
        self._max_workers = max_workers
        self._max_batch = max(1, max_workers - 1)
        self._held = {True: 0, False: 0}  # by is_interactive
        self._queues: dict[bool, deque[Ticket]] = {True: deque(), False: deque()}

    @property
    def held(self) -> int:
        return self._held[True] + self._held[False]

    @property
    def waiting(self) -> int:
        return len(self._queues[True]) + len(self._queues[False])

    def arrive(self, ticket: Ticket, *, interactive: bool) -> list[Ticket]:
        """Queues the ticket; returns those admitted by that (it, or none)."""
        self._queues[interactive].append(ticket)
        return self._admit()

    def withdraw(self, ticket: Ticket, *, interactive: bool) -> None:
        """Forgets a ticket that was not admitted."""
        self._queues[interactive].remove(ticket)

    def leave(self, *, interactive: bool) -> list[Ticket]:
        """Gives a place back; returns the tickets admitted by that."""
        self._held[interactive] -= 1
        return self._admit()

    def _admit(self) -> list[Ticket]:
        admitted: list[Ticket] = []
        while self.held < self._max_workers and (interactive := self._next_class()) is not None:
            self._held[interactive] += 1
            admitted.append(self._queues[interactive].popleft())
        return admitted

    def _next_class(self) -> bool | None:
        if self._queues[True]:
            return True
        if self._queues[False] and self._held[False] < self._max_batch:
            return False
        return None
