"""FORCED_ALIGNER_ID: what is built, what is refused, and what an engine with an aligner answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from asr_service.config import Settings
from asr_service.decoding.units import cut_units
from asr_service.engine.aligner import AlignerInfo, Alignment, EngineAligner
from asr_service.engine.aligning_engine import AligningEngine
from asr_service.engine.fake import FAKE_INFO, FakeControls, fake_engine
from asr_service.engine.protocol import Engine, EngineFailed, Feature
from asr_service.engine.queued_aligner import AlignLimits, QueuedAligner
from asr_service.engines import forced_aligner
from asr_service.engines.pocketsphinx import pocketsphinx_engine
from asr_service.engines.select import aligner_of, choose_engine
from asr_service.errors import FeatureUnavailable
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Hypothesis, Priority, RecognitionOptions, Speech, Word, Work
from tests.unit.engine.test_queued_aligner import Model
from tests.unit.engine.works import Works

DATA = Path(__file__).parents[2] / "data"
ALIGNER = DATA / "qwen3/aligner"
WITH_TIMES = RecognitionOptions(word_times=True)


def built(**settings: Any) -> QueuedAligner:
    chosen = {"engine": "qwen3", "device": "cpu", "forced_aligner_id": str(ALIGNER), "torch_threads": 1}
    return forced_aligner.forced_aligner(Settings.load(**(chosen | settings)), Metrics())


def wanted(text: str = "turn on the light") -> Alignment:
    speech = Speech(np.zeros(2 * SAMPLE_RATE, np.float32), 0)
    return Alignment(0, speech, text, ENGLISH, Priority.INTERACTIVE, monotonic())


async def test_a_checkpoint_says_its_languages_and_its_reach() -> None:
    info = built().info
    assert [language.code for language in info.languages] == ["zh", "en", "de", "es"]
    assert info.reach_ms == 64_000
    assert info.model == str(ALIGNER)


def test_stretches_that_it_cannot_reach_are_refused_at_the_start() -> None:
    with pytest.raises(EngineFailed, match=r"SEGMENT_HARD_SECONDS=65.*64 s"):
        built(segment_hard_seconds=65.0)


def test_what_is_not_there_names_the_setting(tmp_path: Path) -> None:
    settings = Settings.load(engine="fake", forced_aligner_id=str(tmp_path / "none"))
    with pytest.raises(EngineFailed, match="FORCED_ALIGNER_ID="):
        choose_engine(settings, Metrics())


async def test_without_room_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    aligner = built()
    monkeypatch.setattr(forced_aligner, "host_room", lambda: 10 * 2**20)
    with pytest.raises(FeatureUnavailable, match=r"needs \d+ MiB; cpu has 10 MiB to spare"):
        await aligner.align(wanted())
    monkeypatch.setattr(forced_aligner, "host_room", lambda: 10 * 2**30)
    assert [word.text for word in await aligner.align(wanted())] == ["turn", "on", "the", "light"]
    await aligner.stop()


def test_who_aligns() -> None:
    metrics = Metrics()
    settings = Settings.load(engine="fake", forced_aligner_id=str(ALIGNER), device="cpu")
    chosen = choose_engine(settings, metrics)
    assert isinstance(chosen, AligningEngine)
    assert aligner_of(chosen, settings) is chosen.aligner
    assert {Feature.ALIGN, Feature.WORD_TIMES} <= chosen.info.features
    assert str(ALIGNER) in chosen.info.reason

    sphinx = pocketsphinx_engine("a test", slots=1, queue_capacity=1, idle_timeout_s=0.0, metrics=metrics)
    assert isinstance(aligner_of(sphinx, settings), EngineAligner)
    assert aligner_of(fake_engine(metrics), settings) is None


class Wordless:
    """A fake engine whose texts have no word times."""

    def __init__(self) -> None:
        self.engine = fake_engine(Metrics(), controls=FakeControls(), slots=1)
        self.info = replace(FAKE_INFO, features=frozenset())

    async def recognize(self, work: Work) -> Hypothesis:
        return Hypothesis("Turn on, please.", ENGLISH)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def aligning(model: Model) -> AligningEngine:
    model.may_run.set()
    info = AlignerInfo("test", "test", "cpu", (ENGLISH,), model.reach_ms)
    aligner = QueuedAligner(
        info, model, lambda text, _: cut_units(text), limits=AlignLimits(), idle_timeout_s=0.0, metrics=Metrics()
    )
    engine: Engine = Wordless()
    return AligningEngine(engine, aligner)


async def recognised(engine: AligningEngine, options: RecognitionOptions) -> Hypothesis:
    async with asyncio.timeout(10):
        hypothesis = await engine.recognize(Works().make(options=options))
        await engine.aligner.stop()
    return hypothesis


async def test_words_are_aligned_where_they_are_wanted() -> None:
    hypothesis = await recognised(aligning(Model()), WITH_TIMES)
    assert hypothesis.text == "Turn on, please."
    assert hypothesis.words == (Word("Turn", 0, 100), Word("on,", 100, 200), Word("please.", 200, 300))


@pytest.mark.parametrize(
    ("model", "options"),
    [(Model(), RecognitionOptions()), (Model(reach_ms=500), WITH_TIMES), (Model(load_error="no"), WITH_TIMES)],
)
async def test_and_else_the_text_comes_without(model: Model, options: RecognitionOptions) -> None:
    hypothesis = await recognised(aligning(model), options)
    assert hypothesis == Hypothesis("Turn on, please.", ENGLISH)
