import asyncio
from collections.abc import AsyncIterator

import pytest

from asr_service.transcriber.partial import LatestText


@pytest.fixture
async def segment() -> AsyncIterator[asyncio.Task[str]]:
    """A task that ends when it is cancelled."""
    task = asyncio.create_task(asyncio.Event().wait(), name="segment")
    yield task  # type: ignore[misc]
    task.cancel()


async def test_only_the_newest_text_is_given_out(segment: asyncio.Task[str]) -> None:
    latest = LatestText()
    for text in ("one", "one two", "one two three"):
        latest.put(text)

    assert await latest.take(until=segment) == "one two three"


async def test_a_text_is_waited_for(segment: asyncio.Task[str]) -> None:
    latest = LatestText()
    asyncio.get_running_loop().call_soon(latest.put, "one")

    assert await latest.take(until=segment) == "one"


async def test_the_same_text_is_given_out_once(segment: asyncio.Task[str]) -> None:
    latest = LatestText()
    latest.put("one")
    await latest.take(until=segment)
    for text in ("one", "two", "one"):  # back to what was taken
        latest.put(text)
    asyncio.get_running_loop().call_soon(latest.put, "one two")

    assert await latest.take(until=segment) == "one two"


async def test_nothing_is_given_out_once_the_segment_is_there(segment: asyncio.Task[str]) -> None:
    latest = LatestText()
    latest.put("one")
    segment.cancel()
    await asyncio.wait([segment])

    assert await latest.take(until=segment) is None


async def test_waiting_ends_with_the_segment_however_it_ends(segment: asyncio.Task[str]) -> None:
    asyncio.get_running_loop().call_soon(segment.cancel)

    assert await LatestText().take(until=segment) is None
