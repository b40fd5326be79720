"""Makes the empty reply of each request, for one tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from asr_service.decoding.budget import token_budget
from asr_service.decoding.header import HeaderTrie
from asr_service.decoding.transcript import Decode, TokenReply
from asr_service.request import Work


@dataclass(frozen=True, slots=True)
class ReplyMaker:
    """`encode` gives a text's ids without special tokens; `max_new_tokens` is the user's limit, 0 for none. The rest as for
    TokenReply. May be called from any thread."""

    encode: Callable[[str], list[int]]
    decode: Decode
    stop_ids: Collection[int]
    text_tag_id: int | None
    max_new_tokens: int = 0

    def __call__(self, work: Work) -> TokenReply:
        duration_s = work.speech.duration_ms / 1000
        return TokenReply(
            self.decode,
            stop_ids=self.stop_ids,
            text_tag_id=self.text_tag_id,
            max_tokens=token_budget(duration_s, self.max_new_tokens),
            duration_s=duration_s,
            forced=work.options.language,
            header=self._headers(work),
        )

    def _headers(self, work: Work) -> HeaderTrie | None:
        """Those of the candidate languages, and that of no speech."""
        candidates = work.options.candidate_languages
        if not candidates or work.options.language is not None or self.text_tag_id is None:
            return None
        names = [*(candidate.name for candidate in candidates), "None"]
        return HeaderTrie.of([*self.encode(f"language {name}"), self.text_tag_id] for name in names)
