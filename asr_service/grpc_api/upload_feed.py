"""The bytes of one upload on their way from a connection to the decoder, one piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic

from asr_service.errors import ResumeWindowGone, SessionTaken

_SETTLE_S = 0.015


class Tap:
    """Who brings the bytes. There is one at a time: a later one takes its place."""

    def __init__(self, feed: ByteFeed) -> None:
        self._feed = feed

    async def put(self, data: bytes, at: int) -> None:
        """Bytes that begin at `at` in the source; what is there already is skipped. Waits until the decoder took those before.

        Raises ResumeWindowGone when bytes are missing before them, SessionTaken when another tap was opened.
        """
        await self._feed.put(self, data, at)

    def end(self, *, is_sure: bool) -> None:
        """There is no more. is_sure: the client said so itself."""
        self._feed.end(self, is_sure=is_sure)

    def fail(self, error: Exception) -> None:
        """Whoever reads the bytes gets this error."""
        self._feed.fail(self, error)


class ByteFeed:
    """Holds at most one piece. `received` counts what was taken in."""

    def __init__(self) -> None:
        self.received = 0
        self._piece = b""
        self._failure: Exception | None = None
        self._ended_s: float | None = None  # set: there is no more; from then on time makes an end certain
        self._tap: Tap | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def open(self) -> Tap:
        """For a new connection."""
        self._tap = Tap(self)
        self._room.set()  # the one before wakes up and sees it
        return self._tap

    @property
    def has_ended(self) -> bool:
        return self._ended_s is not None

    async def put(self, tap: Tap, data: bytes, at: int) -> None:
        """For Tap.put."""
        while tap is self._tap and self._piece:
            self._room.clear()
            await self._room.wait()
        if tap is not self._tap:
            self._room.set()
            raise SessionTaken("the upload goes on at another connection")
        if at > self.received:
            gap = at - self.received
            raise ResumeWindowGone(f"offset: the bytes begin at {at}, a gap of {gap} bytes after the {self.received} here")
        new = data[self.received - at :]
        if new and not self.has_ended:
            self._piece = new
            self.received += len(new)
            self._news.set()

    def end(self, tap: Tap, *, is_sure: bool) -> None:
        """For Tap.end."""
        if tap is self._tap and self._ended_s is None:
            self._ended_s = -_SETTLE_S if is_sure else monotonic()
            self._news.set()

    def fail(self, tap: Tap, error: Exception) -> None:
        """For Tap.fail."""
        if tap is self._tap:
            self._failure = error
            self._news.set()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, for one reader. Raises what a tap failed with, after the bytes before it."""
        try:
            while True:
                while not (self._piece or self._failure or self.has_ended):
                    self._news.clear()
                    await self._news.wait()
                if self._piece:
                    piece, self._piece = self._piece, b""
                    self._room.set()
                    yield piece
                    del piece
                elif self._failure is not None:
                    raise self._failure
                else:
                    return
        finally:
            self._failure = None  # its traceback may lead here

    async def confirm_end(self) -> None:
        """Returns when the end is surely the client's: grpc.aio lets a cancelled call look like a clean end for a moment, and
        nobody's abandoned audio is to be recognised to its end. A cancellation that arrives meanwhile cancels."""
        if self._ended_s is not None:
            await asyncio.sleep(max(0.0, self._ended_s + _SETTLE_S - monotonic()))
