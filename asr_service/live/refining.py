"""The words of finals that came without: asked for when the final has been said, and told when they are there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from asr_service.engine.aligner import Aligner, Alignment, needs_words, scored
from asr_service.errors import AsrError
from asr_service.live.events import Refined
from asr_service.request import Priority, SegmentResult, WorkIds

_log = logging.getLogger(__name__)

MAX_AT_ONCE = 4
"""Finals of one session whose sound is kept for their words; of more the words are not told."""


class Refining:
    """Of one session. `tell` is called once for each final that was taken: with its words, or with None when there are none."""

    def __init__(
        self, aligner: Aligner | None, ids: WorkIds, deadline_s: float | None, tell: Callable[[Refined | None], None]
    ) -> None:
        self._aligner = aligner
        self._ids = ids
        self._deadline_s = deadline_s
        self._tell = tell
        self._tasks: set[asyncio.Task[Refined | None]] = set()

    @property
    def is_busy(self) -> bool:
        return bool(self._tasks)

    def refine(self, result: SegmentResult) -> None:
        """Takes a final, with its sound, if it lacks words that can be had."""
        if self._aligner is None or not needs_words(result.hypothesis, self._aligner.info, result.speech):
            return
        if len(self._tasks) == MAX_AT_ONCE:
            _log.warning("the words of an utterance are not aligned: %d others are waiting", MAX_AT_ONCE)
            return
        task = asyncio.create_task(self._align(self._aligner, result))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancels what runs; nothing is told any more."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _align(self, aligner: Aligner, result: SegmentResult) -> Refined | None:
        hypothesis = result.hypothesis
        if hypothesis.language is None:
            return None
        wanted = Alignment(
            self._ids.take(),
            result.speech,
            hypothesis.text,
            hypothesis.language,
            Priority.INTERACTIVE,
            monotonic(),
            self._deadline_s,
        )
        try:
            words = await aligner.align(wanted)
        except AsrError as error:
            _log.warning("no words for an utterance: %s", error.message)
            return None
        return Refined(result.index, scored(words, hypothesis)) if words else None

    def _done(self, task: asyncio.Task[Refined | None]) -> None:
        if task not in self._tasks:
            return
        self._tasks.discard(task)
        if task.exception() is not None:
            _log.error("unexpected error of the aligner", exc_info=task.exception())
        self._tell(None if task.exception() is not None else task.result())
