"""Standard input, with a pipe in its place."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import aclosing

import pytest

from asr_service.cli.stdin import CHUNK_BYTES, descriptor_chunks


async def test_everything_that_is_written_arrives_in_order() -> None:
    reader, writer = os.pipe()
    whole = bytes(range(256)) * 2048

    def write() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(whole)

    writing = asyncio.create_task(asyncio.to_thread(write))
    received = b"".join([chunk async for chunk in descriptor_chunks(reader)])

    await writing
    os.close(reader)
    assert received == whole


async def test_a_reader_that_stops_does_not_wait_for_the_next_byte() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"first")

    async with aclosing(descriptor_chunks(reader)) as chunks:
        assert await anext(chunks) == b"first"

    os.close(writer)
    os.close(reader)


def test_a_loop_that_ends_while_a_piece_waits_ends_the_thread_without_an_error() -> None:
    async def read_once(descriptor: int) -> None:
        assert await anext(descriptor_chunks(descriptor))

    for _ in range(20):
        with open("/dev/zero", "rb") as endless:  # the queue is always full
            asyncio.run(read_once(endless.fileno()))
            for thread in threading.enumerate():
                if thread.name == "stdin":
                    thread.join(10)  # what it raised would fail this test
                    assert not thread.is_alive()


async def test_what_cannot_be_read_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    with pytest.raises(OSError, match="Bad file descriptor"):
        await anext(descriptor_chunks(writer))

    os.close(writer)


def test_pieces_are_no_larger_than_an_upload_message() -> None:
    assert CHUNK_BYTES <= 64 * 1024
