"""Admission: the places inside the server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.errors import AsrError, AudioTooLarge, Overloaded
from asr_service.request import Priority
from asr_service.scheduler.admission import Admission, Ticket


def test_a_full_server_refuses_and_says_the_limit() -> None:
    admission = Admission(max_requests=2, max_bytes=100)
    admission.admit()
    admission.admit()

    with pytest.raises(Overloaded, match=r"^2 requests are already inside \(limit 2\)$"):
        admission.admit()


@pytest.mark.parametrize(("expected_wait_s", "retry_after_s"), [(0.0, 1.0), (7.5, 7.5), (900.0, 60.0)])
def test_the_retry_hint_is_the_expected_wait_within_1_and_60_s(expected_wait_s: float, retry_after_s: float) -> None:
    admission = Admission(max_requests=1, max_bytes=100)
    admission.admit()

    with pytest.raises(Overloaded) as refusal:
        admission.admit(expected_wait_s=expected_wait_s)
    assert refusal.value.retry_after_s == retry_after_s


def test_batch_leaves_room_for_interactive() -> None:
    admission = Admission(max_requests=4, max_bytes=100)
    for _ in range(3):
        admission.admit(priority=Priority.BATCH)

    with pytest.raises(Overloaded, match=r"^3 batch requests are already inside \(limit 3\)$"):
        admission.admit(priority=Priority.BATCH)
    admission.admit(priority=Priority.INTERACTIVE)


def test_a_server_of_one_still_takes_batch() -> None:
    Admission(max_requests=1, max_bytes=1).admit(priority=Priority.BATCH)


def test_bytes_that_do_not_fit_now_are_overload_and_bytes_that_never_fit_are_too_large() -> None:
    admission = Admission(max_requests=9, max_bytes=100)
    admission.admit(60)

    with pytest.raises(Overloaded, match="60 bytes of audio are already held, 41 more do not fit"):
        admission.admit(41)
    with pytest.raises(AudioTooLarge, match=r"101 bytes of audio in one request \(limit 100\)"):
        admission.admit(101)


def test_a_ticket_is_given_back_once_however_often_it_is_released() -> None:
    admission = Admission(max_requests=2, max_bytes=100)
    other = admission.admit(10)
    with admission.admit(20) as ticket:
        ticket.release()
    ticket.release()

    assert (admission.inside, admission.n_bytes_held) == (1, 10)
    other.release()
    assert (admission.inside, admission.n_bytes_held) == (0, 0)


def test_nobody_is_let_in_to_wait_longer_than_the_limit() -> None:
    admission = Admission(max_requests=9, max_bytes=100, max_wait_s=20.0)
    admission.admit(expected_wait_s=20.0)

    with pytest.raises(Overloaded, match=r"^it would be 45 s until the recogniser is free \(limit 20 s\)$") as refusal:
        admission.admit(expected_wait_s=45.2)
    assert refusal.value.retry_after_s == 45.2
    assert admission.inside == 1


def test_without_a_limit_any_wait_is_let_in() -> None:
    Admission(max_requests=9, max_bytes=100).admit(expected_wait_s=9999.0)


@pytest.mark.parametrize("max_wait_s", [-1.0, float("nan")])
def test_a_limit_on_the_wait_that_is_no_duration_is_an_error(max_wait_s: float) -> None:
    with pytest.raises(ValueError, match="max_wait_s is"):
        Admission(max_requests=1, max_bytes=1, max_wait_s=max_wait_s)


_STEP = st.tuples(st.sampled_from(Priority), st.integers(0, 60)) | st.integers(0, 20)  # admit, or release the n-th ticket


@given(st.lists(_STEP, max_size=60))
@settings(max_examples=60)
def test_counts_and_limits_hold_against_a_plain_list(steps: list[tuple[Priority, int] | int]) -> None:
    admission = Admission(max_requests=5, max_bytes=100)
    held: list[tuple[Ticket, Priority, int]] = []
    for step in steps:
        if isinstance(step, int):
            if held:
                held.pop(step % len(held))[0].release()
        else:
            priority, n_bytes = step
            batch = sum(p is Priority.BATCH for _, p, _ in held)
            fits = (
                len(held) < 5
                and sum(n for _, _, n in held) + n_bytes <= 100
                and (priority is not Priority.BATCH or batch < admission.max_batch_requests)
            )
            try:
                held.append((admission.admit(n_bytes, priority=priority), priority, n_bytes))
            except AsrError:
                assert not fits
            else:
                assert fits
        assert admission.inside == len(held)
        assert admission.n_bytes_held == sum(n for _, _, n in held)
