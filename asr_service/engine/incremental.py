"""Listening to a stretch that grows, at an engine that keeps what it has computed.

A call is a round. What the round before said is the draft of the next one, so that only what has changed is decoded; what the
model keeps of the audio is found again by the number of the stream. A round that was cancelled or failed changes neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asr_service.decoding.draft import NO_DRAFT, Draft
from asr_service.engine.recognition import Attempt
from asr_service.engine.step_model import Memory, Round
from asr_service.request import Hypothesis, RecognitionOptions, Work

HearRound = Callable[[Work, Round, Callable[[Attempt], None]], Awaitable[Hypothesis]]
"""A work as a round; the last argument is given the decoding that belongs to it. Raises what Engine.recognize raises."""


class IncrementalListening:
    """Implements Listening for `stream`, a number that no other stretch has. `memory`: empty. `forget`: called once, with the
    stream, when it is closed and no round is at work any more."""

    def __init__(self, stream: int, memory: Memory, hear: HearRound, forget: Callable[[int], None]) -> None:
        self._stream = stream
        self._memory = memory
        self._hear = hear
        self._forget = forget
        self._draft = NO_DRAFT
        self._options: RecognitionOptions | None = None  # of the round that the draft is from
        self._n_at_work = 0
        self._is_closed = False

    async def guess(self, work: Work) -> Hypothesis:
        return await self._call(work, is_exact=False)

    async def decide(self, work: Work) -> Hypothesis:
        return await self._call(work, is_exact=True)

    def close(self) -> None:
        """See Listening."""
        if not self._is_closed:
            self._is_closed = True
            self._forget_if_over()

    async def _call(self, work: Work, *, is_exact: bool) -> Hypothesis:
        self._n_at_work += 1
        if work.options != self._options:  # what was said under other options must not be taken over unasked
            self._draft, self._options = NO_DRAFT, work.options
        try:
            return await self._hear(work, Round(self._stream, self._memory, self._draft, is_exact), self._keep)
        finally:
            self._n_at_work -= 1
            self._forget_if_over()

    def _forget_if_over(self) -> None:
        """A round that is still at work could leave something behind after this."""
        if self._is_closed and not self._n_at_work:
            self._forget(self._stream)

    def _keep(self, attempt: Attempt) -> None:
        self._draft = Draft.of(attempt.reply)
