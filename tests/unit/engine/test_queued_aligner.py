"""The aligner's queue, over a model that a test controls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import pytest

from asr_service.decoding.units import cut_units
from asr_service.engine.align_model import AlignerOutOfMemory, PreparedPiece
from asr_service.engine.aligner import AlignerInfo, Alignment
from asr_service.engine.protocol import EngineFailed
from asr_service.engine.queued_aligner import AlignLimits, QueuedAligner
from asr_service.errors import (
    AsrError,
    DeadlineExceeded,
    Draining,
    EngineMemory,
    FeatureUnavailable,
    InternalError,
    InvalidValue,
    LanguageUnavailable,
    Overloaded,
)
from asr_service.languages import ENGLISH, Language
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Priority, Samples, Speech, Word
from tests.unit.engine.works import until

GERMAN = Language("de", "German")


@dataclass(frozen=True)
class Piece:
    units: tuple[str, ...]

    @property
    def n_tokens(self) -> int:
        return 10 * len(self.units)


@dataclass
class Model:
    """Says that each word lasts 100 ms. `most`: pieces at once, before memory is out."""

    most: int = 100
    reach_ms: int = 60_000
    load_error: str = ""
    bad_word: str = ""
    events: list[Any] = field(default_factory=list)
    may_run: threading.Event = field(default_factory=threading.Event)

    def load(self) -> None:
        self.events.append("load")
        if self.load_error:
            raise EngineFailed(self.load_error)

    def unload(self) -> None:
        self.events.append("unload")

    def prepare(self, samples: Samples, units: Sequence[str]) -> Piece:
        return Piece(tuple(units))

    def run(self, pieces: Sequence[PreparedPiece]) -> list[tuple[int, ...]]:
        units = [piece.units for piece in pieces if isinstance(piece, Piece)]
        self.events.append([unit[0] for unit in units])
        assert self.may_run.wait(10)
        if len(pieces) > self.most:
            raise AlignerOutOfMemory("full")
        if any(self.bad_word in unit for unit in units if self.bad_word):
            raise ZeroDivisionError
        return [tuple(edge for n in range(len(unit)) for edge in (100 * n, 100 * n + 100)) for unit in units]

    @property
    def batches(self) -> list[list[str]]:
        return [event for event in self.events if isinstance(event, list)]


@asynccontextmanager
async def aligning(model: Model, *, blocked: bool = False, idle_s: float = 0.0, **limits: int) -> AsyncIterator[QueuedAligner]:
    if not blocked:
        model.may_run.set()
    info = AlignerInfo("test", "test", "cpu", (ENGLISH,), model.reach_ms)
    aligner = QueuedAligner(
        info, model, lambda text, _: cut_units(text), limits=AlignLimits(**limits), idle_timeout_s=idle_s, metrics=Metrics()
    )
    try:
        yield aligner
    finally:
        model.may_run.set()
        await aligner.stop()


def wanted(text: str = "one two", *, start_ms: int = 0, seconds: float = 2.0, **changes: Any) -> Alignment:
    speech = Speech(np.zeros(round(seconds * SAMPLE_RATE), np.float32), start_ms)
    given: dict[str, Any] = {"language": ENGLISH, "priority": Priority.INTERACTIVE, "arrival_s": monotonic()}
    return Alignment(0, speech, text, **(given | changes))


async def test_words_come_back_with_punctuation_and_offsets() -> None:
    async with aligning(Model()) as aligner:
        assert await aligner.align(wanted("One, two!", start_ms=5000)) == (Word("One,", 5000, 5100), Word("two!", 5100, 5200))


async def test_a_text_without_words_has_none() -> None:
    model = Model()
    async with aligning(model) as aligner:
        assert await aligner.align(wanted("...")) == ()
        assert model.events == []


async def test_the_model_is_loaded_when_it_is_needed_and_given_back_when_it_is_not() -> None:
    model = Model()
    async with aligning(model, idle_s=0.01) as aligner:
        assert model.events == []
        await aligner.align(wanted())
        await until(lambda: model.events[-1] == "unload")
        await aligner.align(wanted())
        assert model.events == ["load", ["one"], "unload", "load", ["one"]]


async def test_it_stays_loaded_without_a_timeout() -> None:
    model = Model()
    async with aligning(model) as aligner:
        await aligner.align(wanted())
        await aligner.align(wanted())
        assert model.events == ["load", ["one"], ["one"]]


async def test_what_waits_goes_together_most_urgent_first() -> None:
    model = Model()
    async with aligning(model, blocked=True, max_pieces=2) as aligner:
        tasks = [asyncio.create_task(aligner.align(wanted("first")))]
        await until(lambda: bool(model.batches))
        now_s = monotonic()
        for text, priority in (("bulk", Priority.BATCH), ("soon", Priority.INTERACTIVE), ("live", Priority.REALTIME)):
            tasks.append(asyncio.create_task(aligner.align(wanted(text, priority=priority, arrival_s=now_s))))
        await until(lambda: len(aligner._waiting) == 3)
        model.may_run.set()
        await asyncio.gather(*tasks)
    assert model.batches == [["first"], ["live", "soon"], ["bulk"]]


async def test_a_batch_stays_within_its_tokens_but_one_alone_may_have_more() -> None:
    model = Model()
    async with aligning(model, blocked=True, max_tokens=30) as aligner:
        tasks = [asyncio.create_task(aligner.align(wanted("first")))]
        await until(lambda: bool(model.batches))
        for n, text in enumerate(("long " * 5, "a b", "c", "d")):
            tasks.append(asyncio.create_task(aligner.align(wanted(text, arrival_s=monotonic() + n))))
        await until(lambda: len(aligner._waiting) == 4)
        model.may_run.set()
        await asyncio.gather(*tasks)
    assert model.batches == [["first"], ["long"], ["a", "c"], ["d"]]


async def test_without_memory_a_batch_is_halved() -> None:
    model = Model(most=1)
    async with aligning(model, blocked=True) as aligner:
        tasks = [asyncio.create_task(aligner.align(wanted("first")))]
        await until(lambda: bool(model.batches))
        tasks += [asyncio.create_task(aligner.align(wanted(text))) for text in "abc"]
        await until(lambda: len(aligner._waiting) == 3)
        model.may_run.set()
        answers = await asyncio.gather(*tasks)
    assert [words[0].text for words in answers] == ["first", "a", "b", "c"]
    assert [len(batch) for batch in model.batches] == [1, 3, 1, 2, 1, 1]


async def test_without_memory_for_one_it_is_said() -> None:
    async with aligning(Model(most=0)) as aligner:
        with pytest.raises(EngineMemory):
            await aligner.align(wanted())


async def test_one_that_fails_fails_alone() -> None:
    model = Model(bad_word="bad")
    async with aligning(model, blocked=True) as aligner:
        first = asyncio.create_task(aligner.align(wanted("first")))
        await until(lambda: bool(model.batches))
        tasks = [asyncio.create_task(aligner.align(wanted(text))) for text in ("a", "bad", "c")]
        await until(lambda: len(aligner._waiting) == 3)
        model.may_run.set()
        await first
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [tuple, InternalError, tuple]


async def test_a_model_that_cannot_be_loaded_is_tried_again_next_time() -> None:
    model = Model(load_error="no room")
    async with aligning(model) as aligner:
        with pytest.raises(FeatureUnavailable, match="no room"):
            await aligner.align(wanted())
        model.load_error = ""
        assert len(await aligner.align(wanted())) == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"language": GERMAN}, LanguageUnavailable), ({"seconds": 61.0}, InvalidValue), ({"deadline_s": 0.0}, DeadlineExceeded)],
)
async def test_what_cannot_be_done_is_refused(changes: dict[str, Any], error: type[AsrError]) -> None:
    async with aligning(Model()) as aligner:
        with pytest.raises(error):
            await aligner.align(wanted(**changes))


async def test_who_leaves_takes_no_place() -> None:
    model = Model()
    async with aligning(model, blocked=True) as aligner:
        first = asyncio.create_task(aligner.align(wanted("first")))
        await until(lambda: bool(model.batches))
        leaving, staying = (asyncio.create_task(aligner.align(wanted(text))) for text in ("leaving", "staying"))
        await until(lambda: len(aligner._waiting) == 2)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        model.may_run.set()
        await asyncio.gather(first, staying)
    assert model.batches == [["first"], ["staying"]]


async def test_a_full_queue_and_a_stopped_one() -> None:
    model = Model()
    async with aligning(model, blocked=True, queue_capacity=1) as aligner:
        first = asyncio.create_task(aligner.align(wanted("first")))
        await until(lambda: bool(model.batches))
        second = asyncio.create_task(aligner.align(wanted("second")))
        await until(lambda: len(aligner._waiting) == 1)
        with pytest.raises(Overloaded):
            await aligner.align(wanted("third"))
        stopping = asyncio.create_task(aligner.stop())
        with pytest.raises(Draining):
            await second
        with pytest.raises(Draining):
            await aligner.align(wanted())
        model.may_run.set()
        await stopping
        assert (await first)[0].text == "first"
    assert model.events[-1] == "unload"
