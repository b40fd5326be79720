from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.errors import ResumeWindowGone, SessionTaken, UploadIdle
from asr_service.grpc_api.upload_feed import ByteFeed

SOURCE = bytes(range(256)) * 4


@given(st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 400)), max_size=30), st.integers(1, 300))
def test_whatever_is_sent_again_every_byte_is_there_once(connections: list[tuple[int, int]], size: int) -> None:
    """Each connection begins somewhere, at or before what is there, and is lost after so many bytes."""

    async def run() -> None:
        feed = ByteFeed()
        taken: list[bytes] = []

        async def read() -> None:
            async for chunk in feed.chunks():
                taken.append(chunk)  # noqa: PERF401

        reader = asyncio.create_task(read())
        for begin, n_bytes in [*connections, (0, len(SOURCE))]:
            tap, at = feed.open(), min(begin, feed.received)
            for start in range(at, min(at + n_bytes, len(SOURCE)), size):
                await tap.put(SOURCE[start : min(start + size, at + n_bytes)], start)
        tap.end(is_sure=True)
        await reader
        await feed.confirm_end()
        assert b"".join(taken) == SOURCE
        assert feed.received == len(SOURCE)

    asyncio.run(run())


async def test_one_piece_waits_at_most() -> None:
    feed = ByteFeed()
    tap = feed.open()
    await tap.put(b"ab", 0)
    late = asyncio.create_task(tap.put(b"cd", 2))
    await asyncio.sleep(0)
    assert not late.done()
    assert feed.received == 2

    chunks = feed.chunks()
    assert await anext(chunks) == b"ab"
    await late
    assert await anext(chunks) == b"cd"
    await chunks.aclose()


async def test_a_connection_that_was_taken_brings_nothing_more() -> None:
    feed = ByteFeed()
    first = feed.open()
    await first.put(b"ab", 0)
    waiting = asyncio.create_task(first.put(b"cd", 2))
    await asyncio.sleep(0)
    feed.open()
    first.end(is_sure=True)
    first.fail(UploadIdle("late"))

    with pytest.raises(SessionTaken):
        await waiting
    assert (feed.received, feed.has_ended) == (2, False)


async def test_bytes_after_a_gap_are_refused() -> None:
    with pytest.raises(ResumeWindowGone, match="a gap of 1 bytes after the 0 here"):
        await ByteFeed().open().put(b"x", 1)


async def test_a_failure_comes_after_the_bytes_before_it() -> None:
    feed = ByteFeed()
    tap = feed.open()
    await tap.put(b"ab", 0)
    tap.fail(UploadIdle("nothing came"))
    chunks = feed.chunks()

    assert await anext(chunks) == b"ab"
    with pytest.raises(UploadIdle):
        await anext(chunks)
