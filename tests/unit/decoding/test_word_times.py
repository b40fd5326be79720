"""Times of words: whatever an aligner says, they are in order, and what was not measured is flagged."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.word_times import LEAST_MS, Timed, longest_rising, settle_times


def spans(times: list[Timed]) -> list[tuple[int, int]]:
    return [(time.start_ms, time.end_ms) for time in times]


def test_times_in_order_stay_as_they_are() -> None:
    assert settle_times([80, 240, 240, 480, 560, 640], [4, 2, 3], 1000, 80) == [
        Timed(80, 240), Timed(240, 480), Timed(560, 640),
    ]  # fmt: skip


def test_a_word_without_length_takes_the_aligners_resolution() -> None:
    assert settle_times([80, 240, 400, 400, 560, 640], [4, 2, 3], 1000, 80)[1] == Timed(360, 440)


def test_and_less_where_its_neighbours_are_near() -> None:
    assert settle_times([80, 400, 400, 400, 440, 640], [4, 2, 3], 1000, 80)[1] == Timed(400, 440)


def test_a_time_that_goes_back_is_put_between_its_neighbours() -> None:
    times = settle_times([80, 240, 2400, 2480, 560, 640, 720, 800], [4, 2, 3, 3], 3000, 80)
    assert spans(times)[0] == (80, 240)
    assert spans(times)[2:] == [(560, 640), (720, 800)]
    assert 240 <= times[1].start_ms < times[1].end_ms <= 560
    assert [time.interpolated for time in times] == [False, True, False, False]


def test_a_time_beyond_the_end_is_no_time() -> None:
    first, second = settle_times([80, 240, 5600, 5680], [4, 2], 1000, 80)
    assert first == Timed(80, 240)
    assert second.interpolated
    assert second.end_ms <= 1000


def test_many_words_on_one_spot_are_spread_and_flagged() -> None:
    times = settle_times([80, 240, *[400] * 10, 1200, 1300], [4, *[2] * 5, 3], 2000, 80)
    assert [time.interpolated for time in times] == [False, *[True] * 5, False]
    assert all(after.start_ms == before.end_ms for before, after in pairwise(times[1:6]))
    assert times[1].start_ms >= 240
    assert times[5].end_ms <= 1200


def test_longer_words_of_a_plateau_get_more() -> None:
    _, short, long = settle_times([0, 80, 400, 400, 400, 400], [2, 2, 10], 2000, 80)
    assert long.end_ms - long.start_ms > short.end_ms - short.start_ms


def test_without_room_the_neighbours_give_some() -> None:
    times = settle_times([80, 400, 400, 400, 400, 400, 400, 800], [4, 2, 2, 4], 1000, 80)
    assert all(time.end_ms - time.start_ms >= LEAST_MS for time in times)
    assert all(time.interpolated for time in times)


def test_nothing_is_nothing() -> None:
    assert settle_times([], [], 1000, 80) == []


def test_two_times_for_each_word() -> None:
    with pytest.raises(ValueError, match="3 times for 1 words"):
        settle_times([1, 2, 3], [1], 10, 80)


@given(st.data(), st.integers(0, 30_000))
def test_the_law(data: st.DataObject, extra_ms: int) -> None:
    n = data.draw(st.integers(1, 40))
    duration = n * LEAST_MS + extra_ms
    said = data.draw(st.lists(st.integers(-100, duration + 500), min_size=2 * n, max_size=2 * n))
    lengths = data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))
    times = settle_times(said, lengths, duration, 80)
    assert len(times) == n
    assert all(time.start_ms < time.end_ms for time in times)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(times))
    assert times[0].start_ms >= 0
    assert times[-1].end_ms <= duration


@given(st.lists(st.integers(0, 20), min_size=2, max_size=40))
def test_measured_times_are_the_aligners_own(steps: list[int]) -> None:
    """In order and with lengths, nothing is changed."""
    edges = [80 * sum(steps[: n + 1]) + 40 * n for n in range(len(steps) // 2 * 2)]
    times = settle_times(edges, [3] * (len(edges) // 2), edges[-1], 80)
    assert [edge for span in spans(times) for edge in span] == edges
    assert not any(time.interpolated for time in times)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_a_longest_rising_subsequence(values: list[int]) -> None:
    kept = longest_rising(values)
    assert kept == sorted(set(kept))
    assert all(values[a] <= values[b] for a, b in pairwise(kept))
    best = [1] * len(values)
    for i in range(len(values)):
        best[i] = max([best[j] + 1 for j in range(i) if values[j] <= values[i]], default=1)
    assert len(kept) == max(best, default=0)
