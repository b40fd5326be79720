"""The bridge as a process: light, quick to start, strict about its settings, and graceful at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from tests.bridge.conftest import becomes_ready
from tests.bridge.fake_service import TEXT, Failure, Running
from tests.bridge.raw_http import connected, form, part_head, post_form

MIB = 1024 * 1024
HEAVY = ("torch", "av", "numpy", "onnxruntime", "pocketsphinx", "soxr", "openai", "transformers")


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")}
    return {**kept, **variables}


class Process:
    """A bridge process and where it listens."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, start_s: float) -> None:
        self.process, self.url, self.start_s = process, url, start_s
        used = psutil.Process(process.pid).cpu_times()
        self.start_cpu_s = float(used.user + used.system)

    @property
    def rss_mib(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss) / MIB


@asynccontextmanager
async def bridge_process(target: str) -> AsyncIterator[Process]:
    started_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rest_bridge", env=environment(HTTP_PORT="0", ASR_TARGET=target), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        line: dict[str, str] = {}
        while line.get("message") != "listening":
            line = json.loads(await asyncio.wait_for(process.stderr.readline(), 20))
        yield Process(process, line["url"], time.monotonic() - started_s)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_starts_quickly_idles_lightly_and_streams_in_bounded_memory(service: Running) -> None:
    service.fake.keeps_data = False
    async with bridge_process(service.target) as bridge:
        await becomes_ready(bridge.url)
        assert (await post_form(bridge.url, [("file", b"abc")])).json["text"] == TEXT
        idle_mib = bridge.rss_mib

        head, tail = part_head("file", is_file=True), form([])
        async with connected(bridge.url) as connection:
            await connection.begin_form(len(head) + 50 * MIB + 2 + len(tail))
            await connection.send(head)
            peak_mib = idle_mib
            for _ in range(50):
                await connection.send(b"\0" * MIB)
                peak_mib = max(peak_mib, bridge.rss_mib)
            await connection.send(b"\r\n" + tail)
            assert (await connection.answer()).status == 200
            peak_mib = max(peak_mib, bridge.rss_mib)

    print(  # noqa: T201
        f"\nstart {bridge.start_s:.2f} s "
        f"({bridge.start_cpu_s:.2f} s of processor time), idle {idle_mib:.1f} MiB, in a 50 MiB upload {peak_mib:.1f} MiB"
    )
    assert idle_mib < 80
    assert peak_mib - idle_mib < 20
    assert bridge.start_cpu_s < 1  # processor time: the wall clock of a busy machine says little


async def test_refused_files_are_freed_at_once(service: Running) -> None:
    """A failure's traceback reaches the request; its audio must not wait with it for the cycle collector."""
    audio = bytes(MIB)
    async with bridge_process(service.target) as bridge:
        await becomes_ready(bridge.url)
        await refused(bridge.url, service, audio, times=5)
        before_mib = bridge.rss_mib
        await refused(bridge.url, service, audio, times=40)
        grown_mib = bridge.rss_mib - before_mib

    assert grown_mib < 15


async def refused(url: str, service: Running, audio: bytes, times: int) -> None:
    for _ in range(times):
        service.fake.failures = [Failure("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after_s=3)]
        assert (await post_form(url, [("file", audio)])).status == 429
        service.fake.uploads.clear()


async def test_nothing_heavy_is_imported() -> None:
    code = (
        "import time; t = time.perf_counter(); import rest_bridge.__main__, sys; took_s = time.perf_counter() - t; "
        "known = ('asr_service.pb', 'asr_service.subtitles.'); "
        "ours = sorted(m for m in sys.modules if m.startswith('asr_service.') and not m.startswith(known)); "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), ours, took_s)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()

    print(f"\nbridge imports: {output}")  # noqa: T201
    ours = ["environment", "hosts", "logs", "subtitles"]
    assert output.startswith(f"[] {[f'asr_service.{name}' for name in ours]} ")


async def test_a_signal_lets_running_requests_end(service: Running) -> None:
    service.fake.answers.clear()
    async with bridge_process(service.target) as bridge, asyncio.timeout(15):
        await becomes_ready(bridge.url)
        running = asyncio.create_task(post_form(bridge.url, [("file", b"abc")]))
        await service.fake.has_bytes(3)
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.process.stderr is not None
        while json.loads(await bridge.process.stderr.readline())["message"] != "draining":
            pass
        service.fake.answers.set()

        assert (await running).json["text"] == TEXT
        assert await bridge.process.wait() == 0


async def test_a_second_signal_stops_at_once(service: Running) -> None:
    service.fake.answers.clear()
    async with bridge_process(service.target) as bridge, asyncio.timeout(15):
        await becomes_ready(bridge.url)
        running = asyncio.create_task(post_form(bridge.url, [("file", b"abc")]))
        await service.fake.has_bytes(3)
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.process.stderr is not None
        while json.loads(await bridge.process.stderr.readline())["message"] != "draining":
            pass
        bridge.process.send_signal(signal.SIGTERM)

        assert await bridge.process.wait() == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await running


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HTTP_PORT": "abc"}, ["HTTP_PORT='abc'", "Port of the HTTP bridge"]),
        ({"HOST": "0.0.0.0"}, ["HOST='0.0.0.0'", "API_KEYS"]),
        ({"WS_BUFFER_SIZE": "14400"}, ["WS_BUFFER_SIZE='14400'", "not part of this version"]),
    ],
)
async def test_bad_settings_stop_the_process(variables: dict[str, str], words: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rest_bridge", env=environment(**variables), stderr=asyncio.subprocess.PIPE
    )
    message = (await process.communicate())[1].decode()

    assert process.returncode == 2
    assert all(word in message for word in words)
    assert "Traceback" not in message
