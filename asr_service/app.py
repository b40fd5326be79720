"""The composition root: settings in, a running service out. The only module that knows the concrete classes."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import start_http_server

from asr_service.audio.limits import AudioLimits
from asr_service.audio.pool import DecodePool
from asr_service.audio.vad import SileroVad
from asr_service.audio.vad_batch import FrameDetector, VadBatcher
from asr_service.config import Settings, cpu_count
from asr_service.engine.protocol import Engine
from asr_service.engines.select import aligner_of, choose_engine
from asr_service.grpc_api.convert import now_message
from asr_service.grpc_api.server import AsrServer
from asr_service.grpc_api.service import Service
from asr_service.hosts import host_port
from asr_service.live.live_session import LiveParts
from asr_service.live.sessions import LiveSessions
from asr_service.loop_lag import watch_loop_lag
from asr_service.metrics import Metrics
from asr_service.request import WorkIds
from asr_service.scheduler.admission import Admission
from asr_service.transcriber.known_text import TextAligner
from asr_service.transcriber.listener import StretchCaps
from asr_service.transcriber.transcriber import Transcriber

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers."""

    address: str
    engine: Engine
    metrics: Metrics
    metrics_port: int | None
    drain: Callable[[], Awaitable[None]]
    """Stops taking calls and returns when those inside are answered; leaving `serving` does it too."""


MakeEngine = Callable[[Settings, Metrics], Engine]


@asynccontextmanager
async def serving(
    settings: Settings, *, address: str | None = None, make_engine: MakeEngine | None = None
) -> AsyncIterator[Running]:
    """Starts everything, yields when health says SERVING, and on leaving drains and stops everything.

    `address` (HOST:PORT or unix:PATH) replaces the settings' host and port, `make_engine` the settings' choice of engine.
    Raises EngineFailed, VadModelMissing, OSError.
    """
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        metrics_port = _serve_metrics(settings, metrics, stack)
        vad = SileroVad()
        executor = stack.enter_context(ThreadPoolExecutor(cpu_count(), thread_name_prefix="vad"))
        pool = DecodePool(
            _limits(settings), max_workers=settings.effective_decode_workers, metrics=metrics, failpoints=settings.failpoints
        )
        # In a thread: a model may have to be downloaded first, and signals have to be heard meanwhile.
        engine = await asyncio.to_thread(make_engine or choose_engine, settings, metrics)
        live_pool = _live_pool(settings, metrics)
        detector = VadBatcher(FrameDetector(), executor, metrics)
        aligner = aligner_of(engine, settings)
        ids = WorkIds()
        parts = LiveParts(live_pool, detector, engine, metrics, ids, aligner)
        transcriber = Transcriber(pool, vad, engine, metrics, executor, caps=_caps(settings), ids=ids)
        service = Service(
            settings=settings,
            engine=engine,
            transcriber=transcriber,
            admission=Admission(
                max_requests=settings.max_requests,
                max_bytes=settings.max_inline_bytes_total,
                max_wait_s=settings.max_expected_wait,
            ),
            start_time=now_message(),
            live=LiveSessions(parts, metrics, max_detached=settings.max_resumable_sessions),
            ids=ids,
            texts=TextAligner(pool, transcriber, aligner, ids) if aligner is not None else None,
        )
        server = AsrServer(settings, service, metrics)
        drain = partial(server.stop, settings.drain_timeout)
        stack.push_async_callback(drain)
        await server.start(address or host_port(settings.host, settings.grpc_port))
        await pool.start()
        stack.push_async_callback(pool.stop)
        stack.push_async_callback(live_pool.stop)
        await engine.start()
        stack.push_async_callback(engine.stop)
        stack.push_async_callback(drain)
        await stack.enter_async_context(watch_loop_lag(metrics))
        await server.set_serving(True)
        await stack.enter_async_context(_failing_with(engine, server))
        log.info("serving", extra={"address": server.address, "engine": engine.info.name, "reason": engine.info.reason})
        yield Running(server.address, engine, metrics, metrics_port, drain)
        log.info("draining", extra={"seconds": settings.drain_timeout})


@asynccontextmanager
async def _failing_with(engine: Engine, server: AsrServer) -> AsyncIterator[None]:
    """While inside, health follows the engine: when it has failed for good, the server leaves the rotation."""

    async def follow() -> None:
        await engine.wait_failed()
        log.error("the engine has failed; not serving any more", extra={"engine": engine.info.name})
        await server.set_serving(False)

    follower = asyncio.create_task(follow())
    try:
        yield
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


async def serve_forever(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then drains."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with serving(settings):
        await stopped.wait()


def _live_pool(settings: Settings, metrics: Metrics) -> DecodePool:
    """Live containers hold a process for as long as somebody speaks: uploads must not wait for them."""
    return DecodePool(
        _limits(settings),
        max_workers=settings.live_decode_workers,
        warm=0,
        metrics=metrics,
        failpoints=settings.failpoints,
    )


def _caps(settings: Settings) -> StretchCaps:
    return StretchCaps(
        round(settings.segment_soft_seconds * 1000),
        round(settings.segment_hard_seconds * 1000),
        round(settings.segment_overlap_seconds * 1000),
    )


def _limits(settings: Settings) -> AudioLimits:
    return AudioLimits(
        max_bytes=settings.max_upload_bytes,
        max_seconds=settings.max_audio_seconds,
        max_channels=settings.max_channels,
        spool_bytes=settings.max_spool_bytes,
    )


def _serve_metrics(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> int | None:
    if not settings.metrics_enabled:
        return None
    server, thread = start_http_server(settings.metrics_port, addr=settings.host, registry=metrics.registry)
    stack.callback(thread.join, 5.0)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return int(server.server_port)
