"""One utterance at the recogniser: the wish that is being answered, and what is kept between wishes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from asr_service.engine.listening import Listening
from asr_service.errors import AsrError, EngineGone, InternalError, Overloaded, Unavailable
from asr_service.request import Hypothesis, Priority, Work, WorkIds
from asr_service.session.events import Decide, Wish

_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
_RETRY_S = (0.1, 2.0)

Answer = Callable[[Wish, Hypothesis | None], None]
"""A wish and what came of it; None: a guess that came to nothing."""


class Hearing:
    """Answers wishes, the newest only: a new one cancels the one before. What cannot be decided fails the session (`fail`);
    a recogniser that is full or restarts is asked again first, for as long as a minute."""

    def __init__(
        self, listening: Listening, ids: WorkIds, deadline_s: float | None, answer: Answer, fail: Callable[[Exception], None]
    ) -> None:
        self._listening = listening
        self._ids = ids
        self._deadline_s = deadline_s
        self._answer = answer
        self._fail = fail
        self._one_at_a_time = asyncio.Lock()  # a cancelled call may take a moment to end
        self._task: asyncio.Task[None] | None = None

    def wish(self, wish: Wish) -> None:
        """Takes the place of the wish before."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._serve(wish))

    async def close(self) -> None:
        """Cancels what runs and frees what is kept."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._listening.close()

    async def _serve(self, wish: Wish) -> None:
        try:
            async with self._one_at_a_time:
                hypothesis = await self._decide(wish) if isinstance(wish, Decide) else await self._guess(wish)
        except Exception as error:  # whatever it is, the session has to hear of it
            self._fail(error)
            return
        self._answer(wish, hypothesis)

    async def _guess(self, wish: Wish) -> Hypothesis | None:
        return await _or_nothing(self._listening.guess(self._work(wish, Priority.GUESS)))

    async def _decide(self, wish: Decide) -> Hypothesis | None:
        if wish.is_early:
            return await _or_nothing(self._listening.decide(self._work(wish, Priority.REALTIME)))
        delay_s, most_s = _RETRY_S
        began_s = monotonic()
        while True:
            try:
                return await self._listening.decide(self._work(wish, Priority.REALTIME))
            except (Overloaded, Unavailable) as error:
                if isinstance(error, EngineGone) or monotonic() - began_s > _PATIENCE_S:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(most_s, 2 * delay_s)

    def _work(self, wish: Wish, priority: Priority) -> Work:
        return Work(self._ids.take(), wish.speech, wish.options, priority, monotonic(), self._deadline_s)


async def _or_nothing(hypothesis: Awaitable[Hypothesis]) -> Hypothesis | None:
    """Guesses may fail: the next one comes anyway, and what is wrong will show in the decision."""
    try:
        return await hypothesis
    except InternalError:
        _log.warning("a guess failed", exc_info=True)
    except AsrError as error:
        _log.debug("a guess came to nothing: %s", error.message)
    return None
