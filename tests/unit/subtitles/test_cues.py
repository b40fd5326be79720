"""Cues keep their law whatever the words are."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from asr_service.subtitles import Cue, SubtitleSegment, SubtitleWord, make_cues


def said(text: str, start_ms: int = 0, word_ms: int = 300, gap_ms: int = 0) -> SubtitleSegment:
    words = tuple(
        SubtitleWord(word, start_ms + k * (word_ms + gap_ms), start_ms + k * (word_ms + gap_ms) + word_ms)
        for k, word in enumerate(text.split())
    )
    return SubtitleSegment(text, words[0].start_ms, words[-1].end_ms, words)


def test_a_short_sentence_is_one_cue_of_one_line() -> None:
    assert make_cues([said("Good morning, everyone.", 1000)]) == [Cue(1000, 1900, ("Good morning, everyone.",))]


def test_two_lines_are_about_equally_long() -> None:
    (cue,) = make_cues([said("The quick brown fox jumps over the lazy dog tonight")])

    assert cue.lines == ("The quick brown fox jumps", "over the lazy dog tonight")


def test_a_pause_ends_a_cue() -> None:
    words = (SubtitleWord("Stop.", 0, 400), SubtitleWord("Go.", 901, 1200), SubtitleWord("On.", 1700, 2000))

    cues = make_cues([SubtitleSegment("Stop. Go. On.", 0, 2000, words)])

    assert [cue.text for cue in cues] == ["Stop.", "Go. On."]


def test_a_cue_of_words_lasts_at_most_seven_seconds() -> None:
    cues = make_cues([said("a b c d e f g h", word_ms=1000)])

    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(0, 7000), (7000, 8000)]


def test_the_end_of_a_segment_ends_a_cue() -> None:
    assert len(make_cues([said("one"), said("two", 300)])) == 2


def test_a_segment_without_words_is_one_cue() -> None:
    text = "word " * 60

    (cue,) = make_cues([SubtitleSegment(text, 500, 30_000)])

    assert (cue.start_ms, cue.end_ms) == (500, 30_000)
    assert " ".join(cue.lines) == text.strip()
    assert max(map(len, cue.lines)) <= 42


def test_scripts_without_spaces_stay_without_spaces() -> None:
    words = tuple(SubtitleWord(c, 100 * k, 100 * k + 100) for k, c in enumerate("今天天气"))

    assert make_cues([SubtitleSegment("今天天气", 0, 400, words)])[0].text == "今天天气"
    assert make_cues([SubtitleSegment("elsewhere", 0, 400, words)])[0].text == "今天天气"


def test_spacing_follows_the_text_of_the_segment() -> None:
    words = (SubtitleWord("don", 0, 100), SubtitleWord("'t", 100, 200), SubtitleWord("go", 200, 300))

    assert make_cues([SubtitleSegment("don't go", 0, 300, words)])[0].text == "don't go"


def test_an_empty_segment_shows_nothing() -> None:
    assert make_cues([SubtitleSegment(" \n", 0, 1000), SubtitleSegment("", 1000, 2000, (SubtitleWord(" ", 1000, 1100),))]) == []


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


texts = st.text(st.characters(codec="utf-8"), max_size=50) | st.sampled_from(["-->", "a & b", "你好", "\n\n", "x" * 60])
times = st.integers(min_value=0, max_value=400_000_000)
words = st.builds(SubtitleWord, texts, times, times)
segments = st.builds(SubtitleSegment, texts, times, times, st.lists(words, max_size=8).map(tuple))
in_order = st.lists(
    st.tuples(st.text("abc你,", min_size=1, max_size=12), st.integers(1, 3000), st.integers(0, 2000)), max_size=40
)


@given(st.lists(segments, max_size=6))
def test_cues_never_overlap_and_always_last_even_on_disordered_input(given_segments: list[SubtitleSegment]) -> None:
    cues = make_cues(given_segments)

    assert all(cue.end_ms > cue.start_ms for cue in cues)
    assert all(earlier.end_ms <= later.start_ms for earlier, later in pairwise(cues))
    assert all(line and line == line.strip() and len(line.splitlines()) == 1 for cue in cues for line in cue.lines)


@given(in_order)
def test_words_in_order_are_all_shown_at_their_times_within_the_limits(items: list[tuple[str, int, int]]) -> None:
    now_ms, made = 0, []
    for text, length_ms, pause_ms in items:
        made.append(SubtitleWord(text, now_ms, now_ms + length_ms))
        now_ms += length_ms + pause_ms
    segment = SubtitleSegment(" ".join(w.text for w in made), 0, now_ms, tuple(made))

    cues = make_cues([segment] if made else [])

    assert "".join("".join(c.lines) for c in cues).replace(" ", "") == "".join(w.text for w in made)
    starts, ends = {w.start_ms for w in made}, {w.end_ms for w in made}
    assert all(cue.start_ms in starts and cue.end_ms in ends for cue in cues)
    assert all(cue.end_ms - cue.start_ms <= 7000 for cue in cues)
    assert all(len(cue.lines) <= 2 and max(map(columns, cue.lines)) <= 42 for cue in cues)
