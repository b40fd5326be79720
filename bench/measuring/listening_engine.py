"""Our engine as the service builds it, over a scripted model, and one stretch of speech driven through it as live speech is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from asr_service.engine.protocol import EngineInfo
from asr_service.engine.step_engine import StepEngine
from asr_service.engines.qwen3 import step_limits
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.languages import LANGUAGES
from asr_service.metrics import Metrics
from asr_service.model.allocator import keep_freed_memory
from asr_service.model.runner import WorkCounters
from asr_service.request import Priority, RecognitionOptions, Samples, Speech, Work, WorkIds
from measuring.scripted_model import PacedReplies, ScriptedModel

KV_BYTES = 600 << 20


@dataclass(frozen=True)
class ListeningEngine:
    """An engine and its model. `uids` for whoever makes works for it."""

    engine: StepEngine
    model: ScriptedModel
    metrics: Metrics
    uids: WorkIds

    @property
    def counters(self) -> WorkCounters:
        return self.model.counters

    def work(self, samples: Samples, *, is_final: bool = False) -> Work:
        priority = Priority.REALTIME if is_final else Priority.GUESS
        return self.speech_work(Speech(samples, 0), priority)

    def speech_work(self, speech: Speech, priority: Priority) -> Work:
        return Work(self.uids.take(), speech, RecognitionOptions(), priority, time.monotonic())


def make_listening(folder: Path, replies: PacedReplies | None = None) -> ListeningEngine:
    """Not started yet. On one thread, float32."""
    keep_freed_memory()
    metrics = Metrics()
    model = ScriptedModel(folder, replies or PacedReplies(), kv_bytes=KV_BYTES)
    info = EngineInfo("qwen3", str(folder), "cpu", LANGUAGES, frozenset(), "Qwen", "for measuring")
    limits = step_limits(Qwen3Settings(), torch.device("cpu"), queue_capacity=256)
    engine = StepEngine(info, model, limits=limits, idle_timeout_s=0, metrics=metrics)
    return ListeningEngine(engine, model, metrics, WorkIds())


@asynccontextmanager
async def listening_engine(folder: Path, replies: PacedReplies | None = None) -> AsyncIterator[ListeningEngine]:
    """Started."""
    made = make_listening(folder, replies)
    await made.engine.start()
    try:
        yield made
    finally:
        await made.engine.stop()
