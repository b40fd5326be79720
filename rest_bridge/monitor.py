"""Keeps in mind how the service is, so that /health and /ready answer without asking it.

The state is pushed over one open health Watch stream. When that stream ends the service counts as unreachable, and the stream
is opened again after a growing, bounded pause. The description (model, device) is asked for whenever the state changes, and
again in the background when somebody looks at one older than INFO_MAX_AGE_S.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from asr_service.pb.asr.v1 import info_pb2
from rest_bridge.errors import UpstreamError
from rest_bridge.metrics import Metrics
from rest_bridge.upstream import Metadata, Upstream

log = logging.getLogger(__name__)

SERVICE = "asr.v1.AsrService"
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
INFO_MAX_AGE_S = 5.0
DOWN_AFTER_S = 2.0


class UpstreamState(enum.StrEnum):
    SERVING = "serving"
    NOT_SERVING = "not_serving"
    UNREACHABLE = "unreachable"


class Monitor:
    """`async with` it: watches while open."""

    def __init__(self, upstream: Upstream, metadata: Metadata, metrics: Metrics) -> None:
        self.state = UpstreamState.UNREACHABLE
        self.info: info_pb2.GetServerInfoResponse | None = None
        self.is_draining = False
        self._upstream = upstream
        self._metadata = metadata
        self._metrics = metrics
        self._state_since_s = asyncio.get_running_loop().time()
        self._info_asked_s = float("-inf")
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Monitor:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._watching, self._asking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def unready_reason(self) -> str | None:
        """Why no traffic should come here; None when it should."""
        if self.is_draining:
            return "the bridge is shutting down"
        reasons = {
            UpstreamState.SERVING: None,
            UpstreamState.NOT_SERVING: "the speech service is warming up or shutting down",
            UpstreamState.UNREACHABLE: "the speech service cannot be reached",
        }
        return reasons[self.state]

    @property
    def is_down(self) -> bool:
        """Unreachable for so long that waiting for a second attempt is pointless."""
        away_s = asyncio.get_running_loop().time() - self._state_since_s
        return self.state is UpstreamState.UNREACHABLE and away_s > DOWN_AFTER_S

    def refresh_soon(self) -> None:
        """Asks for the description in the background if the one at hand is old."""
        age_s = asyncio.get_running_loop().time() - self._info_asked_s
        if age_s > INFO_MAX_AGE_S and self.state is not UpstreamState.UNREACHABLE:
            self._ask()

    async def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async for answer in self._upstream.health.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
                    self._enter(UpstreamState.SERVING if serving else UpstreamState.NOT_SERVING)
                    pause_s = FIRST_PAUSE_S
                why = "the watch ended"
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
            self._enter(UpstreamState.UNREACHABLE, why)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  spreads reconnects, guards nothing
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _enter(self, state: UpstreamState, why: str = "") -> None:
        if state is self.state:
            return
        log.info("the speech service is %s", state, extra={"why": why} if why else {})
        self.state = state
        self._state_since_s = asyncio.get_running_loop().time()
        self._metrics.upstream_serving.set(state is UpstreamState.SERVING)
        if state is not UpstreamState.UNREACHABLE:
            self._ask()

    def _ask(self) -> None:
        if self._asking is None or self._asking.done():
            self._info_asked_s = asyncio.get_running_loop().time()
            self._asking = asyncio.create_task(self._fetch_info())

    async def _fetch_info(self) -> None:
        try:
            self.info = await self._upstream.server_info(self._metadata)
        except UpstreamError as error:
            log.warning("the speech service does not describe itself: %s", error)
