"""The embedded engine: pocketsphinx in worker processes, one per slot.

Its binding holds the GIL for a whole call, so it decodes in processes of their own; see pocketsphinx_worker for what goes
through the pipes. This module does not import it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from asr_service.engine.protocol import EngineFailed, EngineInfo, Feature
from asr_service.engine.runner import RunnerAborted, RunnerCrashed, RunnerFailed
from asr_service.engine.slots import SlotEngine
from asr_service.engines.frames import LENGTHS, BadFrame, pack, unpack_header, unpack_lengths
from asr_service.languages import ENGLISH
from asr_service.metrics import Metrics
from asr_service.request import Hypothesis, Samples, Speech, Word, Work

_WORKER = "asr_service.engines.pocketsphinx_worker"
_IMPORT_ROOT = str(Path(__file__).resolve().parents[2])
_ABORT_GRACE_S = 0.1  # longer than most blocks; the last pass over a long segment takes seconds and is not waited for
_EXIT_LIMIT_S = 1.0

MODEL_ID = "pocketsphinx-en-us"


def pocketsphinx_info(reason: str) -> EngineInfo:
    return EngineInfo(
        name="pocketsphinx",
        model=MODEL_ID,
        device="cpu",
        languages=(ENGLISH,),
        features=frozenset({Feature.WORD_TIMES, Feature.WORD_CONFIDENCE, Feature.ALTERNATIVES}),
        owner="cmusphinx",
        reason=reason,
    )


def pocketsphinx_engine(
    reason: str, *, slots: int, queue_capacity: int, idle_timeout_s: float, metrics: Metrics, failpoints: str = ""
) -> SlotEngine:
    """The embedded engine with `slots` processes of about 120 MB. Raises EngineFailed when the package is not installed."""
    if find_spec("pocketsphinx") is None:
        raise EngineFailed("ENGINE=pocketsphinx: the package pocketsphinx is not installed (pip install pocketsphinx)")
    return SlotEngine(
        pocketsphinx_info(reason),
        lambda _: PocketsphinxRunner(failpoints),
        slots=slots,
        queue_capacity=queue_capacity,
        idle_timeout_s=idle_timeout_s,
        metrics=metrics,
    )


class PocketsphinxRunner:
    """One worker process. A Runner; see there for what the methods promise.

    `failpoints` goes to the process. A counted one (crash*1) is spent with the first process, else no restart would cure it.
    """

    def __init__(self, failpoints: str = "") -> None:
        self._failpoints = failpoints
        self._process: asyncio.subprocess.Process | None = None
        self._is_killed = False
        self._job_id = 0
        self._is_running = False
        self._run_ended = asyncio.Event()

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
            _WORKER,
            self._failpoints,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
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
            raise EngineFailed(f"the recogniser process said {header} instead of ready")

    async def run(self, work: Work) -> Hypothesis:
        if not self.alive:
            raise RunnerCrashed("the process is not there")
        self._job_id += 1
        self._is_running = True
        self._run_ended.clear()
        header = {"kind": "job", "id": self._job_id, "max_alternatives": work.options.max_alternatives}
        try:
            await self._send(pack(header, _to_int16(work.speech.samples)))
            return _hypothesis(await self._receive(), work.speech)
        except asyncio.CancelledError:
            await self._kill()  # its answer would be taken for the next job's
            raise
        finally:
            self._is_running = False
            self._run_ended.set()

    async def abort(self) -> None:
        """Asks first; kills the process when it is in the middle of something long. A new one takes 0.4 s."""
        if not self._is_running:
            return
        try:
            async with asyncio.timeout(_ABORT_GRACE_S):
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


def _to_int16(samples: Samples) -> bytes:
    """float32 -> little-endian int16. What exceeds +-1.0 (a downmix can) is turned down as a whole rather than clipped: the
    recogniser removes the mean of the cepstra, so the level means little to it and distortion a lot."""
    peak = max(1.0, float(np.max(np.abs(samples), initial=0.0)))
    return (samples * (32767.0 / peak)).round().astype("<i2").tobytes()


def _hypothesis(answer: dict[str, Any], speech: Speech) -> Hypothesis:
    if answer["kind"] == "aborted":
        raise RunnerAborted("aborted")
    if answer["kind"] != "result":
        raise RunnerFailed(answer.get("message", f"answered {answer['kind']}"))
    words = tuple(
        Word(text, speech.start_ms + start_ms, speech.start_ms + end_ms, confidence)
        for text, start_ms, end_ms, confidence in answer["words"]
    )
    return Hypothesis(
        text=answer["text"],
        language=ENGLISH,
        words=words,
        confidence=sum(word.confidence or 0.0 for word in words) / len(words) if words else None,
        alternatives=tuple((text, None) for text in answer["alternatives"]),
    )
