"""Live streams at one engine, paced as speech: how long a chunk's text takes, how many streams it bears, uploads beside them.

Each stream brings a chunk every so often, at times of its own, to the engine as the service does it: queue, steps, drafts and
all. Utterances begin with the run. Random weights change their whole text with every chunk, so of drafts all but the last few
tokens are taken as confirmed, see scripted_model.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from asr_service.engine.protocol import EngineInfo
from asr_service.engine.step_engine import StepEngine
from asr_service.engine.step_model import Capacity, Prepared, Token
from asr_service.errors import AsrError
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Priority, RecognitionOptions, Samples, Speech, Work
from asr_service.scheduler.plan import StepPlan
from asr_service.scheduler.steps import StepLimits
from measuring.gpu_models import noise
from measuring.gpu_parts import Subject
from measuring.gpu_rig import Rig
from measuring.report import Row
from measuring.scripted_model import confirmed

_LIMIT_MS = 500.0
_PREPARERS = 4
_QUEUE = 1 << 14


class LoadedModel:
    """The rig's model as a StepModel that is loaded already and stays so, whose drafts mostly hold."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._said: dict[int, Prepared] = {}

    def load(self) -> Capacity:
        return Capacity(self._rig.kv_tokens)

    def unload(self) -> None:
        """The rig does."""

    def open(self, uid: int, prepared: Prepared) -> None:
        self._said[uid] = prepared
        self._rig.runner.open(uid, prepared)

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        return confirmed(plan, self._rig.runner.run(plan), self._said)

    def close(self, uid: int) -> None:
        self._said.pop(uid, None)
        self._rig.runner.close(uid)

    def __getattr__(self, name: str) -> Any:
        """All else is the model's own."""
        return getattr(self._rig.runner, name)


@dataclass
class LiveRun:
    """Milliseconds from a chunk's due time to its text. `n_missed`: chunks of streams that were behind by more than a cadence,
    or were refused."""

    waits_ms: list[float] = field(default_factory=list)
    n_missed: int = 0

    def ms(self, percent: float) -> float:
        """NaN where no chunk was answered."""
        ordered = sorted(self.waits_ms)
        return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))] if ordered else float("nan")


class _Streams:
    """Everything that one run shares."""

    def __init__(self, subject: Subject, engine: StepEngine, run: LiveRun) -> None:
        self._subject = subject
        self._engine = engine
        self._run = run
        self._uid = 0
        scale = subject.scale
        self._audio = noise(scale.stream_s + scale.chunk_s, 5)

    def work(self, samples: Samples, priority: Priority) -> Work:
        self._uid += 1
        self._subject.rig.expect(self._uid, max(1, round(len(samples) / SAMPLE_RATE * self._subject.scale.tokens_per_s)))
        return Work(self._uid, Speech(samples, 0), RecognitionOptions(), priority, time.monotonic())

    async def stream(self, begin_s: float) -> None:
        """Until its audio is over."""
        scale, listening = self._subject.scale, self._engine.listen()
        n_chunks = int(scale.stream_s / scale.chunk_s)
        for n in range(1, n_chunks + 1):
            due_s = begin_s + n * scale.chunk_s
            late_s = time.monotonic() - due_s
            if late_s > scale.chunk_s:
                self._run.n_missed += 1  # a newer wish takes its place
                continue
            await asyncio.sleep(max(0.0, -late_s))
            samples = self._audio[: round(n * scale.chunk_s * SAMPLE_RATE)]
            try:
                await listening.guess(self.work(samples, Priority.GUESS))
            except AsrError:
                self._run.n_missed += 1
            else:
                self._run.waits_ms.append(1000 * (time.monotonic() - due_s))
        listening.close()

    async def upload(self) -> None:
        """One segment after the other, until it is cancelled."""
        segment = noise(self._subject.scale.clip_s, 6)
        while True:
            await self._engine.recognize(self.work(segment, Priority.BATCH))


async def _run(subject: Subject, n_streams: int, n_uploads: int) -> LiveRun:
    rig, run = subject.rig, LiveRun()
    info = EngineInfo("qwen3", subject.name, "for measuring", (), frozenset(), "")
    limits = StepLimits(rig.max_sequences, _QUEUE, live_riders=rig.max_sequences, encode_windows=rig.max_windows)
    model: Any = LoadedModel(rig)
    engine = StepEngine(info, model, limits=limits, idle_timeout_s=0, metrics=Metrics(), prepare_workers=_PREPARERS)
    await engine.start()
    streams = _Streams(subject, engine, run)
    uploads = [asyncio.create_task(streams.upload()) for _ in range(n_uploads)]
    begin_s = time.monotonic()
    cadence_s = subject.scale.chunk_s
    await asyncio.gather(*(streams.stream(begin_s + cadence_s * index / n_streams) for index in range(n_streams)))
    for upload in uploads:
        upload.cancel()
    await asyncio.gather(*uploads, return_exceptions=True)
    await engine.stop()
    return run


def live_streams(subject: Subject) -> Iterator[Row]:
    """H8, H9."""
    scale, most = subject.scale, 0
    what = f"a chunk of {scale.chunk_s:g} s until its text"
    asyncio.run(_run(subject, 1, 0))  # warm
    for n_streams in scale.streams:
        run = asyncio.run(_run(subject, n_streams, 0))
        facts = {"chunks": len(run.waits_ms), "missed": run.n_missed}
        for percent, limits in ((50, subject.targets.live_p50_ms), (95, subject.targets.live_p95_ms)):
            yield subject.row(
                "H8", f"{what}, {n_streams} streams, p{percent}", run.ms(percent), "ms", limits.get(n_streams), **facts
            )
        if run.n_missed == 0 and run.ms(95) < _LIMIT_MS:
            most = max(most, n_streams)
    tried = {"tried": list(scale.streams)}
    yield subject.row("H9", f"most streams with p95 below {_LIMIT_MS:g} ms, of those tried", most, "streams", None, **tried)


def live_beside_uploads(subject: Subject) -> Iterator[Row]:
    """H11: in turns, three of each."""
    scale = subject.scale
    p99: dict[int, list[float]] = {0: [], scale.live_uploads: []}
    for _ in range(min(3, scale.waits)):
        for n_uploads in p99:
            p99[n_uploads].append(asyncio.run(_run(subject, scale.live_streams, n_uploads)).ms(99))
    quiet, both = p99[0], p99[scale.live_uploads]
    ratio = statistics.median(both) / statistics.median(quiet)
    what = f"p99 of {scale.live_streams} streams"
    facts = {"without ms": quiet, "with ms": both}
    yield subject.row("H11", f"{what} beside {scale.live_uploads} uploads by alone", ratio, "of it", 1.25, **facts)
    added = statistics.median(both) - statistics.median(quiet)
    yield subject.row("H11", f"{what}: added by {scale.live_uploads} uploads", added, "ms", 10.0, **facts)
