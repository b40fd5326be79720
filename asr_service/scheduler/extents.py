"""Contiguous ranges of a fixed number of places, lent and given back.

Laws, kept by tests/unit/scheduler/test_extents.py:

1. Extents that are lent do not overlap and lie inside the pool; their starts and lengths are multiples of the granule.
2. Lent and free places together are always the whole pool.
3. Free neighbours are one extent, so when everything is back there is one extent of the whole pool.
4. `allocate` gives from the smallest free extent that fits (of equals the first), and None only when none does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import attrgetter

from asr_service.scheduler.plan import Extent

_start = attrgetter("start")


class ExtentPool:
    """`n_tokens` places, rounded down to the granule, lent in multiples of it."""

    def __init__(self, n_tokens: int, granule: int = 64) -> None:
        if granule < 1 or n_tokens < granule:
            raise ValueError(f"n_tokens {n_tokens} must be at least granule {granule}, which must be at least 1")
        self.granule = granule
        self.n_tokens = n_tokens // granule * granule
        self._free = [Extent(0, self.n_tokens)]  # in order of start, no two of them adjacent

    @property
    def n_free(self) -> int:
        return sum(extent.length for extent in self._free)

    @property
    def largest_free(self) -> int:
        return max((extent.length for extent in self._free), default=0)

    @property
    def free_extents(self) -> tuple[Extent, ...]:
        return tuple(self._free)

    def rounded(self, n: int) -> int:
        """How many places `allocate(n)` takes."""
        return -(-n // self.granule) * self.granule

    def allocate(self, n: int) -> Extent | None:
        """At least `n` places, or None when no free extent is long enough."""
        if n < 1:
            raise ValueError(f"asked for {n} places, want at least 1")
        length = self.rounded(n)
        fitting = (index for index, extent in enumerate(self._free) if extent.length >= length)
        best = min(fitting, key=lambda index: self._free[index].length, default=None)
        if best is None:
            return None
        gap = self._free[best]
        if gap.length == length:
            del self._free[best]
        else:
            self._free[best] = Extent(gap.start + length, gap.length - length)
        return Extent(gap.start, length)

    def free(self, extent: Extent) -> None:
        """Takes back what `allocate` gave. Raises ValueError when (a part of) it is free already or outside the pool."""
        index = bisect_left(self._free, extent.start, key=_start)
        before = self._free[index - 1] if index > 0 else Extent(0, 0)
        after = self._free[index] if index < len(self._free) else Extent(self.n_tokens, 0)
        start, end = extent.start, extent.start + extent.length
        if start < before.start + before.length or end > after.start:
            raise ValueError(f"{extent} is not lent")
        first, last = index, index
        if index > 0 and before.start + before.length == start:
            first, start = index - 1, before.start
        if index < len(self._free) and after.start == end:
            last, end = index + 1, after.start + after.length
        self._free[first:last] = [Extent(start, end - start)]

    def shrink(self, extent: Extent, n: int) -> Extent:
        """Keeps the first `n` places (rounded up to the granule) of a lent extent and takes the others back."""
        length = min(self.rounded(n), extent.length)
        if length < extent.length:
            self.free(Extent(extent.start + length, extent.length - length))
        return Extent(extent.start, length)

    def largest_free_after(self, freed: Iterable[Extent]) -> int:
        """What `largest_free` would be if these lent extents were given back."""
        largest = run = 0
        run_end = -1
        for extent in sorted((*self._free, *freed), key=_start):
            run = run + extent.length if extent.start == run_end else extent.length
            run_end = extent.start + extent.length
            largest = max(largest, run)
        return largest
