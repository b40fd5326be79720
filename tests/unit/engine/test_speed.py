"""Speed, StartPolicy: small numbers."""

from __future__ import annotations

import pytest

from asr_service.engine.slot import StartPolicy
from asr_service.engine.speed import Speed


def test_the_first_measurement_replaces_the_guess_and_later_ones_move_it() -> None:
    speed = Speed(initial_s_per_audio_s=0.3)
    assert speed.run_s(10.0) == pytest.approx(3.0)

    speed.learn(audio_s=2.0, run_s=1.0)
    assert speed.s_per_audio_s == pytest.approx(0.5)
    speed.learn(audio_s=1.0, run_s=1.0)
    assert speed.s_per_audio_s == pytest.approx(0.6)


def test_a_stretch_of_nothing_does_not_divide_by_zero() -> None:
    speed = Speed()
    speed.learn(audio_s=0.0, run_s=0.01)

    assert speed.s_per_audio_s == pytest.approx(0.1)


def test_the_pause_between_starts_doubles_up_to_its_limit() -> None:
    policy = StartPolicy(first_backoff_s=0.5, max_backoff_s=3.0)

    assert [policy.backoff_s(n) for n in (1, 2, 3, 4, 50)] == [0.5, 1.0, 2.0, 3.0, 3.0]
