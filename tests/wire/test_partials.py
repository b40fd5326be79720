"""Text before it is decided, and what is said about it afterwards, over real gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

from asr_service.pb.asr.v1 import transcript_pb2
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadResponse
from asr_service.request import Quality, TokenUse
from tests.wire.conftest import PCM, Served, request, silence, speech
from tests.wire.test_upload import check_invariants, pieces, sample_pcm, stream, upload


async def next_partial(events: Any) -> TranscribeUploadResponse:
    async for event in events:
        if event.HasField("partial"):
            return event  # type: ignore[no-any-return]
    raise AssertionError("the upload ended without a partial text")


async def test_text_comes_while_the_segment_is_being_recognised(service: Served) -> None:
    service.controls.hold()
    events = service.stub.TranscribeUpload(stream(pieces(speech())))
    await service.controls.wait_running(1)

    partials = []
    for text in ("one", "one two", "one three"):
        service.controls.tell(text)
        partials.append(await next_partial(events))
    service.controls.release()
    rest = [event async for event in events]

    assert [(event.partial.index, event.partial.text) for event in partials] == [(0, "one"), (0, "one two"), (0, "one three")]
    assert {event.cursors.committed_ms for event in partials} == {0}
    assert not any(event.HasField("partial") for event in rest)
    assert [event.segment.index for event in rest if event.HasField("segment")] == [0]
    assert [event.seq for event in rest] == list(range(partials[-1].seq + 1, partials[-1].seq + 1 + len(rest)))


async def test_only_the_first_undecided_segment_has_partial_texts(service: Served) -> None:
    samples = await asyncio.to_thread(sample_pcm)
    service.controls.hold()
    events = service.stub.TranscribeUpload(stream(pieces(samples + silence(2) + samples, format=PCM)))
    await service.controls.wait_running(2)

    service.controls.tell("both have this text")
    first = await next_partial(events)
    service.controls.release()
    rest = [event async for event in events]

    assert first.partial.index == 0
    n_decided = 0
    for event in rest:
        assert not event.HasField("partial") or event.partial.index == n_decided
        n_decided += event.HasField("segment")
    assert n_decided == 2


async def test_what_was_recognised_at_the_users_limit_says_so_and_tokens_are_counted(service: Served) -> None:
    service.controls.flags = frozenset({Quality.TRUNCATED})
    service.controls.tokens = TokenUse(audio=65, prompt=9, output=14)

    events = await upload(service, pieces(speech()))
    answer = await service.stub.Transcribe(request(speech()))
    check_invariants(events)
    segments = [event.segment for event in events if event.HasField("segment")] + list(answer.transcript.segments)
    assert [list(segment.quality_flags) for segment in segments] == [[transcript_pb2.QUALITY_FLAG_TRUNCATED]] * 2
    for usage in (events[-1].completed.usage, answer.usage):
        assert (usage.input_audio_tokens, usage.input_text_tokens, usage.output_tokens) == (65, 9, 14)


async def test_a_recogniser_without_tokens_tells_none(service: Served) -> None:
    answer = await service.stub.Transcribe(request(speech()))

    assert not answer.usage.HasField("output_tokens")
