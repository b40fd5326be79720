"""Transcribe over real gRPC."""

from __future__ import annotations

import asyncio
import gc

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.wire.conftest import PCM, Served, request, served, silence, speech


def reason_of(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "asr.v1"
    return str(info.reason)


async def test_speech_is_transcribed_with_all_that_belongs_to_an_answer(service: Served) -> None:
    call = service.stub.Transcribe(
        request(speech(), config={"language": "German", "word_times": True}), metadata=(("x-request-id", "mine"),)
    )
    response = await call

    segment = response.transcript.segments[0]
    assert response.request_id == "mine"
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine"
    assert response.transcript.text.startswith("one two three")
    assert response.transcript.language.code == "de"
    assert segment.text == " ".join(word.text for word in segment.words)
    assert all(word.start_ms < word.end_ms for word in segment.words)
    assert 0.5 < segment.speech_probability <= 1.0
    assert response.engine.name == "fake"
    assert response.engine.reason
    assert response.usage.engine_calls == 1
    assert 0 < response.usage.speech_ms <= response.usage.audio_ms == response.transcript.duration_ms
    assert response.timings.total_ms >= response.timings.recognize_ms
    assert response.timings.HasField("first_text_ms")


async def test_silence_is_an_empty_transcript_and_no_engine_call(service: Served) -> None:
    response = await service.stub.Transcribe(request(silence(60), format=PCM))

    assert (response.transcript.text, len(response.transcript.segments), response.usage.engine_calls) == ("", 0, 0)
    assert response.transcript.duration_ms == 60_000
    assert not response.transcript.HasField("language")
    assert service.running.engine.calls == 0


async def test_with_detection_off_everything_reaches_the_engine(service: Served) -> None:
    response = await service.stub.Transcribe(request(silence(2), format=PCM, config={"voice_activity": {"mode": 2}}))

    assert response.usage.speech_ms == 2000
    assert service.running.engine.calls == 1


@pytest.mark.parametrize(
    ("audio", "fields", "code", "reason"),
    [
        (b"", {}, "INVALID_ARGUMENT", "AUDIO_EMPTY"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), {}, "INVALID_ARGUMENT", "AUDIO_UNDECODABLE"),
        (b"RIFF\xff\xff\x00\x00WAVE", {}, "INVALID_ARGUMENT", None),
        (speech()[:50_000], {}, "INVALID_ARGUMENT", "AUDIO_TRUNCATED"),
        (speech(), {"config": {"language": "tlh"}}, "INVALID_ARGUMENT", "UNKNOWN_LANGUAGE"),
        (speech(), {"config": {"model": "gpt-9"}}, "NOT_FOUND", "MODEL_NOT_FOUND"),
        (speech(), {"config": {"temperature": 7}}, "INVALID_ARGUMENT", "INVALID_VALUE"),
        (speech(), {"config": {"extensions": {"x": "y"}, "strict": True}}, "FAILED_PRECONDITION", "FEATURE_UNAVAILABLE"),
        (bytes(2_000_000), {}, "INVALID_ARGUMENT", "AUDIO_TOO_LARGE"),
        (bytes(4_000), {"format": {"encoding": 2}}, "INVALID_ARGUMENT", "INVALID_VALUE"),
    ],
    ids=["empty", "png", "cut header", "truncated", "language", "model", "temperature", "strict", "too large", "no rate"],
)
async def test_bad_input_gets_its_status_and_reason(
    audio: bytes, fields: dict[str, object], code: str, reason: str | None
) -> None:
    async with served(max_inline_bytes=1_000_000) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Transcribe(request(audio, **fields))

        assert caught.value.code().name == code
        assert reason is None or reason_of(caught.value) == reason
        assert "x-request-id" in dict(caught.value.trailing_metadata())
        assert (await service.stub.Transcribe(request(speech()))).transcript.text


async def test_a_deadline_ends_the_wait_and_gives_the_slot_back(service: Served) -> None:
    service.controls.hold()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.Transcribe(request(speech()), timeout=1.0)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await service.controls.wait_running(0)
    service.controls.release()
    assert (await service.stub.Transcribe(request(speech()))).transcript.text


async def test_a_call_without_deadline_gets_the_servers(service: Served) -> None:
    async with served(request_timeout=1.0) as impatient:
        impatient.controls.hold()

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await impatient.stub.Transcribe(request(speech()))

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reason_of(caught.value) == "DEADLINE"


async def test_a_cancelled_call_stops_the_engine(service: Served) -> None:
    service.controls.hold()
    call = service.stub.Transcribe(request(speech()))
    await service.controls.wait_running(1)

    call.cancel()

    await service.controls.wait_running(0)
    service.controls.release()
    assert (await service.stub.Transcribe(request(speech()))).transcript.text
    assert service.running.engine.load.running == 0


async def test_a_full_server_refuses_with_a_retry_hint_and_recovers() -> None:
    async with served(max_requests=2, slots=1) as service:
        service.controls.hold()
        inside = [asyncio.ensure_future(service.stub.Transcribe(request(speech()))) for _ in range(2)]
        await service.controls.wait_running(1)

        refused = await asyncio.gather(*(service.stub.Transcribe(request(speech())) for _ in range(10)), return_exceptions=True)

        for error in refused:
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.details() == "2 requests are already inside (limit 2)"
            status = rpc_status.from_call(error)  # type: ignore[arg-type]
            assert status is not None
            retry = error_details_pb2.RetryInfo()
            assert status.details[1].Unpack(retry)
            assert retry.retry_delay.ToMilliseconds() >= 1000
        service.controls.release()
        assert all(answer.transcript.text for answer in await asyncio.gather(*inside))
        assert (await service.stub.Transcribe(request(speech()))).transcript.text


async def test_a_recogniser_that_crashes_is_a_retryable_answer(service: Served) -> None:
    service.controls.plan = ["crash"]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.Transcribe(request(speech()))

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == "ENGINE_RESTARTING"
    assert (await service.stub.Transcribe(request(speech()))).transcript.text


async def test_a_refused_request_is_freed_at_once(service: Served) -> None:
    """The traceback of an error reaches the request; its audio must not wait for the cycle collector."""
    garbage = b"<html>" + bytes(2**20)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await refusal(service, garbage)
        before = psutil.Process().memory_info().rss
        for _ in range(40):
            assert await refusal(service, garbage) == "AUDIO_UNDECODABLE"
        grown = psutil.Process().memory_info().rss - before
    finally:
        gc.enable()

    assert grown < 20 * 2**20


async def refusal(service: Served, audio: bytes) -> str:
    try:
        await service.stub.Transcribe(request(audio))
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return ""
