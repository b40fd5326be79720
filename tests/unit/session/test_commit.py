"""What of a growing text is settled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asr_service.session.commit import Commitment, split_units

_S = 16_000


def test_a_text_is_tail_first_then_stable_then_committed() -> None:
    commitment = Commitment()

    first = commitment.update("turn on", _S)
    second = commitment.update("turn on the", 2 * _S)
    third = commitment.update("turn on the light", 5 * _S // 2)

    assert (first.committed, first.tail, first.stable_chars) == ("", "turn on", 0)
    assert (second.committed, second.tail, second.stable_chars) == ("", "turn on the", 7)
    assert (third.delta, third.committed, third.tail, third.stable_chars) == ("turn on", "turn on", " the light", 4)


def test_a_word_that_changes_starts_anew_and_so_does_all_behind_it() -> None:
    commitment = Commitment()
    commitment.update("a light b", 0)
    commitment.update("a lights b", 2 * _S)

    draft = commitment.update("a lights b", 3 * _S)

    assert (draft.committed, draft.tail) == ("a", " lights b")


def test_what_is_committed_stays_when_a_later_round_contradicts_it() -> None:
    commitment = Commitment()
    commitment.update("one two", 0)
    commitment.update("one two", 2 * _S)

    draft = commitment.update("won two three", 3 * _S)

    assert (draft.committed, draft.delta, draft.tail) == ("one two", "", " three")


def test_scripts_without_spaces_are_committed_by_character() -> None:
    commitment = Commitment()
    commitment.update("今天天", 0)

    draft = commitment.update("今天晚上", 2 * _S)

    assert (draft.committed, draft.tail) == ("今天", "晚上")


@given(st.text(st.sampled_from("ab .,今天กี้がe\u0301"), max_size=20).map(str.strip))
def test_units_are_the_whole_text_in_order(text: str) -> None:
    assert "".join(split_units(text)) == text


@given(st.lists(st.tuples(st.text(st.sampled_from("ab 今"), max_size=12).map(str.strip), st.integers(0, 20_000)), max_size=20))
def test_committed_only_grows_by_its_deltas(rounds: list[tuple[str, int]]) -> None:
    commitment, at, committed = Commitment(), 0, ""
    for text, more in rounds:
        at += more
        draft = commitment.update(text, at)
        committed += draft.delta
        assert draft.committed == committed
        assert 0 <= draft.stable_chars <= len(draft.tail)
