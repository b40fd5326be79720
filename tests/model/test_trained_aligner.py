"""The small aligner that was really trained: its times are near the known ones, and those of the stock package."""

from __future__ import annotations

from statistics import median

import pytest

from asr_service.decoding.units import cut_units
from asr_service.decoding.word_times import Timed, settle_times
from asr_service.model.aligner import QwenAligner
from tests.model.aligners import StockAligner
from tests.model.timed import ALIGNER, TimedClip, chained, errors_ms, timed_clips

MEDIAN_MS = 60.0


@pytest.fixture(scope="module")
def clips() -> list[TimedClip]:
    return timed_clips()


@pytest.fixture(scope="module")
def ours() -> QwenAligner:
    aligner = QwenAligner(ALIGNER, device="cpu", dtype="float32")
    aligner.load()
    return aligner


def settled(aligner: QwenAligner, clip: TimedClip) -> list[Timed]:
    (said_ms,) = aligner.run([aligner.prepare(clip.samples, clip.units)])
    return settle_times(said_ms, [len(unit) for unit in clip.units], len(clip.samples) // 16, aligner.config.class_ms)


def test_units_are_the_known_ones(clips: list[TimedClip]) -> None:
    assert all(tuple(unit.text for unit in cut_units(clip.text)) == clip.units for clip in clips)


def test_times_are_near_the_known_ones(ours: QwenAligner, clips: list[TimedClip]) -> None:
    """Of all begins and ends, in four languages; bench/align.py tells them apart."""
    off = [
        error
        for clip in clips
        for error in errors_ms([(time.start_ms, time.end_ms) for time in settled(ours, clip)], clip.spans_ms)
    ]
    assert median(off) < MEDIAN_MS


def test_classes_are_those_of_the_stock_package(ours: QwenAligner, clips: list[TimedClip]) -> None:
    english = [clip for clip in clips if clip.language == "English"]
    several = [*clips, chained(english[:3], 200), chained(english, 300)]
    stock = StockAligner(ALIGNER)
    classes = ours.classes([ours.prepare(clip.samples, clip.units) for clip in several])
    for of_clip, clip in zip(classes, several, strict=True):
        assert not stock.differs_from(of_clip, (clip.samples, clip.text, clip.language))


def test_where_nothing_needs_repair_the_answer_is_the_stock_packages_own(ours: QwenAligner, clips: list[TimedClip]) -> None:
    stock = StockAligner(ALIGNER)
    n_compared = 0
    for clip in clips:
        (said_ms,) = ours.run([ours.prepare(clip.samples, clip.units)])
        if list(said_ms) == sorted(said_ms) and all(said_ms[n] < said_ms[n + 1] for n in range(0, len(said_ms), 2)):
            n_compared += 1
            theirs = stock.align(clip.samples, clip.text, clip.language)
            assert [(unit, round(begin_s * 1000), round(end_s * 1000), False) for unit, begin_s, end_s in theirs] == [
                (unit, time.start_ms, time.end_ms, time.interpolated)
                for unit, time in zip(clip.units, settled(ours, clip), strict=True)
            ]
    assert n_compared >= 3
