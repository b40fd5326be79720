"""A spool gives back what it was given, within its limits."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest

from rest_bridge.spool import MEMORY_BYTES, Spool


async def read_all(spool: Spool) -> bytes:
    return b"".join([piece async for piece in spool.pieces()])


@pytest.mark.parametrize("n_pieces", [0, 1, 15, 16, 17, 50])
async def test_everything_comes_back_as_often_as_wanted(n_pieces: int) -> None:
    spool = Spool(10 * MEMORY_BYTES)
    pieces = [bytes([k]) * 65_536 for k in range(n_pieces)]
    for piece in pieces:
        await spool.append(piece)
        assert spool.memory_bytes <= MEMORY_BYTES

    assert await read_all(spool) == b"".join(pieces)
    assert await read_all(spool) == b"".join(pieces)
    await spool.append(b"more")
    assert await read_all(spool) == b"".join(pieces) + b"more"
    await spool.give_up()


async def test_beyond_its_limit_it_is_given_up() -> None:
    spool = Spool(100)

    await spool.append(b"x" * 100)
    assert spool.is_whole
    await spool.append(b"x")

    assert not spool.is_whole
    assert spool.memory_bytes == 0


async def test_a_full_disk_gives_it_up_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    spool = Spool(10 * MEMORY_BYTES)
    for _ in range(40):
        await spool.append(b"x" * 65_536)

    assert not spool.is_whole
    assert spool.memory_bytes == 0
