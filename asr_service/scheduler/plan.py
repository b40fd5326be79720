"""The nouns of step scheduling: a sequence on its way through the model, and what one step does.

A sequence is known tokens (prompt, then what was generated) of which some are in the KV cache. Feeding the rest of them yields
the next token. So prefill, decoding and coming back after an eviction are one thing: feed positions n_kv .. n_known - 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from asr_service.request import Priority


@dataclass(frozen=True, slots=True)
class Extent:
    """A contiguous range of token places in the KV cache: start .. start + length - 1."""

    start: int
    length: int


@dataclass(eq=False, slots=True)
class Sequence:
    """One Work inside the engine. Only StepScheduler changes it. Times are of the monotonic clock, in seconds."""

    uid: int
    priority: Priority
    arrival_s: float
    deadline_s: float | None
    n_windows: int  # encoder windows of its audio
    n_prompt: int  # prompt tokens, one per audio token included
    max_new_tokens: int  # it never holds more than n_prompt + max_new_tokens places
    audio_s: float = 0.0

    n_encoded: int = 0  # windows encoded so far; kept through an eviction
    n_generated: int = 0
    n_kv: int = 0  # known tokens in the cache
    extent: Extent | None = None  # its places, while it has some

    @property
    def n_known(self) -> int:
        return self.n_prompt + self.n_generated

    @property
    def n_places(self) -> int:
        """The most cache places it can come to need."""
        return self.n_prompt + self.max_new_tokens


@dataclass(frozen=True, slots=True)
class EncodeItem:
    """Encode these windows of this sequence: first .. first + count - 1."""

    uid: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class FeedItem:
    """Feed known tokens start .. start + count - 1 of this sequence, whose cache begins at `extent.start`.

    `yields`: these are the last known ones, so the step gives the next token.
    """

    uid: int
    start: int
    count: int
    yields: bool
    extent: Extent


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step does: encode, then feed. Empty when there is nothing to do."""

    encode: tuple[EncodeItem, ...] = ()
    feed: tuple[FeedItem, ...] = ()
    evicted: tuple[int, ...] = field(default=())  # uids that lost their places since the last plan
    admitted: tuple[int, ...] = field(default=())  # uids that have places from this plan on

    @property
    def is_empty(self) -> bool:
        return not self.encode and not self.feed

    @property
    def uids(self) -> frozenset[int]:
        """Sequences with a part in this step."""
        return frozenset([item.uid for item in self.encode] + [item.uid for item in self.feed])

    def only(self, uid: int) -> StepPlan:
        """This sequence's part of the step."""
        return StepPlan(
            encode=tuple(item for item in self.encode if item.uid == uid),
            feed=tuple(item for item in self.feed if item.uid == uid),
        )
