"""Pools of real processes, sources for them, and what can be seen of them from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import numpy as np

from asr_service.audio.limits import AudioLimits
from asr_service.audio.pool import DecodePool
from asr_service.audio.source import Encoding, SourceFormat
from asr_service.metrics import Metrics
from asr_service.request import Samples

RAW = SourceFormat(Encoding.PCM_S16LE, 16_000)
WAV = SourceFormat()
HOUR_BYTES = 3600 * 32_000


def limits(**changes: int) -> AudioLimits:
    fields = {"max_bytes": 200_000_000, "max_channels": 8, "spool_bytes": 10_000_000} | changes
    return AudioLimits(max_seconds=7200.0, **fields)


@contextlib.asynccontextmanager
async def pool(
    max_workers: int = 1, *, warm: int = 1, failpoints: str = "", stall_s: float = 30.0, retire_s: float = 60.0, **changes: int
) -> AsyncIterator[DecodePool]:
    made = DecodePool(
        limits(**changes),
        max_workers=max_workers,
        warm=warm,
        metrics=Metrics(),
        failpoints=failpoints,
        stall_s=stall_s,
        retire_s=retire_s,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def pieces(data: bytes, n: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), n):
        yield data[at : at + n]


async def decoded(made: DecodePool, data: bytes, fmt: SourceFormat = WAV, *, interactive: bool = True) -> Samples:
    return np.concatenate([block async for block in made.decode(pieces(data), fmt, interactive=interactive)])


class Endless:
    """Silence for as long as it is read; counts what was taken."""

    def __init__(self) -> None:
        self.n_taken = 0

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        self.n_taken += 32_000
        return bytes(32_000)


async def until(condition: Callable[[], bool]) -> None:
    """Lets everything else run until the condition holds; the test's time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for from outside
        await asyncio.sleep(0.001)


def counted(made: DecodePool, name: str, **labels: str) -> float:
    return made._metrics.registry.get_sample_value(name, labels) or 0.0
