"""The aligner's queue: many callers, one thread that aligns what is most urgent, several stretches at once.

Rules:

1. The model is loaded by the first work that needs it, and unloaded when nothing came for a while.
2. A batch is the most urgent stretches that fit into the budget of tokens; one that alone is more goes alone.
3. Order is arrival plus the class's allowance, as everywhere.
4. A batch without memory is halved and tried again; a stretch without memory alone is answered so. One that fails otherwise
   fails alone.
5. All state is moved on the event loop, but for whether the model is loaded, which the thread says when it has loaded it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from asr_service.decoding.units import Unit
from asr_service.decoding.word_times import settle_times
from asr_service.engine.align_model import AlignerOutOfMemory, AlignModel, PreparedPiece
from asr_service.engine.aligner import AlignerInfo, Alignment
from asr_service.engine.idle import IdleTimer
from asr_service.engine.protocol import EngineFailed
from asr_service.errors import (
    AsrError,
    DeadlineExceeded,
    Draining,
    EngineMemory,
    FeatureUnavailable,
    InternalError,
    InvalidValue,
    Overloaded,
)
from asr_service.languages import Language
from asr_service.metrics import Metrics
from asr_service.request import Word

_log = logging.getLogger(__name__)

_RETRY_AFTER_S = 5.0

CutUnits = Callable[[str, Language], Sequence[Unit]]
"""Cuts a text as the model was trained, on any thread. Raises FeatureUnavailable when a tokeniser is not installed."""


@dataclass(frozen=True, slots=True)
class AlignLimits:
    """What is aligned at once, and how much may wait. `step_ms`: how finely the model tells times."""

    max_pieces: int = 8
    max_tokens: int = 8192
    queue_capacity: int = 1024
    step_ms: int = 80


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    wanted: Alignment
    units: Sequence[Unit]
    piece: PreparedPiece
    future: asyncio.Future[tuple[int, ...]]

    @property
    def key(self) -> float:
        return self.wanted.arrival_s + self.wanted.priority.allowance_s


class QueuedAligner:
    """Implements Aligner over a model. `idle_timeout_s` 0: it stays loaded."""

    def __init__(
        self,
        info: AlignerInfo,
        model: AlignModel,
        cut: CutUnits,
        *,
        limits: AlignLimits,
        idle_timeout_s: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._info = info
        self._model = model
        self._cut = cut
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aligner")
        self._idle = IdleTimer(idle_timeout_s, self._rest)
        self._waiting: list[_Job] = []
        self._n_preparing = 0
        self._pump: asyncio.Task[None] | None = None
        self._is_loaded = False
        self._is_stopped = False

    @property
    def info(self) -> AlignerInfo:
        return self._info

    @property
    def is_loaded(self) -> bool:
        return self._is_loaded

    async def align(self, wanted: Alignment) -> tuple[Word, ...]:
        """See Aligner."""
        self._refuse(wanted)
        try:
            async with asyncio.timeout(None if wanted.deadline_s is None else wanted.deadline_s - self._clock()):
                return await self._align(wanted)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while words were being aligned") from None

    async def stop(self) -> None:
        """Answers everything inside with Draining and unloads the model. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._idle.stop()
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            _fail(job, Draining("the server is shutting down", retry_after_s=1.0))
        if self._pump is not None:
            await asyncio.gather(self._pump, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._model.unload)
        self._is_loaded = False
        self._thread.shutdown(wait=False)

    def _refuse(self, wanted: Alignment) -> None:
        if self._is_stopped:
            raise Draining("the server is shutting down", retry_after_s=1.0)
        self._info.check_language(wanted.language)
        if wanted.speech.duration_ms > self._info.reach_ms:
            raise InvalidValue.of("audio", f"{wanted.speech.duration_ms} ms at once; the limit is {self._info.reach_ms} ms")
        if len(self._waiting) + self._n_preparing >= self._limits.queue_capacity:
            raise Overloaded("too many stretches wait for the aligner", retry_after_s=_RETRY_AFTER_S)

    async def _align(self, wanted: Alignment) -> tuple[Word, ...]:
        self._n_preparing += 1
        try:
            units, piece = await asyncio.to_thread(self._prepare, wanted)
        finally:
            self._n_preparing -= 1
        if not units:
            return ()
        if self._is_stopped:
            raise Draining("the server is shutting down", retry_after_s=1.0)
        job = _Job(wanted, units, piece, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._idle.set_quiet(False)
        if self._pump is None:
            self._pump = asyncio.create_task(self._serve())
        try:
            return _words(wanted, units, await job.future, self._limits.step_ms)
        finally:
            job.future.cancel()  # the caller has left; no effect on an answer

    def _prepare(self, wanted: Alignment) -> tuple[Sequence[Unit], PreparedPiece]:
        units = self._cut(wanted.text, wanted.language)
        return units, self._model.prepare(wanted.speech.samples, [unit.text for unit in units])

    # The queue

    async def _serve(self) -> None:
        """Until nothing waits."""
        loop = asyncio.get_running_loop()
        try:
            while batch := self._take():
                began_s = self._clock()
                try:
                    answers = await loop.run_in_executor(self._thread, self._run, batch)
                except Exception as error:
                    _log.exception("unexpected error of the aligner")
                    answers = [_hidden(error)] * len(batch)
                self._metrics.stage_seconds.labels("align").observe(self._clock() - began_s)
                for job, answer in zip(batch, answers, strict=True):
                    _fail(job, answer) if isinstance(answer, AsrError) else _answer(job, answer)
        finally:
            self._pump = None
            if not self._is_stopped:
                self._idle.set_quiet(self._is_loaded)

    def _take(self) -> list[_Job]:
        """The most urgent ones that fit together."""
        self._waiting = sorted((job for job in self._waiting if not job.future.done()), key=lambda job: job.key)
        n_tokens = 0
        batch: list[_Job] = []
        for job in self._waiting:
            n_tokens += job.piece.n_tokens
            if batch and (n_tokens > self._limits.max_tokens or len(batch) == self._limits.max_pieces):
                break
            batch.append(job)
        self._waiting = self._waiting[len(batch) :]
        return batch

    def _rest(self) -> None:
        """Nothing came for long enough."""
        self._is_loaded = False
        self._thread.submit(self._model.unload)

    # In the thread

    def _run(self, batch: Sequence[_Job]) -> list[tuple[int, ...] | AsrError]:
        if not self._is_loaded:
            try:
                self._model.load()
            except EngineFailed as error:
                _log.warning("the aligner cannot be loaded: %s", error)
                return [FeatureUnavailable(f"the aligner cannot be loaded: {error}")] * len(batch)
            self._is_loaded = True
        return self._compute([job.piece for job in batch])

    def _compute(self, pieces: Sequence[PreparedPiece]) -> list[tuple[int, ...] | AsrError]:
        try:
            return list(self._model.run(pieces))
        except AlignerOutOfMemory as error:
            if len(pieces) == 1:
                return [EngineMemory(f"no memory to align this stretch: {error}", retry_after_s=_RETRY_AFTER_S)]
            half = len(pieces) // 2
            return self._compute(pieces[:half]) + self._compute(pieces[half:])
        except Exception as error:
            if len(pieces) == 1:
                _log.exception("a stretch cannot be aligned")
                return [_hidden(error)]
            return [answer for piece in pieces for answer in self._compute([piece])]


def _words(wanted: Alignment, units: Sequence[Unit], said_ms: Sequence[int], step_ms: int) -> tuple[Word, ...]:
    speech = wanted.speech
    times = settle_times(said_ms, [len(unit.text) for unit in units], speech.duration_ms, step_ms)
    return tuple(
        Word(unit.word, speech.start_ms + time.start_ms, speech.start_ms + time.end_ms, interpolated=time.interpolated)
        for unit, time in zip(units, times, strict=True)
    )


def _hidden(error: Exception) -> InternalError:
    told = InternalError("internal error")
    told.__cause__ = error
    return told


def _answer(job: _Job, said_ms: tuple[int, ...]) -> None:
    if not job.future.done():
        job.future.set_result(said_ms)


def _fail(job: _Job, error: AsrError) -> None:
    if not job.future.done():
        job.future.set_exception(error)
