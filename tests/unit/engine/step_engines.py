"""Step engines on fake models, and what is asked of them in many tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from asr_service.engine.fake import FAKE_INFO, fake_words
from asr_service.engine.fake_model import FakeModel, ModelControls
from asr_service.engine.slot import StartPolicy
from asr_service.engine.step_engine import StepEngine
from asr_service.metrics import Metrics
from asr_service.request import Samples, Work
from asr_service.scheduler.steps import StepLimits
from tests.unit.engine.works import until

AT_ONCE = StartPolicy(max_failures=3, first_backoff_s=0.001, max_backoff_s=0.002, stop_limit_s=2.0)
LIMITS = StepLimits(max_sequences=4, queue_capacity=8, step_tokens=64, bulk_step_tokens=16, encode_windows=2)


def fake_step_engine(controls: ModelControls, metrics: Metrics | None = None, **settings: Any) -> StepEngine:
    defaults: dict[str, Any] = {"limits": LIMITS, "idle_timeout_s": 0.0, "policy": AT_ONCE}
    return StepEngine(FAKE_INFO, FakeModel(controls), metrics=metrics or Metrics(), **(defaults | settings))


@asynccontextmanager
async def running(controls: ModelControls, metrics: Metrics | None = None, **settings: Any) -> AsyncIterator[StepEngine]:
    async with asyncio.timeout(20):
        engine = fake_step_engine(controls, metrics, **settings)
        await engine.start()
        try:
            yield engine
        finally:
            controls.release()
            await engine.stop()


async def step_until(controls: ModelControls, is_so: Callable[[], bool]) -> None:
    """Holds the model and lets it take steps one by one until something is so; then it is held inside a step."""
    await until(lambda: controls.n_held == 1)
    while not is_so():
        controls.let_through()
        n_runs = len(controls.plans)
        await until(lambda: len(controls.plans) > n_runs and controls.n_held == 1)  # noqa: B023  # used within this turn
    await until(lambda: controls.n_held == 1)


def seconds(n: float) -> Samples:
    return np.zeros(int(n * 16_000), np.float32)


def text_of(work: Work) -> str:
    """What the fake hears in it."""
    return " ".join(word.text for word in fake_words(work.speech))


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0
