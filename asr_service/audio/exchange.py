"""The parent's side of one source's socket: bytes in, blocks out, back-pressure both ways.

What the parent holds of a source at any time: one piece going in (at most the caller's own chunk) and one block coming out. The
rest waits in the socket's buffers, whose size the kernel bounds, or is not read from the caller yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import numpy as np

from asr_service.audio.wire import BLOCK, COUNT, END, ERROR, HEADER, WAITS, unpack_error
from asr_service.errors import AudioTooLarge, DecoderRestarting
from asr_service.request import Samples

SEND_BYTES = 65_536
_SOCKET_BUFFER_BYTES = 131_072
_RETRY_AFTER_S = 1.0


def make_source_sockets() -> tuple[socket.socket, socket.socket]:
    """(the parent's end, the process's end)."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    return ours, theirs


class StallGuard:
    """Calls `on_stall` after stall_s in which a process had input before it and output asked of it, and did nothing."""

    def __init__(self, stall_s: float, on_stall: Callable[[], None]) -> None:
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._timer: asyncio.TimerHandle | None = None
        self._has_input = False
        self._is_output_wanted = False

    def set_input(self, has_input: bool) -> None:
        """Whether the process has something (bytes, or the end) to work on."""
        self._has_input = has_input
        self._update()

    def set_output_wanted(self, is_wanted: bool) -> None:
        """Whether the consumer waits for a block."""
        self._is_output_wanted = is_wanted
        self._update()

    def note_life(self) -> None:
        """The process did something: its time begins anew."""
        self.stop()
        self._update()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _update(self) -> None:
        if not (self._has_input and self._is_output_wanted):
            self.stop()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._stall_s, self._on_stall)


class Exchange:
    """Feeds one source to a decoder process and takes its blocks. Use as an async context manager; leaving it frees all."""

    def __init__(
        self,
        connection: socket.socket,
        source: AsyncIterator[bytes],
        *,
        max_bytes: int,
        stall_s: float,
        on_stall: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._source = source
        self._max_bytes = max_bytes
        self._on_stall = on_stall
        self._guard = StallGuard(stall_s, self._stalled)
        self._stall_s = stall_s
        self._n_offered = 0  # bytes that were sent, or are being sent
        self._n_consumed = 0  # of these, bytes after which the process said that it waits for more
        self._has_ended = False  # the source; the process was told
        self._failure: BaseException | None = None
        self._feeder: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Exchange:
        self._feeder = asyncio.create_task(self._feed())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._guard.stop()
        try:
            if self._feeder is not None:
                self._feeder.cancel()
                await asyncio.wait([self._feeder])
        finally:
            self._connection.close()
            # Their tracebacks lead back here: a cycle that would keep the source's bytes until the collector runs.
            self._feeder = self._failure = None
        close_source = getattr(self._source, "aclose", None)  # async generators have it, gRPC's request iterators do not
        if close_source is not None:
            await close_source()

    async def blocks(self) -> AsyncGenerator[Samples]:
        """Raises what the process found wrong, what the source raised, or DecoderRestarting when the process died or hung."""
        while True:
            self._guard.set_output_wanted(True)
            kind, payload = await self._receive()
            self._guard.note_life()
            if kind == WAITS:
                (self._n_consumed,) = COUNT.unpack(payload)
                self._show_input()
                continue
            self._guard.set_output_wanted(False)
            if kind == BLOCK:
                yield np.frombuffer(payload, "<f4")
            elif kind == ERROR:
                raise unpack_error(bytes(payload))
            elif kind == END:
                return

    async def _receive(self) -> tuple[int, bytearray]:
        kind, n_bytes = HEADER.unpack(await self._receive_exactly(HEADER.size))
        return kind, await self._receive_exactly(n_bytes)

    async def _receive_exactly(self, n_bytes: int) -> bytearray:
        loop = asyncio.get_running_loop()
        data = bytearray(n_bytes)
        view, n_received = memoryview(data), 0
        while n_received < n_bytes:
            try:
                n = await loop.sock_recv_into(self._connection, view[n_received:])
            except ConnectionError:
                n = 0
            if self._failure is not None:
                raise self._failure
            if n == 0:
                raise DecoderRestarting("the audio decoder stopped in the middle of this audio", retry_after_s=_RETRY_AFTER_S)
            n_received += n
        return data

    async def _feed(self) -> None:
        try:
            await self._send_source()
        except ConnectionError as gone:
            # The process has seen enough, or died; the receiving side knows which. asyncio's own frames and the error hold
            # each other and the bytes that were being sent; without the traceback they are free.
            gone.__traceback__ = None
        except Exception as error:  # whatever the source raises belongs to the consumer
            self._fail(error)

    async def _send_source(self) -> None:
        async for chunk in self._source:
            n_bytes = self._n_offered + len(chunk)
            if n_bytes > self._max_bytes:
                raise AudioTooLarge(f"the audio has {n_bytes} bytes or more (limit {self._max_bytes} bytes)")
            for at in range(0, len(chunk), SEND_BYTES):
                await self._send(chunk[at : at + SEND_BYTES])
        with contextlib.suppress(OSError):  # the process has gone already
            self._connection.shutdown(socket.SHUT_WR)
        self._has_ended = True
        self._show_input()

    async def _send(self, piece: bytes) -> None:
        self._n_offered += len(piece)
        self._show_input()
        try:
            n_sent = self._connection.send(piece)
        except BlockingIOError:
            n_sent = 0
        if n_sent < len(piece):
            # A copy: where a send meets the end of the exchange, asyncio keeps what it was sending until it is collected.
            await asyncio.get_running_loop().sock_sendall(self._connection, piece[n_sent:])
            self._guard.note_life()  # there was no room, so the process has read

    def _show_input(self) -> None:
        """The end is input, too: something must come of it. A client that says nothing for long leaves none."""
        self._guard.set_input(self._has_ended or self._n_consumed < self._n_offered)

    def _stalled(self) -> None:
        why = f"the audio decoder did nothing for {self._stall_s:g} s"
        self._on_stall()
        self._fail(DecoderRestarting(why, retry_after_s=_RETRY_AFTER_S))

    def _fail(self, error: BaseException) -> None:
        """Ends the exchange from within: the receiving side wakes up and raises."""
        self._failure = self._failure or error
        with contextlib.suppress(OSError):  # not connected any more: then it is awake already
            self._connection.shutdown(socket.SHUT_RDWR)
