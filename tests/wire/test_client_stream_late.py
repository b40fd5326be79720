"""Live sessions whose connections are lost after text has come out: what the server kept can still be had from it."""

from __future__ import annotations

import pytest

from asr_service.client import AsrClient
from tests.wire.conftest import Served, served
from tests.wire.talking import quiet, sample_pcm
from tests.wire.test_client_stream import (
    _DATA,
    _up_to,
    config,
    hear,
    kinds,
    of,
    pieces,
    proxied,
    spans,
    until,
    whole,
)
from tests.wire.test_stream import check


async def test_a_connection_lost_after_a_final(service: Served) -> None:
    expected = await whole(service.running.address)

    async with (
        proxied(service.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config()) as session,
    ):
        first = quiet(300) + sample_pcm() + quiet(900)
        await session.send(first)
        events = [event async for event in _up_to(session, "final")]
        proxy.cut()
        await until(service, "detached", 1)
        session.feed(pieces(_DATA[len(first) :]))
        events += await hear(session)

    check(events)
    assert kinds(events).count("started") == 1
    assert spans(events) == spans(expected)


async def test_last_events_that_never_arrived_are_sent_again(service: Served) -> None:
    expected = await whole(service.running.address)

    async with (
        proxied(service.running.address) as proxy,
        AsrClient(proxy.address) as client,
        client.stream_transcribe(config()) as session,
    ):
        events = [event async for event in _up_to(session, "started")]
        proxy.is_deaf = True
        session.feed(pieces(_DATA))
        await until(service, "attached", 0)
        proxy.is_deaf = False
        proxy.cut()
        events += await hear(session)

    check(events)
    assert spans(events) == spans(expected)
    assert len(of(events, "end")) == 1


@pytest.mark.parametrize("n", [1, 3])
async def test_ended_sessions_take_no_places_from_those_that_wait(n: int) -> None:
    async with served(max_resumable_sessions=1) as service, proxied(service.running.address) as proxy:
        for _ in range(n):
            await whole(service.running.address)
        async with AsrClient(proxy.address) as client, client.stream_transcribe(config()) as session:
            events = [event async for event in _up_to(session, "started")]
            proxy.cut()
            await until(service, "detached", 1)
            session.feed(pieces(sample_pcm()))
            events += await hear(session)

    check(events)
    assert len(of(events, "final")) == 1
