"""Two checkpoints in one service: guesses by the smaller, decisions by the other, and whether they fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from asr_service.config import Settings
from asr_service.engine.protocol import Engine, EngineFailed
from asr_service.engines import qwen3_dual
from asr_service.engines.dual import DualEngine
from asr_service.engines.qwen3 import Qwen3Model, step_limits
from asr_service.engines.qwen3_settings import Qwen3Settings
from asr_service.engines.select import choose_engine
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority, Samples, TokenUse
from tests.model.engines import started, value
from tests.model.sounds import spoken_clips
from tests.unit.engine.works import Works


@pytest.fixture(scope="module")
def smaller_folder(small_folder: Path) -> Path:
    folder = small_folder.parent / "smaller"
    assert folder.is_dir(), f"no second trained checkpoint in {folder}"
    return folder


def settings_for(main: Path, fast: Path, **more: object) -> Settings:
    return Settings.load(
        engine="qwen3", model_id=str(main), dual_model=True, fast_model_id=str(fast), device="cpu", torch_threads=1, **more
    )


@asynccontextmanager
async def running(main: Path, fast: Path) -> AsyncIterator[tuple[Engine, Metrics]]:
    metrics = Metrics()
    engine = choose_engine(settings_for(main, fast), metrics)
    await engine.start()
    try:
        yield engine, metrics
    finally:
        await engine.stop()


def said(hypothesis: Hypothesis) -> tuple[str, TokenUse | None, float | None]:
    return hypothesis.text, hypothesis.tokens, hypothesis.confidence


async def guesses(engine: Engine, works: Works, samples: Samples) -> list[str]:
    """At half of the samples and at all of them."""
    listening = engine.listen()
    parts = (samples[: len(samples) // 2], samples)
    texts = [(await listening.guess(works.make(part, priority=Priority.GUESS))).text for part in parts]
    listening.close()
    return texts


async def test_guesses_are_the_fast_models_and_decisions_the_main_ones_word_for_word(
    small_folder: Path, smaller_folder: Path
) -> None:
    works = Works()
    clips = [clip.samples for clip in spoken_clips("clean")[:4]]
    async with started(small_folder) as (main, _):
        exact = [said(await main.recognize(works.make(samples))) for samples in clips]
    async with started(smaller_folder) as (fast, _):
        quick = [await guesses(fast, works, samples) for samples in clips]
    async with running(small_folder, smaller_folder) as (both, metrics):
        assert isinstance(both, DualEngine)
        assert both.info.model == str(small_folder)
        assert both.info.reason == f"ENGINE=qwen3; DUAL_MODEL=true, guesses at live speech by {smaller_folder}"
        guessed, decided, recognised = [], [], []
        for samples in clips:
            guessed.append(await guesses(both, works, samples))
            listening = both.listen()
            decided.append(said(await listening.decide(works.make(samples))))
            listening.close()
            recognised.append(said(await both.recognize(works.make(samples))))

        assert decided == recognised == exact
        assert guessed == quick
        assert value(metrics, "asr_fast_engine_calls_total") == 2 * len(clips)
        assert value(metrics, "asr_engine_calls_total") == 2 * len(clips)


def test_two_models_that_do_not_fit_are_refused_with_both_sizes_and_the_room(
    small_folder: Path, smaller_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qwen3_dual, "host_room", lambda: 64 * 2**20)

    with pytest.raises(EngineFailed, match=rf"{small_folder} needs \d+ MiB .* and {smaller_folder} needs \d+ MiB .* 64 MiB"):
        choose_engine(settings_for(small_folder, smaller_folder, kv_cache_mib=40), Metrics())


def test_on_a_gpu_both_caches_have_the_same_number_of_tokens_and_their_share_of_what_both_weights_leave(
    small_folder: Path, smaller_folder: Path
) -> None:
    settings = Qwen3Settings(device="cpu", gpu_memory_fraction=0.5)
    device = torch.device("cuda")
    opened = [Qwen3Model.open(str(folder), settings) for folder in (small_folder, smaller_folder)]
    models = [Qwen3Model(one.model_id, one.folder, one.checkpoint, device, torch.bfloat16) for one in opened]
    weights = sum(model.weight_bytes for model in models)

    caches = qwen3_dual._cache_bytes(models, settings, step_limits(settings, device, 8), weights + 10**10)

    n_tokens = {cache // model.token_bytes for cache, model in zip(caches, models, strict=True)}
    assert len(n_tokens) == 1
    assert 0.999 * 5e9 < sum(caches) <= 5e9
