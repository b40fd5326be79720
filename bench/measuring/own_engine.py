"""Our engine over a checkpoint as the service builds it, its replies made as long as is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from asr_service.engine.protocol import EngineInfo
from asr_service.engine.step_engine import StepEngine
from asr_service.engines.qwen3 import step_limits
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.languages import LANGUAGES
from asr_service.metrics import Metrics
from asr_service.model.allocator import keep_freed_memory
from asr_service.model.runner import ModelRunner, WorkCounters
from asr_service.request import Priority, RecognitionOptions, Samples, Speech, Work
from measuring.fixed_replies import FixedReplies

KV_BYTES = 600 << 20


@dataclass(frozen=True)
class OwnEngine:
    """A running engine. `start_s`: from nothing to warm."""

    engine: StepEngine
    runner: ModelRunner
    start_s: float
    _lengths: dict[int, int]

    async def recognize(
        self,
        samples: Samples,
        n_tokens: int,
        priority: Priority = Priority.INTERACTIVE,
        on_partial: Callable[[str], None] | None = None,
    ) -> list[int]:
        """The tokens of one clip."""
        uid = len(self._lengths)
        self._lengths[uid] = n_tokens
        work = Work(uid, Speech(samples, 0), RecognitionOptions(), priority, time.monotonic(), on_partial=on_partial)
        return list((await self.engine.attempt(work)).reply.ids)

    async def all_at_once(self, clips: Sequence[Samples], n_tokens: Sequence[int]) -> tuple[float, list[list[int]]]:
        """Seconds until the last is done, and the tokens of each."""
        started_s = perf_counter()
        ids = await asyncio.gather(*(self.recognize(clip, n) for clip, n in zip(clips, n_tokens, strict=True)))
        return perf_counter() - started_s, ids

    @property
    def counters(self) -> WorkCounters:
        return self.runner.counters


@asynccontextmanager
async def own_engine(folder: Path, *, quantize: str = "", dtype: str = "float32", threads: int = 1) -> AsyncIterator[OwnEngine]:
    keep_freed_memory()
    lengths: dict[int, int] = {}
    started_s = perf_counter()
    runner = ModelRunner(
        folder,
        device="cpu",
        dtype=dtype,
        kv_bytes=KV_BYTES,
        bind_replies=FixedReplies(lengths).bind,
        threads=threads,
        quantize=quantize,
    )
    info = EngineInfo("qwen3", str(folder), "cpu", LANGUAGES, frozenset(), "Qwen", "for measuring")
    limits = step_limits(Qwen3Settings(), torch.device("cpu"), queue_capacity=64)
    engine = StepEngine(info, runner, limits=limits, idle_timeout_s=0, metrics=Metrics())
    await engine.start()
    try:
        yield OwnEngine(engine, runner, perf_counter() - started_s, lengths)
    finally:
        await engine.stop()
