"""A recogniser process: frames in on stdin, frames out on stdout.

    python -m asr_service.engines.pocketsphinx_worker FAILPOINTS

    service -> worker   {"kind": "job", "id": 7, "max_alternatives": 1} + int16 samples at 16 kHz
                        {"kind": "abort", "id": 7}       looked at between blocks; stale ones are ignored
    worker -> service   {"kind": "ready"}                once, when the model is loaded
                        {"kind": "result", "id": 7, "text": ..., "words": ..., "alternatives": ...}
                        {"kind": "aborted", "id": 7}
                        {"kind": "error", "id": 7, "message": ...}   this job only; the next one is welcome

One answer per job. The process ends when stdin does, or when its parent is gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING

from asr_service.engines.frames import Frame, FrameBuffer, pack
from asr_service.failpoints import Failpoints

if TYPE_CHECKING:
    from asr_service.engines.pocketsphinx_decoder import SphinxDecoder

_PARENT_CHECK_S = 5.0  # a forked sibling may hold the pipe open after the parent has died
_READ_BYTES = 2**20


class _ServiceGone(Exception):
    """Nobody is there to answer to."""


class _Aborted(Exception):
    """The service does not want this job any more."""


class _Pipes:
    """stdin and stdout of this process, as frames."""

    def __init__(self) -> None:
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

    def send(self, header: dict[str, object]) -> None:
        data = memoryview(pack(header))
        try:
            while data:
                data = data[os.write(self._out_fd, data) :]
        except BrokenPipeError as error:
            raise _ServiceGone from error


def main(failpoint_spec: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the service decides when to stop
    pipes = _Pipes()
    failpoints = Failpoints(failpoint_spec)
    from asr_service.engines.pocketsphinx_decoder import SphinxDecoder  # after SIGINT is out of the way

    decoder = SphinxDecoder()
    try:
        pipes.send({"kind": "ready"})
        while True:
            header, pcm = pipes.receive()
            if header["kind"] == "job":
                pipes.send(_answer(pipes, failpoints, decoder, header["id"], header["max_alternatives"], pcm))
    except _ServiceGone:
        return


def _answer(
    pipes: _Pipes, failpoints: Failpoints, decoder: SphinxDecoder, job_id: int, max_alternatives: int, pcm: bytes
) -> dict[str, object]:
    def between_blocks() -> None:
        failpoints.hit("recognize.block")
        frame = pipes.poll(0.0)
        if frame is not None and frame[0] == {"kind": "abort", "id": job_id}:
            raise _Aborted

    try:
        failpoints.hit("recognize.start")
        return {"kind": "result", "id": job_id} | decoder.decode(pcm, max_alternatives, between_blocks)
    except _Aborted:
        return {"kind": "aborted", "id": job_id}
    except _ServiceGone:
        raise
    except Exception as error:
        return {"kind": "error", "id": job_id, "message": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
