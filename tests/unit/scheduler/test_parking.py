"""What streams keep in the cache between their rounds."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.request import Priority
from asr_service.scheduler.plan import MoveItem, Sequence, Station, StepPlan
from asr_service.scheduler.steps import StepLimits, StepScheduler
from tests.unit.scheduler.sequences import Shadow, check_places, sequence
from tests.unit.scheduler.test_steps import fed, scheduler_of, step

FIRST, SECOND = Station(100, 1), Station(200, 2)


def a_round(uid: int, *stations: Station, stream: int = 0, prompt: int = 210, **more: object) -> Sequence:
    return sequence(uid, Priority.GUESS, windows=0, prompt=prompt, stream=stream, stations=stations, **more)  # type: ignore[arg-type]


def serve(scheduler: StepScheduler, *sequences: Sequence) -> list[StepPlan]:
    """Until they have said a token, which is their last."""
    for one in sequences:
        scheduler.submit(one)
    plans = []
    while len(scheduler):
        plan = scheduler.plan()
        scheduler.complete(plan, [item.uid for item in plan.feed if item.yields])
        check_places(scheduler)
        plans.append(plan)
    return plans


def test_a_round_begins_with_what_the_one_before_had_up_to_their_last_common_station() -> None:
    scheduler = scheduler_of(tokens=1024)
    serve(scheduler, a_round(0, FIRST, SECOND))

    (plan,) = serve(scheduler, a_round(1, FIRST, Station(200, 3), Station(300, 4), prompt=310))

    assert [(move.uid, move.start, move.count) for move in plan.moves] == [(1, 0, 100)]
    assert fed(plan) == [(1, 100, 210, True)]
    assert scheduler.kv_tokens_parked == 320, "300, in granules"


def test_nothing_is_parked_without_a_station_in_the_cache() -> None:
    scheduler = scheduler_of(tokens=64)
    serve(scheduler, a_round(0))
    scheduler.submit(a_round(1, FIRST))
    step(scheduler)

    scheduler.remove(1)  # 64 tokens were fed

    assert scheduler.kv_tokens_used == 0


def test_what_is_parked_stays_until_the_round_that_takes_it_over_has_it() -> None:
    scheduler = scheduler_of(tokens=1024, kv=1024)
    serve(scheduler, a_round(0, FIRST))
    scheduler.submit(a_round(1, FIRST))
    plan = scheduler.plan()
    assert plan.moves == (MoveItem(1, 0, 100, plan.feed[0].extent),)
    scheduler.relieve(plan)  # the step was not done

    again = scheduler.plan()
    assert again.moves == plan.moves
    scheduler.complete(again)

    assert scheduler.plan().moves == ()
    assert scheduler.kv_tokens_parked == 0
    scheduler.remove(1)
    assert scheduler.kv_tokens_used == scheduler.kv_tokens_parked == 128


def test_a_round_that_leaves_before_its_first_step_leaves_everything_as_it_was() -> None:
    scheduler = scheduler_of(tokens=1024)
    serve(scheduler, a_round(0, FIRST, SECOND))
    scheduler.submit(a_round(1, FIRST, SECOND))
    scheduler.plan()
    scheduler.remove(1)

    (plan,) = serve(scheduler, a_round(2, FIRST, SECOND))

    assert [move.count for move in plan.moves] == [200]


def test_parked_places_go_before_running_sequences_the_least_recently_used_first() -> None:
    scheduler = scheduler_of(tokens=1024, kv=1024)
    for stream in range(3):
        serve(scheduler, a_round(stream, FIRST, SECOND, stream=stream))
    serve(scheduler, a_round(3, FIRST, SECOND, stream=0))
    scheduler.submit(sequence(10, Priority.BATCH, windows=0, prompt=100, max_new=20))
    step(scheduler)

    scheduler.submit(sequence(11, Priority.REALTIME, windows=0, prompt=300))
    plan = scheduler.plan()

    assert plan.admitted == (11,)
    assert plan.evicted == ()
    assert 0 in scheduler._parking._parked, "used last"
    assert len(scheduler._parking) < 3
    check_places(scheduler)


def test_a_final_finds_room_though_everything_is_parked() -> None:
    scheduler = scheduler_of(tokens=2048, kv=1024)
    for stream in range(4):
        serve(scheduler, a_round(stream, FIRST, SECOND, stream=stream))
    assert scheduler.kv_tokens_parked == 1024

    serve(scheduler, sequence(10, Priority.REALTIME, windows=0, prompt=1000, max_new=4))

    assert scheduler.kv_tokens_used == 0


def test_a_stream_may_use_the_places_that_it_has_parked_itself() -> None:
    scheduler = scheduler_of(tokens=1024, kv=320)
    serve(scheduler, a_round(0, FIRST, SECOND))

    (plan,) = serve(scheduler, a_round(1, FIRST, SECOND, prompt=300))

    assert plan.moves == ()
    assert fed(plan) == [(1, 0, 300, True)]


@pytest.mark.parametrize("while_running", [False, True])
def test_a_forgotten_stream_has_nothing_parked(while_running: bool) -> None:
    scheduler = scheduler_of(tokens=1024)
    serve(scheduler, a_round(0, FIRST))
    if while_running:
        scheduler.submit(a_round(1, FIRST))
        step(scheduler)

    scheduler.forget(0)

    scheduler.remove(1)
    assert scheduler.kv_tokens_used == 0


def test_a_failed_round_leaves_nothing_parked() -> None:
    scheduler = scheduler_of(tokens=1024)
    serve(scheduler, a_round(0, FIRST))
    scheduler.submit(a_round(1, FIRST))
    step(scheduler)

    scheduler.remove(1, keep=False)

    assert scheduler.kv_tokens_used == 0


class Turn(NamedTuple):
    """A round of a stream that is served for so many steps and then leaves, beside others that need room."""

    stream: int
    growth: int
    renewed: int
    n_steps: int
    crowd: int  # prompt tokens of somebody more urgent who comes after the first step; 0: nobody
    fails: bool


TURNS = st.builds(
    Turn,
    stream=st.integers(0, 1),
    growth=st.integers(0, 2),
    renewed=st.sampled_from((0, 0, 0, 1, 2)),
    n_steps=st.integers(0, 8),
    crowd=st.sampled_from((0, 0, 0, 40, 150)),
    fails=st.sampled_from((False, False, False, True)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(TURNS, min_size=2, max_size=12))
def test_a_round_finds_in_its_places_what_it_would_have_fed(turns: list[Turn]) -> None:
    scheduler = StepScheduler(StepLimits(4, 8, step_tokens=40, encode_windows=4), 320, granule=16)
    shadow, inside = Shadow(), scheduler._inside
    streams: dict[int, list[int]] = {0: [], 1: []}
    versions, uids = itertools.count(), itertools.count()

    def run_step() -> None:
        plan = scheduler.plan()
        shadow.follow(plan, scheduler)
        shadow.did(plan, inside)
        check_places(scheduler)
        scheduler.complete(plan, [item.uid for item in plan.feed if item.yields])
        check_places(scheduler)

    for turn in turns:
        looks = streams[turn.stream]
        if len(looks) + turn.growth > 8:
            looks.clear()
        looks[max(0, len(looks) - turn.renewed) :] = [
            next(versions) for _ in range(min(turn.renewed, len(looks)) + turn.growth)
        ]
        stations = [Station(5 + 20 * n, look) for n, look in enumerate(looks, start=1)]
        one = a_round(next(uids), *stations, stream=turn.stream, prompt=12 + 20 * len(looks))
        scheduler.submit(one)
        for n in range(turn.n_steps):
            if n == 1 and turn.crowd:
                scheduler.submit(sequence(next(uids), Priority.REALTIME, windows=0, prompt=turn.crowd))
            run_step()
        scheduler.remove(one.uid, keep=not turn.fails)
    while len(scheduler):
        run_step()

    for stream in streams:
        scheduler.forget(stream)
    assert scheduler._pool.largest_free == 320
