"""The connection to the speech service: channel, stubs, what is forwarded, and how its failures are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc

from asr_service.pb.asr.v1 import asr_pb2_grpc, info_pb2, transcript_pb2
from rest_bridge.errors import UpstreamError

Metadata = tuple[tuple[str, str], ...]

UNARY_TIMEOUT_S = 10.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # The service takes a ping every 5 s, so that a peer which vanished without closing is noticed within half a minute.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_FORWARDED = ("authorization", "x-api-key", "traceparent", "tracestate")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,8192}")


class Upstream:
    """The service as the bridge sees it."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self.asr: asr_pb2_grpc.AsrServiceAsyncStub = asr_pb2_grpc.AsrServiceStub(self._channel)
        # Its type stubs know the synchronous channel only.
        self.health: Any = health_pb2_grpc.HealthStub(self._channel)  # type: ignore[no-untyped-call,unused-ignore]

    async def close(self) -> None:
        await self._channel.close()

    async def list_models(self, metadata: Metadata) -> list[info_pb2.Model]:
        """The models, the default first. Raises UpstreamError."""
        try:
            answer = await self.asr.ListModels(info_pb2.ListModelsRequest(), metadata=metadata, timeout=UNARY_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise read_failure(error) from None
        return list(answer.models)

    async def server_info(self, metadata: Metadata) -> info_pb2.GetServerInfoResponse:
        """What the service can do and how it is. Raises UpstreamError."""
        try:
            return await self.asr.GetServerInfo(info_pb2.GetServerInfoRequest(), metadata=metadata, timeout=UNARY_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise read_failure(error) from None


def forwarded_metadata(headers: Mapping[str, str], request_id: str) -> Metadata:
    """What of a client's HTTP headers travels on. What metadata cannot carry is left out (a key then counts as missing)."""
    found = [(name, headers[name]) for name in _FORWARDED if _PRINTABLE.fullmatch(headers.get(name, ""))]
    return (*found, ("x-request-id", request_id))


def own_metadata(api_keys: tuple[str, ...]) -> Metadata:
    """For the bridge's own questions."""
    return (("authorization", f"Bearer {api_keys[0]}"),) if api_keys else ()


class FirstStatus:
    """The status with which a call ended, noted in the moment it arrives.

    grpc.aio lets a write that fails because the server has ended the call overwrite the server's status with its own "Internal
    error from Core" (grpc/grpc#36066). Its done callback still sees the true one.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._failure: UpstreamError | None = None
        call.add_done_callback(self._note)

    def failure(self, error: grpc.aio.AioRpcError) -> UpstreamError:
        """What the call failed with, given what grpc.aio says it failed with."""
        failure = self._failure or read_failure(error)
        if failure.status == "INTERNAL" and failure.message == _WRITE_FAILED:
            return UpstreamError("UNAVAILABLE", "the call was lost")
        return failure

    def _note(self, call: Any) -> None:
        async def read() -> UpstreamError | None:
            code = await call.code()
            if code is grpc.StatusCode.OK:
                return None
            return _failure(code, await call.details(), await call.trailing_metadata())

        steps = read()
        try:
            steps.send(None)  # the status is there, so this never waits
        except StopIteration as done:
            self._failure = done.value
        finally:
            steps.close()


_WRITE_FAILED = "Internal error from Core"


def read_failure(error: grpc.aio.AioRpcError) -> UpstreamError:
    """A failed call with its google.rpc details."""
    return _failure(error.code(), error.details(), error.trailing_metadata())


def _failure(code: grpc.StatusCode, message: str | None, trailing_metadata: Any) -> UpstreamError:
    reason, retry_after_s, fields = "", None, ()
    for detail in _details(trailing_metadata):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason = info.reason
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            fields = tuple(violation.field for violation in bad.field_violations)
    return UpstreamError(code.name, message or "", reason=reason, retry_after_s=retry_after_s, fields=fields)


def read_event(error: transcript_pb2.StreamError) -> UpstreamError:
    """The same from a stream's last event."""
    return UpstreamError(
        error.status,
        error.message,
        reason=error.reason,
        retry_after_s=error.retry_after_ms / 1000 if error.HasField("retry_after_ms") else None,
        fields=tuple(violation.field for violation in error.field_violations),
    )


def _details(trailing_metadata: Any) -> list[Any]:
    for key, value in trailing_metadata or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status = status_pb2.Status()
            status.ParseFromString(value)
            return list(status.details)
    return []
