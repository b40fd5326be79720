"""Listening to growing speech on a step engine whose model is a fake that looks closely at what it is fed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asr_service.engine.fake_model import ModelControls
from asr_service.engine.inbox import Rest
from asr_service.engine.listening import Listening
from asr_service.engine.recognition import AttemptWork, recognize
from asr_service.errors import Draining, InternalError, Overloaded
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Priority, RecognitionOptions, Samples, Work
from asr_service.scheduler.steps import StepLimits
from tests.unit.engine.step_engines import LIMITS, running, seconds, step_until, text_of, value
from tests.unit.engine.works import Works, until

WIDE = StepLimits(max_sequences=4, queue_capacity=8, step_tokens=1024, encode_windows=8)


def loud(n: float, from_s: float) -> Samples:
    samples = seconds(n)
    samples[int(from_s * 16_000) :] = 0.5
    return samples


def guess_of(works: Works, samples: Samples) -> Work:
    return works.make(samples, priority=Priority.GUESS)


def drafts(metrics: Metrics) -> tuple[float, float]:
    """Tokens confirmed and rejected."""
    name = "asr_engine_draft_tokens_total"
    return value(metrics, name, outcome="confirmed"), value(metrics, name, outcome="rejected")


async def test_what_was_said_before_costs_no_steps() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=WIDE) as engine:
        listening = engine.listen()
        first = await listening.guess(guess_of(works, seconds(4)))
        n_steps = len(controls.plans)
        work = works.make(seconds(4))
        decision = await listening.decide(work)

        assert first.text == decision.text == text_of(work)
        assert len(controls.plans) - n_steps == 2, "one to encode, one to feed"
        assert drafts(metrics) == (10, 0)
        assert controls.drafts == [(work.uid, 10, 10)]


async def test_a_word_that_sounds_otherwise_once_more_follows_is_taken_back() -> None:
    works, controls, metrics = Works(), ModelControls(mumbles=True), Metrics()
    async with running(controls, metrics) as engine:
        listening = engine.listen()
        for n in (2, 4, 6):
            assert (await listening.guess(guess_of(works, seconds(n)))).text == text_of(works.make(seconds(n)))
        decision = await listening.decide(works.make(seconds(6)))

    assert decision.text == text_of(works.make(seconds(6)))
    assert drafts(metrics) == (4 + 9 + 15, 1 + 1)


async def test_a_guess_asks_about_the_end_of_the_draft_and_a_decision_about_all_of_it() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=WIDE) as engine:
        listening = engine.listen()
        for n in (10, 12):
            await listening.guess(guess_of(works, seconds(n)))
        decision = await listening.decide(works.make(seconds(12)))

    assert [(n_drafted, n_right) for _, n_drafted, n_right in controls.drafts] == [(16, 16), (30, 30)]
    assert decision.text == text_of(works.make(seconds(12)))
    assert decision.tokens is not None
    assert decision.tokens.output == 30


async def test_a_draft_longer_than_a_step_is_fed_in_portions() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(36)))
        decision = await listening.decide(works.make(seconds(36)))

    assert len(controls.drafts) > 1
    assert decision.text == text_of(works.make(seconds(36)))


async def test_closed_windows_are_encoded_and_read_once() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=WIDE) as engine:
        listening = engine.listen()
        lengths = (5.0, 7.0, 9.0, 12.0, 17.0, 18.0, 26.0)
        for n in lengths:
            work = guess_of(works, seconds(n))
            assert (await listening.guess(work)).text == text_of(work)

        encoded = [window for _, window in controls.encoded]
        assert [encoded.count(window) for window in range(4)] == [3, 3, 3, 1]
        assert [count for _, count in controls.moved] == [106, 106, 210, 210]
        assert value(metrics, "asr_engine_parked_tokens") == 320, "314, in granules"


async def test_without_a_closed_window_nothing_stays_in_the_cache() -> None:
    works, metrics = Works(), Metrics()
    async with running(ModelControls(), metrics) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(7.9)))

        assert value(metrics, "asr_engine_kv_tokens") == 0


async def test_what_was_heard_before_it_became_loud_is_encoded_again_for_decisions_only() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=WIDE) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, loud(17, 18)))
        guess = guess_of(works, loud(19, 18))
        await listening.guess(guess)
        decision = works.make(loud(19, 18))
        await listening.decide(decision)

    assert [window for uid, window in controls.encoded if uid == guess.uid] == [2]
    assert [window for uid, window in controls.encoded if uid == decision.uid] == [0, 1, 2]
    assert [uid for uid, _ in controls.moved] == [guess.uid]
    assert value(metrics, "asr_engine_renewed_windows_total") == 2


async def test_a_stretch_may_end_earlier_or_be_another() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=WIDE) as engine:
        listening = engine.listen()
        for samples in (seconds(18), seconds(17), seconds(4), loud(18, 1), loud(18, 2), seconds(0)):
            for hear in (listening.guess, listening.decide):
                work = works.make(samples)
                assert (await hear(work)).text == text_of(work)


async def test_what_was_said_in_another_stretch_is_asked_about_until_there_is_a_new_draft() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=WIDE) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(20)))
        controls.hold()
        given_up = asyncio.create_task(listening.guess(guess_of(works, loud(8, 7))))
        await until(lambda: controls.n_held == 1)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        controls.release()
        for n in (10, 11):
            work = guess_of(works, loud(n, 7))
            assert (await listening.guess(work)).text == text_of(work)

    assert [(n_drafted, n_right) for _, n_drafted, n_right in controls.drafts] == [(25, 25), (16, 16)]


async def test_what_was_said_under_other_options_is_no_draft() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(12)))
        await listening.guess(works.make(seconds(12), options=RecognitionOptions(language=ENGLISH)))

    assert controls.drafts == []


async def test_a_model_that_was_unloaded_in_between_computes_everything_again() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(9)))
        engine._loop.inbox.put(Rest())
        await until(lambda: controls.n_unloads == 1)
        work = guess_of(works, seconds(10))

        assert (await listening.guess(work)).text == text_of(work)
        assert [window for uid, window in controls.encoded if uid == work.uid] == [0, 1]
        assert controls.moved == []
        listening.close()


async def test_a_closed_listening_leaves_nothing_behind() -> None:
    works, metrics = Works(), Metrics()
    async with running(ModelControls(), metrics) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(9)))
        assert value(metrics, "asr_engine_kv_tokens") > 0
        listening.close()
        listening.close()

        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0)


async def test_closing_while_a_round_is_at_work_leaves_nothing_behind() -> None:
    works, controls, metrics = Works(), ModelControls(), Metrics()
    async with running(controls, metrics, limits=WIDE) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(9)))
        controls.hold()
        work = guess_of(works, seconds(10))
        task = asyncio.create_task(listening.guess(work))
        await step_until(controls, lambda: controls.plans[-1].get(work.uid, 0) > 20)
        listening.close()
        task.cancel()
        controls.release()

        await until(lambda: value(metrics, "asr_engine_kv_tokens") == 0 and not controls.open_works)
        await asyncio.gather(task, return_exceptions=True)


async def test_a_cancelled_round_is_in_no_later_step_and_the_next_one_goes_on_from_it() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        listening = engine.listen()
        controls.hold()
        given_up = guess_of(works, seconds(9))
        task = asyncio.create_task(listening.guess(given_up))
        await step_until(controls, lambda: len(controls.plans) >= 4)  # windows, and twice 64 tokens
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        n_runs = len(controls.plans)
        controls.release()
        work = works.make(seconds(10))
        decision = await listening.decide(work)

    assert decision.text == text_of(work)
    assert not any(given_up.uid in plan for plan in controls.plans[n_runs:])
    assert controls.moved == [(work.uid, 106)]
    assert [window for uid, window in controls.encoded if uid == work.uid] == [1]


async def test_streams_share_steps_with_each_other_and_with_uploads() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=StepLimits(4, 8, step_tokens=64, live_riders=2)) as engine:
        listenings = [engine.listen() for _ in range(3)]
        controls.hold()
        upload = works.make(seconds(8), priority=Priority.BATCH)
        tasks = [asyncio.create_task(engine.recognize(upload))]
        await step_until(controls, lambda: len(controls.plans) > 3 and controls.plans[-1].get(upload.uid) == 1)
        tasks += [asyncio.create_task(listening.guess(guess_of(works, seconds(9)))) for listening in listenings]
        await step_until(controls, lambda: len(controls.plans[-1]) == 4)
        controls.release()
        texts = [hypothesis.text for hypothesis in await asyncio.gather(*tasks)]

    assert texts == [text_of(upload)] + [text_of(works.make(seconds(9)))] * 3


async def test_what_is_kept_gives_way_and_is_made_again() -> None:
    works, controls, metrics = Works(), ModelControls(kv_tokens=640), Metrics()
    async with running(controls, metrics, limits=WIDE) as engine:
        listenings = [engine.listen() for _ in range(3)]
        uids: list[list[int]] = [[], [], []]
        for n in (17, 18, 19, 24.5):
            for listening, own in zip(listenings, uids, strict=True):
                work = guess_of(works, seconds(n))
                own.append(work.uid)
                assert (await listening.guess(work)).text == text_of(work)
            work = works.make(seconds(12), priority=Priority.BATCH)
            assert (await engine.recognize(work)).text == text_of(work)

        assert value(metrics, "asr_engine_evictions_total") == 0
        assert len(controls.moved) < 9, "some had to read their windows again"
        for own in uids:
            assert [window for uid, window in controls.encoded if uid in own] == [0, 1, 2, 2, 2, 2, 3], "none to encode them"


async def test_a_round_that_failed_is_no_part_of_the_next_one() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(17)))
        controls.fail_steps = 2  # with others, and alone
        with pytest.raises(InternalError):
            await listening.guess(guess_of(works, seconds(18)))
        work = works.make(seconds(19))

        assert (await listening.decide(work)).text == text_of(work)
        assert controls.moved == [], "who knows what is in the cache"


async def test_a_round_that_waits_while_the_model_is_loaded_anew_has_its_windows_encoded_again() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=StepLimits(1, 8, **_sizes())) as engine:
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(9)))
        controls.hold()
        crowd = [asyncio.create_task(engine.recognize(guess_of(works, seconds(1)))) for _ in range(3)]
        await until(lambda: controls.n_held == 1)
        work = guess_of(works, seconds(10))
        task = asyncio.create_task(listening.guess(work))
        await step_until(controls, lambda: work.uid in controls.open_works)
        controls.is_broken = True
        controls.release()
        await asyncio.gather(*crowd, return_exceptions=True)

        assert (await task).text == text_of(work)
        assert controls.n_loads == 2
        assert [window for uid, window in controls.encoded if uid == work.uid] == [0, 1]


async def test_a_model_does_not_prepare_itself_in_places_that_are_kept() -> None:
    works, controls = Works(), ModelControls(n_idle=1)
    async with running(controls, limits=WIDE) as engine:
        await until(lambda: controls.n_idle == 0)
        listening = engine.listen()
        await listening.guess(guess_of(works, seconds(9)))
        controls.n_idle = 5
        work = works.make(seconds(10))

        assert (await listening.decide(work)).text == text_of(work)
        assert len(controls.moved) == 1


async def test_only_the_first_decoding_of_a_decision_belongs_to_the_stretch() -> None:
    works, controls = Works(), ModelControls()

    async def twice(work: Work, attempt: AttemptWork, new_uid: Callable[[], int]) -> Hypothesis:
        await attempt(work)
        other = Work(new_uid(), works.make(seconds(3)).speech, work.options, work.priority, work.arrival_s)
        return await recognize(other, attempt, new_uid)

    async with running(controls, recognize_work=twice) as engine:
        listening = engine.listen()
        assert (await listening.decide(works.make(seconds(9)))).text == text_of(works.make(seconds(3)))
        work = guess_of(works, seconds(10))
        await listening.guess(work)

    assert controls.moved == [(work.uid, 106)]


async def test_a_guess_is_one_decoding() -> None:
    works = Works()

    async def never(_work: Work, _attempt: AttemptWork, _new_uid: Callable[[], int]) -> Hypothesis:
        raise AssertionError("a guess is not recovered")

    async with running(ModelControls(), recognize_work=never) as engine:
        work = guess_of(works, seconds(3))
        assert (await engine.listen().guess(work)).text == text_of(work)


async def test_rounds_are_refused_like_other_works() -> None:
    works, controls = Works(), ModelControls()
    async with running(controls, limits=StepLimits(1, 1, **_sizes())) as engine:
        controls.hold()
        tasks = [asyncio.create_task(engine.recognize(works.make())) for _ in range(2)]
        await until(lambda: controls.n_held == 1)
        with pytest.raises(Overloaded):
            await engine.listen().guess(guess_of(works, seconds(1)))
        controls.release()
        await asyncio.gather(*tasks)
        listening = engine.listen()
    with pytest.raises(Draining):
        await listening.decide(works.make())
    listening.close()


def _sizes() -> dict[str, Any]:
    return {"step_tokens": LIMITS.step_tokens, "encode_windows": LIMITS.encode_windows}


async def test_partial_texts_of_a_round_are_told() -> None:
    works, heard = Works(), list[str]()
    async with running(ModelControls()) as engine:
        listening: Listening = engine.listen()
        await listening.guess(guess_of(works, seconds(2)))
        base = works.make(np.zeros(48_000, np.float32))
        work = Work(base.uid, base.speech, base.options, base.priority, base.arrival_s, on_partial=heard.append)
        answer = await listening.decide(work)

    assert heard[0] == "one two three four five six"
    assert heard[-1] == answer.text
