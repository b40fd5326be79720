"""An engine whose unit of work is the step: many works share each step of one model, on one thread.

Rules:

1. A decoding's future is its one answer. Whoever comes first (the thread, the deadline, a drain, a hang, the caller leaving)
   settles it; what comes later is ignored. However it ended, the thread is told to let the sequence go.
2. At most `limits.max_inside` works are inside, preparing ones included. A work may take several decodings (recognition.py);
   those after the first are not refused for want of room.
3. All state here is moved between two awaits on the event loop. The thread is reached through its inbox only, and reaches the
   loop through `call_soon_threadsafe` only, once for each step that has news.
4. A thread cannot be killed. One that does not come back from the model makes the engine FAILED: everybody is answered, health
   leaves the rotation, and the process has to be replaced. Its device memory is not given back before that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from asr_service.engine.idle import IdleTimer
from asr_service.engine.inbox import Arrival, Departure, Forget, Rest
from asr_service.engine.incremental import IncrementalListening
from asr_service.engine.jobs import Call, Job, Jobs
from asr_service.engine.listening import Listening
from asr_service.engine.loop import EngineLoop
from asr_service.engine.protocol import EngineFailed, EngineInfo, EngineLoad, EngineState
from asr_service.engine.recognition import Attempt, AttemptWork, guess, recognize
from asr_service.engine.slot import StartPolicy
from asr_service.engine.step_model import Prepared, Round, StepModel
from asr_service.engine.turns import take_short_turns
from asr_service.engine.updates import Ended, News, Ready, Updates
from asr_service.errors import AsrError, DeadlineExceeded, Draining, EngineGone, InternalError, Overloaded, Starting
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Work, WorkIds
from asr_service.scheduler.steps import StepLimits

_log = logging.getLogger(__name__)

_RETRY_AFTER_S = (1.0, 60.0)
_WATCH_EVERY_S = 1.0

RecognizeWork = Callable[[Work, AttemptWork, Callable[[], int]], Awaitable[Hypothesis]]
"""From a work to its hypothesis by one decoding or several, as recognition.recognize does. The last argument gives new uids."""


class StepEngine:
    """Implements Engine over one StepModel.

    After `idle_timeout_s` without work (0: never) the model is unloaded; the state stays READY and the next work loads it.
    `prepare_workers` threads turn works into what the model reads. `hang_limit_s`: see EngineLoop. `clock` is the one that
    stamps Work.arrival_s and Work.deadline_s.
    """

    def __init__(
        self,
        info: EngineInfo,
        model: StepModel,
        *,
        limits: StepLimits,
        idle_timeout_s: float,
        metrics: Metrics,
        recognize_work: RecognizeWork = recognize,
        prepare_workers: int = 1,
        policy: StartPolicy | None = None,
        hang_limit_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._info = info
        self._model = model
        self._limits = limits
        self._metrics = metrics
        self._recognize_work = recognize_work
        self._policy = policy or StartPolicy()
        self._clock = clock
        self._preparers = ThreadPoolExecutor(prepare_workers, thread_name_prefix="prepare")
        self._loop = EngineLoop(
            model, limits, self._hear, metrics=metrics, policy=self._policy, hang_limit_s=hang_limit_s, clock=clock
        )
        self._thread = threading.Thread(target=self._loop.run, name="engine", daemon=True)
        self._idle = IdleTimer(idle_timeout_s, lambda: self._loop.inbox.put(Rest()))
        self._watch_every_s = min(_WATCH_EVERY_S, hang_limit_s / 4)
        self._watch: asyncio.TimerHandle | None = None
        self._uids = WorkIds()
        self._streams = WorkIds()
        self._state = EngineState.STOPPED
        self._failure = ""
        self._events: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Future[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._has_failed = asyncio.Event()
        self._calls: set[Call] = set()
        self._jobs = Jobs(limits.max_sequences, metrics)
        self._n_calls = 0

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def calls(self) -> int:
        return self._n_calls

    @property
    def load(self) -> EngineLoad:
        return self._jobs.load(self._clock())

    async def start(self) -> None:
        """Returns when the model is loaded. Raises EngineFailed when it cannot be."""
        if self._state is not EngineState.STOPPED or self._stopping is not None:
            raise EngineFailed(f"the engine is {self._state.value} and can be started only once")
        take_short_turns()
        self._state = EngineState.STARTING
        self._events = asyncio.get_running_loop()
        self._started = self._events.create_future()
        self._thread.start()
        self._arm_watch()
        await self._started
        self._metrics.engine_slots.set(self._limits.max_sequences)
        self._idle.set_quiet(True)

    async def wait_failed(self) -> None:
        await self._has_failed.wait()

    async def stop(self) -> None:
        """Answers everything inside with Draining, waits for the step at work, unloads the model. Idempotent."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._shut_down())
        await asyncio.shield(self._stopping)

    async def recognize(self, work: Work) -> Hypothesis:
        """See Engine.recognize."""
        with self._inside() as call:
            return await self._recognize_work(work, partial(self._attempt, call), self._uids.take)

    def listen(self) -> Listening:
        """See Engine.listen."""
        return IncrementalListening(self._streams.take(), self._model.remember(), self._hear_round, self._forget)

    def _forget(self, stream: int) -> None:
        self._loop.inbox.put(Forget(stream))

    async def _hear_round(self, work: Work, turn: Round, keep: Callable[[Attempt], None]) -> Hypothesis:
        """See HearRound. What recovery recognises besides is no part of the growing stretch."""
        with self._inside() as call:

            async def attempt(wanted: Work) -> Attempt:
                if wanted is not work:
                    return await self._attempt(call, wanted)
                made = await self._attempt(call, work, turn)
                keep(made)
                return made

            if turn.is_exact:
                return await self._recognize_work(work, attempt, self._uids.take)
            return await guess(work, attempt)

    @contextmanager
    def _inside(self) -> Iterator[Call]:
        """A place for one work. Raises Overloaded when there is none."""
        self._refuse_unless_ready()
        if len(self._calls) >= self._limits.max_inside:
            raise Overloaded(
                f"{len(self._calls)} segments are already inside (limit {self._limits.max_inside})",
                retry_after_s=self._retry_after_s(),
            )
        call = Call()
        self._calls.add(call)
        try:
            yield call
        finally:
            self._calls.discard(call)

    def attend(self) -> AbstractContextManager[None]:
        """See Engine.attend."""
        return self._idle.attend()

    async def attempt(self, work: Work) -> Attempt:
        """One decoding of a work and nothing else."""
        return await self._attempt(Call(), work)

    async def _attempt(self, call: Call, work: Work, turn: Round | None = None) -> Attempt:
        self._refuse_unless_ready()
        now_s = self._clock()
        if work.deadline_s is not None and work.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed before the segment was queued")
        events = asyncio.get_running_loop()
        call.n_attempts += 1
        job = Job(self._uids.take(), work, call, call.n_attempts > 1, events.create_future())
        self._jobs.add(job)
        timer = None
        if work.deadline_s is not None:
            timer = events.call_later(work.deadline_s - now_s, self._expire, job)
        preparing = events.run_in_executor(self._preparers, self._model.prepare, work, turn)
        preparing.add_done_callback(partial(self._submit, job))
        self._changed()
        why: str | None = None
        try:
            return await job.future
        except asyncio.CancelledError:
            if not job.future.cancel() and not job.future.cancelled():
                job.future.exception()  # the answer came in the same moment; asyncio wants it looked at
            why = "cancelled"
            raise
        except DeadlineExceeded:
            why = "expired"
            raise
        except AsrError:
            why = "stopped"
            raise
        finally:
            preparing.cancel()
            if timer is not None:
                timer.cancel()
            self._let_go(job, why)
            del job, preparing  # a failure and this frame would hold each other, and the samples, until the collector runs

    # From the caller to the thread

    def _refuse_unless_ready(self) -> None:
        if self._stopping is not None:
            raise Draining("the server is shutting down", retry_after_s=1.0)
        if self._state is EngineState.FAILED:
            raise self._gone()
        if self._state is not EngineState.READY:
            raise Starting("the recogniser is not warm yet", retry_after_s=1.0)

    def _gone(self) -> EngineGone:
        return EngineGone(f"the recogniser has failed: {self._failure}", retry_after_s=_RETRY_AFTER_S[1])

    def _submit(self, job: Job, preparing: asyncio.Future[Prepared]) -> None:
        """The work is prepared, or cannot be."""
        if preparing.cancelled():
            return
        error = preparing.exception()
        if job.future.done():
            return
        if error is not None:
            job.fail(self._preparation_error(error))
            return
        job.prepared = preparing.result()
        wants_partials = job.work.on_partial is not None
        self._loop.inbox.put(Arrival(job.sequence(job.prepared), job.prepared, wants_partials, job.is_extra))

    def _preparation_error(self, error: BaseException) -> AsrError:
        if isinstance(error, AsrError):
            return error
        self._metrics.engine_failures.labels("error").inc()
        _log.error("a segment could not be prepared", exc_info=error)
        return InternalError("the recogniser could not handle this segment")

    def _expire(self, job: Job) -> None:
        now_s = max(self._clock(), job.work.deadline_s or 0.0)
        if job.started_s is not None:
            job.fail(DeadlineExceeded("the deadline passed while the segment was being recognised"))
        else:
            job.fail(DeadlineExceeded(f"the deadline passed after {now_s - job.work.arrival_s:.3f} s in the queue"))

    def _let_go(self, job: Job, why: str | None) -> None:
        if job.prepared is not None:
            self._loop.inbox.put(Departure(job.uid))
        self._jobs.discard(job, why, self._clock())
        self._changed()

    # From the thread to the caller

    def _hear(self, news: News) -> None:
        """On the engine's thread."""
        assert self._events is not None, "start has set it"  # noqa: S101  # narrows the type
        try:
            self._events.call_soon_threadsafe(self._receive, news)
        except RuntimeError:  # the event loop is gone, and everybody who waited with it
            self._loop.inbox.close()

    def _receive(self, news: News) -> None:
        match news:
            case Updates():
                self._take_in(news)
            case Ready():
                if self._started is not None and not self._started.done():
                    self._state = EngineState.READY
                    self._started.set_result(None)
            case Ended(failure):
                if failure is not None:
                    self._give_up(failure)

    def _take_in(self, updates: Updates) -> None:
        for uid, started_s in updates.started_s.items():
            if (job := self._jobs.get(uid)) is not None and job.started_s is None:
                self._begin(job, started_s)
        for uid, text in updates.partials.items():
            if (job := self._jobs.get(uid)) is not None and not job.future.done():
                _tell_partial(job.work, text)
        for uid, error in updates.failed.items():
            if (job := self._jobs.get(uid)) is not None:
                job.fail(error)
        for uid, reason in updates.finished.items():
            if (job := self._jobs.get(uid)) is not None:
                job.finish(reason, self._clock())

    def _begin(self, job: Job, started_s: float) -> None:
        self._jobs.begin(job, started_s)
        if not job.call.is_counted:
            job.call.is_counted = True
            self._n_calls += 1
            self._metrics.engine_calls.inc()

    def _give_up(self, failure: str) -> None:
        """The thread has ended or hangs."""
        if self._state is EngineState.FAILED or self._stopping is not None:
            return
        self._state = EngineState.FAILED
        self._failure = failure
        self._metrics.engine_slots.set(0)
        _log.error("the recogniser has failed: %s", failure)
        self._loop.inbox.close()
        if self._started is not None and not self._started.done():
            self._started.set_exception(EngineFailed(f"{self._info.name} cannot be started: {failure}"))
        else:
            self._has_failed.set()
        self._jobs.fail_all(self._gone())

    # Watching and ending

    def _changed(self) -> None:
        """A decoding came or went."""
        self._idle.set_quiet(not self._jobs and self._state is EngineState.READY and self._stopping is None)
        if self._jobs:
            self._arm_watch()

    def _arm_watch(self) -> None:
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._watch_every_s, self._look)

    def _look(self) -> None:
        """The watchdog: now and then, while somebody waits for the thread."""
        self._watch = None
        busy = self._loop.busy
        if busy is not None and (busy_s := self._clock() - busy.since_s) > busy.limit_s:
            self._metrics.engine_failures.labels("hang").inc()
            self._give_up(f"the model has not come back for {busy_s:.1f} s")
        elif self._jobs or self._state is EngineState.STARTING:
            self._arm_watch()

    async def _shut_down(self) -> None:
        self._idle.stop()
        if self._watch is not None:
            self._watch.cancel()
        if self._started is not None and not self._started.done():
            self._started.set_exception(EngineFailed("the engine was stopped while it started"))
        self._jobs.fail_all(Draining("the server is shutting down", retry_after_s=1.0))
        self._loop.inbox.close()
        self._preparers.shutdown(wait=False, cancel_futures=True)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, self._policy.stop_limit_s)
            if self._thread.is_alive():
                _log.error("the engine's thread did not end within %g s and is left behind", self._policy.stop_limit_s)
        if self._state is not EngineState.FAILED:
            self._state = EngineState.STOPPED
        self._metrics.engine_slots.set(0)

    def _retry_after_s(self) -> float:
        least_s, most_s = _RETRY_AFTER_S
        return min(max(self.load.expected_wait_s, least_s), most_s)


def _tell_partial(work: Work, text: str) -> None:
    if work.on_partial is not None:
        try:
            work.on_partial(text)
        except Exception:  # the listener's own fault: the work itself goes on
            _log.exception("a listener to partial texts failed")
