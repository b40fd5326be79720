"""grpc.health.v1: what can be called now, under one name for the whole and one for each RPC that is implemented."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

SERVICE = "asr.v1.AsrService"
NAMES = ("", SERVICE, f"{SERVICE}.Transcribe", f"{SERVICE}.TranscribeUpload")
"""Names a client may check or watch."""


class HealthBoard:
    """The health service and its one switch."""

    def __init__(self) -> None:
        self.servicer = health_aio.HealthServicer()

    async def set_serving(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in NAMES:
            await self.servicer.set(name, status)
