"""How long, and how often, a lost connection is tried for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asr_service.client.patience import Patience


def test_the_window_begins_with_the_loss_and_ends_with_a_connection() -> None:
    patience = Patience(10.0, lambda: 1.0)

    assert patience.left_s(100.0) is None
    assert patience.pause_s(100.0) == 0.1
    assert patience.left_s(104.0) == 6.0
    assert patience.pause_s(104.0) == 0.2
    patience.stood()
    assert patience.left_s(105.0) is None
    assert patience.pause_s(200.0) == 0.1
    assert patience.pause_s(209.95) is None


def test_what_the_server_asks_for_is_waited_for() -> None:
    assert Patience(10.0, lambda: 1.0).pause_s(0.0, 3.0) == 3.0
    assert Patience(2.0, lambda: 1.0).pause_s(0.0, 3.0) is None


@given(st.floats(0, 600), st.lists(st.floats(0, 1), max_size=50))
def test_pauses_stay_within_the_window(window_s: float, spreads: list[float]) -> None:
    rest = iter(spreads)
    patience, now_s = Patience(window_s, lambda: next(rest)), 0.0
    for _ in spreads:
        pause_s = patience.pause_s(now_s)
        if pause_s is None:
            break
        assert 0 <= pause_s <= 2.0
        now_s += pause_s

    assert now_s <= window_s
