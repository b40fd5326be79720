"""A known text divided among the stretches in which it was heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.anchors import divide


def parts(text: str, *heard: str) -> list[str]:
    units = text.split()
    return [" ".join(units[n] for n in part) for part in divide(units, [stretch.split() for stretch in heard])]


def test_what_was_heard_rightly_is_where_it_was_heard() -> None:
    assert parts("good morning how are you Today", "good morning", "how are you today") == ["good morning", "how are you Today"]


def test_a_stretch_that_was_misheard_lies_between_its_neighbours() -> None:
    assert parts("one two three four five six", "one two", "tree for", "five six") == ["one two", "three four", "five six"]


def test_words_that_nobody_heard_are_divided() -> None:
    assert parts("one a b two", "one", "two") == ["one a", "b two"]


def test_words_that_were_not_said_change_nothing() -> None:
    assert parts("one two", "one uh", "uh two") == ["one", "two"]


def test_repeated_words_keep_their_order() -> None:
    assert parts("no no yes no", "no no", "yes", "no") == ["no no", "yes", "no"]


def test_nothing_was_heard_at_all() -> None:
    assert parts("one two", "", "") == ["one", "two"]
    with pytest.raises(ValueError, match="no stretches"):
        divide(["one"], [])


WORDS = st.lists(st.sampled_from("abcdeABC"), max_size=12)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=5))
def test_all_of_the_text_goes_somewhere_in_order(text: list[str], heard: list[list[str]]) -> None:
    made = divide(text, heard)
    assert len(made) == len(heard)
    assert [n for part in made for n in part] == list(range(len(text)))


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_what_was_all_heard_rightly_is_divided_rightly_where_words_differ(heard: list[list[str]]) -> None:
    numbered = [[f"{word}{k}-{n}" for n, word in enumerate(stretch)] for k, stretch in enumerate(heard)]
    text = [unit for stretch in numbered for unit in stretch]
    assert [[text[n] for n in part] for part in divide(text, numbered)] == numbered
