"""StepScheduler, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.errors import EngineMemory, Overloaded
from asr_service.request import Priority
from asr_service.scheduler.plan import EncodeItem, Gain, Sequence, StepPlan
from asr_service.scheduler.steps import StepLimits, StepScheduler, service_key
from tests.unit.scheduler.sequences import Shadow, check_places, sequence

REALTIME, INTERACTIVE, BATCH = Priority.REALTIME, Priority.INTERACTIVE, Priority.BATCH


def scheduler_of(
    *sequences: Sequence,
    rows: int = 4,
    queue: int = 8,
    kv: int = 4096,
    tokens: int = 64,
    bulk: int = 32,
    windows: int = 4,
) -> StepScheduler:
    scheduler = StepScheduler(StepLimits(rows, queue, tokens, bulk, windows), kv)
    for one in sequences:
        scheduler.submit(one)
    return scheduler


def step(scheduler: StepScheduler, *finished: int) -> StepPlan:
    plan = scheduler.plan()
    scheduler.complete(plan, finished)
    return plan


def fed(plan: StepPlan) -> list[tuple[int, int, int, bool]]:
    return [(item.uid, item.start, item.count, item.yields) for item in plan.feed]


def test_one_sequence_is_encoded_then_prefilled_in_chunks_then_decoded() -> None:
    scheduler = scheduler_of(sequence(7, windows=5, prompt=70))

    assert step(scheduler).encode == (EncodeItem(7, 0, 4),)
    assert step(scheduler).encode == (EncodeItem(7, 4, 1),)
    assert fed(step(scheduler)) == [(7, 0, 64, False)]
    assert fed(step(scheduler)) == [(7, 64, 6, True)]
    assert fed(step(scheduler)) == [(7, 70, 1, True)]
    assert fed(step(scheduler, 7)) == [(7, 71, 1, True)]
    assert scheduler.plan().is_empty
    assert (len(scheduler), scheduler.kv_tokens_used, scheduler.steps) == (0, 0, 6)


def test_who_decodes_has_a_row_while_others_are_prefilled_in_what_is_left() -> None:
    scheduler = scheduler_of(sequence(0), sequence(1, prompt=100))
    step(scheduler)  # both encoded
    assert fed(step(scheduler)) == [(0, 0, 8, True), (1, 0, 56, False)]

    assert fed(step(scheduler)) == [(0, 8, 1, True), (1, 56, 44, True)]


def test_bulk_rests_while_a_realtime_sequence_runs_and_is_taken_in_small_portions_for_a_while_after() -> None:
    scheduler = scheduler_of(sequence(0, BATCH, prompt=3000, windows=0))
    assert fed(step(scheduler)) == [(0, 0, 64, False)]
    scheduler.submit(sequence(1, REALTIME, prompt=20, windows=0, arrival_s=1.0))

    assert fed(step(scheduler)) == [(1, 0, 20, True)]
    assert fed(step(scheduler, 1)) == [(1, 20, 1, True)]
    counts = [step(scheduler).feed[0].count for _ in range(65)]
    assert counts == [32] * 63 + [64] * 2


def test_one_batch_sequence_goes_on_decoding_beside_a_realtime_one() -> None:
    scheduler = scheduler_of(*(sequence(uid, BATCH, prompt=10, windows=0, max_new=9) for uid in range(3)))
    step(scheduler)
    scheduler.submit(sequence(9, REALTIME, prompt=20, windows=0, arrival_s=1.0))

    assert fed(step(scheduler)) == [(0, 10, 1, True), (9, 0, 20, True)]
    assert fed(step(scheduler, 9)) == [(9, 20, 1, True), (0, 11, 1, True)]
    assert [item.uid for item in step(scheduler).feed] == [0, 1, 2]


def test_a_batch_sequence_that_has_waited_for_its_allowance_rests_for_nobody() -> None:
    scheduler = scheduler_of(sequence(0, BATCH, prompt=200, windows=0))
    scheduler.submit(sequence(1, REALTIME, prompt=20, windows=0, arrival_s=15.5))

    assert fed(step(scheduler)) == [(0, 0, 32, False), (1, 0, 20, True)]


def test_bulk_prompts_shrink_beside_one_who_waits_for_an_answer() -> None:
    scheduler = scheduler_of(sequence(0, BATCH, prompt=200, windows=0), sequence(1, INTERACTIVE, prompt=20, windows=0))

    assert fed(step(scheduler)) == [(1, 0, 20, True), (0, 0, 32, False)]


def test_bulk_is_encoded_a_window_at_a_time_while_somebody_waits_for_an_answer() -> None:
    scheduler = scheduler_of(sequence(0, BATCH, windows=8), sequence(1, INTERACTIVE, windows=2))

    assert step(scheduler).encode == (EncodeItem(1, 0, 2), EncodeItem(0, 0, 1))


def test_a_class_that_has_all_its_slots_taken_does_not_keep_another_class_out() -> None:
    scheduler = scheduler_of(*(sequence(uid, BATCH, windows=0, max_new=9) for uid in range(5)), rows=2)
    step(scheduler)
    scheduler.submit(sequence(9, INTERACTIVE, windows=0, arrival_s=1.0))
    plan = step(scheduler)

    assert plan.admitted == (9,)
    assert {item.uid for item in plan.feed} == {9, 0}  # of the two that run, one rests and keeps its places
    assert scheduler.n_running == 3
    assert fed(step(scheduler, 9)) == [(9, 8, 1, True), (0, 9, 1, True)]
    assert fed(step(scheduler)) == [(0, 10, 1, True), (1, 8, 1, True)]


def test_for_a_higher_class_the_least_urgent_lower_ones_lose_their_places_and_no_more_of_them_than_needed() -> None:
    bulk = [sequence(uid, BATCH, windows=1, prompt=100, max_new=28) for uid in range(4)]
    scheduler = scheduler_of(*bulk, kv=512)
    step(scheduler)
    step(scheduler)
    scheduler.submit(sequence(9, INTERACTIVE, prompt=150, max_new=50, arrival_s=1.0))
    plan = step(scheduler)

    assert plan.evicted == (2, 3)
    assert plan.admitted == (9,)
    assert (bulk[3].n_kv, bulk[3].n_encoded, bulk[3].extent) == (0, 1, None)
    assert scheduler.evictions == 2
    check_places(scheduler)


def test_room_has_to_be_in_one_piece() -> None:
    scheduler = scheduler_of(kv=192)
    for uid, priority in enumerate((BATCH, REALTIME, BATCH)):
        scheduler.submit(sequence(uid, priority, prompt=60))
        step(scheduler)
    scheduler.submit(sequence(9, INTERACTIVE, prompt=100))
    plan = step(scheduler)

    # the two batch ones lie at both sides of the realtime one, whom an interactive one cannot move
    assert (plan.evicted, plan.admitted, scheduler.n_running) == ((), (), 3)


@pytest.mark.parametrize("waiting", [BATCH, INTERACTIVE])
def test_nobody_loses_its_places_to_its_own_class_or_a_lower_one(waiting: Priority) -> None:
    scheduler = scheduler_of(sequence(1, INTERACTIVE, prompt=60, arrival_s=30.0), kv=64)
    step(scheduler)
    scheduler.submit(sequence(0, waiting, prompt=60))

    assert step(scheduler).evicted == ()
    assert scheduler.n_running == 1


def test_after_its_allowance_a_batch_sequence_loses_its_places_to_nobody() -> None:
    scheduler = scheduler_of(sequence(0, BATCH, prompt=60), kv=64)
    step(scheduler)
    scheduler.submit(sequence(1, REALTIME, prompt=60, arrival_s=15.5))

    assert step(scheduler).evicted == ()


def test_an_evicted_sequence_keeps_its_tokens_and_feeds_them_again() -> None:
    victim = sequence(0, BATCH, windows=0, prompt=40)
    scheduler = scheduler_of(victim, kv=64, bulk=64)
    step(scheduler)
    step(scheduler)
    assert victim.n_generated == 2
    scheduler.submit(sequence(1, REALTIME, windows=0, prompt=40))
    step(scheduler)
    assert (victim.n_kv, victim.n_generated) == (0, 2)
    step(scheduler, 1)

    plan = scheduler.plan()
    assert plan.admitted == (0,)
    assert fed(plan) == [(0, 0, 42, True)]


def test_small_ones_do_not_pass_a_big_one_that_waits_for_room() -> None:
    scheduler = scheduler_of(sequence(0, prompt=100), sequence(1, prompt=150), sequence(2, prompt=20), kv=192)
    step(scheduler)
    step(scheduler)
    assert scheduler.n_running == 1

    step(scheduler, 0)
    assert step(scheduler).admitted == (1,)


def test_what_could_never_run_is_refused_at_once() -> None:
    scheduler = scheduler_of(kv=128)

    with pytest.raises(EngineMemory, match=r"needs 140 cache places \(limit 128\)"):
        scheduler.submit(sequence(0, prompt=100, max_new=40))
    assert len(scheduler) == 0


def test_a_full_engine_refuses_and_says_the_limit() -> None:
    scheduler = scheduler_of(*(sequence(uid) for uid in range(3)), rows=2, queue=1)

    with pytest.raises(Overloaded, match=r"3 segments are already inside \(limit 3\)"):
        scheduler.submit(sequence(3))
    scheduler.submit(sequence(3), is_extra=True)


def test_a_uid_that_is_inside_and_a_sequence_that_can_say_nothing_are_errors() -> None:
    scheduler = scheduler_of(sequence(0))

    for wrong in (sequence(0), sequence(1, prompt=0), sequence(2, max_new=0)):
        with pytest.raises(ValueError, match="cannot take"):
            scheduler.submit(wrong)


def test_one_that_has_used_up_its_tokens_must_be_over() -> None:
    scheduler = scheduler_of(sequence(0, windows=0, max_new=1))

    with pytest.raises(ValueError, match="no place for another token"):
        step(scheduler)


def test_removing_one_frees_its_places_at_once() -> None:
    running, waiting = sequence(0, prompt=60), sequence(1, prompt=60)
    scheduler = scheduler_of(running, waiting, kv=64)
    step(scheduler)

    assert scheduler.remove(0) is running
    assert scheduler.remove(0) is None
    assert scheduler.kv_tokens_used == 0
    assert step(scheduler).admitted == (1,)
    assert scheduler.remove(1) is waiting
    assert scheduler.plan().is_empty


def test_the_expired_leave_whether_they_run_or_wait() -> None:
    scheduler = scheduler_of(sequence(0, deadline_s=2.0), sequence(1, deadline_s=1.0), sequence(2), rows=1)
    step(scheduler)

    assert scheduler.take_expired(0.9) == []
    assert [expired.uid for expired in scheduler.take_expired(2.0)] == [1, 0]
    assert len(scheduler) == 1


def test_submitting_and_removing_in_a_loop_does_not_grow_the_heap() -> None:
    scheduler = scheduler_of()
    for uid in range(1000):
        scheduler.submit(sequence(uid, deadline_s=1e9))
        scheduler.remove(uid)

    assert len(scheduler._deadlines) < 100


def test_clear_gives_everything_back_as_new_but_for_its_tokens() -> None:
    running, waiting = sequence(0), sequence(1)
    scheduler = scheduler_of(running, waiting, rows=1)
    for _ in range(3):
        step(scheduler)

    assert scheduler.clear() == [running, waiting]
    assert (running.n_encoded, running.n_kv, running.n_generated, running.extent) == (0, 0, 2, None)
    assert (len(scheduler), scheduler.kv_tokens_used) == (0, 0)


def test_an_out_of_memory_halves_the_next_step_and_evicts_those_without_a_turn() -> None:
    scheduler = scheduler_of(*(sequence(uid, windows=0, prompt=20) for uid in range(4)))
    plan = scheduler.plan()
    assert len(plan.uids) == 4
    assert scheduler.relieve(plan) is None

    plan = scheduler.plan()
    assert fed(plan) == [(0, 0, 20, True), (1, 0, 12, False)]
    assert plan.evicted == (2, 3)
    assert plan.admitted == ()
    assert scheduler.evictions == 2


def test_a_reduced_budget_comes_back_after_calm_steps() -> None:
    scheduler = scheduler_of(*(sequence(uid, windows=0, prompt=1, max_new=100) for uid in range(4)))
    scheduler.relieve(scheduler.plan())
    sizes = [len(step(scheduler).uids) for _ in range(20)]

    assert sizes[:16] == [2] * 16
    assert sizes[16:] == [4] * 4


@pytest.mark.parametrize("windows", [0, 9])
def test_a_sequence_for_which_there_is_never_memory_is_the_culprit_after_few_tries(windows: int) -> None:
    scheduler = scheduler_of(*(sequence(uid, windows=windows, prompt=900) for uid in range(3)), tokens=1024, windows=64)
    tries = 1
    while (culprit := scheduler.relieve(scheduler.plan())) is None:
        tries += 1

    assert culprit.uid == 0
    assert tries <= 8
    assert 0 not in scheduler


@given(
    st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 3), st.integers(1, 90), st.integers(1, 12)), max_size=12),
    st.sampled_from((128, 192, 1024)),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_batch_sequence_is_served_under_an_endless_stream_of_more_urgent_ones(
    stream: list[tuple[Priority, int, int, int]], kv: int, rows: int
) -> None:
    scheduler = scheduler_of(sequence(0, BATCH, prompt=90, max_new=30), rows=rows, kv=kv, queue=5)
    shadow = Shadow()
    now_s, uid = 0.0, 0
    while 0 in scheduler:
        now_s += 0.25
        assert now_s < 15.0 + 0.25 * 1000, "starved"
        for priority, windows, prompt, max_new in stream:
            if len(scheduler) < scheduler.limits.max_inside:
                uid += 1
                scheduler.submit(
                    sequence(uid, priority, arrival_s=now_s, windows=windows, prompt=prompt, max_new=min(max_new, 120 - prompt))
                )
        plan = scheduler.plan()
        shadow.follow(plan, scheduler)
        inside = scheduler._inside
        shadow.did(plan, inside)
        done = [i.uid for i in plan.feed if i.yields and inside[i.uid].n_generated + 1 == inside[i.uid].max_new_tokens]
        scheduler.complete(plan, done)
        check_places(scheduler)


def test_a_draft_is_fed_behind_the_prompt_and_what_is_right_of_it_is_known() -> None:
    scheduler = scheduler_of(sequence(0, prompt=8, max_new=20, draft=10))
    step(scheduler)
    plan = scheduler.plan()
    assert fed(plan) == [(0, 0, 18, True)]
    assert plan.feed[0].n_draft == 10

    scheduler.complete(plan, (), {0: Gain(n_tokens=5)})  # 4 were right, and the 5th token is another one

    assert fed(step(scheduler)) == [(0, 12, 1, True)]
    assert fed(step(scheduler)) == [(0, 13, 1, True)]


def test_a_draft_is_fed_in_portions_as_long_as_it_is_right() -> None:
    scheduler = scheduler_of(sequence(0, prompt=60, max_new=60, draft=50), tokens=64)
    step(scheduler)
    first = scheduler.plan()
    assert [(item.uid, item.start, item.count, item.n_draft) for item in first.feed] == [(0, 0, 64, 4)]
    scheduler.complete(first, (), {0: Gain(n_tokens=5, n_draft=45)})  # those 4, and the next one as expected

    second = scheduler.plan()
    assert [(item.uid, item.start, item.count, item.n_draft) for item in second.feed] == [(0, 64, 46, 45)]
    scheduler.complete(second, (), {0: Gain(n_tokens=1)})

    assert fed(scheduler.plan()) == [(0, 65, 1, True)]


def test_a_draft_must_leave_room_for_a_token() -> None:
    with pytest.raises(ValueError, match="cannot take"):
        scheduler_of(sequence(0, max_new=4, draft=4))


def test_guesses_are_live() -> None:
    scheduler = scheduler_of(sequence(0, BATCH, prompt=200, arrival_s=-1.0), rows=4)
    step(scheduler)
    scheduler.submit(sequence(1, Priority.GUESS))

    assert {item.uid for item in step(scheduler).encode} == {1}
    assert {uid for uid, *_ in fed(step(scheduler))} == {1}


def test_order_is_arrival_plus_allowance_then_uid() -> None:
    ordered = sorted((sequence(2), sequence(1), sequence(0, BATCH), sequence(3, REALTIME)), key=service_key)

    assert [one.uid for one in ordered] == [3, 1, 2, 0]
