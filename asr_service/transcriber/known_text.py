"""A recording and what is said in it, to words with times.

What is short enough is aligned at once. Of anything longer the stretches of speech are recognised first; what was heard in each
says which part of the text belongs to it (see decoding.anchors), and each is aligned with its own part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic

import numpy as np

from asr_service.audio.pool import DecodePool
from asr_service.audio.source import SourceFormat
from asr_service.decoding.anchors import divide
from asr_service.decoding.units import Unit, cut_units, needs_tokeniser
from asr_service.engine.aligner import Aligner, Alignment
from asr_service.errors import AudioEmpty, AudioTooLarge, InvalidValue
from asr_service.languages import Language
from asr_service.request import (
    SAMPLE_RATE,
    Priority,
    RecognitionOptions,
    Samples,
    SegmentResult,
    Speech,
    Word,
    WorkIds,
    samples_to_ms,
)
from asr_service.transcriber.job import Event, Job, StageTimes, VoiceActivityOptions
from asr_service.transcriber.transcriber import Transcriber

MAX_SECONDS = 3600
"""All of a recording is in memory until its words are known."""


@dataclass(frozen=True, slots=True)
class KnownText:
    """What is to be aligned, and with what patience. Times are of the monotonic clock."""

    audio: bytes
    format: SourceFormat
    text: str
    language: Language
    arrival_s: float
    deadline_s: float


@dataclass(slots=True)
class Aligned:
    """Every word of the text. `align_s`: from the first stretch that was given to the aligner to the last answer."""

    words: tuple[Word, ...]
    duration_ms: int
    speech_ms: int
    engine_calls: int
    align_s: float
    times: StageTimes = field(default_factory=StageTimes)


class TextAligner:
    """Aligns known texts by `aligner`; long recordings go through `transcriber` first."""

    def __init__(self, pool: DecodePool, transcriber: Transcriber, aligner: Aligner, ids: WorkIds) -> None:
        self._pool = pool
        self._transcriber = transcriber
        self._aligner = aligner
        self._ids = ids

    @property
    def aligner(self) -> Aligner:
        return self._aligner

    async def align(self, known: KnownText) -> Aligned:
        """Raises what decoding, the engine and Aligner.align raise; InvalidValue for a text or a recording without words."""
        self._aligner.info.check_language(known.language)
        units = cut_units(known.text, list if needs_tokeniser(known.language) else None)
        if not units:
            raise InvalidValue.of("text", "no words in it")
        times = StageTimes()
        began_s = monotonic()
        samples = await self._decode(known)
        times.decode_s = monotonic() - began_s
        speeches, texts, n_calls = [Speech(samples, 0)], [known.text], 0
        if speeches[0].duration_ms > self._aligner.info.reach_ms:
            speeches, texts, n_calls = await self._stretches(known, units, times)
        align_began_s = monotonic()
        words = await self._align_all(known, speeches, texts)
        align_s, times.total_s = monotonic() - align_began_s, monotonic() - known.arrival_s
        speech_ms = sum(speech.duration_ms for speech in speeches)
        return Aligned(tuple(in_order(words)), samples_to_ms(len(samples)), speech_ms, n_calls, align_s, times)

    async def _decode(self, known: KnownText) -> Samples:
        blocks: list[Samples] = []
        n_samples = 0
        async with aclosing(self._pool.decode(_once(known.audio), known.format, interactive=True)) as decoded:
            async for block in decoded:
                blocks.append(block)
                n_samples += len(block)
                if n_samples > MAX_SECONDS * SAMPLE_RATE:
                    raise AudioTooLarge(f"audio: longer than {MAX_SECONDS} s (limit {MAX_SECONDS} s for a known text)")
        if not n_samples:
            raise AudioEmpty("audio: no samples in it")
        return np.concatenate(blocks)

    async def _stretches(
        self, known: KnownText, units: tuple[Unit, ...], times: StageTimes
    ) -> tuple[list[Speech], list[str], int]:
        """Stretches of speech, the part of the text of each, and how often the engine was called."""
        found: list[SegmentResult] = []

        async def collect(event: Event) -> None:
            if isinstance(event.body, SegmentResult) and event.body.hypothesis.text:
                found.append(event.body)

        options = RecognitionOptions(language=known.language)
        vad = VoiceActivityOptions()
        job = Job(known.format, options, vad, Priority.INTERACTIVE, known.arrival_s, known.deadline_s)
        completed = await self._transcriber.run(_once(known.audio), job, collect)
        times.queue_s, times.recognize_s = completed.times.queue_s, completed.times.recognize_s
        times.voice_activity_s = completed.times.voice_activity_s
        if not found:
            raise InvalidValue.of("audio", "no speech was heard in it")
        tokenise = list if needs_tokeniser(known.language) else None
        heard = [[unit.text for unit in cut_units(result.hypothesis.text, tokenise)] for result in found]
        parts = await asyncio.to_thread(divide, [unit.text for unit in units], heard)
        kept = [(result.speech, part) for result, part in zip(found, parts, strict=True) if part]
        texts = [known.text[units[part[0]].word_start : units[part[-1]].word_end] for _, part in kept]
        return [speech for speech, _ in kept], texts, completed.engine_calls

    async def _align_all(self, known: KnownText, speeches: list[Speech], texts: list[str]) -> list[Word]:
        wanted = [
            Alignment(self._ids.take(), speech, text, known.language, Priority.INTERACTIVE, known.arrival_s, known.deadline_s)
            for speech, text in zip(speeches, texts, strict=True)
        ]
        tasks = [asyncio.create_task(self._aligner.align(alignment)) for alignment in wanted]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del tasks, wanted  # a failed task and this frame would hold each other, and the samples, until the collector runs
        return [word for words in answers for word in words]


def in_order(words: Iterable[Word]) -> Iterable[Word]:
    """The words of stretches that may touch, none before the one before it has ended."""
    end_ms = 0
    for word in words:
        start_ms = max(end_ms, word.start_ms)
        end_ms = max(start_ms + 1, word.end_ms)
        yield replace(word, start_ms=start_ms, end_ms=end_ms)


async def _once(audio: bytes) -> AsyncIterator[bytes]:
    yield audio
