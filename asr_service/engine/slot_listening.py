"""Listening to a growing stretch through an ear of a slot.

Rules:

1. One ear is lent to a stretch from its first guess until it is closed. While all are lent, a guess is an ordinary run over the
   whole stretch: nobody waits for an ear.
2. A guess through an ear is computed in the ear's slot and nowhere else, when its turn comes among all that the slot could do.
   The slot is busy only while it computes.
3. A decision is an ordinary run, so it says what Engine.recognize says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asr_service.engine.slot import Lease
from asr_service.request import Hypothesis, Work


class SlotListening:
    """Implements Listening. `lend` gives an ear if there is one, `hear` computes a guess through it, `recognize` anything."""

    def __init__(
        self,
        lend: Callable[[], Lease | None],
        hear: Callable[[Work, Lease], Awaitable[Hypothesis]],
        recognize: Callable[[Work], Awaitable[Hypothesis]],
    ) -> None:
        self._lend = lend
        self._hear = hear
        self._recognize = recognize
        self._lease: Lease | None = None
        self._is_closed = False

    async def guess(self, work: Work) -> Hypothesis:
        lease = self._usable_lease()
        return await (self._recognize(work) if lease is None else self._hear(work, lease))

    async def decide(self, work: Work) -> Hypothesis:
        return await self._recognize(work)

    def close(self) -> None:
        self._is_closed = True
        self._give_back()

    def _usable_lease(self) -> Lease | None:
        """The one it has, or another if that has become useless."""
        if self._lease is not None and not self._lease.is_usable:
            self._give_back()
        if self._lease is None and not self._is_closed:
            self._lease = self._lend()
        return self._lease

    def _give_back(self) -> None:
        if self._lease is not None:
            self._lease.close()
            self._lease = None
