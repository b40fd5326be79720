"""What a reply is expected to say, before the model has been asked.

Speech that is still growing is recognised again and again, and mostly the text so far is still the text. So the reply of the
round before is a draft of the next one: the model reads it in one pass behind the prompt and says at each of its tokens what it
would have said. Tokens are kept as they came, never made anew from text.

A draft never changes what is said: the first token that the model would not have said ends it. Only tokens that are pinned are
taken over without asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from asr_service.decoding.reply import Reply

OPEN_IN_GUESSES = 16
"""Tokens at the end of a draft that a guess asks about; those before are pinned. Each one asked about costs a pass over the
whole vocabulary, and text changes at its end."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A whole reply from its first token on, its stop token left out. `logprobs`: natural log, one for each id."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    @classmethod
    def of(cls, reply: Reply) -> Draft:
        return cls(tuple(reply.ids), tuple(islice(reply.logprobs, len(reply.ids))))

    def within(self, max_new_tokens: int) -> Draft:
        """As much of it as a reply with this budget can take and still get a token from the model."""
        n_tokens = max(0, max_new_tokens - 1)
        return self if len(self.ids) <= n_tokens else Draft(self.ids[:n_tokens], self.logprobs[:n_tokens])

    def pin(self, reply: Reply, n_open: int = OPEN_IN_GUESSES) -> None:
        """Puts all but the last `n_open` tokens into an empty reply, unasked. Raises ValueError when that would end it, which
        cannot be where the draft comes from the beginning of the same audio."""
        for token, logprob in zip(self.ids[:-n_open], self.logprobs, strict=False):
            if reply.accept(token, logprob) is not None:
                raise ValueError(f"a draft of {len(self.ids)} tokens ends a reply that is not over")


NO_DRAFT = Draft()
