"""One Work as the model reads it, and what the model keeps of it while it is being served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice

import torch

from asr_service.decoding.draft import NO_DRAFT, Draft
from asr_service.decoding.reply import Reply
from asr_service.engine.step_model import Kept
from asr_service.model.features import Window
from asr_service.model.prompt import Prompt
from asr_service.request import Work


@dataclass(frozen=True, slots=True)
class BudgetedReply:
    """An empty reply and the most tokens that may go into it."""

    reply: Reply
    max_new_tokens: int


MakeReply = Callable[[Work], BudgetedReply]
"""Called on any thread, once for every attempt at a Work."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSpeech:
    """Features, prompt and reply. The audio tokens stand between `prompt.before` and `prompt.after`; what the draft has more
    than the reply, behind the reply."""

    windows: tuple[Window, ...]
    n_audio_tokens: int
    prompt: Prompt
    reply: Reply
    max_new_tokens: int
    temperature: float
    draft: Draft = NO_DRAFT
    window_tokens: int | None = None  # of a whole window; None: as the checkpoint has it
    kept: Kept | None = None

    @property
    def n_windows(self) -> int:
        return len(self.windows)

    @property
    def n_prompt(self) -> int:
        return len(self.prompt.before) + self.n_audio_tokens + len(self.prompt.after)

    @property
    def n_known(self) -> int:
        return self.n_prompt + len(self.reply.ids)


Embeddings = dict[int, torch.Tensor]
"""Of a stream's closed windows, each (tokens, hidden), by version."""


class LiveSequence:
    """A sequence that is open: its known tokens, and its audio embeddings once its windows are encoded.

    The embeddings stay until it is closed, so that it can be fed again without encoding again. Those of closed windows are
    taken from `shared`, and put there, so that other rounds of its stream need not encode them; what else is there is of the
    past.
    """

    def __init__(
        self, prepared: PreparedSpeech, window_tokens: int, audio_token_id: int, shared: Embeddings | None = None
    ) -> None:
        self.prepared = prepared
        self._window_tokens = window_tokens
        self._audio_token_id = audio_token_id
        self._shared = {} if shared is None else shared
        self._versions = [station.version for station in prepared.kept.stations] if prepared.kept is not None else []
        for version in self._shared.keys() - set(self._versions):
            del self._shared[version]
        self._encoded = [self._shared.get(version) for version in self._versions]  # each (tokens, hidden)
        self._encoded += [None] * (prepared.n_windows - len(self._encoded))

    @property
    def n_encoded(self) -> int:
        """So many of the first windows are encoded."""
        return next((n for n, embeddings in enumerate(self._encoded) if embeddings is None), len(self._encoded))

    def is_encoded(self, window: int) -> bool:
        return self._encoded[window] is not None

    def keep(self, window: int, embeddings: torch.Tensor) -> None:
        kept = self._encoded[window] = embeddings.clone()  # not a view that holds the batch it came in
        if window < len(self._versions):
            self._shared[self._versions[window]] = kept

    def ids(self, start: int, count: int) -> list[int]:
        """Tokens start .. start + count - 1, drafted ones behind the known ones; audio tokens have the placeholder's id."""
        prompt, said = self.prepared.prompt, self.prepared.reply.ids
        drafted = self.prepared.draft.ids
        offset = start - self.prepared.n_prompt
        if 0 <= offset <= len(said) - count:
            return said[offset : offset + count]
        audio = (self._audio_token_id for _ in range(self.prepared.n_audio_tokens))
        everything = chain(prompt.before, audio, prompt.after, said, islice(drafted, len(said), None))
        return list(islice(everything, start, start + count))

    def fill_audio(self, rows: torch.Tensor, start: int) -> None:
        """Puts the embeddings of audio tokens where `rows` (count, hidden), the tokens from `start` on, have placeholders.

        Raises ValueError when a window that is needed has not been encoded.
        """
        begin = len(self.prepared.prompt.before)
        for window, embeddings in enumerate(self._encoded):
            first = begin + window * self._window_tokens - start  # in rows
            length = self._n_tokens(window)
            low, high = max(first, 0), min(first + length, len(rows))
            if low >= high:
                continue
            if embeddings is None:
                raise ValueError(f"window {window} is fed before it is encoded")
            rows[low:high] = embeddings[low - first : high - first]

    def _n_tokens(self, window: int) -> int:
        return min(self._window_tokens, self.prepared.n_audio_tokens - window * self._window_tokens)
