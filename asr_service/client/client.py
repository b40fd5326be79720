"""The client: one channel to one address, one method per call of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from asr_service.client.errors import NOT_READY, AsrClientError, from_rpc
from asr_service.client.stream import StreamSession
from asr_service.client.subtitles import SubtitleWish, subtitle_events
from asr_service.client.upload import UploadSession, file_chunks, first_message, source_of
from asr_service.pb.asr.v1 import asr_pb2_grpc
from asr_service.pb.asr.v1.audio_pb2 import AudioFormat
from asr_service.pb.asr.v1.info_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    ListModelsRequest,
    ListModelsResponse,
)
from asr_service.pb.asr.v1.stream_pb2 import SessionConfig
from asr_service.pb.asr.v1.subtitles_pb2 import SubtitlesResponse
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeRequest, TranscribeResponse, TranscribeUploadResponse
from asr_service.pb.asr.v1.transcript_pb2 import RecognitionConfig

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # the service has its own limits and says them better
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a service that is just starting is found at once
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20_000),  # a network that is gone without a word is noticed
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: a live session may hear nothing for long
)


class AsrClient:
    """A client of the service at `target` ("host:port", "unix:path"). Use it as an async context manager."""

    def __init__(self, target: str, *, api_key: str | None = None) -> None:
        self.target = target
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        self._stub: asr_pb2_grpc.AsrServiceAsyncStub = asr_pb2_grpc.AsrServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what still runs and closes the connection."""
        await self._channel.close()

    async def transcribe(
        self,
        audio: bytes,
        config: RecognitionConfig | None = None,
        *,
        audio_format: AudioFormat | None = None,
        timeout_s: float | None = None,
    ) -> TranscribeResponse:
        """A short recording in one message."""
        request = TranscribeRequest(config=config or RecognitionConfig(), format=audio_format, audio=audio)
        try:
            return await self._stub.Transcribe(request, metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    def transcribe_upload(
        self,
        source: AsyncIterator[bytes] | Path | str,
        config: RecognitionConfig | None = None,
        *,
        audio_format: AudioFormat | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncGenerator[TranscribeUploadResponse]:
        """A recording of any length: a file's path, or its bytes in pieces. Yields events until `completed`.

        It survives lost connections for as long as the service waits: what the service lacks is sent again, and no event comes
        twice. A second `started` says that the service did not know the upload any more: from there on everything comes anew,
        from the first segment. Of pieces, upload_source.KEPT_BYTES at most are kept for that; files can always be sent again.

        Whoever may stop reading early wraps it in contextlib.aclosing, which ends the call at once and frees what the service
        holds. With an `idempotency_key` of the caller's own the service waits in that case too, for somebody with that key.
        """

        def start(metadata: tuple[tuple[str, str], ...], left_s: float | None) -> Any:
            return self._stub.TranscribeUpload(metadata=(*self._metadata, *metadata), timeout=left_s)

        first = first_message(config, audio_format)
        return UploadSession(start, first, source_of(source), idempotency_key, timeout_s).events()

    def subtitles(
        self,
        source: AsyncIterator[bytes] | Path | str,
        wish: SubtitleWish | None = None,
        *,
        audio_format: AudioFormat | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[SubtitlesResponse]:
        """Subtitles of a recording of any length, or of audio that is still being spoken (`SubtitleWish.live`): a file's path,
        or bytes in pieces. Yields cues as they are settled, then `completed` with the whole file (SubtitleFile collects it).

        Whoever may stop reading early wraps it in contextlib.aclosing, which ends the call at once.
        """
        chunks = file_chunks(Path(source)) if isinstance(source, Path | str) else source
        first = (wish or SubtitleWish()).first_message(audio_format)
        return subtitle_events(lambda: self._stub.Subtitles(metadata=self._metadata, timeout=timeout_s), first, chunks)

    def stream_transcribe(
        self, config: SessionConfig | None = None, *, session_id: str = "", timeout_s: float | None = None
    ) -> StreamSession:
        """A live session: text while people speak.

            async with client.stream_transcribe(config) as session:
                session.feed(microphone)  # or send, silence, flush, patch, mark and finish
                async for event in session: ...

        With `resume_window_ms` and raw samples it survives lost connections: it connects again for as long, keeps at most
        sent_log.KEPT_S of audio for that, and says again what the server may not have. No event comes twice. When another
        replica goes on, a second `started` says so: from there on the text of the utterance that is open comes anew, from its
        first word. `seq` may skip numbers then, and `end` counts what the last replica consumed.

        timeout_s: for the whole session. Iteration raises AsrClientError; reason RESUME_WINDOW_GONE: it cannot be gone on with.
        """

        def start(metadata: tuple[tuple[str, str], ...], left_s: float | None) -> Any:
            return self._stub.StreamTranscribe(metadata=(*self._metadata, *metadata), timeout=left_s)

        return StreamSession(start, config or SessionConfig(), session_id, timeout_s)

    async def list_models(self, *, timeout_s: float | None = 10.0) -> ListModelsResponse:
        """The models that can be used now, the default first."""
        try:
            return await self._stub.ListModels(ListModelsRequest(), metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    async def server_info(self, *, timeout_s: float | None = 10.0) -> GetServerInfoResponse:
        """What the server can do, within which limits, and how busy it is."""
        try:
            return await self._stub.GetServerInfo(GetServerInfoRequest(), metadata=self._metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    async def wait_ready(self, timeout_s: float) -> None:
        """Returns once the service says it is SERVING; raises AsrClientError (reason NOT_READY) when it does not in time."""
        last = "nothing answers there"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    async with aclosing(self._health(timeout_s)) as states:
                        async for last in states:
                            if last == "SERVING":
                                return
                    await asyncio.sleep(0.1)  # the watch broke off: the service is restarting
        except TimeoutError:
            message = f"{self.target} was not ready within {timeout_s:g} s: {last}"
            raise AsrClientError("UNAVAILABLE", NOT_READY, message) from None

    async def _health(self, timeout_s: float) -> AsyncGenerator[str]:
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
        try:
            async for answer in watch:
                yield health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise from_rpc(error) from None
        finally:
            watch.cancel()
