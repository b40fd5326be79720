"""Align: a recording and its text in, words with times out. Also the aligner as subtitles want it."""

from __future__ import annotations

import asyncio
from time import monotonic

from asr_service.engine.aligner import Aligner, Alignment
from asr_service.errors import AudioTooLarge, DeadlineExceeded, FeatureUnavailable, InvalidValue
from asr_service.grpc_api import convert
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.service import Service
from asr_service.languages import parse_language
from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2
from asr_service.request import Priority, RecognitionOptions, SegmentResult, Word, WorkIds
from asr_service.transcriber.known_text import Aligned, KnownText, TextAligner

MAX_TEXT_CHARS = 200_000
_WITH_TIMES = RecognitionOptions(word_times=True)
NO_ALIGNER = "the engine has no aligner; set FORCED_ALIGNER_ID"


async def serve_align(service: Service, call: Call, request: transcribe_pb2.AlignRequest) -> transcribe_pb2.AlignResponse:
    """Raises InvalidValue and its kinds, FeatureUnavailable, LanguageUnavailable, and what aligning raises."""
    aligner = service.texts
    if aligner is None:
        raise FeatureUnavailable(f"Align: {NO_ALIGNER}")
    deadline_s = call.deadline_s or call.arrival_s + service.settings.request_timeout
    known = _read(service, request, call.arrival_s, deadline_s)
    with service.admit(len(request.audio), Priority.INTERACTIVE):
        aligned = await _within(aligner, known)
    return _response(call, aligner.aligner, aligned)


def _read(service: Service, request: transcribe_pb2.AlignRequest, arrival_s: float, deadline_s: float) -> KnownText:
    limit = service.settings.max_inline_bytes
    if len(request.audio) > limit:
        raise AudioTooLarge(f"{len(request.audio)} bytes in one message (limit {limit})")
    if not request.text.strip():
        raise InvalidValue.of("text", "expected what is said in the recording")
    if len(request.text) > MAX_TEXT_CHARS:
        raise InvalidValue.of("text", f"{len(request.text)} characters are too many (limit {MAX_TEXT_CHARS})")
    language = parse_language(request.language, "language")
    if language is None:
        raise InvalidValue.of("language", "expected the language of the text; it cannot be detected here")
    source_format = convert.read_format(request.format, "", service.settings.max_channels)
    return KnownText(request.audio, source_format, request.text, language, arrival_s, deadline_s)


async def _within(aligner: TextAligner, known: KnownText) -> Aligned:
    limit = asyncio.timeout(known.deadline_s - monotonic())
    try:
        async with limit:
            return await aligner.align(known)
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceeded(f"not done within {known.deadline_s - known.arrival_s:.1f} s") from None
        raise


def _response(call: Call, aligner: Aligner, aligned: Aligned) -> transcribe_pb2.AlignResponse:
    timings = convert.timings_message(aligned.times, call.trace_id)
    timings.align_ms = round(aligned.align_s * 1000)
    return transcribe_pb2.AlignResponse(
        request_id=call.request_id,
        words=convert.word_messages(aligned.words, _WITH_TIMES),
        engine=transcript_pb2.EngineDescription(name=aligner.info.name, model=aligner.info.model),
        usage=transcript_pb2.Usage(
            audio_ms=aligned.duration_ms, speech_ms=aligned.speech_ms, engine_calls=aligned.engine_calls
        ),
        timings=timings,
    )


class SegmentAligner:
    """The words of segments; those that were recognised with words keep them."""

    def __init__(self, aligner: Aligner, ids: WorkIds, deadline_s: float | None) -> None:
        self._aligner = aligner
        self._deadline_s = deadline_s
        self._ids = ids

    async def align(self, result: SegmentResult) -> tuple[Word, ...]:
        """See subtitles.WordAligner."""
        hypothesis = result.hypothesis
        if hypothesis.words or hypothesis.language is None or not hypothesis.text:
            return hypothesis.words
        wanted = Alignment(
            self._ids.take(),
            result.speech,
            hypothesis.text,
            hypothesis.language,
            Priority.BATCH,
            monotonic(),
            self._deadline_s,
        )
        return await self._aligner.align(wanted)
