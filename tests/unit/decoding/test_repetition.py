from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.repetition import MAX_PERIOD, MIN_LOOP_TOKENS, MIN_TURNS, Loop, find_loop, honest_tokens


def plain_loop(ids: list[int]) -> Loop | None:
    """The same, said simply."""
    for period in range(1, MAX_PERIOD + 1):
        start = len(ids)
        while start > period and ids[start - 1] == ids[start - 1 - period]:
            start -= 1
        if start == len(ids):
            continue
        start -= period
        if len(ids) - start >= max(MIN_LOOP_TOKENS, MIN_TURNS * period):
            return Loop(start, period)
    return None


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 30))
def test_the_loop_at_the_end_is_found(before: list[int], unit: list[int], n_turns: int) -> None:
    ids = before + unit * n_turns

    assert find_loop(ids) == plain_loop(ids)


@given(st.integers(1, MAX_PERIOD), st.integers(0, 31))
def test_a_loop_may_end_in_the_middle_of_a_turn(period: int, n_more: int) -> None:
    unit = [*range(1, period + 1)]
    ids = [0, *unit * 24, *unit[: n_more % period]]

    assert find_loop(ids) == Loop(1, period)


def test_a_few_turns_are_no_loop() -> None:
    assert find_loop([7] * 23) is None
    assert find_loop([*range(20)] * 3) is None
    assert find_loop([7] * 24) == Loop(0, 1)


def test_honest_speech_grows_with_the_audio() -> None:
    assert honest_tokens(0.5) == 15
    assert honest_tokens(60.0) == 312
