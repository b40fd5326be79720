"""One upload: bytes go out and events come in at the same time, over one connection after another.

Writing waits while the service takes nothing more (flow control), so a source is never read further ahead than that. When
the service has ended the call, writing raises what grpc.aio happens to raise; the status is what the reading side then hears,
so the writer just stops. A source that fails cancels the call, and the caller gets the source's own exception.

Where the service lets uploads wait for their clients and a connection is lost, the next one goes on: the service says how many
bytes it has, and no event is passed on twice. A service that does not know the upload any more gets it anew.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from time import monotonic

import grpc
from google.api.httpbody_pb2 import HttpBody

from asr_service.client.errors import UNREACHABLE, AsrClientError, from_rpc, from_stream
from asr_service.client.late_status import await_late_status
from asr_service.client.patience import Patience
from asr_service.client.upload_source import FileSource, Gone, OnceSource, UploadSource
from asr_service.pb.asr.v1.audio_pb2 import AudioFormat
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadRequest, TranscribeUploadResponse, UploadResume, UploadStarted
from asr_service.pb.asr.v1.transcript_pb2 import RecognitionConfig

_FIRST_WINDOW_S = 10.0  # until the service has said how long it waits
_MOST_ANEW = 3  # times; what ends its service again and again must not go on for ever
_ABANDON_S = 1.0
RESUME_WINDOW_GONE = "RESUME_WINDOW_GONE"

Metadata = tuple[tuple[str, str], ...]
UploadCall = grpc.aio.StreamStreamCall[TranscribeUploadRequest, TranscribeUploadResponse]
StartCall = Callable[[Metadata, float | None], UploadCall]


async def file_chunks(path: Path) -> AsyncGenerator[bytes]:
    """The bytes of a file, read off the event loop."""
    async with aclosing(FileSource(path).chunks(0)) as chunks:
        async for chunk in chunks:
            yield chunk


def source_of(source: AsyncIterator[bytes] | Path | str) -> UploadSource:
    return FileSource(Path(source)) if isinstance(source, Path | str) else OnceSource(source)


def first_message(config: RecognitionConfig | None, audio_format: AudioFormat | None) -> TranscribeUploadRequest:
    return TranscribeUploadRequest(config=config or RecognitionConfig(), format=audio_format)


class _Lost(Exception):
    """The connection is gone; the upload may not be."""

    def __init__(self, error: AsrClientError) -> None:
        super().__init__(str(error))
        self.error = error


class _SourceFailed(Exception):
    """Carries what the source raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class UploadSession:
    """An upload at the client.

    `key` is what the service knows it by. Without one it gets one of its own, and is abandoned when its reader stops early;
    with one it waits at the service for whoever comes with that key.
    """

    def __init__(
        self, start: StartCall, first: TranscribeUploadRequest, source: UploadSource, key: str | None, timeout_s: float | None
    ) -> None:
        self._start = start
        self._first = first
        self._source = source
        self._key = key or str(uuid.uuid4())
        self._is_own_key = key is None
        self._deadline_s = None if timeout_s is None else monotonic() + timeout_s
        self._patience = Patience(_FIRST_WINDOW_S)
        self._window_ms: int | None = None  # None until the service has said it; 0: it does not wait
        self._last_seq: int | None = None
        self._was_connected = False
        self._n_anew = 0
        self._has_ended = False

    async def events(self) -> AsyncGenerator[TranscribeUploadResponse]:
        """Raises AsrClientError, or what the source raised."""
        try:
            while not self._has_ended:
                try:
                    async with aclosing(self._connection()) as events:
                        async for event in events:
                            yield event
                except _Lost as lost:
                    await self._pause(lost.error)
        except _SourceFailed as failed:
            raise failed.error from None
        finally:
            if not self._has_ended and self._is_own_key and self._window_ms:
                await self._abandon()
            await self._source.close()

    async def _pause(self, error: AsrClientError) -> None:
        """Returns when it is time for the next try. Raises the error when it is too late for one."""
        pause_s = self._patience.pause_s(monotonic(), error.retry_after_s or 0.0)
        if pause_s is None or (self._deadline_s is not None and monotonic() + pause_s >= self._deadline_s):
            raise error from None
        await asyncio.sleep(pause_s)

    async def _connection(self) -> AsyncGenerator[TranscribeUploadResponse]:
        """The news of one connection. Returns when its call ended well. Raises _Lost, AsrClientError, _SourceFailed."""
        call = self._start((("idempotency-key", self._key),), self._left_s())
        await_late_status(call)
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._last_seq is None and not self._was_connected:
            started.set_result(0)  # the first one need not ask how much is there
        writer = asyncio.create_task(self._write(call, started))
        heard_seq = self._last_seq
        try:
            async for event in call:
                if self._hear(event, started):
                    yield event
        except grpc.aio.AioRpcError as failed:
            self._raise_source_failure(writer)
            raise self._judged(from_rpc(failed), is_heard=self._last_seq != heard_seq) from None
        except asyncio.CancelledError:
            self._raise_source_failure(writer)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            error = AsrClientError("CANCELLED", "", "the call was cancelled on its way")  # grpc.aio says it like this
            raise self._judged(error, is_heard=self._last_seq != heard_seq) from None
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        self._has_ended = True

    def _raise_source_failure(self, writer: asyncio.Task[None]) -> None:
        """The writer cancels the call when its source fails."""
        if writer.done() and not writer.cancelled() and isinstance(failure := writer.exception(), _SourceFailed):
            if isinstance(failure.error, Gone):
                raise AsrClientError("OUT_OF_RANGE", RESUME_WINDOW_GONE, f"the service lacks more: {failure.error}") from None
            raise failure from None

    def _hear(self, event: TranscribeUploadResponse, started: asyncio.Future[int]) -> bool:
        """Takes note of an event. Returns whether it is news. Raises AsrClientError."""
        kind = event.WhichOneof("event")
        if kind == "started":
            return self._note_start(event.started, started)
        self._last_seq = event.seq
        if kind == "progress":
            self._source.forget_before(event.progress.received_bytes)
        elif kind == "completed":
            self._has_ended = True
        elif kind == "error":
            self._has_ended = True
            raise from_stream(event.error)
        return True

    def _note_start(self, event: UploadStarted, started: asyncio.Future[int]) -> bool:
        is_new = self._last_seq is None or not event.is_resumed
        if self._window_ms != event.resume_window_ms:
            self._window_ms = event.resume_window_ms
            self._patience = Patience(self._window_ms / 1000)
        self._patience.stood()
        if is_new:
            self._n_anew += self._last_seq is not None
            self._last_seq = 0
        self._source.forget_before(event.received_bytes)
        if not started.done():
            started.set_result(event.received_bytes)
        return is_new

    def _judged(self, error: AsrClientError, *, is_heard: bool) -> _Lost | AsrClientError:
        """What a connection ended with: is it the connection's fault, or a server's that cannot go on with the upload now?

        The service names a reason for what it ends itself.
        """
        if error.reason in ("", UNREACHABLE):
            is_lost = error.status in ("UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN")
        else:
            is_lost = self._last_seq is not None and not is_heard and error.status in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
        may_go_on = self._was_connected and self._window_ms != 0 and self._n_anew < _MOST_ANEW and not self._has_ended
        return _Lost(error) if is_lost and may_go_on else error

    def _left_s(self) -> float | None:
        return None if self._deadline_s is None else max(0.0, self._deadline_s - monotonic())

    # What is said

    async def _write(self, call: UploadCall, started: asyncio.Future[int]) -> None:
        """Brings the source to the connection. What goes wrong with that is for the reading side to hear."""
        first = TranscribeUploadRequest()
        first.CopyFrom(self._first)
        first.resume.CopyFrom(UploadResume(idempotency_key=self._key, last_seq=self._last_seq))
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(first)
            self._was_connected = True
            offset = await started
            async with aclosing(self._source.chunks(offset)) as chunks:
                async for chunk in _reporting(chunks, call):
                    await call.write(TranscribeUploadRequest(audio=HttpBody(data=chunk), offset=offset))
                    offset += len(chunk)
            await call.write(TranscribeUploadRequest(is_last=True))
            await call.done_writing()

    async def _abandon(self) -> None:
        """The service need not wait for anybody."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            async with asyncio.timeout(_ABANDON_S):
                call = self._start((("idempotency-key", self._key),), _ABANDON_S)
                try:
                    resume = UploadResume(idempotency_key=self._key, abandon=True)
                    await call.write(TranscribeUploadRequest(resume=resume))
                    await call.done_writing()
                    await call.code()
                finally:
                    call.cancel()


async def _reporting(chunks: AsyncGenerator[bytes], call: UploadCall) -> AsyncGenerator[bytes]:
    """The chunks. When their source fails, the call is cancelled and _SourceFailed raised."""
    while True:
        try:
            chunk = await anext(chunks, None)
        except Exception as error:
            call.cancel()
            raise _SourceFailed(error) from None
        if chunk is None:
            return
        yield chunk
