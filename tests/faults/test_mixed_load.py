"""Fifty callers at once, good and bad: each gets exactly one answer, and afterwards the server is as it was."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from asr_service.pb.asr.v1.info_pb2 import GetServerInfoRequest
from asr_service.pb.asr.v1.transcribe_pb2 import TranscribeUploadRequest
from tests.unit.engine.works import until
from tests.wire.conftest import Served, request, served, speech
from tests.wire.test_upload import pieces, stream

LIMIT_BYTES = 1_000_000


async def one_answer(call: Any) -> str:
    """OK, or the name of the status."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    except asyncio.CancelledError:
        return "CANCELLED"
    return "OK"


async def valid(service: Served) -> str:
    return await one_answer(service.stub.Transcribe(request(speech())))


async def corrupt(service: Served) -> str:
    audio = bytearray(speech())
    audio[20_000:60_000] = os.urandom(40_000)
    return await one_answer(service.stub.Transcribe(request(bytes(audio))))


async def oversized(service: Served) -> str:
    return await one_answer(service.stub.Transcribe(request(bytes(LIMIT_BYTES + 1))))


async def expired(service: Served) -> str:
    return await one_answer(service.stub.Transcribe(request(speech()), timeout=0.001))


async def cancelled(service: Served) -> str:
    async def endless() -> AsyncIterator[TranscribeUploadRequest]:
        for message in pieces(speech())[:3]:
            yield message
        await asyncio.Event().wait()

    call = service.stub.TranscribeUpload(endless())
    await call.read()
    call.cancel()
    return await one_answer(call.read())


async def uploaded(service: Served) -> str:
    async def drain() -> None:
        async for _ in service.stub.TranscribeUpload(stream(pieces(speech()))):
            pass

    return await one_answer(drain())


EXPECTED = {
    valid: "OK",
    corrupt: "INVALID_ARGUMENT",
    oversized: "INVALID_ARGUMENT",
    expired: "DEADLINE_EXCEEDED",
    cancelled: "CANCELLED",
    uploaded: "OK",
}


async def test_fifty_mixed_calls_get_one_answer_each_and_leave_nothing_behind() -> None:
    async with served(max_inline_bytes=LIMIT_BYTES) as service:
        await valid(service)
        before = tasks_and_children()

        kinds = [kind for kind in EXPECTED for _ in range(9)][:50]
        answers = await asyncio.gather(*(kind(service) for kind in kinds))

        by_kind = {kind: Counter(a for k, a in zip(kinds, answers, strict=True) if k is kind) for kind in EXPECTED}
        assert by_kind == {kind: Counter({status: kinds.count(kind)}) for kind, status in EXPECTED.items()}
        await nobody_inside(service)
        assert await valid(service) == "OK"
        await until(lambda: tasks_and_children()[0] <= before[0] + 1)  # the last handler ends after its answer is out
        assert service.running.engine.load.running == service.running.engine.load.queued == 0


async def test_health_answers_quickly_during_a_burst_and_memory_comes_back() -> None:
    async with served(max_requests=8, slots=1) as service:
        await valid(service)
        rss_before = psutil.Process().memory_info().rss
        health: Any = health_pb2_grpc.HealthStub(service.channel)
        service.controls.hold()
        burst = [asyncio.create_task(valid(service)) for _ in range(60)]
        await service.controls.wait_running(1)

        started_s = monotonic()
        response = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        answered_s = monotonic() - started_s

        service.controls.release()
        answers = Counter(await asyncio.gather(*burst))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        assert answers.keys() == {"OK", "RESOURCE_EXHAUSTED"}
        assert answers["OK"] >= 8
        await nobody_inside(service)
        gc.collect()
        grown = psutil.Process().memory_info().rss - rss_before
        print(f"health answered in {answered_s * 1000:.1f} ms during the burst; memory grew by {grown / 2**20:.1f} MiB")  # noqa: T201
        assert grown < 64 * 2**20


async def nobody_inside(service: Served) -> None:
    async with asyncio.timeout(10):
        while (await service.stub.GetServerInfo(GetServerInfoRequest())).load.requests:
            pass


def tasks_and_children() -> tuple[int, int]:
    return len(asyncio.all_tasks()), len(psutil.Process().children(recursive=True))
