"""How sure a recogniser is of each word."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.word_scores import word_confidences

HALF, QUARTER = math.log(0.5), math.log(0.25)


def test_a_word_of_one_token_is_as_sure_as_the_token() -> None:
    assert word_confidences("turn on", ((4, 0.0), (7, HALF)), ["turn", "on"]) == [1.0, pytest.approx(0.5)]


def test_a_word_of_several_is_their_geometric_mean() -> None:
    assert word_confidences("umbrella", ((2, 0.0), (8, QUARTER)), ["umbrella"]) == [pytest.approx(0.5)]


def test_tokens_without_text_are_nobodys() -> None:
    assert word_confidences("on", ((0, QUARTER), (2, 0.0), (2, QUARTER)), ["on"]) == [1.0]


def test_punctuation_that_the_reader_sees_counts() -> None:
    assert word_confidences("on, off", ((2, 0.0), (3, QUARTER), (7, 0.0)), ["on,", "off"]) == [pytest.approx(0.5), 1.0]


def test_repeated_words_are_taken_in_turn() -> None:
    assert word_confidences("no no", ((2, 0.0), (5, HALF)), ["no", "no"]) == [1.0, pytest.approx(0.5)]


def test_without_tokens_nothing_is_made_up() -> None:
    assert word_confidences("on", (), ["on"]) == [None]
    assert word_confidences("on", ((2, 0.0),), ["other"]) == [None]


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(-20, 0)), max_size=8))
def test_a_confidence_is_one(scores: list[tuple[int, float]]) -> None:
    made = word_confidences("turn on this", tuple(sorted(scores)), ["turn", "on", "this"])
    assert all(value is None or 0.0 <= value <= 1.0 for value in made)
