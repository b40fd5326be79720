from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.client import upload_source
from asr_service.client.upload_source import CHUNK_BYTES, FileSource, Gone, OnceSource, UploadSource

PIECES = [bytes([n]) * (n % 7 + 1) for n in range(40)]
WHOLE = b"".join(PIECES)


async def pieces() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece


async def read(source: UploadSource, offset: int, n_chunks: int | None = None) -> bytes:
    got: list[bytes] = []
    async with aclosing(source.chunks(offset)) as chunks:
        async for chunk in chunks:
            got.append(chunk)
            if n_chunks is not None and len(got) >= n_chunks:
                break
    return b"".join(got)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 20)), max_size=10))
def test_pieces_can_be_read_again_from_what_is_not_confirmed(connections: list[tuple[int, int]]) -> None:
    """Each connection sends some pieces, and the service says that it has all but some of the bytes."""

    async def run() -> None:
        source, confirmed = OnceSource(pieces()), 0
        for n_chunks, n_lost in connections:
            sent = confirmed + len(await read(source, confirmed, n_chunks))
            confirmed = max(confirmed, sent - n_lost)
            source.forget_before(confirmed)
        assert WHOLE[:confirmed] + await read(source, confirmed) == WHOLE
        await source.close()

    asyncio.run(run())


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    come = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"ab"
        await come.wait()
        yield b"cd"

    source = OnceSource(slow())
    reader = asyncio.create_task(read(source, 0))
    for _ in range(5):
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    come.set()

    assert await read(source, 0) == b"abcd"


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_source, "KEPT_BYTES", 50)
    source = OnceSource(pieces())
    await read(source, 0)

    with pytest.raises(Gone, match="are not kept"):
        await read(source, 0)
    assert await read(source, len(WHOLE) - 40) == WHOLE[-40:]


async def test_a_file_is_read_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(250)) * 1000)
    source = FileSource(path)

    for offset in (0, 7, CHUNK_BYTES + 1, 250_000, 300_000):
        assert await read(source, offset) == path.read_bytes()[offset:]
