"""Units of a text, and the words that the reader sees."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.units import cut_units, needs_tokeniser
from asr_service.languages import LANGUAGES


def words(text: str) -> list[str]:
    return [unit.word for unit in cut_units(text)]


def units(text: str) -> list[str]:
    return [unit.text for unit in cut_units(text)]


@pytest.mark.parametrize(
    ("text", "expected_units", "expected_words"),
    [
        ("turn on the light", ["turn", "on", "the", "light"], ["turn", "on", "the", "light"]),
        ("Hello, world!", ["Hello", "world"], ["Hello,", "world!"]),
        ("“Hello,”  she said.", ["Hello", "she", "said"], ["“Hello,”", "she", "said."]),
        ("¿Qué tal? (bien)", ["Qué", "tal", "bien"], ["¿Qué", "tal?", "(bien)"]),
        ("well — yes", ["well", "yes"], ["well —", "yes"]),
        ("don't co-operate", ["don't", "cooperate"], ["don't", "co-operate"]),
        ("it costs $5.50, 3,000 times", ["it", "costs", "550", "3000", "times"], ["it", "costs", "$5.50,", "3,000", "times"]),
        ("你好，世界。", ["你", "好", "世", "界"], ["你", "好，", "世", "界。"]),
        ("他说：“你好！”", ["他", "说", "你", "好"], ["他", "说：", "“你", "好！”"]),
        ("iPhone在北京yesterday", ["iPhone", "在", "北", "京", "yesterday"], ["iPhone", "在", "北", "京", "yesterday"]),
        ("... ?!", [], []),
        ("", [], []),
        ("- Yes. -", ["Yes"], ["- Yes. -"]),
    ],
)
def test_punctuation_is_not_aligned_but_comes_back(text: str, expected_units: list[str], expected_words: list[str]) -> None:
    assert units(text) == expected_units
    assert words(text) == expected_words


def test_each_unit_knows_where_it_stands() -> None:
    text = "“co-operate,” 你好!"
    assert [text[unit.start : unit.end] for unit in cut_units(text)] == ["co-operate", "你", "好"]


def test_what_a_tokeniser_cuts_is_found_again() -> None:
    text = "今日は、いい天気です。"
    made = cut_units(text, lambda _: ["今日", "は", "、", "いい", "天気", "です", "。"])
    assert [unit.text for unit in made] == ["今日", "は", "いい", "天気", "です"]
    assert [unit.word for unit in made] == ["今日", "は、", "いい", "天気", "です。"]


def test_a_tokeniser_may_write_letters_differently() -> None:
    made = cut_units("ＡＢＣ はい", lambda _: ["ABC", "はい"])
    assert [(unit.text, unit.word) for unit in made] == [("ABC", "ＡＢＣ"), ("はい", "はい")]


def test_which_languages_need_one() -> None:
    assert [language.code for language in LANGUAGES if needs_tokeniser(language)] == ["ko", "ja"]


TEXT = st.text(st.one_of(st.sampled_from("abcé' \t\n.,!?¿“”()[]—-…$你好世界，。"), st.characters()), max_size=60)


@given(TEXT)
def test_all_words_together_are_the_text(text: str) -> None:
    made = cut_units(text)
    if made:
        assert re.sub(r"\s", "", "".join(unit.word for unit in made)) == re.sub(r"\s", "", text)
    assert all(unit.text and unit.word == unit.word.strip() for unit in made)
    assert all(text[unit.word_start : unit.word_end] == unit.word for unit in made)
    assert all(unit.word_start <= unit.start < unit.end <= unit.word_end for unit in made)
    assert all(before.end <= after.start for before, after in pairwise(made))


@given(TEXT, st.data())
def test_the_same_of_any_tokeniser(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    made = cut_units(text, lambda _: pieces)
    if made:
        assert re.sub(r"\s", "", "".join(unit.word for unit in made)) == re.sub(r"\s", "", text)
    assert all(before.end <= after.start for before, after in pairwise(made))
