"""Our engine without a server: the step model under its scheduler, driven by one loop, with every step timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from asr_service.model.config import ModelConfig
from asr_service.model.graphs import GraphBackend, GraphState, RunAgain
from asr_service.model.model_graphs import GraphPlan
from asr_service.model.prepared import PreparedSpeech
from asr_service.model.runner import ModelRunner
from asr_service.request import Priority, RecognitionOptions, Speech, Work
from asr_service.scheduler import plan as steps
from asr_service.scheduler.plan import Extent, StepPlan
from asr_service.scheduler.steps import StepLimits, StepScheduler
from measuring.fixed_replies import FixedReplies, FixedReply
from measuring.gpu_clock import Clock
from measuring.gpu_models import noise, random_parts


@dataclass(frozen=True)
class Served:
    """What serving some clips took: in all, and each step of decode rows alone, in seconds."""

    seconds: float
    decode_s: list[float]
    replies: list[FixedReply]


@dataclass
class Captures:
    """When graphs were captured, and the device memory that was reserved then."""

    is_gpu: bool
    times_s: list[float] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def report(self, kind: str, state: GraphState, n: int) -> None:
        """A ReportGraphs."""
        self.counts[kind, state.value] = n
        self.times_s.append(time.perf_counter())
        self.reserved.append(torch.cuda.memory_reserved() if self.is_gpu else 0)

    def n_in(self, state: GraphState) -> int:
        return sum(n for (_, name), n in self.counts.items() if name == state.value)


class Rig:
    """A loaded model. `with_graphs` False: each step as it is without them."""

    def __init__(
        self,
        config: ModelConfig,
        clock: Clock,
        *,
        dtype: str,
        kv_bytes: int,
        max_sequences: int,
        max_windows: int,
        with_graphs: bool = True,
        made_on: torch.device | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.captures = Captures(clock.is_gpu)
        self.max_sequences = max_sequences
        self.max_windows = max_windows
        backend: GraphBackend | None = None if clock.is_gpu else RunAgain()
        plan = GraphPlan(max_sequences, max_windows, self.captures.report, backend)
        self._lengths: dict[int, int] = {}
        self.runner = ModelRunner(
            Path("random weights"),
            device=str(clock.device),
            dtype=dtype,
            kv_bytes=kv_bytes,
            bind_replies=FixedReplies(self._lengths).bind,
            graphs=plan if with_graphs else None,
            open_parts=random_parts(config, made_on),
        )
        begin_s = time.perf_counter()
        self.kv_tokens = self.runner.load().kv_tokens
        self.load_s = time.perf_counter() - begin_s

    def capture_all(self) -> float:
        """The graphs that come when a model is idle; seconds."""
        begin_s = time.perf_counter()
        while self.runner.idle():
            pass
        self.clock.wait()
        return time.perf_counter() - begin_s

    def expect(self, uid: int, tokens: int) -> None:
        """The reply to the work of this number will have so many tokens."""
        self._lengths[uid] = tokens

    def prepare(self, seconds: float, tokens: int, seed: int = 0) -> PreparedSpeech:
        """A clip with its features, whose reply will have so many tokens."""
        self._lengths[seed] = tokens
        work = Work(seed, Speech(noise(seconds, seed), 0), RecognitionOptions(), Priority.INTERACTIVE, 0.0)
        prepared = self.runner.prepare(work)
        assert isinstance(prepared, PreparedSpeech)
        return prepared

    def serve(self, clips: Sequence[PreparedSpeech], at_once: int) -> Served:
        """All of them, at most so many in a step."""
        limits = StepLimits(at_once, len(clips), step_tokens=2048, bulk_step_tokens=2048, encode_windows=self.max_windows)
        scheduler = StepScheduler(limits, self.kv_tokens)
        replies = [FixedReply(clip.max_new_tokens) for clip in clips]
        for uid, clip in enumerate(clips):
            self.runner.open(uid, replace(clip, reply=replies[uid]))
            sequence = steps.Sequence(uid, Priority.INTERACTIVE, 0.0, None, clip.n_windows, clip.n_prompt, clip.max_new_tokens)
            scheduler.submit(sequence)
        self.clock.wait()
        begin_s = time.perf_counter()
        decode_s = []
        while len(scheduler):
            plan = scheduler.plan()
            step_s = time.perf_counter()
            tokens = self.runner.run(plan)
            if not plan.encode and all(item.count == 1 and item.yields for item in plan.feed):
                decode_s.append(time.perf_counter() - step_s)
            over = [uid for uid, token in tokens.items() if replies[uid].accept(token.id, token.logprob) is not None]
            scheduler.complete(plan, over)
            for uid in over:
                self.runner.close(uid)
        self.clock.wait()
        return Served(time.perf_counter() - begin_s, decode_s, replies)

    def tokens(self, clips: Sequence[PreparedSpeech], at_once: int) -> list[list[int]]:
        """What they say."""
        return [reply.ids for reply in self.serve(clips, at_once).replies]

    def first_token(self, clip: PreparedSpeech) -> None:
        """Encodes all of a clip and reads all of its prompt."""
        self.runner.open(0, replace(clip, reply=FixedReply(clip.max_new_tokens)))
        self.runner.run(StepPlan(encode=(steps.EncodeItem(0, 0, clip.n_windows),)))
        extent = Extent(0, clip.n_prompt + clip.max_new_tokens)
        self.runner.run(StepPlan(feed=(steps.FeedItem(0, 0, clip.n_prompt, True, extent),)))
        self.runner.close(0)

    def unload(self) -> None:
        self.runner.unload()
