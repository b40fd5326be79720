"""Recogniser processes that crash, hang or fail: the caller gets one status, the slot comes back, the next work succeeds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from asr_service.engine.protocol import EngineFailed
from asr_service.engine.slots import SlotEngine
from asr_service.engines.pocketsphinx import PocketsphinxRunner, pocketsphinx_engine
from asr_service.errors import AsrError, DeadlineExceeded, EngineRestarting, InternalError
from asr_service.metrics import Metrics
from tests.unit.engine.works import Works, until

NOISE = np.random.default_rng(0).normal(0.0, 0.1, 160_000).astype(np.float32)  # 10 s, which take well over a second
SHORT = NOISE[:16_000]


@asynccontextmanager
async def running(failpoints: str = "", idle_timeout_s: float = 0.0) -> AsyncIterator[SlotEngine]:
    engine = pocketsphinx_engine(
        "a test", slots=1, queue_capacity=8, idle_timeout_s=idle_timeout_s, metrics=Metrics(), failpoints=failpoints
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def runner_of(engine: SlotEngine) -> PocketsphinxRunner:
    runner = engine._slots[0].runner
    assert isinstance(runner, PocketsphinxRunner)
    return runner


@pytest.mark.parametrize(
    ("failpoint", "error"),
    [
        ("recognize.start=crash*1", EngineRestarting),
        ("recognize.block=crash*1", EngineRestarting),
        ("recognize.start=error*1", InternalError),
        ("recognize.block=error*1", InternalError),
        ("recognize.start=hang*1", DeadlineExceeded),
        ("recognize.block=hang*1", DeadlineExceeded),
    ],
)
async def test_after_a_fault_the_caller_has_one_status_and_the_next_work_succeeds(
    failpoint: str, error: type[AsrError]
) -> None:
    works = Works()
    async with running(failpoint) as engine:
        with pytest.raises(error):
            await engine.recognize(works.make(SHORT, patience_s=0.3 if "hang" in failpoint else None))

        await engine.recognize(works.make(SHORT, patience_s=20.0))
        assert engine.load.running == 0


async def test_a_hang_in_the_middle_that_is_cancelled_gives_the_slot_back() -> None:
    works = Works()
    async with running("recognize.block=hang*1") as engine:
        task = asyncio.create_task(engine.recognize(works.make(SHORT)))
        await until(lambda: engine.load.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await engine.recognize(works.make(SHORT, patience_s=20.0))


async def test_a_cancelled_run_ends_soon_and_the_next_work_succeeds() -> None:
    works = Works()
    async with running() as engine:
        task = asyncio.create_task(engine.recognize(works.make(NOISE)))
        await until(lambda: engine.load.running == 1)
        cancelled_s = time.monotonic()
        task.cancel()
        await until(lambda: engine.load.running == 0)

        assert time.monotonic() - cancelled_s < 1.0  # 0.1 s on a quiet machine
        await engine.recognize(works.make(SHORT))


async def test_a_process_killed_from_outside_while_idle_costs_nobody_an_answer() -> None:
    works = Works()
    async with running() as engine:
        pid = runner_of(engine).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not runner_of(engine).alive)

        await engine.recognize(works.make(SHORT))


async def test_idle_processes_end_and_come_back_on_demand() -> None:
    works = Works()
    async with running(idle_timeout_s=0.05) as engine:
        await engine.recognize(works.make(SHORT))
        await until(lambda: runner_of(engine).pid is None)

        await engine.recognize(works.make(SHORT))


async def test_stop_leaves_no_process_behind() -> None:
    works = Works()
    async with running() as engine:
        pid = runner_of(engine).pid
        assert pid is not None
        task = asyncio.create_task(engine.recognize(works.make(NOISE)))
        await until(lambda: engine.load.running == 1)
        await engine.stop()

        with pytest.raises(AsrError):
            await task
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_process_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_service.engines.pocketsphinx._WORKER", "asr_service.no_such_module")
    runner = PocketsphinxRunner()

    with pytest.raises(EngineFailed, match="did not start: exit status 1"):
        await runner.start()
    await runner.stop()


def test_a_worker_ends_when_its_input_does_and_ignores_ctrl_c() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "asr_service.engines.pocketsphinx_worker", ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with worker:
        assert worker.stdout is not None
        assert b"ready" in worker.stdout.read(8 + len('{"kind":"ready"}'))
        worker.send_signal(signal.SIGINT)
        _, complaints = worker.communicate(timeout=10)

    assert worker.returncode == 0
    assert complaints == b""
