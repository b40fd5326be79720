"""One utterance at the recogniser."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from asr_service.errors import AsrError, EngineGone, EngineRestarting, InternalError, Overloaded
from asr_service.live.hearing import Hearing
from asr_service.request import Hypothesis, Priority, RecognitionOptions, Speech, Work, WorkIds
from asr_service.session.events import Decide, Guess, Wish

_SPEECH = Speech(np.zeros(1600, np.float32), 0)


class _Listening:
    """Raises what is planned, then answers when it may."""

    def __init__(self) -> None:
        self.plan: list[AsrError] = []
        self.works: list[Work] = []
        self.n_inside = self.most_inside = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_closed = False

    async def guess(self, work: Work) -> Hypothesis:
        self.works.append(work)
        self.n_inside += 1
        self.most_inside = max(self.most_inside, self.n_inside)
        try:
            await self.gate.wait()
            if self.plan:
                raise self.plan.pop(0)
            return Hypothesis("heard", None)
        finally:
            await asyncio.sleep(0)  # an engine takes a moment to let go
            self.n_inside -= 1

    decide = guess

    def close(self) -> None:
        self.is_closed = True


class _Desk:
    """A hearing and what it says."""

    def __init__(self) -> None:
        self.listening = _Listening()
        self.answers: list[tuple[Wish, Hypothesis | None]] = []
        self.errors: list[Exception] = []
        self.said = asyncio.Event()
        self.hearing = Hearing(self.listening, WorkIds(), None, self._answer, self._fail)

    def _answer(self, wish: Wish, hypothesis: Hypothesis | None) -> None:
        self.answers.append((wish, hypothesis))
        self.said.set()

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.said.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self.said.wait(), 10)


def _guess(ticket: int) -> Guess:
    return Guess(ticket, 0, _SPEECH, RecognitionOptions())


def _decide(ticket: int, *, is_early: bool = False) -> Decide:
    return Decide(ticket, 0, _SPEECH, RecognitionOptions(), is_early)


async def test_the_newest_wish_is_the_one_that_is_answered_and_only_one_is_at_work() -> None:
    desk = _Desk()
    desk.listening.gate.clear()
    for ticket in range(4):
        desk.hearing.wish(_guess(ticket))
        await asyncio.sleep(0)
    desk.hearing.wish(_decide(9))
    desk.listening.gate.set()
    await desk.wait()

    assert [wish.ticket for wish, _ in desk.answers] == [9]
    assert desk.listening.most_inside == 1
    assert desk.listening.works[-1].priority is Priority.REALTIME


@pytest.mark.parametrize("wish", [_guess(0), _decide(0, is_early=True)])
@pytest.mark.parametrize("error", [Overloaded("full"), EngineRestarting("again"), InternalError("odd")])
async def test_a_guess_may_come_to_nothing(wish: Wish, error: AsrError) -> None:
    desk = _Desk()
    desk.listening.plan = [error]
    desk.hearing.wish(wish)
    await desk.wait()

    assert desk.answers == [(wish, None)]
    assert desk.errors == []


async def test_a_decision_is_asked_for_again_when_the_recogniser_is_full_or_restarts() -> None:
    desk = _Desk()
    desk.listening.plan = [Overloaded("full"), EngineRestarting("again")]
    desk.hearing.wish(_decide(0))
    await desk.wait()

    assert desk.answers == [(desk.answers[0][0], Hypothesis("heard", None))]
    assert len(desk.listening.works) == 3


@pytest.mark.parametrize("error", [InternalError("odd"), EngineGone("for good")])
async def test_a_decision_that_cannot_be_made_is_a_failure(error: AsrError) -> None:
    desk = _Desk()
    desk.listening.plan = [error]
    desk.hearing.wish(_decide(0))
    await desk.wait()

    assert (desk.answers, desk.errors) == ([], [error])


async def test_closing_cancels_what_runs_and_frees_what_is_kept() -> None:
    desk = _Desk()
    desk.listening.gate.clear()
    desk.hearing.wish(_decide(0))
    await asyncio.sleep(0)
    await desk.hearing.close()

    assert (desk.answers, desk.errors, desk.listening.n_inside) == ([], [], 0)
    assert desk.listening.is_closed


async def test_it_can_be_closed_from_its_own_answer() -> None:
    desk = _Desk()
    closing: list[asyncio.Task[None]] = []

    def close(wish: Wish, hypothesis: Hypothesis | None) -> None:
        closing.append(asyncio.create_task(hearing.close()))
        desk.said.set()

    hearing = Hearing(desk.listening, WorkIds(), None, close, lambda _: None)
    hearing.wish(_decide(0))
    await desk.wait()
    await closing[0]

    assert desk.listening.is_closed
