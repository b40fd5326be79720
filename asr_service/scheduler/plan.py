"""The nouns of step scheduling: a sequence on its way through the model, and what one step does.

A sequence is known tokens (prompt, then what was generated) of which some are in the KV cache. Feeding the rest of them yields
the next token. So prefill, decoding and coming back after an eviction are one thing: feed positions n_kv .. n_known - 1.

Behind its known tokens a sequence may have a draft: tokens that are expected next. They are fed together with the last known
one, and the model says how many of them it would have said itself. Those have become known, and their places are right already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from asr_service.request import Priority


@dataclass(frozen=True, slots=True)
class Extent:
    """A contiguous range of token places in the KV cache: start .. start + length - 1."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Station:
    """The first `end` tokens of a round are those of every other round of its stream that has the same station (and all before
    it). `version`: what they look like."""

    end: int
    version: int


@dataclass(frozen=True, slots=True)
class Parked:
    """Places of the cache that hold the first tokens of a stream's rounds, up to the last of these stations (at least one)."""

    extent: Extent
    stations: tuple[Station, ...]

    @property
    def n_tokens(self) -> int:
        return self.stations[-1].end


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
    stream: int | None = None  # whose round it is
    stations: tuple[Station, ...] = ()  # of its prompt, in ascending order

    n_encoded: int = 0  # windows encoded so far; kept through an eviction
    n_generated: int = 0
    n_draft: int = 0  # tokens expected behind the known ones
    n_kv: int = 0  # known tokens in the cache
    extent: Extent | None = None  # its places, while it has some
    source: Parked | None = None  # what its first places are still to be copied from; counted in n_kv already

    @property
    def n_known(self) -> int:
        return self.n_prompt + self.n_generated

    @property
    def n_places(self) -> int:
        """The most cache places it can come to need."""
        return self.n_prompt + self.max_new_tokens

    @property
    def n_unfed(self) -> int:
        """Tokens to feed until the next one comes, the draft included."""
        return self.n_known + self.n_draft - self.n_kv


@dataclass(frozen=True, slots=True)
class MoveItem:
    """Copy the keys and values of `count` tokens from the places `start` .. start + count - 1 to the first ones of the extent,
    before anything else is done."""

    uid: int
    start: int
    count: int
    extent: Extent


@dataclass(frozen=True, slots=True)
class EncodeItem:
    """Encode these windows of this sequence: first .. first + count - 1."""

    uid: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class FeedItem:
    """Feed tokens start .. start + count - 1 of this sequence, whose cache begins at `extent.start`.

    `yields`: the last known one is among them, so the step gives the next token. The last `n_draft` of them are not known but
    drafted: those that the model would have said come before that token.
    """

    uid: int
    start: int
    count: int
    yields: bool
    extent: Extent
    n_draft: int = 0


@dataclass(frozen=True, slots=True)
class Gain:
    """What a feed that yields has brought: so many known tokens more, and so many are still expected behind them. Of the draft,
    `n_drafted` tokens have come true and `n_rejected` will not."""

    n_tokens: int = 1
    n_draft: int = 0
    n_drafted: int = 0
    n_rejected: int = 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step does: move, then encode, then feed. Empty when there is nothing to do."""

    encode: tuple[EncodeItem, ...] = ()
    feed: tuple[FeedItem, ...] = ()
    evicted: tuple[int, ...] = field(default=())  # uids that lost their places since the last plan
    admitted: tuple[int, ...] = field(default=())  # uids that have places from this plan on
    moves: tuple[MoveItem, ...] = field(default=())  # also for sequences with no other part in the step

    @property
    def is_empty(self) -> bool:
        return not self.encode and not self.feed and not self.moves

    @property
    def uids(self) -> frozenset[int]:
        """Sequences with a part in this step."""
        return frozenset(
            chain((item.uid for item in self.moves), (item.uid for item in self.encode), (item.uid for item in self.feed))
        )

    @classmethod
    def union(cls, parts: Iterable[StepPlan]) -> StepPlan:
        """These parts of a step as one."""
        done = list(parts)
        return cls(
            encode=tuple(item for part in done for item in part.encode),
            feed=tuple(item for part in done for item in part.feed),
            moves=tuple(item for part in done for item in part.moves),
        )

    def only(self, uid: int) -> StepPlan:
        """This sequence's part of the step."""
        return StepPlan(
            encode=tuple(item for item in self.encode if item.uid == uid),
            feed=tuple(item for item in self.feed if item.uid == uid),
            moves=tuple(item for item in self.moves if item.uid == uid),
        )
