"""/health answers from memory, /ready follows the service's health."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

from rest_bridge.app import running_bridge
from rest_bridge.config import BridgeSettings
from tests.bridge.conftest import becomes_ready, bridge_to
from tests.bridge.fake_service import MODEL, Running, running_service
from tests.bridge.raw_http import get, post_form


async def test_ready_follows_the_services_health(bridge: str, service: Running) -> None:
    assert (await get(bridge, "/ready")).json == {"status": "ready"}

    await service.set_serving(serving=False)
    await becomes_ready(bridge, status=503)
    assert (await get(bridge, "/ready")).json["reason"] == "the speech service is warming up or shutting down"
    assert (await get(bridge, "/health")).json["upstream"] == "not_serving"

    await service.set_serving(serving=True)
    await becomes_ready(bridge)


async def test_health_describes_what_was_heard(bridge: str) -> None:
    async with asyncio.timeout(5):
        while not (health := (await get(bridge, "/health")).json)["model_loaded"]:  # noqa: ASYNC110  asked as a prober would
            await asyncio.sleep(0.01)

    assert health == {
        "status": "ok",
        "model_loaded": True,
        "model_id": MODEL,
        "model_name": MODEL,
        "device": "cuda:0",
        "cuda": True,
        "mode": "bridge",
        "upstream": "serving",
    }


async def test_health_is_fast_while_the_service_hangs(service: Running) -> None:
    service.fake.describes_itself.clear()
    service.fake.answers.clear()
    async with bridge_to(service.target) as url:
        waiting = [asyncio.create_task(post_form(url, [("file", b"abc")])) for _ in range(20)]
        await service.fake.has_bytes(3)

        times_s = []
        for _ in range(10):
            started_s = time.monotonic()
            assert (await get(url, "/health")).status == 200
            times_s.append(time.monotonic() - started_s)

        assert sorted(times_s)[5] < 0.05
        service.fake.answers.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
        service.fake.describes_itself.set()


async def test_a_service_that_is_not_there_is_said_so_and_found_later() -> None:
    async with running_service() as first:
        port = urlsplit(f"//{first.target}").port
        assert port is not None
        async with bridge_to(first.target) as url:
            await first.server.stop(None)
            await becomes_ready(url, status=503)
            assert (await get(url, "/health")).json["upstream"] == "unreachable"
            assert not (await get(url, "/health")).json["model_loaded"]
            refused = await post_form(url, [("file", b"abc")])
            assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
            assert "127.0.0.1" not in refused.json["error"]["message"]

            async with running_service(port) as second:
                await becomes_ready(url)
                assert (await post_form(url, [("file", b"abc")])).status == 200
                assert len(second.fake.uploads) == 1


async def test_health_works_before_the_service_was_ever_seen() -> None:
    given: dict[str, Any] = {"http_port": 0, "asr_target": "127.0.0.1:1"}
    async with running_bridge(BridgeSettings(**given)) as url:
        health = await get(url, "/health")
        ready = await get(url, "/ready")

    assert (health.json["status"], health.json["upstream"], health.json["model_id"]) == ("ok", "unreachable", None)
    assert ready.json == {"status": "not_ready", "reason": "the speech service cannot be reached"}
