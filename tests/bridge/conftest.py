"""A fake service and a real bridge in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from rest_bridge.app import running_bridge
from rest_bridge.config import BridgeSettings
from rest_bridge.spool import MEMORY_BYTES
from tests.bridge.fake_service import Running, running_service
from tests.bridge.raw_http import get

StartBridge = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def bridge_to(target: str, **settings: Any) -> AsyncIterator[str]:
    given: dict[str, Any] = {"http_port": 0, "asr_target": target, "drain_timeout": 1.0, "bridge_inline_bytes": 0, **settings}
    async with running_bridge(BridgeSettings(**given)) as url:
        await becomes_ready(url)
        yield url


async def becomes_ready(url: str, *, status: int = 200) -> None:
    async with asyncio.timeout(10):
        while (await get(url, "/ready")).status != status:  # noqa: ASYNC110  asked as a prober would
            await asyncio.sleep(0.01)


@pytest.fixture
async def service() -> AsyncIterator[Running]:
    async with running_service() as running:
        yield running


@pytest.fixture
async def bridge(service: Running) -> AsyncIterator[str]:
    """Streams every file, however small."""
    async with bridge_to(service.target) as url:
        yield url


@pytest.fixture
async def ordinary_bridge(service: Running) -> AsyncIterator[str]:
    """Sends small files in one message."""
    async with bridge_to(service.target, bridge_inline_bytes=MEMORY_BYTES) as url:
        yield url
