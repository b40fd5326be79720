"""A client's stream of SubtitlesRequest as what is wanted and one source of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from asr_service.errors import MessageOrder, UploadIdle, Violation
from asr_service.pb.asr.v1 import subtitles_pb2

_SETTLE_S = 0.015  # grpc.aio lets a cancelled call look like a clean end of the client's stream for a moment
_FIRST_ONLY = frozenset({"config", "format", "subtitle_format", "mode", "rules", "live"})

Request = subtitles_pb2.SubtitlesRequest


class SubtitleSource:
    """`open` reads the first message; `chunks` gives the bytes of all; then `confirm_end` waits until the end is certain.

    `idle_s` is how long the client may stay silent while we wait for it: then UploadIdle.
    """

    def __init__(self, requests: AsyncIterator[Request], idle_s: float) -> None:
        self._requests = requests
        self._idle_s = idle_s
        self._first = Request()
        self._index = 0
        self._ended_s = 0.0

    async def open(self) -> Request:
        """The first message, empty if the client sent none."""
        self._first = await self._next() or self._first
        return self._first

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, message by message. Raises MessageOrder, UploadIdle."""
        message: Request | None = self._first
        while message is not None:
            if message.audio.data:
                yield message.audio.data
            message = await self._next()
            if message is not None:
                self._check(message)
        self._ended_s = monotonic()

    async def confirm_end(self) -> None:
        """Returns when the end of the stream is surely the client's. A cancellation that arrives meanwhile cancels."""
        await asyncio.sleep(max(0.0, self._ended_s + _SETTLE_S - monotonic()))

    async def _next(self) -> Request | None:
        try:
            async with asyncio.timeout(self._idle_s):
                message = await anext(self._requests, None)
        except TimeoutError:
            raise UploadIdle(f"the upload brought nothing for {self._idle_s:g} s (limit {self._idle_s:g} s)") from None
        self._index += 1
        return message

    def _check(self, message: Request) -> None:
        for field, _ in message.ListFields():
            if field.name in _FIRST_ONLY:
                what = f"message {self._index - 1} carries `{field.name}`, which belongs to the first message only"
                raise MessageOrder(what, violations=(Violation(f"messages[{self._index - 1}].{field.name}", what),))
