"""The words of finals that came without."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from asr_service.engine.aligner import AlignerInfo, Alignment
from asr_service.errors import FeatureUnavailable
from asr_service.languages import ENGLISH, Language
from asr_service.live.events import Refined
from asr_service.live.refining import MAX_AT_ONCE, Refining
from asr_service.request import SAMPLE_RATE, Hypothesis, SegmentResult, Speech, Word, WorkIds

GERMAN = Language("de", "German")


class Aligner:
    """Answers when it may; `failure` is what it answers with instead."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.info = AlignerInfo("test", "test", "cpu", (ENGLISH,), reach_ms=60_000)
        self.failure = failure
        self.wanted: list[Alignment] = []
        self.may = asyncio.Event()

    async def align(self, wanted: Alignment) -> tuple[Word, ...]:
        self.wanted.append(wanted)
        await self.may.wait()
        if self.failure is not None:
            raise self.failure
        return (Word(wanted.text, wanted.speech.start_ms, wanted.speech.end_ms),)


class Told:
    """What a session hears."""

    def __init__(self, aligner: Aligner | None) -> None:
        self.events: list[Refined | None] = []
        self.refining = Refining(aligner, WorkIds(), None, self._tell)
        self._news = asyncio.Event()

    def _tell(self, event: Refined | None) -> None:
        self.events.append(event)
        self._news.set()

    async def wait(self, n: int) -> list[Refined | None]:
        async with asyncio.timeout(10):
            while len(self.events) < n:
                self._news.clear()
                await self._news.wait()
        return self.events


def final(
    index: int = 0, text: str = "hello", language: Language | None = ENGLISH, seconds: int = 1, words: tuple[Word, ...] = ()
) -> SegmentResult:
    speech = Speech(np.zeros(seconds * SAMPLE_RATE, np.float32), 3000)
    return SegmentResult(index, speech, Hypothesis(text, language, words))


async def test_a_final_without_words_gets_them() -> None:
    aligner = Aligner()
    told = Told(aligner)
    told.refining.refine(final(7))
    assert told.refining.is_busy
    aligner.may.set()
    assert await told.wait(1) == [Refined(7, (Word("hello", 3000, 4000),))]
    assert not told.refining.is_busy


@pytest.mark.parametrize(
    "result",
    [final(text=""), final(language=GERMAN), final(language=None), final(seconds=61), final(words=(Word("hello", 0, 1),))],
    ids=["no text", "another language", "no language", "too long", "has words"],
)
async def test_others_need_none_or_cannot_have_any(result: SegmentResult) -> None:
    told = Told(Aligner())
    told.refining.refine(result)
    assert not told.refining.is_busy


async def test_without_an_aligner_nothing_happens() -> None:
    told = Told(None)
    told.refining.refine(final())
    assert not told.refining.is_busy


@pytest.mark.parametrize("failure", [FeatureUnavailable("no room"), ZeroDivisionError()])
async def test_a_failure_costs_the_words_and_nothing_else(failure: Exception) -> None:
    aligner = Aligner(failure)
    told = Told(aligner)
    told.refining.refine(final())
    aligner.may.set()
    assert await told.wait(1) == [None]


async def test_the_sound_of_few_finals_is_kept() -> None:
    aligner = Aligner()
    told = Told(aligner)
    for index in range(MAX_AT_ONCE + 2):
        told.refining.refine(final(index))
    aligner.may.set()
    events = await told.wait(MAX_AT_ONCE)
    assert sorted(event.utterance for event in events if event is not None) == list(range(MAX_AT_ONCE))
    assert len(aligner.wanted) == MAX_AT_ONCE


async def test_after_the_end_nothing_is_told() -> None:
    aligner = Aligner()
    told = Told(aligner)
    told.refining.refine(final())
    await asyncio.sleep(0)
    await told.refining.close()
    assert not told.refining.is_busy
    assert told.events == []
