"""Services die, go and come back, and so does Envoy, under load: nobody who can be spared notices."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import grpc
import pytest

from asr_service.client import AsrClient
from asr_service.pb.asr.v1 import info_pb2, transcribe_pb2
from tests.stack.front import TEXT, FrontStack, channel, stub_of
from tests.stack.load import Said, Session, live_session, load
from tests.stack.processes import ROOT, SAMPLE

AUDIO = SAMPLE.read_bytes()

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
async def _whole(front: FrontStack) -> None:
    """Each test begins with all services."""
    await front.until_healthy(len(front.state["services"]))


EDGE_MS = 100  # by which an utterance's edges may move where another service goes on
PAUSE_MS = 500  # less than what is between two utterances


@pytest.fixture
async def undisturbed(front: FrontStack) -> list[Said]:
    """What is heard in a live session when nothing happens."""
    async with AsrClient(front.public) as client:
        heard = (await live_session(client)).said
    assert [said.text.startswith(TEXT) for said in heard] == [True] * 3
    return heard


def check(session: Session, undisturbed: list[Said]) -> None:
    """No word is lost, none comes twice. A service that closes decides what it has of an utterance, which is in two then."""
    found = session.said
    assert [said.utterance for said in found] == list(range(len(found)))
    if session.is_sent_away:
        found = joined(found)
    else:
        assert [said.text for said in found] == [said.text for said in undisturbed]
    assert len(found) == len(undisturbed)
    for said, expected in zip(found, undisturbed, strict=True):
        assert (said.start_ms, said.end_ms) == pytest.approx((expected.start_ms, expected.end_ms), abs=EDGE_MS), found
        assert abs(len(said.text.split()) - len(expected.text.split())) <= 1, found  # a word may lie on the cut


def joined(found: list[Said]) -> list[Said]:
    """What was cut in two is one again. A gap or an overlap at the cut is an error."""
    made: list[Said] = []
    for said in found:
        if made and said.start_ms < made[-1].end_ms + PAUSE_MS:
            assert said.start_ms == pytest.approx(made[-1].end_ms, abs=EDGE_MS), found
            first = made.pop()
            made.append(replace(first, end_ms=said.end_ms, text=f"{first.text} {said.text}"))
        else:
            made.append(said)
    return made


async def test_services_that_are_killed_or_stopped_cost_no_call_and_no_word(front: FrontStack, undisturbed: list[Said]) -> None:
    async with load(front, n_grpc=4, n_rest=2, n_live=6) as made:
        for index, number in ((1, signal.SIGKILL), (2, signal.SIGTERM), (0, signal.SIGKILL)):
            await front.until_somebody_speaks(index)
            await front.kill(index, number)

    assert made.failures == []
    assert made.n_unary > 100
    assert made.sessions
    for session in made.sessions:
        check(session, undisturbed)
    assert max(session.n_started for session in made.sessions) > 1  # another service went on


async def test_a_new_envoy_takes_over_without_a_lost_call_or_word(front: FrontStack, undisturbed: list[Said]) -> None:
    async with load(front, n_grpc=4, n_rest=2, n_live=4) as made:
        await front.replace_envoy()

    assert made.failures == []
    assert made.n_unary > 100
    assert made.sessions
    for session in made.sessions:
        check(session, undisturbed)


async def test_without_any_service_errors_are_clear_and_it_recovers_by_itself(front: FrontStack) -> None:
    async with channel(front.public) as connection, aiohttp.ClientSession(base_url=front.url) as session:
        stub = stub_of(connection)
        before = front.state["services"]
        for service in before:
            os.kill(service["pid"], signal.SIGKILL)

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO), timeout=30)
        async with session.get("/asr/v1/models") as json_answer:
            json_body = await json_answer.json()
        rest_answer, rest_body = await transcribe(session)

        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (json_answer.status, json_body["code"]) == (503, grpc.StatusCode.UNAVAILABLE.value[0])
        assert (rest_answer.status, rest_body["error"]["code"]) == (503, "overloaded")
        assert int(rest_answer.headers["retry-after"]) >= 1

        starts = [service["starts"] for service in before]
        await front.until(
            lambda: all(new["starts"] > old for new, old in zip(front.state["services"], starts, strict=True)), "new services"
        )
        await front.until_healthy(len(before))
        answer = await stub.Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO), timeout=30)
        rest_answer, rest_body = await transcribe(session)

    assert answer.transcript.text == TEXT
    assert (rest_answer.status, rest_body["text"]) == (200, TEXT)


async def transcribe(session: aiohttp.ClientSession) -> tuple[aiohttp.ClientResponse, Any]:
    form = aiohttp.FormData()
    form.add_field("file", AUDIO, filename="sample.flac")
    async with session.post("/v1/audio/transcriptions", data=form) as answer:
        return answer, await answer.json()


async def test_a_service_that_says_not_serving_is_not_asked_while_it_finishes(front: FrontStack) -> None:
    service = front.state["services"][0]
    may_end = asyncio.Event()

    async def halves() -> AsyncIterator[bytes]:
        yield AUDIO[:1000]
        os.kill(service["pid"], signal.SIGTERM)
        await may_end.wait()
        yield AUDIO[1000:]

    async def finished() -> str:
        async with AsrClient(service["address"]) as client:  # at it directly, so that it has something to finish
            events = [event async for event in client.transcribe_upload(halves())]
        return events[-1].completed.text

    finishing = asyncio.create_task(finished())
    await front.until_healthy(len(front.state["services"]) - 1)
    assert front.state["services"][0]["pid"] == service["pid"]  # it lives, and is left alone
    may_end.set()

    assert await finishing == TEXT


async def test_clients_that_do_not_read_hold_nothing(front: FrontStack) -> None:
    host, _, port = front.public.rpartition(":")
    head = f"POST /asr/v1/transcribe:upload HTTP/1.1\r\nhost: {front.public}\r\ncontent-length: {len(AUDIO)}\r\n\r\n"
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(12)]
    for _, writer in connections:
        writer.write(head.encode() + AUDIO)
        await writer.drain()

    async with channel(front.public) as made:
        answer = await stub_of(made).Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO), timeout=60)
    await front.until_idle()

    assert answer.transcript.text == TEXT
    for _, writer in connections:
        writer.close()


_HALF_UPLOADS = """
import asyncio, sys
import grpc
from asr_service.pb.asr.v1 import asr_pb2_grpc, transcribe_pb2

async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        calls = [stub.TranscribeUpload() for _ in range(6)]
        for call in calls:
            await call.write(transcribe_pb2.TranscribeUploadRequest(audio={"data": open(sys.argv[2], "rb").read(1000)}))
            await call.read()
        print("begun", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def half_uploads(front: FrontStack) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the middle of six uploads."""
    command = [sys.executable, "-c", _HALF_UPLOADS, front.public, str(SAMPLE)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_clients_that_die_or_freeze_in_the_middle_hold_nothing(
    front: FrontStack, half_uploads: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    assert sum(await front.in_flight()) == 6
    half_uploads.send_signal(number)

    await front.until_idle()


async def test_a_client_that_hangs_up_in_the_middle_holds_nothing(front: FrontStack) -> None:
    host, _, port = front.public.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /asr/v1/transcribe:upload HTTP/1.1\r\nhost: {front.public}\r\ncontent-length: {len(AUDIO)}\r\n\r\n"
    writer.write(head.encode() + AUDIO[:5000])
    await writer.drain()
    while sum(await front.in_flight()) == 0:  # noqa: ASYNC110  a gauge cannot be awaited
        await asyncio.sleep(0.01)
    writer.close()

    await front.until_idle()


async def test_calls_that_are_not_waited_for_any_more_end(front: FrontStack) -> None:
    async with channel(front.public) as made:
        calls = [stub_of(made).Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO)) for _ in range(20)]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        answer = await stub_of(made).ListModels(info_pb2.ListModelsRequest())
    await front.until_idle()

    assert len(answer.models) == 1
