"""The side of a recogniser process: frames in on stdin, frames out on stdout, one answer per job.

    service -> worker   {"kind": "job", "id": 7, ...} + samples
                        {"kind": "abort", "id": 7}                    looked at between blocks; stale ones are ignored
    worker -> service   {"kind": "ready"}                             once, when the model is loaded
                        {"kind": "failed", "message": ...}            instead of it; then the process ends
                        {"kind": "result", "id": 7, ...}
                        {"kind": "aborted", "id": 7}
                        {"kind": "error", "id": 7, "message": ...}    this job only; the next one is welcome

The process ends when stdin does, or when its parent is gone. What a job and a result hold further is the worker's own.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import Any

from asr_service.engines.frames import Frame, FrameBuffer, pack
from asr_service.failpoints import Failpoints

_PARENT_CHECK_S = 5.0  # a forked sibling may hold the pipe open after the parent has died
_READ_BYTES = 2**20

BetweenBlocks = Callable[[], None]
Recognise = Callable[[Mapping[str, Any], bytes, BetweenBlocks], Mapping[str, Any]]
"""(job, samples, between_blocks) -> the fields of the result. It calls `between_blocks` now and then, and what that raises must
come through."""


class _ServiceGone(Exception):
    """Nobody is there to answer to."""


class _Aborted(Exception):
    """The service does not want this job any more."""


class Pipes:
    """stdin and stdout of this process, as frames. From its making on, what prints goes to stderr, and Ctrl-C, which goes to
    the whole terminal, is ignored: the service decides when to stop."""

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._in_fd = os.dup(0)
        self._out_fd = os.dup(1)
        os.dup2(2, 1)  # whatever prints must not end up between the frames
        self._buffer = FrameBuffer()
        self._parent_pid = os.getppid()

    def receive(self) -> Frame:
        """Waits for a frame. Raises _ServiceGone."""
        while (frame := self.poll(_PARENT_CHECK_S)) is None:
            pass
        return frame

    def poll(self, timeout_s: float) -> Frame | None:
        """A frame if one is complete within the timeout. Raises _ServiceGone."""
        if (frame := self._buffer.next()) is not None:
            return frame
        if os.getppid() != self._parent_pid:
            raise _ServiceGone
        if not select.select([self._in_fd], [], [], timeout_s)[0]:
            return None
        data = os.read(self._in_fd, _READ_BYTES)
        if not data:
            raise _ServiceGone
        self._buffer.feed(data)
        return self._buffer.next()

    def send(self, header: Mapping[str, Any]) -> None:
        """Raises _ServiceGone."""
        data = memoryview(pack(dict(header)))
        try:
            while data:
                data = data[os.write(self._out_fd, data) :]
        except BrokenPipeError as error:
            raise _ServiceGone from error


def serve_jobs(pipes: Pipes, failpoint_spec: str, load: Callable[[], Recognise]) -> None:
    """Loads, says so, and answers jobs until the service is gone. What `load` raises is said to the service."""
    failpoints = Failpoints(failpoint_spec)
    try:
        try:
            recognise = load()
        except Exception as error:
            pipes.send({"kind": "failed", "message": f"{type(error).__name__}: {error}"})
            return
        pipes.send({"kind": "ready"})
        while True:
            job, samples = pipes.receive()
            if job["kind"] == "job":
                pipes.send(_answer(pipes, failpoints, recognise, job, samples))
    except _ServiceGone:
        return


def _answer(
    pipes: Pipes, failpoints: Failpoints, recognise: Recognise, job: Mapping[str, Any], samples: bytes
) -> Mapping[str, Any]:
    def between_blocks() -> None:
        failpoints.hit("recognize.block")
        frame = pipes.poll(0.0)
        if frame is not None and frame[0] == {"kind": "abort", "id": job["id"]}:
            raise _Aborted

    try:
        failpoints.hit("recognize.start")
        return {"kind": "result", "id": job["id"], **recognise(job, samples, between_blocks)}
    except _Aborted:
        return {"kind": "aborted", "id": job["id"]}
    except _ServiceGone:
        raise
    except Exception as error:
        return {"kind": "error", "id": job["id"], "message": f"{type(error).__name__}: {error}"}
