"""A sequence that the model knows, and what each step makes of its reply."""

from __future__ import annotations

from dataclasses import dataclass

from asr_service.decoding.reply import FinishReason
from asr_service.engine.step_model import Prepared, Token
from asr_service.scheduler.plan import FeedItem, Gain, Sequence


@dataclass(slots=True)
class Member:
    """`text`: what was published of it."""

    sequence: Sequence
    prepared: Prepared
    wants_partials: bool
    text: str = ""

    def accept(self, token: Token) -> FinishReason | None:
        """The reply takes the tokens of its draft that are confirmed, and the one behind them, as far as it is not over."""
        n_generated = self.sequence.n_generated
        for said in (*token.confirmed, token):
            n_generated += 1
            if (finish := self.prepared.reply.accept(said.id, said.logprob)) is not None:
                return finish
            if n_generated >= self.sequence.max_new_tokens:
                return FinishReason.LENGTH  # it has no place for another one, whatever its reply says
        return None

    def gain(self, item: FeedItem, token: Token) -> Gain:
        """What the step has brought to this sequence, as it was before. Where only a part of the draft was fed, the rest is
        still expected as long as the draft is right."""
        n_confirmed = len(token.confirmed)
        n_left = self.sequence.n_draft - n_confirmed
        if n_confirmed == item.n_draft and n_left and token.id == self.prepared.draft.ids[-n_left]:
            return Gain(n_confirmed + 1, n_draft=n_left - 1, n_drafted=n_confirmed + 1)
        return Gain(n_confirmed + 1, n_draft=0, n_drafted=n_confirmed, n_rejected=n_left)
