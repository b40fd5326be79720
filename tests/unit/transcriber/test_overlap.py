"""Which sound each stretch is heard with, and what becomes of two results at a cut."""

from __future__ import annotations

import numpy as np

from asr_service.request import Hypothesis, SegmentResult, Speech, TokenUse, Word, samples_to_ms
from asr_service.transcriber.overlap import LeadIns, Stretch, heard_again, joined

SOURCE = np.arange(16_000 * 60, dtype=np.float32)


def speech(start_s: float, end_s: float, *, is_cut: bool = False) -> Speech:
    start, end = round(start_s * 16_000), round(end_s * 16_000)
    return Speech(SOURCE[start:end], samples_to_ms(start), 0.9, is_cut)


def heard_s(stretch: Stretch) -> tuple[float, float]:
    samples = stretch.heard.samples
    assert np.array_equal(samples, SOURCE[int(samples[0]) : int(samples[-1]) + 1])  # without a hole
    assert stretch.heard.start_ms == samples_to_ms(int(samples[0]))
    return samples[0] / 16_000, (samples[-1] + 1) / 16_000


def test_what_follows_a_cut_in_speech_is_heard_from_earlier_on() -> None:
    lead_ins = LeadIns(1500)
    stretches = [lead_ins.stretch(s) for s in (speech(0, 10, is_cut=True), speech(10, 20, is_cut=True), speech(20, 25))]

    assert [heard_s(s) for s in stretches] == [(0, 10), (8.5, 20), (18.5, 25)]
    assert [s.is_open for s in stretches] == [True, True, False]


def test_uncut_speech_is_heard_as_it_is() -> None:
    lead_ins = LeadIns(1500)
    stretches = [lead_ins.stretch(s) for s in (speech(0, 10), speech(10, 20), speech(21, 25))]

    assert all(s.heard is s.speech and not s.lead and not s.is_open for s in stretches)


def test_a_cut_is_not_joined_over_a_hole() -> None:
    lead_ins = LeadIns(1500)
    lead_ins.stretch(speech(0, 10, is_cut=True))

    assert lead_ins.stretch(speech(12, 20)).lead == 0


def test_a_lead_is_at_most_a_quarter_of_what_it_is_taken_from() -> None:
    lead_ins = LeadIns(1500)
    lead_ins.stretch(speech(0, 2, is_cut=True))

    assert heard_s(lead_ins.stretch(speech(2, 5))) == (1.5, 5)


def test_without_overlap_nothing_is_heard_twice() -> None:
    lead_ins = LeadIns(0)
    first, second = lead_ins.stretch(speech(0, 10, is_cut=True)), lead_ins.stretch(speech(10, 20))

    assert not first.is_open
    assert second.heard is second.speech


def words(*starts_ms: int) -> Hypothesis:
    made = tuple(Word(f"w{at}", at, at + 300) for at in starts_ms)
    return Hypothesis(" ".join(w.text for w in made), None, made)


def test_the_edge_moves_to_where_the_words_are_divided() -> None:
    lead_ins = LeadIns(1500)
    first, second = lead_ins.stretch(speech(0, 10, is_cut=True)), lead_ins.stretch(speech(10, 12))
    before = SegmentResult(0, first.heard, words(8000, 8500, 9000, 9500))
    after = SegmentResult(1, second.heard, words(9000, 9500, 10_000, 10_500))

    both = joined(before, after, second)

    assert both is not None
    assert [w.text for r in both for w in r.hypothesis.words] == ["w8000", "w8500", "w9000", "w9500", "w10000", "w10500"]
    assert both[0].speech.end_ms == both[1].speech.start_ms
    assert (both[0].speech.start_ms, both[1].speech.end_ms) == (0, 12_000)
    for result in both:
        for word in result.hypothesis.words:
            assert result.speech.start_ms <= word.start_ms < word.end_ms <= result.speech.end_ms


def test_texts_without_times_leave_the_edge_where_it_was() -> None:
    lead_ins = LeadIns(1500)
    first, second = lead_ins.stretch(speech(0, 10, is_cut=True)), lead_ins.stretch(speech(10, 12))
    before = SegmentResult(0, first.heard, Hypothesis("we went to the old hou", None))
    after = SegmentResult(1, second.heard, Hypothesis("the old house", None))

    both = joined(before, after, second)

    assert both is not None
    assert [r.hypothesis.text for r in both] == ["we went to the", "old house"]
    assert [(r.speech.start_ms, r.speech.end_ms) for r in both] == [(0, 10_000), (10_000, 12_000)]


def test_both_attempts_are_paid_for() -> None:
    again = heard_again(
        Hypothesis("a", None, queue_s=1, run_s=2, tokens=TokenUse(1, 2, 3)),
        Hypothesis("b", None, queue_s=10, run_s=20, tokens=TokenUse(10, 20, 30)),
    )

    assert (again.text, again.queue_s, again.run_s, again.tokens) == ("b", 11, 22, TokenUse(11, 22, 33))
