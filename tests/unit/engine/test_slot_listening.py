"""SlotEngine's listening on fakes: an ear is lent while there is one, and costs nobody else anything."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from asr_service.engine.fake import FakeControls, FakeRunner, fake_engine
from asr_service.engine.slot import StartPolicy
from asr_service.engine.slots import SlotEngine
from asr_service.errors import DeadlineExceeded, Draining, EngineRestarting
from asr_service.metrics import Metrics
from asr_service.request import Priority, Samples, Work
from tests.unit.engine.test_slots import running
from tests.unit.engine.works import Works, until

VOICE = np.random.default_rng(7).normal(0.0, 0.1, 64_000).astype(np.float32)


def guess_of(works: Works, samples: Samples, patience_s: float | None = None) -> Work:
    return works.make(samples, priority=Priority.GUESS, patience_s=patience_s)


def n_lent(engine: SlotEngine) -> list[int]:
    return [slot.n_lent for slot in engine._slots]


async def test_a_guess_brings_the_ear_what_is_new_only() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        texts = [(await listening.guess(guess_of(works, VOICE[:n]))).text for n in (16_000, 24_000, 32_000)]

        assert texts == ["one two", "one two three", "one two three four five"]
        assert [n_new for _, n_new in controls.heard] == [16_000, 8_000, 8_000]


async def test_samples_that_do_not_continue_the_ones_before_are_heard_anew() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        for samples in (VOICE[:16_000], VOICE[:12_000], VOICE[1:20_001]):
            await listening.guess(guess_of(works, samples))

        assert [n_new for _, n_new in controls.heard] == [16_000, 12_000, 20_000]


async def test_a_decision_is_an_ordinary_run_and_the_ear_keeps_what_it_heard() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        decided = await listening.decide(works.make(VOICE[:20_000]))
        await listening.guess(guess_of(works, VOICE[:24_000]))

        assert decided.text == (await engine.recognize(works.make(VOICE[:20_000]))).text
        assert [n_new for _, n_new in controls.heard] == [16_000, 8_000]
        assert engine.calls == 4


async def test_an_ear_is_lent_until_its_stretch_is_closed() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls, slots=2) as engine:
        listenings = [engine.listen() for _ in range(3)]
        assert n_lent(engine) == [0, 0]
        for listening in listenings:
            await listening.guess(guess_of(works, VOICE[:16_000]))
        assert n_lent(engine) == [1, 1]
        assert len(controls.heard) == 2

        listenings[0].close()
        listenings[0].close()
        assert n_lent(engine) == [0, 1]
        await listenings[2].guess(guess_of(works, VOICE[:20_000]))
        assert n_lent(engine) == [1, 1]
        assert controls.heard[-1][1] == 20_000
        for listening in listenings:
            listening.close()
        assert n_lent(engine) == [0, 0]


async def test_a_closed_listening_takes_no_ear_any_more() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        listening.close()
        await listening.guess(guess_of(works, VOICE[:16_000]))

        assert n_lent(engine) == [0]
        assert not controls.heard


async def test_a_guess_waits_for_its_slot_while_others_use_the_rest() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls, slots=2) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.hold()
        in_its_slot = asyncio.create_task(engine.recognize(works.make()))  # the first free slot, which is the ear's
        await controls.wait_running(1)
        guess = asyncio.create_task(listening.guess(guess_of(works, VOICE[:24_000])))
        elsewhere = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(2)

        assert engine.load.queued == 1
        assert len(controls.heard) == 1
        controls.release()
        await asyncio.gather(in_its_slot, elsewhere, guess)
        assert controls.heard[-1][1] == 8_000


async def test_a_final_goes_before_a_guess_that_waits_for_the_same_slot() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.hold()
        running_one = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        guess = guess_of(works, VOICE[:24_000])
        final = works.make(priority=Priority.REALTIME)
        bulk = works.make(priority=Priority.BATCH)
        waiting = [
            asyncio.create_task(listening.guess(guess)),
            asyncio.create_task(engine.recognize(bulk)),
            asyncio.create_task(engine.recognize(final)),
        ]
        await asyncio.sleep(0)
        controls.release()
        await asyncio.gather(running_one, *waiting)

        assert controls.served[-3:] == [final.uid, guess.uid, bulk.uid]


async def test_a_free_slot_that_nobody_waits_for_takes_what_any_slot_can_do() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls, slots=2) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.hold()
        tasks = [asyncio.create_task(listening.guess(guess_of(works, VOICE[:24_000])))]
        tasks += [asyncio.create_task(engine.recognize(works.make(priority=Priority.REALTIME)))]
        await controls.wait_running(2)

        assert engine.load.queued == 0
        controls.release()
        await asyncio.gather(*tasks)


async def test_cancelling_a_guess_that_waits_takes_it_out() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.hold()
        first = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        guess = asyncio.create_task(listening.guess(guess_of(works, VOICE[:24_000])))
        await asyncio.sleep(0)
        guess.cancel()
        with pytest.raises(asyncio.CancelledError):
            await guess

        assert engine.load.queued == 0
        controls.release()
        await first
        assert len(controls.heard) == 1


async def test_cancelling_a_guess_that_runs_frees_the_slot_and_closing_frees_the_ear() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        controls.hold()
        guess = asyncio.create_task(listening.guess(guess_of(works, VOICE[:24_000])))
        await controls.wait_running(1)
        guess.cancel()
        with pytest.raises(asyncio.CancelledError):
            await guess
        listening.close()
        controls.release()

        assert n_lent(engine) == [0]
        assert (await engine.recognize(works.make())).text == "one two"
        other = engine.listen()
        await other.guess(guess_of(works, VOICE[:16_000]))
        assert controls.heard[-1][1] == 16_000


async def test_a_guess_whose_deadline_passes_while_it_waits_is_never_computed() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.hold()
        first = asyncio.create_task(engine.recognize(works.make()))
        await controls.wait_running(1)
        with pytest.raises(DeadlineExceeded, match="in the queue"):
            await listening.guess(guess_of(works, VOICE[:24_000], patience_s=0.02))

        controls.release()
        await first
        assert len(controls.heard) == 1


async def test_after_a_crash_the_stretch_is_heard_from_its_start() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.plan = ["crash"]
        with pytest.raises(EngineRestarting):
            await listening.guess(guess_of(works, VOICE[:24_000]))
        await listening.guess(guess_of(works, VOICE[:32_000]))

        assert [n_new for _, n_new in controls.heard] == [16_000, 8_000, 32_000]


async def test_a_guess_whose_slot_is_given_up_is_computed_by_another() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls, slots=2) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        dying = engine._slots[0].runner
        assert isinstance(dying, FakeRunner)
        controls.fail_starts = 3
        dying.die()

        assert (await listening.guess(guess_of(works, VOICE[:24_000]))).text == "one two three"
        assert len(controls.heard) == 1
        assert engine.load.slots == 1
        await listening.guess(guess_of(works, VOICE[:32_000]))
        assert n_lent(engine) == [0, 1]
        assert controls.heard[-1][1] == 32_000


async def test_while_runners_rest_a_guess_wakes_one_and_the_next_gets_an_ear() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls, idle_timeout_s=0.02) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        await until(lambda: controls.n_stopped == 1)
        with engine.attend():
            assert (await listening.guess(guess_of(works, VOICE[:24_000]))).text == "one two three"
            assert len(controls.heard) == 1
            await listening.guess(guess_of(works, VOICE[:32_000]))

        assert [n_new for _, n_new in controls.heard] == [16_000, 32_000]


async def test_stop_answers_a_guess_that_waits() -> None:
    works, controls = Works(), FakeControls(n_ears=1)
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, VOICE[:16_000]))
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make()))]
        await controls.wait_running(1)
        tasks += [asyncio.create_task(listening.guess(guess_of(works, VOICE[:24_000])))]
        await asyncio.sleep(0)
        await engine.stop()

        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Draining] * 2


async def test_a_runner_without_ears_recognises_the_whole_stretch_each_time() -> None:
    works, controls = Works(), FakeControls()
    engine = fake_engine(Metrics(), controls=controls, policy=StartPolicy(), slots=1)
    await engine.start()
    listening = engine.listen()

    assert (await listening.guess(guess_of(works, VOICE[:16_000]))).text == "one two"
    assert not controls.heard
    await engine.stop()
