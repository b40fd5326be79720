"""A client's stream of pieces as one source of bytes, with the contract's rules of order kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from asr_service.errors import InvalidValue, MessageOrder, UploadIdle, Violation
from asr_service.grpc_api.upload_feed import Tap
from asr_service.pb.asr.v1 import transcribe_pb2

_SETTLE_S = 0.015  # grpc.aio lets a cancelled call look like a clean end of the client's stream for a moment
_FIRST_ONLY: tuple[Literal["config", "format", "resume"], ...] = ("config", "format", "resume")


class Upload:
    """The messages of one TranscribeUpload. `open` reads the first, `pour` brings the bytes of all to the decoder.

    `idle_s` is how long the client may stay silent while we wait for it: then UploadIdle.
    """

    def __init__(self, requests: AsyncIterator[transcribe_pb2.TranscribeUploadRequest], idle_s: float) -> None:
        self._requests = requests
        self._idle_s = idle_s
        self._first = transcribe_pb2.TranscribeUploadRequest()
        self._index = 0
        self._at = 0  # where in the source the next bytes begin

    async def open(self) -> transcribe_pb2.TranscribeUploadRequest:
        """The first message, empty if the client sent none."""
        self._first = await self._next() or self._first
        return self._first

    async def pour(self, tap: Tap, *, can_resume: bool) -> None:
        """Returns when the last byte is with the decoder. can_resume: only the client's word makes an end.

        A breach or a silence ends the upload through the tap. Where it can be gone on with, a silence or an end without a word
        is raised instead, as UploadIdle or MessageOrder: then the connection is what is lost.
        """
        try:
            is_sure = await self._pour(tap, can_resume=can_resume)
        except UploadIdle as error:
            if can_resume:
                raise
            tap.fail(error)
        except Exception as error:
            tap.fail(error)
        else:
            if can_resume and not is_sure:
                await asyncio.sleep(_SETTLE_S)  # if it was cancelled, so are we
                raise MessageOrder("the stream ended without is_last; the upload waits to be gone on with")
            tap.end(is_sure=is_sure)

    async def _pour(self, tap: Tap, *, can_resume: bool) -> bool:
        """Returns whether the client said that it was all."""
        message: transcribe_pb2.TranscribeUploadRequest | None = self._first
        while message is not None:
            if message.HasField("offset"):
                if not can_resume:
                    raise InvalidValue.of("offset", "needs an idempotency key")
                self._at = message.offset
            data = message.audio.data
            if data:
                await tap.put(data, self._at)
                self._at += len(data)
            if message.is_last:
                return True
            del data
            message = await self._next()
            for field in _FIRST_ONLY:
                if message is not None and message.HasField(field):
                    raise self._out_of_order(field)
        return False

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
