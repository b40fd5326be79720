"""The client against a scripted service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from asr_service.client import NOT_READY, UNREACHABLE, AsrClient, AsrClientError, RecognitionConfig, UploadTranscript
from asr_service.errors import Violation
from asr_service.pb.asr.v1.transcript_pb2 import FieldViolation, QualityFlag, StreamError
from tests.unit.client.scripted import NOT_SERVING, SERVING, Refused, Scripted, events, refused, scripted


@pytest.fixture
async def running() -> AsyncIterator[Scripted]:
    async with scripted() as service:
        yield service


@pytest.fixture
async def client(running: Scripted) -> AsyncIterator[AsrClient]:
    async with AsrClient(running.target, api_key="secret") as made:
        yield made


async def transcript_of(client: AsrClient, source: AsyncIterator[bytes] | Path) -> UploadTranscript:
    transcript = UploadTranscript()
    async for event in client.transcribe_upload(source):
        transcript.feed(event)
    return transcript


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_short_recording_is_transcribed_with_its_config_and_key(running: Scripted, client: AsrClient) -> None:
    response = await client.transcribe(b"hello world", RecognitionConfig(language="en"))

    assert response.transcript.text == "hello world"
    assert running.service.configs[0].language == "en"
    assert running.service.metadata[0]["authorization"] == "Bearer secret"


async def test_every_detail_of_a_refusal_arrives(running: Scripted, client: AsrClient) -> None:
    bad = error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(field="config.language", description="unknown")]
    )
    info = error_details_pb2.ErrorInfo(reason="UNKNOWN_LANGUAGE", domain="asr.v1")
    running.service.failures[b"x"] = Refused(grpc.StatusCode.INVALID_ARGUMENT, "no such language", info, bad)

    with pytest.raises(AsrClientError) as caught:
        await client.transcribe(b"x")

    error = caught.value
    assert (error.status, error.reason, error.message) == ("INVALID_ARGUMENT", "UNKNOWN_LANGUAGE", "no such language")
    assert error.violations == (Violation("config.language", "unknown"),)
    assert error.retry_after_s is None


async def test_a_full_server_says_when_to_come_back(running: Scripted, client: AsrClient) -> None:
    running.service.failures[b"x"] = refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", "full", retry_after_ms=1500)

    with pytest.raises(AsrClientError) as caught:
        await client.transcribe(b"x")

    assert caught.value.retry_after_s == 1.5


async def test_a_status_without_details_has_no_reason(running: Scripted, client: AsrClient) -> None:
    running.service.failures[b"x"] = Refused(grpc.StatusCode.INTERNAL, "oops")

    with pytest.raises(AsrClientError) as caught:
        await client.transcribe(b"x")

    assert (caught.value.status, caught.value.reason, str(caught.value)) == ("INTERNAL", "", "INTERNAL: oops")


async def test_an_upload_brings_segments_progress_and_the_whole_text(client: AsrClient) -> None:
    transcript = await transcript_of(client, pieces(b"one ", b"two"))

    assert transcript.text == "one two"
    assert [s.text for s in transcript.segments] == ["one", "two"]
    assert (transcript.processed_ms, transcript.total_ms) == (1000, 1000)
    assert transcript.as_dict()["segments"][0]["words"][0]["start_ms"] == 0


async def test_a_file_is_uploaded_whole(client: AsrClient, tmp_path: Path, running: Scripted) -> None:
    path = tmp_path / "long.bin"
    path.write_bytes(b"word " * 40_000)

    transcript = await transcript_of(client, path)

    assert running.service.received_bytes == path.stat().st_size
    assert len(transcript.segments) == 40_000


async def test_a_refusal_before_any_byte_is_read_is_heard_while_still_writing(running: Scripted, client: AsrClient) -> None:
    running.service.refuse_at_once = refused(grpc.StatusCode.UNAVAILABLE, "DRAINING", "shutting down", retry_after_ms=1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    with pytest.raises(AsrClientError) as caught:
        await transcript_of(client, endless())

    assert caught.value.reason == "DRAINING"


async def test_an_error_event_carries_its_details(running: Scripted, client: AsrClient) -> None:
    running.service.refuse_in_stream = StreamError(
        status="INVALID_ARGUMENT",
        reason="AUDIO_UNDECODABLE",
        message="plain text",
        retry_after_ms=250,
        field_violations=[FieldViolation(field="audio", description="not audio")],
    )

    with pytest.raises(AsrClientError) as caught:
        await transcript_of(client, pieces(b"a", b"b", b"c"))

    assert (caught.value.reason, caught.value.retry_after_s) == ("AUDIO_UNDECODABLE", 0.25)
    assert caught.value.violations == (Violation("audio", "not audio"),)


async def test_a_source_that_fails_ends_the_call_with_its_own_exception(client: AsrClient) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"a"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        await transcript_of(client, breaking())


async def test_a_missing_file_is_reported_as_such(client: AsrClient, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await transcript_of(client, tmp_path / "none.wav")


async def test_a_reader_that_stops_early_closes_the_source(client: AsrClient) -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"one two"
        finally:
            closed.set()

    async with aclosing(client.transcribe_upload(source())) as events:
        async for event in events:
            if event.WhichOneof("event") == "started":
                break

    assert closed.is_set()


async def test_cancelling_the_caller_cancels_the_upload(client: AsrClient) -> None:
    started = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"a"
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(transcript_of(client, stalling()))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_models_and_info_are_listed(client: AsrClient) -> None:
    models = await client.list_models()
    info = await client.server_info()

    assert [m.id for m in models.models] == ["fake-1"]
    assert info.version == "9.9.9"


async def test_ready_is_told_as_soon_as_the_service_serves(running: Scripted, client: AsrClient) -> None:
    await running.health.set("", NOT_SERVING)
    waiting = asyncio.create_task(client.wait_ready(10))
    await asyncio.sleep(0)

    await running.health.set("", SERVING)

    await waiting


async def test_a_service_that_never_gets_ready_is_reported_with_its_state(running: Scripted, client: AsrClient) -> None:
    await running.health.set("", NOT_SERVING)

    with pytest.raises(AsrClientError, match="NOT_SERVING") as caught:
        await client.wait_ready(0.2)

    assert caught.value.reason == NOT_READY


async def test_nothing_at_the_address_is_unreachable_and_not_ready() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers here
        async with AsrClient(f"127.0.0.1:{taken.getsockname()[1]}") as client:
            with pytest.raises(AsrClientError) as caught:
                await client.transcribe(b"x")
            with pytest.raises(AsrClientError, match="nothing answers"):
                await client.wait_ready(0.2)

    assert caught.value.reason == UNREACHABLE


def test_the_newest_text_is_of_the_open_segment_then_of_the_last() -> None:
    transcript = UploadTranscript()
    newest = []
    for event in events("good morning"):
        transcript.feed(event)
        newest.append(transcript.newest_text)

    assert newest == ["", "g", "good", "good", "m", "morning", "morning", "morning"]


def test_segments_that_end_early_are_named() -> None:
    transcript = UploadTranscript()
    for event in events("good morning"):
        if event.HasField("segment") and event.segment.index == 1:
            event.segment.quality_flags.append(QualityFlag.QUALITY_FLAG_TRUNCATED)
        transcript.feed(event)

    assert [segment.text for segment in transcript.truncated] == ["morning"]
