"""An engine whose texts get word times from an aligner.

Rules:

1. What is said comes from the engine, word for word; the aligner adds when.
2. `recognize` answers with words where they are wanted. Decisions about live speech do not wait for them: whoever listens asks
   the aligner afterwards.
3. An aligner that cannot be had costs the words' times, never the text, unless the caller asked for the times alone.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import replace

from asr_service.engine.aligner import with_words
from asr_service.engine.listening import Listening
from asr_service.engine.protocol import Engine, EngineInfo, EngineLoad, EngineState, Feature
from asr_service.engine.queued_aligner import QueuedAligner
from asr_service.errors import FeatureUnavailable, Overloaded
from asr_service.request import Hypothesis, Work

_log = logging.getLogger(__name__)


class AligningEngine:
    """Implements Engine over `engine`, not started, and `aligner`. `has_scores`: the engine tells how sure it is of each
    token."""

    def __init__(self, engine: Engine, aligner: QueuedAligner, *, has_scores: bool = False) -> None:
        self._engine = engine
        self._aligner = aligner
        self._added = {Feature.WORD_TIMES, Feature.ALIGN} | ({Feature.WORD_CONFIDENCE} if has_scores else set())

    @property
    def aligner(self) -> QueuedAligner:
        return self._aligner

    @property
    def info(self) -> EngineInfo:
        """The engine's, with word times; the reason names the aligner."""
        info = self._engine.info
        features = info.features | self._added
        return replace(info, features=features, reason=f"{info.reason}; words aligned by {self._aligner.info.model}")

    @property
    def state(self) -> EngineState:
        return self._engine.state

    @property
    def load(self) -> EngineLoad:
        return self._engine.load

    @property
    def calls(self) -> int:
        return self._engine.calls

    async def start(self) -> None:
        """The aligner is loaded when it is needed first."""
        await self._engine.start()

    async def wait_failed(self) -> None:
        await self._engine.wait_failed()

    async def stop(self) -> None:
        await self._aligner.stop()
        await self._engine.stop()

    async def recognize(self, work: Work) -> Hypothesis:
        hypothesis = await self._engine.recognize(work)
        try:
            return await with_words(self._aligner, work, hypothesis, time.monotonic())
        except (FeatureUnavailable, Overloaded) as error:
            _log.warning("no word times: %s", error.message)
            return hypothesis

    def listen(self) -> Listening:
        return self._engine.listen()

    def attend(self) -> AbstractContextManager[None]:
        return self._engine.attend()
