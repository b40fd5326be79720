"""What belongs to the server as a whole: health, drain, keys, reflection, information, metrics."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from asr_service.app import serving
from asr_service.config import Settings
from asr_service.grpc_api.health import NAMES
from asr_service.languages import LANGUAGES
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.pb.asr.v1.info_pb2 import GetServerInfoRequest, ListModelsRequest
from tests.wire.conftest import SAMPLE, Served, request, served, speech
from tests.wire.test_transcribe import reason_of

BUF = Path(sys.executable).parent / "buf"


async def check(channel: grpc.aio.Channel, name: str) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


@pytest.mark.parametrize("name", NAMES)
async def test_a_warm_server_is_serving_under_each_name(service: Served, name: str) -> None:
    assert await check(service.channel, name) == "SERVING"


async def test_an_unknown_health_name_is_not_found(service: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(service.channel, "asr.v1.AsrService.StreamTranscribe")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_draining_finishes_what_runs_and_waits_for_no_watcher() -> None:
    watched: list[str] = []
    async with served(drain_timeout=3600) as service:
        service.controls.hold()
        running = asyncio.ensure_future(service.stub.Transcribe(request(speech())))
        await service.controls.wait_running(1)
        health: Any = health_pb2_grpc.HealthStub(service.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=NAMES[1]))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

        async def release_when_draining() -> None:
            status = (await watch.read()).status
            watched.append(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
            service.controls.release()

        releaser = asyncio.create_task(release_when_draining())
        leaving = asyncio.ensure_future(service.running.drain())
        await releaser
        response = await running
        await leaving

    assert watched == ["NOT_SERVING"]
    assert response.transcript.text


async def test_health_follows_an_engine_that_is_gone_for_good() -> None:
    async with served(slots=1) as service:
        health: Any = health_pb2_grpc.HealthStub(service.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        service.controls.plan = ["crash"]
        service.controls.fail_starts = 100

        with pytest.raises(grpc.aio.AioRpcError, match="restart"):
            await service.stub.Transcribe(request(speech()))

        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Transcribe(request(speech()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "ENGINE_FAILED"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [((), "API_KEY_MISSING"), ((("authorization", "Bearer wrong"),), "API_KEY_INVALID")],
    ids=["missing", "wrong"],
)
async def test_with_keys_a_call_needs_one_and_a_health_check_does_not(metadata: Any, reason: str) -> None:
    async with served(api_keys=("right", "other")) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.GetServerInfo(GetServerInfoRequest(), metadata=metadata)

        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(caught.value) == reason
        assert await check(service.channel, "") == "SERVING"
        for good in (("authorization", "Bearer right"), ("x-api-key", "other")):
            await service.stub.GetServerInfo(GetServerInfoRequest(), metadata=(good,))


async def test_information_says_what_can_be_done_and_what_not_and_why(service: Served) -> None:
    info = await service.stub.GetServerInfo(GetServerInfoRequest())

    features = {feature.name: feature for feature in info.features}
    assert features["transcribe"].available
    assert features["subtitles"].available
    assert not features["align"].available
    assert features["align"].reason
    assert len(info.languages) == len(LANGUAGES)
    assert {"flac", "wav", "mp3", "webm", "opus", "m4a"} <= set(info.audio_formats)
    assert info.limits.max_inline_bytes == Settings.load().max_inline_bytes
    assert info.engine_ready
    assert info.version


async def test_models_lists_the_one_there_is(service: Served) -> None:
    models = (await service.stub.ListModels(ListModelsRequest())).models

    assert [(model.id, model.engine, model.loaded) for model in models] == [("fake", "fake", True)]


async def test_buf_curl_finds_and_calls_transcribe_by_reflection(service: Served) -> None:
    body = json.dumps({"audio": base64.b64encode(SAMPLE.read_bytes()).decode(), "config": {"language": "en"}})
    url = f"http://{service.running.address}/asr.v1.AsrService/Transcribe"
    process = await asyncio.create_subprocess_exec(
        BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", "@-", url,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(body.encode())

    assert process.returncode == 0, err.decode()
    assert json.loads(out)["transcript"]["text"].startswith("one two")


async def test_reflection_answers_to_both_of_its_names(service: Served) -> None:
    for version in ("v1", "v1alpha"):
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        call = service.channel.stream_stream(
            method,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        listed: Any = await call.read()
        assert "asr.v1.AsrService" in [found.name for found in listed.list_services_response.service]


async def test_metrics_are_served_and_count() -> None:
    async with serving(Settings.load(grpc_port=0, metrics_port=0, engine="fake")) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub: Any = AsrServiceStub(channel)
            await stub.Transcribe(request(speech()))
        text = await asyncio.to_thread(_scrape, running.metrics_port)

    assert 'asr_requests_total{reason="",rpc="Transcribe",status="OK"} 1.0' in text
    assert 'asr_stage_seconds_count{stage="decode"} 1.0' in text
    assert "asr_engine_calls_total 1.0" in text


def _scrape(port: int | None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return str(response.read().decode())


async def test_a_taken_port_is_said_plainly(service: Served) -> None:
    port = int(service.running.address.rpartition(":")[2])

    with pytest.raises(OSError, match="cannot listen on"):
        async with serving(Settings.load(grpc_port=port, metrics_enabled=False, engine="fake")):
            pass
