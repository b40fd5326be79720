"""TranscribeUpload over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import av
import grpc
import numpy as np
import pytest
from google.api.httpbody_pb2 import HttpBody

from asr_service.client.late_status import await_late_status
from asr_service.pb.asr.v1.info_pb2 import GetServerInfoRequest
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadRequest, TranscribeUploadResponse
from tests.wire.conftest import PCM, SAMPLE, Served, served, silence, speech
from tests.wire.test_transcribe import reason_of


def piece(data: bytes = b"", **fields: Any) -> TranscribeUploadRequest:
    return TranscribeUploadRequest(audio=HttpBody(data=data), **fields) if data else TranscribeUploadRequest(**fields)


def pieces(audio: bytes, size: int = 10_000, **first: Any) -> list[TranscribeUploadRequest]:
    return [piece(audio[at : at + size], **(first if at == 0 else {})) for at in range(0, max(len(audio), 1), size)]


async def stream(messages: list[TranscribeUploadRequest]) -> AsyncIterator[TranscribeUploadRequest]:
    for message in messages:
        yield message


async def upload(service: Served, messages: list[TranscribeUploadRequest]) -> list[TranscribeUploadResponse]:
    return [event async for event in service.stub.TranscribeUpload(stream(messages))]


async def started(call: Any) -> bool:
    async for event in call:
        return bool(event.HasField("started"))
    return False


async def upload_and_fail(
    service: Served, messages: list[TranscribeUploadRequest]
) -> tuple[list[TranscribeUploadResponse], grpc.aio.AioRpcError]:
    """What came before the failure, and the failure."""
    events: list[TranscribeUploadResponse] = []
    try:
        call = service.stub.TranscribeUpload(stream(messages))
        await_late_status(call)
        async for event in call:
            events.append(event)  # noqa: PERF401  # a comprehension would lose them
    except grpc.aio.AioRpcError as error:
        return events, error
    pytest.fail("the upload succeeded")


def check_invariants(events: list[TranscribeUploadResponse]) -> None:
    assert [event.seq for event in events] == list(range(len(events)))
    assert events[0].WhichOneof("event") == "started"
    assert events[-1].WhichOneof("event") in ("completed", "error")
    for before, after in pairwise(events):
        for name in ("received_ms", "decoded_ms", "committed_ms"):
            assert getattr(before.cursors, name) <= getattr(after.cursors, name)
    for event in events:
        assert event.cursors.received_ms >= event.cursors.decoded_ms >= event.cursors.committed_ms
    assert [e.segment.index for e in events if e.HasField("segment")] == list(range(sum(e.HasField("segment") for e in events)))


async def test_an_upload_is_started_segments_progress_completed(service: Served) -> None:
    samples = await asyncio.to_thread(sample_pcm)
    audio = b"".join([samples, silence(3), samples, silence(3), samples])
    events = await upload(service, pieces(audio, format=PCM, config={"word_times": True}))

    check_invariants(events)
    segments = [event.segment for event in events if event.HasField("segment")]
    completed = events[-1].completed
    assert len(segments) == 3
    assert completed.segment_count == 3
    assert completed.text == " ".join(segment.text for segment in segments)
    assert completed.duration_ms == len(audio) // 32
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(segments))
    assert events[0].started.effective_config.voice_activity.silence_ms == 500
    progress = [event.progress for event in events if event.HasField("progress")]
    assert progress[-1].total_ms == completed.duration_ms
    assert progress[-1].received_bytes == len(audio)
    assert np.all(np.diff([p.processed_ms for p in progress]) >= 0)


def sample_pcm() -> bytes:
    with av.open(str(SAMPLE)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]).astype(np.int16).tobytes()


async def test_silence_completes_empty_without_an_engine_call(service: Served) -> None:
    events = await upload(service, pieces(silence(30), format=PCM))

    check_invariants(events)
    assert events[-1].completed.text == ""
    assert events[-1].cursors.committed_ms == 30_000
    assert service.running.engine.calls == 0


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "AUDIO_EMPTY"),
        ([piece(config={"language": "en"})], "AUDIO_EMPTY"),
        ([piece(speech()), piece(b"x", config={})], "MESSAGE_ORDER"),
        ([piece(speech()), piece(b"x", format=PCM)], "MESSAGE_ORDER"),
        ([piece(b"<!DOCTYPE html><html>" + bytes(1000))], "AUDIO_UNDECODABLE"),
        (pieces(speech()[:60_000]), "AUDIO_TRUNCATED"),
        (pieces(silence(70), format=PCM), "AUDIO_TOO_LARGE"),
        (pieces(silence(40), format=PCM, config={"voice_activity": {"mode": 2}}), "AUDIO_TOO_LARGE"),
    ],
    ids=["nothing", "config only", "late config", "late format", "html", "truncated", "bytes", "seconds"],
)
async def test_a_fault_is_the_last_event_and_the_status(messages: list[TranscribeUploadRequest], reason: str) -> None:
    async with served(max_upload_bytes=2_000_000, max_audio_seconds=30) as service:
        events, status = await upload_and_fail(service, messages)

        check_invariants(events)
        error = events[-1].error
        assert (error.status, error.reason) == ("INVALID_ARGUMENT", reason)
        assert (status.code().name, reason_of(status), status.details()) == (error.status, error.reason, error.message)


@pytest.mark.parametrize("field", [{"config": {"language": "tlh"}}, {"format": {"encoding": 2}}], ids=str)
async def test_a_bad_first_message_fails_before_any_event(service: Served, field: dict[str, Any]) -> None:
    events, status = await upload_and_fail(service, [piece(speech(), **field)])

    assert not events
    assert status.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_upload_that_falls_silent_is_ended() -> None:
    async with served(upload_idle_timeout=0.3) as service:
        forever = asyncio.Event()

        async def stalled() -> AsyncIterator[TranscribeUploadRequest]:
            yield piece(speech()[:20_000])
            await forever.wait()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in service.stub.TranscribeUpload(stalled()):
                pass

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reason_of(caught.value) == "UPLOAD_IDLE"


async def test_a_cancelled_upload_recognises_nothing_more(service: Served) -> None:
    """The client goes away after sending speech but not its end: no final may be decoded for it."""
    sent = asyncio.Event()
    forever = asyncio.Event()

    async def half() -> AsyncIterator[TranscribeUploadRequest]:
        yield piece(sample_pcm(), format=PCM)
        sent.set()
        await forever.wait()

    call = service.stub.TranscribeUpload(half())
    assert await started(call)
    await sent.wait()

    call.cancel()

    while (await service.stub.GetServerInfo(_info())).load.requests:
        pass
    assert service.running.engine.calls == 0


def _info() -> Any:
    return GetServerInfoRequest()


async def test_uploads_leave_room_for_those_who_wait() -> None:
    async with served(max_requests=4) as service:
        service.controls.hold()
        uploads = [service.stub.TranscribeUpload(stream(pieces(speech()))) for _ in range(3)]
        for call in uploads:
            assert await started(call)

        events, status = await upload_and_fail(service, pieces(speech()))
        assert not events
        assert status.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        service.controls.release()
        for call in uploads:
            assert [event async for event in call][-1].HasField("completed")
