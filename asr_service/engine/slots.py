"""An engine of independent slots: a queue in front, a runner in each slot, one work per runner at a time.

Rules:

1. A job's future is its one answer. Whoever comes first (result, crash, deadline, drain, the caller leaving) settles it.
2. A settled future means that nobody waits: a job that is still queued leaves the queue, one that runs is aborted.
3. A slot comes back however its run ended; a runner that is not alive any more is started again before it serves.
4. Every wait has a bound: the caller's deadline, and for a run without one a limit that grows with the audio.
5. All state is moved between two awaits on the event loop, so there are no locks.
6. A guess through an ear waits for the ear's slot. When that is given up, the guess is work like any other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from asr_service.engine.idle import IdleTimer
from asr_service.engine.listening import Listening
from asr_service.engine.protocol import EngineFailed, EngineInfo, EngineLoad, EngineState
from asr_service.engine.runner import Runner, RunnerAborted, RunnerCrashed, RunnerFailed
from asr_service.engine.slot import Lease, Slot, SlotState, StartPolicy
from asr_service.engine.slot_listening import SlotListening
from asr_service.engine.slot_queue import Job, SlotQueue
from asr_service.engine.speed import Speed
from asr_service.errors import (
    AsrError,
    DeadlineExceeded,
    Draining,
    EngineGone,
    EngineRestarting,
    InternalError,
    Overloaded,
    Starting,
)
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority, Work

_log = logging.getLogger(__name__)

_RETRY_AFTER_S = (1.0, 60.0)
_RUN_LIMIT_FLOOR_S = 30.0
_RUN_LIMIT_PER_AUDIO_S = 20.0


def run_limit_s(work: Work) -> float:
    """After this long a run counts as hung, whatever its caller's patience."""
    return _RUN_LIMIT_FLOOR_S + _RUN_LIMIT_PER_AUDIO_S * work.speech.duration_ms / 1000


class SlotEngine:
    """Implements Engine over `slots` runners made by `make_runner(index)`.

    `queue_capacity` bounds the works that wait. After `idle_timeout_s` without work (0: never) the runners are stopped, which
    gives back their memory; the state stays READY and the next work starts them. `clock` is the clock that stamps
    Work.arrival_s and Work.deadline_s. A slot whose runner cannot be started is given up; with the last one the engine has
    failed.
    """

    def __init__(
        self,
        info: EngineInfo,
        make_runner: Callable[[int], Runner],
        *,
        slots: int,
        queue_capacity: int,
        idle_timeout_s: float,
        metrics: Metrics,
        policy: StartPolicy | None = None,
        run_limit_s: Callable[[Work], float] = run_limit_s,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots is {slots}, want at least 1")
        self._info = info
        self._queue = SlotQueue(queue_capacity)
        self._slots = [Slot(make_runner(index), policy or StartPolicy()) for index in range(slots)]
        self._metrics = metrics
        self._run_limit_s = run_limit_s
        self._clock = clock
        self._idle = IdleTimer(idle_timeout_s, self._unload)
        self._speed = Speed()
        self._state = EngineState.STOPPED
        self._running: set[Job] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._has_failed = asyncio.Event()
        self._calls = 0

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def calls(self) -> int:
        return self._calls

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(
            queued=len(self._queue),
            running=len(self._running),
            slots=self._n_usable,
            expected_wait_s=self._expected_wait_s(),
        )

    async def start(self) -> None:
        """Starts all slots and returns when each is warm or given up. Raises EngineFailed when all were given up."""
        if self._state is not EngineState.STOPPED or self._stopping is not None:
            raise EngineFailed(f"the engine is {self._state.value} and can be started only once")
        self._state = EngineState.STARTING
        await asyncio.wait([self._begin_start(slot) for slot in self._slots])
        if self._stopping is not None:
            raise EngineFailed("the engine was stopped while it started")
        if self._n_usable == 0:
            raise EngineFailed(f"{self._info.name} cannot be started: {self._slots[0].failure}")
        self._state = EngineState.READY
        self._dispatch()

    async def wait_failed(self) -> None:
        await self._has_failed.wait()

    async def stop(self) -> None:
        """Answers everything inside with Draining, ends what runs, stops the runners. Idempotent."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._shut_down())
        await asyncio.shield(self._stopping)

    async def recognize(self, work: Work) -> Hypothesis:
        """See Engine.recognize. `work.uid` must not be waiting already (ValueError)."""
        return await self._answer(work, None)

    async def _answer(self, work: Work, lease: Lease | None) -> Hypothesis:
        self._refuse_unless_ready()
        now_s = self._clock()
        if work.deadline_s is not None and work.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline had passed before the segment was queued")
        job = Job(work, asyncio.get_running_loop().create_future(), lease)
        self._queue.put(job, retry_after_s=self._retry_after_s() if self._queue.is_full else 1.0)
        timer = None
        if work.deadline_s is not None:
            timer = asyncio.get_running_loop().call_later(work.deadline_s - now_s, self._expire, job)
        self._dispatch()
        try:
            return await job.future
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del job  # a failure and this frame would hold each other, and the samples, until the collector runs

    # What waits

    def listen(self) -> Listening:
        """See Engine.listen."""
        return SlotListening(self._lend, self._answer, self.recognize)

    def _lend(self) -> Lease | None:
        """An ear of a slot that is not busy if it can be, and has lent few."""
        slots = sorted(self._slots, key=lambda slot: (slot.n_lent, slot.state is not SlotState.FREE))
        return next((lease for slot in slots if (lease := slot.lend()) is not None), None)

    def attend(self) -> AbstractContextManager[None]:
        """See Engine.attend."""
        return self._idle.attend()

    def _refuse_unless_ready(self) -> None:
        if self._stopping is not None:
            raise Draining("the server is shutting down", retry_after_s=1.0)
        if self._state is EngineState.FAILED:
            raise self._failed()
        if self._state is not EngineState.READY:
            raise Starting("the recogniser is not warm yet", retry_after_s=1.0)

    def _failed(self) -> EngineGone:
        return EngineGone(f"the recogniser cannot be started: {self._slots[0].failure}", retry_after_s=_RETRY_AFTER_S[1])

    def _withdraw(self, job: Job) -> None:
        """The caller has left."""
        if not job.future.cancel() and not job.future.cancelled():
            job.future.exception()  # the answer came in the same moment; asyncio wants it looked at
        if self._queue.withdraw(job):
            self._count_dropped("cancelled")
            self._dispatch()

    def _expire(self, job: Job) -> None:
        """The job's deadline is here; timers may come a clock tick early."""
        now_s = max(self._clock(), job.work.deadline_s or 0.0)
        self._answer_expired(now_s)
        job.fail(DeadlineExceeded("the deadline passed while the segment was being recognised"))
        self._dispatch()

    def _answer_expired(self, now_s: float) -> None:
        for job in self._queue.take_expired(now_s):
            self._count_dropped("expired")
            job.fail(DeadlineExceeded(f"the deadline passed after {now_s - job.work.arrival_s:.3f} s in the queue"))

    def _answer_waiting(self, error: AsrError) -> None:
        for job in self._queue.clear():
            self._count_dropped("stopped")
            job.fail(error)

    def _count_dropped(self, why: str) -> None:
        self._metrics.queue_dropped.labels(why).inc()

    # What runs

    def _dispatch(self) -> None:
        """Gives waiting work to free slots, wakes as many cold slots as there is work for, and shows the new numbers."""
        if self._state is EngineState.READY:
            now_s = self._clock()
            self._answer_expired(now_s)
            for slot in sorted(self._in(SlotState.FREE), key=self._queue.n_for):  # those that nobody else can stand in for last
                if self._can_serve(slot) and (job := self._queue.take(slot, now_s)) is not None:
                    self._begin_run(slot, job, now_s)
            n_missing = self._queue.n_for_any - len(self._in(SlotState.STARTING, SlotState.STOPPING))
            for slot in self._in(SlotState.COLD)[: max(0, n_missing)]:
                self._begin_start(slot)
        self._idle.set_quiet(not self._queue and bool(self._in(SlotState.FREE)) and not self._in(SlotState.BUSY))
        self._show()

    def _can_serve(self, slot: Slot) -> bool:
        """Is there work for this free slot, and is its runner alive?"""
        if not self._queue.n_for_any and not self._queue.n_for(slot):
            return False
        if slot.runner.alive:
            return True
        self._metrics.engine_failures.labels("crash").inc()  # it died while it had nothing to do
        self._begin_start(slot)
        return False

    def _begin_run(self, slot: Slot, job: Job, now_s: float) -> None:
        slot.state = SlotState.BUSY
        job.started_s = now_s
        self._running.add(job)
        self._calls += 1
        self._metrics.engine_calls.inc()
        self._metrics.queue_wait_seconds.labels(_label(job.work.priority)).observe(max(0.0, now_s - job.work.arrival_s))
        self._spawn(self._serve(slot, job))

    async def _serve(self, slot: Slot, job: Job) -> None:
        run = asyncio.ensure_future(job.run(slot))
        try:
            await asyncio.wait({run, job.future}, timeout=self._run_limit_s(job.work), return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                if not job.future.done():
                    self._metrics.engine_failures.labels("hang").inc()
                    job.fail(EngineRestarting("the recogniser did not come back", retry_after_s=self._retry_after_s()))
                await slot.abort(run)
        finally:
            run.cancel()  # no effect on a run that is done
            self._conclude(job, run)
            self._running.discard(job)
            self._give_back(slot)

    def _conclude(self, job: Job, run: asyncio.Future[Hypothesis]) -> None:
        """Turns how the run ended into the job's answer, if it has none yet."""
        run_s = job.running_s(self._clock())
        if not run.done() or run.cancelled():
            return job.fail(EngineRestarting("the recogniser was stopped", retry_after_s=self._retry_after_s()))
        match run.exception():
            case None:
                if job.lease is None:  # a guess does less than the whole of a work
                    self._speed.learn(job.audio_s, run_s)
                if not job.future.done():
                    queue_s = max(0.0, job.started_s - job.work.arrival_s)
                    job.future.set_result(replace(run.result(), queue_s=queue_s, run_s=run_s))
            case RunnerAborted():
                job.fail(EngineRestarting("the recogniser was stopped", retry_after_s=self._retry_after_s()))
            case RunnerCrashed() as crash:
                if not job.future.done():  # else we killed it ourselves
                    self._metrics.engine_failures.labels("crash").inc()
                    _log.error("recogniser crashed: %s", crash)
                    job.fail(EngineRestarting("the recogniser crashed and is restarting", retry_after_s=self._retry_after_s()))
            case error:
                self._metrics.engine_failures.labels("error").inc()
                _log.error("recogniser error: %s", error, exc_info=None if isinstance(error, RunnerFailed) else error)
                job.fail(InternalError("the recogniser could not handle this segment"))
        return None

    def _give_back(self, slot: Slot) -> None:
        if self._stopping is not None:
            return
        if slot.runner.alive:
            slot.state = SlotState.FREE
        else:
            self._begin_start(slot)
        self._dispatch()

    # Slots coming and going

    def _begin_start(self, slot: Slot) -> asyncio.Task[None]:
        slot.state = SlotState.STARTING
        task = self._spawn(self._start_slot(slot))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)
        return task

    async def _start_slot(self, slot: Slot) -> None:
        is_warm = await slot.start(self._metrics.engine_failures.labels("start").inc)
        if self._stopping is not None:
            return
        slot.state = SlotState.FREE if is_warm else SlotState.DEAD
        if not is_warm:
            self._loosen(self._queue.take_guesses_for(slot))
        if self._n_usable == 0:
            self._state = EngineState.FAILED
            self._has_failed.set()
            self._answer_waiting(self._failed())
        self._dispatch()

    def _loosen(self, guesses: list[Job]) -> None:
        """Their slot is gone; any other can do them."""
        for job in guesses:
            job.lease = None
            try:
                self._queue.put(job, retry_after_s=self._retry_after_s())
            except Overloaded as error:
                job.fail(error)

    def _unload(self) -> None:
        for slot in self._in(SlotState.FREE):
            slot.state = SlotState.STOPPING
            self._spawn(self._cool_down(slot))

    async def _cool_down(self, slot: Slot) -> None:
        await slot.stop()
        slot.state = SlotState.COLD
        self._dispatch()

    async def _shut_down(self) -> None:
        self._idle.stop()
        draining = Draining("the server is shutting down", retry_after_s=1.0)
        self._answer_waiting(draining)
        for job in self._running:
            job.fail(draining)
        for task in self._starts:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * self._slots[0].policy.stop_limit_s)
        await asyncio.gather(*(slot.stop() for slot in self._slots))
        if self._state is not EngineState.FAILED:
            self._state = EngineState.STOPPED
        self._show()

    # Numbers

    @property
    def _n_usable(self) -> int:
        return len(self._slots) - len(self._in(SlotState.DEAD))

    def _in(self, *states: SlotState) -> list[Slot]:
        return [slot for slot in self._slots if slot.state in states]

    def _expected_wait_s(self) -> float:
        """What runs and what would be served before a new interactive work, shared by the slots."""
        if self._in(SlotState.FREE) or self._n_usable == 0:
            return 0.0
        now_s = self._clock()
        ahead_s = self._speed.run_s(self._queue.audio_ahead_s(now_s + Priority.INTERACTIVE.allowance_s))
        running_s = sum(max(0.0, self._speed.run_s(job.audio_s) - job.running_s(now_s)) for job in self._running)
        return (running_s + ahead_s) / self._n_usable

    def _retry_after_s(self) -> float:
        least_s, most_s = _RETRY_AFTER_S
        return min(max(self._expected_wait_s(), least_s), most_s)

    def _show(self) -> None:
        for priority in Priority:
            self._metrics.queue_depth.labels(_label(priority)).set(self._queue.depth(priority))
        self._metrics.engine_running.set(len(self._running))
        self._metrics.engine_slots.set(self._n_usable)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _label(priority: Priority) -> str:
    return priority.name.lower()
