"""EngineLoop, step by step and without its thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from asr_service.decoding.reply import FinishReason
from asr_service.engine.fake_model import FakeModel, FakePrepared, FakeReply, ModelControls
from asr_service.engine.inbox import Arrival, Departure, Inbox, Rest
from asr_service.engine.loop import EngineLoop, ModelBroken
from asr_service.engine.updates import Ended, News, Ready, Updates
from asr_service.errors import AsrError, DeadlineExceeded, EngineMemory, EngineRestarting, InternalError, Overloaded
from asr_service.metrics import Metrics
from asr_service.request import Priority
from asr_service.scheduler.plan import Sequence
from tests.unit.engine.step_engines import AT_ONCE, LIMITS, value

WORDS = ("a", "b", "c")


@dataclass
class Bench:
    """A loop with its model loaded, whose clock is a variable and whose news are a list."""

    controls: ModelControls = field(default_factory=ModelControls)
    metrics: Metrics = field(default_factory=Metrics)
    news: list[News] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.loop = EngineLoop(
            FakeModel(self.controls),
            LIMITS,
            self.news.append,
            metrics=self.metrics,
            policy=AT_ONCE,
            hang_limit_s=1.0,
            clock=lambda: self.now_s,
        )
        self.loop._load()

    def arrive(
        self,
        uid: int,
        *,
        words: tuple[str, ...] = WORDS,
        priority: Priority = Priority.INTERACTIVE,
        budget: int = 9,
        deadline_s: float | None = None,
        wants_partials: bool = False,
        is_extra: bool = False,
    ) -> FakeReply:
        prepared = FakePrepared(uid, words, 1, 10, budget, FakeReply(words, budget))
        sequence = Sequence(uid, priority, self.now_s, deadline_s, 1, prepared.n_prompt, budget)
        self.loop.inbox.put(Arrival(sequence, prepared, wants_partials, is_extra))
        return prepared.reply

    def step(self) -> Updates:
        """What one step tells."""
        n_news = len(self.news)
        self.loop.step()
        assert len(self.news) <= n_news + 1, "one message for each step"
        last = self.news[-1] if len(self.news) > n_news else Updates()
        assert isinstance(last, Updates)
        return last

    def steps(self) -> Updates:
        """All steps until there is nothing to do, put together."""
        first = len(self.news)
        while self.loop.step():
            pass
        together = Updates()
        for told in self.news[first:]:
            assert isinstance(told, Updates)
            assert not told.finished.keys() & together.finished.keys()
            assert not told.failed.keys() & together.failed.keys()
            together.started_s |= told.started_s
            together.partials |= told.partials
            together.finished |= told.finished
            together.failed |= told.failed
        return together


def kinds(errors: dict[int, AsrError]) -> dict[int, type[AsrError]]:
    return {uid: type(error) for uid, error in errors.items()}


def test_a_sequence_is_started_and_finished_with_its_words() -> None:
    bench = Bench()
    reply = bench.arrive(7)
    bench.now_s = 3.0
    told = bench.steps()

    assert told.started_s == {7: 3.0}
    assert told.finished == {7: FinishReason.STOP}
    assert reply.text == "a b c"
    assert bench.controls.open_works == set()


def test_a_step_without_news_tells_nothing() -> None:
    bench = Bench()
    bench.arrive(0)

    assert bench.step().started_s == {0: 0.0}
    assert bench.step().are_empty
    assert len(bench.news) == 1


def test_partial_texts_come_when_they_change_and_only_to_those_who_want_them() -> None:
    bench = Bench()
    bench.arrive(0, wants_partials=True)
    bench.arrive(1)

    assert [bench.step().partials for _ in range(6)] == [{}, {0: "a"}, {0: "a b"}, {0: "a b c"}, {}, {}]


def test_a_reply_without_an_end_is_over_where_its_places_are() -> None:
    class Endless(FakeReply):
        def accept(self, token: int, logprob: float) -> FinishReason | None:
            self.ids.append(token)
            return None

    bench = Bench()
    words = tuple("abcdefghij")
    prepared = FakePrepared(0, words, 1, 10, 4, Endless(words, 4))
    sequence = Sequence(0, Priority.INTERACTIVE, 0.0, None, 1, prepared.n_prompt, 4)
    bench.loop.inbox.put(Arrival(sequence, prepared, wants_partials=False, is_extra=False))

    assert bench.steps().finished == {0: FinishReason.LENGTH}
    assert prepared.reply.text == "a b c d"


def test_a_departure_is_in_no_further_step_and_is_told_nothing() -> None:
    bench = Bench()
    bench.arrive(0)
    bench.arrive(1)
    bench.step()
    bench.loop.inbox.put(Departure(0))
    told = bench.steps()

    assert all(0 not in plan for plan in bench.controls.plans[1:])
    assert (told.finished, told.failed) == ({1: FinishReason.STOP}, {})
    assert value(bench.metrics, "asr_engine_kv_tokens") == 0


def test_a_departure_of_somebody_unknown_does_nothing() -> None:
    bench = Bench()
    bench.loop.inbox.put(Departure(5))

    assert bench.step().are_empty


@pytest.mark.parametrize(("n_steps", "message"), [(0, "after 2.000 s in the queue"), (2, "while the segment was being")])
def test_the_expired_are_told_and_served_no_further(n_steps: int, message: str) -> None:
    bench = Bench()
    bench.arrive(0, deadline_s=2.0)
    for _ in range(n_steps):
        bench.step()
    bench.now_s = 2.0
    told = bench.step()

    assert kinds(told.failed) == {0: DeadlineExceeded}
    assert message in str(told.failed[0])
    assert len(bench.controls.plans) == n_steps
    assert bench.controls.open_works == set()


def test_a_full_engine_refuses_but_not_the_extra_ones() -> None:
    bench = Bench()
    for uid in range(LIMITS.max_inside + 1):
        bench.arrive(uid)
    bench.arrive(99, is_extra=True)
    told = bench.steps()

    assert kinds(told.failed) == {LIMITS.max_inside: Overloaded}
    assert len(told.finished) == LIMITS.max_inside + 1


def test_who_makes_a_step_raise_fails_alone() -> None:
    bench = Bench()
    replies = [bench.arrive(uid) for uid in range(3)]
    bench.controls.faulty = {1}
    told = bench.steps()

    assert kinds(told.failed) == {1: InternalError}
    assert told.finished.keys() == {0, 2}
    assert [reply.text for reply in replies] == ["a b c", "", "a b c"]


def test_a_reply_that_raises_fails_alone() -> None:
    class Broken(FakeReply):
        def accept(self, token: int, logprob: float) -> FinishReason | None:
            raise RuntimeError("no")

    bench = Bench()
    bench.arrive(0)
    prepared = FakePrepared(1, WORDS, 1, 10, 4, Broken(WORDS, 4))
    sequence = Sequence(1, Priority.INTERACTIVE, 0.0, None, 1, prepared.n_prompt, 4)
    bench.loop.inbox.put(Arrival(sequence, prepared, wants_partials=False, is_extra=False))
    told = bench.steps()

    assert kinds(told.failed) == {1: InternalError}
    assert told.finished.keys() == {0}
    assert bench.controls.open_works == set()


def test_a_sequence_that_the_model_cannot_open_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    opening = FakeModel.open

    def open_unless_1(model: FakeModel, uid: int, prepared: FakePrepared) -> None:
        if uid == 1:
            raise RuntimeError("no")
        opening(model, uid, prepared)

    monkeypatch.setattr(FakeModel, "open", open_unless_1)
    bench.arrive(0)
    bench.arrive(1)
    told = bench.steps()

    assert kinds(told.failed) == {1: InternalError}
    assert told.finished.keys() == {0}


def test_for_whom_there_is_no_memory_even_alone_is_told_so_after_few_steps() -> None:
    bench = Bench()
    for uid in range(4):
        bench.arrive(uid)
    bench.controls.hungry = {0}
    told = bench.steps()

    assert kinds(told.failed) == {0: EngineMemory}
    assert told.finished.keys() == {1, 2, 3}
    assert sum(0 in plan for plan in bench.controls.plans) < 10


def test_three_failures_in_a_row_and_no_success_are_a_broken_model_that_is_loaded_again() -> None:
    bench = Bench()
    replies = [bench.arrive(uid) for uid in range(6)]  # two more than have a slot
    bench.step()
    bench.controls.is_broken = True
    told = bench.steps()

    assert kinds(told.failed) == dict.fromkeys(range(4), EngineRestarting)
    assert told.finished.keys() == {4, 5}
    assert [reply.text for reply in replies[4:]] == ["a b c"] * 2
    assert (bench.controls.n_loads, bench.controls.n_unloads) == (2, 1)


def test_who_rested_when_the_model_broke_goes_on_from_where_it_was() -> None:
    bench = Bench()
    resting = bench.arrive(9, priority=Priority.BATCH)
    while not resting.ids:
        bench.step()
    for uid in range(4):
        bench.arrive(uid)
    while len(bench.controls.plans[-1]) < 4:
        bench.step()
    bench.controls.is_broken = True
    told = bench.steps()

    assert kinds(told.failed) == dict.fromkeys(range(4), EngineRestarting)
    assert told.finished == {9: FinishReason.STOP}
    assert resting.text == "a b c"


def test_a_model_that_breaks_after_each_load_is_given_up() -> None:
    bench = Bench()
    bench.controls.stays_broken = True

    def serve_without_end() -> None:
        for uid in range(100):
            bench.arrive(uid)
            bench.loop.step()

    with pytest.raises(ModelBroken, match="3 runs of the model failed in a row, also after 3 loads"):
        serve_without_end()

    assert bench.controls.n_loads == 1 + AT_ONCE.max_failures


def test_a_smaller_cache_after_a_reload_refuses_what_does_not_fit_any_more() -> None:
    bench = Bench()
    for uid in range(5):
        bench.arrive(uid, budget=100 if uid == 4 else 9)
    bench.step()
    bench.controls.is_broken, bench.controls.kv_tokens = True, 64
    told = bench.steps()

    assert kinds(told.failed) == {**dict.fromkeys(range(4), EngineRestarting), 4: EngineMemory}


def test_rest_unloads_the_model_only_when_nobody_is_inside() -> None:
    bench = Bench()
    bench.arrive(0)
    bench.loop.inbox.put(Rest())
    bench.step()
    assert bench.controls.is_loaded
    assert value(bench.metrics, "asr_engine_loaded") == 1
    bench.steps()
    bench.loop.inbox.put(Rest())
    bench.step()
    assert not bench.controls.is_loaded
    assert value(bench.metrics, "asr_engine_loaded") == 0

    bench.arrive(1)
    assert bench.steps().finished == {1: FinishReason.STOP}


def test_steps_tokens_and_windows_are_counted() -> None:
    bench = Bench()
    bench.arrive(0)
    bench.steps()

    names = ("steps", "windows", "tokens", "tokens")
    labels: list[dict[str, str]] = [{}, {}, {"kind": "prefill"}, {"kind": "decode"}]
    counts = [value(bench.metrics, f"asr_engine_{name}_total", **label) for name, label in zip(names, labels, strict=True)]
    assert counts == [5, 1, 16, 3]
    assert value(bench.metrics, "asr_engine_step_seconds_count") == 5


def test_while_the_model_is_at_work_the_loop_says_since_when_and_how_long_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    seen = []

    def look(_: ModelControls) -> None:
        assert bench.loop.busy is not None
        seen.append((bench.loop.busy.since_s, bench.loop.busy.limit_s))
        bench.now_s += 1.0

    monkeypatch.setattr(ModelControls, "pass_gate", look)
    bench.arrive(0)
    bench.step()
    bench.step()

    assert seen == [(0.0, 1.0), (1.0, 10.0)]  # the first took a second, and ten times that is allowed
    assert bench.loop.busy is None


def test_the_thread_loads_serves_sleeps_and_ends() -> None:
    bench = Bench()
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    bench.arrive(0)
    bench.loop.inbox.close()
    thread.join(10)

    assert bench.news[0] == Ready()
    assert bench.news[-1] == Ended(None)
    assert not bench.controls.is_loaded


def test_a_thread_that_cannot_load_ends_with_the_reason() -> None:
    bench = Bench(ModelControls())
    bench.controls.fail_loads = 1
    bench.loop.run()

    assert bench.news == [Ended("the controls say so")]


def test_a_closed_inbox_wakes_its_reader_and_takes_nothing_more() -> None:
    inbox = Inbox()
    inbox.put(Departure(0))
    inbox.close()
    inbox.put(Departure(1))
    inbox.wait()

    assert inbox.take() == [Departure(0)]
    assert inbox.wait_closed(60.0)
    assert not Inbox().wait_closed(0.0)


# With nothing else to do


def test_an_idle_model_prepares_itself_a_piece_at_a_time() -> None:
    bench = Bench(ModelControls(n_idle=2))

    assert [bench.loop.improve() for _ in range(4)] == [True, True, False, False]


def test_a_model_with_open_sequences_is_not_asked_to_prepare_itself() -> None:
    bench = Bench(ModelControls(n_idle=1))
    bench.arrive(1)
    bench.loop.step()

    assert not bench.loop.improve()
    assert bench.controls.n_idle == 1


def test_a_model_that_cannot_prepare_itself_serves_as_it_is_and_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(ModelControls(n_idle=1, fail_idle=True))

    assert not bench.loop.improve()

    assert "serves as it is" in caplog.text
    bench.controls.fail_idle = False
    assert not bench.loop.improve()
    reply = bench.arrive(1)
    while bench.loop.step():
        pass
    assert reply.text == "a b c"


def test_a_model_that_was_loaded_again_prepares_itself_again() -> None:
    bench = Bench(ModelControls(n_idle=1))
    while bench.loop.improve():
        pass
    bench.controls.n_idle = 1
    bench.loop._unload()
    assert not bench.loop.improve()

    bench.loop._load()

    assert bench.loop.improve()


def test_the_thread_serves_before_it_lets_the_model_prepare_itself() -> None:
    bench = Bench(ModelControls(n_idle=3))
    reply = bench.arrive(1)

    def publish(news: News) -> None:
        bench.news.append(news)
        if isinstance(news, Updates) and news.finished:
            assert bench.controls.n_idle == 3

    bench.loop._publish = publish
    bench.loop._model.idle = _closing_when_done(bench)  # type: ignore[method-assign]

    bench.loop.run()

    assert reply.text == "a b c"
    assert bench.controls.n_idle == 0


def _closing_when_done(bench: Bench) -> Callable[[], bool]:
    """The model's own `idle`, which ends the loop when nothing is left."""
    idle = bench.loop._model.idle

    def closing() -> bool:
        if not (was_left := idle()):
            bench.loop.inbox.close()
        return was_left

    return closing
