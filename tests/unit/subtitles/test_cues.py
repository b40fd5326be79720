"""What is on the screen together, and when."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.subtitles import BadRule, Cue, CueMaker, CueRules, SubtitleSegment, SubtitleWord, make_cues, to_srt
from asr_service.subtitles.schedule import MAX_EARLY_MS, MAX_LATE_MS
from tests.unit.subtitles.laws import Case, check, check_lines, check_times, random_case, random_rules
from tests.unit.subtitles.talks import TEXTS, talk

GOLDEN = Path(__file__).parent / "golden"


def said(text: str, start_ms: int = 0, word_ms: int = 300, gap_ms: int = 0, language: str = "en") -> SubtitleSegment:
    words = tuple(
        SubtitleWord(word, start_ms + k * (word_ms + gap_ms), start_ms + k * (word_ms + gap_ms) + word_ms)
        for k, word in enumerate(text.split())
    )
    return SubtitleSegment(text, words[0].start_ms, words[-1].end_ms, words, language)


def timed(*words: tuple[str, int, int]) -> SubtitleSegment:
    text = " ".join(word for word, _, _ in words)
    return SubtitleSegment(text, words[0][1], words[-1][2], tuple(SubtitleWord(*word) for word in words), "en")


def texts(cues: list[Cue]) -> list[str]:
    return [" ".join(cue.lines) for cue in cues]


def test_a_short_sentence_is_one_cue_of_one_line() -> None:
    assert make_cues([said("Good morning, everyone.", 1000)]) == [Cue(1000, 2150, ("Good morning, everyone.",), "en")]


def test_two_lines_are_about_equally_long() -> None:
    (cue,) = make_cues([said("The quick brown fox jumps over the lazy dog tonight")])

    assert cue.lines == ("The quick brown fox jumps", "over the lazy dog tonight")


def test_no_line_ends_on_a_word_that_leans_on_the_next() -> None:
    (english,) = make_cues([said("Yesterday evening we all went to the opera together")])
    (german,) = make_cues([said("Gestern sind wir abends alle in die Oper gegangen", language="de")])

    assert english.lines == ("Yesterday evening we all", "went to the opera together")
    assert german.lines == ("Gestern sind wir abends", "alle in die Oper gegangen")


def test_lines_part_at_a_comma_rather_than_in_the_middle() -> None:
    (cue,) = make_cues([said("If it rains tomorrow morning, the party will be inside")])

    assert cue.lines == ("If it rains tomorrow morning,", "the party will be inside")


def test_cues_part_between_sentences() -> None:
    cues = make_cues([said("The first train left at seven in the morning. Nobody was on it because nobody knew.")])

    assert texts(cues) == ["The first train left at seven in the morning.", "Nobody was on it because nobody knew."]


def test_abbreviations_end_no_sentence() -> None:
    (cue,) = make_cues([said("It was built by Mr. Smith and Mrs. Jones")])

    assert texts([cue]) == ["It was built by Mr. Smith and Mrs. Jones"]


def test_a_pause_ends_a_cue() -> None:
    cues = make_cues([timed(("Stop", 0, 400), ("there.", 400, 900), ("Go.", 1401, 1800), ("On.", 2200, 2500))])

    assert texts(cues) == ["Stop there.", "Go. On."]


def test_short_answers_are_together_rather_than_flashes_or_overlaps() -> None:
    cues = make_cues([timed(("Yes.", 0, 300), ("No.", 600, 900), ("Why.", 1300, 1600))])

    assert texts(cues) == ["Yes. No. Why."]


def test_counting_slowly_is_read_together_though_there_are_pauses() -> None:
    counted = [("one", 0, 200), ("two", 710, 910), ("three", 1420, 1620), ("four", 2130, 2330), ("five", 2840, 3040)]

    cues = make_cues([timed(*counted)])

    assert " ".join(texts(cues)) == "one two three four five"
    assert all(cue.end_ms - cue.start_ms >= 833 for cue in cues)


def test_a_short_cue_borrows_silence_first_and_then_from_the_next() -> None:
    early = make_cues([timed(("Yes.", 5000, 5200), ("Certainly", 5710, 6400), ("it", 6400, 6600), ("is.", 6600, 7000))])
    late = make_cues([timed(("Yes.", 0, 200), ("Certainly", 710, 1400), ("it", 1400, 1600), ("is.", 1600, 2000))])

    assert [(cue.start_ms, cue.end_ms) for cue in early] == [(4794, 5627), (5710, 7000)]
    assert [(cue.start_ms, cue.end_ms) for cue in late] == [(0, 833), (916, 2000)]


def test_a_cue_stays_until_it_can_be_read() -> None:
    (cue,) = make_cues([said("Somebody talks incredibly quickly", word_ms=100)])

    assert (cue.start_ms, cue.end_ms) == (0, 33 * 1000 / 20)


def test_a_cue_lasts_at_most_as_long_as_the_rule_says() -> None:
    cues = make_cues([said("a b c d e f g h", word_ms=1000, language="")])

    assert sum(cue.end_ms - cue.start_ms for cue in cues) == 8000 - 83 * (len(cues) - 1)
    assert max(cue.end_ms - cue.start_ms for cue in cues) <= 7000


def test_speech_that_was_cut_goes_on_in_the_same_cue() -> None:
    cut = [SubtitleSegment("We went to", 0, 900, (), "en"), SubtitleSegment("the opera.", 900, 1800, (), "en")]

    assert texts(make_cues(cut)) == ["We went to the opera."]


def test_silence_between_segments_without_words_ends_a_cue() -> None:
    apart = [SubtitleSegment("We went to", 0, 1500, (), "en"), SubtitleSegment("the opera.", 1600, 3000, (), "en")]

    assert texts(make_cues(apart)) == ["We went to", "the opera."]


def test_a_segment_without_words_is_spread_over_its_time() -> None:
    cues = make_cues([SubtitleSegment("word " * 60, 500, 30_500)])

    assert (cues[0].start_ms, cues[-1].end_ms) == (500, 30_500)
    assert " ".join(texts(cues)).split() == ["word"] * 60
    assert max(len(line) for cue in cues for line in cue.lines) <= 42
    assert max(cue.end_ms - cue.start_ms for cue in cues) <= 7000


def test_scripts_without_spaces_stay_without_spaces() -> None:
    words = tuple(SubtitleWord(c, 100 * k, 100 * k + 100) for k, c in enumerate("今天天气"))

    assert make_cues([SubtitleSegment("今天天气", 0, 400, words)])[0].text == "今天天气"
    assert make_cues([SubtitleSegment("", 0, 400, words)])[0].text == "今天天气"


def test_one_chinese_word_leaves_the_spaces_of_english_alone() -> None:
    text = "I bought an iPhone 在北京 yesterday"
    words = tuple(SubtitleWord(w, 300 * k, 300 * k + 300) for k, w in enumerate(["I", "bought", "an", "iPhone", "在北京"]))

    assert make_cues([SubtitleSegment(text, 0, 2000, words, "en")])[0].text == text


def test_the_text_of_the_segment_is_shown_whatever_its_words_are() -> None:
    words = (SubtitleWord("don", 0, 100), SubtitleWord("'t", 100, 200), SubtitleWord("go", 200, 300))

    assert make_cues([SubtitleSegment("Don’t go!", 0, 300, words)])[0].text == "Don’t go!"
    assert make_cues([SubtitleSegment("It costs $5.", 0, 300, words)])[0].text == "It costs $5."


def test_words_that_were_not_timed_are_between_those_that_were() -> None:
    words = (SubtitleWord("first", 1000, 2000), SubtitleWord("last", 9000, 10_000))
    rules = CueRules(max_line_chars=10, max_lines=1)

    cues = make_cues([SubtitleSegment("first middle last", 0, 20_000, words)], rules)

    assert [(cue.text, cue.start_ms) for cue in cues] == [("first", 1000), ("middle", 2000), ("last", 9000)]


def test_an_empty_segment_shows_nothing() -> None:
    assert make_cues([SubtitleSegment(" \n", 0, 1000), SubtitleSegment("", 1000, 2000, (SubtitleWord(" ", 1000, 1100),))]) == []


def test_what_is_settled_early_leaves_room_for_what_may_come() -> None:
    maker = CueMaker()
    assert maker.feed(said("Yes", 1000)) == []

    (cue,) = maker.settle(silent_until_ms=1500)
    (after, *_) = [*maker.feed(said("and what about the others then", 1500)), *maker.finish()]

    assert (cue.start_ms, cue.end_ms) == (1000, 1833)
    assert after.start_ms == 1833 + 83


def test_cues_come_while_the_next_are_still_spoken() -> None:
    maker = CueMaker()
    sentence = "The quick brown fox jumps over the lazy dog tonight."

    settled = [len(maker.feed(said(sentence, 10_000 * k))) for k in range(5)]

    assert settled == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_talks_are_subtitled_as_people_agreed(language: str) -> None:
    """Read the file before changing it: it is what people see."""
    assert to_srt(make_cues([talk(language)])) == (GOLDEN / f"{language}.srt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_line_chars", 9), ("max_line_chars", 101), ("max_lines", 0), ("max_lines", 3), ("max_duration_ms", 999),
        ("min_duration_ms", -1), ("min_duration_ms", 7001), ("min_gap_ms", 1001), ("pause_threshold_ms", 99),
        ("max_chars_per_second", 4.9), ("max_chars_per_second", float("nan")),
    ],
)  # fmt: skip
def test_a_rule_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(BadRule, match=field) as caught:
        dataclasses.replace(CueRules(), **{field: value})

    assert caught.value.field == field


@given(st.integers(min_value=0))
def test_cues_keep_their_laws_whatever_is_said(seed: int) -> None:
    check(random_case(seed))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_cues_keep_their_laws_in_100_000_cases() -> None:
    for seed in range(100_000):
        check(random_case(seed))


any_text = st.text(st.characters(), max_size=50) | st.sampled_from(["-->", "a & b", "你好", "\n\n", "x" * 60, "ᄀ" * 20])
times = st.integers(min_value=0, max_value=400_000_000)
any_words = st.builds(SubtitleWord, any_text, times, times)
any_segments = st.builds(
    SubtitleSegment, any_text, times, times, st.lists(any_words, max_size=8).map(tuple), st.sampled_from(["", "en", "zh", "xx"])
)


@given(st.lists(any_segments, max_size=6), st.randoms(use_true_random=False).map(random_rules))
def test_any_characters_and_any_times_give_cues_in_order(given_segments: list[SubtitleSegment], rules: CueRules) -> None:
    cues = Case(rules, tuple(given_segments)).cues()

    check_times(cues, rules)
    check_lines(cues, rules)


talks = st.lists(
    st.tuples(st.text("abcdefgh", min_size=2, max_size=9), st.integers(150, 700), st.integers(0, 900)), min_size=1, max_size=40
)


@given(talks)
def test_cues_appear_when_their_first_word_is_said(items: list[tuple[str, int, int]]) -> None:
    now_ms, words = 10_000, []
    for index, (text, length_ms, pause_ms) in enumerate(items):
        words.append(SubtitleWord(f"{text}{index}", now_ms, now_ms + length_ms))
        now_ms += length_ms + pause_ms
    starts = {word.text: word.start_ms for word in words}

    cues = make_cues([SubtitleSegment(" ".join(starts), 10_000, now_ms, tuple(words))])

    late_ms = [cue.start_ms - starts[cue.text.split()[0]] for cue in cues]
    assert all(-MAX_EARLY_MS <= late <= MAX_LATE_MS for late in late_ms)
