"""The stock package in its worker process, on the project's own small checkpoint: right words, those of our engine, and one
answer per fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr_service.config import Settings
from asr_service.decoding.joining import is_unspaced
from asr_service.engine.protocol import Engine
from asr_service.engines.select import choose_engine
from asr_service.errors import EngineRestarting
from asr_service.languages import parse_language
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, RecognitionOptions, Samples
from tests.real_audio import word_errors
from tests.unit.engine.works import Works, until

DATA = Path(__file__).parents[1] / "data/qwen3"
CHECKPOINT = DATA / "small"

Clip = dict[str, Any]


def clean_clips() -> list[Clip]:
    manifest: list[Clip] = json.loads((DATA / "speech/manifest.json").read_text(encoding="utf-8"))
    return [clip for clip in manifest if clip["kind"] == "clean"]


def read(clip: Clip) -> Samples:
    samples: Samples = soundfile.read(DATA / "speech" / clip["file"], dtype="float32")[0]
    return samples


@asynccontextmanager
async def running(name: str, failpoints: str = "") -> AsyncIterator[Engine]:
    settings = Settings.load(engine=name, model_id=str(CHECKPOINT), device="cpu", dtype="float32", failpoints=failpoints)
    engine = choose_engine(settings, Metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest.mark.timeout(300)
async def test_it_reads_the_projects_clips_as_our_engine_does() -> None:
    spoken, works = clean_clips(), Works()
    async with running("reference") as engine:
        answers = [await engine.recognize(works.make(read(clip))) for clip in spoken]
        forced = await engine.recognize(works.make(read(spoken[0]), options=_options(spoken[0])))
        nothing = await engine.recognize(works.make(np.zeros(300, np.float32)))
    async with running("qwen3") as engine:
        ours = await asyncio.gather(*(engine.recognize(works.make(read(clip))) for clip in spoken))

    counts = [word_errors(_spaced(clip["text"]), _spaced(said.text)) for clip, said in zip(spoken, answers, strict=True)]
    n_errors, n_words = (sum(column) for column in zip(*counts, strict=True))
    assert n_errors / n_words < 0.1  # how good the checkpoint is beyond that is no matter of the engine
    assert [_said(answer)[1] for answer in answers] == [clip["language"] for clip in spoken]
    assert [_said(answer) for answer in answers] == [_said(answer) for answer in ours]
    assert _said(forced) == _said(answers[0])
    assert _said(nothing) == ("", None)


@pytest.mark.timeout(300)
async def test_it_survives_a_crash_and_a_cancellation() -> None:
    works, samples = Works(), read(clean_clips()[0])
    async with running("reference", "recognize.start=crash*1") as engine:
        await _crash(engine, works)
        before = await engine.recognize(works.make(samples))
        await _cancel(engine, works)
        after = await engine.recognize(works.make(samples))

    assert before.text
    assert _said(after) == _said(before)


async def _crash(engine: Engine, works: Works) -> None:
    with pytest.raises(EngineRestarting):
        await engine.recognize(works.make())


async def _cancel(engine: Engine, works: Works) -> None:
    """A caller leaves in the middle of a long segment. The process looks between tokens, so it need not be replaced."""
    long = np.random.default_rng(0).normal(0.0, 0.1, 30 * 16_000).astype(np.float32)
    task = asyncio.create_task(engine.recognize(works.make(long)))
    await until(lambda: engine.load.running == 1)
    task.cancel()
    await until(lambda: engine.load.running == 0, limit_s=60.0)
    with pytest.raises(asyncio.CancelledError):
        await task


def _options(clip: Clip) -> RecognitionOptions:
    return RecognitionOptions(language=parse_language(clip["language"]), context="a context")


def _spaced(text: str) -> str:
    """Words with spaces between them; in scripts without spaces each character counts."""
    return "".join(f" {character} " if is_unspaced(character) else character for character in text)


def _said(answer: Hypothesis) -> tuple[str, str | None]:
    return answer.text, None if answer.language is None else answer.language.code
