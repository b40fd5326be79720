"""What a step costs beside the model: the engine's loop over a model that costs nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

from asr_service.engine.inbox import Arrival
from asr_service.engine.loop import EngineLoop
from asr_service.engine.slot import StartPolicy
from asr_service.engine.step_model import Capacity, Prepared, Token
from asr_service.metrics import Metrics
from asr_service.request import Priority
from asr_service.scheduler.plan import Sequence, StepPlan
from asr_service.scheduler.steps import StepLimits
from measuring.fixed_replies import FixedReply
from measuring.report import Row, row

N_ROWS = 64
N_STEPS = 1500
N_PROMPT = 64


@dataclass
class NullModel:
    """Implements StepModel. The same token for everybody, made beforehand."""

    tokens: dict[int, Token] = field(default_factory=dict)

    def load(self) -> Capacity:
        return Capacity(N_ROWS * (N_PROMPT + 2 * N_STEPS + 64))

    def prepare(self, _work: object) -> Prepared:
        raise NotImplementedError

    def open(self, uid: int, _prepared: Prepared) -> None:
        self.tokens[uid] = Token(7, -0.5)

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        return self.tokens if plan.feed else {}

    def idle(self) -> bool:
        return False

    def close(self, uid: int) -> None:
        self.tokens.pop(uid)

    def unload(self) -> None:
        self.tokens.clear()


@dataclass(frozen=True)
class NullPrepared:
    reply: FixedReply
    n_windows: int = 1
    n_prompt: int = N_PROMPT
    n_audio_tokens: int = 26
    max_new_tokens: int = 2 * N_STEPS


def measure_scheduler(n_rounds: int) -> list[Row]:
    """C10: microseconds per step while 64 sequences decode."""
    taken_us = [_round() for _ in range(max(n_rounds, 5))]
    met = sorted(taken_us)[len(taken_us) // 2] < 100
    facts = {
        "rows": N_ROWS,
        "steps per round": N_STEPS,
        "what counts": "plan, accept, complete, publish; the model returns at once",
    }
    return [row("C10", "a step of 64 rows beside the model", taken_us, "us", target="< 100", met=met, **facts)]


def _round() -> float:
    limits = StepLimits(max_sequences=N_ROWS, queue_capacity=8, step_tokens=1 << 20)
    loop = EngineLoop(NullModel(), limits, lambda _news: None, metrics=Metrics(), policy=StartPolicy())
    loop._load()  # noqa: SLF001 - without its thread
    now_s = time.monotonic()
    for uid in range(N_ROWS):
        prepared = NullPrepared(FixedReply(2 * N_STEPS))
        sequence = Sequence(uid, Priority.INTERACTIVE, now_s, None, 1, N_PROMPT, 2 * N_STEPS)
        loop.inbox.put(Arrival(sequence, prepared, wants_partials=False, is_extra=False))
    while not all(member.sequence.n_generated for member in loop._members.values()) or not loop._members:  # noqa: SLF001
        loop.step()  # encode and read the prompts
    started_s = perf_counter()
    for _ in range(N_STEPS):
        loop.step()
    return (perf_counter() - started_s) / N_STEPS * 1e6
