"""The bytes of an upload, from any place that the service has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 64 * 1024
KEPT_BYTES = 16 * 1024 * 1024
"""Of a source that can be read once only, what is kept until the service says that it has it."""


class Gone(Exception):
    """The bytes from there on are not kept."""


class UploadSource(Protocol):
    """Read by one reader at a time; a later one takes the place of the one before."""

    def chunks(self, offset: int) -> AsyncGenerator[bytes]:
        """The bytes from `offset` on. Raises Gone, or what reading raises."""
        ...

    def forget_before(self, offset: int) -> None:
        """The service has them."""
        ...

    async def close(self) -> None: ...


class FileSource:
    """A file, read off the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def chunks(self, offset: int) -> AsyncGenerator[bytes]:
        """See UploadSource."""
        with await asyncio.to_thread(self._path.open, "rb") as file:
            await asyncio.to_thread(file.seek, offset)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    def forget_before(self, offset: int) -> None:
        """A file keeps everything."""

    async def close(self) -> None:
        """Nothing is open between readers."""


class OnceSource:
    """Pieces that come once. KEPT_BYTES of what was sent are kept at most, and the latest piece in any case."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._kept: deque[bytes] = deque()
        self._start = 0  # where in the source the first that is kept begins
        self._end = 0
        self._pulling: asyncio.Task[bytes | None] | None = None  # survives its reader: a cancelled generator would be over
        self._has_ended = False

    async def chunks(self, offset: int) -> AsyncGenerator[bytes]:
        """See UploadSource."""
        if not self._start <= offset <= self._end:
            raise Gone(f"the bytes from {offset} on are not kept, only those from {self._start} to {self._end}")
        at = offset
        while True:
            if at < self._end:
                piece = self._from(at)
            elif (pulled := await self._pull()) is not None:
                piece = pulled
            else:
                return
            at += len(piece)
            yield piece

    def forget_before(self, offset: int) -> None:
        """See UploadSource."""
        while self._kept and self._start + len(self._kept[0]) <= offset:
            self._start += len(self._kept.popleft())

    async def close(self) -> None:
        """Closes what the pieces come from."""
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.gather(self._pulling, return_exceptions=True)
        if isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()

    def _from(self, at: int) -> bytes:
        """The rest of the piece in which this place is."""
        begin = self._start
        for piece in self._kept:
            if at < begin + len(piece):
                return piece[at - begin :]
            begin += len(piece)
        raise Gone(f"the bytes from {at} on are not kept")

    async def _pull(self) -> bytes | None:
        """The next piece, which is then kept; None at the end."""
        if self._has_ended:
            return None
        if self._pulling is None:
            self._pulling = asyncio.ensure_future(anext(self._pieces, None))
        await asyncio.wait({self._pulling})
        pulled, self._pulling = self._pulling, None
        piece = pulled.result()
        if piece is None:
            self._has_ended = True
            return None
        self._kept.append(piece)
        self._end += len(piece)
        while self._end - self._start > KEPT_BYTES and len(self._kept) > 1:
            self._start += len(self._kept.popleft())
        return piece
