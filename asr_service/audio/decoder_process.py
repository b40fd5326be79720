"""The parent's handle on one decoder process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from enum import Enum, auto
from pathlib import Path

from asr_service.audio.wire import READY, Job

_ROOT = str(Path(__file__).resolve().parents[2])
_START_S = 30.0
"""How long a process may take to start: imports, on a machine that is busy."""

_STOP_S = 2.0


class Readiness(Enum):
    """What became of a wait for a process."""

    READY = auto()
    GONE = auto()
    SILENT = auto()


class DecoderProcess:
    """A process that decodes one source at a time. `assign` it one, then `wait_ready` for it to want the next."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._n_ready_due = 1  # it says READY once for its start and once per source
        self._has_started = False

    @classmethod
    async def start(cls, failpoints: str) -> DecoderProcess:
        """Starts a process; it takes a source at once, even while it is still importing. Raises OSError."""
        control, theirs = socket.socketpair()
        control.setblocking(False)
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        env = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "asr_service.audio.worker", str(theirs.fileno()), failpoints),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=env,
                )
        except BaseException:
            control.close()
            raise
        return cls(process, control)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    def assign(self, job: Job, connection: socket.socket) -> None:
        """Hands over a source and the process's end of its socket. Raises OSError when the process is gone."""
        # Never blocks: a process that is ready has read all that was sent, and a job is far smaller than the buffer.
        socket.send_fds(self._control, [job.pack()], [connection.fileno()])
        self._n_ready_due += 1

    async def wait_ready(self, timeout_s: float) -> Readiness:
        """READY once it wants a source, GONE when it died, SILENT when it said nothing in timeout_s (more while it starts)."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s if self._has_started else _START_S):
                while self._n_ready_due > 0:
                    said = await loop.sock_recv(self._control, 16)
                    if not said:
                        return Readiness.GONE
                    self._has_started = True
                    self._n_ready_due -= len(said) // len(READY)
        except TimeoutError:
            return Readiness.SILENT
        except ConnectionError:
            return Readiness.GONE
        return Readiness.READY

    def kill(self) -> None:
        if self.is_alive:
            self._process.kill()

    async def stop(self) -> None:
        """Ends it, by hanging up and then by force."""
        self._control.close()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
