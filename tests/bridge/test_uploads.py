"""Uploads stream through, stop when the service refuses, end when the client leaves, and survive a lost replica."""

from __future__ import annotations

import asyncio

import pytest

from rest_bridge import relay as relay_module
from rest_bridge.spool import MEMORY_BYTES, Spool
from tests.bridge.conftest import bridge_to
from tests.bridge.fake_service import TEXT, Failure, Running
from tests.bridge.raw_http import Connection, connected, form, get, part_head, post_form

AUDIO = bytes(range(256)) * 400
MIB = 1024 * 1024


async def test_bytes_reach_the_service_while_the_client_is_still_sending(bridge: str, service: Running) -> None:
    async with connected(bridge) as connection, asyncio.timeout(10):
        body = form([("file", AUDIO)])
        await connection.begin_form(len(body))
        await connection.send(body[:90_000])
        await service.fake.has_bytes(20_000)  # the last 64 KiB are looked through for the boundary
        await connection.send(body[90_000:])

        assert (await connection.answer()).json["text"] == TEXT


async def test_a_large_upload_is_never_held_in_memory(bridge: str, service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class WatchedSpool(Spool):
        async def append(self, piece: bytes) -> None:
            await super().append(piece)
            held.append(self.memory_bytes)

    monkeypatch.setattr(relay_module, "Spool", WatchedSpool)
    service.fake.keeps_data = False
    piece, n_pieces = b"\x5a" * MIB, 50
    head, tail = part_head("file", is_file=True), form([])
    async with connected(bridge) as connection:
        await connection.begin_form(len(head) + n_pieces * MIB + 2 + len(tail))
        await connection.send(head)
        for _ in range(n_pieces):
            await connection.send(piece)
        await connection.send(b"\r\n" + tail)
        answer = await connection.answer()

    assert answer.status == 200
    assert service.fake.uploads[0].n_bytes == n_pieces * MIB
    assert service.fake.uploads[0].largest_message <= 256 * 1024
    assert max(held) <= MEMORY_BYTES


async def send_until_stuck(connection: Connection) -> int:
    n_sent = 0
    try:
        while True:
            await asyncio.wait_for(connection.send(b"\0" * MIB), 1)
            n_sent += MIB
    except TimeoutError:
        return n_sent


async def test_a_slow_service_slows_the_client(bridge: str, service: Running) -> None:
    service.fake.takes_uploads.clear()
    service.fake.answers.clear()
    service.fake.keeps_data = False
    async with connected(bridge) as connection:
        await connection.begin_form(200 * MIB)
        await connection.send(part_head("file", is_file=True))

        n_sent = await send_until_stuck(connection)

    assert n_sent < 30 * MIB  # what sockets and flow control windows hold
    service.fake.takes_uploads.set()
    await asyncio.wait_for(service.fake.cancelled.wait(), 10)


REFUSALS = [
    (Failure("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after_s=3), 429),
    (Failure("UNAUTHENTICATED", "API_KEY_MISSING"), 401),
    (Failure("INVALID_ARGUMENT", "AUDIO_TOO_LARGE", after_bytes=10_000), 413),
]


@pytest.mark.parametrize(("failure", "status"), REFUSALS, ids=lambda f: getattr(f, "reason", None))
async def test_a_refusal_is_answered_before_the_upload_ends(
    bridge: str, service: Running, failure: Failure, status: int
) -> None:
    service.fake.failures = [failure]
    async with connected(bridge) as connection, asyncio.timeout(5):
        await connection.begin_form(100 * MIB)
        await connection.send(part_head("file", is_file=True) + AUDIO)

        answer = await connection.answer()

    assert answer.status == status
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("failure", "status"), REFUSALS, ids=lambda f: getattr(f, "reason", None))
async def test_a_refusal_reaches_a_client_that_never_stops_sending(
    bridge: str, service: Running, failure: Failure, status: int
) -> None:
    for _ in range(5):  # the status races with the writes
        service.fake.failures = [failure]
        async with connected(bridge) as connection, asyncio.timeout(5):
            await connection.begin_form(2000 * MIB)
            await connection.send(part_head("file", is_file=True))
            sending = asyncio.create_task(send_until_stuck(connection))

            answer = await connection.answer()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

        assert answer.status == status


async def test_an_announced_length_over_the_limit_is_refused_unread(service: Running) -> None:
    async with bridge_to(service.target, max_upload_bytes=MIB) as url, connected(url) as connection, asyncio.timeout(5):
        await connection.begin_form(2 * MIB, {"Expect": "100-continue"})
        answer = await connection.answer()

    assert answer.status == 413
    assert answer.json["error"]["code"] == "file_too_large"
    assert service.fake.uploads == []


async def test_a_client_that_asks_first_is_told_to_go_on(bridge: str) -> None:
    body = form([("file", AUDIO)])
    async with connected(bridge) as connection, asyncio.timeout(5):
        await connection.begin_form(len(body), {"Expect": "100-continue"})
        assert (await connection.answer()).status == 100
        await connection.send(body)

        assert (await connection.answer()).status == 200


async def test_an_unannounced_length_is_counted(service: Running) -> None:
    async with bridge_to(service.target, max_upload_bytes=MIB) as url, connected(url) as connection, asyncio.timeout(5):
        headers = {"Content-Type": "multipart/form-data; boundary=----a-test-boundary", "Transfer-Encoding": "chunked"}
        await connection.begin("POST", "/v1/audio/transcriptions", headers)
        head = part_head("file", is_file=True)
        await connection.send(f"{len(head):x}\r\n".encode() + head + b"\r\n")
        for _ in range(20):
            await connection.send(b"10000\r\n" + b"\0" * 65536 + b"\r\n")
        answer = await connection.answer()

    assert answer.status == 413
    assert answer.json["error"]["code"] == "file_too_large"


@pytest.mark.parametrize("is_sent", [False, True], ids=["while uploading", "while waiting"])
async def test_a_client_that_leaves_cancels_the_call(bridge: str, service: Running, is_sent: bool) -> None:
    service.fake.answers.clear()
    body = form([("file", AUDIO)])
    async with connected(bridge) as connection, asyncio.timeout(5):
        await connection.begin_form(len(body))
        await connection.send(body if is_sent else body[:90_000])
        await service.fake.has_bytes(len(AUDIO) if is_sent else 20_000)

    await asyncio.wait_for(service.fake.cancelled.wait(), 5)
    service.fake.answers.set()
    assert (await post_form(bridge, [("file", AUDIO)])).status == 200


UNAVAILABLE = [
    Failure("UNAVAILABLE", "DRAINING", retry_after_s=0.01),
    Failure("UNAVAILABLE", "ENGINE_RESTARTING", retry_after_s=0.01, after_bytes=30_000),
    Failure("UNAVAILABLE", "ENGINE_RESTARTING", retry_after_s=0.01, after_bytes=None, is_in_stream=True),
    Failure("UNAVAILABLE", message="Socket closed", after_bytes=60_000),
]


@pytest.mark.parametrize("failure", UNAVAILABLE)
async def test_a_lost_replica_is_not_noticed(bridge: str, service: Running, failure: Failure) -> None:
    service.fake.failures = [failure]

    answer = await post_form(bridge, [("language", "en"), ("file", AUDIO)])

    assert answer.json["text"] == TEXT
    assert len(service.fake.uploads) == 2
    assert bytes(service.fake.uploads[1].data) == AUDIO
    assert service.fake.uploads[1].config.language == "en"


async def test_the_service_is_tried_twice_only(bridge: str, service: Running) -> None:
    service.fake.failures = [
        Failure("UNAVAILABLE", "ENGINE_RESTARTING", "restarting", retry_after_s=0.01, after_bytes=None)
    ] * 3

    answer = await post_form(bridge, [("file", AUDIO)])

    assert answer.status == 503
    assert answer.json["error"] == {"message": "restarting", "type": "server_error", "param": None, "code": "overloaded"}
    assert answer.headers["retry-after"] == "1"
    assert len(service.fake.uploads) == 2


async def test_beyond_the_spool_there_is_no_second_try(service: Running) -> None:
    async with bridge_to(service.target, bridge_spool_bytes=0) as url:
        service.fake.failures = [Failure("UNAVAILABLE", "DRAINING", after_bytes=None)]

        assert (await post_form(url, [("file", AUDIO)])).status == 503


async def test_an_upload_that_outgrows_the_spool_after_a_lost_replica_is_ended(service: Running) -> None:
    service.fake.failures = [Failure("UNAVAILABLE", "ENGINE_RESTARTING", after_bytes=10_000)]
    async with bridge_to(service.target, bridge_spool_bytes=3 * MIB) as url, connected(url) as connection, asyncio.timeout(5):
        await connection.begin_form(2000 * MIB)
        await connection.send(part_head("file", is_file=True))
        sending = asyncio.create_task(send_until_stuck(connection))
        answer = await connection.answer()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    assert answer.status == 503
    assert len(service.fake.uploads) == 1


async def test_no_progress_ends_in_504(service: Running) -> None:
    service.fake.answers.clear()
    async with bridge_to(service.target, request_timeout=0.3) as url, asyncio.timeout(5):
        answer = await post_form(url, [("file", AUDIO)])

    assert answer.status == 504
    assert answer.json["error"]["message"] == "the speech service made no progress for 0.3 s"
    await asyncio.wait_for(service.fake.cancelled.wait(), 5)


async def test_a_service_that_takes_no_bytes_ends_in_504(service: Running) -> None:
    service.fake.takes_uploads.clear()
    async with bridge_to(service.target, request_timeout=0.5) as url, connected(url) as connection, asyncio.timeout(5):
        await connection.begin_form(2000 * MIB)
        await connection.send(part_head("file", is_file=True))
        sending = asyncio.create_task(send_until_stuck(connection))
        answer = await connection.answer()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    assert answer.status == 504


async def test_a_client_that_stalls_gets_408(service: Running) -> None:
    async with (
        bridge_to(service.target, upload_idle_timeout=0.3) as url,
        connected(url) as connection,
        asyncio.timeout(5),
    ):
        await connection.begin_form(1000)
        await connection.send(part_head("file", is_file=True))

        assert (await connection.answer()).status == 408


async def test_many_uploads_at_once_each_get_their_own_answer(bridge: str, service: Running) -> None:
    service.fake.failures = [Failure("INVALID_ARGUMENT", "AUDIO_UNDECODABLE")] * 10

    answers = await asyncio.gather(*(post_form(bridge, [("file", AUDIO)]) for _ in range(40)))

    assert sorted(answer.status for answer in answers) == [200] * 30 + [400] * 10
    metrics = (await get(bridge, "/metrics")).body.decode()
    assert 'bridge_requests_total{route="/v1/audio/transcriptions",status="200"} 30.0' in metrics
    assert "bridge_requests_in_flight 1.0" in metrics  # the one that asks
