"""What a caller hears when a call fails, decoded from the google.rpc details that the service sends with each status."""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from asr_service.errors import Violation
from asr_service.pb.asr.v1.transcript_pb2 import StreamError

UNREACHABLE = "UNREACHABLE"
"""The reason of an UNAVAILABLE that no service sent: nothing answers at the address."""

NOT_READY = "NOT_READY"
"""The reason of `wait_ready` running out of time."""

SESSION_OVER = "SESSION_OVER"
"""The reason of saying something in a live session that has ended."""

_DETAILS = "grpc-status-details-bin"


class AsrClientError(Exception):
    """A call failed. `status` is the gRPC status name, `reason` the machine-readable cause ("" when none was given).

    `retry_after_s` is set when the same call may succeed later; `violations` name the fields at fault.
    """

    def __init__(
        self,
        status: str,
        reason: str,
        message: str,
        retry_after_s: float | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.violations = violations


def from_rpc(error: grpc.aio.AioRpcError) -> AsrClientError:
    """The error of a call that ended with a status other than OK."""
    status = error.code().name
    message = error.details() or status
    details = _details(error)
    if details is None:
        return AsrClientError(status, UNREACHABLE if status == "UNAVAILABLE" else "", message)
    reason = ""
    retry_after_s: float | None = None
    violations: tuple[Violation, ...] = ()
    for packed in details.details:
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
            reason = info.reason
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
    return AsrClientError(status, reason, message, retry_after_s, violations)


def from_stream(error: StreamError) -> AsrClientError:
    """The error that came as the last event of a stream."""
    retry_after_s = error.retry_after_ms / 1000 if error.HasField("retry_after_ms") else None
    violations = tuple(Violation(v.field, v.description) for v in error.field_violations)
    return AsrClientError(error.status, error.reason, error.message, retry_after_s, violations)


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata():
        if key == _DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None  # the plain status and message still say what happened
    return None
