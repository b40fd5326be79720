"""Two engines as one: the main one says what was said, the fast one guesses while it is being said.

Rules:

1. What is recognised or decided comes from the main engine, word for word as if it were alone.
2. Guesses come from the fast engine while it is ready. When it has failed for good, they come from the main one, and a warning
   says so; the service goes on.
3. Both have to start, or neither runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from asr_service.engine.listening import Listening
from asr_service.engine.protocol import Engine, EngineFailed, EngineInfo, EngineLoad, EngineState
from asr_service.errors import EngineGone
from asr_service.request import Hypothesis, Work

_log = logging.getLogger(__name__)


class DualEngine:
    """Implements Engine over `main` and `fast`, neither of them started."""

    def __init__(self, main: Engine, fast: Engine) -> None:
        self._main = main
        self._fast = fast
        self._is_starting = False
        self._watch: asyncio.Task[None] | None = None

    @property
    def info(self) -> EngineInfo:
        """The main engine's; the reason names the fast model."""
        info = self._main.info
        fast = self._fast.info.model
        how = f"guesses at live speech by {fast}" if self._is_fast_usable else f"but {fast} has failed"
        return replace(info, reason=f"{info.reason}; DUAL_MODEL=true, {how}")

    @property
    def state(self) -> EngineState:
        return EngineState.STARTING if self._is_starting else self._main.state

    @property
    def load(self) -> EngineLoad:
        """Of both together, but the expected wait is the main engine's: that is where works go."""
        main, fast = self._main.load, self._fast.load
        return EngineLoad(
            queued=main.queued + fast.queued,
            running=main.running + fast.running,
            slots=main.slots + (fast.slots if self._is_fast_usable else 0),
            expected_wait_s=main.expected_wait_s,
        )

    @property
    def calls(self) -> int:
        return self._main.calls + self._fast.calls

    async def start(self) -> None:
        """One after the other. Raises EngineFailed when either cannot be warm, and then neither runs."""
        self._is_starting = True
        try:
            await self._main.start()
            await self._start_fast()
        except BaseException:
            await self.stop()
            raise
        finally:
            self._is_starting = False
        self._watch = asyncio.create_task(self._watch_fast())

    async def wait_failed(self) -> None:
        """The main engine's failure; without the fast one the service goes on."""
        await self._main.wait_failed()

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(self._main.stop(), self._fast.stop())

    async def recognize(self, work: Work) -> Hypothesis:
        return await self._main.recognize(work)

    def listen(self) -> Listening:
        return DualListening(self._main.listen(), self._fast.listen(), self._fast)

    def attend(self) -> AbstractContextManager[None]:
        return self._attend()

    @contextmanager
    def _attend(self) -> Iterator[None]:
        with self._main.attend(), self._fast.attend():
            yield

    @property
    def _is_fast_usable(self) -> bool:
        return self._fast.state is not EngineState.FAILED

    async def _start_fast(self) -> None:
        try:
            await self._fast.start()
        except EngineFailed as error:
            raise EngineFailed(f"FAST_MODEL_ID={self._fast.info.model}: {error}") from error

    async def _watch_fast(self) -> None:
        await self._fast.wait_failed()
        _log.warning(
            "the fast model %s has failed; guesses at live speech come from %s now",
            self._fast.info.model,
            self._main.info.model,
        )


class DualListening:
    """Implements Listening: guesses by `fast`, which listens in `fast_engine`, decisions by `main`."""

    def __init__(self, main: Listening, fast: Listening, fast_engine: Engine) -> None:
        self._main = main
        self._fast = fast
        self._fast_engine = fast_engine

    async def guess(self, work: Work) -> Hypothesis:
        if self._fast_engine.state is not EngineState.FAILED:
            try:
                return await self._fast.guess(work)
            except EngineGone:
                _log.info("a guess was taken over from the fast model, which has failed")
        return await self._main.guess(work)

    async def decide(self, work: Work) -> Hypothesis:
        return await self._main.decide(work)

    def close(self) -> None:
        self._fast.close()
        self._main.close()
