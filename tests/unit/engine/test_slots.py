"""SlotEngine on fakes: every work is answered once, every slot comes back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asr_service.engine.fake import FakeControls, FakeRunner, fake_engine
from asr_service.engine.protocol import EngineFailed, EngineState
from asr_service.engine.slot import StartPolicy
from asr_service.engine.slots import SlotEngine
from asr_service.errors import (
    AsrError,
    DeadlineExceeded,
    Draining,
    EngineRestarting,
    InternalError,
    Overloaded,
    Starting,
    Unavailable,
)
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority
from tests.unit.engine.works import Works, until

AT_ONCE = StartPolicy(max_failures=3, first_backoff_s=0.001, max_backoff_s=0.002, start_limit_s=5.0, stop_limit_s=0.2)


@asynccontextmanager
async def running(controls: FakeControls, metrics: Metrics | None = None, **settings: Any) -> AsyncIterator[SlotEngine]:
    async with asyncio.timeout(20):
        defaults: dict[str, Any] = {"controls": controls, "policy": AT_ONCE, "slots": 1}
        engine = fake_engine(metrics or Metrics(), **(defaults | settings))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_work_is_answered_with_text_and_times() -> None:
    works = Works()
    async with running(FakeControls()) as engine:
        answer = await engine.recognize(works.make())

        assert answer.text == "one two"
        assert answer.queue_s >= 0.0
        assert answer.run_s > 0.0
        assert engine.calls == 1


async def test_waiting_work_is_served_in_order_of_its_class() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        controls.hold()
        order = [works.make(priority=p) for p in (Priority.REALTIME, Priority.BATCH, Priority.INTERACTIVE, Priority.REALTIME)]
        tasks = [asyncio.create_task(engine.recognize(work)) for work in order]
        await controls.wait_running(1)
        controls.release()
        await asyncio.gather(*tasks)

        assert controls.served == [order[0].uid, order[3].uid, order[2].uid, order[1].uid]


async def test_a_full_queue_refuses_with_a_hint_and_what_waits_is_still_served() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls, queue_capacity=2) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(3)]
        await controls.wait_running(1)

        with pytest.raises(Overloaded, match=r"2 segments are already waiting \(limit 2\)") as refusal:
            await engine.recognize(works.make())
        assert refusal.value.retry_after_s is not None
        assert refusal.value.retry_after_s >= 1.0
        assert engine.load.queued == 2
        controls.release()
        await asyncio.gather(*tasks)


async def test_cancelling_waiting_work_frees_its_place_at_once_and_it_is_never_served() -> None:
    works, controls, metrics = Works(), FakeControls(), Metrics()
    async with running(controls, metrics, queue_capacity=1) as engine:
        controls.hold()
        first = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        left = works.make()
        waiting = asyncio.create_task(engine.recognize(left))
        await asyncio.sleep(0)
        assert value(metrics, "asr_queue_depth", priority="interactive") == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert engine.load.queued == 0
        assert value(metrics, "asr_queue_depth", priority="interactive") == 0
        assert value(metrics, "asr_queue_dropped_total", why="cancelled") == 1
        controls.release()
        await first
        assert left.uid not in controls.served


async def test_cancelling_running_work_brings_the_slot_back() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        controls.hold()
        task = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await controls.wait_running(0)
        controls.release()

        assert (await engine.recognize(works.make())).text == "one two"


async def test_a_deadline_is_honoured_while_waiting() -> None:
    works, controls, metrics = Works(), FakeControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.hold()
        first = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        late = works.make(patience_s=0.02)
        with pytest.raises(DeadlineExceeded, match="in the queue"):
            await engine.recognize(late)

        assert value(metrics, "asr_queue_dropped_total", why="expired") == 1
        controls.release()
        await first
        assert late.uid not in controls.served


async def test_a_deadline_is_honoured_while_running_and_the_slot_comes_back() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        controls.hold()
        with pytest.raises(DeadlineExceeded, match="being recognised"):
            await engine.recognize(works.make(patience_s=0.02))
        await controls.wait_running(0)
        controls.release()

        assert (await engine.recognize(works.make())).text == "one two"


async def test_a_deadline_that_has_passed_already_is_answered_without_a_call() -> None:
    works = Works()
    async with running(FakeControls()) as engine:
        with pytest.raises(DeadlineExceeded):
            await engine.recognize(works.make(patience_s=0.0))

        assert engine.calls == 0


async def test_a_crash_is_answered_and_the_next_work_succeeds() -> None:
    works, controls, metrics = Works(), FakeControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.plan = ["crash"]
        with pytest.raises(EngineRestarting) as crash:
            await engine.recognize(works.make())

        assert crash.value.retry_after_s is not None
        assert crash.value.retry_after_s >= 1.0
        assert (await engine.recognize(works.make())).text == "one two"
        assert controls.n_started == 2
        assert value(metrics, "asr_engine_failures_total", kind="crash") == 1


async def test_an_error_is_this_works_own_and_restarts_nothing() -> None:
    works, controls, metrics = Works(), FakeControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.plan = ["error"]
        with pytest.raises(InternalError):
            await engine.recognize(works.make())

        assert (await engine.recognize(works.make())).text == "one two"
        assert controls.n_started == 1
        assert value(metrics, "asr_engine_failures_total", kind="error") == 1


async def test_a_run_that_does_not_come_back_is_ended_and_answered() -> None:
    works, controls, metrics = Works(), FakeControls(), Metrics()
    async with running(controls, metrics, run_limit_s=lambda _: 0.02) as engine:
        controls.plan = ["hang"]
        with pytest.raises(EngineRestarting, match="did not come back"):
            await engine.recognize(works.make())

        assert (await engine.recognize(works.make())).text == "one two"
        assert value(metrics, "asr_engine_failures_total", kind="hang") == 1


async def test_a_runner_that_ignores_abort_is_stopped_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(_: FakeRunner) -> None:
        await asyncio.Event().wait()

    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        monkeypatch.setattr(FakeRunner, "abort", deaf)
        controls.plan = ["hang"]
        with pytest.raises(DeadlineExceeded):
            await engine.recognize(works.make(patience_s=0.02))

        assert (await engine.recognize(works.make())).text == "one two"
        assert controls.n_started == 2


async def test_a_runner_that_died_while_idle_costs_nobody_an_answer() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        runner = engine._slots[0].runner
        assert isinstance(runner, FakeRunner)
        runner.die()

        assert (await engine.recognize(works.make())).text == "one two"
        assert controls.n_started == 2


async def test_failed_starts_are_retried_within_the_policy() -> None:
    controls = FakeControls()
    controls.fail_starts = 2
    async with running(controls) as engine:
        assert engine.state is EngineState.READY
        assert controls.n_started == 3


async def test_an_engine_that_never_starts_has_failed_and_says_why() -> None:
    works, controls = Works(), FakeControls()
    controls.fail_starts = 99
    engine = fake_engine(Metrics(), controls=controls, policy=AT_ONCE, slots=1)
    with pytest.raises(EngineFailed, match="the controls say so"):
        await engine.start()

    assert engine.state is EngineState.FAILED
    with pytest.raises(Unavailable, match="cannot be started"):
        await engine.recognize(works.make())
    await engine.stop()


async def test_when_the_last_slot_is_given_up_what_waits_is_answered() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        controls.plan = ["crash"]
        controls.fail_starts = 99
        crashing, waiting = (asyncio.create_task(engine.recognize(works.make())) for _ in range(2))
        with pytest.raises(EngineRestarting):
            await crashing
        with pytest.raises(Unavailable, match="cannot be started"):
            await waiting

        assert engine.state is EngineState.FAILED


async def test_a_slot_that_is_given_up_leaves_the_others_at_work() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls, slots=2) as engine:
        controls.plan = ["crash"]
        controls.fail_starts = AT_ONCE.max_failures
        with pytest.raises(EngineRestarting):
            await engine.recognize(works.make())
        await until(lambda: engine.load.slots == 1)

        assert (await engine.recognize(works.make())).text == "one two"
        assert engine.state is EngineState.READY


async def test_before_the_start_and_after_the_stop_work_is_refused() -> None:
    works, engine = Works(), fake_engine(Metrics())
    with pytest.raises(Starting):
        await engine.recognize(works.make())
    await engine.start()
    await engine.stop()
    await engine.stop()

    assert engine.state is EngineState.STOPPED
    with pytest.raises(Draining):
        await engine.recognize(works.make())


async def test_stop_answers_what_waits_and_what_runs() -> None:
    works, controls, metrics = Works(), FakeControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(3)]
        await controls.wait_running(1)
        await engine.stop()

        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Draining] * 3
        assert controls.n_running == 0
        assert value(metrics, "asr_queue_dropped_total", why="stopped") == 2
        assert value(metrics, "asr_engine_running") == 0


async def test_stop_during_a_start_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def endless(_: FakeRunner) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeRunner, "start", endless)
    engine = fake_engine(Metrics())
    start = asyncio.create_task(engine.start())
    await begun.wait()
    await engine.stop()

    with pytest.raises(EngineFailed, match="stopped while it started"):
        await start


async def test_an_idle_engine_gives_its_runners_back_and_wakes_on_demand() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls, slots=2, idle_timeout_s=0.02) as engine:
        await engine.recognize(works.make())
        await until(lambda: controls.n_stopped == 2)

        assert engine.state is EngineState.READY
        assert (await engine.recognize(works.make())).text == "one two"
        assert controls.n_started == 3  # one work wakes one slot


async def test_an_idle_engine_wakes_once_for_many_works() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls, slots=2, idle_timeout_s=0.02) as engine:
        await until(lambda: controls.n_stopped == 2)
        await asyncio.gather(*(engine.recognize(works.make()) for _ in range(10)))

        assert controls.n_started <= 4


async def test_a_long_run_is_not_idleness() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls, idle_timeout_s=0.01) as engine:
        controls.hold()
        task = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        await asyncio.sleep(0.03)

        assert controls.n_stopped == 0
        controls.release()
        assert (await task).text == "one two"


async def test_work_that_meets_the_unloading_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    works, controls = Works(), FakeControls()
    stopping, may_stop = asyncio.Event(), asyncio.Event()
    stop = FakeRunner.stop

    async def slow_stop(runner: FakeRunner) -> None:
        stopping.set()
        await may_stop.wait()
        await stop(runner)

    async with running(controls, idle_timeout_s=0.01) as engine:
        monkeypatch.setattr(FakeRunner, "stop", slow_stop)
        await stopping.wait()
        task = asyncio.create_task(engine.recognize(works.make()))
        await asyncio.sleep(0)
        may_stop.set()

        assert (await task).text == "one two"


async def test_the_expected_wait_grows_with_the_queue_and_is_nothing_on_a_free_slot() -> None:
    works, controls = Works(), FakeControls()
    async with running(controls) as engine:
        assert engine.load.expected_wait_s == 0.0
        controls.hold()
        waits_s = []
        tasks = []
        for _ in range(3):
            tasks.append(asyncio.create_task(engine.recognize(works.make())))
            await asyncio.sleep(0)
            waits_s.append(engine.load.expected_wait_s)

        assert 0.0 < waits_s[0] < waits_s[1] < waits_s[2]
        controls.release()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("seed", range(3))
async def test_200_works_with_random_fates_are_answered_once_each_and_the_engine_is_healthy_after(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  # a test's dice
    works, metrics = Works(), Metrics()
    controls = FakeControls(s_per_audio_s=0.001)
    limits = {"slots": 4, "queue_capacity": 50, "idle_timeout_s": 0.005, "run_limit_s": lambda _: 0.25}
    async with running(controls, metrics, **limits) as engine:
        controls.plan = [dice.choice((None, None, None, None, "crash", "error", "hang")) for _ in range(200)]
        tasks = []
        for _ in range(200):
            patience_s = dice.choice((None, None, dice.uniform(0.0, 0.05)))
            work = works.make(priority=dice.choice(list(Priority)), patience_s=patience_s)
            task = asyncio.create_task(engine.recognize(work))
            tasks.append(task)
            if dice.random() < 0.2:
                asyncio.get_running_loop().call_later(dice.uniform(0.0, 0.03), task.cancel)
            if dice.random() < 0.5:
                await asyncio.sleep(dice.uniform(0.0, 0.004))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: engine.load.running == 0)

        assert all(isinstance(answer, Hypothesis | AsrError | asyncio.CancelledError) for answer in answers)
        assert {type(answer) for answer in answers} >= {Hypothesis, EngineRestarting, InternalError, DeadlineExceeded}
        assert len(set(controls.served)) == len(controls.served) == engine.calls
        dropped = sum(value(metrics, "asr_queue_dropped_total", why=why) for why in ("cancelled", "expired", "stopped"))
        refused = sum(isinstance(answer, Overloaded) for answer in answers)
        never_in = 200 - engine.calls - int(dropped) - refused  # cancelled or expired before they were queued
        assert 0 <= never_in <= 200 * 0.4
        controls.plan.clear()
        assert engine.load.queued == engine.load.running == 0
        assert [(await engine.recognize(works.make())).text for _ in range(8)] == ["one two"] * 8
        assert engine.load.slots == 4
