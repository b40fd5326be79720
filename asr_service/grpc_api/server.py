"""The gRPC server: services, limits, health, reflection, and an end without loss."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from asr_service.config import Settings
from asr_service.grpc_api.health import HealthBoard
from asr_service.grpc_api.interceptors import CallInterceptor
from asr_service.grpc_api.keys import ApiKeys
from asr_service.grpc_api.service import Service
from asr_service.grpc_api.servicer import AsrServicer
from asr_service.metrics import Metrics
from asr_service.pb.asr.v1 import asr_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import add_AsrServiceServicer_to_server

log = logging.getLogger(__name__)

# A message carries the inline audio and a little more. Proxies in front limit bodies lower and answer 413; were our limit the
# lower one, gRPC would say RESOURCE_EXHAUSTED, which reads as "try again later".
_MESSAGE_HEADROOM = 8 * 1024 * 1024

_FLUSH_S = 0.2  # for the last statuses to reach the wire


class AsrServer:
    """One listening server. It accepts calls from `start` on; health says SERVING only after `open`."""

    def __init__(self, settings: Settings, service: Service, metrics: Metrics) -> None:
        self._settings = settings
        self._service = service
        self._interceptor = CallInterceptor(ApiKeys(settings.api_keys), metrics)
        self._server = grpc.aio.server(interceptors=[self._interceptor], options=_options(settings))
        self._health = HealthBoard()
        add_AsrServiceServicer_to_server(AsrServicer(service), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, self._server)
        _add_reflection(self._server)
        self.address = ""

    async def start(self, address: str) -> None:
        """Listens on HOST:PORT (port 0: a free one) or unix:PATH. Raises OSError when that is taken."""
        await self._health.set_serving(False)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        self.address = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        await self._health.set_serving(serving)

    async def stop(self, grace_s: float) -> None:
        """NOT_SERVING, no new calls, running ones get `grace_s` to finish, then the rest is cancelled."""
        self._interceptor.draining = True
        await self._health.set_serving(False)
        self._service.live.go_away(grace_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._interceptor.wait_idle()
        # What is left are watches of the health, which never end by themselves, and calls whose time is up.
        await self._server.stop(_FLUSH_S)


def _options(settings: Settings) -> list[tuple[str, Any]]:
    message_bytes = settings.max_inline_bytes * 4 // 3 + _MESSAGE_HEADROOM
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Proxies and long idle streams ping; the default of one ping in five minutes would end them with "too many pings".
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Two servers on one port would split the calls between them at random.
        ("grpc.so_reuseport", 0),
    ]


def _add_reflection(server: grpc.aio.Server) -> None:
    """Reflection under both of its names: the library has v1alpha, and v1 is the same messages under another name."""
    # The stubs import the messages only; naming the service from its own file loads that into the pool that reflection reads.
    service = asr_pb2.DESCRIPTOR.services_by_name["AsrService"].full_name
    names = (service, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(service_names=names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    versions = ("v1alpha", "v1")
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(f"grpc.reflection.{v}.ServerReflection", methods) for v in versions)
    )
