"""The RPCs of asr.v1.AsrService. Each reads its request, runs the transcriber and writes the answer; errors are raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import NoReturn

from asr_service.audio.formats import AUDIO_FORMATS
from asr_service.config import Settings
from asr_service.engine.protocol import Engine, EngineState, Feature
from asr_service.errors import AudioTooLarge, DeadlineExceeded, NotImplementedYet, SlowConsumer
from asr_service.grpc_api import convert
from asr_service.grpc_api.call import Call, current_call
from asr_service.grpc_api.events import EventWriter
from asr_service.grpc_api.interceptors import Context, as_answer
from asr_service.grpc_api.live_call import LiveCall
from asr_service.grpc_api.service import Service
from asr_service.grpc_api.status import to_stream_error
from asr_service.grpc_api.upload import Upload
from asr_service.pb.asr.v1 import info_pb2, stream_pb2, subtitles_pb2, transcribe_pb2, transcript_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceServicer
from asr_service.request import Cursors, Priority, SegmentResult
from asr_service.transcriber.job import Event, Job, Partial, Progress
from asr_service.version import VERSION

_LATER = {
    "Subtitles": "subtitles are not part of this version; Transcribe with config.word_times gives words to make them of",
    "Align": "the aligner is not part of this version; Transcribe with config.word_times gives the recogniser's own word times",
}


class AsrServicer(AsrServiceServicer):
    """asr.v1.AsrService."""

    def __init__(self, service: Service) -> None:
        self._service = service

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
        service, call = self._service, current_call.get()
        idle_s = service.settings.upload_idle_timeout
        events = EventWriter(call, context, idle_s)
        with service.admit(0, Priority.BATCH):
            upload = Upload(aiter(request_iterator), idle_s)
            first = await upload.open()
            wanted = convert.read_config(first.config, service.engine.info)
            source_format = convert.read_format(first.format, first.audio.content_type, service.settings.max_channels)
            await events.started(convert.effective_config(wanted, service.engine.info), service.engine)
            vad, arrival_s, deadline_s = wanted.voice_activity, call.arrival_s, call.deadline_s
            job = Job(source_format, wanted.options, vad, Priority.BATCH, arrival_s, deadline_s, partials=True)
            try:
                for warning in wanted.warnings:
                    await events.write(warning=warning)
                await self._upload(upload, job, events, call)
            except SlowConsumer:
                raise  # an event would not be read either
            except Exception as raised:
                answer = as_answer(raised, call)
                try:
                    await events.write(error=to_stream_error(answer))
                    raise answer from (None if answer is raised else raised)
                finally:
                    del answer  # see the interceptor: no cycle through this frame

    async def _upload(self, upload: Upload, job: Job, events: EventWriter, call: Call) -> None:
        async def emit(event: Event) -> None:
            events.cursors = event.cursors
            if isinstance(event.body, Progress):
                await events.write(progress=convert.progress_message(event.body))
            elif isinstance(event.body, Partial):
                await events.write(partial=convert.partial_message(event.body))
            elif isinstance(event.body, SegmentResult):
                await events.write(segment=convert.segment_message(event.body, job.options))

        completed = await self._service.transcriber.run(upload.chunks(), job, emit, upload.confirm_end)
        events.cursors = Cursors(completed.duration_ms, completed.duration_ms, completed.duration_ms)
        await events.write(
            completed=transcribe_pb2.UploadCompleted(
                text=completed.text,
                language=convert.language_message(completed.language),
                duration_ms=completed.duration_ms,
                segment_count=completed.segment_count,
                engine=convert.engine_message(self._service.engine.info),
                usage=convert.usage_message(completed),
                timings=convert.timings_message(completed.times, call.trace_id),
            )
        )

    async def StreamTranscribe(  # type: ignore[override]
        self, request_iterator: AsyncIterator[stream_pb2.StreamTranscribeRequest], context: Context
    ) -> None:
        await LiveCall(self._service, current_call.get(), context).serve(request_iterator)

    async def Subtitles(  # type: ignore[override]
        self, request_iterator: AsyncIterator[subtitles_pb2.SubtitlesRequest], context: Context
    ) -> None:
        _refuse("Subtitles")

    async def Align(self, request: transcribe_pb2.AlignRequest, context: Context) -> transcribe_pb2.AlignResponse:
        _refuse("Align")

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


def _refuse(rpc: str) -> NoReturn:
    raise NotImplementedYet(f"{rpc}: {_LATER[rpc]}")


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
    calls = [info_pb2.Feature(name=name, available=True) for name in ("transcribe", "transcribe_upload", "stream_transcribe")]
    later = [
        info_pb2.Feature(name=name, available=False, reason=_LATER[rpc])
        for name, rpc in (("subtitles", "Subtitles"), ("align", "Align"))
    ]
    abilities = [
        info_pb2.Feature(
            name=feature.value,
            available=feature in engine.info.features,
            reason="" if feature in engine.info.features else f"{engine.info.name} does not have it",
        )
        for feature in Feature
    ]
    return calls + later + abilities
