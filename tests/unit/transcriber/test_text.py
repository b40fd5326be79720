from asr_service.languages import ENGLISH, LANGUAGES
from asr_service.request import TokenUse
from asr_service.transcriber.text import Said, main_language, total_tokens

CHINESE = LANGUAGES[0]


def test_the_main_language_is_the_one_most_spoken() -> None:
    said = [Said("hi", ENGLISH, 900), Said("你好", CHINESE, 1000), Said("there", ENGLISH, 200), Said("", CHINESE, 9000)]

    assert main_language(said) == ENGLISH
    assert main_language([Said("", None, 100)]) is None


def test_tokens_are_summed_where_they_are_counted() -> None:
    said = [Said("a", None, 1, tokens=TokenUse(1, 2, 3)), Said("b", None, 1, tokens=TokenUse(10, 20, 30))]

    assert total_tokens(said) == TokenUse(11, 22, 33)
    assert total_tokens([Said("a", None, 1)]) is None
    assert total_tokens([]) is None
