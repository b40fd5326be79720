"""Speech without a pause, transcribed by a recogniser that hears nonsense where a word is cut: the words are counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.audio.source import Encoding, SourceFormat
from asr_service.errors import AsrError, EngineRestarting
from asr_service.languages import ENGLISH, LANGUAGES
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority, RecognitionOptions, Samples, SegmentResult, Word, Work
from asr_service.transcriber.job import Completed, Event, Job, Partial, VoiceActivityOptions
from asr_service.transcriber.listener import StretchCaps
from asr_service.transcriber.transcriber import Transcriber

CHINESE = next(known for known in LANGUAGES if known.code == "zh")
RATE = 16_000
_N_WORDS = 80
_QUIETEST = 0.5


def sound(words: Sequence[int]) -> Samples:
    """Word n is `length_of(n)` samples of a level of its own, none of them quiet."""
    return np.concatenate([np.full(length_of(n), _QUIETEST + n / 1000, np.float32) for n in words])


def length_of(word: int) -> int:
    """At most 360 ms: then two whole words lie in an overlap of 1.5 s at least, which is what texts need to agree."""
    return RATE * (200 + word % 5 * 40) // 1000


class Pool:
    """Gives the samples of one source, whatever its bytes are."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    async def decode(self, source: AsyncIterator[bytes], fmt: SourceFormat, *, interactive: bool) -> AsyncGenerator[Samples]:
        async for _ in source:
            pass
        for at in range(0, len(self._samples), RATE):
            yield self._samples[at : at + RATE]


class Listening:
    """Hears whole words, and of words that are cut something else at either edge."""

    def __init__(self, *, times: bool, fails_at: int | None = None) -> None:
        self._times = times
        self._fails_at = fails_at
        self.n_calls = 0

    async def recognize(self, work: Work) -> Hypothesis:
        self.n_calls += 1
        call = self.n_calls
        if work.on_partial is not None:
            work.on_partial(f"partial {call}")
        await asyncio.sleep(0)
        if call == self._fails_at:
            raise EngineRestarting("told to fail")
        words, at = [], 0
        for level, run in groupby(work.speech.samples.tolist()):
            length = len(list(run))
            word = round((level - _QUIETEST) * 1000)
            edge = "begin" if at == 0 else "end"
            text = f"w{word}" if length == length_of(word) else f"{edge}{word}"
            start_ms = work.speech.start_ms + at * 1000 // RATE
            words.append(Word(text, start_ms, start_ms + max(1, length * 1000 // RATE)))
            at += length
        language = ENGLISH if call % 2 else CHINESE
        return Hypothesis(" ".join(w.text for w in words), language, tuple(words) if self._times else ())


async def transcribe(
    samples: Samples, engine: Listening, events: list[Event], *, overlap_ms: int = 1500, partials: bool = False
) -> Completed:
    pool: Any = Pool(samples)
    nothing: Any = None
    recogniser: Any = engine
    caps = StretchCaps(8_000, 16_000, overlap_ms)
    with ThreadPoolExecutor(1) as executor:
        transcriber = Transcriber(pool, nothing, recogniser, Metrics(), executor, caps=caps)
        whole = VoiceActivityOptions(enabled=False)
        raw = SourceFormat(Encoding.PCM_F32LE, RATE)
        job = Job(raw, RecognitionOptions(), whole, Priority.BATCH, 0.0, partials=partials)

        async def emit(event: Event) -> None:
            events.append(event)

        async with aclosing(_no_bytes()) as source:
            return await transcriber.run(source, job, emit)


async def _no_bytes() -> AsyncGenerator[bytes]:
    yield b"."


def said(events: list[Event]) -> list[SegmentResult]:
    return [event.body for event in events if isinstance(event.body, SegmentResult)]


@given(st.lists(st.integers(0, 4), min_size=30, max_size=90))
@settings(max_examples=40, deadline=None)
def test_with_word_times_words_that_repeat_are_all_there_once(spoken: list[int]) -> None:
    events: list[Event] = []
    completed = asyncio.run(transcribe(sound(joined := _apart(spoken)), Listening(times=True), events))

    assert completed.text.split() == [f"w{word}" for word in joined]
    segments = said(events)
    assert [word.text for s in segments for word in s.hypothesis.words] == completed.text.split()
    assert all(a.speech.end_ms == b.speech.start_ms for a, b in pairwise(segments))
    assert (segments[0].speech.start_ms, segments[-1].speech.end_ms) == (0, completed.duration_ms)


@given(st.permutations(range(_N_WORDS)))
@settings(max_examples=40, deadline=None)
def test_without_times_different_words_are_all_there_once(spoken: list[int]) -> None:
    events: list[Event] = []
    engine = Listening(times=False)
    completed = asyncio.run(transcribe(sound(spoken), engine, events))

    assert completed.text.split() == [f"w{word}" for word in spoken]
    assert completed.segment_count == len(said(events)) > 2
    assert completed.engine_calls == engine.n_calls == completed.segment_count  # they agreed at once


def _apart(spoken: list[int]) -> list[int]:
    """Never the same word twice in a row: the stand-in would hear one long word."""
    return [word + 5 * (n % 2) for n, word in enumerate(spoken)]


async def test_without_overlap_words_are_cut() -> None:
    events: list[Event] = []
    completed = await transcribe(sound(range(_N_WORDS)), Listening(times=False), events, overlap_ms=0)

    assert any(word.startswith("end") for word in completed.text.split())


async def test_what_does_not_agree_is_recognised_again_from_the_cut_on() -> None:
    spoken = _apart([0] * 80)  # in circles: nobody knows how often, without times
    overlapped: list[Event] = []
    plain: list[Event] = []
    engine = Listening(times=False)
    completed = await transcribe(sound(spoken), engine, overlapped)
    alone = await transcribe(sound(spoken), Listening(times=False), plain, overlap_ms=0)

    assert completed.text == alone.text
    assert completed.engine_calls == engine.n_calls == 2 * completed.segment_count - 1
    assert [(s.speech.start_ms, s.speech.end_ms) for s in said(overlapped)] == [
        (s.speech.start_ms, s.speech.end_ms) for s in said(plain)
    ]


async def test_what_was_held_is_said_before_a_failure() -> None:
    events: list[Event] = []
    with pytest.raises(AsrError, match="told to fail"):
        await transcribe(sound(range(_N_WORDS)), Listening(times=True, fails_at=3), events)

    assert [s.index for s in said(events)] == [0, 1]


async def test_a_partial_is_of_the_first_segment_that_was_not_said() -> None:
    events: list[Event] = []
    await transcribe(sound(range(_N_WORDS)), Listening(times=True), events, partials=True)

    n_said = 0
    for event in events:
        n_said += isinstance(event.body, SegmentResult)
        if isinstance(event.body, Partial):
            assert event.body.index == n_said


async def test_each_segment_keeps_the_language_it_was_heard_in() -> None:
    events: list[Event] = []
    completed = await transcribe(sound(range(_N_WORDS)), Listening(times=True), events)

    languages = [s.hypothesis.language for s in said(events)]
    assert languages[:3] == [ENGLISH, CHINESE, ENGLISH]
    assert completed.language in (ENGLISH, CHINESE)
