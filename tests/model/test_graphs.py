"""Graphs: captured, checked, padded and replayed. Without a GPU a replay runs the captured function again on its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from asr_service.model.decode_graphs import rows_of, sizes_up_to
from asr_service.model.encoder_graphs import SIZES
from asr_service.model.graphs import CapturedSteps, Difference, Fetched, GraphState, Replay, RunAgain
from asr_service.model.model_graphs import GraphPlan, ignore_graphs
from asr_service.model.runner import ModelRunner
from asr_service.request import RecognitionOptions
from tests.model.conftest import Pair, endless
from tests.model.driving import Driver, PlainReply, make_work
from tests.model.sounds import lively


class Doubling:
    """A StaticStep."""

    def __init__(self) -> None:
        self.source = torch.zeros(8)
        self.result = torch.zeros(8)
        self.runs: list[int] = []
        self.differences: dict[int, Difference] = {}

    def run(self, size: int) -> None:
        self.runs.append(size)
        self.result[:size] = 2 * self.source[:size]

    def difference(self, size: int, replay: Replay) -> Difference:
        replay()
        return self.differences.get(size, Difference(0.0, 0.0))


class Choosy(RunAgain):
    """Cannot capture functions whose number is in `refused`."""

    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.n_captures = 0

    def capture(self, run: Callable[[], None]) -> Replay:
        self.n_captures += 1
        if self.n_captures in self.refused:
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().capture(run)


def capture_all(step: Doubling, backend: RunAgain | None = None, sizes: tuple[int, ...] = (1, 2, 4)) -> CapturedSteps:
    captured = CapturedSteps("doubling", sizes, step, backend or RunAgain(), torch.float32, ignore_graphs)
    while captured.capture_next():
        pass
    return captured


# One class for capture, pad and replay


def test_the_largest_is_captured_first() -> None:
    step = Doubling()

    capture_all(step)

    assert list(dict.fromkeys(step.runs)) == [4, 2, 1]


def test_only_as_large_ones_as_asked_for_are_captured() -> None:
    captured = CapturedSteps("doubling", (1, 2, 4), Doubling(), RunAgain(), torch.float32, ignore_graphs)

    assert [captured.capture_next(2), captured.capture_next(2), captured.capture_next(2)] == [True, True, False]
    assert captured.sizes == [1, 2]
    assert captured.counts[GraphState.WAITING] == 1


@pytest.mark.parametrize(
    ("n", "parts"), [(1, [(1, 1)]), (3, [(3, 4)]), (4, [(4, 4)]), (5, [(4, 4), (1, 1)]), (11, [(4, 4), (4, 4), (3, 4)])]
)
def test_a_batch_is_padded_to_the_next_size_or_split_over_the_largest(n: int, parts: list[tuple[int, int]]) -> None:
    assert capture_all(Doubling()).split(n) == parts


def test_a_replay_works_on_what_the_static_tensors_hold_by_then() -> None:
    step = Doubling()
    captured = capture_all(step)
    step.source[:2] = torch.tensor([3.0, 5.0])

    captured.replay(2)

    assert step.result[:2].tolist() == [6, 10]


def test_one_that_cannot_be_captured_is_left_out() -> None:
    told: dict[GraphState, int] = {}
    step = Doubling()
    backend = Choosy(1)
    captured = CapturedSteps("doubling", (1, 2, 4), step, backend, torch.float32, lambda _, state, n: told.update({state: n}))
    while captured.capture_next():
        pass

    assert captured.split(4) == [(2, 2), (2, 2)]
    assert told == {GraphState.WAITING: 0, GraphState.CAPTURED: 2, GraphState.FAILED: 1, GraphState.MISMATCHED: 0}


@pytest.mark.parametrize("difference", [Difference(0.01, 0.0), Difference(math.inf, 0.3)])
def test_one_whose_results_differ_is_left_out(difference: Difference) -> None:
    step = Doubling()
    step.differences[2] = difference

    captured = capture_all(step)

    assert captured.sizes == [1, 4]
    assert captured.counts[GraphState.MISMATCHED] == 1
    assert captured.differences[2] == difference


@pytest.mark.parametrize(
    ("found", "noise", "is_allowed"),
    [(0.04, 0.0, True), (0.06, 0.0, False), (0.06, 0.02, True), (0.09, 0.02, False), (0.4, 0.2, True), (0.6, 0.4, False)],
)
def test_results_may_differ_by_a_few_times_the_noise_of_the_plain_ones(found: float, noise: float, is_allowed: bool) -> None:
    assert Difference(found, noise).is_allowed(torch.bfloat16) == is_allowed


def test_without_any_nothing_is_served() -> None:
    captured = capture_all(Doubling(), Choosy(1, 2, 3))

    assert captured.split(2) == []


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 16]), (500, list(SIZES))])
def test_there_are_sizes_for_every_batch_up_to_the_most(most: int, sizes: list[int]) -> None:
    assert sizes_up_to(most, SIZES) == sizes


# In the model

CLIPS = [lively(n, seed) for seed, n in enumerate((20 * 16_000 + 77, 7_000, 8 * 16_000, 50_000, 130_000))]


class Watched(RunAgain):
    """Counts its replays and those of its captures that were waited for."""

    def __init__(self) -> None:
        self.n_fetches = 0

    def fetch(self, tensor: torch.Tensor) -> Fetched:
        self.n_fetches += 1
        return super().fetch(tensor)


def graphed(pair: Pair, *, sequences: int = 4, windows: int = 4, backend: RunAgain | None = None) -> ModelRunner:
    plan = GraphPlan(sequences, windows, backend=backend or RunAgain())
    return ModelRunner(pair.folder, device="cpu", dtype="float32", kv_bytes=8 << 20, bind_replies=endless, graphs=plan)


@pytest.mark.parametrize("name", ["mid", "tied"])
def test_replies_are_the_same_with_graphs(name: str, request: pytest.FixtureRequest) -> None:
    pair: Pair = request.getfixturevalue(name)
    model = graphed(pair)
    driver = Driver(model, model.load())
    works = [make_work(clip, uid) for uid, clip in enumerate(CLIPS)]
    expected = [pair.driver.alone(work) for work in works]

    together = [reply.ids for reply in driver.replies(works)]

    assert together == expected
    assert model.counters.graph_rows == model.counters.decode_rows
    assert model.counters.graph_windows == model.counters.encoder_windows - 1  # the short clip


def test_replies_are_the_same_with_graphs_in_any_order(mid: Pair) -> None:
    model = graphed(mid, sequences=3)
    driver = Driver(model, model.load())
    works = [make_work(clip, uid) for uid, clip in enumerate(CLIPS)]
    expected = [mid.driver.alone(work) for work in works]

    for seed in range(3):
        assert [reply.ids for reply in driver.in_any_order(works, seed)] == expected
    assert model.counters.graph_rows > 0


def test_log_probabilities_are_the_same_with_graphs(mid: Pair) -> None:
    model = graphed(mid)
    found = Driver(model, model.load()).replies([make_work(CLIPS[3])])[0]

    assert found.logprobs == pytest.approx(mid.driver.replies([make_work(CLIPS[3])])[0].logprobs, abs=1e-4)


def test_rows_with_rules_of_their_own_are_chosen_from_the_graphs_logits(mid: Pair) -> None:
    model = graphed(mid)
    driver = Driver(model, model.load())
    warm = [make_work(lively(30_000, uid), uid, RecognitionOptions(temperature=1.0)) for uid in range(3)]
    works = [*warm, make_work(CLIPS[3], 9)]

    assert [reply.ids for reply in driver.replies(works)] == [mid.driver.alone(work) for work in works]


def test_what_a_reply_does_not_allow_is_not_chosen_by_a_graph(mid: Pair) -> None:
    model = graphed(mid)
    driver = Driver(model, model.load())
    held = replace(make_work(CLIPS[3]), uid=1)
    prepared = []

    def prepare(work: object) -> object:
        made = ModelRunner.prepare(model, work)  # type: ignore[arg-type]
        assert isinstance(made.reply, PlainReply)
        made.reply.only[3] = (5, 9)
        prepared.append(made)
        return made

    model.prepare = prepare  # type: ignore[assignment,method-assign]

    assert driver.alone(held)[3] in (5, 9)


def test_a_step_of_decode_rows_is_waited_for_once(mid: Pair) -> None:
    backend = Watched()
    model = graphed(mid, backend=backend)
    driver = Driver(model, model.load())
    before = model.counters.steps

    driver.replies([make_work(clip, uid) for uid, clip in enumerate(CLIPS[:4])])

    assert backend.n_fetches == model.counters.steps - before - 2  # one step encodes and one reads the prompts


def test_the_first_graphs_are_there_when_a_model_has_loaded_and_the_others_come_when_it_is_idle(mid: Pair) -> None:
    told: dict[tuple[str, GraphState], int] = {}
    plan = GraphPlan(12, 2, report=lambda kind, state, n: told.update({(kind, state): n}), backend=RunAgain())
    model = ModelRunner(mid.folder, device="cpu", dtype="float32", kv_bytes=8 << 20, bind_replies=endless, graphs=plan)

    model.load()

    assert told["decode-512", GraphState.CAPTURED] == 4
    assert told["decode-512", GraphState.WAITING] == 1
    assert told["encoder", GraphState.CAPTURED] == 2
    n_more = 0
    while model.idle():
        n_more += 1
    assert n_more == 4  # the largest, for each length of the plain attention
    assert told["decode-512", GraphState.WAITING] == 0
    assert not any(n for (_, state), n in told.items() if state in (GraphState.FAILED, GraphState.MISMATCHED))


def test_places_for_rows_that_stand_for_nobody_are_not_part_of_the_capacity(mid: Pair) -> None:
    bytes_per_token = 4 * 2 * 2 * 32 * 4
    plan = GraphPlan(5, 1, backend=RunAgain())
    model = ModelRunner(
        mid.folder, device="cpu", dtype="float32", kv_bytes=1000 * bytes_per_token, bind_replies=endless, graphs=plan
    )

    assert model.load().kv_tokens == 1000 - rows_of(5)
    assert rows_of(5) == 8


def test_a_graph_that_computes_something_else_is_not_used(mid: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from asr_service.model.decode_ops import PlainOps

    monkeypatch.setattr(PlainOps, "gate", lambda _self, gate_up: gate_up.chunk(2, dim=-1)[1])
    told: dict[tuple[str, GraphState], int] = {}
    plan = GraphPlan(2, 1, report=lambda kind, state, n: told.update({(kind, state): n}), backend=RunAgain())
    model = ModelRunner(mid.folder, device="cpu", dtype="float32", kv_bytes=8 << 20, bind_replies=endless, graphs=plan)
    driver = Driver(model, model.load())

    assert driver.alone(make_work(CLIPS[3])) == mid.driver.alone(make_work(CLIPS[3]))
    assert told["decode-512", GraphState.MISMATCHED] == 2
    assert model.counters.graph_rows == 0


def test_a_clip_shorter_than_a_chunk_is_encoded_without_a_graph(mid: Pair) -> None:
    model = graphed(mid)
    driver = Driver(model, model.load())

    driver.alone(make_work(CLIPS[1]))

    assert (model.counters.encoder_windows, model.counters.graph_windows) == (1, 0)


def test_an_unloaded_model_has_nothing_to_capture(mid: Pair) -> None:
    model = graphed(mid)
    assert not model.idle()
    model.load()
    model.unload()

    assert not model.idle()
