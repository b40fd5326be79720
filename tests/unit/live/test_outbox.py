"""Events on their way to a client."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.errors import InternalError, ResumeWindowGone, SessionTaken
from asr_service.live.events import Closed, Failed, Opened
from asr_service.live.outbox import Letter, Outbox, Reader
from asr_service.request import Cursors
from asr_service.session.events import Decided, Ended, EndReason, MarkerReached, Partial

_HERE = Cursors()


def _partial(utterance: int, delta: str, committed: str) -> Partial:
    return Partial(utterance, delta, committed, tail="")


async def _all(outbox: Outbox, reader: Reader) -> list[Letter]:
    return [await reader.take() for _ in range(outbox.n_waiting)]


async def test_partials_that_wait_are_joined_and_lose_no_text() -> None:
    outbox = Outbox()
    for partial in (_partial(0, "a", "a"), _partial(0, " b", "a b"), _partial(0, "", "a b"), _partial(1, "c", "c")):
        outbox.put(partial, _HERE)
    first, second = await _all(outbox, outbox.open())

    assert (first.seq, second.seq) == (0, 1)
    assert first.event == _partial(0, "a b", "a b")
    assert second.event == _partial(1, "c", "c")


async def test_only_the_last_of_several_acknowledgements_is_sent() -> None:
    outbox = Outbox()
    for sample in (1, 2, 3):
        outbox.put(Decided(sample), _HERE)
    [letter] = await _all(outbox, outbox.open())

    assert letter.event == Decided(3)


@pytest.mark.parametrize("last", [Closed(Ended(EndReason.FINISHED)), Failed(InternalError("x"))])
async def test_nothing_comes_after_the_end(last: Closed | Failed) -> None:
    outbox = Outbox()
    outbox.put(Opened(), _HERE)
    outbox.put(last, _HERE)
    outbox.put(MarkerReached("m"), _HERE)

    assert [letter.event for letter in await _all(outbox, outbox.open())] == [Opened(), last]


async def test_a_reader_waits_for_news() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.open().take())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.put(Opened(), _HERE)

    assert (await waiting).event == Opened()


async def test_a_later_reader_takes_the_place_of_the_one_before() -> None:
    outbox = Outbox()
    first = asyncio.create_task(outbox.open().take())
    await asyncio.sleep(0)
    second = asyncio.create_task(outbox.open().take())
    await asyncio.sleep(0)
    outbox.put(Opened(), _HERE)

    with pytest.raises(SessionTaken):
        await first
    assert (await second).seq == 0


async def test_between_rewinding_and_a_new_reader_nothing_leaves() -> None:
    outbox = Outbox(n_kept=10)
    outbox.put(Opened(), _HERE)
    old = outbox.open()
    await old.take()
    outbox.put(MarkerReached("m"), _HERE)
    outbox.rewind(0)

    with pytest.raises(SessionTaken):
        await old.take()
    assert (await outbox.open().take()).event == MarkerReached("m")


@settings(max_examples=200, deadline=None)
@given(
    n_kept=st.integers(1, 8),
    steps=st.lists(st.one_of(st.just("put"), st.just("take"), st.integers(-1, 30)), max_size=60),
)
def test_a_rewound_reader_hears_each_event_once_in_order(n_kept: int, steps: list[str | int]) -> None:
    async def run() -> None:
        outbox = Outbox(n_kept=n_kept)
        reader, n_put = outbox.open(), 0
        heard: list[object] = []  # event of each seq, as a client that comes back knows them
        for step in steps:
            if step == "put":
                outbox.put(MarkerReached(str(n_put)), _HERE)
                n_put += 1
            elif step == "take":
                if outbox.n_waiting:
                    letter = await reader.take()
                    assert letter.seq == len(heard)
                    heard.append(letter.event)
            elif isinstance(step, int) and not len(heard) <= step < outbox.next_seq:  # a client knows what it has heard
                try:
                    outbox.rewind(step)
                except ResumeWindowGone:
                    assert step >= outbox.next_seq or step < len(heard) - n_kept
                    continue
                assert step < outbox.next_seq
                del heard[step + 1 :]
                reader = outbox.open()
        assert heard == [MarkerReached(str(n)) for n in range(len(heard))]

    asyncio.run(run())
