"""One live session at work. Everything happens on the event loop, most of it within the call that brings it.

Rules:

1. What the client says takes effect in the order it was said, after all audio before it.
2. The session ends once: well (Closed, when everything is decided), failed (Failed), or abandoned (nobody hears of it).
   Whichever it is, nothing of it stays behind.
3. `room` is the back-pressure: whoever feeds awaits it and reads no more while more is inside than will be used soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_service.audio.pool import DecodePool
from asr_service.audio.raw_stream import RawStream
from asr_service.audio.source import Encoding
from asr_service.audio.vad_batch import VadBatcher
from asr_service.engine.aligner import Aligner
from asr_service.engine.protocol import Engine
from asr_service.errors import AsrError, InternalError, InvalidValue
from asr_service.live.events import Closed, Failed, GoingAway, Noted, Opened, Refined, Totals
from asr_service.live.hearing import Hearing
from asr_service.live.intake import ContainerIntake, Ear, Intake, OpenEar, RawIntake
from asr_service.live.outbox import Outbox
from asr_service.live.plan import Beginning, LivePlan
from asr_service.live.refining import Refining
from asr_service.metrics import Metrics
from asr_service.request import (
    SAMPLE_RATE,
    Hypothesis,
    RecognitionOptions,
    Samples,
    TokenUse,
    WorkIds,
    samples_to_ms,
)
from asr_service.session.events import (
    Decide,
    Decided,
    Ended,
    EndReason,
    Event,
    Final,
    Guess,
    Output,
    Partial,
    SpeechEventType,
    SpeechNoticed,
    Wish,
)
from asr_service.session.session import Session
from asr_service.session.settings import EndpointMode, SessionSettings

MAX_UNDECIDED = 4
_MAX_EVENTS = 256
_KEPT_EVENTS = 2_000


@dataclass(frozen=True, slots=True)
class LiveParts:
    """What all live sessions of a service share."""

    decoders: DecodePool
    detector: VadBatcher
    engine: Engine
    metrics: Metrics
    ids: WorkIds
    aligner: Aligner | None = None


class LiveSession:
    """See the module. What the client says comes in by methods that return at once and raise InvalidValue and its kinds, or
    ResumeWindowGone; what the client hears is taken from `outbox`."""

    def __init__(self, plan: LivePlan, parts: LiveParts, beginning: Beginning | None = None) -> None:
        beginning = beginning or Beginning()
        self.plan = plan
        self.outbox = Outbox(
            n_kept=_KEPT_EVENTS if plan.resume_window_ms else 0, first_seq=beginning.first_seq, on_take=self.moved
        )
        self._parts = parts
        self._began_s = monotonic()
        self._session = Session(
            plan.settings,
            plan.options,
            now_s=self._began_s,
            first_sample=_at_16k(beginning.first_sample, plan.rate_hz),
            first_utterance=beginning.first_utterance,
        )
        self._ear = self._make_ear()
        self._intake = self._make_intake(beginning)
        self._hearings: dict[int, Hearing] = {}
        self._ends_s: dict[int, float] = {}  # when utterances that wait for their final ended
        self._closing: set[asyncio.Task[None]] = set()
        self._refining = Refining(parts.aligner, parts.ids, plan.deadline_s, self._refined)
        self._ended: Ended | None = None  # said, once all words are there
        self._totals = Totals()
        self._n_samples = 0
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._is_over = False
        self._attendance: AbstractContextManager[None] = parts.engine.attend()
        self._attendance.__enter__()
        self._put(Opened())
        self._arm()

    @property
    def is_over(self) -> bool:
        return self._is_over

    # What the client says

    def audio(self, data: bytes, first_sample: int | None = None) -> None:
        self._intake.audio(data, first_sample)

    def silence(self, ms: int) -> None:
        self._intake.silence(ms)

    def flush(self) -> None:
        self._in_turn(lambda: self._take(self._session.flush(monotonic())))

    def mark(self, id_: str) -> None:
        self._in_turn(lambda: self._take(self._session.mark(id_, monotonic())))

    def patch(self, options: RecognitionOptions | None, settings: SessionSettings | None) -> None:
        """From here on. Raises InvalidValue for a change from or to EndpointMode.OFF."""
        if settings is not None:
            is_off, will_be_off = (s.endpointing.mode is EndpointMode.OFF for s in (self.plan.settings, settings))
            if is_off is not will_be_off:
                raise InvalidValue.of("patch.endpointing.mode", "off cannot be switched on or off within a session")
        self.plan = replace(self.plan, options=options or self.plan.options, settings=settings or self.plan.settings)
        self._in_turn(lambda: self._take(self._session.patch(monotonic(), options=options, settings=settings)))

    def finish(self) -> None:
        """No audio comes any more."""
        if n_bytes_left := self._intake.n_bytes_left:
            self.note("AUDIO_IRREGULAR", "audio", f"the audio ends inside a sample: its {n_bytes_left} bytes were not used")
        self._intake.finish(lambda: self._take(self._session.finish(monotonic())))

    def resumed(self, after_seq: int) -> None:
        """Another connection goes on with it, and has heard everything up to that event. Raises ResumeWindowGone."""
        self.outbox.rewind(after_seq)
        self._intake.resumed()

    async def room(self) -> None:
        """Returns when more can be taken in."""
        while not self._is_over and self._is_full:
            self._room.clear()
            await self._room.wait()

    @property
    def _is_full(self) -> bool:
        return self._session.n_undecided > MAX_UNDECIDED or self._intake.is_full or self.outbox.n_waiting > _MAX_EVENTS

    def _in_turn(self, act: Callable[[], None]) -> None:
        if not self._intake.is_replaying:  # it has been said already
            self._intake.after(act)

    # What ends it

    def end(self, reason: EndReason) -> None:
        """As if the client had finished."""
        self._intake.after(lambda: self._take(self._session.end(reason, monotonic())))

    def truncate(self, reason: EndReason) -> None:
        """Ends at once, with what is known."""
        self._take(self._session.truncate(reason, monotonic()))

    def fail(self, error: Exception) -> None:
        """The session is over, with an error. Our own faults are for the caller to log and to hide: see Failed."""
        if self._is_over:
            return
        if not isinstance(error, AsrError):
            told = InternalError("internal error")
            told.__cause__ = error
            error = told
        self.outbox.put(Failed(error), self._session.cursors)
        self._close()

    def abandon(self) -> None:
        """Nobody is interested any more: all work is cancelled."""
        if not self._is_over:
            self._close()

    async def closed(self) -> None:
        """After the end: returns when nothing of it is left."""
        while self._closing:
            await asyncio.wait(self._closing)

    def _close(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._ear.close()
        self._spawn(self._refining.close())
        self._spawn(self._intake.close())
        for utterance in list(self._hearings):
            self._drop(utterance)
        self._attendance.__exit__(None, None, None)
        self.moved()

    # What the parts say

    def moved(self) -> None:
        """There may be room again."""
        self._room.set()

    def note(self, code: str, field: str, message: str) -> None:
        """A warning."""
        self._put(Noted(code, field, message))

    def going_away(self, in_s: float) -> None:
        """The server will close."""
        self._put(GoingAway(in_s))

    def _tell(self, samples: Samples, probabilities: NDArray[np.float32]) -> None:
        if self._is_over:
            return
        self._parts.metrics.audio_seconds.inc(len(samples) / SAMPLE_RATE)
        self._n_samples += len(samples)
        self._take(self._session.feed(samples, probabilities, monotonic()))
        self.moved()

    def _answered(self, wish: Wish, hypothesis: Hypothesis | None) -> None:
        if self._is_over:
            return
        now_s = monotonic()
        if hypothesis is None:
            self._take(self._session.missed(wish.ticket, now_s))
            return
        self._account(hypothesis)
        if isinstance(wish, Guess):
            self._take(self._session.guessed(wish.ticket, hypothesis, now_s))
        else:
            self._take(self._session.decided(wish.ticket, hypothesis, now_s))
        self.moved()

    def _account(self, hypothesis: Hypothesis) -> None:
        totals = self._totals
        totals.queue_s += hypothesis.queue_s
        totals.recognize_s += hypothesis.run_s
        totals.engine_calls += 1
        if hypothesis.tokens is not None:
            totals.tokens = (totals.tokens or TokenUse()) + hypothesis.tokens
        if hypothesis.text and totals.first_text_s is None:
            totals.first_text_s = monotonic() - self._began_s
        self._parts.metrics.stage_seconds.labels("queue").observe(hypothesis.queue_s)
        self._parts.metrics.stage_seconds.labels("recognize").observe(hypothesis.run_s)

    # What the session says

    def _take(self, outputs: list[Output]) -> None:
        if self._is_over:
            return
        for output in outputs:
            if isinstance(output, Guess | Decide):
                self._wish(output)
            elif isinstance(output, Ended):
                self._end(output)
            elif not isinstance(output, Decided) or self.plan.resume_window_ms:
                self._see(output)
                self.outbox.put(_light(output), self._session.cursors)
                if isinstance(output, Final) and self.plan.options.word_times:
                    self._refining.refine(output.result)
        self._arm()

    def _refined(self, words: Refined | None) -> None:
        """The words of a final, or that there are none to come."""
        if words is not None:
            self.outbox.put(words, self._session.cursors)
        if self._ended is not None and not self._refining.is_busy:
            self._close_well(self._ended)

    def _see(self, event: object) -> None:
        if isinstance(event, SpeechNoticed) and event.type is SpeechEventType.END:
            self._ends_s[event.utterance] = monotonic()
        elif isinstance(event, Partial):
            self._parts.metrics.live_partials.inc()
        elif isinstance(event, Final):
            number = event.result.index
            self._parts.metrics.live_finals.labels(str(event.revised).lower()).inc()
            self._parts.metrics.speech_seconds.inc(event.result.speech.duration_ms / 1000)
            if (ended_s := self._ends_s.pop(number, None)) is not None:
                self._parts.metrics.live_final_seconds.observe(monotonic() - ended_s)
            self._totals.speech_ms += event.result.speech.duration_ms
            self._drop(number)

    def _wish(self, wish: Wish) -> None:
        hearing = self._hearings.get(wish.utterance)
        if hearing is None:
            listening = self._parts.engine.listen()
            hearing = Hearing(listening, self._parts.ids, self.plan.deadline_s, self._answered, self.fail)
            self._hearings[wish.utterance] = hearing
        hearing.wish(wish)

    def _drop(self, utterance: int) -> None:
        if (hearing := self._hearings.pop(utterance, None)) is not None:
            self._spawn(hearing.close())

    def _end(self, ended: Ended) -> None:
        """Words that are still being aligned come first, unless there is no time."""
        if self._refining.is_busy and ended.reason is not EndReason.DEADLINE:
            self._ended = ended
        else:
            self._close_well(ended)

    def _close_well(self, ended: Ended) -> None:
        self._totals.total_s = monotonic() - self._began_s
        self._totals.audio_ms = samples_to_ms(self._n_samples)
        self._put(Closed(ended, self._totals))
        self._close()

    def _put(self, event: Opened | Noted | GoingAway | Closed) -> None:
        self.outbox.put(event, self._session.cursors)

    def _arm(self) -> None:
        """The next look at the session's clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_s = self._session.next_tick_s
        if at_s is not None and not self._is_over:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at_s - monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._take(self._session.tick(monotonic()))

    # Making

    def _make_ear(self) -> Ear:
        if self.plan.settings.endpointing.mode is EndpointMode.OFF:
            return OpenEar(self._tell)
        return self._parts.detector.new_stream(self._tell, self.fail)

    def _make_intake(self, beginning: Beginning) -> Intake:
        fmt = self.plan.format
        if fmt.encoding is Encoding.CONTAINER:
            return ContainerIntake(self._parts.decoders, fmt, self._ear, self)
        stream = RawStream(fmt.encoding, fmt.sample_rate_hz or SAMPLE_RATE, fmt.channels or 1, beginning.first_sample)
        return RawIntake(stream, self._ear, is_resumed=beginning.is_resumed)

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _light(event: Event) -> Event:
    """Events may be kept for long, and sound is heavy."""
    if not isinstance(event, Final):
        return event
    return replace(event, result=replace(event.result, speech=event.result.speech.without_sound()))


def _at_16k(sample: int, rate_hz: int | None) -> int:
    return sample * SAMPLE_RATE // rate_hz if rate_hz else sample
