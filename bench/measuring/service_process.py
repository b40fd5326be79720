"""A service in a process of its own, on cores of its own: what it spends, what it holds, and what its metrics say."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import psutil

from asr_service.cli.children import free_port
from asr_service.client import AsrClient

HOST = "127.0.0.1"
_READY_S = 120.0
_STOP_S = 20.0


@dataclass(frozen=True)
class Service:
    """A running one."""

    address: str
    process: psutil.Process
    metrics_port: int

    @property
    def cpu_s(self) -> float:
        """Seconds of the processor since its start, its decoders' not among them."""
        return cpu_s(self.process)

    @property
    def rss(self) -> int:
        """Bytes of memory in use."""
        return int(self.process.memory_info().rss)

    async def metric(self, name: str) -> float:
        """The sum over all labels; 0 where nothing was counted."""
        text = await asyncio.to_thread(self._read)
        lines = (line.split(" ") for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(parts[-1]) for parts in lines)

    def _read(self) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.metrics_port}/metrics") as answer:
            return str(answer.read().decode())


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def cores_apart() -> tuple[set[int], set[int]]:
    """A core for what is measured, and the others for who measures it; the same one where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return {cores[-1]}, set(cores[:-1]) or set(cores)


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Processes that are started inside stay on these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def service_process(cores: set[int], **settings: str) -> AsyncIterator[Service]:
    """Started with these settings and ready."""
    port, metrics_port = free_port(), free_port()
    environ = {**os.environ, "HOST": HOST, "GRPC_PORT": str(port), "METRICS_PORT": str(metrics_port), "LOG_LEVEL": "error"}
    with on_cores(cores):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asr_service", "serve", env={**environ, **settings}
        )
    try:
        async with AsrClient(f"{HOST}:{port}") as client:
            await client.wait_ready(_READY_S)
        yield Service(f"{HOST}:{port}", psutil.Process(process.pid), metrics_port)
    finally:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def until(at_s: float) -> None:
    """Of the monotonic clock."""
    await asyncio.sleep(max(0.0, at_s - time.monotonic()))
