"""A network with random weights that behaves as one that was trained: replies as long as speech is, drafts that mostly hold.

Random weights never stop by themselves, and change all their text when a second of audio is added. So the length of a reply
follows from the length of its audio, and of a draft that the model was asked about all but the last tokens are confirmed. The
network computes all the same what it would for those tokens; only the choice is made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asr_service.engine.step_model import Prepared, Token
from asr_service.model.config import ModelConfig
from asr_service.model.prepared import BudgetedReply, MakeReply
from asr_service.model.runner import ModelRunner
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import Work
from asr_service.scheduler.plan import StepPlan
from measuring.fixed_replies import FixedReply

TOKENS_PER_S = 4
UNSTABLE_TOKENS = 3


@dataclass(frozen=True)
class PacedReplies:
    """Replies of so many tokens for each second of audio, one at least."""

    tokens_per_s: float = TOKENS_PER_S

    def bind(self, _tokenizer: Tokenizer, _config: ModelConfig) -> MakeReply:
        return self._make

    def _make(self, work: Work) -> BudgetedReply:
        length = self.n_tokens(work.speech.duration_ms / 1000)
        return BudgetedReply(FixedReply(length), length)

    def n_tokens(self, seconds: float) -> int:
        return max(1, round(seconds * self.tokens_per_s))


def confirmed(
    plan: StepPlan, tokens: Mapping[int, Token], said: Mapping[int, Prepared], n_unstable: int = UNSTABLE_TOKENS
) -> dict[int, Token]:
    """The tokens of a step, as if of each draft that was fed all but the last `n_unstable` had been confirmed. `said`: what is
    open, by sequence."""
    made = dict(tokens)
    for item in plan.feed:
        if item.yields and item.n_draft:
            prepared = said[item.uid]
            n_said = len(prepared.reply.ids)
            held = prepared.draft.ids[n_said : n_said + max(0, item.n_draft - n_unstable)]
            made[item.uid] = replace(made[item.uid], confirmed=tuple(Token(id_, -0.1) for id_ in held))
    return made


class ScriptedModel(ModelRunner):
    """Of each draft all but the last `n_unstable` tokens hold. `n_steps` were run so far, `n_open` sequences are inside."""

    def __init__(self, folder: Path, replies: PacedReplies, *, kv_bytes: int, n_unstable: int = UNSTABLE_TOKENS) -> None:
        super().__init__(folder, device="cpu", dtype="float32", kv_bytes=kv_bytes, bind_replies=replies.bind, threads=1)
        self.n_steps = 0
        self._n_unstable = n_unstable
        self._said: dict[int, Prepared] = {}  # of sequences that are open

    @property
    def n_open(self) -> int:
        return len(self._said)

    def open(self, uid: int, prepared: Prepared) -> None:
        self._said[uid] = prepared
        super().open(uid, prepared)

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        tokens = confirmed(plan, super().run(plan), self._said, self._n_unstable)
        self.n_steps += 1
        return tokens

    def close(self, uid: int) -> None:
        self._said.pop(uid, None)
        super().close(uid)
