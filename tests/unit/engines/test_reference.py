"""The reference engine's side of its worker, on a worker without a model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from asr_service.engine.protocol import EngineFailed, Feature
from asr_service.engine.runner import RunnerAborted, RunnerCrashed, RunnerFailed
from asr_service.engines.reference import ReferenceRunner, ReferenceSettings, reference_info
from asr_service.languages import ENGLISH, Language
from asr_service.request import Hypothesis, RecognitionOptions, Samples, Work
from tests.unit.engine.works import Works, until

WORKER = "tests.unit.engines.stand_in_worker"
SETTINGS = ReferenceSettings("cpu", "float32", 0, 3)


def work(context: str = "", samples: Samples | None = None, language: Language | None = None) -> Work:
    return Works().make(samples, options=RecognitionOptions(context=context, language=language))


@pytest.fixture
async def runner() -> AsyncIterator[ReferenceRunner]:
    made = ReferenceRunner(Path("a-model"), SETTINGS, worker=WORKER)
    await made.start()
    yield made
    await made.stop()


async def test_a_job_carries_context_language_budget_and_samples(runner: ReferenceRunner) -> None:
    answer = await runner.run(work("names", np.zeros(32_000, np.float32), Language("de", "German")))

    assert answer.text == "names 48 tokens, 32000 samples, a-model cpu float32 3"
    assert answer.language == Language("de", "German")


async def test_the_limit_of_tokens_holds_and_the_language_is_the_workers() -> None:
    runner = ReferenceRunner(Path("a-model"), ReferenceSettings(max_new_tokens=7), worker=WORKER)
    await runner.start()
    answer = await runner.run(work("x"))
    await runner.stop()

    assert answer.text.startswith("x 7 tokens")
    assert answer.language == ENGLISH


def test_what_is_louder_than_full_scale_is_held_there_and_nothing_is_too_short() -> None:
    fields, samples = ReferenceRunner(Path("m"), SETTINGS).to_job(work(samples=np.array([0.5, -3.0, 1.5], np.float32)))
    heard = np.frombuffer(samples, "<f4")

    assert fields["max_new_tokens"] == 32
    assert heard[:3].tolist() == [0.5, -1.0, 1.0]
    assert len(heard) == 8000
    assert not heard[3:].any()


@pytest.mark.parametrize(("name", "language"), [("", None), ("None", None), ("German", Language("de", "German"))])
def test_a_language_is_known_by_the_packages_name(name: str, language: Language | None) -> None:
    speech = work().speech

    answer = ReferenceRunner(Path("m"), SETTINGS).to_hypothesis({"text": "a", "language": name}, speech)

    assert answer == Hypothesis("a", language)


async def test_a_failed_job_is_answered_with_why_and_the_next_one_succeeds(runner: ReferenceRunner) -> None:
    with pytest.raises(RunnerFailed, match="ValueError: broken"):
        await runner.run(work("break"))

    assert (await runner.run(work("fine"))).text.startswith("fine")


async def test_an_aborted_job_ends_and_the_process_stays(runner: ReferenceRunner) -> None:
    pid = runner.pid
    run = asyncio.create_task(runner.run(work("wait")))
    await until(lambda: runner._is_running)
    await runner.abort()

    with pytest.raises(RunnerAborted):
        await run
    assert (await runner.run(work("fine"))).text.startswith("fine")
    assert runner.pid == pid


async def test_failpoints_reach_the_worker() -> None:
    runner = ReferenceRunner(Path("m"), SETTINGS, "recognize.start=crash*1", worker=WORKER)
    await runner.start()
    with pytest.raises(RunnerCrashed, match="exit status 86"):
        await runner.run(work())

    await runner.start()
    assert (await runner.run(work("fine"))).text.startswith("fine")
    await runner.stop()


async def test_a_model_that_cannot_be_loaded_is_named() -> None:
    runner = ReferenceRunner(Path("no-such-model"), SETTINGS, worker=WORKER)

    with pytest.raises(EngineFailed, match="the recogniser process did not start: FileNotFoundError: no-such-model"):
        await runner.start()
    assert not runner.alive


async def test_stop_leaves_no_process_behind(runner: ReferenceRunner) -> None:
    pid = runner.pid
    assert pid is not None
    await runner.stop()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_claims_only_what_the_package_does() -> None:
    assert reference_info("why", "m", "cpu").features == {Feature.CONTEXT, Feature.LANGUAGE_DETECTION}
