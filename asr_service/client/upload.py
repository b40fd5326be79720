"""One upload: bytes go out and events come in at the same time.

Writing waits while the service takes nothing more (flow control), so a source is never read further ahead than that. When
the service has ended the call, writing raises what grpc.aio happens to raise; the status is what the reading side then hears,
so the writer just stops. A source that fails cancels the call, and the caller gets the source's own exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import grpc
from google.api.httpbody_pb2 import HttpBody

from asr_service.client.errors import from_rpc, from_stream
from asr_service.client.late_status import await_late_status
from asr_service.pb.asr.v1.audio_pb2 import AudioFormat
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadRequest, TranscribeUploadResponse
from asr_service.pb.asr.v1.transcript_pb2 import RecognitionConfig

CHUNK_BYTES = 64 * 1024

UploadCall = grpc.aio.StreamStreamCall[TranscribeUploadRequest, TranscribeUploadResponse]


async def events_of(
    start: Callable[[], UploadCall], first: TranscribeUploadRequest, chunks: AsyncIterator[bytes]
) -> AsyncGenerator[TranscribeUploadResponse]:
    """Sends `first`, then the chunks, and yields the events. Raises AsrClientError, or what the source raised."""
    call = start()
    await_late_status(call)
    writer = asyncio.create_task(_write(call, first, chunks))
    try:
        async for event in call:
            if event.WhichOneof("event") == "error":
                raise from_stream(event.error)
            yield event
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from None
    except asyncio.CancelledError:
        if writer.done() and not writer.cancelled() and (failure := writer.exception()) is not None:
            raise failure from None  # the writer cancelled the call because its source failed
        raise
    finally:
        call.cancel()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def file_chunks(path: Path) -> AsyncGenerator[bytes]:
    """The bytes of a file, read off the event loop."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def first_message(config: RecognitionConfig | None, audio_format: AudioFormat | None) -> TranscribeUploadRequest:
    return TranscribeUploadRequest(config=config or RecognitionConfig(), format=audio_format)


async def _write(call: UploadCall, first: TranscribeUploadRequest, chunks: AsyncIterator[bytes]) -> None:
    try:
        await _send(call, first)
        async for chunk in chunks:
            await _send(call, TranscribeUploadRequest(audio=HttpBody(data=chunk)))
        await _end(call)
    except _Ended:
        return
    except Exception:
        call.cancel()
        raise
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


class _Ended(Exception):
    """The service has ended the call; its status is for the reader."""


async def _send(call: UploadCall, message: TranscribeUploadRequest) -> None:
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        raise _Ended from None


async def _end(call: UploadCall) -> None:
    try:
        await call.done_writing()
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        raise _Ended from None
