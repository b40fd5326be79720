"""A stretch that is recognised while it grows comes out as if it had been recognised once, when it is over."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from asr_service.engine.step_engine import StepEngine
from asr_service.languages import parse_language
from asr_service.model.runner import ModelRunner, WorkCounters
from asr_service.request import SAMPLE_RATE, Hypothesis, Phrase, Priority, RecognitionOptions, Samples
from tests.model.engines import started, value
from tests.model.random_checkpoint import Shape, write_random_checkpoint
from tests.model.sounds import Spoken, joined, lively, spoken_clips
from tests.unit.engine.works import Works, until


@pytest.fixture(scope="module")
def clean() -> list[Spoken]:
    return spoken_clips("clean")


@dataclass
class Follower:
    """Listens to stretches while they grow by random steps, and now and then decides in between. Each decision must be what the
    engine says of the same samples at once."""

    engine: StepEngine
    seed: int
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    decides: float = 0.1
    works: Works = field(default_factory=Works)
    n_decisions: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311

    async def follow(self, samples: Samples, *, shortest_s: float = 0.3, longest_s: float = 2.0) -> None:
        listening = self.engine.listen()
        for part in self._growing(samples, shortest_s, longest_s):
            if len(part) == len(samples) or self.rng.random() < self.decides:
                work = self.works.make(part, priority=Priority.REALTIME, options=self.options)
                decision = await listening.decide(work)
                assert_same(decision, await self.engine.recognize(work))
                self.n_decisions += 1
            else:
                await listening.guess(self.works.make(part, priority=Priority.GUESS, options=self.options))
        listening.close()

    def _growing(self, samples: Samples, shortest_s: float, longest_s: float) -> Iterator[Samples]:
        """Ever longer beginnings, the whole of it last."""
        n = 0
        while n < len(samples):
            n = min(len(samples), n + round(self.rng.uniform(shortest_s, longest_s) * SAMPLE_RATE))
            yield samples[:n]


def assert_same(one: Hypothesis, other: Hypothesis) -> None:
    """In all but times; the confidence to what rounding leaves of it."""
    assert (one.text, one.language, one.flags, one.tokens) == (other.text, other.language, other.flags, other.tokens)
    assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


def counters(engine: StepEngine) -> WorkCounters:
    assert isinstance(engine._model, ModelRunner)
    return engine._model.counters


def composites(clips: list[Spoken], n: int, seed: int, longest_s: float = 26.0) -> Iterator[Samples]:
    """Clips joined to 9 s and more, at levels that jump."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        least = round(rng.uniform(9.0, longest_s) * SAMPLE_RATE)
        parts: list[Samples] = [np.zeros(int(rng.integers(0, 2 * SAMPLE_RATE)), np.float32)]
        while sum(map(len, parts)) < least:
            gain = np.float32(10.0 ** (rng.uniform(-50.0, 0.0) / 20))
            parts.append(joined([clips[rng.integers(len(clips))]]) * gain)
        yield np.concatenate(parts)


async def test_short_utterances_are_decided_as_if_heard_at_once(small_folder: Path, clean: list[Spoken]) -> None:
    async with started(small_folder) as (engine, metrics):
        follower = Follower(engine, seed=1)
        for clip in clean[::2]:
            await follower.follow(clip.samples)

    confirmed = value(metrics, "asr_engine_draft_tokens_total", outcome="confirmed")
    rejected = value(metrics, "asr_engine_draft_tokens_total", outcome="rejected")
    assert confirmed > 5 * rejected > 0
    assert counters(engine).moved_tokens == 0, "nothing is kept of what has no closed window"


async def test_clips_below_a_second_and_below_what_the_model_takes(small_folder: Path, clean: list[Spoken]) -> None:
    rng = np.random.default_rng(2)
    async with started(small_folder) as (engine, _):
        follower = Follower(engine, seed=2, decides=0.4)
        for clip in clean[::2]:
            n, start = int(rng.integers(100, 17_000)), int(rng.integers(0, len(clip.samples) // 2))
            await follower.follow(clip.samples[start : start + n], shortest_s=0.005, longest_s=0.3)


async def test_long_utterances_whose_level_jumps(small_folder: Path, clean: list[Spoken]) -> None:
    async with started(small_folder) as (engine, metrics):
        follower = Follower(engine, seed=3)
        for samples in composites(clean, 8, seed=3):
            await follower.follow(samples)

        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0)
    assert value(metrics, "asr_engine_renewed_windows_total") > 0
    assert counters(engine).moved_tokens > 0


async def test_streams_side_by_side_in_a_cache_too_small_for_what_they_keep(small_folder: Path, clean: list[Spoken]) -> None:
    async with started(small_folder, kv_cache_mib=1, step_tokens=96) as (engine, metrics):
        followers = [Follower(engine, seed, decides=0.2) for seed in range(10, 14)]
        stretches = list(composites(clean, 8, seed=4, longest_s=14.0))
        strangers = [
            asyncio.create_task(engine.recognize(Works().make(joined(clean[n : n + 4]), priority=Priority.BATCH)))
            for n in range(0, len(clean), 4)
        ]
        for first in range(0, len(stretches), len(followers)):
            await asyncio.gather(*(one.follow(samples) for one, samples in zip(followers, stretches[first:], strict=False)))
        await asyncio.gather(*strangers)

        assert value(metrics, "asr_engine_evictions_total") > 0
        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0)


async def test_options_hold_along_the_draft(small_folder: Path, clean: list[Spoken]) -> None:
    english, german, chinese = (language for code in ("en", "de", "zh") if (language := parse_language(code)))
    choices = [
        RecognitionOptions(language=german),
        RecognitionOptions(candidate_languages=(english, chinese)),
        RecognitionOptions(candidate_languages=(german,), phrases=(Phrase("door"),)),
        RecognitionOptions(context="kitchen bedroom coffee garden"),
    ]
    async with started(small_folder) as (engine, _):
        for seed, options in enumerate(choices):
            follower = Follower(engine, 20 + seed, options, decides=0.3)
            for clip in clean[seed::6]:
                await follower.follow(clip.samples)


async def test_options_may_change_between_rounds(small_folder: Path, clean: list[Spoken]) -> None:
    german, chinese = (language for code in ("de", "zh") if (language := parse_language(code)))
    (samples,) = composites(clean, 1, seed=5, longest_s=12.0)
    works = Works()
    async with started(small_folder) as (engine, _):
        listening = engine.listen()
        await listening.guess(works.make(samples[: 8 * SAMPLE_RATE + 100]))
        for options in (
            RecognitionOptions(language=german),
            RecognitionOptions(language=chinese),
            RecognitionOptions(context="garden"),
        ):
            work = works.make(samples, options=options)
            assert_same(await listening.decide(work), await engine.recognize(work))
        listening.close()


@pytest.mark.parametrize("window_s", [1, 4])
async def test_live_speech_may_have_shorter_windows(
    small_folder: Path, clean: list[Spoken], tmp_path: Path, window_s: int
) -> None:
    """Then it is decided as by a checkpoint that has such windows."""
    other = tmp_path / "checkpoint"
    shutil.copytree(small_folder, other)
    config = json.loads((other / "config.json").read_text())
    config["thinker_config"]["audio_config"]["n_window_infer"] = 100 * window_s
    (other / "config.json").write_text(json.dumps(config))
    works = Works()
    async with started(small_folder, live_window_s=window_s) as (engine, _), started(other) as (oracle, _):
        for samples in (clean[0].samples, *composites(clean, 2, seed=8, longest_s=12.0)):
            listening = engine.listen()
            for n in range(3 * SAMPLE_RATE // 2, len(samples), 3 * SAMPLE_RATE // 2):
                await listening.guess(works.make(samples[:n]))
            work = works.make(samples)
            attempt = await oracle.attempt(work)
            assert (await listening.decide(work)).text == attempt.reply.text
            listening.close()
        assert counters(engine).moved_tokens > 0


async def test_a_stretch_that_ends_earlier_or_is_another_is_heard_anew(small_folder: Path, clean: list[Spoken]) -> None:
    works = Works()
    one, other = composites(clean, 2, seed=6, longest_s=14.0)
    half = len(one) // 2
    async with started(small_folder) as (engine, _):
        listening = engine.listen()
        for samples in (one, one[: -SAMPLE_RATE // 2], one[:half], one[:3000], other, np.concatenate((one[:half], other)), one):
            for hear in (listening.guess, listening.decide):
                work = works.make(samples)
                hypothesis = await hear(work)
            assert_same(hypothesis, await engine.recognize(work))
        listening.close()


async def test_rounds_that_are_given_up_leave_nothing_wrong_behind(small_folder: Path, clean: list[Spoken]) -> None:
    rng, works = random.Random(7), Works()  # noqa: S311
    async with started(small_folder, step_tokens=32) as (engine, metrics):
        for samples in composites(clean, 4, seed=7, longest_s=12.0):
            listening = engine.listen()
            for n in range(SAMPLE_RATE, len(samples), SAMPLE_RATE):
                steps = value(metrics, "asr_engine_steps_total") + rng.randint(0, 8)
                call = listening.decide if rng.random() < 0.3 else listening.guess
                task = asyncio.create_task(call(works.make(samples[:n])))
                if rng.random() < 0.6:
                    await until(lambda: task.done() or value(metrics, "asr_engine_steps_total") >= steps)  # noqa: B023
                    task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            work = works.make(samples)
            assert_same(await listening.decide(work), await engine.recognize(work))
            listening.close()
        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0)


async def test_text_that_never_stands_still_is_decided_right(
    tmp_path_factory: pytest.TempPathFactory, small_folder: Path
) -> None:
    """With random weights hardly a token of a draft is right."""
    folder = write_random_checkpoint(tmp_path_factory.mktemp("lively"), small_folder, Shape(), seed=3)
    async with started(folder, max_new_tokens=20) as (engine, metrics):
        for seed in (30, 31):
            await Follower(engine, seed, decides=0.3).follow(lively(round(17.3 * SAMPLE_RATE), seed), longest_s=3.0)

    assert value(metrics, "asr_engine_draft_tokens_total", outcome="rejected") > 0
    assert counters(engine).moved_tokens > 0
