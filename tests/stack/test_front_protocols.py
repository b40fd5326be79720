"""Every protocol through the real Envoy: answers, and errors in the caller's own form."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from asr_service.client import AsrClient, SessionConfig
from asr_service.pb.asr.v1 import info_pb2, transcribe_pb2, transcript_pb2
from tests.stack.front import TEXT, FrontStack, channel, stub_of
from tests.stack.processes import SAMPLE

AUDIO = SAMPLE.read_bytes()
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
GRPC = "/asr.v1.AsrService"


@pytest.fixture
async def http(front: FrontStack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=front.url) as session:
        yield session


@pytest.fixture
async def stub(front: FrontStack) -> AsyncIterator[Any]:
    async with channel(front.public) as made:
        yield stub_of(made)


def as_json(**fields: object) -> dict[str, object]:
    return {"audio": base64.b64encode(AUDIO).decode(), **fields}


# gRPC


async def test_grpc_unary_and_its_deadline_and_ids(stub: Any) -> None:
    request = transcribe_pb2.TranscribeRequest(audio=AUDIO)
    call = stub.Transcribe(request, timeout=30, metadata=(("x-request-id", "mine-1"), ("traceparent", TRACEPARENT)))
    answer = await call

    assert answer.transcript.text == TEXT
    assert answer.request_id == "mine-1"
    assert answer.timings.trace_id == TRACE
    assert dict(await call.trailing_metadata())["x-request-id"] == "mine-1"


async def test_grpc_upload(front: FrontStack) -> None:
    async with AsrClient(front.public) as client:
        events = [event async for event in client.transcribe_upload(SAMPLE)]

    assert events[0].HasField("started")
    assert events[-1].completed.text == TEXT


async def test_grpc_live_session(front: FrontStack) -> None:
    async with AsrClient(front.public) as client, client.stream_transcribe(SessionConfig()) as session:
        session.feed(pieces())
        texts = [event.final.segment.text async for event in session if event.HasField("final")]

    assert texts == [TEXT]


async def pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(AUDIO), 8192):
        yield AUDIO[at : at + 8192]


async def test_grpc_errors_keep_their_details(stub: Any) -> None:
    config = transcript_pb2.RecognitionConfig(language="klingon")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO, config=config))

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(dict(raised.value.trailing_metadata())["grpc-status-details-bin"]) == "UNKNOWN_LANGUAGE"


async def test_grpc_of_another_service_is_answered_in_grpc(front: FrontStack) -> None:
    async with channel(front.public) as made:
        call: Any = made.unary_unary("/other.Service/Call")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"")

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def reason_of(details: bytes) -> str:
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


# gRPC-Web


def frame(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def frames(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Messages and trailers."""
    messages, trailers = [], {}
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        content, body = body[5 : 5 + length], body[5 + length :]
        if flags & 0x80:
            trailers = dict(line.split(":", 1) for line in content.decode().splitlines() if line)
        else:
            messages.append(content)
    return messages, {name.strip().lower(): value.strip() for name, value in trailers.items()}


@pytest.mark.parametrize("text", [False, True])
async def test_grpc_web(text: bool, http: aiohttp.ClientSession) -> None:
    body = frame(transcribe_pb2.TranscribeRequest(audio=AUDIO).SerializeToString())
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    data = base64.b64encode(body) if text else body
    async with http.post(f"{GRPC}/Transcribe", data=data, headers={"content-type": kind, "accept": kind}) as answer:
        assert answer.status == 200
        received = await answer.read()
    if text:  # each frame is padded by itself
        received = b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+=*", received))
    messages, trailers = frames(received)

    assert [transcribe_pb2.TranscribeResponse.FromString(message).transcript.text for message in messages] == [TEXT]
    assert trailers["grpc-status"] == "0"


async def test_grpc_web_errors_are_in_the_trailers(http: aiohttp.ClientSession) -> None:
    config = transcript_pb2.RecognitionConfig(language="klingon")
    request = transcribe_pb2.TranscribeUploadRequest(config=config)
    headers = {"content-type": "application/grpc-web+proto"}
    async with http.post(f"{GRPC}/TranscribeUpload", data=frame(request.SerializeToString()), headers=headers) as answer:
        _, trailers = frames(await answer.read())
        found = {name.lower(): value for name, value in answer.headers.items()} | trailers

    assert found["grpc-status"] == str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert reason_of(base64.b64decode(found["grpc-status-details-bin"] + "==")) == "UNKNOWN_LANGUAGE"


# JSON


async def test_json_unary(http: aiohttp.ClientSession) -> None:
    headers = {"x-request-id": "mine-2", "traceparent": TRACEPARENT}
    async with http.post("/asr/v1/transcribe", json=as_json(config={"language": "de"}), headers=headers) as answer:
        found = await answer.json()

    assert (answer.status, answer.headers["x-request-id"]) == (200, "mine-2")
    assert found["transcript"]["text"] == TEXT
    assert found["transcript"]["language"]["code"] == "de"
    assert found["timings"]["traceId"] == TRACE


async def test_json_queries(http: aiohttp.ClientSession) -> None:
    async with http.get("/asr/v1/models") as models, http.get("/asr/v1/info") as info:
        assert [model["id"] for model in (await models.json())["models"]] == ["fake"]
        assert (await info.json())["engine"]["model"] == "fake"


async def test_json_lines_of_a_raw_upload(http: aiohttp.ClientSession) -> None:
    async with http.post("/asr/v1/transcribe:upload?config.language=en", data=pieces()) as answer:
        events = [json.loads(line) async for line in answer.content if line.strip()]

    assert answer.headers["content-type"] == "application/json"
    assert [event["seq"] for event in events] == [str(seq) for seq in range(len(events))]
    assert events[0]["started"]["effectiveConfig"]["language"] == "en"
    assert events[-1]["completed"]["text"] == TEXT


async def events_of(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(b"data: ")) async for line in answer.content if line.startswith(b"data: ")]


async def test_events_of_a_raw_upload(http: aiohttp.ClientSession) -> None:
    async with http.post("/asr/v1/transcribe:upload", data=AUDIO, headers={"accept": "text/event-stream"}) as answer:
        events = await events_of(answer)

    assert answer.headers["content-type"] == "text/event-stream"
    assert events[-1]["completed"]["text"] == TEXT


async def test_an_error_in_the_middle_is_the_last_event(http: aiohttp.ClientSession) -> None:
    """After the first event no status can be changed any more, in HTTP/1.1 at least."""
    async with http.post(
        "/asr/v1/transcribe:upload", data=b"no audio" * 500, headers={"accept": "text/event-stream"}
    ) as answer:
        events = await events_of(answer)

    assert answer.status == 200
    assert events[-1]["error"]["reason"] == "AUDIO_UNDECODABLE"


async def test_json_errors_are_a_status_with_details(http: aiohttp.ClientSession) -> None:
    async with http.post("/asr/v1/transcribe", json=as_json(config={"language": "klingon"})) as answer:
        found = await answer.json()

    assert answer.status == 400
    assert found["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "'klingon' is not a known language" in found["message"]
    kinds = {detail["@type"].rpartition(".")[2]: detail for detail in found["details"]}
    assert kinds["ErrorInfo"]["reason"] == "UNKNOWN_LANGUAGE"
    assert [violation["field"] for violation in kinds["BadRequest"]["fieldViolations"]] == ["config.language"]


async def test_a_deadline_reaches_the_service_in_json_too(http: aiohttp.ClientSession) -> None:
    async with http.post("/asr/v1/transcribe", json=as_json(), headers={"grpc-timeout": "1m"}) as answer:
        found = await answer.json()

    assert answer.status == 504
    assert found["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_what_the_recogniser_cannot_do_is_400(http: aiohttp.ClientSession) -> None:
    async with http.post("/asr/v1/align", json=as_json(text="one", language="en")) as answer:
        found = await answer.json()

    assert (answer.status, found["code"]) == (400, grpc.StatusCode.FAILED_PRECONDITION.value[0])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/asr/v1/transcribe", b"{", 400, 3),
        ("POST", "/asr/v1/transcribe:upload?config.tongue=en", b"x", 400, 3),
        ("GET", "/asr/v1/nothing", b"", 404, 5),
    ],
)
async def test_what_envoy_refuses_itself_looks_the_same(
    http: aiohttp.ClientSession, method: str, path: str, body: bytes, status: int, code: int
) -> None:
    async with http.request(method, path, data=body, headers={"content-type": "application/json"}) as answer:
        found = await answer.json()

    assert (answer.status, found["code"], found["details"]) == (status, code, [])
    assert found["message"]


# The bridge


async def test_rest(http: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    form.add_field("response_format", "verbose_json")
    form.add_field("file", AUDIO, filename="sample.flac")
    async with http.post("/v1/audio/transcriptions", data=form, headers={"x-request-id": "mine-3"}) as answer:
        found = await answer.json()

    assert (answer.status, found["text"], answer.headers["x-request-id"]) == (200, TEXT, "mine-3")


async def test_rest_errors_are_those_of_openai(http: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    form.add_field("language", "klingon")
    form.add_field("file", AUDIO, filename="sample.flac")
    async with http.post("/v1/audio/transcriptions", data=form) as answer:
        found = await answer.json()

    assert (answer.status, found["error"]["param"]) == (400, "language")


async def test_an_id_with_slashes_reaches_the_bridge_however_it_is_written(http: aiohttp.ClientSession) -> None:
    for path in ("/v1/models/Qwen/Qwen3-ASR-0.6B", "/v1/models/Qwen%2FQwen3-ASR-0.6B"):
        async with http.get(path) as answer:
            assert answer.status == 404
            assert "Qwen/Qwen3-ASR-0.6B" in (await answer.json())["error"]["message"]


async def test_a_websocket_is_brought_to_the_bridge(http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await http.ws_connect("/v1/nothing-here")

    assert raised.value.status == 404
    assert raised.value.headers is not None
    assert "openai-processing-ms" in raised.value.headers  # the bridge's answer


async def test_the_bridges_own_metrics_are_not_for_everybody(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as answer:
        assert answer.status == 404
    async with http.get("/health") as answer:
        assert answer.status == 200


# Where calls go


async def test_calls_are_spread_over_all_services(front: FrontStack, stub: Any) -> None:
    marker = uuid.uuid4().hex
    for _ in range(40):
        await stub.ListModels(info_pb2.ListModelsRequest(), metadata=(("x-request-id", marker),))

    upstreams = Counter(line["upstream"] for line in await front.log_lines(marker, 40))
    assert upstreams.keys() == {str(address) for address in front.addresses("services")}


async def test_rest_calls_are_spread_over_all_services_too(front: FrontStack, http: aiohttp.ClientSession) -> None:
    marker = uuid.uuid4().hex
    for _ in range(24):
        form = aiohttp.FormData()
        form.add_field("file", AUDIO, filename="sample.flac")
        async with http.post("/v1/audio/transcriptions", data=form, headers={"x-request-id": marker}) as answer:
            assert answer.status == 200

    lines = await front.log_lines(marker, 48)
    upstreams = {name: {line["upstream"] for line in lines if line["listener"] == name} for name in ("public", "internal")}
    assert upstreams["public"] == {str(address) for address in front.addresses("bridges")}
    assert upstreams["internal"] == {str(address) for address in front.addresses("services")}


async def test_a_session_comes_to_the_same_service_each_time(front: FrontStack) -> None:
    ids = [str(uuid.uuid4()) for _ in range(12)]

    async def visit(id_: str) -> None:
        async with AsrClient(front.public) as client, client.stream_transcribe(SessionConfig(), session_id=id_) as session:
            await session.finish()
            assert [event.WhichOneof("event") async for event in session] == ["started", "end"]

    for _ in range(3):
        await asyncio.gather(*map(visit, ids))

    places = [{line["upstream"] for line in await front.log_lines(id_, 3)} for id_ in ids]
    assert all(len(place) == 1 for place in places)
    assert len(set.union(*places)) > 1


async def test_a_line_of_the_log_says_what_a_call_was(front: FrontStack, stub: Any) -> None:
    marker = uuid.uuid4().hex
    metadata = (("x-request-id", marker), ("traceparent", TRACEPARENT))
    await stub.Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO), metadata=metadata)

    [line] = await front.log_lines(marker, 1)
    assert (line["path"], line["grpc_status"], line["status"]) == (f"{GRPC}/Transcribe", "OK", 200)
    assert (line["attempts"], line["cluster"], line["traceparent"]) == (1, "services", TRACEPARENT)
    assert line["bytes_in"] > len(AUDIO)


async def test_calls_are_counted_by_method_for_prometheus(front: FrontStack, stub: Any) -> None:
    await stub.Transcribe(transcribe_pb2.TranscribeRequest(audio=AUDIO))
    page = await front.admin.ask("/stats/prometheus?usedonly")

    counted = re.findall(r'^envoy_cluster_grpc_success\{.*grpc_method="(\w+)"\} [1-9]', page, flags=re.M)
    assert "Transcribe" in counted
