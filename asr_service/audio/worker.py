"""A decoder process: `python -m asr_service.audio.worker CONTROL_FD FAILPOINTS`, started and owned by `DecodePool`.

It decodes one source after the other, as `wire.py` lays down. What is wrong with a source is an ERROR frame; anything else that
is raised ends the process with its traceback on stderr, and the parent tells the caller and starts another. It ends when the
parent's end of the control socket closes, also in the middle of a source.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress

from asr_service.audio.decode import decode
from asr_service.audio.resample import BLOCK_SAMPLES
from asr_service.audio.wire import BLOCK, COUNT, END, ERROR, HEADER, READY, WAITS, Job, pack_error
from asr_service.errors import InvalidValue
from asr_service.failpoints import Failpoints
from asr_service.request import Samples

_READ_BYTES = 65_536


class _Abandoned(Exception):
    """The parent closed the source's socket: nobody wants the rest."""


class _Outbox:
    """Samples on their way to the parent, in frames of up to a second; fewer are sent when nothing else is to be done."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held: list[Samples] = []
        self._n_held = 0

    def add(self, block: Samples) -> None:
        if self._n_held + len(block) > BLOCK_SAMPLES:
            self.flush()
        self._held.append(block)
        self._n_held += len(block)
        if self._n_held == BLOCK_SAMPLES:
            self.flush()

    def flush(self) -> None:
        if self._n_held:
            self.send(BLOCK, b"".join(block.astype("<f4", copy=False).tobytes() for block in self._held))
            self._held, self._n_held = [], 0

    def send(self, kind: int, payload: bytes) -> None:
        try:
            self._connection.sendall(HEADER.pack(kind, len(payload)) + payload)
        except ConnectionError as error:
            raise _Abandoned from error


class _SocketReader:
    """The source's bytes as they come in. The parent hears of every wait, and before it gets all that there is."""

    def __init__(self, connection: socket.socket, outbox: _Outbox) -> None:
        self._connection = connection
        self._outbox = outbox
        self._n_bytes = 0

    def read(self, n: int, /) -> bytes:
        n = min(n, _READ_BYTES)
        try:
            try:
                data = self._connection.recv(n, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._outbox.flush()
                self._outbox.send(WAITS, COUNT.pack(self._n_bytes))
                data = self._connection.recv(n)
        except ConnectionError as error:
            raise _Abandoned from error
        self._n_bytes += len(data)
        return data


def main(control_fd: int, failpoint_spec: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when we go
    failpoints = Failpoints(failpoint_spec)
    with socket.socket(fileno=control_fd) as control:
        threading.Thread(target=_die_with_parent, args=(control_fd,), daemon=True).start()
        with suppress(ConnectionError):  # the parent is gone, and so is whoever wanted to know
            control.sendall(READY)
            while (received := _receive_job(control)) is not None:
                job, connection = received
                with connection:
                    _serve(job, connection, failpoints)
                control.sendall(READY)


def _die_with_parent(control_fd: int) -> None:
    """Waits, without events asked for, for the one that always comes: the other end is gone."""
    poll = select.poll()
    poll.register(control_fd, 0)
    poll.poll()
    os._exit(0)


def _receive_job(control: socket.socket) -> tuple[Job, socket.socket] | None:
    line, fds = b"", list[int]()
    while not line.endswith(b"\n"):
        data, more_fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not data:
            return None
        line += data
        fds += more_fds
    return Job.unpack(line), socket.socket(fileno=fds[0])


def _serve(job: Job, connection: socket.socket, failpoints: Failpoints) -> None:
    failpoints.hit("decode.source")
    outbox = _Outbox(connection)
    try:
        try:
            for block in decode(_SocketReader(connection, outbox), job.fmt, job.limits, live=job.live):
                failpoints.hit("decode.block")
                outbox.add(block)
        except InvalidValue as error:
            outbox.flush()
            outbox.send(ERROR, pack_error(error))
        else:
            outbox.flush()
            outbox.send(END, b"")
    except _Abandoned:
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
