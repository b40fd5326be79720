"""Texts are cut as the stock package cuts them, tokenisers included."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.engines import word_tokenisers
from asr_service.engines.word_tokenisers import WordTokenisers
from asr_service.errors import FeatureUnavailable
from asr_service.languages import Language, parse_language
from tests.model.stock import quiet

TEXTS = [
    ("Hello, world! It's 5 o'clock — “really”?", "en"),
    ("co-operate and/or don't", "en"),
    ("¿Qué tal? ¡Muy bien!", "es"),
    ("你好，世界！我买了iPhone 15。", "zh"),
    ("佢話：「我今日好開心。」", "yue"),
    ("今日は、いい天気ですね。iPhone 15を買いました!", "ja"),
    ("東京タワーへ行きたい。", "ja"),
    ("안녕하세요, 오늘 날씨가 좋네요!", "ko"),
    ("저는 iPhone 15를 샀어요.", "ko"),
    ("Привет, как дела?", "ru"),
]


def language(code: str) -> Language:
    found = parse_language(code)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def stock() -> Any:
    with quiet():
        from qwen_asr.inference.qwen3_forced_aligner import Qwen3ForceAlignProcessor
    return Qwen3ForceAlignProcessor()


@pytest.fixture(scope="module")
def cut() -> WordTokenisers:
    return WordTokenisers()


@pytest.mark.parametrize(("text", "code"), TEXTS)
def test_units_are_the_stock_packages(stock: Any, cut: WordTokenisers, text: str, code: str) -> None:
    units = cut(text, language(code))
    assert [unit.text for unit in units] == stock.encode_timestamp(text, language(code).name)[0]
    assert "".join(unit.word for unit in units).replace(" ", "") == text.replace(" ", "")


@given(text=st.text(st.one_of(st.sampled_from("ab' ,.!?-—“”你好世界"), st.characters()), max_size=40))
def test_of_any_text_without_a_tokeniser(stock: Any, cut: WordTokenisers, text: str) -> None:
    assert [unit.text for unit in cut(text, language("en"))] == stock.encode_timestamp(text, "English")[0]


@pytest.mark.parametrize(("code", "module"), [("ja", "nagisa"), ("ko", "soynlp"), ("ko", "qwen_asr")])
def test_a_tokeniser_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, code: str, module: str) -> None:
    real = find_spec
    monkeypatch.setattr(word_tokenisers, "find_spec", lambda name: None if name == module else real(name))
    with pytest.raises(FeatureUnavailable, match=f"{module} is not installed"):
        WordTokenisers()("はい", language(code))


def test_other_languages_import_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nagisa", "soynlp", "qwen_asr"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [unit.word for unit in WordTokenisers()("Hello, you!", language("en"))] == ["Hello,", "you!"]
