"""The whole engine on the trained checkpoint: right words, and the same tokens whatever else goes on."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from asr_service.errors import EngineMemory
from asr_service.languages import parse_language
from asr_service.request import SAMPLE_RATE, Phrase, Priority, Quality, RecognitionOptions, Samples
from tests.model.engines import started, value
from tests.model.sounds import Spoken, error_rate, joined, spoken_clips, units
from tests.real_audio import word_errors
from tests.unit.engine.works import Works, until

LANGUAGE_CODES = ("en", "de", "es", "zh")


@pytest.fixture(scope="module")
def clean() -> list[Spoken]:
    return spoken_clips("clean")


def long_speech(clips: list[Spoken], language: str, least_s: float) -> tuple[Samples, str]:
    """Clips of one language, joined with pauses until they are long enough, and their text."""
    chosen: list[Spoken] = []
    spoken = [clip for clip in clips if clip.language == language]
    while sum(len(clip.samples) for clip in chosen) < least_s * SAMPLE_RATE:
        chosen.append(spoken[len(chosen) % len(spoken)])
    return joined(chosen), " ".join(units(clip.text, language) for clip in chosen)


async def test_held_out_speech_is_read_right_in_each_language(
    small_folder: Path, clean: list[Spoken], capsys: pytest.CaptureFixture[str]
) -> None:
    works = Works()
    async with started(small_folder) as (engine, _):
        heard = await asyncio.gather(*(engine.recognize(works.make(clip.samples)) for clip in clean))

    texts = [hypothesis.text for hypothesis in heard]
    rates = {}
    for language in dict.fromkeys(clip.language for clip in clean):
        of_language = [index for index, clip in enumerate(clean) if clip.language == language]
        rates[language] = error_rate([clean[index] for index in of_language], [texts[index] for index in of_language])
    with capsys.disabled():
        print("\nerrors on held-out clips:", ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items()), end="")  # noqa: T201
    assert all(rate <= 0.06 for rate in rates.values())
    named = [hypothesis.language.name if hypothesis.language else "" for hypothesis in heard]
    assert sum(name == clip.language for name, clip in zip(named, clean, strict=True)) >= len(clean) - 1
    assert all(hypothesis.tokens is not None and hypothesis.confidence is not None for hypothesis in heard)


async def test_half_a_minute_in_one_piece_is_mostly_right_and_never_cut_short(
    small_folder: Path, clean: list[Spoken], capsys: pytest.CaptureFixture[str]
) -> None:
    """A small model's limit, not the engine's: tests/training/README.md has its errors by length."""
    works, rates = Works(), {}
    async with started(small_folder) as (engine, _):
        for language in ("English", "German", "Spanish", "Chinese"):
            samples, text = long_speech(clean, language, 32.0)
            hypothesis = await engine.recognize(works.make(samples))
            errors, n_units = word_errors(text, units(hypothesis.text, language))
            rates[language] = errors / n_units
            assert Quality.TRUNCATED not in hypothesis.flags
            assert hypothesis.language is not None
            assert hypothesis.language.name == language
    with capsys.disabled():
        print("\nerrors in 32 s at once:", ", ".join(f"{name} {rate:.0%}" for name, rate in rates.items()), end="")  # noqa: T201
    assert all(rate <= 0.5 for rate in rates.values())


async def test_silence_and_noise_say_nothing(small_folder: Path) -> None:
    works = Works()
    sounds = [*(clip.samples for clip in spoken_clips("no-speech")), np.zeros(100, np.float32), np.zeros(0, np.float32)]
    async with started(small_folder) as (engine, _):
        heard = [await engine.recognize(works.make(samples)) for samples in sounds]

    assert [(hypothesis.text, hypothesis.language) for hypothesis in heard] == [("", None)] * len(sounds)


async def test_honest_repeats_are_kept(small_folder: Path) -> None:
    works = Works()
    clips = spoken_clips("repeats")
    async with started(small_folder) as (engine, _):
        heard = [await engine.recognize(works.make(clip.samples)) for clip in clips]

    for clip, hypothesis in zip(clips, heard, strict=True):
        errors, _ = word_errors(units(clip.text, clip.language), units(hypothesis.text, clip.language))
        assert errors <= 1
        assert not hypothesis.flags


async def test_a_language_can_be_forced_and_the_choice_be_narrowed(small_folder: Path, clean: list[Spoken]) -> None:
    works = Works()
    by_code = {code: language for code in LANGUAGE_CODES if (language := parse_language(code))}
    english, german, spanish, chinese = (by_code[code] for code in LANGUAGE_CODES)
    clip = next(clip for clip in clean if clip.language == "German")
    async with started(small_folder) as (engine, _):
        forced = await engine.recognize(works.make(clip.samples, options=RecognitionOptions(language=german)))
        among = RecognitionOptions(candidate_languages=(german, chinese))
        narrowed = await engine.recognize(works.make(clip.samples, options=among))
        others = RecognitionOptions(candidate_languages=(english, spanish))
        misled = await engine.recognize(works.make(clip.samples, options=others))

    assert error_rate([clip, clip], [forced.text, narrowed.text]) <= 0.2
    assert forced.language == narrowed.language == german
    assert misled.language in (english, spanish, None)


async def test_a_context_that_nobody_spoke_never_becomes_the_transcript(small_folder: Path) -> None:
    works = Works()
    options = RecognitionOptions(context="kitchen bedroom coffee garden", phrases=(Phrase("open the door"),))
    async with started(small_folder) as (engine, _):
        for clip in spoken_clips("no-speech"):
            assert (await engine.recognize(works.make(clip.samples, options=options))).text == ""


async def test_sampling_is_reproducible_and_zero_is_greedy(small_folder: Path, clean: list[Spoken]) -> None:
    options = RecognitionOptions(temperature=1.0)
    texts = []
    for _ in range(2):
        works = Works()
        async with started(small_folder) as (engine, _):
            sampled = [await engine.recognize(works.make(clip.samples, options=options)) for clip in clean[:4]]
            texts.append([hypothesis.text for hypothesis in sampled])

    assert texts[0] == texts[1]


async def test_the_same_request_gives_the_same_tokens_alone_and_in_a_crowd_that_comes_and_goes(
    small_folder: Path, clean: list[Spoken]
) -> None:
    rng = random.Random(5)  # noqa: S311
    works = Works()
    sounds = [*(clip.samples for clip in clean[::3]), *(joined(clean[start : start + 5]) for start in (0, 14, 24))]
    async with started(small_folder) as (engine, _):
        alone = [(await engine.attempt(works.make(samples))).reply.ids for samples in sounds]
    async with started(small_folder, max_batch=16, step_tokens=96, encode_windows=2) as (engine, metrics):
        priorities = list(Priority)

        async def stranger(index: int) -> None:
            samples = sounds[rng.randrange(len(sounds))]
            task = asyncio.create_task(engine.attempt(works.make(samples, priority=priorities[index % 3])))
            if index % 2:
                steps = value(metrics, "asr_engine_steps_total")
                await until(lambda: task.done() or value(metrics, "asr_engine_steps_total") > steps + index % 7)
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        strangers = [asyncio.create_task(stranger(index)) for index in range(24)]
        crowded = await asyncio.gather(
            *(engine.attempt(works.make(samples, priority=rng.choice(priorities))) for samples in sounds)
        )
        await asyncio.gather(*strangers)
        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0)

    assert [attempt.reply.ids for attempt in crowded] == alone


async def test_who_loses_the_cache_to_a_more_urgent_request_says_the_same_in_the_end(
    small_folder: Path, clean: list[Spoken]
) -> None:
    works = Works()
    long, _ = long_speech(clean, "English", 28.0)
    async with started(small_folder, kv_cache_mib=2, step_tokens=64) as (engine, metrics):
        alone = await engine.attempt(works.make(long, priority=Priority.BATCH))
        bulk = [asyncio.create_task(engine.attempt(works.make(long, priority=Priority.BATCH))) for _ in range(3)]
        await until(lambda: value(metrics, "asr_engine_tokens_total", kind="decode") > len(alone.reply.ids) + 6)
        live = [engine.attempt(works.make(long, priority=Priority.REALTIME)) for _ in range(2)]
        answers = await asyncio.gather(*live, *bulk)

        assert value(metrics, "asr_engine_evictions_total") > 0
    assert all(answer.reply.ids == alone.reply.ids for answer in answers)


async def test_a_segment_that_could_never_fit_is_refused_at_once(small_folder: Path, clean: list[Spoken]) -> None:
    long, _ = long_speech(clean, "English", 58.0)
    async with started(small_folder, kv_cache_mib=1) as (engine, _):
        with pytest.raises(EngineMemory):
            await engine.recognize(Works().make(long))
        assert (await engine.recognize(Works().make(clean[0].samples))).text


async def test_an_idle_model_is_unloaded_and_comes_back_with_the_next_request(small_folder: Path, clean: list[Spoken]) -> None:
    works = Works()
    async with started(small_folder, idle_timeout_s=0.05) as (engine, metrics):
        first = await engine.recognize(works.make(clean[0].samples))
        await until(lambda: value(metrics, "asr_engine_loaded") == 0)
        again = await engine.recognize(works.make(clean[0].samples))

        assert value(metrics, "asr_engine_loaded") == 1
    assert first.text == again.text != ""


async def test_a_step_that_fails_costs_nothing_but_its_time(small_folder: Path, clean: list[Spoken]) -> None:
    works = Works()
    texts = []
    for failpoints in ("", "model.step=error*1"):
        async with started(small_folder, failpoints=failpoints) as (engine, _):
            heard = await asyncio.gather(*(engine.recognize(works.make(clip.samples)) for clip in clean[:3]))
            texts.append([hypothesis.text for hypothesis in heard])

    assert texts[0] == texts[1]


async def test_a_reply_cut_by_the_users_limit_says_so(small_folder: Path, clean: list[Spoken]) -> None:
    async with started(small_folder) as (engine, _):
        whole = await engine.recognize(Works().make(clean[0].samples))
    async with started(small_folder, max_new_tokens=5) as (engine, _):
        hypothesis = await engine.recognize(Works().make(clean[0].samples))

    assert hypothesis.flags == {Quality.TRUNCATED}
    assert whole.text.startswith(hypothesis.text)
    assert whole.text != hypothesis.text
