"""GET /health: the bridge is alive, and what it last heard of the service. GET /ready: whether traffic should come here.

Both answer from memory; neither ever waits for the service.
"""

from __future__ import annotations

from aiohttp import web

from rest_bridge.keys import SERVICES
from rest_bridge.monitor import UpstreamState


async def get_health(request: web.Request) -> web.Response:
    monitor = request.app[SERVICES].monitor
    monitor.refresh_soon()
    info = monitor.info
    is_reachable = monitor.state is not UpstreamState.UNREACHABLE
    model = info.engine.model if info else None
    device = info.device if info else None
    return web.json_response(
        {
            "status": "ok",
            "model_loaded": bool(info and info.engine_ready and is_reachable),
            "model_id": model,
            "model_name": model,
            "device": device,
            "cuda": bool(device and device.startswith("cuda")),
            "mode": "bridge",
            "upstream": monitor.state.value,
        }
    )


async def get_ready(request: web.Request) -> web.Response:
    reason = request.app[SERVICES].monitor.unready_reason
    if reason is None:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not_ready", "reason": reason}, status=503)


async def get_metrics(request: web.Request) -> web.Response:
    metrics = request.app[SERVICES].metrics
    return web.Response(body=metrics.render(), headers={"Content-Type": metrics.content_type})
