"""A service that answers what a test tells it to, on a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_status import rpc_status
from typing_extensions import override

from asr_service.pb.asr.v1 import asr_pb2_grpc, info_pb2, transcribe_pb2, transcript_pb2

ENGINE = transcript_pb2.EngineDescription(name="fake", model="fake-1", reason="scripted")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Refused(Exception):
    """Raised by a script: the call ends with this status and details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


def refused(code: grpc.StatusCode, reason: str, message: str, retry_after_ms: int | None = None) -> Refused:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain="asr.v1")]
    if retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_after_ms)
        details.append(retry)
    return Refused(code, message, *details)


class ScriptedService(asr_pb2_grpc.AsrServiceServicer):
    """The text of a recording is its bytes; `failures` maps bytes to what the call ends with."""

    def __init__(self) -> None:
        self.failures: dict[bytes, Refused] = {}
        self.refuse_at_once: Refused | None = None
        self.refuse_in_stream: transcript_pb2.StreamError | None = None
        self.configs: list[transcript_pb2.RecognitionConfig] = []
        self.metadata: list[dict[str, str]] = []
        self.received_bytes = 0

    @override
    async def Transcribe(self, request: Any, context: Any) -> Any:
        self._note(request.config, context)
        if (failure := self.failures.get(request.audio)) is not None:
            await _abort(context, failure)
        transcript = transcript_pb2.Transcript(text=request.audio.decode())
        return transcribe_pb2.TranscribeResponse(transcript=transcript, engine=ENGINE)

    @override
    async def TranscribeUpload(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        if self.refuse_at_once is not None:
            await _abort(context, self.refuse_at_once)
        audio = b""
        async for message in request_iterator:
            if message.HasField("config"):
                self._note(message.config, context)
            audio += message.audio.data
            self.received_bytes += len(message.audio.data)
            if self.refuse_in_stream is not None and audio:
                yield transcribe_pb2.TranscribeUploadResponse(error=self.refuse_in_stream)
                await _abort(context, Refused(grpc.StatusCode[self.refuse_in_stream.status], self.refuse_in_stream.message))
        if (failure := self.failures.get(audio)) is not None:
            await _abort(context, failure)
        for event in events(audio.decode()):
            yield event

    @override
    async def ListModels(self, request: Any, context: Any) -> Any:
        english = transcript_pb2.Language(code="en", name="English")
        return info_pb2.ListModelsResponse(
            models=[info_pb2.Model(id="fake-1", engine="fake", loaded=True, languages=[english], owner="tests")]
        )

    @override
    async def GetServerInfo(self, request: Any, context: Any) -> Any:
        info = info_pb2.GetServerInfoResponse(version="9.9.9", engine=ENGINE, engine_ready=True, device="cpu")
        info.features.add(name="subtitles", available=False, reason="not part of this version")
        info.audio_formats.append("FLAC")
        return info

    def _note(self, config: transcript_pb2.RecognitionConfig, context: Any) -> None:
        self.configs.append(config)
        self.metadata.append(dict(context.invocation_metadata()))


def events(text: str) -> list[transcribe_pb2.TranscribeUploadResponse]:
    """What an upload of one segment a word answers, half a second a word."""
    words = text.split()
    made = [transcribe_pb2.TranscribeUploadResponse(started=transcribe_pb2.UploadStarted(engine=ENGINE))]
    for i, word in enumerate(words):
        start_ms, end_ms = i * 500, i * 500 + 400
        spoken = transcript_pb2.Word(text=word, start_ms=start_ms, end_ms=end_ms, confidence=0.5)
        segment = transcript_pb2.Segment(index=i, start_ms=start_ms, end_ms=end_ms, text=word, words=[spoken])
        progress = transcribe_pb2.UploadProgress(processed_ms=end_ms, total_ms=len(words) * 500)
        partial = transcribe_pb2.SegmentPartial(index=i, text=word[:1])
        made.append(transcribe_pb2.TranscribeUploadResponse(partial=partial))
        made.append(transcribe_pb2.TranscribeUploadResponse(segment=segment))
        made.append(transcribe_pb2.TranscribeUploadResponse(progress=progress))
    completed = transcribe_pb2.UploadCompleted(text=text, duration_ms=len(words) * 500, segment_count=len(words), engine=ENGINE)
    made.append(transcribe_pb2.TranscribeUploadResponse(completed=completed))
    for seq, event in enumerate(made):
        event.seq = seq
    return made


class Scripted:
    """A running scripted service."""

    def __init__(self, service: ScriptedService, health: health_aio.HealthServicer, target: str) -> None:
        self.service, self.health, self.target = service, health, target


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    server = grpc.aio.server()
    make: Any = ScriptedService  # the RPCs of later versions are left to the generated base
    service, health = make(), health_aio.HealthServicer()
    register: Any = asr_pb2_grpc.add_AsrServiceServicer_to_server
    register(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Scripted(service, health, f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


async def _abort(context: Any, failure: Refused) -> None:
    details = []
    for message in failure.details:
        packed = AnyMessage()
        packed.Pack(message)
        details.append(packed)
    if details:
        status = status_pb2.Status(code=failure.code.value[0], message=failure.message, details=details)
        await context.abort_with_status(rpc_status.to_status(status))
    await context.abort(failure.code, failure.message)
