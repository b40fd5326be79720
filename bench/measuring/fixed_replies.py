"""Replies of a length that is set beforehand, for weights that would never stop by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asr_service.decoding.reply import FinishReason
from asr_service.languages import Language
from asr_service.model.config import ModelConfig
from asr_service.model.prepared import BudgetedReply, MakeReply
from asr_service.model.tokenizer import Tokenizer
from asr_service.request import Work


@dataclass
class FixedReply:
    """Takes whatever comes until it is full."""

    length: int
    ids: list[int] = field(default_factory=list)
    language: Language | None = None
    mean_logprob: float | None = None

    @property
    def logprobs(self) -> list[float]:
        return [-0.1] * len(self.ids)

    @property
    def text(self) -> str:
        return f"{len(self.ids)} tokens"  # one that changes, so that partial texts are told

    def accept(self, token: int, _logprob: float) -> FinishReason | None:
        self.ids.append(token)
        return FinishReason.STOP if len(self.ids) == self.length else None

    def text_of(self, n_tokens: int) -> str:
        return f"{n_tokens} tokens"

    def allowed(self, _ahead: Sequence[int] = ()) -> tuple[int, ...] | None:
        return None


@dataclass(frozen=True)
class FixedReplies:
    """`lengths` by the work's uid; filled by whoever makes the works."""

    lengths: Mapping[int, int]

    def bind(self, _tokenizer: Tokenizer, _config: ModelConfig) -> MakeReply:
        return self._make

    def _make(self, work: Work) -> BudgetedReply:
        length = self.lengths[work.uid]
        return BudgetedReply(FixedReply(length), length)
