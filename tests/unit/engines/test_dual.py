"""Two engines as one, on fakes: who answers what, and what becomes of it when one fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from asr_service.engine.fake import FakeControls, FakeRunner, fake_engine
from asr_service.engine.protocol import EngineFailed, EngineState
from asr_service.engine.slot import StartPolicy
from asr_service.engine.slots import SlotEngine
from asr_service.engines.dual import DualEngine
from asr_service.engines.fast_metrics import fast_metrics
from asr_service.errors import Draining, EngineGone, Starting
from asr_service.metrics import Metrics
from asr_service.request import Priority, Samples, Work
from tests.unit.engine.works import Works, until

AT_ONCE = StartPolicy(max_failures=2, first_backoff_s=0.001, max_backoff_s=0.002, start_limit_s=5.0, stop_limit_s=0.2)
VOICE: Samples = np.random.default_rng(3).normal(0.0, 0.1, 32_000).astype(np.float32)


class Pair:
    """A DualEngine over two fakes of one slot each, and what makes them do things."""

    def __init__(self) -> None:
        self.main_controls = FakeControls(n_ears=1)
        self.fast_controls = FakeControls(n_ears=1)
        self.metrics = Metrics()
        self.main = self._engine(self.main_controls, self.metrics)
        self.fast = self._engine(self.fast_controls, fast_metrics(self.metrics))
        self.fast._info = replace(self.fast.info, model="quick")
        self.engine = DualEngine(self.main, self.fast)

    def _engine(self, controls: FakeControls, metrics: Metrics) -> SlotEngine:
        return fake_engine(metrics, controls=controls, policy=AT_ONCE, slots=1, idle_timeout_s=0.02)

    async def lose_fast(self) -> None:
        """The fast engine fails for good."""
        runner = self.fast._slots[0].runner
        assert isinstance(runner, FakeRunner)
        self.fast_controls.fail_starts = 99
        runner.die()
        with pytest.raises(EngineGone):
            await self.fast.recognize(Works().make())


@asynccontextmanager
async def running() -> AsyncIterator[Pair]:
    async with asyncio.timeout(20):
        pair = Pair()
        await pair.engine.start()
        try:
            with pair.engine.attend():
                yield pair
        finally:
            pair.main_controls.release()
            pair.fast_controls.release()
            await pair.engine.stop()


def guess_of(works: Works, n_samples: int) -> Work:
    return works.make(VOICE[:n_samples], priority=Priority.GUESS)


async def test_guesses_are_the_fast_models_and_all_else_the_main_ones() -> None:
    works = Works()
    async with running() as pair:
        listening = pair.engine.listen()
        for n in (16_000, 24_000):
            await listening.guess(guess_of(works, n))
        await listening.decide(works.make(VOICE))
        await pair.engine.recognize(works.make(VOICE))

        assert [n_new for _, n_new in pair.fast_controls.heard] == [16_000, 8_000]
        assert (pair.fast.calls, pair.main.calls, pair.engine.calls) == (2, 2, 4)


async def test_the_reason_names_the_fast_model() -> None:
    async with running() as pair:
        assert pair.engine.info.model == pair.main.info.model
        assert pair.engine.info.reason.endswith("; DUAL_MODEL=true, guesses at live speech by quick")


async def test_when_the_fast_model_has_failed_guesses_are_the_main_ones_and_the_service_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    works = Works()
    async with running() as pair:
        listening = pair.engine.listen()
        await listening.guess(guess_of(works, 16_000))
        failed = asyncio.create_task(pair.engine.wait_failed())
        with caplog.at_level(logging.WARNING):
            await pair.lose_fast()
            await until(lambda: "the fast model quick has failed" in caplog.text)

        assert (await listening.guess(guess_of(works, 24_000))).text == "one two three"
        assert len(pair.main_controls.heard) == 1
        assert pair.engine.state is EngineState.READY
        assert not failed.done()
        assert pair.engine.info.reason.endswith("; DUAL_MODEL=true, but quick has failed")
        assert pair.engine.load.slots == 1
        failed.cancel()


async def test_a_guess_that_the_fast_model_fails_under_is_taken_over() -> None:
    works = Works()
    async with running() as pair:
        listening = pair.engine.listen()
        runner = pair.fast._slots[0].runner
        assert isinstance(runner, FakeRunner)
        pair.fast_controls.fail_starts = 99
        runner.die()

        assert (await listening.guess(guess_of(works, 16_000))).text == "one two"
        assert pair.fast.state is EngineState.FAILED


async def test_the_main_models_failure_is_the_engines() -> None:
    works = Works()
    async with running() as pair:
        runner = pair.main._slots[0].runner
        assert isinstance(runner, FakeRunner)
        pair.main_controls.fail_starts = 99
        runner.die()
        with pytest.raises(EngineGone):
            await pair.engine.recognize(works.make())

        await pair.engine.wait_failed()
        assert pair.engine.state is EngineState.FAILED


@pytest.mark.parametrize(
    ("which", "complaint"), [("main", "^fake cannot be started"), ("fast", "^FAST_MODEL_ID=quick: fake can")]
)
async def test_unless_both_start_neither_runs(which: str, complaint: str) -> None:
    pair = Pair()
    (pair.main_controls if which == "main" else pair.fast_controls).fail_starts = 99
    with pytest.raises(EngineFailed, match=complaint):
        await pair.engine.start()

    assert pair.main_controls.n_stopped == (0 if which == "main" else 1)
    with pytest.raises((Draining, Starting)):
        await pair.fast.recognize(Works().make())


async def test_it_is_starting_until_both_are_warm() -> None:
    pair = Pair()
    states = []

    class Watching(FakeRunner):
        async def start(self) -> None:
            states.append((pair.main.state, pair.engine.state))
            await super().start()

    pair.fast._slots[0].runner = Watching(pair.fast_controls)
    await pair.engine.start()

    states.append((pair.main.state, pair.engine.state))
    await pair.engine.stop()
    await pair.engine.stop()
    states.append((pair.main.state, pair.engine.state))

    ready, stopped = EngineState.READY, EngineState.STOPPED
    assert states == [(ready, EngineState.STARTING), (ready, ready), (stopped, stopped)]
    with pytest.raises(Draining):
        await pair.engine.recognize(Works().make())


async def test_the_load_is_both_ones_and_the_wait_is_the_main_ones() -> None:
    works = Works()
    async with running() as pair:
        pair.fast_controls.hold()
        listenings = [pair.engine.listen() for _ in range(2)]
        guesses = [asyncio.create_task(listening.guess(guess_of(works, 16_000))) for listening in listenings]
        await pair.fast_controls.wait_running(1)

        load = pair.engine.load
        assert (load.queued, load.running, load.slots, load.expected_wait_s) == (1, 1, 2, 0.0)
        pair.fast_controls.release()
        await asyncio.gather(*guesses)


async def test_while_somebody_attends_neither_rests() -> None:
    async with running() as pair:
        unattended = FakeControls()
        resting = fake_engine(Metrics(), controls=unattended, policy=AT_ONCE, slots=1, idle_timeout_s=0.04)
        await resting.start()
        await until(lambda: unattended.n_stopped == 1)
        await resting.stop()

        assert (pair.main_controls.n_stopped, pair.fast_controls.n_stopped) == (0, 0)


async def test_the_fast_models_metrics_have_names_of_their_own() -> None:
    works = Works()
    async with running() as pair:
        listening = pair.engine.listen()
        await listening.guess(guess_of(works, 16_000))
        value = pair.metrics.registry.get_sample_value

        assert value("asr_engine_calls_total") == 0
        assert value("asr_fast_engine_calls_total") == 1
        assert value("asr_fast_engine_slots") == 1
        assert value("asr_fast_queue_wait_seconds_count", {"priority": "guess"}) == 1
        assert value("asr_fast_requests_in_flight") is None


async def test_closing_frees_what_both_keep() -> None:
    works = Works()
    async with running() as pair:
        listening = pair.engine.listen()
        await listening.guess(guess_of(works, 16_000))
        listening.close()
        listening.close()

        assert pair.fast._slots[0].n_lent == 0
