"""Files to text: bytes -> samples -> stretches of speech -> hypotheses -> ordered events.

One transcription is two tasks joined by a short queue: the feeder decodes, listens for speech and submits each stretch to the
engine; the caller's task waits for the results in order and emits them. The queue's bound is the back-pressure: while the
engine is busy with a source's few stretches in flight, nothing more of that source is decoded, so nothing more is read from the
client. While the caller's task waits for a stretch, it emits the newest of its partial texts now and then; a slow reader gets
fewer of them. A stretch that was cut in speech waits for the next one, which heard the sound before the cut too, and both are
joined where they agree. Whatever way it ends, nothing of it stays behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic

from asr_service.audio.pool import DecodePool
from asr_service.audio.vad import SileroVad
from asr_service.decoding.joining import join_texts
from asr_service.engine.protocol import Engine
from asr_service.metrics import Metrics
from asr_service.request import Cursors, Priority, Samples, SegmentResult, Speech, Work, WorkIds, samples_to_ms
from asr_service.transcriber.job import Completed, Event, Job, Partial, Progress, StageTimes
from asr_service.transcriber.listener import Listener, SpeechListener, StretchCaps, WholeListener
from asr_service.transcriber.overlap import LeadIns, Stretch, heard_again, joined
from asr_service.transcriber.partial import LatestText
from asr_service.transcriber.text import Said, main_language, total_tokens

PROGRESS_INTERVAL_S = 0.5
PARTIAL_INTERVAL_S = 0.1

Emit = Callable[[Event], Awaitable[None]]
ConfirmEnd = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch on its way through the engine. The task's result is of what was heard, lead included."""

    index: int
    stretch: Stretch
    task: asyncio.Task[SegmentResult]
    partial: LatestText


_Item = _Segment | Progress | None


class Transcriber:
    """Runs transcriptions on shared decoders, one detector and one engine.

    `segments_in_flight` bounds the stretches of one source that wait for or are in the engine, `caps` the length of each.
    `executor` runs voice activity detection, which releases the GIL. `ids`: shared with all others that use the engine.
    """

    def __init__(
        self,
        pool: DecodePool,
        vad: SileroVad,
        engine: Engine,
        metrics: Metrics,
        executor: Executor,
        segments_in_flight: int = 4,
        caps: StretchCaps | None = None,
        ids: WorkIds | None = None,
    ) -> None:
        self._pool = pool
        self._vad = vad
        self._engine = engine
        self._metrics = metrics
        self._executor = executor
        self._segments_in_flight = segments_in_flight
        self._caps = caps or StretchCaps()
        self._ids = ids or WorkIds()

    async def run(self, source: AsyncIterator[bytes], job: Job, emit: Emit, confirm_end: ConfirmEnd | None = None) -> Completed:
        """Transcribes one source. Awaits `emit` for each event, in order; returns the end, which is not emitted.

        When the bytes have ended, `confirm_end` is awaited before the last stretch goes to the engine.

        Raises what decoding or the engine raises (AsrError) after the segments before the fault were emitted. Cancelling it
        cancels all its work.
        """
        progress = _Progress(job.arrival_s)
        outcome = _Outcome(progress, emit)
        running: set[asyncio.Task[SegmentResult]] = set()
        items: asyncio.Queue[_Item] = asyncio.Queue(self._segments_in_flight)
        stretches = self._stretches(_counted(source, progress), job, progress, confirm_end)
        feeder = asyncio.create_task(self._feed(stretches, job, progress, items, running))
        item: _Item = None
        try:
            while (item := await items.get()) is not None:
                if isinstance(item, Progress):
                    # It says how far things are now, not how far they were when it was put behind the segments before it.
                    await emit(Event(progress.cursors, progress.report()))
                    continue
                await self._settle(item, job, outcome)
                running.discard(item.task)
            await outcome.let_go()
            await feeder
        finally:
            await _cancel_all([feeder, *running])
            running.clear()
            outcome.held = None
            del feeder, item  # a failed task keeps the traceback that leads here: a cycle that would keep the audio
        return self._completed(outcome.said, progress)

    async def _settle(self, segment: _Segment, job: Job, outcome: _Outcome) -> None:
        """Waits for a segment, and says what is then decided: it and the one before, if that was held for it."""
        try:
            result = await outcome.decided(segment)
        except Exception:
            await outcome.let_go()
            raise
        n_calls = 1
        stretch, held = segment.stretch, outcome.held
        if stretch.lead and held is not None:
            if (both := joined(held, result, stretch)) is not None:
                outcome.held, result = both
            else:
                await outcome.let_go()
                again = await self._recognize(segment.index, stretch.speech, job, segment.partial)
                result = replace(again, hypothesis=heard_again(result.hypothesis, again.hypothesis))
                n_calls = 2
        await outcome.let_go()
        outcome.held, outcome.n_calls = result, n_calls
        if not stretch.is_open:
            await outcome.let_go()

    async def _feed(
        self,
        stretches: AsyncGenerator[Speech | None, None],
        job: Job,
        progress: _Progress,
        items: asyncio.Queue[_Item],
        running: set[asyncio.Task[SegmentResult]],
    ) -> None:
        """Puts a task for each stretch, in order, and at the end None, also after a failure (which it raises)."""
        index = 0
        lead_ins = LeadIns(self._caps.overlap_ms if job.options.max_alternatives == 1 else 0)  # whole texts cannot be joined
        try:
            async with aclosing(stretches):
                async for speech in stretches:
                    if speech is not None:
                        partial, stretch = LatestText(), lead_ins.stretch(speech)
                        task = asyncio.create_task(self._recognize(index, stretch.heard, job, partial))
                        running.add(task)
                        await items.put(_Segment(index, stretch, task, partial))
                        index += 1
                    elif not items.full():
                        items.put_nowait(progress.report())
            await items.put(progress.report())
        except Exception:
            await items.put(None)
            raise
        await items.put(None)

    async def _stretches(
        self, source: AsyncIterator[bytes], job: Job, progress: _Progress, confirm_end: ConfirmEnd | None
    ) -> AsyncGenerator[Speech | None, None]:
        """Stretches of speech in order; None now and then, when it is time to report progress."""
        vad = job.voice_activity
        listener: Listener = (
            SpeechListener(self._vad, vad, self._executor, self._caps) if vad.enabled else WholeListener(self._caps)
        )
        blocks = self._pool.decode(source, job.format, interactive=job.priority is not Priority.BATCH)
        reported_s = monotonic()
        async with aclosing(blocks):
            while (block := await progress.timed_decode(anext(blocks, None))) is not None:
                progress.decoded(block)
                found = await listener.hear(block)
                progress.looked_at()
                for speech in found:
                    yield speech
                if monotonic() - reported_s >= PROGRESS_INTERVAL_S:
                    reported_s = monotonic()
                    yield None
        last = await listener.finish()
        if confirm_end is not None:
            await confirm_end()
        for speech in last:
            yield speech
        progress.ended()
        progress.times.voice_activity_s = listener.spent_s
        self._metrics.stage_seconds.labels("decode").observe(progress.times.decode_s)
        self._metrics.stage_seconds.labels("voice_activity").observe(listener.spent_s)

    async def _recognize(self, index: int, speech: Speech, job: Job, partial: LatestText) -> SegmentResult:
        on_partial = partial.put if job.partials else None
        work = Work(self._ids.take(), speech, job.options, job.priority, monotonic(), job.deadline_s, on_partial)
        hypothesis = await self._engine.recognize(work)
        self._metrics.speech_seconds.inc(speech.duration_ms / 1000)
        self._metrics.stage_seconds.labels("queue").observe(hypothesis.queue_s)
        self._metrics.stage_seconds.labels("recognize").observe(hypothesis.run_s)
        return SegmentResult(index, speech, hypothesis)

    def _completed(self, said: list[Said], progress: _Progress) -> Completed:
        times = progress.times
        times.total_s = monotonic() - progress.arrival_s
        times.queue_s = sum(s.queue_s for s in said)
        times.recognize_s = sum(s.run_s for s in said)
        return Completed(
            text=join_texts(s.text for s in said),
            language=main_language(said),
            duration_ms=progress.cursors.received_ms,
            speech_ms=sum(s.duration_ms for s in said),
            segment_count=len(said),
            engine_calls=sum(s.n_calls for s in said),
            times=times,
            tokens=total_tokens(said),
        )


@dataclass(slots=True)
class _Progress:
    """Where one transcription is."""

    arrival_s: float
    cursors: Cursors = field(default_factory=Cursors)
    times: StageTimes = field(default_factory=StageTimes)
    received_bytes: int = 0
    n_samples: int = 0
    total_ms: int | None = None

    async def timed_decode(self, block: Awaitable[Samples | None]) -> Samples | None:
        started_s = monotonic()
        try:
            return await block
        finally:
            self.times.decode_s += monotonic() - started_s

    def decoded(self, block: Samples) -> None:
        self.n_samples += len(block)
        self.cursors = Cursors(samples_to_ms(self.n_samples), self.cursors.decoded_ms, self.cursors.committed_ms)

    def looked_at(self) -> None:
        self.cursors = Cursors(self.cursors.received_ms, self.cursors.received_ms, self.cursors.committed_ms)

    def committed(self, result: SegmentResult) -> None:
        end_ms = min(result.speech.end_ms, self.cursors.decoded_ms)
        self.cursors = Cursors(self.cursors.received_ms, self.cursors.decoded_ms, max(end_ms, self.cursors.committed_ms))
        self.told(result.hypothesis.text)

    def told(self, text: str) -> None:
        if self.times.first_text_s is None and text:
            self.times.first_text_s = monotonic() - self.arrival_s

    def ended(self) -> None:
        self.total_ms = self.cursors.received_ms

    def report(self) -> Progress:
        eta_s = None
        if self.total_ms is not None and self.cursors.committed_ms > 0:
            spent_s = monotonic() - self.arrival_s
            eta_s = spent_s * (self.total_ms - self.cursors.committed_ms) / self.cursors.committed_ms
        return Progress(self.cursors.committed_ms, self.received_bytes, self.total_ms, eta_s)


@dataclass(slots=True)
class _Outcome:
    """What is decided, on its way out. `held`: the last segment, if the one after it may still change its end."""

    progress: _Progress
    emit: Emit
    said: list[Said] = field(default_factory=list)
    held: SegmentResult | None = None
    n_calls: int = 1  # that `held` took

    async def decided(self, segment: _Segment) -> SegmentResult:
        """Emits partial texts until the segment is there, if it is the first that was not said."""
        while self.held is None and (text := await segment.partial.take(until=segment.task)) is not None:
            self.progress.told(text)
            await self.emit(Event(self.progress.cursors, Partial(segment.index, text)))
            await asyncio.wait({segment.task}, timeout=PARTIAL_INTERVAL_S)
        return await segment.task

    async def let_go(self) -> None:
        """Says what is held."""
        result, self.held = self.held, None
        if result is not None:
            self.said.append(Said.of(result, self.n_calls))
            self.progress.committed(result)
            await self.emit(Event(self.progress.cursors, result))


async def _counted(source: AsyncIterator[bytes], progress: _Progress) -> AsyncIterator[bytes]:
    async for chunk in source:
        progress.received_bytes += len(chunk)
        yield chunk


async def _cancel_all(tasks: list[asyncio.Task[None] | asyncio.Task[SegmentResult]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
