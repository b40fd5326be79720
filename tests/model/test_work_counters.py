"""What a fixed workload costs in work, exactly: a regression here is one on every machine, however fast it is.

Everything is inside before the first step, so the scheduler's steps are always the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence as ListLike

import pytest
import torch

from asr_service.engine.step_model import Token
from asr_service.engines.qwen3 import step_limits
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.model.decoder import Decoder
from asr_service.model.runner import WorkCounters
from asr_service.model.sampling import Rule
from asr_service.request import Priority
from asr_service.scheduler.plan import Sequence
from asr_service.scheduler.steps import StepScheduler
from tests.model.conftest import N_TOKENS, Pair
from tests.model.driving import make_work
from tests.model.sounds import lively
from tests.model.test_runner import minus

LENGTHS_S = (2, 4, 6, 9, 13, 18, 24, 30)


def serve(pair: Pair) -> WorkCounters:
    """All of LENGTHS_S at once, as the service would on a CPU; what it has cost."""
    before = pair.model.counters
    limits = step_limits(Qwen3Settings(), torch.device("cpu"), queue_capacity=8)
    scheduler = StepScheduler(limits, 8192)
    replies = {}
    for uid, seconds in enumerate(LENGTHS_S):
        prepared = pair.model.prepare(make_work(lively(seconds * 16_000, seed=uid), uid))
        pair.model.open(uid, prepared)
        replies[uid] = prepared.reply
        scheduler.submit(
            Sequence(uid, Priority.INTERACTIVE, 0.0, None, prepared.n_windows, prepared.n_prompt, prepared.max_new_tokens)
        )
    while not (plan := scheduler.plan()).is_empty:
        tokens = pair.model.run(plan)
        over = [uid for uid, token in tokens.items() if replies[uid].accept(token.id, token.logprob) is not None]
        scheduler.complete(plan, over)
    for uid in replies:
        pair.model.close(uid)
    return minus(pair.model.counters, before)


def test_a_mixed_batch_costs_each_window_prompt_and_token_once(mid: Pair) -> None:
    n = len(LENGTHS_S)

    cost = serve(mid)

    assert cost == WorkCounters(
        steps=cost.steps,
        encoder_windows=sum(-(-seconds // 8) for seconds in LENGTHS_S),
        conv_chunks=sum(LENGTHS_S),
        prefill_tokens=13 * sum(LENGTHS_S) + n * n_text(mid),
        decode_rows=n * (N_TOKENS - 1),
        heads=n * N_TOKENS,
    )
    assert cost.steps == 34


def n_text(pair: Pair) -> int:
    prepared = pair.model.prepare(make_work(lively(16_000)))
    return prepared.n_prompt - prepared.n_audio_tokens


def test_only_rows_whose_successor_is_wanted_reach_the_head(mid: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    choose_all = Decoder.choose

    def choose(decoder: Decoder, x: torch.Tensor, rules: ListLike[Rule]) -> list[Token]:
        rows.append(len(x))
        return choose_all(decoder, x, rules)

    monkeypatch.setattr(Decoder, "choose", choose)

    cost = serve(mid)

    assert sum(rows) == cost.heads
