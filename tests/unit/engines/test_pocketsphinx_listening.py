"""The embedded engine listening to speech that grows: decisions are exact, guesses are cheap, and nobody's ear is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from asr_service.engine.slots import SlotEngine
from asr_service.engines.pocketsphinx import PocketsphinxRunner, pocketsphinx_engine
from asr_service.engines.pocketsphinx_decoder import SphinxDecoder
from asr_service.engines.pocketsphinx_listener import SphinxListener
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority, Samples, Work
from tests.real_audio import real_clip, word_errors
from tests.unit.engine.works import Works, until
from tests.unit.engines.test_pocketsphinx import SAMPLE, SAMPLE_TEXT, read

HALF_A_SECOND = 8_000


@asynccontextmanager
async def running(slots: int) -> AsyncIterator[SlotEngine]:
    chosen = pocketsphinx_engine("a test", slots=slots, queue_capacity=64, idle_timeout_s=0.0, metrics=Metrics())
    await chosen.start()
    try:
        yield chosen
    finally:
        await chosen.stop()


@pytest.fixture(scope="module")
def sample() -> Samples:
    return read(SAMPLE)


@pytest.fixture(scope="module")
def pcm(sample: Samples) -> bytes:
    return (sample * 32767).round().astype("<i2").tobytes()


@pytest.fixture(scope="module")
def decoder() -> SphinxDecoder:
    return SphinxDecoder()


@pytest.fixture(scope="module")
def listener(decoder: SphinxDecoder) -> SphinxListener:
    return SphinxListener(decoder)


def guess_of(works: Works, samples: Samples) -> Work:
    return works.make(samples, priority=Priority.GUESS)


def said(hypothesis: Hypothesis) -> tuple[object, ...]:
    return hypothesis.text, hypothesis.words, hypothesis.confidence, hypothesis.alternatives


@pytest.mark.parametrize("name", ["the sample", "librivox-0880.wav", "librivox-0890.wav"])
async def test_a_decision_after_any_guesses_is_what_recognize_says_word_for_word(name: str, sample: Samples) -> None:
    samples = sample if name == "the sample" else read(real_clip(name))
    works, chance = Works(), np.random.default_rng(len(samples))
    async with running(slots=1) as engine:
        exact = {end: said(await engine.recognize(works.make(samples[:end]))) for end in (len(samples) // 2, len(samples))}
        listening = engine.listen()
        ends = [*chance.integers(400, len(samples), 8), *exact]
        for end in sorted(ends):
            await listening.guess(guess_of(works, samples[:end]))
            if end in exact:
                assert said(await listening.decide(works.make(samples[:end]))) == exact[end]


async def test_guesses_grow_with_the_speech_and_have_times_but_no_confidence(sample: Samples) -> None:
    works = Works()
    async with running(slots=1) as engine:
        listening = engine.listen()
        guesses = [
            await listening.guess(guess_of(works, sample[:end]))
            for end in range(HALF_A_SECOND, len(sample) + HALF_A_SECOND, HALF_A_SECOND)
        ]

    n_words = [len(guess.words) for guess in guesses]
    n_errors, _ = word_errors(SAMPLE_TEXT, guesses[-1].text)
    assert n_errors <= 2
    assert n_words[-1] > n_words[len(n_words) // 2] > 0
    assert guesses[-1].text == " ".join(word.text for word in guesses[-1].words)
    assert all(0 <= word.start_ms < word.end_ms <= len(sample) // 16 for word in guesses[-1].words)
    assert {word.confidence for word in guesses[-1].words} == {None}
    assert guesses[-1].confidence is None
    assert guesses[-1].language == ENGLISH


async def test_an_ear_hears_each_stretch_as_if_it_were_the_first(sample: Samples) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.2, 32_000).astype(np.float32)
    works = Works()
    async with running(slots=1) as engine:
        texts = []
        for before in (None, noise, sample[20_000:] * 0.1):
            listening = engine.listen()
            if before is not None:
                await listening.guess(guess_of(works, before))
            for end in (40_000, 60_000, len(sample)):
                guess = await listening.guess(guess_of(works, sample[:end]))
            texts.append(said(guess))
            listening.close()

    assert texts[1] == texts[0]
    assert texts[2] == texts[0]


async def test_more_listen_at_once_than_there_are_ears_and_each_hears_its_own(sample: Samples) -> None:
    works = Works()
    async with running(slots=2) as engine:
        parts = [sample[offset : offset + 32_000] for offset in range(0, 12_000, 2_000)]
        listenings = [engine.listen() for _ in parts]
        for end in (16_000, 24_000):
            await asyncio.gather(*(one.guess(guess_of(works, part[:end])) for one, part in zip(listenings, parts, strict=True)))
        assert sorted(slot.n_lent for slot in engine._slots) == [2, 2]
        decided = await asyncio.gather(*(one.decide(works.make(part)) for one, part in zip(listenings, parts, strict=True)))
        exact = await asyncio.gather(*(engine.recognize(works.make(part)) for part in parts))
        for listening in listenings:
            listening.close()

        assert [said(one) for one in decided] == [said(one) for one in exact]
        assert [slot.n_lent for slot in engine._slots] == [0, 0]


async def test_a_guess_that_is_cancelled_while_it_runs_costs_no_process_and_what_it_heard_is_kept(sample: Samples) -> None:
    works = Works()
    async with running(slots=1) as engine:
        runner = engine._slots[0].runner
        assert isinstance(runner, PocketsphinxRunner)
        listening, plain = engine.listen(), engine.listen()
        await listening.guess(guess_of(works, sample[:HALF_A_SECOND]))
        pid = runner.pid
        for end in (40_000, 60_000, 80_000):
            guess = asyncio.create_task(listening.guess(guess_of(works, sample[:end])))
            await until(lambda: engine.load.running == 1)
            guess.cancel()
            with pytest.raises(asyncio.CancelledError):
                await guess
        last = await listening.guess(guess_of(works, sample))
        for end in (HALF_A_SECOND, 40_000, 60_000, 80_000, len(sample)):
            expected = await plain.guess(guess_of(works, sample[:end]))

        assert runner.pid == pid
        assert word_errors(expected.text, last.text)[0] <= 2
        assert (await engine.recognize(works.make(sample))).text == SAMPLE_TEXT


async def test_a_guess_after_the_process_has_died_hears_everything_again(sample: Samples) -> None:
    works = Works()
    async with running(slots=1) as engine:
        runner = engine._slots[0].runner
        listening = engine.listen()
        await listening.guess(guess_of(works, sample[:40_000]))
        await runner.stop()
        again = await listening.guess(guess_of(works, sample))

        assert word_errors(SAMPLE_TEXT, again.text)[0] <= 2


class StopNowError(Exception):
    pass


def test_each_byte_is_decoded_once(listener: SphinxListener, pcm: bytes) -> None:
    blocks: list[int] = []
    start = 0
    for end in range(16_000, len(pcm), 16_000):
        answer = listener.hear(pcm[start:end], start=start, is_new=start == 0, between_blocks=lambda: blocks.append(1))
        start = answer["heard"]
        assert start == end

    assert len(blocks) == len(pcm) // 16_000 * 5


def test_what_an_aborted_guess_has_decoded_is_skipped_by_the_next(listener: SphinxListener, pcm: bytes) -> None:
    blocks: list[int] = []

    def stop_at_the_fourth() -> None:
        blocks.append(1)
        if len(blocks) == 4:
            raise StopNowError

    with pytest.raises(StopNowError):
        listener.hear(pcm[:32_000], start=0, is_new=True, between_blocks=stop_at_the_fourth)
    blocks.clear()
    answer = listener.hear(pcm[:48_000], start=0, is_new=False, between_blocks=lambda: blocks.append(1))

    assert answer["heard"] == 48_000
    assert len(blocks) == 15 - 3


def test_a_piece_too_short_to_measure_waits_for_the_next(listener: SphinxListener, pcm: bytes) -> None:
    first = listener.hear(pcm[:1000], start=0, is_new=True, between_blocks=lambda: None)
    empty = listener.hear(b"", start=0, is_new=False, between_blocks=lambda: None)
    second = listener.hear(pcm[:2000], start=0, is_new=False, between_blocks=lambda: None)
    third = listener.hear(pcm[2000:3000], start=2000, is_new=False, between_blocks=lambda: None)

    assert [answer["heard"] for answer in (first, empty, second, third)] == [0, 0, 2000, 2000]
    assert (first["text"], first["words"]) == ("", [])
