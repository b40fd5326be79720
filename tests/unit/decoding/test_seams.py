"""Words are counted: what two recognisers heard around a cut is joined, and every word that was said is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.joining import join_texts
from asr_service.decoding.seams import Seam, reconcile
from asr_service.request import Hypothesis, Word

OVERLAP_MS = 1500


@dataclass(frozen=True)
class Spoken:
    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Garble:
    """What becomes of a word that is cut at an edge, and how far times are off."""

    first: tuple[str, ...]
    last: tuple[str, ...]
    jitter_ms: Sequence[int] = (0,)


def heard(spoken: Sequence[Spoken], start_ms: int, end_ms: int, garble: Garble, *, times: bool) -> Hypothesis:
    """A recogniser that hears whole words as they are."""
    words: list[Word] = []
    for n, word in enumerate(spoken):
        shown: tuple[str, ...] = (word.text,)
        if word.end_ms <= start_ms or word.start_ms >= end_ms:
            continue
        if word.start_ms < start_ms:
            shown = garble.first
        elif word.end_ms > end_ms:
            shown = garble.last
        first_ms, last_ms = max(word.start_ms, start_ms), min(word.end_ms, end_ms)
        each_ms = (last_ms - first_ms) // max(1, len(shown))
        off_ms = garble.jitter_ms[n % len(garble.jitter_ms)]
        for k, text in enumerate(shown):
            at_ms = max(0, first_ms + k * each_ms + off_ms)
            words.append(Word(text, at_ms, at_ms + max(1, each_ms)))
    return Hypothesis(join_texts(word.text for word in words), None, tuple(words) if times else ())


def garbled(edge: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([(), (f"{edge}x",), (f"{edge}x", f"{edge}y")])


EDGES = st.tuples(garbled("first"), garbled("last"))


def talk(vocabulary: Sequence[str], shortest_ms: int, longest_ms: int) -> st.SearchStrategy[list[Spoken]]:
    lengths = st.lists(st.tuples(st.sampled_from(vocabulary), st.integers(shortest_ms, longest_ms)), min_size=14, max_size=22)

    def laid(pairs: list[tuple[str, int]]) -> list[Spoken]:
        at_ms, spoken = 0, []
        for text, ms in pairs:
            spoken.append(Spoken(text, at_ms, at_ms + ms))
            at_ms += ms
        return spoken

    return lengths.map(laid)


def shown(seam: Seam) -> str:
    return join_texts((seam.before.text, seam.after.text))


@given(
    talk(["no", "yes", "well", "then"], 200, 450) | talk(["no", "yes", "no", "then", "perhaps", "surely"], 200, 450),
    st.integers(1600, 2600),
    EDGES,
    st.lists(st.integers(-40, 40), min_size=1, max_size=7),
)
def test_words_with_times_are_all_there_once_however_often_they_repeat(
    spoken: list[Spoken], cut_ms: int, edges: tuple[tuple[str, ...], tuple[str, ...]], jitter_ms: list[int]
) -> None:
    garble = Garble(*edges, jitter_ms)
    start_ms = cut_ms - OVERLAP_MS
    before = heard(spoken, 0, cut_ms, garble, times=True)
    after = heard(spoken, start_ms, spoken[-1].end_ms, garble, times=True)

    seam = reconcile(before, after, start_ms=start_ms, cut_ms=cut_ms)

    assert seam is not None  # a whole word lies in the overlap
    assert shown(seam).split() == [word.text for word in spoken]
    assert [word.text for word in (*seam.before.words, *seam.after.words)] == [word.text for word in spoken]
    assert seam.at_ms is not None
    assert start_ms <= seam.at_ms <= cut_ms
    assert all(word.end_ms > word.start_ms for word in seam.before.words)


@given(
    talk([f"word{n}" for n in range(12)], 150, 360),
    st.integers(1600, 2600),
    EDGES,
)
def test_texts_that_agree_hold_every_word_once(
    spoken: list[Spoken], cut_ms: int, edges: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    start_ms = cut_ms - OVERLAP_MS
    before = heard(spoken, 0, cut_ms, Garble(*edges), times=False)
    after = heard(spoken, start_ms, spoken[-1].end_ms, Garble(*edges), times=False)

    seam = reconcile(before, after, start_ms=start_ms, cut_ms=cut_ms)

    if seam is not None:
        assert shown(seam).split() == [word.text for word in spoken]


@given(talk("天地玄黄宇宙洪荒日月盈昃", 150, 250), st.integers(1600, 2600), EDGES)
def test_characters_that_agree_are_all_there_once(
    spoken: list[Spoken], cut_ms: int, edges: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    start_ms = cut_ms - OVERLAP_MS
    garble = Garble(edges[0][:1], edges[1][:1])
    before = heard(spoken, 0, cut_ms, garble, times=False)
    after = heard(spoken, start_ms, spoken[-1].end_ms, garble, times=False)

    seam = reconcile(before, after, start_ms=start_ms, cut_ms=cut_ms)

    if seam is not None:
        assert shown(seam) == "".join(word.text for word in spoken)


@given(st.permutations([f"word{n}" for n in range(12)]), st.integers(1600, 2600), EDGES)
def test_different_words_always_agree(words: list[str], cut_ms: int, edges: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    spoken = [Spoken(word, 300 * n, 300 * n + 300) for n, word in enumerate(words)]
    start_ms = cut_ms - OVERLAP_MS
    before = heard(spoken, 0, cut_ms, Garble(*edges), times=False)
    after = heard(spoken, start_ms, spoken[-1].end_ms, Garble(*edges), times=False)

    seam = reconcile(before, after, start_ms=start_ms, cut_ms=cut_ms)

    assert seam is not None
    assert shown(seam).split() == words


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("we went to the old hou", "the old house by the sea", "we went to the old house by the sea"),
        ("We went to the old.", "To the old house.", "We went to the old house."),
        ("it was a very, very long", "Very long day.", "it was a very, very long day."),
        ("今天我们去北京", "去北京看朋友", "今天我们去北京看朋友"),
        ("今天我们去北京。", "们去北京看朋友。", "今天我们去北京看朋友。"),
        ("", "", ""),
    ],
)
def test_the_common_run_is_the_seam(before: str, after: str, joined: str) -> None:
    seam = reconcile(Hypothesis(before, None), Hypothesis(after, None), start_ms=0, cut_ms=1500)

    assert seam is not None
    assert shown(seam) == joined


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("and so on and so on", "and so on and so on and so forth"),  # how often was it said?
        ("no no no no", "no no no no no"),
        ("nothing in common", "with these words"),
        ("only the", "the end"),  # one word may be the same by chance
        ("something was said", ""),
        ("", "something was said"),
        ("你好", "好吗"),
    ],
)
def test_without_a_clear_agreement_there_is_no_seam(before: str, after: str) -> None:
    assert reconcile(Hypothesis(before, None), Hypothesis(after, None), start_ms=0, cut_ms=1500) is None


def test_words_far_from_the_cut_are_left_alone() -> None:
    before = Hypothesis("hello there", None, (Word("hello", 0, 300), Word("there", 300, 600)))
    after = Hypothesis("good bye", None, (Word("good", 5000, 5300), Word("bye", 5300, 5600)))

    assert reconcile(before, after, start_ms=2500, cut_ms=4000) == Seam(before, after, 4000)


def test_words_are_found_as_whole_words() -> None:
    before = Hypothesis("Was it? A boat", None, (Word("A", 1000, 1200), Word("boat", 1200, 1500)))
    after = Hypothesis("a boat, a bat", None, (Word("a", 1000, 1200), Word("boat", 1200, 1500), Word("bat", 1700, 1900)))

    seam = reconcile(before, after, start_ms=900, cut_ms=1600)

    assert seam is not None
    assert (seam.before.text, seam.after.text) == ("Was it? A", "boat, a bat")


def test_words_that_are_not_those_of_the_text_give_no_seam() -> None:
    before = Hypothesis("hello there", None, (Word("other", 0, 300),))

    assert reconcile(before, before, start_ms=0, cut_ms=300) is None
