"""What waits for slots: work that any slot can do, and guesses that one slot only can do, because the ear is there.

Laws:

1. Every job that is put in leaves exactly once: by one of the methods that take out.
2. A slot takes the most urgent of what any slot can do and what it alone can do, in the order of scheduler.queue. When both are
   equally urgent, it takes what any slot can do.
3. Work for any slot is bounded by the capacity. Guesses are bounded by the ears: each is lent to one stretch, which makes one
   guess at a time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from asr_service.engine.slot import Lease, Slot
from asr_service.errors import AsrError
from asr_service.request import SAMPLE_RATE, Hypothesis, Priority, Work
from asr_service.scheduler.queue import WorkQueue, service_key


@dataclass(eq=False, slots=True)
class Job:
    """A work and its one answer. With a lease, it is a guess through that ear."""

    work: Work
    future: asyncio.Future[Hypothesis]
    lease: Lease | None = None
    started_s: float = 0.0  # set when it leaves the queue

    def fail(self, error: AsrError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    async def run(self, slot: Slot) -> Hypothesis:
        """See Runner.run and Ear.hear."""
        return await (slot.runner.run(self.work) if self.lease is None else self.lease.ear.hear(self.work))

    def running_s(self, now_s: float) -> float:
        return max(0.0, now_s - self.started_s)

    @property
    def audio_s(self) -> float:
        """How much there is to compute."""
        n_heard = 0 if self.lease is None else self.lease.ear.n_heard
        return max(0, len(self.work.speech.samples) - n_heard) / SAMPLE_RATE


class SlotQueue:
    """See the top of the module. Times are seconds of the clock that stamped the works."""

    def __init__(self, capacity: int) -> None:
        self._any = WorkQueue(capacity)
        self._jobs: dict[int, Job] = {}  # for any slot, by uid
        self._guesses: list[Job] = []  # for the slot of their lease

    def __len__(self) -> int:
        return len(self._any) + len(self._guesses)

    @property
    def is_full(self) -> bool:
        return len(self._any) >= self._any.capacity

    @property
    def n_for_any(self) -> int:
        return len(self._any)

    def n_for(self, slot: Slot) -> int:
        """How many can be computed in this slot only."""
        return len(self._guesses_for(slot))

    def depth(self, priority: Priority) -> int:
        return self._any.depth(priority) + sum(job.work.priority is priority for job in self._guesses)

    def audio_ahead_s(self, key_s: float) -> float:
        """Seconds of audio that would be computed before a new work with this arrival + allowance."""
        guesses = (job.audio_s for job in self._guesses if service_key(job.work)[0] <= key_s)
        return self._any.audio_ahead_s(key_s) + sum(guesses)

    def put(self, job: Job, *, retry_after_s: float = 1.0) -> None:
        """Raises Overloaded (with the hint given) when full, ValueError when its uid waits already."""
        if job.lease is not None:
            self._guesses.append(job)
            return
        self._any.push(job.work, retry_after_s=retry_after_s)
        self._jobs[job.work.uid] = job

    def take(self, slot: Slot, now_s: float) -> Job | None:
        """The next job for this slot. None where nothing waits for it; expired work waits for take_expired."""
        guess = min(self._guesses_for(slot), key=lambda job: service_key(job.work), default=None)
        if guess is None or self._any.audio_ahead_s(service_key(guess.work)[0]):
            work = self._any.pop(now_s)
            if work is not None:
                return self._jobs.pop(work.uid)
        if guess is not None:
            self._guesses.remove(guess)
        return guess

    def withdraw(self, job: Job) -> bool:
        """Takes the job out. False when it does not wait (any more)."""
        if job in self._guesses:
            self._guesses.remove(job)
            return True
        if self._jobs.get(job.work.uid) is not job:
            return False
        self._any.cancel(job.work.uid)
        del self._jobs[job.work.uid]
        return True

    def take_expired(self, now_s: float) -> list[Job]:
        """Takes out all whose deadline is at or before now."""
        expired = [job for job in self._guesses if job.work.deadline_s is not None and job.work.deadline_s <= now_s]
        self._guesses = [job for job in self._guesses if job not in expired]
        return expired + [self._jobs.pop(work.uid) for work in self._any.take_expired(now_s)]

    def take_guesses_for(self, slot: Slot) -> list[Job]:
        """Takes out what this slot only could have computed."""
        guesses = self._guesses_for(slot)
        self._guesses = [job for job in self._guesses if job not in guesses]
        return guesses

    def clear(self) -> list[Job]:
        """Takes out everything."""
        guesses, self._guesses = self._guesses, []
        return guesses + [self._jobs.pop(work.uid) for work in self._any.clear()]

    def _guesses_for(self, slot: Slot) -> list[Job]:
        return [job for job in self._guesses if job.lease is not None and job.lease.slot is slot]
