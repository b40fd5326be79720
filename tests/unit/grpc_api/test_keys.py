import pytest

from asr_service.errors import Unauthenticated
from asr_service.grpc_api.keys import ApiKeys


@pytest.mark.parametrize(
    "metadata", [{"authorization": "Bearer two"}, {"authorization": "bearer two"}, {"x-api-key": "one"}], ids=str
)
def test_a_known_key_is_let_in(metadata: dict[str, str]) -> None:
    ApiKeys(["one", "two"]).check(metadata)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "API_KEY_MISSING"),
        ({"authorization": "Basic one"}, "API_KEY_MISSING"),
        ({"authorization": "Bearer "}, "API_KEY_MISSING"),
        ({"authorization": "Bearer three"}, "API_KEY_INVALID"),
        ({"x-api-key": "on"}, "API_KEY_INVALID"),
        ({"authorization": "Bearer ünknown"}, "API_KEY_INVALID"),
    ],
    ids=str,
)
def test_others_are_not(metadata: dict[str, str], reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ApiKeys(["one", "two"]).check(metadata)

    assert caught.value.reason == reason
    assert caught.value.status == "UNAUTHENTICATED"


def test_without_keys_everyone_is_let_in() -> None:
    ApiKeys([]).check({})
