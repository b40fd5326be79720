"""The decodings inside a step engine, and what can be said of them as a whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from asr_service.decoding.reply import FinishReason
from asr_service.engine.protocol import EngineLoad
from asr_service.engine.recognition import Attempt
from asr_service.engine.speed import Speed
from asr_service.engine.step_model import Prepared
from asr_service.errors import AsrError
from asr_service.metrics import Metrics
from asr_service.request import Priority, TokenUse, Work
from asr_service.scheduler.plan import Sequence


@dataclass(eq=False, slots=True)
class Call:
    """One work inside, from `recognize` to its answer. `is_counted`: it was given to the model."""

    is_counted: bool = False
    n_attempts: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """One decoding: `uid` is the engine's own, not the work's. Its future is its one answer."""

    uid: int
    work: Work
    call: Call
    is_extra: bool
    future: asyncio.Future[Attempt]
    prepared: Prepared | None = None  # and known to the engine's thread, from then on
    started_s: float | None = None  # when the model first had it

    def fail(self, error: AsrError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def finish(self, reason: FinishReason, now_s: float) -> None:
        """Its reply is complete."""
        if self.future.done() or self.prepared is None or self.started_s is None:
            return
        reply, n_audio = self.prepared.reply, self.prepared.n_audio_tokens
        tokens = TokenUse(audio=n_audio, prompt=self.prepared.n_prompt - n_audio, output=len(reply.ids))
        queue_s = max(0.0, self.started_s - self.work.arrival_s)
        self.future.set_result(Attempt(reply, reason, queue_s, max(0.0, now_s - self.started_s), tokens))

    def sequence(self, prepared: Prepared) -> Sequence:
        """What is scheduled."""
        n_pinned, kept = len(prepared.reply.ids), prepared.kept
        return Sequence(
            uid=self.uid,
            priority=self.work.priority,
            arrival_s=self.work.arrival_s,
            deadline_s=self.work.deadline_s,
            n_windows=prepared.n_windows,
            n_prompt=prepared.n_prompt,
            max_new_tokens=prepared.max_new_tokens,
            audio_s=self.audio_s,
            stream=kept.stream if kept is not None else None,
            stations=kept.stations if kept is not None else (),
            n_generated=n_pinned,
            n_draft=max(0, len(prepared.draft.ids) - n_pinned),
        )

    @property
    def audio_s(self) -> float:
        return self.work.speech.duration_ms / 1000

    @property
    def key_s(self) -> float:
        """Served in this order."""
        return self.work.arrival_s + self.work.priority.allowance_s


class Jobs:
    """All jobs inside, by uid. `rows` of them share a step. Shows its numbers in the metrics whenever they change."""

    def __init__(self, rows: int, metrics: Metrics) -> None:
        self._rows = rows
        self._metrics = metrics
        self._jobs: dict[int, Job] = {}
        self._n_waiting = dict.fromkeys(Priority, 0)
        self._speed = Speed()

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, uid: int) -> Job | None:
        return self._jobs.get(uid)

    def add(self, job: Job) -> None:
        self._jobs[job.uid] = job
        self._wait(job, 1)

    def begin(self, job: Job, started_s: float) -> None:
        """The model has it."""
        job.started_s = started_s
        self._wait(job, -1)
        waited_s = max(0.0, started_s - job.work.arrival_s)
        self._metrics.queue_wait_seconds.labels(_label(job.work.priority)).observe(waited_s)

    def discard(self, job: Job, why: str | None, now_s: float) -> None:
        """It has left; `why` unless it was served."""
        del self._jobs[job.uid]
        if job.started_s is None:
            self._wait(job, -1)
            if why is not None:
                self._metrics.queue_dropped.labels(why).inc()
        else:
            if why is None:
                self._speed.learn(job.audio_s, now_s - job.started_s)
            self._show_running()

    def fail_all(self, error: AsrError) -> None:
        for job in self._jobs.values():
            job.fail(error)

    def load(self, now_s: float) -> EngineLoad:
        n_waiting = sum(self._n_waiting.values())
        return EngineLoad(
            queued=n_waiting,
            running=len(self._jobs) - n_waiting,
            slots=self._rows,
            expected_wait_s=self._expected_wait_s(now_s),
        )

    def _expected_wait_s(self, now_s: float) -> float:
        """What would go before a new interactive work and what of it is left, shared by the rows of a step."""
        key_s = now_s + Priority.INTERACTIVE.allowance_s
        ahead = [job for job in self._jobs.values() if job.key_s <= key_s]
        if len(ahead) < self._rows:
            return 0.0
        return sum(self._left_s(job, now_s) for job in ahead) / self._rows

    def _left_s(self, job: Job, now_s: float) -> float:
        run_s = self._speed.run_s(job.audio_s)
        return run_s if job.started_s is None else max(0.0, run_s - (now_s - job.started_s))

    def _wait(self, job: Job, change: int) -> None:
        priority = job.work.priority
        self._n_waiting[priority] += change
        self._metrics.queue_depth.labels(_label(priority)).set(self._n_waiting[priority])
        self._show_running()

    def _show_running(self) -> None:
        self._metrics.engine_running.set(len(self._jobs) - sum(self._n_waiting.values()))


def _label(priority: Priority) -> str:
    return priority.name.lower()
