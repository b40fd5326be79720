"""What the client makes of a server that behaves in unusual ways; real servers are in tests/wire/test_client_stream.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from asr_service.client import AsrClient, AsrClientError, AudioEncoding, AudioFormat, SessionConfig, StreamTranscribeResponse
from asr_service.pb.asr.v1 import asr_pb2_grpc
from asr_service.pb.asr.v1.stream_pb2 import Final, MarkerAck, SessionEnd, SessionStarted
from asr_service.pb.asr.v1.transcript_pb2 import Segment, StreamError
from tests.unit.client.scripted import Refused, _abort, refused

S16 = AudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16000)
RESUMABLE = SessionConfig(format=S16, resume_window_ms=20_000)
Event = StreamTranscribeResponse
STARTED = Event(seq=0, started=SessionStarted(resume_token="token"))
SECOND_FINAL = Event(seq=2, final=Final(utterance=1, segment=Segment(text="b", start_ms=50, end_ms=100)))


def final(seq: int, text: str = "a") -> Event:
    return Event(seq=seq, final=Final(segment=Segment(text=text, end_ms=50)))


def end(seq: int) -> Event:
    return Event(seq=seq, end=SessionEnd())


class Line:
    """One connection, seen from the server."""

    def __init__(self, requests: Any, context: Any) -> None:
        self._requests = requests
        self.context = context

    async def hear(self) -> Any:
        """The next message."""
        async for request in self._requests:
            return request
        raise AssertionError("nothing more was said")

    async def say(self, *events: Event) -> None:
        for event in events:
            await self.context.write(event)


Script = Callable[[Line], Awaitable[None]]


class ScriptedStream(asr_pb2_grpc.AsrServiceServicer):
    """One script for each connection, in order."""

    def __init__(self, scripts: list[Script]) -> None:
        self._scripts = scripts

    async def StreamTranscribe(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        try:
            await self._scripts.pop(0)(Line(request_iterator, context))
        except Refused as failure:
            await _abort(context, failure)


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[AsrClient]:
    server = grpc.aio.server()
    make: Any = ScriptedStream  # the other calls are left to the generated base
    register: Any = asr_pb2_grpc.add_AsrServiceServicer_to_server
    register(make(list(scripts)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsrClient(f"127.0.0.1:{port}", api_key="secret") as client:
            yield client
    finally:
        await server.stop(None)


async def events_of(client: AsrClient, config: SessionConfig = RESUMABLE, *markers: str) -> list[Event]:
    async with client.stream_transcribe(config, session_id="s") as session:
        for marker in markers:
            await session.mark(marker)
        await session.finish()
        return [event async for event in session]


async def test_the_key_and_the_session_id_go_with_every_connection() -> None:
    metadata: list[dict[str, str]] = []

    async def cut(line: Line) -> None:
        metadata.append(dict(line.context.invocation_metadata()))
        await line.hear()
        await line.say(STARTED)
        raise Refused(grpc.StatusCode.UNAVAILABLE, "gone")

    async def rest(line: Line) -> None:
        metadata.append(dict(line.context.invocation_metadata()))
        await line.say(end(1))

    async with scripted(cut, rest) as client:
        await events_of(client)

    assert [(one["authorization"], one["x-session-id"]) for one in metadata] == [("Bearer secret", "s")] * 2


async def test_it_resumes_after_the_last_event_and_passes_on_none_twice() -> None:
    heard: list[Any] = []

    async def cut(line: Line) -> None:
        await line.hear()
        await line.say(STARTED, final(1))
        raise Refused(grpc.StatusCode.UNAVAILABLE, "gone")

    async def rest(line: Line) -> None:
        heard.append((await line.hear()).resume)
        await line.say(final(1), SECOND_FINAL, end(3))

    async with scripted(cut, rest) as client:
        events = await events_of(client)

    assert [event.seq for event in events] == [0, 1, 2, 3]
    [resume] = heard
    assert (resume.resume_token, resume.last_seq, resume.utterances, resume.durable_samples) == ("token", 1, 1, 0)


async def test_a_second_answer_to_a_marker_is_not_passed_on() -> None:
    async def server(line: Line) -> None:
        await line.say(STARTED, Event(seq=1, marker_ack=MarkerAck(id="m")), Event(seq=2, marker_ack=MarkerAck(id="m")), end(3))

    async with scripted(server) as client:
        events = await events_of(client, RESUMABLE, "m")

    assert [event.seq for event in events] == [0, 1, 3]


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
async def test_a_status_that_no_service_sends_is_a_lost_connection(code: grpc.StatusCode) -> None:
    async def cut(line: Line) -> None:
        await line.say(STARTED)
        raise Refused(code, "a proxy gave up")

    async def rest(line: Line) -> None:
        await line.say(end(1))

    async with scripted(cut, rest) as client:
        assert len(await events_of(client)) == 2
    async with scripted(cut) as client:
        with pytest.raises(AsrClientError) as caught:
            await events_of(client, SessionConfig(format=S16))

    assert caught.value.status == code.name


@pytest.mark.parametrize(
    "refusal",
    [
        refused(grpc.StatusCode.UNAVAILABLE, "DRAINING", "closing", retry_after_ms=1),
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", "full", retry_after_ms=1),
    ],
)
async def test_a_server_that_cannot_go_on_with_it_now_is_asked_again(refusal: Refused) -> None:
    async def cut(line: Line) -> None:
        await line.say(STARTED)
        raise Refused(grpc.StatusCode.UNAVAILABLE, "gone")

    async def refuse(_: Line) -> None:
        raise refusal

    async def rest(line: Line) -> None:
        await line.say(end(1))

    async with scripted(cut, refuse, refuse, rest) as client:
        assert len(await events_of(client)) == 2


async def test_a_new_session_is_not_asked_for_again() -> None:
    async def refuse(_: Line) -> None:
        raise refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", "full", retry_after_ms=1)

    async with scripted(refuse) as client:
        with pytest.raises(AsrClientError) as caught:
            await events_of(client)

    assert (caught.value.reason, caught.value.retry_after_s) == ("OVERLOADED", 0.001)


async def test_what_the_service_ends_itself_is_over() -> None:
    async def server(line: Line) -> None:
        await line.say(STARTED, Event(seq=1, error=StreamError(status="UNAVAILABLE", reason="ENGINE_FAILED", message="broken")))
        raise refused(grpc.StatusCode.UNAVAILABLE, "ENGINE_FAILED", "broken")

    async with scripted(server) as client:
        with pytest.raises(AsrClientError) as caught:
            await events_of(client)

    assert caught.value.reason == "ENGINE_FAILED"


async def test_a_stream_without_an_end_is_an_error() -> None:
    async def server(line: Line) -> None:
        await line.say(STARTED)

    async with scripted(server) as client:
        with pytest.raises(AsrClientError, match="without an end"):
            await events_of(client)


async def test_the_whole_session_has_one_deadline() -> None:
    async def server(line: Line) -> None:
        await line.say(STARTED)
        while True:
            await line.hear()

    async with scripted(server) as client, client.stream_transcribe(RESUMABLE, timeout_s=0.2) as session:
        with pytest.raises(AsrClientError) as caught:
            _ = [event async for event in session]

    assert caught.value.status == "DEADLINE_EXCEEDED"


async def test_whoever_leaves_early_leaves_nothing_behind() -> None:
    left: list[bool] = []

    async def server(line: Line) -> None:
        await line.say(STARTED)
        try:
            while True:
                await line.hear()
        finally:
            left.append(True)

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(3200)
        finally:
            left.append(True)

    async with scripted(server) as client:
        async with client.stream_transcribe(RESUMABLE) as session:
            session.feed(endless())
            assert (await anext(session)).HasField("started")
        with pytest.raises(StopAsyncIteration):
            await anext(session)

    assert left == [True, True]
