"""A speech service that says what a test tells it to, on a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_status import rpc_status

from asr_service.pb.asr.v1 import asr_pb2_grpc, info_pb2, transcribe_pb2, transcript_pb2

SERVICE = "asr.v1.AsrService"
MODEL = "fake/model-1"
ENGLISH = transcript_pb2.Language(code="en", name="English")
ENGINE = transcript_pb2.EngineDescription(name="fake", model=MODEL, reason="a test")
TEXT = "Hello brave new world. Good night."


@dataclass
class Failure:
    """How one upload fails: with this status and these details, after so many bytes (None: at the end of the upload)."""

    status: str
    reason: str = ""
    message: str = "because"
    retry_after_s: float | None = None
    field: str = ""
    after_bytes: int | None = 0
    is_in_stream: bool = False

    @property
    def details(self) -> list[Message]:
        made: list[Message] = []
        if self.reason:
            made.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="asr.v1"))
        if self.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_after_s * 1000))
            made.append(retry)
        if self.field:
            made.append(error_details_pb2.BadRequest(field_violations=[{"field": self.field, "description": "no"}]))
        return made


@dataclass
class Upload:
    """What one TranscribeUpload call brought."""

    metadata: dict[str, str]
    config: transcript_pb2.RecognitionConfig = field(default_factory=transcript_pb2.RecognitionConfig)
    content_type: str = ""
    data: bytearray = field(default_factory=bytearray)
    n_bytes: int = 0
    n_messages: int = 0
    largest_message: int = 0
    is_whole: bool = False
    is_answered: bool = False
    is_inline: bool = False


class FakeService(asr_pb2_grpc.AsrServiceServicer):
    """Answers every upload with `events()`, unless a failure is due."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.failures: list[Failure] = []
        self.warnings: list[transcript_pb2.Warning] = []
        self.segments = default_segments()
        self.keeps_data = True
        self.takes_uploads = asyncio.Event()  # cleared: an upload is accepted, its bytes are not read
        self.takes_uploads.set()
        self.answers = asyncio.Event()  # cleared: uploads are read, but get no answer
        self.answers.set()
        self.describes_itself = asyncio.Event()
        self.describes_itself.set()
        self.arrived = asyncio.Condition()
        self.cancelled = asyncio.Event()
        self.required_key = ""

    async def TranscribeUpload(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        upload = Upload({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
        self.uploads.append(upload)
        failure = self.failures.pop(0) if self.failures else None
        context.add_done_callback(lambda _: None if upload.is_answered else self.cancelled.set())
        await self._check_key(context)
        await self.takes_uploads.wait()
        await self._receive(upload, request_iterator, failure, context)
        if failure is not None and failure.is_in_stream:
            yield transcribe_pb2.TranscribeUploadResponse(error=stream_error(failure))
        if failure is not None:
            await abort(context, failure)
        await self.answers.wait()
        for event in self.events():
            yield event
        upload.is_answered = True

    async def Transcribe(self, request: Any, context: Any) -> transcribe_pb2.TranscribeResponse:  # noqa: N802
        upload = Upload({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})
        upload.config, upload.data, upload.n_bytes = request.config, bytearray(request.audio), len(request.audio)
        upload.is_whole = upload.is_inline = True
        self.uploads.append(upload)
        failure = self.failures.pop(0) if self.failures else None
        context.add_done_callback(lambda _: None if upload.is_answered else self.cancelled.set())
        await self._check_key(context)
        if failure is not None:
            await abort(context, failure)
        if not request.audio:
            await abort(context, Failure("INVALID_ARGUMENT", "AUDIO_EMPTY", "the audio is empty"))
        async with self.arrived:
            self.arrived.notify_all()
        await self.answers.wait()
        upload.is_answered = True
        completed = self.events()[-1].completed
        return transcribe_pb2.TranscribeResponse(
            transcript=transcript_pb2.Transcript(
                text=completed.text,
                language=completed.language,
                segments=self.segments,
                duration_ms=completed.duration_ms,
            ),
            engine=ENGINE,
            warnings=self.warnings,
        )

    async def ListModels(self, request: Any, context: Any) -> info_pb2.ListModelsResponse:  # noqa: N802
        await self._check_key(context)
        answer = info_pb2.ListModelsResponse(models=[info_pb2.Model(id=MODEL, engine="fake", loaded=True, owner="tests")])
        answer.models[0].created.FromSeconds(1_700_000_000)
        return answer

    async def GetServerInfo(self, request: Any, context: Any) -> info_pb2.GetServerInfoResponse:  # noqa: N802
        await self._check_key(context)
        await self.describes_itself.wait()
        return info_pb2.GetServerInfoResponse(engine=ENGINE, engine_ready=True, device="cuda:0")

    def events(self) -> list[transcribe_pb2.TranscribeUploadResponse]:
        text = " ".join(segment.text for segment in self.segments)
        completed = transcribe_pb2.UploadCompleted(
            text=text, language=ENGLISH, duration_ms=4500, segment_count=len(self.segments), engine=ENGINE
        )
        event = transcribe_pb2.TranscribeUploadResponse
        return [
            event(started=transcribe_pb2.UploadStarted(engine=ENGINE)),
            event(progress=transcribe_pb2.UploadProgress(processed_ms=1000)),
            *(event(warning=warning) for warning in self.warnings),
            event(partial=transcribe_pb2.SegmentPartial(index=0, text="Hello")),
            *(event(segment=segment) for segment in self.segments),
            event(completed=completed),
        ]

    async def has_bytes(self, n_bytes: int) -> None:
        """Returns once the newest upload has brought so many."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: bool(self.uploads) and self.uploads[-1].n_bytes >= n_bytes)

    async def _receive(self, upload: Upload, requests: Any, failure: Failure | None, context: Any) -> None:
        stop_at = failure.after_bytes if failure is not None else None
        if stop_at == 0:
            return
        async for request in requests:
            if upload.n_messages == 0:
                upload.config = request.config
                upload.content_type = request.audio.content_type
            upload.n_messages += 1
            upload.n_bytes += len(request.audio.data)
            upload.largest_message = max(upload.largest_message, len(request.audio.data))
            if self.keeps_data:
                upload.data += request.audio.data
            async with self.arrived:
                self.arrived.notify_all()
            if stop_at is not None and upload.n_bytes >= stop_at:
                return
        upload.is_whole = True
        if upload.n_bytes == 0:
            await abort(context, Failure("INVALID_ARGUMENT", "AUDIO_EMPTY", "the audio is empty"))

    async def _check_key(self, context: Any) -> None:
        if self.required_key and dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.required_key}":
            await abort(context, Failure("UNAUTHENTICATED", "API_KEY_INVALID", "the API key is wrong"))


def default_segments() -> list[transcript_pb2.Segment]:
    def word(text: str, start_ms: int, end_ms: int) -> transcript_pb2.Word:
        return transcript_pb2.Word(text=text, start_ms=start_ms, end_ms=end_ms, confidence=0.5)

    first = [word("Hello", 0, 400), word("brave", 400, 900), word("new", 900, 1200), word("world.", 1200, 1800)]
    second = [word("Good", 3000, 3400), word("night.", 3400, 4000)]
    return [
        transcript_pb2.Segment(
            index=0,
            start_ms=0,
            end_ms=1800,
            text="Hello brave new world.",
            words=first,
            speech_probability=0.75,
            language=ENGLISH,
        ),
        transcript_pb2.Segment(index=1, start_ms=3000, end_ms=4000, text="Good night.", words=second, language=ENGLISH),
    ]


def stream_error(failure: Failure) -> transcript_pb2.StreamError:
    error = transcript_pb2.StreamError(status=failure.status, reason=failure.reason, message=failure.message)
    if failure.retry_after_s is not None:
        error.retry_after_ms = int(failure.retry_after_s * 1000)
    return error


async def abort(context: Any, failure: Failure) -> None:
    code = grpc.StatusCode[failure.status]
    if not failure.details:
        await context.abort(code, failure.message)
    status = status_pb2.Status(code=code.value[0], message=failure.message)
    for detail in failure.details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort_with_status(rpc_status.to_status(status))


@dataclass
class Running:
    """A fake service with its health, on a port."""

    fake: FakeService
    health: Any
    target: str
    server: Any

    async def set_serving(self, *, serving: bool) -> None:
        statuses = health_pb2.HealthCheckResponse
        await self.health.set(SERVICE, statuses.SERVING if serving else statuses.NOT_SERVING)


@asynccontextmanager
async def running_service(port: int = 0) -> AsyncIterator[Running]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    make: Any = FakeService  # the RPCs that the bridge does not use are left out
    fake, health = make(), health_aio.HealthServicer()
    register: Any = asr_pb2_grpc.add_AsrServiceServicer_to_server
    register(fake, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    running = Running(fake, health, f"127.0.0.1:{bound}", server)
    await running.set_serving(serving=True)
    try:
        yield running
    finally:
        await server.stop(None)
