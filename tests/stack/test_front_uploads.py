"""Large uploads stream through: neither Envoy nor a bridge holds more than a small part of one at any time."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import AsyncIterator
from io import BytesIO

import aiohttp
import psutil
import pytest

from tests.stack.front import FrontStack

MIB = 1024 * 1024
CHANNELS, RATE_HZ = 8, 48_000  # much data for a short time
GROWTH_BYTES = 48 * MIB


async def wav(n_bytes: int) -> AsyncIterator[bytes]:
    """Silence, in pieces."""
    head = BytesIO()
    with wave.open(head, "wb") as file:
        file.setparams((CHANNELS, 2, RATE_HZ, n_bytes // (2 * CHANNELS), "NONE", ""))
        file.writeframes(b"")
    header = bytearray(head.getvalue())
    header[4:8], header[40:44] = (36 + n_bytes).to_bytes(4, "little"), n_bytes.to_bytes(4, "little")
    yield bytes(header)
    piece = bytes(256 * 1024)
    for _ in range(n_bytes // len(piece)):
        yield piece


class Peak:
    """The most memory that processes have while it is open, beyond what they had before."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._before = self._now()
        self.grown_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def _now(self) -> list[int]:
        return [process.memory_info().rss for process in self._processes]

    async def __aenter__(self) -> Peak:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            grown = [now - before for now, before in zip(self._now(), self._before, strict=True)]
            self.grown_bytes = max(self.grown_bytes, *grown)
            await asyncio.sleep(0.05)


async def upload_raw(session: aiohttp.ClientSession, n_bytes: int) -> int:
    """Milliseconds that the service saw."""
    async with session.post("/asr/v1/transcribe:upload", data=wav(n_bytes)) as answer:
        lines = [json.loads(line) async for line in answer.content if line.strip()]
    return int(lines[-1]["completed"]["durationMs"])


async def upload_form(session: aiohttp.ClientSession, n_bytes: int) -> int:
    form = aiohttp.FormData()
    form.add_field("response_format", "verbose_json")
    form.add_field("file", wav(n_bytes), filename="long.wav", content_type="audio/wav")
    async with session.post("/v1/audio/transcriptions", data=form) as answer:
        body = await answer.json()
        assert answer.status == 200, body
    return round(float(body["duration"]) * 1000)


async def check(front: FrontStack, upload: str, n_bytes: int) -> None:
    state = front.state
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(base_url=front.url, timeout=timeout) as session:
        send = upload_raw if upload == "raw" else upload_form
        await send(session, MIB)  # so that what is needed once is there
        async with Peak([state["envoy"], *(bridge["pid"] for bridge in state["bridges"])]) as peak:
            duration_ms = await send(session, n_bytes)

    assert duration_ms == n_bytes * 1000 // (2 * CHANNELS * RATE_HZ)
    assert peak.grown_bytes < GROWTH_BYTES


@pytest.mark.parametrize("upload", ["raw", "form"])
async def test_64_mib_stream_through(front: FrontStack, upload: str) -> None:
    await check(front, upload, 64 * MIB)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("upload", ["raw", "form"])
async def test_1_gib_streams_through(front: FrontStack, upload: str) -> None:
    await check(front, upload, 1024 * MIB)
