"""TLS, client certificates, tokens, rate limits, browsers and traces: Envoys of their own before the same services."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from asr_service.pb.asr.v1 import info_pb2
from envoy.front import Address, Front, Jwt, RateLimit, Tls
from envoy.process import EnvoyProgram
from tests.stack.front import FrontStack, channel, stub_of
from tests.stack.processes import SAMPLE

SECRET = b"a secret of thirty-two bytes, ok"
NAME = "spiffe://asr.example/client"


@asynccontextmanager
async def envoy(wanted: Front, folder: Path) -> AsyncIterator[str]:
    """Its public address."""
    running = await EnvoyProgram.start(wanted, folder)
    try:
        yield str(wanted.public)
    finally:
        await running.program.stop(5.0)


async def ask(made: grpc.aio.Channel, *metadata: tuple[str, str]) -> str:
    """A call's status."""
    async with made:
        try:
            await stub_of(made).ListModels(info_pb2.ListModelsRequest(), metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"


# TLS


def certificate(folder: Path, name: str, extension: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={extension}", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def credentials(server: Path, client: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    cert, key = (part.read_bytes() for part in client) if client else (None, None)
    return grpc.ssl_channel_credentials(server.read_bytes(), key, cert)


async def test_tls_for_grpc_and_http(front: FrontStack, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server", "IP:127.0.0.1")
    async with envoy(front.front(tls=Tls(str(cert), str(key))), tmp_path) as address:
        assert await ask(channel(address, credentials(cert))) == "OK"
        assert await ask(channel(address)) == "UNAVAILABLE"
        context = ssl.create_default_context(cafile=str(cert))
        async with aiohttp.ClientSession() as session, session.get(f"https://{address}/asr/v1/models", ssl=context) as answer:
            assert answer.status == 200


async def test_only_a_certificate_with_the_right_name_of_the_right_ca_gets_in(front: FrontStack, tmp_path: Path) -> None:
    server = certificate(tmp_path, "server", "IP:127.0.0.1")
    right, misnamed, unknown = (
        certificate(tmp_path, "right", f"URI:{NAME}"),
        certificate(tmp_path, "misnamed", "URI:spiffe://asr.example/other"),
        certificate(tmp_path, "unknown", f"URI:{NAME}"),
    )
    trusted = tmp_path / "trusted.crt"
    trusted.write_text(right[0].read_text() + misnamed[0].read_text())
    wanted = front.front(tls=Tls(str(server[0]), str(server[1]), str(trusted), NAME))
    async with envoy(wanted, tmp_path) as address:
        answers = [await ask(channel(address, credentials(server[0], client))) for client in (right, misnamed, unknown, None)]
        plain = await ask(channel(address))

    assert answers == ["OK", "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"]
    assert plain == "UNAVAILABLE"


# Tokens


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(*, secret: bytes = SECRET, **claims: object) -> str:
    """A claim that is None is left out."""
    chosen = {"iss": "issuer", "aud": "asr", "sub": "alice", "exp": int(time()) + 600} | claims
    head = encode(json.dumps({"alg": "HS256", "kid": "one"}).encode())
    body = encode(json.dumps({name: value for name, value in chosen.items() if value is not None}).encode())
    signature = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{encode(signature)}"


def jwt() -> Jwt:
    keys = [{"kty": "oct", "kid": "one", "alg": "HS256", "k": encode(SECRET)}]
    return Jwt("issuer", "asr", json.dumps({"keys": keys}))


def bearer(value: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {value}")


async def test_only_a_valid_token_gets_in(front: FrontStack, tmp_path: Path) -> None:
    async with envoy(front.front(jwt=jwt()), tmp_path) as address:
        found = {
            "valid": await ask(channel(address), bearer(token())),
            "none": await ask(channel(address)),
            "nonsense": await ask(channel(address), bearer("nonsense")),
            "expired": await ask(channel(address), bearer(token(exp=int(time()) - 600))),
            "endless": await ask(channel(address), bearer(token(exp=None))),
            "forged": await ask(channel(address), bearer(token(secret=b"another secret of thirty-two byt"))),
            "other issuer": await ask(channel(address), bearer(token(iss="other"))),
            "other audience": await ask(channel(address), bearer(token(aud="other"))),
        }
        json_answer = await status_of(f"http://{address}/asr/v1/models")
        rest_answer = await status_of(f"http://{address}/v1/models")
        rest_with = await status_of(f"http://{address}/v1/models", authorization=f"Bearer {token()}")
        health = await health_of(address)

    refused = dict.fromkeys(found.keys() - {"valid", "other audience"}, "UNAUTHENTICATED")
    assert found == {"valid": "OK", "other audience": "PERMISSION_DENIED"} | refused
    assert json_answer[:2] == (401, 16)
    assert rest_answer[:2] == (401, "invalid_api_key")
    assert rest_with[0] == 200
    assert health == health_pb2.HealthCheckResponse.SERVING


async def status_of(url: str, **headers: str) -> tuple[int, Any, Any]:
    """The status, the code in the body if it is an error, and the headers."""
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        body = await answer.json()
        error = body.get("error", body)
        return answer.status, error.get("code"), answer.headers


async def health_of(address: str) -> int:
    async with channel(address) as made:
        stub: Any = health_pb2_grpc.HealthStub(made)
        return int((await stub.Check(health_pb2.HealthCheckRequest())).status)


# Rate limits


async def test_who_calls_too_often_is_told_when_to_come_back(front: FrontStack, tmp_path: Path) -> None:
    wanted = front.front(rate_limit=RateLimit(1, 5))
    async with envoy(wanted, tmp_path) as address:
        codes = Counter([await ask(channel(address)) for _ in range(12)])
        json_answer = await status_of(f"http://{address}/asr/v1/models")
        rest_answer = await status_of(f"http://{address}/v1/models")
        health = await status_of(f"http://{address}/health")

    assert codes.keys() == {"OK", "RESOURCE_EXHAUSTED"}
    assert codes["OK"] >= 5
    assert json_answer[:2] == (429, 8)
    assert rest_answer[:2] == (429, "rate_limit_exceeded")
    assert json_answer[2]["retry-after"] == "1"
    assert health[0] == 200


async def test_each_token_has_its_own_limit_and_no_other_name_helps(front: FrontStack, tmp_path: Path) -> None:
    wanted = front.front(jwt=jwt(), rate_limit=RateLimit(1, 4))
    async with envoy(wanted, tmp_path) as address:
        for _ in range(12):
            await ask(channel(address), bearer(token(sub="alice")))
        again = await ask(channel(address), bearer(token(sub="alice")))
        disguised = await ask(channel(address), bearer(token(sub="alice")), ("x-client-id", "bob"))
        other = await ask(channel(address), bearer(token(sub="bob")))

    assert (again, disguised, other) == ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "OK")


# Browsers


async def test_a_page_that_may_call_is_told_so_and_no_other(front: FrontStack, tmp_path: Path) -> None:
    ours, other = "https://app.example", "https://evil.example"
    path = "/asr.v1.AsrService/Transcribe"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x-grpc-web,content-type"}
    async with envoy(front.front(origins=(ours,), jwt=jwt()), tmp_path) as address, aiohttp.ClientSession() as session:
        found = {}
        for origin in (ours, other):
            async with session.options(f"http://{address}{path}", headers=asks | {"origin": origin}) as answer:
                found[origin] = answer.status, answer.headers.get("access-control-allow-origin")
                allowed = answer.headers.get("access-control-allow-headers", "")
                assert (origin == ours) == ("x-grpc-web" in allowed)

    assert found[ours] == (200, ours)
    assert found[other][1] is None


# Traces


async def test_a_trace_goes_on_from_the_client_to_the_service(front: FrontStack, tmp_path: Path) -> None:
    """Envoy's spans have the client's trace id, and so has the service's answer."""
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def collect(request: web.Request) -> web.Response:
        received.put_nowait(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector = Address("127.0.0.1", runner.addresses[0][1])
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    try:
        async with envoy(front.front(otlp=collector), tmp_path) as address, aiohttp.ClientSession() as session:
            body = {"audio": base64.b64encode(SAMPLE.read_bytes()).decode()}
            headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
            async with session.post(f"http://{address}/asr/v1/transcribe", json=body, headers=headers) as answer:
                told = (await answer.json())["timings"]["traceId"]
            async with asyncio.timeout(60):
                spans = b""
                while bytes.fromhex(trace) not in spans:
                    spans += await received.get()
    finally:
        await runner.cleanup()

    assert told == trace
    assert b"asr-front" in spans
