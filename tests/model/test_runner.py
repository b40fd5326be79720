"""The step model as the engine meets it: what it costs, what it refuses, and what it does when something goes wrong."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr_service.decoding.draft import NO_DRAFT
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.step_model import StepOutOfMemory
from asr_service.errors import InvalidValue
from asr_service.failpoints import FailpointError, Failpoints
from asr_service.languages import ENGLISH
from asr_service.model.decoder import Decoder
from asr_service.model.prepared import BudgetedReply, LiveSequence, PreparedSpeech
from asr_service.model.runner import ModelRunner, WorkCounters
from asr_service.request import RecognitionOptions
from asr_service.scheduler.plan import EncodeItem, Extent, FeedItem, StepPlan
from tests.model.conftest import N_TOKENS, Pair, endless
from tests.model.driving import Driver, PlainReply, make_work
from tests.model.sounds import lively

CLIP = lively(20 * 16_000 + 77, seed=3)  # three windows
CONTEXT = RecognitionOptions(context="open the door", language=ENGLISH)


def make_runner(pair: Pair, *, device: str = "cpu", kv_bytes: int = 8 << 20, failpoints: str = "") -> ModelRunner:
    return ModelRunner(
        pair.folder, device=device, dtype="float32", kv_bytes=kv_bytes, bind_replies=endless, failpoints=Failpoints(failpoints)
    )


def minus(after: WorkCounters, before: WorkCounters) -> WorkCounters:
    names = WorkCounters.__dataclass_fields__
    return WorkCounters(**{name: getattr(after, name) - getattr(before, name) for name in names})


@pytest.fixture
def prepared(mid: Pair) -> Iterator[PreparedSpeech]:
    """CLIP, open as uid 0 and encoded."""
    made = mid.model.prepare(make_work(CLIP))
    assert isinstance(made, PreparedSpeech)
    mid.model.open(0, made)
    mid.model.run(StepPlan(encode=(EncodeItem(0, 0, 3),)))
    yield made
    mid.model.close(0)


def feed_all(prepared: PreparedSpeech, start: int = 0) -> StepPlan:
    n_places = prepared.n_prompt + prepared.max_new_tokens
    return StepPlan(feed=(FeedItem(0, start, prepared.n_known - start, True, Extent(5, n_places)),))


# What it reads and what it costs


@pytest.mark.parametrize("options", [RecognitionOptions(), CONTEXT])
def test_the_prompt_is_the_stock_one_with_a_place_per_audio_token(mid: Pair, options: RecognitionOptions) -> None:
    prepared = mid.model.prepare(make_work(CLIP, options=options))
    assert isinstance(prepared, PreparedSpeech)

    ids = LiveSequence(prepared, 104, mid.config.audio_token_id).ids(0, prepared.n_prompt)

    language = options.language.name if options.language else None
    assert ids == mid.stock.prompt_ids(CLIP, options.context, language)
    assert (prepared.n_windows, prepared.n_audio_tokens) == (3, 260)


def test_a_request_costs_its_windows_once_its_prompt_once_and_a_row_per_token(mid: Pair) -> None:
    before = mid.model.counters

    mid.driver.alone(make_work(CLIP))

    n_prompt = mid.model.prepare(make_work(CLIP)).n_prompt
    assert minus(mid.model.counters, before) == WorkCounters(
        steps=1 + N_TOKENS,
        encoder_windows=3,
        conv_chunks=20,
        prefill_tokens=n_prompt,
        decode_rows=N_TOKENS - 1,
        heads=N_TOKENS,
    )


def test_an_evicted_sequence_is_fed_again_without_being_encoded_again(mid: Pair, prepared: PreparedSpeech) -> None:
    first = mid.model.run(feed_all(prepared))[0]
    before = mid.model.counters

    again = mid.model.run(StepPlan(feed=(FeedItem(0, 0, prepared.n_known, True, Extent(900, prepared.n_known + 1)),)))[0]

    assert again.id == first.id
    assert again.logprob == pytest.approx(first.logprob, abs=1e-5)
    assert minus(mid.model.counters, before).encoder_windows == 0


def test_only_the_last_known_token_yields_the_next(mid: Pair, prepared: PreparedSpeech) -> None:
    extent = Extent(0, prepared.n_prompt + N_TOKENS)
    before = mid.model.counters

    tokens = mid.model.run(StepPlan(feed=(FeedItem(0, 0, 100, False, extent),)))

    assert tokens == {}
    assert minus(mid.model.counters, before).heads == 0


# Choice


def test_what_a_reply_does_not_allow_is_not_chosen(mid: Pair, prepared: PreparedSpeech) -> None:
    free = mid.model.run(feed_all(prepared))[0]
    assert isinstance(prepared.reply, PlainReply)
    prepared.reply.only[0] = (5, 9)

    held = mid.model.run(feed_all(prepared))[0]

    assert free.id not in (5, 9)
    assert held.id in (5, 9)


def test_a_warm_request_says_the_same_alone_and_among_others(mid: Pair) -> None:
    warm = [make_work(lively(30_000, uid), uid, RecognitionOptions(temperature=1.0)) for uid in range(4)]

    together = [reply.ids for reply in mid.driver.replies(warm)]

    assert together == [mid.driver.alone(work) for work in warm]
    other_seed = mid.driver.alone(replace(warm[0], uid=17))
    assert other_seed != together[0]


# What goes wrong


def test_a_failed_step_may_be_run_again(mid: Pair) -> None:
    model = make_runner(mid, failpoints="model.step=error*2")
    driver = Driver(model, model.load())
    for _ in range(2):
        with pytest.raises(FailpointError):
            model.run(StepPlan())

    assert driver.alone(make_work(CLIP)) == mid.driver.alone(make_work(CLIP))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4398046511104 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
    ],
)
def test_no_memory_for_a_step_is_said_so_and_leaves_it_possible(
    mid: Pair, prepared: PreparedSpeech, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = mid.model.run(feed_all(prepared))

    def fail(*_args: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "run", fail)
        with pytest.raises(StepOutOfMemory):
            mid.model.run(feed_all(prepared))

    assert mid.model.run(feed_all(prepared)) == expected


def test_another_error_of_a_step_stays_what_it_is(mid: Pair, prepared: PreparedSpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Decoder, "run", fail)

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        mid.model.run(feed_all(prepared))


def test_a_window_that_is_not_encoded_cannot_be_fed(mid: Pair) -> None:
    prepared = mid.model.prepare(make_work(CLIP))
    mid.model.open(4, prepared)
    mid.model.run(StepPlan(encode=(EncodeItem(4, 0, 1),)))
    extent = Extent(0, prepared.n_prompt)

    assert mid.model.run(StepPlan(feed=(FeedItem(4, 0, 50, False, extent),))) == {}
    with pytest.raises(ValueError, match="window 1 is fed before it is encoded"):
        mid.model.run(StepPlan(feed=(FeedItem(4, 50, 100, False, extent),)))
    mid.model.close(4)


def test_closing_what_is_not_open_is_nothing(mid: Pair) -> None:
    mid.model.close(12_345)


# Loading


def test_unloading_frees_it_at_once_and_it_can_be_loaded_again(mid: Pair) -> None:
    model = make_runner(mid)
    first = Driver(model, model.load()).alone(make_work(CLIP))
    cache = weakref.ref(model._loaded().cache)
    model.unload()
    model.unload()

    assert cache() is None
    assert model.prepare(make_work(CLIP)).n_windows >= 1  # what that needs is small, and stays
    assert Driver(model, model.load()).alone(make_work(CLIP)) == first


def test_the_cache_has_as_many_places_as_fit_the_budget(mid: Pair) -> None:
    bytes_per_token = 4 * 2 * 2 * 32 * 4  # layers, keys and values, key heads, their size, float32

    assert make_runner(mid, kv_bytes=1000 * bytes_per_token + 1).load().kv_tokens == 1000


def test_a_cache_too_small_for_two_windows_is_refused(mid: Pair) -> None:
    with pytest.raises(EngineFailed, match="a key-value cache of 1000 bytes holds 0 tokens; this model needs"):
        make_runner(mid, kv_bytes=1000).load()


def test_a_cache_that_no_machine_has_room_for_is_refused(mid: Pair) -> None:
    with pytest.raises(EngineFailed, match="cpu has no memory for"):
        make_runner(mid, kv_bytes=1 << 60).load()


def test_a_device_that_is_not_there_is_refused(mid: Pair) -> None:
    with pytest.raises(EngineFailed, match="torch sees"):
        make_runner(mid, device="cuda:63").load()


def test_a_broken_checkpoint_is_refused(mid: Pair, tmp_path: Path) -> None:
    folder = shutil.copytree(mid.folder, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    model = ModelRunner(folder, device="cpu", dtype="auto", kv_bytes=8 << 20, bind_replies=endless)

    with pytest.raises(EngineFailed, match=r"model\.safetensors"):
        model.load()


def test_the_failpoint_of_loading_is_there(mid: Pair) -> None:
    with pytest.raises(FailpointError):
        make_runner(mid, failpoints="model.load=error").load()


# Requests


def test_more_than_the_model_has_positions_for_is_refused(mid: Pair) -> None:
    def boundless(*_args: object) -> BudgetedReply:
        return BudgetedReply(PlainReply(10_000), 1_000_000)

    model = ModelRunner(
        mid.folder, device="cpu", dtype="auto", kv_bytes=8 << 20, bind_replies=lambda _tokenizer, _config: boundless
    )
    model.load()

    with pytest.raises(InvalidValue, match="the model takes 0 beside 260 of audio"):
        model.prepare(make_work(CLIP))


def test_what_another_model_prepared_is_refused(mid: Pair) -> None:
    class Foreign:
        n_windows = n_prompt = n_audio_tokens = max_new_tokens = 1
        reply, draft, kept = PlainReply(1), NO_DRAFT, None

    with pytest.raises(TypeError, match="prepared by another model"):
        mid.model.open(1, Foreign())
