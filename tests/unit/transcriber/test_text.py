import pytest

from asr_service.languages import ENGLISH, LANGUAGES
from asr_service.transcriber.text import Said, join_texts, main_language

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


def test_the_main_language_is_the_one_most_spoken() -> None:
    said = [Said("hi", ENGLISH, 900), Said("你好", CHINESE, 1000), Said("there", ENGLISH, 200), Said("", CHINESE, 9000)]

    assert main_language(said) == ENGLISH
    assert main_language([Said("", None, 100)]) is None
