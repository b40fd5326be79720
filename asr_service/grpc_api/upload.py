"""A client's stream of pieces as one source of bytes, with the contract's rules of order kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from asr_service.errors import MessageOrder, UploadIdle, Violation
from asr_service.pb.asr.v1 import transcribe_pb2

_SETTLE_S = 0.015


class Upload:
    """The messages of one TranscribeUpload. `open` reads the first; `chunks` gives the bytes of all; then
    `confirm_end` waits until the end is certain.

    `idle_s` is how long the client may stay silent while we wait for it: then UploadIdle.
    """

    def __init__(self, requests: AsyncIterator[transcribe_pb2.TranscribeUploadRequest], idle_s: float) -> None:
        self._requests = requests
        self._idle_s = idle_s
        self._first = transcribe_pb2.TranscribeUploadRequest()
        self._index = 0
        self._ended_s = 0.0

    async def open(self) -> transcribe_pb2.TranscribeUploadRequest:
        """The first message, empty if the client sent none."""
        self._first = await self._next() or self._first
        return self._first

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, message by message. Raises MessageOrder, UploadIdle."""
        message: transcribe_pb2.TranscribeUploadRequest | None = self._first
        while message is not None:
            if message.audio.data:
                yield message.audio.data
            message = await self._next()
            for field in ("config", "format"):
                if message is not None and message.HasField(field):
                    raise self._out_of_order(field)
        self._ended_s = monotonic()

    async def confirm_end(self) -> None:
        """Returns when the end of the stream is surely the client's: grpc.aio lets a cancelled call look like a clean end for a
        moment, and nobody's abandoned audio is to be recognised to its end. A cancellation that arrives meanwhile cancels."""
        await asyncio.sleep(max(0.0, self._ended_s + _SETTLE_S - monotonic()))

    async def _next(self) -> transcribe_pb2.TranscribeUploadRequest | None:
        try:
            async with asyncio.timeout(self._idle_s):
                message = await anext(self._requests, None)
        except TimeoutError:
            raise UploadIdle(f"the upload brought nothing for {self._idle_s:g} s (limit {self._idle_s:g} s)") from None
        self._index += 1
        return message

    def _out_of_order(self, field: str) -> MessageOrder:
        what = f"message {self._index - 1} carries `{field}`, which belongs to the first message only"
        return MessageOrder(what, violations=(Violation(f"messages[{self._index - 1}].{field}", what),))
