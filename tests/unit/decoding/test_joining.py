import pytest

from asr_service.decoding.joining import join_texts, most_spoken
from asr_service.languages import ENGLISH, LANGUAGES

CHINESE = LANGUAGES[0]


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        (["hello there", "general"], "hello there general"),
        (["你好", "世界"], "你好世界"),
        (["你好。", "世界"], "你好。世界"),
        (["これは", "ペン"], "これはペン"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕하세요", "여러분"], "안녕하세요 여러분"),
        (["I said", "你好"], "I said你好"),
        ([" a ", "", "  ", "b"], "a b"),
        ([], ""),
    ],
)
def test_pieces_join_as_their_script_is_written(pieces: list[str], joined: str) -> None:
    assert join_texts(pieces) == joined


def test_the_language_is_the_one_most_spoken() -> None:
    assert most_spoken([(ENGLISH, 5), (CHINESE, 7), (None, 100), (ENGLISH, 3)]) == ENGLISH
    assert most_spoken([(None, 100)]) is None
