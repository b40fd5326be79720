"""The seam between the engine's loop and a model that works in steps. No torch here.

`prepare` may be called from any thread, several at once, as soon as `load` has returned for the first time, also while the
model is unloaded or being loaded again: what it needs (tokenizer, prompt, feature extractor) survives `unload`. Everything else
is called from the engine's one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from asr_service.decoding.reply import Reply
from asr_service.request import Work
from asr_service.scheduler.plan import StepPlan


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a loaded model has room for. `kv_tokens`: places in its KV cache, for all sequences together."""

    kv_tokens: int


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
    def reply(self) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Token:
    """The next token of a sequence and its natural-log probability."""

    id: int
    logprob: float


class StepModel(Protocol):
    """Runs steps. A step is free of side effects beyond the cache places and embeddings that it writes, so the same plan, or a
    part of it, may be run again after a failure."""

    def load(self) -> Capacity:
        """Loads and warms up. Raises EngineFailed with what is missing. Allowed again after `unload`."""
        ...

    def prepare(self, work: Work) -> Prepared:
        """Samples to features, options to a prompt. Raises AsrError for what can never be recognised."""
        ...

    def open(self, uid: int, prepared: Prepared) -> None:
        """The model knows this sequence from now on. Called again for the same one after a reload, then with a reply that may
        hold tokens already."""
        ...

    def run(self, plan: StepPlan) -> Mapping[int, Token]:
        """One step. A token for each FeedItem that yields, chosen among `reply.allowed()` where that is not None.

        Raises StepOutOfMemory when the device has no memory for it; anything else that it raises is a fault of a sequence in
        the plan.
        """
        ...

    def close(self, uid: int) -> None:
        """The sequence is over; its tensors are freed. Unknown uids are ignored."""
        ...

    def idle(self) -> bool:
        """Called while no sequence is open and nobody waits: a short piece of work that makes later steps faster. Returns
        whether there was any. A model without such work returns False."""
        ...

    def unload(self) -> None:
        """Frees everything. Idempotent."""
        ...


class StepOutOfMemory(Exception):
    """The device has no memory for this step; a smaller one may do."""
