"""The Qwen3-ASR engine as the service builds it, on the project's small checkpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr_service.engine.step_engine import StepEngine
from asr_service.engines.qwen3 import qwen3_engine
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.metrics import Metrics


@asynccontextmanager
async def started(
    folder: Path, *, queue_capacity: int = 256, idle_timeout_s: float = 0.0, failpoints: str = "", **settings: Any
) -> AsyncIterator[tuple[StepEngine, Metrics]]:
    """A running engine on one thread; stopped at the end."""
    metrics = Metrics()
    chosen = replace(Qwen3Settings(device="cpu", threads=1), **settings)
    engine = qwen3_engine(
        "for a test",
        str(folder),
        settings=chosen,
        queue_capacity=queue_capacity,
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
        failpoints=failpoints,
    )
    await engine.start()
    try:
        yield engine, metrics
    finally:
        await engine.stop()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """A metric's value, 0 before it was touched."""
    return metrics.registry.get_sample_value(name, labels) or 0.0
