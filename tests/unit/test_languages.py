import pytest

from asr_service.errors import UnknownLanguage
from asr_service.languages import LANGUAGES, Language, parse_language


def test_there_are_the_thirty_languages_of_the_model() -> None:
    assert (
        len(LANGUAGES) == len({language.code for language in LANGUAGES}) == len({language.name for language in LANGUAGES}) == 30
    )


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.code)
def test_every_language_is_known_by_code_name_and_tag(language: Language) -> None:
    for spelling in (language.code, language.code.upper(), language.name, f" {language.name.lower()} ", f"{language.code}-XX"):
        assert parse_language(spelling) == language


@pytest.mark.parametrize("text", ["", "auto", "AUTO", " "])
def test_auto_means_detection(text: str) -> None:
    assert parse_language(text) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pt_BR", "pt"),
        ("zh-Hant-TW", "zh"),
        ("zh-yue", "yue"),
        ("yue-HK", "yue"),
        ("tl", "fil"),
        ("deu", "de"),
        ("Mandarin", "zh"),
    ],
)
def test_other_spellings(text: str, code: str) -> None:
    language = parse_language(text)

    assert language is not None
    assert language.code == code


@pytest.mark.parametrize("text", ["klingon", "xx", "e", "en-", "english-gb-", "en us", "german-de", "\0", "x" * 10_000])
def test_an_unknown_language_lists_the_valid_ones(text: str) -> None:
    with pytest.raises(UnknownLanguage, match=r"valid: auto, zh \(Chinese\), en \(English\)") as caught:
        parse_language(text)

    assert caught.value.violations[0].field == "config.language"
    assert len(caught.value.message) < 1500
