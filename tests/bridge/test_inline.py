"""Small files go to the service in one message, as somebody's request and not as an upload."""

from __future__ import annotations

import asyncio

import pytest

from rest_bridge.spool import MEMORY_BYTES
from tests.bridge.conftest import bridge_to
from tests.bridge.fake_service import TEXT, Failure, Running
from tests.bridge.raw_http import Part, connected, form, post_form

AUDIO = bytes(range(256)) * 400


async def test_a_small_file_is_one_message_whatever_the_order_of_the_fields(ordinary_bridge: str, service: Running) -> None:
    file: Part = ("file", AUDIO)
    for fields in ([file, ("language", "en")], [("language", "en"), file]):
        answer = await post_form(ordinary_bridge, fields)

        assert answer.json["text"] == TEXT

    assert [(u.is_inline, bytes(u.data) == AUDIO, u.config.language) for u in service.fake.uploads] == [(True, True, "en")] * 2


@pytest.mark.parametrize(("n_bytes", "is_inline"), [(MEMORY_BYTES, True), (MEMORY_BYTES + 1, False)])
async def test_the_limit_decides(ordinary_bridge: str, service: Running, n_bytes: int, is_inline: bool) -> None:
    audio = bytes(n_bytes)

    answer = await post_form(ordinary_bridge, [("file", audio)])

    assert answer.json["text"] == TEXT
    assert [(u.is_inline, bytes(u.data) == audio) for u in service.fake.uploads] == [(is_inline, True)]


@pytest.mark.parametrize("response_format", ["json", "text", "srt", "vtt", "verbose_json"])
async def test_both_ways_give_the_same_answer(bridge: str, ordinary_bridge: str, response_format: str) -> None:
    fields: list[Part] = [("model", "whisper-1"), ("response_format", response_format), ("file", AUDIO)]

    streamed, inline = await post_form(bridge, fields), await post_form(ordinary_bridge, fields)

    assert streamed.body == inline.body


async def test_a_lost_replica_is_not_noticed(ordinary_bridge: str, service: Running) -> None:
    service.fake.failures = [Failure("UNAVAILABLE", "DRAINING", retry_after_s=0.01)]

    answer = await post_form(ordinary_bridge, [("file", AUDIO)])

    assert answer.json["text"] == TEXT
    assert len(service.fake.uploads) == 2


async def test_a_refusal_is_passed_on(ordinary_bridge: str, service: Running) -> None:
    service.fake.failures = [Failure("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after_s=3)]

    answer = await post_form(ordinary_bridge, [("file", AUDIO)])

    assert (answer.status, answer.headers["retry-after"]) == (429, "3")


async def test_an_empty_file_is_said_so(ordinary_bridge: str) -> None:
    answer = await post_form(ordinary_bridge, [("file", b"")])

    assert (answer.status, answer.json["error"]["code"]) == (400, "audio_too_short")


async def test_a_client_that_leaves_cancels_the_call(ordinary_bridge: str, service: Running) -> None:
    service.fake.answers.clear()
    async with connected(ordinary_bridge) as connection:
        body = form([("file", AUDIO)])
        await connection.begin_form(len(body))
        await connection.send(body)
        await service.fake.has_bytes(len(AUDIO))

    await asyncio.wait_for(service.fake.cancelled.wait(), 10)


async def test_a_service_that_does_not_answer_ends_in_504(service: Running) -> None:
    service.fake.answers.clear()
    async with bridge_to(service.target, bridge_inline_bytes=MEMORY_BYTES, request_timeout=0.3) as url:
        answer = await post_form(url, [("file", AUDIO)])

    assert answer.status == 504
