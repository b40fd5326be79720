"""Places of the cache that streams keep between their rounds.

Laws, kept by tests/unit/scheduler/test_parking.py and test_steps_machine.py:

1. What a sequence leaves parked are the tokens up to its last station that is in the cache; nothing where it has no stream or
   no such station.
2. A round takes over what is parked of its stream up to the last station that both have, and gets it copied to its own places
   before anything else. Until that is done the places that it is copied from stay lent.
3. Nothing parked stands in anybody's way: it is given up before a running sequence is evicted, and only as much as is needed,
   what was used least recently first. A stream whose places are given up just computes more in its next round.
4. A stream has at most one parked extent, and none once it is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence as ListLike
from dataclasses import dataclass

from asr_service.scheduler.extents import ExtentPool
from asr_service.scheduler.plan import Extent, MoveItem, Parked, Sequence


@dataclass(frozen=True, slots=True, eq=False)
class _Loser:
    """A stream or a running sequence, and the extents that it would give back."""

    who: int | Sequence
    extents: list[Extent]


class Parking:
    """All parked extents of one pool. Sequences that are given here get or lose `extent`, `source` and `n_kv`."""

    def __init__(self, pool: ExtentPool) -> None:
        self._pool = pool
        self._parked: dict[int, Parked] = {}  # by stream, the least recently used first

    def __len__(self) -> int:
        return len(self._parked)

    @property
    def n_tokens(self) -> int:
        """Places parked."""
        return sum(parked.extent.length for parked in self._parked.values())

    def make_room(self, n_tokens: int, rivals: ListLike[Sequence]) -> list[Sequence] | None:
        """Gives up as little as will do for an extent of so many places, and says which of these running sequences (the most
        urgent first) must lose theirs as well. None, and nothing given up, when even all of that would not do."""
        losers: list[_Loser] = [_Loser(rival, _extents(rival)) for rival in rivals]
        losers += [_Loser(stream, [parked.extent]) for stream, parked in reversed(self._parked.items())]
        if not self._would_fit(n_tokens, losers):
            return None
        for loser in list(losers):  # spares whom it is most worth sparing first
            without = [other for other in losers if other is not loser]
            if self._would_fit(n_tokens, without):
                losers = without
        for loser in losers:
            if isinstance(loser.who, int):
                self.give_up(loser.who)
        return [loser.who for loser in losers if isinstance(loser.who, Sequence)]

    def _would_fit(self, n_tokens: int, losers: ListLike[_Loser]) -> bool:
        freed = (extent for loser in losers for extent in loser.extents)
        return self._pool.largest_free_after(freed) >= self._pool.rounded(n_tokens)

    def touch(self, stream: int) -> None:
        """It is being used."""
        if (parked := self._parked.pop(stream, None)) is not None:
            self._parked[stream] = parked

    def claim(self, sequence: Sequence) -> None:
        """The sequence has got its places: what is parked of its stream is what they begin with."""
        parked = None if sequence.stream is None else self._parked.pop(sequence.stream, None)
        if parked is None:
            return
        n_same = next(
            (n for n, (own, other) in enumerate(zip(sequence.stations, parked.stations, strict=False)) if own != other),
            min(len(sequence.stations), len(parked.stations)),
        )
        if n_same:
            sequence.source = Parked(parked.extent, parked.stations[:n_same])
            sequence.n_kv = sequence.source.n_tokens
        else:
            self._pool.free(parked.extent)

    def moved(self, sequence: Sequence) -> None:
        """It has been copied."""
        if sequence.source is not None:
            self._pool.free(sequence.source.extent)
            sequence.source = None

    def take_back(self, sequence: Sequence, *, keep: bool) -> None:
        """The sequence gives its places away. `keep`: its stream will have another round."""
        extent, parked = sequence.extent, sequence.source
        if extent is None:
            return
        stations = tuple(station for station in sequence.stations if station.end <= sequence.n_kv)
        sequence.extent = sequence.source = None
        sequence.n_kv = 0
        if parked is None and keep and sequence.stream is not None and stations:
            parked = Parked(self._pool.shrink(extent, stations[-1].end), stations)
        else:
            self._pool.free(extent)
        if parked is None:
            return
        if keep and sequence.stream is not None:
            self.give_up(sequence.stream)
            self._parked[sequence.stream] = parked
        else:
            self._pool.free(parked.extent)

    def give_up(self, stream: int) -> None:
        """Nothing is parked of it any more."""
        if (parked := self._parked.pop(stream, None)) is not None:
            self._pool.free(parked.extent)

    def clear(self) -> None:
        for stream in list(self._parked):
            self.give_up(stream)


def _extents(sequence: Sequence) -> list[Extent]:
    extents = [] if sequence.extent is None else [sequence.extent]
    return extents if sequence.source is None else [*extents, sequence.source.extent]


def move_of(sequence: Sequence) -> MoveItem | None:
    """What must be copied before the sequence is fed."""
    if sequence.source is None or sequence.extent is None:
        return None
    return MoveItem(sequence.uid, sequence.source.extent.start, sequence.source.n_tokens, sequence.extent)
