"""Uploads with an idempotency key: gone on with, taken, abandoned, and freed when nobody comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from asr_service.client.late_status import await_late_status
from asr_service.pb.asr.v1.info_pb2 import GetServerInfoRequest
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadRequest, TranscribeUploadResponse, UploadResume
from tests.wire.conftest import PCM, Served, served, silence
from tests.wire.test_transcribe import reason_of
from tests.wire.test_upload import check_invariants, pieces, sample_pcm, upload

KEY = "7d6f0b52-key"
LAST = TranscribeUploadRequest(is_last=True)


def talk(times: int = 3) -> bytes:
    return b"".join(sample_pcm() + silence(2) for _ in range(times))


def first(key: str = KEY, last_seq: int | None = None, **fields: Any) -> TranscribeUploadRequest:
    return TranscribeUploadRequest(resume=UploadResume(idempotency_key=key, last_seq=last_seq), **({"format": PCM} | fields))


def bytes_of(audio: bytes, offset: int = 0, size: int = 20_000) -> list[TranscribeUploadRequest]:
    return [
        TranscribeUploadRequest(audio=HttpBody(data=audio[at : at + size]), offset=at) for at in range(offset, len(audio), size)
    ]


class Line:
    """One connection: what was said stands in a list, what was heard too."""

    def __init__(self, service: Served, *messages: TranscribeUploadRequest, ends: bool = True, **call: Any) -> None:
        self.events: list[TranscribeUploadResponse] = []
        self.error: grpc.aio.AioRpcError | None = None
        self._hangs = asyncio.Event()

        async def say() -> AsyncIterator[TranscribeUploadRequest]:
            for message in messages:
                yield message
            if not ends:
                await self._hangs.wait()

        self.call: Any = service.stub.TranscribeUpload(say(), **call)
        await_late_status(self.call)
        self._heard = aiter(self.call)

    async def hear(self, kind: str) -> TranscribeUploadResponse:
        """Reads on until there is one of these."""
        async for event in self._heard:
            self.events.append(event)
            if event.WhichOneof("event") == kind:
                return self.events[-1]
        pytest.fail(f"no {kind} came, only {[e.WhichOneof('event') for e in self.events]}")

    async def rest(self) -> list[TranscribeUploadResponse]:
        try:
            async for event in self._heard:
                self.events.append(event)
        except grpc.aio.AioRpcError as error:
            self.error = error
        return self.events

    async def lose(self) -> None:
        self.call.cancel()
        await asyncio.gather(self.call.code(), return_exceptions=True)


async def n_inside(service: Served) -> int:
    return (await service.stub.GetServerInfo(GetServerInfoRequest())).load.requests


async def until_inside(service: Served, n: int) -> None:
    while await n_inside(service) != n:
        pass


async def text_of(service: Served, audio: bytes) -> str:
    return (await upload(service, pieces(audio, format=PCM)))[-1].completed.text


async def test_an_upload_is_gone_on_with_where_it_was_lost(service: Served) -> None:
    audio = await asyncio.to_thread(talk)
    whole = await text_of(service, audio)
    one = Line(service, first(), *bytes_of(audio[:250_000]), ends=False)
    heard = await one.hear("segment")
    await one.lose()
    two = Line(service, first(last_seq=heard.seq), *bytes_of(audio), LAST)
    started = (await two.hear("started")).started
    await two.rest()

    assert started.is_resumed
    assert 0 < started.received_bytes <= 250_000
    assert started.resume_window_ms == 30_000
    assert [e.seq for e in two.events] == [0, *range(heard.seq + 1, two.events[-1].seq + 1)]
    assert two.events[-1].completed.text == whole
    assert two.events[-1].completed.duration_ms == len(audio) // 32
    indexes = [e.segment.index for e in (*one.events, *two.events) if e.HasField("segment")]
    assert indexes == list(range(two.events[-1].completed.segment_count))


async def test_only_what_is_missing_need_be_sent(service: Served) -> None:
    audio = await asyncio.to_thread(talk)
    whole = await text_of(service, audio)
    one = Line(service, first(), *bytes_of(audio[:100_000]), ends=False)
    await one.hear("started")
    await one.lose()
    ask = Line(service, first(), ends=False)
    received = (await ask.hear("started")).started.received_bytes
    two = Line(service, first(), *bytes_of(audio, received), LAST)
    await two.rest()

    assert two.events[-1].completed.text == whole
    await ask.rest()
    assert ask.error is not None
    assert (ask.error.code(), reason_of(ask.error)) == (grpc.StatusCode.ABORTED, "SESSION_TAKEN")


async def test_an_upload_that_has_ended_is_told_again_and_not_transcribed_again(service: Served) -> None:
    audio = await asyncio.to_thread(talk, 1)
    header = (("idempotency-key", KEY),)
    messages = [TranscribeUploadRequest(format=PCM), *bytes_of(audio), LAST]
    one = await Line(service, *messages, metadata=header).rest()
    calls = service.running.engine.calls
    two = await Line(service, *messages, metadata=header).rest()

    check_invariants(one)
    check_invariants(two)
    assert [e.segment for e in one if e.HasField("segment")] == [e.segment for e in two if e.HasField("segment")]
    assert one[-1].completed == two[-1].completed
    assert service.running.engine.calls == calls
    assert await n_inside(service) == 0


async def test_the_end_of_the_stream_is_not_the_end_of_the_audio(service: Served) -> None:
    audio = await asyncio.to_thread(talk, 1)
    one = Line(service, first(), *bytes_of(audio))
    await one.rest()

    assert one.error is not None
    assert reason_of(one.error) == "MESSAGE_ORDER"
    two = await Line(service, first(), *bytes_of(audio), LAST).rest()
    assert two[0].started.received_bytes == len(audio)
    assert two[-1].HasField("completed")


async def test_an_upload_that_was_abandoned_is_freed_at_once(service: Served) -> None:
    audio = await asyncio.to_thread(talk)
    one = Line(service, first(), *bytes_of(audio[:100_000]), ends=False)
    await one.hear("started")
    await one.lose()
    assert await n_inside(service) == 1

    gone = Line(service, TranscribeUploadRequest(resume=UploadResume(idempotency_key=KEY, abandon=True)))
    assert await gone.rest() == []
    assert gone.error is None
    assert await n_inside(service) == 0
    two = Line(service, first(), ends=False)
    assert not (await two.hear("started")).started.is_resumed


async def test_somebody_attached_hears_that_the_upload_was_abandoned(service: Served) -> None:
    one = Line(service, first(), ends=False)
    await one.hear("started")
    await Line(service, TranscribeUploadRequest(resume=UploadResume(idempotency_key=KEY, abandon=True))).rest()
    await one.rest()

    assert one.error is not None
    assert reason_of(one.error) == "SESSION_TAKEN"
    await until_inside(service, 0)


async def test_nobody_is_waited_for_longer_than_the_window() -> None:
    async with served(upload_idle_timeout=0.2) as service:
        one = Line(service, first(), ends=False)
        await one.hear("started")
        await one.lose()
        await until_inside(service, 0)
        two = Line(service, first(), ends=False)

        assert not (await two.hear("started")).started.is_resumed


async def test_a_silent_connection_ends_and_its_upload_waits() -> None:
    async with served(upload_idle_timeout=0.5) as service:
        one = Line(service, first(), ends=False)
        await one.rest()
        two = Line(service, first(), ends=False)

        assert one.error is not None
        assert reason_of(one.error) == "UPLOAD_IDLE"
        assert (await two.hear("started")).started.is_resumed


async def test_no_more_uploads_wait_than_leave_decoders_for_others() -> None:
    async with served(decode_workers=4) as service:
        lines = [Line(service, first(f"key-{n}"), ends=False) for n in range(4)]
        for line in lines:
            await line.hear("started")
        for line in lines:
            await line.lose()
        await until_inside(service, 2)


async def test_a_closing_service_ends_the_uploads_that_wait() -> None:
    async with served() as service:
        one = Line(service, first(), *bytes_of(talk()[:100_000]), ends=False)
        await one.hear("started")
        await one.lose()

    waiting = [task for task in asyncio.all_tasks() if "UploadJobs" in repr(task.get_coro())]
    await asyncio.gather(*waiting)
    assert all(task.done() for task in waiting)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (first(config={"language": "en"}), "resume.idempotency_key"),
        (first(format=None), "resume.idempotency_key"),
        (first("with space"), "resume.idempotency_key"),
        (first("k" * 129), "resume.idempotency_key"),
        (first(""), "resume.idempotency_key"),
    ],
    ids=["another config", "another format", "a space", "too long", "none"],
)
async def test_a_key_that_cannot_be_is_refused(service: Served, message: TranscribeUploadRequest, field: str) -> None:
    one = Line(service, first(), ends=False)
    await one.hear("started")
    two = Line(service, message)
    await two.rest()

    assert two.events == []
    assert two.error is not None
    assert reason_of(two.error) == "INVALID_VALUE"
    assert field in str(two.error.details())


@pytest.mark.parametrize(
    "messages",
    [[first(last_seq=5000)], [first(), TranscribeUploadRequest(audio=HttpBody(data=b"xx"), offset=100_001)]],
    ids=["an event that never was", "a gap"],
)
async def test_what_cannot_be_gone_on_with_is_said(service: Served, messages: list[TranscribeUploadRequest]) -> None:
    one = Line(service, first(), *bytes_of(silence(3)), ends=False)
    await one.hear("started")
    await one.lose()
    two = Line(service, *messages)
    await two.rest()

    assert two.error is not None
    assert (two.error.code(), reason_of(two.error)) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_WINDOW_GONE")


async def test_an_offset_needs_a_key(service: Served) -> None:
    line = Line(service, TranscribeUploadRequest(format=PCM), *bytes_of(silence(1)))
    await line.rest()

    assert line.error is not None
    assert reason_of(line.error) == "INVALID_VALUE"
    assert line.events[-1].error.field_violations[0].field == "offset"


async def test_another_callers_key_is_another_upload() -> None:
    async with served(api_keys="one,two") as service:
        line = Line(service, first(), ends=False, metadata=(("x-api-key", "one"),))
        await line.hear("started")
        other = Line(service, first(), ends=False, metadata=(("x-api-key", "two"),))

        assert not (await other.hear("started")).started.is_resumed
        again = Line(service, first(), ends=False, metadata=(("x-api-key", "one"),))
        assert (await again.hear("started")).started.is_resumed


async def test_a_failure_that_was_told_is_forgotten(service: Served) -> None:
    bad = [first(format=None), TranscribeUploadRequest(audio=HttpBody(data=b"<!DOCTYPE html>" + bytes(1000))), LAST]
    for _ in range(2):
        line = Line(service, *bad)
        await line.rest()
        assert line.error is not None
        assert reason_of(line.error) == "AUDIO_UNDECODABLE"
        assert not line.events[0].started.is_resumed
