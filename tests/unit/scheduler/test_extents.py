"""ExtentPool against a plain list of places."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asr_service.scheduler.extents import ExtentPool
from asr_service.scheduler.plan import Extent

GRANULE = 4
N_TOKENS = 40


def test_an_extent_is_rounded_up_to_the_granule() -> None:
    pool = ExtentPool(256, granule=64)

    assert pool.allocate(65) == Extent(0, 128)
    assert (pool.n_free, pool.largest_free) == (128, 128)


def test_the_smallest_gap_that_fits_is_taken() -> None:
    pool = ExtentPool(8 * GRANULE, GRANULE)
    big, wall, small, _ = (pool.allocate(n * GRANULE) for n in (3, 1, 2, 2))
    assert big is not None
    assert wall is not None
    assert small is not None
    pool.free(big)
    pool.free(small)

    assert pool.allocate(2 * GRANULE) == small
    assert pool.allocate(2 * GRANULE) == Extent(0, 2 * GRANULE)
    assert pool.allocate(2 * GRANULE) is None


def test_places_beyond_the_last_whole_granule_are_not_used() -> None:
    assert ExtentPool(11, granule=4).n_tokens == 8


@pytest.mark.parametrize("extent", [Extent(0, 8), Extent(4, 8), Extent(12, 8), Extent(36, 8)])
def test_what_is_not_lent_cannot_be_given_back(extent: Extent) -> None:
    pool = ExtentPool(N_TOKENS, GRANULE)
    for _ in range(2):
        pool.allocate(8)
    pool.free(Extent(0, 8))

    with pytest.raises(ValueError, match="is not lent"):
        pool.free(extent)


def test_a_pool_smaller_than_its_granule_and_no_places_at_all_are_errors() -> None:
    with pytest.raises(ValueError, match="at least granule 64"):
        ExtentPool(63)
    with pytest.raises(ValueError, match="asked for 0 places"):
        ExtentPool(64).allocate(0)


class PoolAgainstList(RuleBasedStateMachine):
    """The model is one owner (or None) for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ExtentPool(N_TOKENS, GRANULE)
        self.lent: list[Extent] = []

    def gaps(self, without: list[Extent] | None = None) -> list[Extent]:
        """Runs of free places, by looking at each place."""
        gone = without or []
        taken = {place for e in self.lent if e not in gone for place in range(e.start, e.start + e.length)}
        runs: list[Extent] = []
        for place in range(N_TOKENS):
            if place in taken:
                continue
            if runs and runs[-1].start + runs[-1].length == place:
                runs[-1] = Extent(runs[-1].start, runs[-1].length + 1)
            else:
                runs.append(Extent(place, 1))
        return runs

    @rule(n=st.integers(1, N_TOKENS + 4))
    def allocate(self, n: int) -> None:
        length = -(-n // GRANULE) * GRANULE
        fitting = [gap for gap in self.gaps() if gap.length >= length]
        extent = self.pool.allocate(n)
        if not fitting:
            assert extent is None
        else:
            assert extent == Extent(min(fitting, key=lambda gap: gap.length).start, length)
            self.lent.append(extent)

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.pool.free(self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1))))

    @rule(data=st.data())
    def ask_what_if(self, data: st.DataObject) -> None:
        freed = data.draw(st.lists(st.sampled_from(self.lent), unique=True)) if self.lent else []
        largest = max((gap.length for gap in self.gaps(freed)), default=0)
        assert self.pool.largest_free_after(freed) == largest

    @invariant()
    def nothing_is_lost_and_neighbours_are_one(self) -> None:
        gaps = self.gaps()
        assert list(self.pool.free_extents) == gaps
        assert self.pool.n_free == sum(gap.length for gap in gaps)
        assert self.pool.largest_free == max((gap.length for gap in gaps), default=0)

    def teardown(self) -> None:
        for extent in self.lent:
            self.pool.free(extent)
        assert self.pool.free_extents == (Extent(0, N_TOKENS),)


TestPoolAgainstList = PoolAgainstList.TestCase
TestPoolAgainstList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
