"""The RPCs of asr.v1.AsrService. Each reads its request, runs the transcriber and writes the answer; errors are raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from asr_service.audio.formats import AUDIO_FORMATS
from asr_service.config import Settings
from asr_service.engine.protocol import Engine, EngineState, Feature
from asr_service.errors import AudioTooLarge, DeadlineExceeded
from asr_service.grpc_api import convert
from asr_service.grpc_api.align import NO_ALIGNER, SegmentAligner, serve_align
from asr_service.grpc_api.call import current_call
from asr_service.grpc_api.interceptors import Context
from asr_service.grpc_api.live_call import LiveCall
from asr_service.grpc_api.service import Service
from asr_service.grpc_api.subtitles import SubtitlesCall
from asr_service.grpc_api.upload_call import UploadCall
from asr_service.grpc_api.upload_jobs import UploadJobs
from asr_service.pb.asr.v1 import info_pb2, stream_pb2, subtitles_pb2, transcribe_pb2, transcript_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceServicer
from asr_service.request import Priority, SegmentResult
from asr_service.transcriber.job import Event, Job
from asr_service.version import VERSION

_LACKS = {Feature.ALIGN: NO_ALIGNER}


class AsrServicer(AsrServiceServicer):
    """asr.v1.AsrService."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        # An upload that waits for its client has a decoder: others must find one, too.
        max_detached = max(1, settings.effective_decode_workers // 2)
        self._uploads = UploadJobs(window_s=settings.upload_idle_timeout, max_detached=max_detached)

    async def Transcribe(
        self, request: transcribe_pb2.TranscribeRequest, context: Context
    ) -> transcribe_pb2.TranscribeResponse:
        service, call = self._service, current_call.get()
        limit = service.settings.max_inline_bytes
        if len(request.audio) > limit:
            raise AudioTooLarge(f"{len(request.audio)} bytes in one message (limit {limit}); use TranscribeUpload")
        wanted = convert.read_config(request.config, service.engine.info)
        source_format = convert.read_format(request.format, "", service.settings.max_channels)
        deadline_s = call.deadline_s or call.arrival_s + service.settings.request_timeout
        segments: list[transcript_pb2.Segment] = []

        async def collect(event: Event) -> None:
            if isinstance(event.body, SegmentResult):
                segments.append(convert.segment_message(event.body, wanted.options))

        job = Job(source_format, wanted.options, wanted.voice_activity, Priority.INTERACTIVE, call.arrival_s, deadline_s)
        with service.admit(len(request.audio), Priority.INTERACTIVE):
            async with _until(deadline_s, f"not done within {deadline_s - call.arrival_s:.1f} s"):
                completed = await service.transcriber.run(_once(request.audio), job, collect)
        return transcribe_pb2.TranscribeResponse(
            request_id=call.request_id,
            transcript=transcript_pb2.Transcript(
                text=completed.text,
                language=convert.language_message(completed.language),
                segments=segments,
                duration_ms=completed.duration_ms,
            ),
            engine=convert.engine_message(service.engine.info),
            usage=convert.usage_message(completed),
            timings=convert.timings_message(completed.times, call.trace_id),
            warnings=wanted.warnings,
        )

    async def TranscribeUpload(  # type: ignore[override]  # grpc.aio also takes handlers that write
        self, request_iterator: AsyncIterator[transcribe_pb2.TranscribeUploadRequest], context: Context
    ) -> None:
        call = UploadCall(self._service, self._uploads, current_call.get(), context)
        await call.serve(request_iterator)

    async def StreamTranscribe(  # type: ignore[override]
        self, request_iterator: AsyncIterator[stream_pb2.StreamTranscribeRequest], context: Context
    ) -> None:
        await LiveCall(self._service, current_call.get(), context).serve(request_iterator)

    async def Subtitles(  # type: ignore[override]
        self, request_iterator: AsyncIterator[subtitles_pb2.SubtitlesRequest], context: Context
    ) -> None:
        call, texts = current_call.get(), self._service.texts
        aligner = SegmentAligner(texts.aligner, self._service.ids, call.deadline_s) if texts is not None else None
        await SubtitlesCall(self._service, call, context, aligner).serve(request_iterator)

    async def Align(self, request: transcribe_pb2.AlignRequest, context: Context) -> transcribe_pb2.AlignResponse:
        return await serve_align(self._service, current_call.get(), request)

    async def ListModels(self, request: info_pb2.ListModelsRequest, context: Context) -> info_pb2.ListModelsResponse:
        engine = self._service.engine
        model = info_pb2.Model(
            id=engine.info.model,
            engine=engine.info.name,
            loaded=engine.state is EngineState.READY,
            languages=[language for known in engine.info.languages if (language := convert.language_message(known))],
            owner=engine.info.owner,
            created=self._service.start_time,
        )
        return info_pb2.ListModelsResponse(models=[model])

    async def GetServerInfo(self, request: info_pb2.GetServerInfoRequest, context: Context) -> info_pb2.GetServerInfoResponse:
        service, engine = self._service, self._service.engine
        load = engine.load
        return info_pb2.GetServerInfoResponse(
            version=VERSION,
            engine=convert.engine_message(engine.info),
            engine_ready=engine.state is EngineState.READY,
            device=engine.info.device,
            languages=[language for known in engine.info.languages if (language := convert.language_message(known))],
            audio_formats=AUDIO_FORMATS,
            limits=_limits(service.settings),
            features=_features(engine),
            load=info_pb2.Load(
                requests=service.admission.inside,
                queued_segments=load.queued,
                running_segments=load.running,
                slots=load.slots,
                expected_wait_ms=round(load.expected_wait_s * 1000),
            ),
            server_time=convert.now_message(),
            start_time=service.start_time,
        )


@asynccontextmanager
async def _until(deadline_s: float, message: str) -> AsyncIterator[None]:
    """Ends what is inside at the deadline (monotonic clock) with DeadlineExceeded."""
    limit = asyncio.timeout(deadline_s - monotonic())
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceeded(message) from None
        raise


async def _once(audio: bytes) -> AsyncIterator[bytes]:
    yield audio


def _limits(settings: Settings) -> info_pb2.Limits:
    return info_pb2.Limits(
        max_inline_bytes=settings.max_inline_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        max_audio_seconds=round(settings.max_audio_seconds),
        max_channels=settings.max_channels,
        max_requests=settings.max_requests,
        default_deadline_ms=round(settings.request_timeout * 1000),
        upload_idle_ms=round(settings.upload_idle_timeout * 1000),
    )


def _features(engine: Engine) -> list[info_pb2.Feature]:
    calls = [
        info_pb2.Feature(name=name, available=True)
        for name in ("transcribe", "transcribe_upload", "stream_transcribe", "subtitles")
    ]
    abilities = [
        info_pb2.Feature(
            name=feature.value,
            available=feature in engine.info.features,
            reason="" if feature in engine.info.features else _LACKS.get(feature, f"{engine.info.name} does not have it"),
        )
        for feature in Feature
    ]
    return calls + abilities
