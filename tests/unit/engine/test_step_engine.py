"""StepEngine on a fake model: order, refusals, partial texts, several decodings of one work, and the numbers that it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from asr_service.engine.fake_model import ModelControls
from asr_service.engine.protocol import EngineFailed, EngineState
from asr_service.engine.recognition import Attempt, AttemptWork
from asr_service.errors import DeadlineExceeded, Draining, Overloaded, Starting
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority, Work
from tests.unit.engine.step_engines import LIMITS, fake_step_engine, running, seconds, step_until, text_of, value
from tests.unit.engine.works import Works, until


async def test_a_work_is_answered_with_text_times_and_tokens() -> None:
    works, metrics = Works(), Metrics()
    async with running(ModelControls(), metrics) as engine:
        answer = await engine.recognize(works.make(seconds(2)))

        assert answer.text == "one two three four five"
        assert answer.queue_s >= 0.0
        assert answer.run_s > 0.0
        assert answer.tokens is not None
        assert (answer.tokens.audio, answer.tokens.prompt, answer.tokens.output) == (26, 6, 5)
        assert engine.calls == 1
        assert value(metrics, "asr_engine_calls_total") == 1
        assert value(metrics, "asr_queue_wait_seconds_count", priority="interactive") == 1


async def test_works_share_steps() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make(seconds(4)))) for _ in range(4)]
        await step_until(controls, lambda: len(controls.plans[-1]) == 4)
        controls.release()
        await asyncio.gather(*tasks)

        assert sum(len(plan) == 4 for plan in controls.plans) >= 10


async def test_a_realtime_work_joins_the_steps_at_once_though_uploads_have_all_slots() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        controls.hold()
        uploads = [asyncio.create_task(engine.recognize(works.make(seconds(8), priority=Priority.BATCH))) for _ in range(6)]
        await step_until(controls, lambda: engine.load.running == 4)
        live = works.make(seconds(1), priority=Priority.REALTIME)
        n_runs = len(controls.plans)
        task = asyncio.create_task(engine.recognize(live))
        await step_until(controls, lambda: live.uid in controls.plans[-1])

        assert len(controls.plans) - n_runs <= 20  # the first few while it was prepared
        controls.release()
        assert (await task).text == text_of(live)
        await asyncio.gather(*uploads)


async def test_a_full_engine_refuses_with_a_hint_and_who_is_inside_is_served() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=replace(LIMITS, max_sequences=1, queue_capacity=2)) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(3)]
        await until(lambda: controls.n_held == 1)

        with pytest.raises(Overloaded, match=r"3 segments are already inside \(limit 3\)") as refusal:
            await engine.recognize(works.make())
        assert refusal.value.retry_after_s is not None
        assert refusal.value.retry_after_s >= 1.0
        controls.release()
        await asyncio.gather(*tasks)
        await engine.recognize(works.make())


async def test_cancelling_waiting_work_makes_room_at_once_and_it_is_never_served() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=replace(LIMITS, max_sequences=1, queue_capacity=1)) as engine:
        controls.hold()
        first = asyncio.create_task(engine.recognize(works.make()))
        await until(lambda: engine.load.running == 1 or controls.n_held == 1)
        left = works.make()
        waiting = asyncio.create_task(engine.recognize(left))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        second = asyncio.create_task(engine.recognize(works.make()))
        controls.release()
        await asyncio.gather(first, second)

        assert all(left.uid not in plan for plan in controls.plans)
        assert value(metrics, "asr_queue_dropped_total", why="cancelled") == 1


async def test_partial_texts_come_in_order_before_the_answer() -> None:
    works = Works()
    async with running(ModelControls()) as engine:
        heard: list[str] = []
        work = replace(works.make(seconds(2)), on_partial=heard.append)
        answer = await engine.recognize(work)
        await asyncio.sleep(0)

        words = text_of(work).split()
        assert heard == [" ".join(words[: n + 1]) for n in range(len(words))]
        assert answer.text == heard[-1]


async def test_a_listener_that_raises_costs_nobody_an_answer() -> None:
    def refuse(_: str) -> None:
        raise RuntimeError("not now")

    works = Works()
    async with running(ModelControls()) as engine:
        work = replace(works.make(), on_partial=refuse)

        assert (await engine.recognize(work)).text == text_of(work)


async def test_a_deadline_that_has_passed_already_is_answered_without_a_call() -> None:
    works = Works()
    async with running(ModelControls()) as engine:
        with pytest.raises(DeadlineExceeded):
            await engine.recognize(works.make(patience_s=0.0))

        assert engine.calls == 0


async def test_a_deadline_in_the_queue_is_answered_when_it_comes_and_not_at_the_next_step() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics) as engine:
        controls.hold()
        first = asyncio.create_task(engine.recognize(works.make()))
        await until(lambda: controls.n_held == 1)
        with pytest.raises(DeadlineExceeded, match="in the queue"):
            await engine.recognize(works.make(patience_s=0.03))

        assert controls.n_held == 1
        assert value(metrics, "asr_queue_dropped_total", why="expired") == 1
        controls.release()
        await first


async def test_several_decodings_are_one_call_and_are_not_refused_by_a_full_engine() -> None:
    async def in_two_halves(work: Work, attempt: AttemptWork, new_uid: Callable[[], int]) -> Hypothesis:
        first = await attempt(work)
        pieces: list[Attempt] = await asyncio.gather(*(attempt(replace(work, uid=new_uid())) for _ in range(2)))
        return Hypothesis(" | ".join(one.reply.text for one in (first, *pieces)), None)

    works, controls, metrics = Works(), ModelControls(), Metrics()
    limits = replace(LIMITS, max_sequences=1, queue_capacity=1)
    async with running(controls, metrics, limits=limits, recognize_work=in_two_halves) as engine:
        answers = await asyncio.gather(*(engine.recognize(works.make()) for _ in range(2)))

        assert [answer.text for answer in answers] == ["one two | one two | one two"] * 2
        assert engine.calls == 2
        assert value(metrics, "asr_queue_wait_seconds_count", priority="interactive") == 6
        assert (engine.load.queued, engine.load.running) == (0, 0)


async def test_cancelling_a_work_cancels_its_decodings() -> None:
    async def in_two_halves(work: Work, attempt: AttemptWork, _: Callable[[], int]) -> Hypothesis:
        await asyncio.gather(attempt(work), attempt(work))
        raise AssertionError("not reached")

    works, controls = Works(), ModelControls()
    async with running(controls, recognize_work=in_two_halves) as engine:
        controls.hold()
        task = asyncio.create_task(engine.recognize(works.make()))
        await step_until(controls, lambda: engine.load.running == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        controls.release()
        await until(lambda: not controls.open_works)

        assert (engine.load.queued, engine.load.running) == (0, 0)


async def test_before_the_start_and_after_the_stop_work_is_refused() -> None:
    works, engine = Works(), fake_step_engine(ModelControls())
    with pytest.raises(Starting):
        await engine.recognize(works.make())
    await engine.start()
    with pytest.raises(EngineFailed, match="only once"):
        await engine.start()
    await engine.stop()
    await engine.stop()

    assert engine.state is EngineState.STOPPED
    with pytest.raises(Draining):
        await engine.recognize(works.make())


async def test_an_engine_that_was_never_started_can_be_stopped() -> None:
    engine = fake_step_engine(ModelControls())
    await engine.stop()

    with pytest.raises(EngineFailed):
        await engine.start()


async def test_stop_during_a_start_ends_both(monkeypatch: pytest.MonkeyPatch) -> None:
    controls = ModelControls()
    engine = fake_step_engine(controls)
    monkeypatch.setattr(engine._model, "load", controls.pass_gate)
    controls.hold()
    start = asyncio.create_task(engine.start())
    await until(lambda: controls.n_held == 1)
    stop = asyncio.create_task(engine.stop())
    with pytest.raises(EngineFailed, match="stopped while it started"):
        await start
    controls.release()
    await stop

    assert not engine._thread.is_alive()


async def test_the_expected_wait_is_nothing_while_there_is_room_and_grows_with_what_goes_first() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=replace(LIMITS, max_sequences=2)) as engine:
        controls.hold()
        waits_s, tasks = [engine.load.expected_wait_s], []
        for _ in range(5):
            tasks.append(asyncio.create_task(engine.recognize(works.make(seconds(20)))))
            await asyncio.sleep(0)
            waits_s.append(engine.load.expected_wait_s)
        bulk = asyncio.create_task(engine.recognize(works.make(seconds(20), priority=Priority.BATCH)))
        await asyncio.sleep(0)

        assert waits_s[:2] == [0.0, 0.0]
        assert 0.0 < waits_s[2] < waits_s[3] < waits_s[4] < waits_s[5]
        assert engine.load.expected_wait_s <= waits_s[5]  # it goes after a new interactive one
        assert engine.load.slots == 2
        controls.release()
        await asyncio.gather(*tasks, bulk)
        assert engine.load.expected_wait_s == 0.0


async def test_a_long_step_is_not_idleness() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, idle_timeout_s=0.01) as engine:
        controls.hold()
        work = works.make()
        task = asyncio.create_task(engine.recognize(work))
        await until(lambda: controls.n_held == 1)
        await asyncio.sleep(0.03)
        controls.release()

        assert (await task).text == text_of(work)
        assert controls.n_loads - controls.n_unloads == 1


async def test_the_metrics_show_what_waits_and_what_runs() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=replace(LIMITS, max_sequences=1)) as engine:
        assert value(metrics, "asr_engine_slots") == 1
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(3)]
        await step_until(controls, lambda: engine.load.running == 1)

        assert value(metrics, "asr_queue_depth", priority="interactive") == 2
        assert value(metrics, "asr_engine_running") == 1
        assert value(metrics, "asr_engine_kv_tokens") == 64
        controls.release()
        await asyncio.gather(*tasks)
        assert value(metrics, "asr_engine_running") == 0
        assert value(metrics, "asr_queue_depth", priority="interactive") == 0
    assert value(metrics, "asr_engine_slots") == 0


async def test_an_event_loop_that_never_rests_does_not_stop_the_engine() -> None:
    """With Python's own turns it would take half a minute: each time a step lets the interpreter go costs 5 ms then."""
    works, controls = Works(), ModelControls(n_releases=500)
    async with running(controls) as engine:
        work = works.make(seconds(4))
        task = asyncio.create_task(engine.recognize(work))
        while not task.done():
            for _ in range(300_000):  # some 10 ms in which nothing is awaited
                pass
            await asyncio.sleep(0)

        assert (await task).text == text_of(work)
