"""What the HTTP bridge costs over direct gRPC, and what the two processes weigh.

Requests are 3-s WAV files for a recogniser that costs nothing. Direct and bridged ones alternate in blocks of one run; client,
bridge, service and decoders share the machine. Prints a table and writes bench/results/bridge.json.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import statistics
import subprocess
import wave
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import numpy as np
import psutil

from asr_service.cli.children import Ports, free_port, running_stack
from asr_service.client import AsrClient

RESULTS = Path(__file__).parent / "results/bridge.json"
HOST = "127.0.0.1"
ROUNDS = 7
SEQUENTIAL = 40  # requests in a block, one after the other
CLIENTS = 16
CONCURRENT = 320  # requests in a block, CLIENTS at a time

Request = Callable[[], Awaitable[object]]


def noise_wav(seconds: float) -> bytes:
    samples = np.random.default_rng(0).normal(0, 3000, int(seconds * 16000)).astype(np.int16)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return target.getvalue()


@asynccontextmanager
async def clients(ports: Ports, audio: bytes) -> Any:
    """The same request directly and through the bridge."""
    async with AsrClient(f"{HOST}:{ports.grpc}") as client, aiohttp.ClientSession() as session:

        async def direct() -> None:
            await client.transcribe(audio)

        async def bridged() -> None:
            form = aiohttp.FormData()
            form.add_field("model", "whisper-1")
            form.add_field("file", audio, filename="noise.wav", content_type="audio/wav")
            async with session.post(f"http://{HOST}:{ports.http}/v1/audio/transcriptions", data=form) as response:
                assert response.status == 200, await response.text()
                await response.read()

        yield direct, bridged


async def latencies(request: Request) -> list[float]:
    took_s = []
    for _ in range(SEQUENTIAL):
        started_s = perf_counter()
        await request()
        took_s.append(perf_counter() - started_s)
    return took_s


async def throughput(request: Request) -> float:
    async def worker() -> None:
        for _ in range(CONCURRENT // CLIENTS):
            await request()

    started_s = perf_counter()
    await asyncio.gather(*(worker() for _ in range(CLIENTS)))
    return CONCURRENT / (perf_counter() - started_s)


async def measure() -> list[dict[str, object]]:
    ports = Ports(free_port(), free_port(), free_port())
    environ = {**os.environ, "ENGINE": "fake", "LOG_LEVEL": "error", "HOST": HOST}
    started_s = perf_counter()
    async with running_stack(ports, environ, HOST, drain_s=5.0, hurried=asyncio.Event()) as stack:
        await stack.wait_ready(HOST)
        start_s = perf_counter() - started_s
        service, bridge = (psutil.Process(child.process.pid) for child in stack.children)
        idle = {"service": service.memory_info().rss, "bridge": bridge.memory_info().rss}
        one: dict[str, list[float]] = {"direct": [], "bridged": []}
        many: dict[str, list[float]] = {"direct": [], "bridged": []}
        async with clients(ports, noise_wav(3.0)) as (direct, bridged):
            both = {"direct": direct, "bridged": bridged}
            for request in both.values():
                await latencies(request)  # warm
            for _ in range(ROUNDS):
                for name, request in both.items():
                    one[name] += await latencies(request)
                for name, request in both.items():
                    many[name].append(await throughput(request))
    return rows(start_s, idle, one, many)


def rows(
    start_s: float, idle: dict[str, int], one: dict[str, list[float]], many: dict[str, list[float]]
) -> list[dict[str, object]]:
    p50 = {name: statistics.median(took) * 1000 for name, took in one.items()}
    p99 = {name: statistics.quantiles(took, n=100)[98] * 1000 for name, took in one.items()}
    rate = {name: statistics.median(rates) for name, rates in many.items()}
    return [
        row("start-up of both until ready", start_s, "s"),
        row("idle memory, bridge", idle["bridge"] / 2**20, "MiB", target=80.0, met=idle["bridge"] < 80 * 2**20),
        row("idle memory, service without its workers", idle["service"] / 2**20, "MiB"),
        row("one client, direct gRPC, p50", p50["direct"], "ms"),
        row("one client, through the bridge, p50", p50["bridged"], "ms"),
        row("added by the bridge, p50", p50["bridged"] - p50["direct"], "ms", baseline="direct gRPC, same run"),
        row("added by the bridge, p99", p99["bridged"] - p99["direct"], "ms", baseline="direct gRPC, same run"),
        row(f"{CLIENTS} clients, direct gRPC", rate["direct"], "requests/s", spread=many["direct"]),
        row(f"{CLIENTS} clients, through the bridge", rate["bridged"], "requests/s", spread=many["bridged"]),
    ]


def row(what: str, value: float, unit: str, *, spread: list[float] | None = None, **more: object) -> dict[str, object]:
    made: dict[str, object] = {"what": what, "value": round(value, 2), "unit": unit, **more}
    if spread:
        made |= {"min": round(min(spread), 2), "max": round(max(spread), 2)}
    return made


def conditions() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": commit,
        "rounds": ROUNDS,
        "audio": "3-s WAV, 16 kHz, voice activity detection on, ENGINE=fake",
    }


def main() -> None:
    made = asyncio.run(measure())
    for entry in made:
        spread = f"  ({entry['min']} to {entry['max']})" if "min" in entry else ""
        print(f"{entry['what']:45} {entry['value']:10} {entry['unit']}{spread}")
    shared = conditions()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([entry | {"conditions": shared} for entry in made], indent=2) + "\n")


if __name__ == "__main__":
    main()
