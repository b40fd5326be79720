import pytest

from asr_service.decoding.budget import token_budget


@pytest.mark.parametrize(
    ("duration_s", "limit", "budget"),
    [(0.0, 0, 32), (1.0, 0, 40), (30.0, 0, 272), (0.1, 0, 33), (1200.0, 0, 9632), (30.0, 100, 100), (1.0, 100, 40)],
)
def test_the_budget_grows_with_the_audio_up_to_the_users_limit(duration_s: float, limit: int, budget: int) -> None:
    assert token_budget(duration_s, limit) == budget
