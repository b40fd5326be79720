"""The events of one upload on their way to a client: numbered as they are made, and kept for a client that comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from asr_service.errors import AsrError, ResumeWindowGone, SessionTaken
from asr_service.grpc_api import convert
from asr_service.pb.asr.v1 import transcribe_pb2
from asr_service.request import Cursors

MAX_WAITING = 64
"""Events that wait for a reader, before whoever makes them has to wait."""

MAX_KEPT = 1024
MAX_KEPT_BYTES = 1024 * 1024

Letter = transcribe_pb2.TranscribeUploadResponse


class Reader:
    """Who takes the events. There is one at a time: a later one takes its place."""

    def __init__(self, outbox: UploadOutbox) -> None:
        self._outbox = outbox

    async def take(self) -> Letter:
        """The next event, when there is one. Raises SessionTaken when another reader has come."""
        return await self._outbox.take(self)


class UploadOutbox:
    """One upload's. The first event, `started`, is each connection's own and not in it, so numbers begin with 1.

    keeps: those that left are kept too, the latest MAX_KEPT of them, of MAX_KEPT_BYTES at most.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._waiting: deque[Letter] = deque()
        self._kept: deque[Letter] = deque()
        self._kept_bytes = 0
        self._seq = 1  # of the next one
        self._last_sent = 0
        self._reader: Reader | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._is_over = False
        self.cursors = Cursors()
        self.failure: AsrError | None = None

    async def put(self, *, is_passing: bool = False, **event: Any) -> None:
        """Waits for room. What `is_passing` is of interest only to somebody who reads now: it waits until all else was taken,
        and nobody keeps it for later."""
        limit = 1 if is_passing else MAX_WAITING
        while len(self._waiting) >= limit and not (is_passing and self._reader is None):
            self._room.clear()
            await self._room.wait()
        if not (is_passing and self._reader is None):
            self._add(event)

    def put_last(self, failure: AsrError | None = None, **event: Any) -> None:
        """The last event; `failure` is what it tells of."""
        self.failure = failure
        self._is_over = True
        self._add(event)

    def open(self, after_seq: int | None = None) -> Reader:
        """For a new reader, who gets everything after this event once more. Raises ResumeWindowGone when not all is kept."""
        after = 0 if after_seq is None else after_seq
        if after > self._last_sent:
            raise ResumeWindowGone(f"resume.last_seq: {after} was never sent (the last one is {self._last_sent})")
        oldest = self._kept[0].seq if self._kept else self._waiting[0].seq if self._waiting else self._seq
        if after + 1 < oldest:
            raise ResumeWindowGone(f"resume.last_seq: events after {after} are no longer kept (the oldest is {oldest})")
        while self._kept and self._kept[-1].seq > after:
            letter = self._kept.pop()
            self._kept_bytes -= letter.ByteSize()
            self._waiting.appendleft(letter)
        while self._waiting and self._waiting[0].seq <= after:  # for one who asked for it again and did not wait
            self._keep(self._waiting.popleft())
        self._reader = Reader(self)
        self._news.set()
        return self._reader

    def leave(self) -> None:
        """Nobody reads."""
        self._reader = None
        self._news.set()
        self._room.set()

    async def take(self, reader: Reader) -> Letter:
        """For Reader.take. After the last event there is none to wait for."""
        while reader is self._reader and not self._waiting:
            self._news.clear()
            await self._news.wait()
        if reader is not self._reader:
            self._news.set()  # for the one that has come
            raise SessionTaken("the upload goes on at another connection")
        letter = self._waiting.popleft()
        self._last_sent = max(self._last_sent, letter.seq)
        if self._keeps:
            self._keep(letter)
        self._room.set()
        return letter

    @property
    def is_over(self) -> bool:
        """The last event is in it, or was."""
        return self._is_over

    def _add(self, event: dict[str, Any]) -> None:
        letter = Letter(
            seq=self._seq, cursors=convert.cursors_message(self.cursors), server_time=convert.now_message(), **event
        )
        self._seq += 1
        self._waiting.append(letter)
        self._news.set()

    def _keep(self, letter: Letter) -> None:
        self._kept.append(letter)
        self._kept_bytes += letter.ByteSize()
        while len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= self._kept.popleft().ByteSize()
