"""The uploads of a service that can be gone on with: who has a client, who waits for one to come back, and how all of them end.

state        -> next       when
attached     -> (gone)     it failed and its client was told, or its client left and there is no room for another that waits
attached     -> detached   its client left, or heard it to the end
detached     -> attached   a client came with its key
attached     -> attached   another client came with its key: the one before is told that it was taken
any          -> (gone)     it was abandoned
detached     -> (gone)     its window is over, or it failed with something that passes

An upload without a key is gone as soon as its client has left. One that waits holds what it held: its place in the service, a
decoder, and events; not the bytes of its source. While nobody brings bytes it comes to rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

from asr_service.grpc_api.events import UploadOutbox
from asr_service.grpc_api.upload_feed import ByteFeed
from asr_service.pb.asr.v1 import transcript_pb2

MAX_ENDED = 32
"""Uploads that have ended and are kept for a client that may not have heard it."""

_PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


@dataclass(eq=False, slots=True)
class UploadJob:
    """An upload at work, whoever brings its bytes.

    `key` is "" for one that cannot be gone on with, `wanted` is what was asked for, to be compared, `deadline_s` is of the
    monotonic clock.
    """

    key: str
    wanted: bytes
    effective_config: transcript_pb2.RecognitionConfig
    deadline_s: float | None
    outbox: UploadOutbox
    feed: ByteFeed = field(default_factory=ByteFeed)
    attached: asyncio.Event = field(default_factory=asyncio.Event)  # the present client's; set when it is taken from it
    expiry: asyncio.TimerHandle | None = None  # while detached
    task: asyncio.Task[None] | None = None

    @property
    def can_resume(self) -> bool:
        return self.key != ""

    @property
    def has_ended(self) -> bool:
        return self.outbox.is_over

    @property
    def has_passing_failure(self) -> bool:
        """Whether the same upload may well succeed if it is begun anew."""
        return self.outbox.failure is not None and self.outbox.failure.status in _PASSING


class UploadJobs:
    """`window_s` is how long an upload waits for its client; of those that have not ended `max_detached` may at once."""

    def __init__(self, *, window_s: float, max_detached: int) -> None:
        self.window_s = window_s
        self._max_detached = max_detached
        self._jobs: dict[str, UploadJob] = {}  # those with a key; ended ones in the order in which they were left

    def __contains__(self, key: str) -> bool:
        return key in self._jobs

    def get(self, key: str) -> UploadJob | None:
        return self._jobs.get(key)

    def start(self, job: UploadJob, run: Callable[[UploadJob], Awaitable[None]], on_end: Callable[[], None]) -> None:
        """Sets a new upload to work. `on_end` is called when the work is over, however it ended."""

        async def work() -> None:
            try:
                await run(job)
            finally:
                if job.expiry is not None and job.has_passing_failure:
                    self._forget(job)

        if job.can_resume:
            self._jobs[job.key] = job
        job.task = asyncio.create_task(work())
        job.task.add_done_callback(lambda _: on_end())

    def attach(self, job: UploadJob) -> asyncio.Event:
        """The upload is this client's now; the event is set when it is taken from it."""
        job.attached.set()
        job.attached = asyncio.Event()
        if job.expiry is not None:
            job.expiry.cancel()
            job.expiry = None
        return job.attached

    async def leave(self, job: UploadJob, attached: asyncio.Event, *, was_told: bool) -> None:
        """A client is gone. was_told: it heard how the upload ended."""
        if job.attached is not attached:
            return  # taken by another
        job.outbox.leave()
        is_late = job.deadline_s is not None and monotonic() >= job.deadline_s
        has_failed = job.outbox.failure is not None and (was_told or job.has_passing_failure)
        is_known = job.can_resume and self._jobs.get(job.key) is job
        if not is_known or is_late or has_failed or not (job.has_ended or self._n_waiting < self._max_detached):
            await self.drop(job)
            return
        job.expiry = asyncio.get_running_loop().call_later(self.window_s, self._forget, job)
        self._jobs[job.key] = self._jobs.pop(job.key)
        self._forget_oldest()

    async def abandon(self, job: UploadJob) -> None:
        """Nobody wants it any more; whoever is attached is told that it was taken."""
        job.attached.set()
        await self.drop(job)

    async def drop(self, job: UploadJob) -> None:
        """Ends it and frees everything."""
        self._forget(job)
        if job.task is not None:
            await asyncio.gather(job.task, return_exceptions=True)

    @property
    def _n_waiting(self) -> int:
        return sum(job.expiry is not None and not job.has_ended for job in self._jobs.values())

    def _forget_oldest(self) -> None:
        ended = [job for job in self._jobs.values() if job.expiry is not None and job.has_ended]
        for job in ended[:-MAX_ENDED]:
            self._forget(job)

    def _forget(self, job: UploadJob) -> None:
        if job.expiry is not None:
            job.expiry.cancel()
            job.expiry = None
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
        if job.task is not None and job.task is not asyncio.current_task():
            job.task.cancel()
