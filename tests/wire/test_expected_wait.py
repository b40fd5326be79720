"""MAX_EXPECTED_WAIT: nobody is let in to wait longer than that; the refusal says when to come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from asr_service.engine.protocol import EngineLoad
from asr_service.engine.slots import SlotEngine
from tests.wire.conftest import Served, request, served, speech

BUSY = EngineLoad(queued=3, running=2, slots=2, expected_wait_s=45.0)


async def attempt(service: Served) -> Any:
    return await service.stub.Transcribe(request(speech()))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> list[EngineLoad]:
    """What every engine says of its load; the test changes it."""
    said = [BUSY]
    monkeypatch.setattr(SlotEngine, "load", property(lambda _: said[0]))
    return said


async def test_beyond_the_limit_a_request_is_refused_with_the_wait_as_a_hint(load: list[EngineLoad]) -> None:
    async with served(max_expected_wait=40.0) as service:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await attempt(service)
        load[0] = replace(BUSY, expected_wait_s=39.0)
        answer = await attempt(service)

    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    assert status is not None
    details = {detail.TypeName().rpartition(".")[2]: detail for detail in status.details}
    hint = error_details_pb2.RetryInfo()
    assert details["RetryInfo"].Unpack(hint)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert hint.retry_delay.ToSeconds() == 45
    assert answer.transcript.text


async def test_without_a_limit_any_wait_is_taken(load: list[EngineLoad]) -> None:
    load[0] = replace(BUSY, expected_wait_s=86_400.0)
    async with asyncio.timeout(30), served(max_expected_wait=0.0) as service:
        assert (await attempt(service)).transcript.text
