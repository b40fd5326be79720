"""Recognising a stretch of speech while it is still growing."""

from __future__ import annotations

from typing import Protocol

from asr_service.request import Hypothesis, Work


class Listening(Protocol):
    """One growing stretch at a recogniser. One call at a time; cancelling the awaiting task cancels the work.

    Each Work brings the whole stretch so far: its samples begin with those of the call before. What was computed for them then
    is used again. Samples that do not continue the ones before (a stretch that turned out to end earlier) are recognised anew.
    """

    async def guess(self, work: Work) -> Hypothesis:
        """What was said so far, soon rather than exactly. Raises what Engine.recognize raises."""
        ...

    async def decide(self, work: Work) -> Hypothesis:
        """What Engine.recognize(work) would say, word for word. May be followed by further calls. Raises the same."""
        ...

    def close(self) -> None:
        """Frees what is kept. Idempotent."""
        ...
