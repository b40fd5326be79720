"""Decoder processes for the whole service. Every source goes through one; the event loop never touches a codec.

A process is in one of these states; a place at the turnstile is held in all but the first.

idle        -> busy        a source was admitted and the process took it
(none)      -> busy        a source was admitted and no process was idle: one is started
busy        -> returning   the source ended, failed, stalled (killed first) or was given up by its consumer
returning   -> idle        it says READY
returning   -> (none)      it died, or did not say READY in READY_S: stopped; if the pool is now below `warm`, another starts
idle        -> (none)      idle for RETIRE_S and there are more than `warm`
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from asr_service.audio.decoder_process import DecoderProcess, Readiness
from asr_service.audio.exchange import Exchange, make_source_sockets
from asr_service.audio.limits import AudioLimits
from asr_service.audio.source import SourceFormat
from asr_service.audio.turnstile import Turnstile
from asr_service.audio.wire import Job
from asr_service.errors import DecoderRestarting, Draining
from asr_service.metrics import Metrics
from asr_service.request import SAMPLE_RATE, Samples

READY_S = 2.0
RETIRE_S = 60.0


@dataclass(slots=True, eq=False)
class _Idle:
    process: DecoderProcess
    retirement: asyncio.TimerHandle


class DecodePool:
    """Decodes sources in at most max_workers processes, `warm` of which always stand by.

    `failpoints` goes to the processes started until one of them dies; those that replace it run without, so that a recovery can
    be watched. Pools share metrics: what they show are the sums.
    """

    def __init__(
        self,
        limits: AudioLimits,
        *,
        max_workers: int,
        warm: int = 1,
        metrics: Metrics,
        failpoints: str = "",
        stall_s: float = 30.0,
        retire_s: float = RETIRE_S,
        ready_s: float = READY_S,
    ) -> None:
        if not 0 <= warm <= max_workers:
            raise ValueError(f"warm: {warm} is outside 0 to max_workers ({max_workers})")
        self._limits = limits
        self._warm = warm
        self._metrics = metrics
        self._failpoints = failpoints
        self._stall_s = stall_s
        self._retire_s = retire_s
        self._ready_s = ready_s
        self._turnstile: Turnstile[asyncio.Future[None]] = Turnstile(max_workers)
        self._shown = 0, 0  # held and waiting, of this pool, as the metrics know them
        self._idle: list[_Idle] = []  # the last one in is the first one out, so that the rest can retire
        self._processes: set[DecoderProcess] = set()
        self._stalled: set[DecoderProcess] = set()  # killed for it; not to be counted as crashed
        self._returning: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def start(self) -> None:
        """Starts the warm processes and waits until they are ready. Raises DecoderRestarting when one does not come up."""
        for process in await asyncio.gather(*(self._start_process() for _ in range(self._warm))):
            if await process.wait_ready(self._ready_s) is not Readiness.READY:
                await self.stop()
                raise DecoderRestarting("an audio decoder process did not start")
            self._put_idle(process)

    async def stop(self) -> None:
        """Ends all processes; sources in work raise DecoderRestarting, sources that wait raise Draining."""
        self._is_stopping = True
        for idle in self._idle:
            idle.retirement.cancel()
        self._idle.clear()
        for task in self._returning:
            task.cancel()
        if self._returning:
            await asyncio.wait(self._returning)
        while self._processes:
            self._end(self._processes.pop())
        if self._ending:
            await asyncio.wait(self._ending)

    @property
    def busy(self) -> int:
        """Processes that are at work, or on their way back from it."""
        return self._turnstile.held

    @property
    def waiting(self) -> int:
        """Sources that wait for a process."""
        return self._turnstile.waiting

    @property
    def n_processes(self) -> int:
        return len(self._processes)

    async def decode(
        self, source: AsyncIterator[bytes], fmt: SourceFormat, *, interactive: bool, live: bool = False
    ) -> AsyncGenerator[Samples]:
        """Blocks of mono float32 at 16 kHz, shape (n,), n <= 16000, read-only.

        live: whatever the bytes so far give comes without waiting for more of them (`audio.decode.decode` says what each format
        holds back), and what cannot be decoded before its end is AudioUndecodable at its beginning.

        Raises InvalidValue and its Audio* kinds for a bad source, what `source` itself raises, DecoderRestarting when the
        process dies or hangs, Draining when the pool stops before the source's turn. Closing the generator frees everything.
        """
        fmt.check(max_channels=self._limits.max_channels)
        await self._wait_turn(interactive=interactive)
        try:
            process, exchange = await self._assign(source, Job(fmt, self._limits, live))
        except BaseException:
            self._leave(interactive=interactive)
            raise
        try:
            async with exchange, contextlib.aclosing(exchange.blocks()) as blocks:
                async for block in blocks:
                    self._metrics.audio_seconds.inc(len(block) / SAMPLE_RATE)
                    yield block
        finally:
            self._give_back(process, interactive=interactive)

    async def _wait_turn(self, *, interactive: bool) -> None:
        if self._is_stopping:
            raise Draining("the server is shutting down")
        turn = asyncio.get_running_loop().create_future()
        self._admit(self._turnstile.arrive(turn, interactive=interactive))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(interactive=interactive)
            else:
                self._turnstile.withdraw(turn, interactive=interactive)
                self._show_load()
            raise
        if self._is_stopping:
            self._leave(interactive=interactive)
            raise Draining("the server is shutting down")

    def _leave(self, *, interactive: bool) -> None:
        self._admit(self._turnstile.leave(interactive=interactive))

    def _admit(self, turns: list[asyncio.Future[None]]) -> None:
        for turn in turns:
            turn.set_result(None)
        self._show_load()

    def _show_load(self) -> None:
        """In the sums of all pools."""
        held, waiting = self._turnstile.held, self._turnstile.waiting
        self._metrics.decoders_busy.inc(held - self._shown[0])
        self._metrics.decoders_waiting.inc(waiting - self._shown[1])
        self._shown = held, waiting

    async def _assign(self, source: AsyncIterator[bytes], job: Job) -> tuple[DecoderProcess, Exchange]:
        process = await self._take_process()
        ours, theirs = make_source_sockets()
        with theirs:
            try:
                process.assign(job, theirs)
            except OSError as error:
                ours.close()
                self._discard(process, "crash")
                raise DecoderRestarting("the audio decoder is being restarted", retry_after_s=1.0) from error

        def on_stall() -> None:
            self._stalled.add(process)
            process.kill()

        return process, Exchange(ours, source, max_bytes=self._limits.max_bytes, stall_s=self._stall_s, on_stall=on_stall)

    async def _take_process(self) -> DecoderProcess:
        while self._idle:
            idle = self._idle.pop()
            idle.retirement.cancel()
            if idle.process.is_alive:
                return idle.process
            self._discard(idle.process, "crash")
        try:
            return await self._start_process()
        except OSError as error:
            raise DecoderRestarting("no audio decoder process can be started", retry_after_s=1.0) from error

    async def _start_process(self) -> DecoderProcess:
        process = await DecoderProcess.start(self._failpoints)
        self._processes.add(process)
        return process

    def _give_back(self, process: DecoderProcess, *, interactive: bool) -> None:
        if self._is_stopping:
            self._leave(interactive=interactive)
            return
        task = asyncio.create_task(self._take_back(process, interactive=interactive))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _take_back(self, process: DecoderProcess, *, interactive: bool) -> None:
        try:
            readiness = await process.wait_ready(self._ready_s)
            if readiness is Readiness.READY:
                self._put_idle(process)
            else:
                why = "stall" if process in self._stalled else "crash" if readiness is Readiness.GONE else "stuck"
                await self._replace(process, why)
        finally:
            self._leave(interactive=interactive)

    async def _replace(self, process: DecoderProcess, why: str) -> None:
        self._stalled.discard(process)
        process.kill()
        self._discard(process, why)
        if len(self._processes) < self._warm:
            with contextlib.suppress(OSError):  # the next source tries again, and says so if it fails
                self._put_idle(await self._start_process())

    def _discard(self, process: DecoderProcess, why: str) -> None:
        self._metrics.decoder_restarts.labels(why).inc()
        self._failpoints = ""
        self._processes.discard(process)
        self._end(process)

    def _put_idle(self, process: DecoderProcess) -> None:
        loop = asyncio.get_running_loop()
        idle = _Idle(process, loop.call_later(self._retire_s, self._retire, process))
        self._idle.append(idle)

    def _retire(self, process: DecoderProcess) -> None:
        if len(self._processes) <= self._warm:
            return  # one of the warm ones; it is looked at again after its next source
        self._idle = [idle for idle in self._idle if idle.process is not process]
        self._processes.discard(process)
        self._end(process)

    def _end(self, process: DecoderProcess) -> None:
        task = asyncio.create_task(process.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
