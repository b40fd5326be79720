"""One TranscribeUpload call: bytes in as they come, the transcript out.

It is watched in both directions: when neither a piece was taken nor an event came for the progress timeout, it is given up.
"""

from __future__ import annotations

import asyncio

import grpc.aio
from google.api import httpbody_pb2

from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2
from rest_bridge.errors import UpstreamError
from rest_bridge.transcription import Transcription
from rest_bridge.upstream import FirstStatus, Metadata, Upstream, read_event

_LAST_WORDS_S = 5.0  # for the call to end once everything is said


class CallEnded(Exception):
    """The service ended the call; `outcome` says how."""


class UploadCall:
    """`outcome` is the Transcription, or fails with UpstreamError. Always `aclose` it."""

    def __init__(
        self,
        upstream: Upstream,
        config: transcript_pb2.RecognitionConfig,
        *,
        content_type: str,
        metadata: Metadata,
        progress_timeout_s: float,
    ) -> None:
        self.config = config
        self._content_type = content_type[:256]
        self._has_started = False
        self._timeout_s = progress_timeout_s
        self._watchdog: asyncio.Timeout | None = None
        self._call = upstream.asr.TranscribeUpload(metadata=metadata)
        self._first_status = FirstStatus(self._call)
        self.outcome = asyncio.create_task(self._read())

    async def write(self, piece: bytes) -> None:
        """Sends a piece when the service has room for it. Raises CallEnded."""
        body = httpbody_pb2.HttpBody(data=piece)
        if self._has_started:
            request = transcribe_pb2.TranscribeUploadRequest(audio=body)
        else:
            body.content_type = self._content_type
            request = transcribe_pb2.TranscribeUploadRequest(config=self.config, audio=body)
            self._has_started = True
        try:
            await self._call.write(request)
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            raise CallEnded from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # it was the call that was cancelled, not we
                raise CallEnded from None
            raise
        self._move_on(self._timeout_s)

    async def finish(self) -> None:
        """No more pieces."""
        try:
            if not self._has_started:
                await self.write(b"")
            await self._call.done_writing()
        except (CallEnded, asyncio.InvalidStateError, grpc.aio.AioRpcError):
            return  # `outcome` says how it ended

    async def aclose(self) -> None:
        self._call.cancel()
        self.outcome.cancel()
        await asyncio.wait([self.outcome])
        if not self.outcome.cancelled():
            self.outcome.exception()  # seen; whoever wanted it has awaited it

    async def _read(self) -> Transcription:
        said = Transcription()
        is_complete = False
        try:
            async with asyncio.timeout(self._timeout_s) as self._watchdog:
                async for event in self._call:
                    is_complete |= self._take(event, said)
                    self._move_on(_LAST_WORDS_S if is_complete else self._timeout_s)
        except grpc.aio.AioRpcError as error:
            if not is_complete:
                raise self._first_status.failure(error) from None
        except TimeoutError:
            if not is_complete:
                message = f"the speech service made no progress for {self._timeout_s:g} s"
                raise UpstreamError("DEADLINE_EXCEEDED", message, reason="DEADLINE") from None
        finally:
            self._watchdog = None
        if not is_complete:
            raise UpstreamError("INTERNAL", "the service ended the call without an answer")
        return said

    def _take(self, event: transcribe_pb2.TranscribeUploadResponse, said: Transcription) -> bool:
        kind = event.WhichOneof("event")
        if kind == "segment":
            said.segments.append(event.segment)
        elif kind == "warning":
            said.warnings.append(event.warning)
        elif kind == "completed":
            said.completed = event.completed
        elif kind == "error":
            raise read_event(event.error)
        return kind == "completed"

    def _move_on(self, timeout_s: float) -> None:
        if self._watchdog is not None and not self._watchdog.expired():
            self._watchdog.reschedule(asyncio.get_running_loop().time() + timeout_s)
