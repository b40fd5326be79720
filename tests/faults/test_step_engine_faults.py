"""A step engine whose model fails, runs out of memory, breaks or hangs, and whose callers leave: everybody gets one answer."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from asr_service.engine.fake_model import ModelControls
from asr_service.engine.protocol import EngineFailed, EngineState
from asr_service.errors import (
    AsrError,
    DeadlineExceeded,
    Draining,
    EngineGone,
    EngineMemory,
    EngineRestarting,
    InternalError,
)
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority
from asr_service.scheduler.steps import StepLimits
from tests.unit.engine.step_engines import AT_ONCE, LIMITS, fake_step_engine, running, seconds, step_until, text_of, value
from tests.unit.engine.works import Works, until


async def test_a_cancelled_work_is_in_no_further_step_and_its_places_are_free_within_one() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.hold()
        stays, leaves = works.make(seconds(6)), works.make(seconds(6))
        staying, leaving = (asyncio.create_task(engine.recognize(work)) for work in (stays, leaves))
        await step_until(controls, lambda: controls.plans[-1].keys() >= {stays.uid, leaves.uid})
        n_plans = len(controls.plans)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        controls.let_through()
        await until(lambda: len(controls.plans) > n_plans)

        assert [plan.keys() for plan in controls.plans[n_plans:]] == [{stays.uid}]
        assert controls.open_works == {stays.uid}
        controls.let_through()
        await until(lambda: len(controls.plans) > n_plans + 1)
        assert value(metrics, "asr_engine_kv_tokens") == 128  # of one: 84 for the prompt and 16 for the text, rounded up
        controls.release()
        assert (await staying).text == text_of(stays)


async def test_a_deadline_ends_a_work_that_runs_and_the_others_go_on() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        controls.hold()
        other = works.make()
        waiting = asyncio.create_task(engine.recognize(other))
        late = works.make(patience_s=0.05)
        running_late = asyncio.create_task(engine.recognize(late))
        await until(lambda: controls.n_held == 1)
        with pytest.raises(DeadlineExceeded):
            await running_late
        controls.release()

        assert (await waiting).text == text_of(other)
        await until(lambda: not controls.open_works)


async def test_a_step_that_raises_fails_whoever_makes_it_raise_and_nobody_else() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics) as engine:
        batch = [works.make(seconds(n)) for n in (1, 2, 3, 4)]
        controls.faulty = {batch[1].uid}
        answers = await asyncio.gather(*(engine.recognize(work) for work in batch), return_exceptions=True)

        assert isinstance(answers[1], InternalError)
        texts = [answer.text for answer in answers if isinstance(answer, Hypothesis)]
        assert texts == [text_of(batch[n]) for n in (0, 2, 3)]
        assert value(metrics, "asr_engine_failures_total", kind="error") == 1
        assert controls.n_loads == 1


async def test_a_step_that_raises_once_costs_nobody_an_answer() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        controls.fail_steps = 1
        work = works.make()

        assert (await engine.recognize(work)).text == text_of(work)


async def test_out_of_memory_makes_steps_smaller_and_everybody_is_served_with_the_same_text() -> None:
    works, controls, metrics = Works(), ModelControls(max_rows=1), Metrics()
    async with running(controls, metrics) as engine:
        batch = [works.make(seconds(n)) for n in (3, 5, 9, 2)]
        answers = await asyncio.gather(*(engine.recognize(work) for work in batch))

        assert [answer.text for answer in answers] == [text_of(work) for work in batch]
        assert value(metrics, "asr_engine_failures_total", kind="memory") >= 1
        assert value(metrics, "asr_engine_evictions_total") >= 1


async def test_who_has_no_memory_even_alone_is_answered_engine_memory_and_the_others_are_served() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        batch = [works.make(seconds(n)) for n in (3, 5, 4)]
        controls.hungry = {batch[1].uid}
        answers = await asyncio.gather(*(engine.recognize(work) for work in batch), return_exceptions=True)

        assert isinstance(answers[1], EngineMemory)
        assert [a.text for a in answers if isinstance(a, Hypothesis)] == [text_of(batch[0]), text_of(batch[2])]
        assert engine.state is EngineState.READY


async def test_what_could_never_fit_into_the_cache_is_engine_memory_at_once() -> None:
    works, controls = Works(), ModelControls(kv_tokens=64)
    async with running(controls) as engine:
        with pytest.raises(EngineMemory, match="limit 64"):
            await engine.recognize(works.make(seconds(30)))

        assert engine.calls == 0


async def test_a_failure_and_an_out_of_memory_together_are_no_dead_loop() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        faulty, hungry, good = (works.make(seconds(n)) for n in (3, 5, 4))
        controls.faulty, controls.hungry = {faulty.uid}, {hungry.uid}
        answers = await asyncio.gather(*(engine.recognize(w) for w in (faulty, hungry, good)), return_exceptions=True)

        assert [type(answer) for answer in answers] == [InternalError, EngineMemory, Hypothesis]


async def test_a_broken_model_is_loaded_again_and_who_waits_is_served() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=replace(LIMITS, max_sequences=3)) as engine:
        controls.hold()
        inside = [works.make(seconds(n)) for n in (3, 4, 5, 6, 7)]
        tasks = [asyncio.create_task(engine.recognize(work)) for work in inside]
        await step_until(controls, lambda: engine.load.running == 3)
        controls.is_broken = True
        controls.release()
        answers = await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(answer) for answer in answers] == [EngineRestarting] * 3 + [Hypothesis] * 2
        assert [answer.text for answer in answers if isinstance(answer, Hypothesis)] == [text_of(work) for work in inside[3:]]
        assert (controls.n_loads, controls.n_unloads) == (2, 1)
        assert value(metrics, "asr_engine_failures_total", kind="crash") == 1


async def test_a_model_that_stays_broken_makes_the_engine_failed() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        controls.stays_broken = True
        failed = asyncio.create_task(engine.wait_failed())
        for _ in range(40):
            if failed.done():
                break
            with pytest.raises((EngineRestarting, InternalError, EngineGone)):
                await engine.recognize(works.make())
        await failed

        assert engine.state is EngineState.FAILED
        assert controls.n_loads == 1 + AT_ONCE.max_failures
        with pytest.raises(EngineGone):
            await engine.recognize(works.make())


async def test_a_model_that_cannot_be_loaded_again_answers_everybody_and_the_engine_has_failed() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=replace(LIMITS, max_sequences=3)) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make(seconds(4)))) for _ in range(6)]
        await step_until(controls, lambda: engine.load.running == 3)
        controls.is_broken, controls.fail_loads = True, 99
        controls.release()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await engine.wait_failed()

        assert [type(answer) for answer in answers] == [EngineRestarting] * 3 + [EngineGone] * 3
        assert controls.n_loads == 1 + AT_ONCE.max_failures


async def test_a_model_that_does_not_come_back_is_noticed_and_everybody_is_answered() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, hang_limit_s=0.05) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(5)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await engine.wait_failed()

        assert [type(answer) for answer in answers] == [EngineGone] * 5
        assert engine.state is EngineState.FAILED
        assert value(metrics, "asr_engine_failures_total", kind="hang") == 1


async def test_a_load_that_does_not_come_back_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    controls = ModelControls()
    engine = fake_step_engine(controls, policy=replace(AT_ONCE, start_limit_s=0.02), hang_limit_s=0.04)
    monkeypatch.setattr(engine._model, "load", controls.pass_gate)
    controls.hold()
    with pytest.raises(EngineFailed, match="has not come back for"):
        await engine.start()

    controls.release()
    await engine.stop()
    assert not engine._thread.is_alive()


async def test_stop_leaves_a_hanging_thread_behind_and_returns() -> None:
    works, controls = Works(), ModelControls()
    engine = fake_step_engine(controls, policy=replace(AT_ONCE, stop_limit_s=0.05))
    await engine.start()
    controls.hold()
    task = asyncio.create_task(engine.recognize(works.make()))
    await until(lambda: controls.n_held == 1)
    await engine.stop()

    with pytest.raises(Draining):
        await task
    controls.release()
    engine._thread.join(10)
    assert not engine._thread.is_alive()
    assert not controls.is_loaded


async def test_stop_answers_everybody_and_ends_the_thread() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(7)]
        await step_until(controls, lambda: engine.load.running == 4)
        stopping = asyncio.create_task(engine.stop())
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        controls.release()
        await stopping
        await engine.stop()

        assert [type(answer) for answer in answers] == [Draining] * 7
        assert not engine._thread.is_alive()
        assert (engine.state, controls.is_loaded) == (EngineState.STOPPED, False)
        assert value(metrics, "asr_queue_dropped_total", why="stopped") == 3


async def test_an_idle_model_is_unloaded_and_the_next_work_loads_it() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, idle_timeout_s=0.02) as engine:
        await until(lambda: controls.n_unloads == 1)
        assert engine.state is EngineState.READY
        work = works.make()

        assert (await engine.recognize(work)).text == text_of(work)
        assert controls.n_loads == 2
        await until(lambda: controls.n_unloads == 2)


async def test_a_model_that_wakes_up_badly_is_given_the_patience_of_the_policy() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, idle_timeout_s=0.02) as engine:
        await until(lambda: controls.n_unloads == 1)
        controls.fail_loads = AT_ONCE.max_failures - 1
        work = works.make()

        assert (await engine.recognize(work)).text == text_of(work)


async def test_a_start_that_fails_says_what_is_missing() -> None:
    works, controls = Works(), ModelControls(fail_loads=1)
    engine = fake_step_engine(controls)
    with pytest.raises(EngineFailed, match="cannot be started: the controls say so"):
        await engine.start()

    assert engine.state is EngineState.FAILED
    with pytest.raises(EngineGone):
        await engine.recognize(works.make())
    await engine.stop()


async def test_a_work_that_cannot_be_prepared_is_its_own_fault_only() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        bad, good = works.make(), works.make()
        controls.unpreparable = {bad.uid}
        answers = await asyncio.gather(engine.recognize(bad), engine.recognize(good), return_exceptions=True)

        assert [type(answer) for answer in answers] == [InternalError, Hypothesis]


@pytest.mark.parametrize("seed", range(3))
async def test_sixteen_at_once_with_random_fates_are_answered_once_each_and_with_the_text_that_they_have_alone(
    seed: int,
) -> None:
    dice = random.Random(seed)  # noqa: S311  # a test's dice
    works, controls, metrics = Works(), ModelControls(kv_tokens=1024), Metrics()
    limits = StepLimits(max_sequences=16, queue_capacity=200, step_tokens=64, bulk_step_tokens=16, encode_windows=2)
    async with running(controls, metrics, limits=limits) as engine:

        async def caller() -> None:
            for _ in range(12):
                work = works.make(
                    seconds(dice.choice((0.5, 1, 4, 9, 20))),
                    priority=dice.choice(list(Priority)),
                    patience_s=dice.choice((None, None, None, 0.01)),
                )
                task = asyncio.create_task(engine.recognize(work))
                fate = dice.random()
                if fate < 0.25:
                    asyncio.get_running_loop().call_later(dice.uniform(0.0, 0.03), task.cancel)
                elif fate < 0.3:
                    controls.faulty.add(work.uid)
                elif fate < 0.35:
                    controls.hungry.add(work.uid)
                elif fate < 0.4:
                    controls.fail_shared_steps += 1
                (answer,) = await asyncio.gather(task, return_exceptions=True)
                answers.append(answer)
                if isinstance(answer, Hypothesis):
                    assert answer.text == text_of(work)
                elif isinstance(answer, InternalError):
                    assert work.uid in controls.faulty
                elif isinstance(answer, EngineMemory):
                    assert work.uid in controls.hungry

        answers: list[object] = []
        await asyncio.gather(*(caller() for _ in range(16)))
        await until(lambda: not controls.open_works)

        assert len(answers) == 16 * 12
        assert all(isinstance(answer, Hypothesis | AsrError | asyncio.CancelledError) for answer in answers)
        assert sum(isinstance(answer, Hypothesis) for answer in answers) > 16 * 4
        assert {type(answer) for answer in answers} <= {
            Hypothesis,
            InternalError,
            EngineMemory,
            DeadlineExceeded,
            EngineRestarting,
            asyncio.CancelledError,
        }
        assert (engine.load.queued, engine.load.running) == (0, 0)
        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0)
        assert value(metrics, "asr_engine_evictions_total") > 0
        work = works.make()
        assert (await engine.recognize(work)).text == text_of(work)
