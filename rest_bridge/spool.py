"""Keeps a copy of an upload so that it can be sent again: at most 1 MiB of it in memory, the rest in a temporary file."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import IO, Any, TypeVar

log = logging.getLogger(__name__)

MEMORY_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
_T = TypeVar("_T")


class Spool:
    """Bytes in, the same bytes out, as often as wanted. Beyond its limit, or on a full disk, it is given up (`is_whole`)."""

    def __init__(self, max_bytes: int) -> None:
        self.is_whole = True
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._tail: list[bytes] = []  # not yet in the file
        self._tail_bytes = 0
        self._file: IO[bytes] | None = None
        self._work: asyncio.Future[Any] | None = None  # in a thread, on the file

    @property
    def memory_bytes(self) -> int:
        return self._tail_bytes

    async def append(self, piece: bytes) -> None:
        if not self.is_whole:
            return
        self._n_bytes += len(piece)
        if self._n_bytes > self._max_bytes:
            await self.give_up()
            return
        if self._tail_bytes + len(piece) > MEMORY_BYTES:
            try:
                await self._in_thread(self._write)
            except OSError as error:
                log.warning("an upload is not kept for sending again: %s", error)
                await self.give_up()
                return
        self._tail.append(piece)
        self._tail_bytes += len(piece)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Everything from the start. Call it only while `is_whole` and not while appending."""
        if self._file is not None:
            offset = 0
            while piece := await self._in_thread(partial(self._read, offset)):
                yield piece
                offset += len(piece)
        for piece in self._tail:
            yield piece

    async def give_up(self) -> None:
        """Frees everything; what was kept is gone."""
        self.is_whole = False
        if self._work is not None and not self._work.done():
            await asyncio.wait([self._work])
        if self._file is not None:
            self._file.close()
            self._file = None
        self._tail.clear()
        self._tail_bytes = 0

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """The file is never closed under a thread: a cancelled caller leaves the work behind, and `give_up` waits for it."""
        future = asyncio.get_running_loop().run_in_executor(None, work)
        self._work = future
        return await asyncio.shield(future)

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="rest-bridge-", buffering=0)  # noqa: SIM115  closed by give_up
        data = memoryview(b"".join(self._tail))
        while data:
            data = data[self._file.write(data) :]
        self._tail.clear()
        self._tail_bytes = 0

    def _read(self, offset: int) -> bytes:
        assert self._file is not None  # noqa: S101  for the type checker
        self._file.seek(offset)
        piece = self._file.read(_READ_BYTES)
        self._file.seek(0, 2)
        return piece
