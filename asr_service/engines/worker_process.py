"""A recogniser in a process of its own, as a Runner: started, given one job at a time, aborted, killed, reaped.

worker_pipes is the other side and says what goes through the pipes. A subclass says which module runs, with which arguments and
environment, what a job is made of, and what a result means.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from asr_service.engine.protocol import EngineFailed
from asr_service.engine.runner import RunnerAborted, RunnerCrashed, RunnerFailed
from asr_service.engines.frames import LENGTHS, BadFrame, Frame, pack, unpack_header, unpack_lengths
from asr_service.request import Hypothesis, Speech, Work

_IMPORT_ROOT = str(Path(__file__).resolve().parents[2])
_EXIT_LIMIT_S = 1.0


class WorkerRunner(ABC):
    """One worker process. A Runner; see there for what the methods promise.

    `module` runs with FAILPOINTS and `arguments` on its command line. A counted failpoint (crash*1) is spent with the first
    process, else no restart would cure it. `abort_grace_s` is how long an aborted job may take to end by itself before the
    process is killed.
    """

    def __init__(
        self,
        module: str,
        *,
        failpoints: str,
        abort_grace_s: float,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._module = module
        self._failpoints = failpoints
        self._abort_grace_s = abort_grace_s
        self._arguments = tuple(arguments)
        self._environ = dict(environ or {})
        self._process: asyncio.subprocess.Process | None = None
        self._is_killed = False
        self._job_id = 0
        self._grace_s = abort_grace_s  # of the job at work
        self._is_running = False
        self._run_ended = asyncio.Event()

    @abstractmethod
    def to_job(self, work: Work) -> Frame:
        """The worker's own fields of a job, and its samples."""

    @abstractmethod
    def to_hypothesis(self, result: Mapping[str, Any], speech: Speech) -> Hypothesis:
        """What the worker's result means."""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process is not None and self.alive else None

    async def start(self) -> None:
        await self.stop()
        self._is_killed = False
        path = os.pathsep.join(filter(None, (_IMPORT_ROOT, os.environ.get("PYTHONPATH"))))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file in the working directory must not shadow a module
            "-m",
            self._module,
            self._failpoints,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | self._environ | {"PYTHONPATH": path},
            start_new_session=True,  # out of reach of the terminal's Ctrl-C from the first instruction on
        )
        self._failpoints = ",".join(item for item in self._failpoints.split(",") if "*" not in item)
        try:
            header = await self._receive()
        except RunnerCrashed as crash:
            raise EngineFailed(f"the recogniser process did not start: {crash}") from crash
        except BaseException:
            await self._kill()
            raise
        if header != {"kind": "ready"}:
            await self._kill()
            raise EngineFailed(f"the recogniser process did not start: {header.get('message', f'it said {header}')}")

    async def run(self, work: Work) -> Hypothesis:
        fields, samples = self.to_job(work)
        return self.to_hypothesis(await self.ask(fields, samples), work.speech)

    async def ask(self, fields: Mapping[str, Any], samples: bytes, *, abort_grace_s: float | None = None) -> dict[str, Any]:
        """One job and the worker's result. `abort_grace_s` replaces the runner's for this job. Raises as Runner.run does."""
        if not self.alive:
            raise RunnerCrashed("the process is not there")
        self._job_id += 1
        self._is_running = True
        self._run_ended.clear()
        self._grace_s = self._abort_grace_s if abort_grace_s is None else abort_grace_s
        try:
            await self._send(pack({"kind": "job", "id": self._job_id, **fields}, samples))
            answer = await self._receive()
        except asyncio.CancelledError:
            await self._kill()  # its answer would be taken for the next job's
            raise
        finally:
            self._is_running = False
            self._run_ended.set()
        if answer["kind"] == "aborted":
            raise RunnerAborted("aborted")
        if answer["kind"] != "result":
            raise RunnerFailed(answer.get("message", f"answered {answer['kind']}"))
        return answer

    async def abort(self) -> None:
        """Asks first; kills the process when it is in the middle of something long."""
        if not self._is_running:
            return
        try:
            async with asyncio.timeout(self._grace_s):
                await self._send(pack({"kind": "abort", "id": self._job_id}))
                await self._run_ended.wait()
        except (TimeoutError, RunnerCrashed):
            await self._kill()

    async def stop(self) -> None:
        await self._kill()
        self._process = None

    async def _send(self, frame: bytes) -> None:
        """Raises RunnerCrashed, and then the process is gone."""
        assert self._process is not None  # noqa: S101  # narrows the type
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(frame)
            await self._process.stdin.drain()
        except (OSError, RuntimeError) as error:  # RuntimeError: uvloop's word for a pipe that is closed already
            raise RunnerCrashed(f"exit status {await self._bury()} ({error})") from error

    async def _receive(self) -> dict[str, Any]:
        """The next frame. Raises RunnerCrashed, and then the process is gone."""
        assert self._process is not None  # noqa: S101  # narrows the type
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101
        try:
            n_header, n_payload = unpack_lengths(await stdout.readexactly(LENGTHS.size))
            header = unpack_header(await stdout.readexactly(n_header))
            await stdout.readexactly(n_payload)
        except (asyncio.IncompleteReadError, BadFrame, OSError) as error:
            raise RunnerCrashed(f"exit status {await self._bury()} ({error})") from error
        return header

    async def _kill(self) -> None:
        """The process is gone and reaped after it, and its pipes are closed."""
        process = self._process
        if process is None:
            return
        if process.returncode is None and not self._is_killed:
            self._is_killed = True
            # Not process.kill(): it polls first, which can snatch the exit status from asyncio's child watcher.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await self._reap()

    async def _reap(self) -> None:
        """Waits for the process to end. Raises TimeoutError."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        async with asyncio.timeout(_EXIT_LIMIT_S):
            await process.wait()

    async def _bury(self) -> int | None:
        """The exit status of a process that has hung up; most ended by themselves, and their status says why."""
        try:
            await self._reap()
        except TimeoutError:
            await self._kill()
        return None if self._process is None else self._process.returncode
