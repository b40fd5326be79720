"""Joins routes, middleware and services to one application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from rest_bridge.config import BridgeSettings
from rest_bridge.health import get_health, get_metrics, get_ready
from rest_bridge.keys import SERVICES
from rest_bridge.metrics import Metrics
from rest_bridge.middleware import add_headers, around
from rest_bridge.models import get_model, get_models
from rest_bridge.monitor import Monitor
from rest_bridge.relay import Services
from rest_bridge.transcriptions import expect_continue, post_transcription
from rest_bridge.upstream import Upstream, own_metadata

# How long the rest of a refused upload is read and thrown away, so that the client comes to read its answer.
_LINGER_S = 5.0


@asynccontextmanager
async def running_bridge(settings: BridgeSettings) -> AsyncIterator[str]:
    """Serves while open; the value is the bridge's URL. On leaving, running requests get DRAIN_TIMEOUT to end."""
    metrics = Metrics()
    upstream = Upstream(settings.target)
    try:
        async with Monitor(upstream, own_metadata(settings.api_keys), metrics) as monitor:
            app = make_app(Services(settings, upstream, monitor, metrics))
            runner = web.AppRunner(
                app,
                access_log=None,
                handler_cancellation=True,
                lingering_time=_LINGER_S,
                shutdown_timeout=settings.drain_timeout,
            )
            await runner.setup()
            try:
                site = web.TCPSite(runner, settings.host, settings.http_port, backlog=1024)
                await site.start()
                host, port = runner.addresses[0][:2]
                yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            finally:
                monitor.is_draining = True
                await runner.cleanup()
    finally:
        await upstream.close()


def make_app(services: Services) -> web.Application:
    app = web.Application(middlewares=[around])
    app[SERVICES] = services
    app.on_response_prepare.append(add_headers)
    app.router.add_post("/v1/audio/transcriptions", post_transcription, expect_handler=expect_continue)
    app.router.add_get("/v1/models", get_models)
    app.router.add_get("/v1/models/{id:.+}", get_model)
    app.router.add_get("/health", get_health)
    app.router.add_get("/ready", get_ready)
    app.router.add_get("/metrics", get_metrics)
    return app
