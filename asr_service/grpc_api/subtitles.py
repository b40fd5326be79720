"""Subtitles: an upload in, cues out as they are settled, then the whole file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from asr_service.audio.segment import SegmenterConfig
from asr_service.engine.protocol import Feature
from asr_service.errors import FeatureUnavailable, SlowConsumer
from asr_service.grpc_api import convert
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.interceptors import Context, as_answer
from asr_service.grpc_api.service import Service
from asr_service.grpc_api.status import to_stream_error
from asr_service.grpc_api.subtitle_messages import (
    cue_message,
    file_message,
    read_format,
    read_mode,
    read_rules,
    rules_message,
    subtitle_segment,
)
from asr_service.grpc_api.subtitle_source import SubtitleSource
from asr_service.pb.asr.v1 import subtitles_pb2, transcript_pb2
from asr_service.request import Cursors, Priority, SegmentResult, Word
from asr_service.subtitles import Cue, CueMaker, CueRules
from asr_service.transcriber.job import Completed, Event, Job, Progress, VoiceActivityOptions

_SUFFIX_PADDING_MS = SegmenterConfig().suffix_padding_ms


class WordAligner(Protocol):
    """Finds when the words of a text were said."""

    async def align(self, result: SegmentResult) -> tuple[Word, ...]:
        """The words of the segment's text, as offsets in the source. Raises FeatureUnavailable for what it cannot align."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """A first message, checked."""

    job: Job
    rules: CueRules
    mode: subtitles_pb2.SubtitleMode.ValueType
    form: subtitles_pb2.SubtitleFormat.ValueType
    is_live: bool
    warnings: list[transcript_pb2.Warning]


class SubtitlesCall:
    """Serves one call. `aligner`: None where none is loaded."""

    def __init__(self, service: Service, call: Call, context: Context, aligner: WordAligner | None = None) -> None:
        self._service = service
        self._call = call
        self._context = context
        self._aligner = aligner
        self._patience_s = service.settings.upload_idle_timeout
        self._seq = 0
        self._cursors = Cursors()
        self._cues: list[Cue] = []
        self._processed_ms = 0
        self._progress = Progress(0, 0)
        self._maker = CueMaker()
        self._may_align = aligner is not None

    async def serve(self, incoming: AsyncIterable[subtitles_pb2.SubtitlesRequest]) -> None:
        """Returns when the file was written to the client. Raises what it failed with."""
        with self._service.admit(0, Priority.BATCH):
            source = SubtitleSource(aiter(incoming), self._patience_s)
            plan = self._plan(await source.open())
            self._maker = CueMaker(plan.rules)
            await self._context.send_initial_metadata(self._call.headers)
            await self._write(
                started=subtitles_pb2.SubtitlesStarted(
                    effective_rules=rules_message(plan.rules),
                    effective_mode=plan.mode,
                    engine=convert.engine_message(self._service.engine.info),
                )
            )
            try:
                for warning in plan.warnings:
                    await self._write(warning=warning)
                await self._run(source, plan)
            except SlowConsumer:
                raise  # an event would not be read either
            except Exception as raised:
                answer = as_answer(raised, self._call)
                try:
                    await self._write(error=to_stream_error(answer))
                    raise answer from (None if answer is raised else raised)
                finally:
                    del answer  # see the interceptor: no cycle through this frame

    def _plan(self, first: subtitles_pb2.SubtitlesRequest) -> _Plan:
        """Raises InvalidValue and its kinds, FeatureUnavailable."""
        service, engine, call = self._service, self._service.engine.info, self._call
        rules = read_rules(first.rules)
        mode = read_mode(first.mode, has_aligner=self._aligner is not None)
        wanted = convert.read_config(first.config, engine)
        source_format = convert.read_format(first.format, first.audio.content_type, service.settings.max_channels)
        self._may_align = mode == subtitles_pb2.SUBTITLE_MODE_ACCURATE
        has_words = Feature.WORD_TIMES in engine.features
        options = replace(wanted.options, word_times=has_words)
        vad = wanted.voice_activity if has_words or self._may_align else _pausing(wanted.voice_activity, first, rules)
        priority = Priority.INTERACTIVE if first.live else Priority.BATCH
        job = Job(source_format, options, vad, priority, call.arrival_s, call.deadline_s)
        return _Plan(job, rules, mode, read_format(first.subtitle_format), first.live, wanted.warnings)

    async def _run(self, source: SubtitleSource, plan: _Plan) -> None:
        async def emit(event: Event) -> None:
            self._cursors = event.cursors
            if isinstance(event.body, SegmentResult):
                await self._take(event.body, is_live=plan.is_live)
                await self._report(self._progress)
            elif isinstance(event.body, Progress):
                self._progress = event.body
                await self._report(event.body)

        completed = await self._service.transcriber.run(source.chunks(), plan.job, emit, source.confirm_end)
        self._cursors = Cursors(completed.duration_ms, completed.duration_ms, completed.duration_ms)
        await self._give(await asyncio.to_thread(self._maker.finish))
        await self._write(completed=await asyncio.to_thread(self._completed, completed, plan.form))

    async def _take(self, result: SegmentResult, *, is_live: bool) -> None:
        segment = subtitle_segment(result, await self._words(result))
        await self._give(await asyncio.to_thread(self._maker.feed, segment))
        if is_live and not result.speech.cut_in_speech:
            await self._give(await asyncio.to_thread(self._maker.settle, result.speech.end_ms))

    async def _words(self, result: SegmentResult) -> tuple[Word, ...]:
        """The aligner's, or the engine's own."""
        if self._aligner is None or not self._may_align or not result.hypothesis.text:
            return result.hypothesis.words
        try:
            return await self._aligner.align(result)
        except FeatureUnavailable as error:
            self._may_align = False
            message = f"{error.message}; from {result.speech.start_ms} ms on times are those of SUBTITLE_MODE_FAST"
            await self._write(warning=convert.warning(transcript_pb2.WARNING_CODE_FIELD_IGNORED, "mode", message))
            return result.hypothesis.words

    async def _give(self, cues: list[Cue]) -> None:
        for cue in cues:
            self._cues.append(cue)
            await self._write(cue=cue_message(len(self._cues), cue))

    async def _report(self, progress: Progress) -> None:
        """`progress` was right when it was made; how far recognition has come since is known better."""
        unsettled_ms, committed_ms = self._maker.unsettled_ms, self._cursors.committed_ms
        settled_ms = committed_ms if unsettled_ms is None else min(unsettled_ms, committed_ms)
        self._processed_ms = max(self._processed_ms, settled_ms)
        eta_ms = None if progress.eta_s is None else round(progress.eta_s * 1000)
        message = subtitles_pb2.SubtitlesProgress(processed_ms=self._processed_ms, total_ms=progress.total_ms, eta_ms=eta_ms)
        await self._write(progress=message)

    def _completed(
        self, completed: Completed, form: subtitles_pb2.SubtitleFormat.ValueType
    ) -> subtitles_pb2.SubtitlesCompleted:
        return subtitles_pb2.SubtitlesCompleted(
            file=file_message(self._cues, form),
            cue_count=len(self._cues),
            duration_ms=completed.duration_ms,
            engine=convert.engine_message(self._service.engine.info),
            usage=convert.usage_message(completed),
            timings=convert.timings_message(completed.times, self._call.trace_id),
        )

    async def _write(self, **event: Any) -> None:
        response = subtitles_pb2.SubtitlesResponse(
            seq=self._seq,
            request_id=self._call.request_id,
            cursors=convert.cursors_message(self._cursors),
            server_time=convert.now_message(),
            **event,
        )
        self._seq += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._context.write(response)
        except TimeoutError:
            limit = f"limit {self._patience_s:g} s"
            raise SlowConsumer(f"the client read no events for {self._patience_s:g} s ({limit})") from None


def _pausing(vad: VoiceActivityOptions, first: subtitles_pb2.SubtitlesRequest, rules: CueRules) -> VoiceActivityOptions:
    """Without word times a pause is known only where the detector ends a segment: there it is to end one, and to leave some of
    the pause out."""
    asked = first.config.voice_activity
    silence_ms = vad.silence_ms if asked.HasField("silence_ms") else rules.pause_threshold_ms
    prefix_ms = vad.prefix_padding_ms
    if not asked.HasField("prefix_padding_ms"):
        prefix_ms = max(0, min(prefix_ms, silence_ms - _SUFFIX_PADDING_MS))
    return replace(vad, silence_ms=silence_ms, prefix_padding_ms=prefix_ms)
