"""The seam between the engine's loop and a model that works in steps. No torch here.

`prepare` may be called from any thread, several at once, as soon as `load` has returned for the first time, also while the
model is unloaded or being loaded again: what it needs (tokenizer, prompt, feature extractor) survives `unload`. Everything else
is called from the engine's one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from asr_service.decoding.draft import Draft
from asr_service.decoding.reply import Reply
from asr_service.request import Work
from asr_service.scheduler.plan import Station, StepPlan


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a loaded model has room for. `kv_tokens`: places in its KV cache, for all sequences together."""

    kv_tokens: int


class Memory:
    """What a model keeps of a stretch that is still growing, besides its cache. What that is, is the model's own."""

    def __init__(self) -> None:
        self._strange: Draft | None = None  # the last draft that met a stretch which did not go on

    def may_pin(self, turn: Round, *, goes_on: bool) -> bool:
        """Whether the round's draft is what was said at the beginning of its stretch, and may be taken over unasked. To be
        asked in each round. `goes_on`: the stretch begins with that of the round before."""
        if not goes_on:
            self._strange = turn.draft
        return not turn.is_exact and turn.draft is not self._strange


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One recognition in a row of them, of a stretch that is still growing.

    `stream`: the same number in all of them, and in no others. `draft`: the reply of the round before. `is_exact`: the reply
    must be what a Work alone would have got; else what is nearly the same and cheaper will do.
    """

    stream: int
    memory: Memory
    draft: Draft
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a round is not only its own. `stations`: where its prompt may be what it was in another round of its stream.
    `n_renewed` windows were closed before and are another now, since it has become louder."""

    stream: int
    stations: tuple[Station, ...]
    n_renewed: int


class Prepared(Protocol):
    """A Work as the model reads it: features, prompt, and the reply that will be filled. The rest of it is the model's own."""

    @property
    def n_windows(self) -> int: ...

    @property
    def n_prompt(self) -> int: ...

    @property
    def n_audio_tokens(self) -> int: ...

    @property
    def max_new_tokens(self) -> int: ...

    @property
    def reply(self) -> Reply:
        """Empty, but for pinned tokens of a draft."""
        ...

    @property
    def draft(self) -> Draft:
        """What the reply is expected to say, what it says already included."""
        ...

    @property
    def kept(self) -> Kept | None:
        """None where it is no round."""
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """The next token of a sequence and its natural-log probability. `confirmed`: what goes before it, drafted tokens that the
    model would have said."""

    id: int
    logprob: float
    confirmed: tuple[Token, ...] = ()


class StepModel(Protocol):
    """Runs steps. A step is free of side effects beyond the cache places and embeddings that it writes, so the same plan, or a
    part of it, may be run again after a failure."""

    def load(self) -> Capacity:
        """Loads and warms up. Raises EngineFailed with what is missing. Allowed again after `unload`."""
        ...

    def remember(self) -> Memory:
        """For a new stretch that will grow. Any thread."""
        ...

    def prepare(self, work: Work, turn: Round | None = None) -> Prepared:
        """Samples to features, options to a prompt. Raises AsrError for what can never be recognised."""
        ...

    def open(self, uid: int, prepared: Prepared) -> None:
        """The model knows this sequence from now on. Called again for the same one after a reload, then with a reply that may
        hold tokens already."""
        ...

    def n_encoded(self, uid: int) -> int:
        """So many of the first windows of this open sequence were encoded in other rounds of its stream and are still there."""
        ...

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        """One step. A token for each FeedItem that yields, chosen among `reply.allowed()` where that is not None. Drafted
        tokens that are fed with it are confirmed as long as each is what would have been chosen.

        Raises StepOutOfMemory when the device has no memory for it; anything else that it raises is a fault of a sequence in
        the plan.
        """
        ...

    def close(self, uid: int) -> None:
        """The sequence is over; its tensors are freed. Unknown uids are ignored."""
        ...

    def forget(self, stream: int) -> None:
        """There will be no more rounds of it; what is kept of its windows is freed. Unknown streams are ignored."""
        ...

    def idle(self) -> bool:
        """Called while no sequence is open, nobody waits and nothing is kept in the cache: a short piece of work that makes
        later steps faster. Returns whether there was any. A model without such work returns False."""
        ...

    def unload(self) -> None:
        """Frees everything. Idempotent."""
        ...


class StepOutOfMemory(Exception):
    """The device has no memory for this step; a smaller one may do."""
